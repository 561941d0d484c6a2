"""What a report shows, whatever it is written as: reels of clips that share a source."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dvcli.report import sheet
from dvcli.report.facts import measured
from dvcli.report.footage import Footage
from dvcli.report.page import Card, Row, Section, page
from dvcli.report.strip import SIDE, strip

BARE = ("prompt", "style", "run", "file", "clip", "caption")  # said without the name of the fact


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One clip: what it is called, its facts in order, figures, and the commands for it.

    `facts` are all that is known of it, `said` those worth saying. A `role`, such as `source`, has
    what is given rather than made.
    """

    title: str
    footage: Footage
    role: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    said: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    commands: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Reel:
    """Clips made from one source, and what is given with it: source, depth, reconstruction."""

    name: str
    sentence: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    commands: Sequence[str] = ()
    given: Sequence[Shot] = ()
    shots: Sequence[Shot] = ()


def as_page(
    reels: Sequence[Reel],
    *,
    title: str,
    sentence: str,
    fps: float,
    side: int = SIDE,
    source: bool = True,
) -> str:
    """The page of the reels, a section each; without `source`, only what was made."""
    sections = []
    for reel in reels:
        rows = []
        if reel.given and (source or not reel.shots):
            rows.append(Row(title="", cards=[card(shot, side) for shot in reel.given]))
        if reel.shots:
            some = "1 clip" if len(reel.shots) == 1 else f"{len(reel.shots)} clips"
            rows.append(Row(title=some, cards=[card(shot, side) for shot in reel.shots]))
        sections.append(
            Section(
                heading=reel.name if len(reels) > 1 else "",
                sentence=reel.sentence if len(reels) > 1 else "",
                facts=reel.facts,
                commands=reel.commands,
                rows=rows,
            )
        )
    return page(title, sentence, sections, fps=fps)


def card(shot: Shot, side: int = SIDE) -> Card:
    """The clip as a card on a page."""
    return Card(
        title=shot.title,
        strip=strip(shot.footage.frames(side)),
        role=shot.role,
        facts=shot.said,
        axes=shot.facts,
        figures=shot.figures,
        commands=shot.commands,
    )


def as_rows(reels: Sequence[Reel], *, source: bool = True) -> list[sheet.Row]:
    """The rows of a contact sheet, a clip each."""
    rows = []
    for reel in reels:
        for shot in [*(reel.given if source else ()), *reel.shots]:
            words = [label(name, value) for name, value in shot.said.items()]
            words += [f"{name} {measured(name, value)}" for name, value in shot.figures.items()]
            title = shot.title if len(reels) == 1 else f"{reel.name} · {shot.title}"
            rows.append(
                sheet.Row(title=title, remark=" · ".join(words), frames=shot.footage.frames(SIDE))
            )
    return rows


def label(name: str, value: str) -> str:
    """A fact in words: the value alone where it speaks for itself."""
    return value if name in BARE else f"{name} {value}"
