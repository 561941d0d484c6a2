"""The clips that `dvid eval` judges, and what each is compared with."""

import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dvcli.cli.provenance import embedded
from dvcli.cli.record import frames_of
from dvcli.cli.session import Session, here
from dvcli.errors import DvidError, InputError, UsageError
from dvcli.recipes import CogVideoX, Depth, Digest, Extract, Invert, Judged, Sample, Tune

if TYPE_CHECKING:
    from dvcli.runs import Made, Run
    from dvcli.store import Artifact

log = logging.getLogger(__name__)
Role = Literal["source", "reconstruction", "sample", "file"]
MOST_FRAMES = 512  # of a choice of frames


@dataclass(frozen=True, kw_only=True)
class Source:
    """What clips are compared with: frames and, where there is an estimator, their depth.

    `invert` says that what the estimator answers is turned, as the source's depth was.
    """

    name: str
    frames: Extract
    depth: Depth | None = None
    estimator: Digest | None = None
    invert: bool = False

    def sampled(self, count: int, size: tuple[int, int]) -> "Source":
        """The same in so many frames of that (width, height)."""
        frames = replace(self.frames, frames=count, size=size)
        depth = None if self.depth is None else replace(self.depth, frames=frames)
        return replace(self, frames=frames, depth=depth)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One clip to be judged: what it is called, its frames, the prompt it should fit.

    `group` is what it is compared as one of, where that is not the method that made it.
    """

    name: str
    frames: Judged
    prompt: str | None
    role: Role = "file"
    source: Source | None = None
    group: str | None = None

    @property
    def result(self) -> bool:
        """Whether it is what somebody made, and not the clip that it was made from."""
        return self.role in ("sample", "file")


def run_rows(session: Session, run: "Run", estimator: Digest | None) -> list[Row]:
    """The run's own clip, what its inversion gives back, and every sample."""
    session.sources.expect(run)
    source = run_source(session, run, estimator)
    tune, invert = run.recipes.get("tune"), run.recipes.get("invert")
    prompt = tune.prompt if isinstance(tune, Tune) else None
    rows = [
        Row(
            name=f"{run.name} (source)",
            frames=source.frames,
            prompt=prompt,
            role="source",
            source=source,
        )
    ]
    if isinstance(invert, Invert):
        rows.append(
            Row(
                name=f"{run.name} (reconstruction)",
                frames=invert,
                prompt=invert.tuned.prompt,
                role="reconstruction",
                source=_own(source, invert.tuned.frames, invert.tuned.depth),
            )
        )
    return rows + [_sample_row(made, source) for made in session.runs.samples(run.name)]


def _sample_row(made: "Made", source: Source) -> Row:
    """A sample against the frames that it was made from, which may not be the run's newest."""
    recipe = made.recipe
    if isinstance(recipe, CogVideoX):
        own = _own(source, recipe.frames, None)
    else:
        own = _own(source, recipe.inverted.tuned.frames, recipe.inverted.tuned.depth)
    name = from_here(made.path)
    return Row(name=name, frames=recipe, prompt=recipe.prompt, role="sample", source=own)


def from_here(path: str) -> str:
    """The path as a command here would print it: relative, where it is in this folder."""
    folder = here()
    if folder is None or not Path(path).is_relative_to(folder):
        return path
    return str(Path(path).relative_to(folder))


def _own(source: Source, frames: Extract, depth: Depth | None) -> Source:
    """The run's source, or the same of the frames and the depth that a clip was made from."""
    known = source.depth
    if known is not None and known.frames != frames:
        known = replace(known, frames=frames)
    fits = depth is not None and (depth.estimator, depth.invert) == (
        source.estimator,
        source.invert,
    )
    return replace(source, frames=frames, depth=depth if fits else known)


def run_source(session: Session, run: "Run", estimator: Digest | None) -> Source:
    """The run's frames and depth; `estimator` in the place of the run's own."""
    frames = frames_of(run)
    depth = run.recipes.get("depth")
    plain = Source(name=run.name, frames=frames)
    if estimator is not None:
        made = Depth(frames=frames, estimator=estimator)
        return replace(plain, depth=made, estimator=estimator)
    if not isinstance(depth, Depth):
        return plain
    if depth.estimator is not None:
        return replace(plain, depth=depth, estimator=depth.estimator, invert=depth.invert)
    return replace(plain, depth=depth, estimator=_models_own(session, run))


def _models_own(session: Session, run: "Run") -> Digest | None:
    """The estimator in the run's base model, for a run whose depth was given."""
    try:
        return None if run.model is None else session.sources.estimator(run.model)
    except DvidError as error:
        log.warning(
            "the depth of the run `%s` was given, and its model has no estimator at hand to"
            " compare with (%s)",
            run.name,
            error.message,
        )
        return None


def clip_source(session: Session, name: str, estimator: Digest | None) -> Source:
    """What `--source` names, a clip or a run."""
    if not is_file(session, name):
        run = session.run(name)
        session.sources.expect(run)
        return run_source(session, run, estimator)
    frames = Extract(clip=session.sources.file(Path(name)))
    depth = None if estimator is None else Depth(frames=frames, estimator=estimator)
    return Source(name=name, frames=frames, depth=depth, estimator=estimator)


def file_row(session: Session, path: Path, prompt: str | None, source: Source | None) -> Row:
    """A video file or a folder of images, all its frames in their own size.

    One that is none is refused here, before any model is fetched to judge it.
    """
    from dvcli.stages import find
    from dvcli.video.probe import probe

    frames = Extract(clip=session.sources.file(path), frames=None, size=None)
    if find(frames, session.store) is None:
        probe(path)
    return Row(
        name=str(path), frames=frames, prompt=prompt or _embedded_prompt(path), source=source
    )


def sampled(session: Session, row: Row) -> Row:
    """A file's row with its source in as many frames as the file has, and of their size.

    Both are read here, before any network is loaded. Raises `InputError` where the source cannot
    be sampled so.
    """
    if row.role != "file" or row.source is None:
        return row
    made = session.realise(row.frames)
    count, size = _shape(made)
    if count > MOST_FRAMES:
        raise InputError(
            f"`{row.name}` has {count} frames and cannot be compared with `{row.source.name}`,"
            f" {MOST_FRAMES} are the most"
        )
    try:
        source = row.source.sampled(count, size)
        session.realise_input(source.frames)
    except DvidError as error:
        raise InputError(
            f"`{row.name}` has {count} frames of {size[0]}×{size[1]} and cannot be compared with"
            f" `{row.source.name}`: {error.message}",
            hint=error.hint,
        ) from error
    return replace(row, source=source)


def _shape(made: "Artifact") -> tuple[int, tuple[int, int]]:
    width, height = made.info["size"]
    return int(made.info["frames"]), (int(width), int(height))


def is_file(session: Session, name: str) -> bool:
    """Whether it means a file or a folder, and not a run: a folder yields to a run of its name."""
    if os.path.isdir(name):  # noqa: PTH112  # no error for any name
        return name not in session.runs.names()
    return os.path.exists(name)  # noqa: PTH110


def _embedded_prompt(path: Path) -> str | None:
    """What the file itself says that it shows."""
    if path.is_dir():
        return None
    try:
        story = embedded(path)
    except InputError as error:
        log.warning("%s; without `--prompt` it fits none", error.message)
        return None
    recipe = None if story is None else story.recipe
    return recipe.prompt if isinstance(recipe, Sample | CogVideoX) else None


def refuse_prompt(prompt: str | None) -> None:
    """Refuse a prompt of blanks, and one for a run."""
    if prompt is not None and not prompt.strip():
        raise UsageError("the prompt is empty", hint="say what the files should show")
