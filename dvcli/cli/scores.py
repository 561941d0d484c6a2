"""How figures are shown: a table on a terminal, else TSV or JSON lines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dvcli.cli.columns import broken
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
# What a figure says, in few words; and where what a clip is made from has the most there is.
SAYS = {
    "frame_consistency": "frames alike",
    "frame_consistency_consecutive": "neighbours alike",
    "textual_alignment": "like the prompt",
    "motion_fidelity": "moves as the source",
    "depth_agreement": "deep as the source",
    "depth_agreement_in_rows": "the same beside what each row shares",
    "psnr": "dB to the source",
    "ssim": "to the source",
    "gmsd": "from the source, lower is better",
    "preference": "what people would choose",
}
CEILING = ("motion_fidelity", "depth_agreement", "depth_agreement_in_rows")
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


@dataclass(frozen=True, kw_only=True)
class Mean:
    """The mean of each figure over those of `count` results that have it; `of` is their method."""

    of: str | None
    count: int
    figures: Mapping[str, float]

    @property
    def name(self) -> str:
        """What its line is called."""
        return f"mean of {self.count}" + ("" if self.of is None else f": {self.of}")


def means(rows: Sequence[Row], figures: Sequence[Mapping[str, float]]) -> list[Mean]:
    """One mean for all results, or one for each method or folder of them; none of single ones."""
    groups: dict[str | None, list[Mapping[str, float]]] = {}
    for row, found in zip(rows, figures, strict=True):
        if row.result:
            groups.setdefault(row.group or method_of(row.frames), []).append(found)
    if all(len(results) == 1 for results in groups.values()):
        return []
    return [_mean(of if len(groups) > 1 else None, those) for of, those in groups.items()]


def _mean(of: str | None, results: Sequence[Mapping[str, float]]) -> Mean:
    names = dict.fromkeys(name for found in results for name in found)
    values = {name: [found[name] for found in results if name in found] for name in names}
    figures = {name: sum(those) / len(those) for name, those in values.items()}
    return Mean(of=of, count=len(results), figures=figures)


def show(
    session: Session,
    rows: Sequence[Row],
    measures: Sequence[Measure],
    figures: Sequence[dict[str, float]],
    keys: Sequence[Mapping[str, str]],
) -> None:
    """All rows, and where there are several results their mean, by method."""
    columns = [figure for measure in measures for figure in FIGURES[measure]]
    if session.stdout.isatty() and not (session.json or session.null):
        draw(session, rows, columns, figures)
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
    for mean in means(rows, figures):
        session.result(
            _line(mean.name, columns, mean.figures, None),
            clip=mean.name,
            role="mean",
            of=mean.of,
            prompt=None,
            count=mean.count,
            **mean.figures,
        )


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
        console.print(_table(found_in, rest[:count], prompts, console.width))
        rest, prompts = rest[count:], False
    for line in _under(found_in, columns):
        console.print(Text(line))
    console.print(Text(_legend(columns), style="dim"))


def _fitting(
    columns: Sequence[str], found_in: "Sequence[tuple[Row, dict[str, float]]]", width: int
) -> int:
    """How many columns a line has room for, at least one; those of a metric stay together."""
    room, fit = width - ROOM - EDGES, []
    for number, column in enumerate(columns, 1):
        room -= _wide(column, found_in)
        fit += [number] if room >= 0 else []
    of = [MEASURE[column] for column in columns]
    return max([n for n in fit if of[n - 1 : n] != of[n : n + 1]] or fit or [1])


def _wide(column: str, found_in: "Sequence[tuple[Row, dict[str, float]]]") -> int:
    """How many characters the column takes, with what parts it from the one before."""
    return GAP + max(len(HEADINGS[column]), *(len(cell(found, column)) for _, found in found_in))


def _table(
    found_in: "Sequence[tuple[Row, dict[str, float]]]",
    columns: Sequence[str],
    prompts: bool,
    width: int,
) -> "Table":
    """The rows with those columns; a clip's name gives way to the numbers, down to `ROOM`."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    names = [Path(row.name).name if row.result else row.name for row, _ in found_in]
    table = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    below = means(*zip(*found_in, strict=True))
    longest = max(map(len, [*(mean.name for mean in below), *names]))
    room = max(min(ROOM, longest), width - EDGES - sum(_wide(c, found_in) for c in columns))
    table.add_column("clip", overflow="fold", min_width=min(ROOM, longest))
    for column in columns:
        table.add_column(HEADINGS[column], justify="right", no_wrap=True)
    for name, (row, found) in zip(names, found_in, strict=True):
        text = Text("\n".join(broken(printable(name), room)))
        if row.prompt and prompts:
            text.append(f"\n{flat(row.prompt)}", style="dim")
        table.add_row(text, *(cell(found, column) for column in columns))
    if below:
        table.add_section()
    for mean in below:
        table.add_row(printable(mean.name), *(cell(mean.figures, column) for column in columns))
    return table


def _under(found_in: "list[tuple[Row, dict[str, float]]]", columns: Sequence[str]) -> list[str]:
    """What stands under the table."""
    lines = []
    for row, found in found_in:
        rest = [f"{HEADINGS[c]} {cell(found, c)}" for c in found if c not in columns]
        if row.role == "reconstruction" and rest:
            lines.append(f"{printable(row.name)}: {', '.join(rest)}, against the source")
    if any(row.role == "source" for row, _ in found_in):
        lines.append(_own(columns))
    return lines


def _own(columns: Sequence[str]) -> str:
    """What the row of the source is to the others, by figure."""
    most, beside = (
        [HEADINGS[c] for c in columns if (c in CEILING) == ceiling] for ceiling in (True, False)
    )
    said = [f"the most an edit can have in {listed(most)}"] if most else []
    said += [f"{'in ' if most else ''}{listed(beside)} for comparison"] if beside else []
    return "(source): the clip's own figures; " + ", ".join(said)


def listed(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def _legend(columns: Sequence[str]) -> str:
    """One line: what each column says, and that more of it is better."""
    return "higher is better: " + "; ".join(f"{HEADINGS[c]} {SAYS[c]}" for c in columns)


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
