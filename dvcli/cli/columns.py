"""Columns on a terminal: cells that break where a name or a path has a joint, never in a word."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dvcli.cli.quoting import printable

if TYPE_CHECKING:
    from dvcli.cli.session import Console

PIECE = re.compile(r"[^\s/_,\-]*[\s/_,\-]*")
GAP = 2  # between two columns
NARROW = 14  # cells that a column keeps where there are too many for the line


def drawn(console: "Console") -> bool:
    """Whether results are looked at: on a terminal, and not asked for in another form."""
    return console.stdout.isatty() and not (console.json or console.null)


def broken(text: str, width: int) -> list[str]:
    """The text in lines of at most `width` cells, cut behind `-`, `_`, `/`, `,` and spaces.

    A piece that is wider than a line is cut where it must be.
    """
    from rich.cells import cell_len, chop_cells

    lines, line = [], ""
    for piece in PIECE.findall(text):
        if line and cell_len(line) + cell_len(piece.rstrip()) > width:
            lines.append(line.rstrip())
            line = ""
        line += piece
        if cell_len(line.rstrip()) > width:
            *full, line = chop_cells(line, width)
            lines += full
    return [*lines, line.rstrip()] if line.rstrip() or not lines else lines


def columns(console: "Console", titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Draw the rows under their titles within the terminal; where room is short the widest give.

    Where there is not even room for all of them so, the cells of a row stand below each other.
    """
    from rich.cells import cell_len
    from rich.console import Console as Screen
    from rich.table import Table
    from rich.text import Text

    screen = Screen(file=console.stdout, highlight=False)
    cells = [[printable(cell) for cell in row] for row in rows]
    kept = [place for place in range(len(titles)) if any(row[place] for row in cells)]
    natural = {p: max(map(cell_len, [titles[p], *(row[p] for row in cells)])) for p in kept}
    widths = fitted(natural, screen.width)
    if sum(widths.values()) + GAP * (len(kept) - 1) > screen.width:
        for row in cells:
            for place in (p for p in kept if row[p]):
                title = f"{titles[place]}: " if titles[place] else ""
                screen.print(title + row[place], markup=False, soft_wrap=True)
            screen.print()
        return
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="dim")
    for place in kept:
        table.add_column(titles[place], width=widths[place], no_wrap=True, overflow="fold")
    for row in cells:
        table.add_row(*(Text("\n".join(broken(row[p], widths[p]))) for p in kept))
    screen.print(table)


def fitted(natural: dict[int, int], width: int) -> dict[int, int]:
    """Each column's width: its own where all fit, else the widest are as narrow as they must be."""
    room = width - GAP * (len(natural) - 1)
    found = dict(natural)
    while sum(found.values()) > room and max(found.values()) > NARROW:
        found[max(found, key=lambda place: found[place])] -= 1
    return found
