"""A page of clips side by side, one column a method: what a benchmark is looked at with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dvcli.report.footage import Footage
from dvcli.report.page import FPS, Card, Row, Section, page
from dvcli.report.strip import SIDE, Strip, strip
from dvcli.video.digest import check_source


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One method's clip: `media` is any clip, or a file of frames out of the cache."""

    media: Path
    facts: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    commands: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Line:
    """One clip under one prompt by each method, in the order of the columns; None where none is."""

    title: str
    cells: Sequence[Cell | None]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Lines under the same columns. The first `given` columns, such as the source and its depth,
    are what the others can be compared with.
    """

    heading: str
    columns: Sequence[str]
    lines: Sequence[Line]
    sentence: str = ""
    given: int = 1


def side_by_side(
    title: str,
    sentence: str,
    comparisons: Sequence[Comparison],
    *,
    fps: float = FPS,
    side: int = SIDE,
) -> str:
    """The whole page as text. A clip that stands in several lines is in it once.

    `side` is the longest side of a frame in pixels; larger clips are reduced to it. Raises
    `InputError` for a file that is no clip.
    """
    strips: dict[Path, Strip] = {}

    def card(name: str, cell: Cell | None, role: str) -> Card | None:
        if cell is None:
            return None
        if cell.media not in strips:
            strips[cell.media] = strip(
                Footage(path=cell.media, kept=_kept(cell.media)).frames(side)
            )
        return Card(
            title=name,
            strip=strips[cell.media],
            role=role,
            facts=cell.facts,
            figures=cell.figures,
            commands=cell.commands,
        )

    sections = []
    for comparison in comparisons:
        rows = []
        for line in comparison.lines:
            cards = [
                card(name, cell, name if place < comparison.given else "")
                for place, (name, cell) in enumerate(
                    zip(comparison.columns, line.cells, strict=True)
                )
            ]
            rows.append(Row(title=line.title, note=line.note, cards=cards))
        sections.append(
            Section(
                heading=comparison.heading, sentence=comparison.sentence, rows=rows, aligned=True
            )
        )
    return page(title, sentence, sections, fps=fps)


def _kept(path: Path) -> bool:
    """Whether it is a file of frames, or a rendering as the cache keeps it, without a suffix."""
    if path.suffix == ".safetensors":
        return True
    return not path.suffix and not check_source(path)
