"""How figures are shown: a table on a terminal, else TSV or JSON lines."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dvcli.cli.judged import Row
from dvcli.cli.measures import FIGURES, Measure
from dvcli.cli.quoting import printable
from dvcli.cli.session import Session
from dvcli.recipes import method_of

if TYPE_CHECKING:
    from rich.table import Table

HEADINGS = {
    "frame_consistency": "consistency",
    "frame_consistency_consecutive": "consecutive",
    "textual_alignment": "alignment",
    "motion_fidelity": "motion",
    "depth_agreement": "depth",
    "depth_agreement_in_rows": "in rows",
    "psnr": "PSNR",
    "ssim": "SSIM",
    "gmsd": "GMSD",
    "preference": "PickScore",
}
DIGITS = {"ssim": 4, "gmsd": 4}
MEASURE = {figure: measure for measure, figures in FIGURES.items() for figure in figures}
# Characters that a clip's name has at least, and those that a table has beside its cells.
ROOM, GAP, EDGES = 24, len(" │ "), 2
ABSENT = {
    "motion_fidelity": "its source does not move, or has one frame",
    "depth_agreement": "its depth or its source's is constant",
    "frame_consistency": "it has one frame",
    "ssim": "its frames are under 11 pixels",
}


def mean(rows: Sequence[Row], figures: Sequence[dict[str, float]]) -> tuple[int, dict[str, float]]:
    """How many results there are, and the mean of each figure over those results that have it."""
    results = [found for row, found in zip(rows, figures, strict=True) if row.result]
    names = dict.fromkeys(name for found in results for name in found)
    values = {name: [found[name] for found in results if name in found] for name in names}
    return len(results), {name: sum(those) / len(those) for name, those in values.items()}


def show(
    session: Session,
    rows: Sequence[Row],
    measures: Sequence[Measure],
    figures: Sequence[dict[str, float]],
    keys: Sequence[Mapping[str, str]],
) -> None:
    """All rows, and where there are several results their mean."""
    columns = [figure for measure in measures for figure in FIGURES[measure]]
    count, means = mean(rows, figures)
    if session.stdout.isatty() and not (session.json or session.null):
        draw(session, rows, columns, figures, (count, means))
        return
    if not session.json:
        session.result("\t".join(("clip", *columns, "prompt")))
    for row, found, made in zip(rows, figures, keys, strict=True):
        line = _line(row.name, columns, found, row.prompt)
        source = None if row.source is None else row.source.name
        session.result(
            line,
            clip=row.name,
            role=row.role,
            method=method_of(row.frames),
            prompt=row.prompt,
            source=source,
            keys=made,
            **found,
        )
    if count > 1:
        name = f"mean of {count}"
        line = _line(name, columns, means, None)
        session.result(line, clip=name, role="mean", prompt=None, count=count, **means)


def _line(name: str, columns: Sequence[str], found: Mapping[str, float], prompt: str | None) -> str:
    cells = [cell(found, column) for column in columns]
    return "\t".join((printable(name), *cells, flat(prompt or "")))


def cell(found: Mapping[str, float], column: str) -> str:
    """The figure as text, nothing where there is none."""
    value = found.get(column)
    return "" if value is None else f"{value:.{DIGITS.get(column, 2)}f}"


def flat(text: str) -> str:
    """The text on one line."""
    return printable(" ".join(text.split()))


def draw(
    session: Session,
    rows: Sequence[Row],
    columns: Sequence[str],
    figures: Sequence[dict[str, float]],
    means: tuple[int, Mapping[str, float]],
) -> None:
    """The table; what only a reconstruction has stands under it, what nothing has nowhere.

    Where a line of the terminal has no room for all figures, further tables go on with the same
    rows.
    """
    from rich.console import Console
    from rich.text import Text

    found_in = list(zip(rows, figures, strict=True))
    columns = [
        c for c in columns if any(c in f and row.role != "reconstruction" for row, f in found_in)
    ]
    console = Console(file=session.stdout)
    rest, prompts = columns, True
    while rest or prompts:
        count = _fitting(rest, found_in, console.width)
        console.print(_table(found_in, rest[:count], means, prompts))
        rest, prompts = rest[count:], False
    for line in _under(found_in, columns):
        console.print(Text(line))


def _fitting(
    columns: Sequence[str], found_in: "Sequence[tuple[Row, dict[str, float]]]", width: int
) -> int:
    """How many columns a line has room for, at least one; those of a metric stay together."""
    room, fit = width - ROOM - EDGES, []
    for number, column in enumerate(columns, 1):
        room -= GAP + max(
            len(HEADINGS[column]), *(len(cell(found, column)) for _, found in found_in)
        )
        fit += [number] if room >= 0 else []
    of = [MEASURE[column] for column in columns]
    return max([n for n in fit if of[n - 1 : n] != of[n : n + 1]] or fit or [1])


def _table(
    found_in: "Sequence[tuple[Row, dict[str, float]]]",
    columns: Sequence[str],
    means: tuple[int, Mapping[str, float]],
    prompts: bool,
) -> "Table":
    """The rows with those columns; a clip's name gives way to the numbers, down to `ROOM`."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    names = [Path(row.name).name if row.result else row.name for row, _ in found_in]
    table = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    longest = max(map(len, [f"mean of {means[0]}", *names]))
    table.add_column("clip", overflow="fold", min_width=min(ROOM, longest))
    for column in columns:
        table.add_column(HEADINGS[column], justify="right", no_wrap=True)
    for name, (row, found) in zip(names, found_in, strict=True):
        text = Text(printable(name))
        if row.prompt and prompts:
            text.append(f"\n{flat(row.prompt)}", style="dim")
        table.add_row(text, *(cell(found, column) for column in columns))
    count, values = means
    if count > 1:
        table.add_section()
        table.add_row(f"mean of {count}", *(cell(values, column) for column in columns))
    return table


def _under(found_in: "list[tuple[Row, dict[str, float]]]", columns: Sequence[str]) -> list[str]:
    """What stands under the table."""
    lines = []
    for row, found in found_in:
        rest = [f"{HEADINGS[c]} {cell(found, c)}" for c in found if c not in columns]
        if row.role == "reconstruction" and rest:
            lines.append(f"{printable(row.name)}: {', '.join(rest)}, against the source")
    if any(row.role == "source" for row, _ in found_in):
        lines.append("(source): the clip's own figures, the ceiling of its edits")
    return lines


def say_absent(
    session: Session,
    rows: Sequence[Row],
    figures: Sequence[dict[str, float]],
    measures: Sequence[Measure],
    keys: Sequence[Mapping[str, str]],
) -> None:
    """Why a figure that was measured is not there."""
    for row, found, made in zip(rows, figures, keys, strict=True):
        for measure in measures:
            for figure in FIGURES[measure]:
                if measure in made and figure not in found and figure in ABSENT:
                    words = figure.replace("_", " ")
                    session.note(f"`{row.name}` has no {words}: {ABSENT[figure]}")
