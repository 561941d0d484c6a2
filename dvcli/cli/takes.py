"""One clip of a report: where its frames are, what is said of it, and what would measure it."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dvcli.cli.again import alone
from dvcli.cli.commands import Names, commands
from dvcli.cli.provenance import Story, told
from dvcli.cli.session import Session
from dvcli.errors import DvidError, InputError, MissingError
from dvcli.recipes import CogVideoX, Depth, Extract, Invert, Judged, Recipe, Render, Sample

if TYPE_CHECKING:
    from dvcli.report.footage import Footage
    from dvcli.report.reels import Shot
    from dvcli.runs import Made

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Take:
    """A clip of the report. `sources` are the recipes whose frames it is, the better one first."""

    shot: "Shot"
    recipe: Recipe | None = None
    sources: Sequence[Judged] = ()
    prompt: str | None = None


def given(
    session: Session,
    frames: Extract,
    depth: Depth | None,
    inverted: Invert | None,
    caption: str,
    *,
    build: bool = True,
) -> list[Take]:
    """Source, depth and reconstruction, as far as they are at hand; only frames are taken anew."""
    from dvcli.report.footage import Footage
    from dvcli.report.reels import Shot
    from dvcli.stages import find

    found = []
    artifact = find(frames, session.store)
    if artifact is None and build and not session.dry_run:
        try:
            artifact = session.realise(frames)
        except MissingError as gone:
            log.warning("%s; the report is without the source", gone.message)
    if artifact is not None:
        shot = Shot(
            title="source",
            role="source",
            footage=Footage(path=artifact.path("frames"), kept=True),
        )
        found.append(Take(shot=shot, recipe=frames, sources=(frames,), prompt=caption or None))
    if depth is not None and find(depth, session.store) is not None and not session.dry_run:
        grey = session.realise(Render(source=depth, suffix=".webp")).path("media.webp")
        shot = Shot(
            title="depth",
            role="depth",
            footage=Footage(path=grey, kept=True),
            said={"near": "is white"},
        )
        found.append(Take(shot=shot, recipe=depth))
    artifact = None if inverted is None else find(inverted, session.store)
    if inverted is not None and artifact is not None:
        shot = Shot(
            title="reconstruction",
            role="reconstruction",
            footage=Footage(path=artifact.path("reconstruction"), kept=True),
            figures={"PSNR": float(artifact.info["psnr"])},
        )
        found.append(Take(shot=shot, recipe=inverted, sources=(inverted,), prompt=caption or None))
    return found


def from_run(session: Session, made: "Made", names: Names) -> Take | None:
    """A run's clip out of the cache, else the file it was written to."""
    from dvcli.report.footage import Footage
    from dvcli.stages import find

    artifact = find(made.recipe, session.store)
    path = Path(made.path)
    sources: tuple[Judged, ...] = (made.recipe,)
    if artifact is not None:
        footage = Footage(path=artifact.path("frames"), kept=True)
    elif path.is_file() and _is_still(path, made.recipe):
        footage = Footage(path=path)
        sources = (_whole(session, path),)
    else:
        log.warning(
            "`%s` is gone from the cache and from its place, so it is left out; "
            "`dvid sample` with the same words makes it again",
            made.path,
        )
        return None
    return _sampled(made.recipe, footage, sources, lines(made.recipe, names))


def _is_still(path: Path, recipe: Sample | CogVideoX) -> bool:
    """Whether the file is what was written there, as far as it says."""
    try:
        story = story_of(path)
    except InputError:
        return False
    return story is None or story.recipe == recipe


def from_file(session: Session, path: Path, story: Story) -> Take:
    from dvcli.report.footage import Footage

    assert isinstance(story.recipe, Sample | CogVideoX)
    names = Names(
        model=story.model or Names.model,
        estimator=None if story.own_depth else "ESTIMATOR",
        run=alone(story.recipe),
    )
    sources = (story.recipe, _whole(session, path))
    return _sampled(
        story.recipe, Footage(path=path), sources, lines(story.recipe, names), file=path.name
    )


def _sampled(
    recipe: Sample | CogVideoX,
    footage: "Footage",
    sources: Sequence[Judged],
    lines: Sequence[str],
    *,
    file: str | None = None,
) -> Take:
    from dvcli.report.facts import NO_STYLE, changed, facts
    from dvcli.report.reels import Shot

    known = facts(recipe) | ({} if file is None else {"file": file})
    said = {name: value for name, value in changed(recipe).items() if value != NO_STYLE}
    title = said.pop("prompt")
    shot = Shot(title=title, footage=footage, facts=known, said=said, commands=lines)
    return Take(shot=shot, recipe=recipe, sources=sources, prompt=recipe.prompt)


def from_anybody(session: Session, path: Path) -> Take:
    return shown_as(session, path, title=path.stem or path.name)


def shown_as(session: Session, path: Path, *, title: str, role: str = "") -> Take:
    """Anybody's clip, of which only its name is known."""
    from dvcli.report.footage import Footage
    from dvcli.report.reels import Shot

    facts = {} if role else {"file": path.name}
    shot = Shot(title=title, role=role, footage=Footage(path=path), facts=facts)
    return Take(shot=shot, sources=(_whole(session, path),))


def _whole(session: Session, path: Path) -> Extract:
    return Extract(clip=session.sources.file(path), frames=None, size=None)


def story_of(path: Path) -> Story | None:
    """What the file says of itself, where that can be read; `InputError` for what is no clip."""
    from dvcli.video.metadata import read_metadata

    text = None if path.is_dir() else read_metadata(path)
    try:
        return None if text is None else told(text, path)
    except InputError as error:
        log.warning("%s; it is shown as a clip of others", error.message)
        return None


def lines(recipe: Recipe, names: Names) -> list[str]:
    try:
        return commands(recipe, names)
    except DvidError:  # no command makes it, which a page need not say
        return []
