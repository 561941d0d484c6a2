"""Progress of many small stages: one bar that vanishes, or a line now and then; then a line a kind.

`dvid eval` measures every clip by several metrics, and would else say more of its work than of what
came out.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from dvcli.cli.progress import Bars, Reporter, made_line
from dvcli.cli.session import Session
from dvcli.recipes import Agreement, Eval, Likeness, Motion, Preference
from dvcli.runtime import Task

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

METRICS = tuple(kind.stage for kind in (Eval, Motion, Agreement, Likeness, Preference))


class Gathered:
    """A reporter that keeps what stages were made, to tell of them by kind."""

    told_all = False

    def __init__(self, overall: Task) -> None:
        self._overall = overall
        self._made: dict[tuple[str, bool], dict[str, float]] = {}

    def expect(self, stages: int) -> None:
        return

    def at(self, what: str, number: int, of: int) -> None:
        return

    def advance(self, steps: int = 1, **figures: float) -> None:
        self._overall.advance(0)

    @contextmanager
    def task(self, name: str, total: int, done: int = 0) -> Iterator[Task]:
        yield self

    def made(self, stage: str, key: str, seconds: float, *, cached: bool) -> None:
        if cached and stage not in METRICS:
            return  # what a metric reads was there before
        if not any(key in keys for keys in self._made.values()):
            self._made.setdefault((stage, cached), {})[key] = seconds

    def tell(self) -> Iterator[str]:
        """A line for each kind of stage, how many of them there were and how long they took."""
        for (stage, cached), keys in self._made.items():
            said = made_line(stage, sum(keys.values()), cached=cached)
            yield said if len(keys) == 1 else f"{said} ({len(keys)} of them)"


@contextmanager
def gathered(session: Session, name: str, total: int) -> Iterator[Task]:
    """Has the session tell of its stages by kind while inside; what is yielded counts the work."""
    before, runtime = session.teller, session.runtime
    with _overall(before, name, total) as overall:
        mine = Gathered(overall)
        session.teller, session.runtime = mine, replace(runtime, progress=mine)
        try:
            yield overall
        finally:
            session.teller, session.runtime = before, runtime
    for line in mine.tell():
        session.note(line)


@contextmanager
def _overall(reporter: Reporter, name: str, total: int) -> Iterator[Task]:
    if not isinstance(reporter, Bars):
        with reporter.task(name, total) as task:
            yield task
        return
    import sys

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    shown = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *shown, TimeElapsedColumn(), console=Console(file=sys.stderr), transient=True
    ) as bars:
        yield _Bar(bars, bars.add_task(name, total=total))


class _Bar:
    def __init__(self, bars: "Progress", number: "TaskID") -> None:
        self._bars, self._number = bars, number

    def advance(self, steps: int = 1, **figures: float) -> None:
        self._bars.update(self._number, advance=steps)
