"""`dvid extract` and `dvid depth`: the frames of a clip, and how near everything in them is."""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dvcli.cli import options as o
from dvcli.cli.groups import FULL_SIZE, ClipPath, Delivery, Framing
from dvcli.cli.output import check, deliver
from dvcli.cli.planning import Part, show_plan
from dvcli.cli.record import begin, frames_of, going_on, remember, remember_if_possible
from dvcli.cli.session import Session, verb
from dvcli.errors import UsageError
from dvcli.recipes import Depth, Digest, Extract, Tune

if TYPE_CHECKING:
    from dvcli.runs import Run


@verb
def extract(
    session: Session,
    framing: Framing,
    to: Delivery,
    clip: ClipPath,
    run: o.NewRun = None,
    model: o.Model = o.MODEL,
) -> None:
    """Take evenly spaced frames out of a clip.

    Prints the run's name, with -o the path of one file of all frames: a video, or as .png one
    sheet. A tuned run keeps the frames it was tuned on.

    Example: dvid extract clip.mp4 --frames 8 -o frames.png
    """
    from dvcli.cli.sources import native_size

    digest = session.sources.file(clip)
    place = begin(session, clip, run, None)
    recipe = tuned_frames(session, place, digest)
    if recipe is None:
        # The default's size is known, so that nobody fetches gigabytes for a few frames.
        asked = framing.size is not None or model == o.MODEL
        size = FULL_SIZE if asked else native_size(session.sources.model(model))
        recipe = framing.recipe(digest, size)
    _finish(session, recipe, place, to)


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
    model: o.Model = o.MODEL,
) -> None:
    """Estimate or read how near everything is.

    Prints the run's name, with -o the file's path.

    Example: dvid depth clip.mp4 -o depth.mp4
    """
    from dvcli.cli.sources import native_size

    reference = model
    if what is not None and is_clip(session, what):
        digest = session.sources.file(Path(what))
        run = begin(session, Path(what), None, None)
        frames = tuned_frames(session, run, digest)
    else:
        run, digest = session.run(what), None
        Framing.refuse_for(session, run)
        frames = frames_of(run)
    if frames is not None:
        session.sources.expect(run)
        if run.model is not None and "model" not in session.given:
            reference = run.model
    else:
        assert digest is not None
        found = session.sources.model(model) if given is None and estimator is None else None
        frames = framing.recipe(digest, FULL_SIZE if found is None else native_size(found))
        run = run if found is None else going_on(run, model)
    tuned = run.recipes.get("tune")
    asked = session.given & {"given", "estimator", "invert_depth", "model"}
    recipe = tuned.depth if isinstance(tuned, Tune) and tuned.frames == frames else None
    if recipe is None or asked:
        recipe = depth_recipe(
            session, frames, given=given, estimator=estimator, invert=invert_depth, model=reference
        )
    _finish(session, recipe, run, to)


def tuned_frames(session: Session, run: "Run", clip: Digest) -> Extract | None:
    """The frames that the run was tuned on, where none were asked for; None if it was not."""
    tuned = run.recipes.get("tune")
    asked = session.given & {field.name for field in fields(Framing)}
    return (
        tuned.frames
        if isinstance(tuned, Tune) and tuned.frames.clip == clip and not asked
        else None
    )


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
    stays = _stays_tuned(session, recipe, run, written=written)
    if session.dry_run:
        show_plan(session, [Part(recipes=[recipe], run=run.name)])
        return
    key = session.realise(recipe).key
    if not written:
        session.require_kept()
    if not session.no_cache and not stays:
        keeping = remember_if_possible if written else remember
        run = keeping(session, recipe, run, key=key)
    if not written:
        session.result(run.name, run=run.name, key=key)
        return
    path, key = deliver(session, recipe, to, run=run, words=recipe.stage)
    session.result(str(path), path=str(path), run=run.name, key=key)


def _stays_tuned(session: Session, recipe: Extract | Depth, run: "Run", *, written: bool) -> bool:
    """Whether the run was tuned on others, and so is left as it is; frames never replace them.

    A depth takes the place of the run's own where it is asked for without a file.
    """
    tuned = run.recipes.get("tune")
    if not isinstance(tuned, Tune) or session.no_cache:
        return False
    frames = recipe if isinstance(recipe, Extract) else recipe.frames
    if tuned.frames == frames:
        other = isinstance(recipe, Depth) and tuned.depth not in (None, recipe)
        if other and written:
            session.note(
                f"the run `{run.name}` stays with the depth it was tuned on; without `-o` this one"
                " becomes the run's, to be tuned anew"
            )
        return other and written
    if not written:
        raise UsageError(
            f"the run `{run.name}` was tuned on other frames",
            hint="`dvid extract CLIP --run NAME` makes another run of these, `-o` only a file;"
            " `dvid tune` takes the run over",
        )
    session.note(
        f"the run `{run.name}` stays with the frames it was tuned on; `dvid tune` with these"
        " options takes it over"
    )
    return True
