"""From rows to the table: each method's means with intervals, and its difference from ours."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dvcli.bench.methods import REFERENCE, Method
from dvcli.bench.statistics import Estimate, difference, estimate
from dvcli.bench.trial import Row

# In the order of the table: the figure, its heading, whether more is better.
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
    every = [row for row in rows if edits is None or row.edit in edits]
    figures = {method.name: by_clip(every, method.name) for method in methods}
    ours = figures.get(REFERENCE, {})
    found = []
    for method in methods:
        cells = {}
        for name, _ in COLUMNS:
            value = estimate(figures[method.name].get(name, {}))
            if value is None:
                continue
            ahead = difference(ours.get(name, {}), figures[method.name][name])
            cells[name] = Cell(value=value, ahead=None if method.name == REFERENCE else ahead)
        found.append(Line(method=method, cells=cells))
    return found


def by_clip(rows: Iterable[Row], method: str) -> dict[str, dict[str, float]]:
    """figure → clip → the mean over the clip's edits."""
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row.method == method:
            for name, value in row.figures.items():
                values[name][row.case].append(value)
    return {
        name: {case: sum(some) / len(some) for case, some in cases.items()}
        for name, cases in values.items()
    }


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
        values.append(f"| {name} | " + " | ".join(map(_value, cells)) + " |")
        if line.method.name != REFERENCE:
            ahead.append(f"| {name} | " + " | ".join(map(_ahead, cells)) + " |")
    return "\n".join([*values, "", f"How far `{REFERENCE}` is ahead:", "", *ahead, ""])


def _value(cell: Cell | None) -> str:
    return (
        ""
        if cell is None
        else f"{cell.value.mean:.1f} [{cell.value.low:.1f}, {cell.value.high:.1f}]"
    )


def _ahead(cell: Cell | None) -> str:
    if cell is None or cell.ahead is None:
        return ""
    text = f"{cell.ahead.mean:+.1f} [{cell.ahead.low:+.1f}, {cell.ahead.high:+.1f}]"
    return f"**{text}**" if cell.ahead.clear_of_zero else text
