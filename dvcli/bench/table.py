"""From rows to the table: each method's means with intervals, and its difference from ours."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from dvcli.bench.methods import REFERENCE, Method
from dvcli.bench.statistics import Estimate, Interval, difference, estimate, share
from dvcli.bench.trial import Row

# In the order of the table: the figure and its heading; more is better in all of them.
COLUMNS: tuple[tuple[str, str], ...] = (
    ("followed", "edit followed"),
    ("followed_throughout", "in every frame"),
    ("textual_alignment", "alignment"),
    ("motion_fidelity", "motion"),
    ("depth_agreement", "depth"),
    ("depth_agreement_in_rows", "depth in rows"),
    ("frame_consistency", "consistency"),
    ("frame_consistency_consecutive", "consecutive"),
)
SHARES = {"followed", "followed_throughout"}  # of frames or clips, in percent

# Of one figure by one method: clip and edit → value.
Values: TypeAlias = dict[tuple[str, str], float]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One method's figure, and how far ours is ahead of it over the same clips."""

    value: Estimate
    ahead: Estimate | None


@dataclass(frozen=True, kw_only=True)
class Line:
    """One method of the table; a figure that none of its clips has is left out."""

    method: Method
    cells: dict[str, Cell]


def lines(
    rows: Iterable[Row], methods: Sequence[Method], edits: Sequence[str] | None = None
) -> list[Line]:
    """The table over all edits, or over these kinds of edit alone."""
    values: dict[tuple[str, str], Values] = defaultdict(dict)
    for row in rows:
        if edits is None or row.edit in edits:
            for name, figure in row.figures.items():
                values[row.method, name][row.case, row.edit] = figure
    found = []
    for method in methods:
        cells = {}
        for name, _ in COLUMNS:
            mine = values[method.name, name]
            value = (share if name in SHARES else estimate)(by_clip(mine))
            if value is not None:
                ours = values[REFERENCE, name]
                ahead = None if method.name == REFERENCE else _lead(ours, mine)
                cells[name] = Cell(value=value, ahead=ahead)
        found.append(Line(method=method, cells=cells))
    return found


def _lead(ours: Values, theirs: Values) -> Estimate | None:
    """How far ours is ahead, over the clips and edits that have both."""
    both = ours.keys() & theirs.keys()
    return difference(
        by_clip({name: ours[name] for name in both}),
        by_clip({name: theirs[name] for name in both}),
    )


def by_clip(values: Mapping[tuple[str, str], float]) -> dict[str, float]:
    """The mean over each clip's edits."""
    found: dict[str, list[float]] = defaultdict(list)
    for (case, _), value in sorted(values.items()):
        found[case].append(value)
    return {case: sum(some) / len(some) for case, some in found.items()}


def markdown(table: Sequence[Line]) -> str:
    """The table and the differences as two Markdown tables."""
    shown = [(name, title) for name, title in COLUMNS if any(name in line.cells for line in table)]
    head = "| method | " + " | ".join(title for _, title in shown) + " |"
    rule = "|---" * (len(shown) + 1) + "|"
    values = [head, rule]
    ahead = [head, rule]
    for line in table:
        cells = [line.cells.get(name) for name, _ in shown]
        name = f"{line.method.name}: {line.method.says}"
        values.append(f"| {name} | " + " | ".join(map(value, cells)) + " |")
        if line.method.name != REFERENCE:
            ahead.append(f"| {name} | " + " | ".join(map(_ahead, cells)) + " |")
    return "\n".join([*values, "", f"How far `{REFERENCE}` is ahead:", "", *ahead, ""])


def value(cell: Cell | None) -> str:
    """The mean with its interval; empty where there is none."""
    return "" if cell is None else f"{cell.value.mean:.1f}{_between(cell.value.interval, '.1f')}"


def _ahead(cell: Cell | None) -> str:
    if cell is None or cell.ahead is None:
        return ""
    text = f"{cell.ahead.mean:+.1f}{_between(cell.ahead.interval, '+.1f')}"
    return f"**{text}**" if cell.ahead.clear_of_zero else text


def _between(interval: Interval | None, form: str) -> str:
    return "" if interval is None else f" [{interval[0]:{form}}, {interval[1]:{form}}]"
