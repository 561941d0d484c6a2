"""`dvid extract` and `dvid depth`: the frames of a clip, and how near everything in them is."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dvcli.cli import options as o
from dvcli.cli.groups import FULL_SIZE, ClipPath, Delivery, Framing
from dvcli.cli.output import check, deliver
from dvcli.cli.record import begin, frames_of, remember
from dvcli.cli.session import Session, verb
from dvcli.errors import UsageError
from dvcli.recipes import Depth, Extract

if TYPE_CHECKING:
    from dvcli.runs import Run


@verb
def extract(
    session: Session, framing: Framing, to: Delivery, clip: ClipPath, run: o.NewRun = None
) -> None:
    """Take evenly spaced frames out of a clip.

    Prints the run's name, with -o the file's path.

    Example: dvid extract clip.mp4 --frames 8 -o frames.png
    """
    recipe = framing.recipe(session.sources.file(clip), FULL_SIZE)
    _finish(session, recipe, begin(session, clip, run, None), to)


@verb
def depth(
    session: Session,
    framing: Framing,
    to: Delivery,
    what: Annotated[
        str | None,
        typer.Argument(metavar="RUN|CLIP", help="A run or a clip.", show_default="the last run"),
    ] = None,
    given: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="PATH", help="Your own depth video or folder, near = bright."
        ),
    ] = None,
    estimator: Annotated[
        str | None,
        typer.Option(metavar="ID|PATH", help="A depth estimator.", show_default="the model's own"),
    ] = None,
    invert_depth: Annotated[
        bool, typer.Option("--invert-depth", help="The depth given has far = bright.")
    ] = False,
    model: o.Model = "sd2-depth",
) -> None:
    """Estimate or read how near everything is.

    Prints the run's name, with -o the file's path.

    Example: dvid depth clip.mp4 -o depth.mp4
    """
    from dvcli.cli.sources import native_size

    reference = model
    if what is not None and is_clip(session, what):
        clip = Path(what)
        found = session.sources.model(model) if given is None and estimator is None else None
        size = FULL_SIZE if found is None else native_size(found)
        frames = framing.recipe(session.sources.file(clip), size)
        run = begin(session, clip, None, None if found is None else model)
    else:
        run = session.run(what)
        session.sources.expect(run)
        Framing.refuse_for(session, run)
        frames = frames_of(run)
        if run.model is not None and "model" not in session.given:
            reference = run.model
    recipe = depth_recipe(
        session, frames, given=given, estimator=estimator, invert=invert_depth, model=reference
    )
    _finish(session, recipe, run, to)


def is_clip(session: Session, what: str) -> bool:
    """Whether the argument means a file and not a run; a folder yields to a run of its name."""
    path = Path(what)
    return path.is_file() or (path.is_dir() and what not in session.runs.names())


def depth_recipe(
    session: Session,
    frames: Extract,
    *,
    given: Path | None,
    estimator: str | None,
    invert: bool,
    model: str,
) -> Depth:
    """Depth from the user's own video, another estimator, or the model's own."""
    if given is not None:
        if estimator is not None:
            raise UsageError("`--from` and `--estimator` are two sources of depth, take one")
        return Depth(frames=frames, given=session.sources.file(given), invert=invert)
    digest = session.sources.estimator(model if estimator is None else estimator)
    return Depth(frames=frames, estimator=digest, invert=invert)


def _finish(session: Session, recipe: Extract | Depth, run: "Run", to: Delivery) -> None:
    written = to.output is not None or "format" in session.given
    if written:
        check(to, session=session, sources=[recipe])
    else:
        session.keeps(recipe.stage)
    if session.dry_run:
        session.show_plan(recipe)
        return
    key = session.realise(recipe).key
    if not session.no_cache:
        run = remember(session, recipe, run, key=key)
    if not written:
        session.result(run.name, run=run.name, key=key)
        return
    path, key = deliver(session, recipe, to, run=run, words=recipe.stage)
    session.result(str(path), path=str(path), run=run.name, key=key)
