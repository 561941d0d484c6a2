"""`dvid tune` and `dvid invert`: learn one clip, and find the latent that it comes from."""

import logging
import os
import shlex
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dvcli.cli import options as o
from dvcli.cli.frames import depth_recipe
from dvcli.cli.groups import FULL_SIZE, Framing
from dvcli.cli.method import TuneMethod, fits, tune_a_video
from dvcli.cli.planning import Part, show_plan
from dvcli.cli.quoting import command_line, number
from dvcli.cli.record import (
    begin,
    beside,
    frames_of,
    going_on,
    makes_way,
    remember,
    tuned,
)
from dvcli.cli.session import Session, verb
from dvcli.errors import UsageError
from dvcli.recipes import Base, Depth, Extract, Invert, Normalise, TemporalTarget, Tune

if TYPE_CHECKING:
    from dvcli.models.fingerprint import Checkpoint
    from dvcli.runs import Run

log = logging.getLogger(__name__)
NOTHING = "0" * 64
PARTS = tuple(field.name for field in fields(Base))


@verb
def tune(
    session: Session,
    framing: Framing,
    clip: Annotated[
        str | None,
        typer.Argument(metavar="CLIP", help="A video, an animation or a folder of images."),
    ] = None,
    prompt: Annotated[
        str | None, typer.Argument(metavar="CAPTION", help="What the clip shows.")
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(
            "--run", metavar="RUN", help="Tune this run's frames; with CLIP, the name to use."
        ),
    ] = None,
    method: Annotated[
        TuneMethod, typer.Option(help="Tune-A-Video is without depth and temporal loss.")
    ] = "dvid",
    model: o.Model = o.MODEL,
    depth: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Your own depth video or folder.")
    ] = None,
    steps: Annotated[
        int, typer.Option(help="Tuning steps, 0 to 1000000; 0 tunes nothing.")
    ] = Tune.steps,
    lr: Annotated[float, typer.Option(help="Learning rate, 0 to 1.")] = Tune.lr,
    temporal_weight: Annotated[
        float, typer.Option(metavar="λ", help="Weight of the temporal loss, 0 to 1e6.")
    ] = Tune.temporal_weight,
    temporal_target: Annotated[
        TemporalTarget, typer.Option(help="Steady frames, or the clip's own motion.")
    ] = Tune.temporal_target,
    normalise: Annotated[
        Normalise, typer.Option(help="One depth range for the clip, or one a frame.")
    ] = Tune.normalise,
    weight_decay: Annotated[float, typer.Option(help="AdamW's, 0 to 1.")] = Tune.weight_decay,
    grad_clip: Annotated[
        float, typer.Option(help="Largest gradient norm, 1e-6 to 1e6.")
    ] = Tune.grad_clip,
    seed: Annotated[
        int, typer.Option(help="Of noise and time steps, 0 to 4294967295.")
    ] = Tune.seed,
) -> None:
    """Learn one clip from its caption.

    Extracts frames, estimates depth, tunes; prints the run's name. That is then the last run of
    the folder it was first made in and those below it, which commands take that are given none.

    Example: dvid tune clip.mp4 "a polar bear with her cubs"

    Built in: dvid tune clip.mp4 "a red ball on snow" --model tiny --lr 3e-4
    """
    from dvcli.cli.sources import base

    session.keeps("tuning")
    kept, clip, prompt = _meant(session, clip, prompt, run)
    if kept is not None and kept.model is not None and "model" not in session.given:
        model, chosen = kept.model, True
    else:
        chosen = "model" in session.given or model != o.MODEL
    if method == "tune-a-video":
        model, temporal_weight = tune_a_video(
            session, model=model, chosen=chosen, depth=depth, temporal_weight=temporal_weight
        )

    def made_of(frames: Extract, depth: Depth | None, base: Base) -> Tune:
        return Tune(
            frames=frames,
            depth=depth,
            base=base,
            prompt=prompt,
            steps=steps,
            lr=lr,
            weight_decay=weight_decay,
            grad_clip=grad_clip,
            temporal_weight=temporal_weight,
            temporal_target=temporal_target,
            normalise=normalise,
            seed=seed,
            dtype=session.number_format,
        )

    # Once on nothing, so that a wrong value is refused before a model is fetched or read.
    made_of(framing.recipe(NOTHING, FULL_SIZE), None, Base(**dict.fromkeys(PARTS, NOTHING)))
    frames, found, place = _frames(session, kept, clip, framing, model, run)
    fits(session, method, found, model)
    recipe = made_of(frames, _depth(session, kept, frames, found, depth, model), base(found))
    if not session.dry_run:
        session.require_device([recipe])
        session.expect([recipe])
        session.realise_input(frames)  # a clip that is none is told of before all else is
    if steps and "lr" not in session.chosen:
        _note_rate(session, model, lr)
    if recipe.frames.frames == 1:
        # Not refused: it is a picture's edit by its depth, and so the method without its time.
        log.warning(
            "one frame has no motion to learn, so what comes of it is a picture;"
            " `--frames 2` or more make a clip"
        )
    keeping = "`dvid tune CLIP CAPTION --run NAME`" if kept is not None else "`--run NAME`"
    for told in (makes_way(place, recipe, keeping), beside(session, place, recipe)):
        if told:
            session.note(told)
    if session.dry_run:
        show_plan(session, [Part(recipes=[recipe], run=place.name)])
        return
    session.warn_of_overflow(recipe.base.tokenizer, [recipe])
    key = session.realise(recipe).key
    session.require_kept()
    made = remember(session, recipe, place, key=key)
    session.result(made.name, run=made.name, key=key)


def _meant(
    session: Session, clip: str | None, prompt: str | None, run: str | None
) -> tuple["Run | None", str | None, str]:
    """(the run to go on from, the clip, its caption): `CLIP CAPTION` or `--run RUN [CAPTION]`."""
    if clip is not None and not clip.strip():
        raise UsageError("the clip's name is empty", hint="`dvid tune CLIP CAPTION`")
    if clip is not None and prompt is not None:
        if not os.path.exists(clip) and os.path.exists(prompt):  # noqa: PTH110  # no error for any name
            raise UsageError(
                f"there is no clip `{clip}`, but `{prompt}` is there: the clip comes first",
                hint=f"`{command_line(['dvid', 'tune', prompt, clip])}`",
            )
        return None, clip, prompt
    if run is None or (clip is not None and Path(clip).exists()):
        given = shlex.quote(clip) if clip is not None else "CLIP"
        raise UsageError(
            "tuning takes a clip and what it shows",
            hint=f'`dvid tune {given} "what the clip shows"`',
        )
    kept = session.run(run)
    before = kept.recipes.get("tune")
    words = clip or (before.prompt if isinstance(before, Tune) else None)
    if words is None:
        raise UsageError(
            f"what does the clip of the run `{kept.name}` show?",
            hint=f'`dvid tune --run {kept.name} "what the clip shows"`',
        )
    return kept, None, words


def _frames(
    session: Session,
    kept: "Run | None",
    clip: str | None,
    framing: Framing,
    model: str,
    name: str | None,
) -> "tuple[Extract, Checkpoint, Run]":
    from dvcli.cli.sources import native_size
    from dvcli.models.fingerprint import validate_size

    if kept is not None:
        Framing.refuse_for(session, kept)
        session.sources.expect(kept)
        found = session.sources.model(model)
        frames = frames_of(kept)
        place = going_on(kept, model)
    else:
        assert clip is not None
        path = Path(clip)
        digest = session.sources.file(path)
        place = begin(session, path, name, model)
        found = session.sources.model(model, before_fetching=lambda: _readable(path))
        frames = framing.recipe(digest, native_size(found))
    if frames.size is not None:
        validate_size(found, frames.size)
    return frames, found, place


def _note_rate(session: Session, model: str, lr: float) -> None:
    """Say so where the built-in model is tuned at the rate that is meant for large ones."""
    from dvcli.cli.demo import LR
    from dvcli.models.resolve import BUILT_IN

    if model in BUILT_IN:
        session.note(
            f"the built-in model learns little at `--lr {number(lr)}`, which suits Stable"
            f" Diffusion; `--lr {number(LR)}` suits it"
        )


def _readable(clip: Path) -> None:
    """Refuse what is no clip before gigabytes are fetched for it; extracting looks more closely."""
    from dvcli.video.probe import probe

    probe(clip)


def _depth(
    session: Session,
    kept: "Run | None",
    frames: Extract,
    found: "Checkpoint",
    given: Path | None,
    model: str,
) -> Depth | None:
    if not found.has_depth:
        if given is not None:
            raise UsageError(f"the model `{model}` takes no depth", hint="leave `--depth` out")
        return None
    before = None if kept is None else kept.recipes.get("depth")
    if given is None and isinstance(before, Depth):
        return before
    return depth_recipe(session, frames, given=given, estimator=None, invert=False, model=model)


@verb
def invert(
    session: Session,
    run: Annotated[
        str | None,
        typer.Argument(metavar="RUN", help="A tuned run.", show_default="this folder's last"),
    ] = None,
    steps: Annotated[
        int, typer.Option(help="Steps, of inversion and of sampling, 1 to 1000.")
    ] = Invert.steps,
    refine: Annotated[
        int, typer.Option(help="Fixed-point rounds a step, 0 to 20.")
    ] = Invert.refine,
    prompt: Annotated[str, typer.Option(help="The prompt of the inversion.")] = Invert.prompt,
    trajectory: Annotated[
        bool, typer.Option("--trajectory", help="Store every step's latent.")
    ] = Invert.trajectory,
    base: o.BaseNow = None,
) -> None:
    """Find the latent that a clip comes from.

    Says how well the clip comes back from it; prints the run's name.

    Example: dvid invert --steps 50 --refine 1
    """
    session.keeps("inversion")
    kept = session.run(run)
    session.sources.expect(kept, model=base)
    recipe = Invert(
        tuned=tuned(kept),
        steps=steps,
        refine=refine,
        prompt=prompt,
        trajectory=trajectory,
        dtype=session.number_format,
    )
    if session.dry_run:
        show_plan(session, [Part(recipes=[recipe], run=kept.name)])
        return
    artifact = session.realise(recipe)
    session.require_kept()
    made = remember(session, recipe, kept, key=artifact.key)
    psnr = float(artifact.info["psnr"])
    session.note(f"invert: the clip comes back at {psnr:.1f} dB PSNR")
    session.result(made.name, run=made.name, key=artifact.key, psnr=psnr)
