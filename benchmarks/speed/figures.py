"""A figure, its spread and its bar; taking turns; the table."""

import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

MARKS = {True: "pass", False: "FAIL", None: ""}


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One line of the table. `low` and `high` are the quartiles, `bar` is the most it may be."""

    part: str
    name: str
    value: float
    unit: str
    low: float | None = None
    high: float | None = None
    bar: float | None = None
    note: str = ""

    @property
    def passed(self) -> bool | None:
        """Whether the bar is kept; None where there is none."""
        return None if self.bar is None else self.value <= self.bar

    def told(self) -> dict[str, object]:
        """The figure for JSON."""
        return {**asdict(self), "passed": self.passed}


def of(
    part: str,
    name: str,
    values: Sequence[float],
    unit: str,
    *,
    bar: float | None = None,
    note: str = "",
) -> Figure:
    """The median of the values with their quartiles."""
    low, middle, high = quartiles(values)
    return Figure(
        part=part, name=name, value=middle, unit=unit, low=low, high=high, bar=bar, note=note
    )


def ratio(
    part: str,
    name: str,
    over: Sequence[float],
    under: Sequence[float],
    *,
    bar: float | None = None,
    note: str = "",
) -> Figure:
    """The median over the turns of one arm over the other."""
    values = [a / b for a, b in zip(over, under, strict=True)]
    return of(part, name, values, "×", bar=bar, note=note)


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """The quartiles and the median; of one value, that value."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def turns(
    arms: Mapping[str, Callable[[], object]],
    repeat: int,
    clock: Callable[[], float] = time.perf_counter,
    *,
    uncounted: int = 1,
) -> dict[str, list[float]]:
    """Seconds of each arm in each of `repeat` rounds, after so many that are not counted."""
    taken: dict[str, list[float]] = {name: [] for name in arms}
    for done in range(uncounted + repeat):
        for name, work in arms.items():
            begun = clock()
            work()
            if done >= uncounted:
                taken[name].append(clock() - begun)
    return taken


def table(figures: Iterable[Figure]) -> str:
    """The figures in columns, each part under its name."""
    rows = [("figure", "median", "quartiles", "bar", "", "")]
    part = None
    for figure in figures:
        if figure.part != part:
            part = figure.part
            rows.append((f"-- {part}", "", "", "", "", ""))
        spread = ""
        if figure.low is not None and figure.high is not None and figure.low != figure.high:
            spread = f"{short(figure.low)} … {short(figure.high)}"
        rows.append(
            (
                figure.name,
                f"{short(figure.value)} {figure.unit}",
                spread,
                "" if figure.bar is None else f"≤ {short(figure.bar)} {figure.unit}",
                MARKS[figure.passed],
                figure.note,
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(6)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def short(value: float) -> str:
    """Three significant digits, without an exponent."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f}"
