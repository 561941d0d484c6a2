"""Progress on stderr: bars on a terminal, one plain line now and then elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

from dvcli.recipes import Render
from dvcli.runtime import Progress, Task

EVERY_SECONDS = 10.0
EVERY_SHARE = 0.1
WIDE = 100  # columns from which on the time that has passed is shown, too
BAR = 12  # columns of the bar at least, with the gaps


class Reporter(Progress, Protocol):
    """A progress that counts the stages of a command."""

    @property
    def told_all(self) -> bool:
        """Whether every stage that was expected has run."""

    def expect(self, stages: int) -> None:
        """So many stages will run from here on."""

    def at(self, what: str, number: int, of: int) -> None:
        """From here on the work is on that one of several, counted from 1: a job, a result."""


class Count:
    """Which of the stages that a command runs is at work."""

    def __init__(self) -> None:
        self._total = self._done = 0
        self._at = ""
        self._told: set[str] = set()

    @property
    def told_all(self) -> bool:
        return self._done >= self._total

    def expect(self, stages: int) -> None:
        self._total, self._done = stages, 0
        self._at = ""

    def at(self, what: str, number: int, of: int) -> None:
        self._at = f"{what} {number} of {of}" if of > 1 else ""

    def news(self, stage: str, key: str, *, cached: bool) -> bool:
        """Count a stage that was built, and say whether it is worth a line, which it is once.

        Writing a file out is quick: it counts for nothing, and is not told of where it saved that.
        """
        written = stage == Render.stage
        self._done += not cached and not written
        fresh = key not in self._told and not (cached and written)
        self._told.add(key)
        return fresh

    @property
    def now(self) -> str:
        """`result 2 of 3`, else `stage 2/3`, while the second is at work; of one thing nothing."""
        if self._at:
            return self._at
        return "" if self._total < 2 or self.told_all else f"stage {self._done + 1}/{self._total}"


def reporter(*, quiet: bool, stream: TextIO | None = None) -> Reporter:
    """Bars when stderr is a terminal that can draw them, else plain lines; silent when quiet."""
    import os

    stream = sys.stderr if stream is None else stream
    if quiet:
        return Quiet()
    if stream.isatty() and os.environ.get("TERM") != "dumb":
        return Bars(stream)
    return Lines(stream)


class Quiet(Count):
    """Says nothing."""

    def advance(self, steps: int = 1, **figures: float) -> None:
        return

    @contextmanager
    def task(self, name: str, total: int, done: int = 0) -> Iterator[Task]:
        yield self

    def made(self, stage: str, key: str, seconds: float, *, cached: bool) -> None:
        return


class Lines(Count):
    """One line at the start, then one every 10 s or 10 % of a task, at most one a second."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream

    def say(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()

    def made(self, stage: str, key: str, seconds: float, *, cached: bool) -> None:
        if self.news(stage, key, cached=cached):
            self.say(made_line(stage, seconds, cached=cached))

    @contextmanager
    def task(self, name: str, total: int, done: int = 0) -> Iterator[Task]:
        if done:
            self.say(resumed_line(name, done))
        yield _Line(self, name, total, done)


class _Line:
    def __init__(self, lines: Lines, name: str, total: int, done: int) -> None:
        self._lines, self._name, self._total, self._done = lines, name, total, done
        self._begun = self._last = time.monotonic()
        self._first = self._last_done = done
        self._stage = [lines.now] if lines.now else []
        lines.say(", ".join([f"{name} {done}/{total}", *self._stage]))

    def advance(self, steps: int = 1, **figures: float) -> None:
        self._done += steps
        now = time.monotonic()
        share = (self._done - self._last_done) / max(self._total, 1)
        over = self._done >= self._total
        waited = now - self._last
        due = waited >= EVERY_SECONDS or (share >= EVERY_SHARE and waited >= 1)
        if not (over or due):
            return
        self._last, self._last_done = now, self._done
        rate = (self._done - self._first) / max(now - self._begun, 1e-9)
        parts = [f"{self._name} {self._done}/{self._total}", *self._stage]
        if rate:
            parts.append(f"{rate:.2f} it/s")
        parts += [f"{name} {value:.4g}" for name, value in figures.items()]
        parts.append(memory_used())
        if rate and not over:
            parts.append(f"{duration((self._total - self._done) / rate)} left")
        self._lines.say(", ".join(parts))


class Bars(Count):
    """Rich bars that vanish into one summary line each."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console

        super().__init__()
        self._console = Console(file=stream, highlight=False)

    def made(self, stage: str, key: str, seconds: float, *, cached: bool) -> None:
        if self.news(stage, key, cached=cached):
            self._console.print(made_line(stage, seconds, cached=cached), style="dim")

    @contextmanager
    def task(self, name: str, total: int, done: int = 0) -> Iterator[Task]:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            ProgressColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as RichProgress
        from rich.table import Column

        if done:
            self._console.print(resumed_line(name, done), style="dim")
        now = self.now.removeprefix("stage ")
        words = f"{f'{name} {now}'.rstrip():<11}"
        width = self._console.width
        whole = Column(no_wrap=True)
        columns: list[ProgressColumn] = [
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(table_column=whole),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(table_column=whole),
        ]
        if width >= WIDE:
            columns.insert(4, TimeElapsedColumn(table_column=whole))
        room = width - len(words) - len(f" {total}/{total} 0:00:00 ") - BAR
        room -= len("0:00:00 ") * (width >= WIDE)
        bars = RichProgress(*columns, console=self._console, expand=True)
        with bars:
            number = bars.add_task(words, total=total, completed=done, figures="")
            yield _Bar(bars, number, room)


class _Bar:
    def __init__(self, bars: "object", number: int, room: int) -> None:
        self._bars, self._number, self._room = bars, number, room
        self._begun, self._steps = time.monotonic(), 0

    def advance(self, steps: int = 1, **figures: float) -> None:
        self._steps += steps
        rate = self._steps / max(time.monotonic() - self._begun, 1e-9)
        shown = [f"{rate:.2f} it/s", *(f"{name} {value:.4g}" for name, value in figures.items())]
        shown.append(memory_used())
        while len(" ".join(shown)) > self._room and shown:
            shown.pop()
        self._bars.update(  # type: ignore[attr-defined]
            self._number, advance=steps, figures=" ".join(shown)
        )


def memory_used() -> str:
    """The memory that the work has taken: on the card where there is one, else of the process."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB"
    import psutil

    return f"{psutil.Process().memory_info().rss / 2**30:.1f} GiB"


def made_line(stage: str, seconds: float, *, cached: bool) -> str:
    """What is said of a stage once its artifact is at hand."""
    took = duration(seconds)
    return f"{stage}: cached, {took} saved" if cached else f"{stage}: done in {took}"


def resumed_line(stage: str, done: int) -> str:
    """What is said of work that begins where a checkpoint was kept."""
    return f"{stage}: going on from step {done}"


def duration(seconds: float) -> str:
    """A length of time as a person says it: `0.4 s`, `35 s`, `2 min 10 s`, `3 h 5 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
