"""`--method`: learning a clip as Tune-A-Video does, and CogVideoX in the place of a tuned run."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dvcli.cli.clips import hand_over_all
from dvcli.cli.groups import Delivery, parse_size
from dvcli.cli.output import check
from dvcli.cli.planning import Part, show_plan
from dvcli.cli.prompts import Wish
from dvcli.cli.record import frames_of
from dvcli.cli.session import Session
from dvcli.errors import UsageError
from dvcli.recipes import CogVideoX, Extract, Recipe, VideoModel

if TYPE_CHECKING:
    from dvcli.models.fingerprint import Checkpoint
    from dvcli.models.video_shape import VideoShape
    from dvcli.runs import Run

TuneMethod = Literal["dvid", "tune-a-video"]
BASE = "sd2-base"  # of Tune-A-Video: what Stable Diffusion 2 depth was made from
WITHOUT_DEPTH = {"tiny": "tiny-t2i", "sd2-depth": BASE}  # the same family
DEFAULT = "cogvideox-2b"
Panel = "CogVideoX"
NOTHING = "0" * 64


@dataclass(frozen=True, kw_only=True)
class OtherModel:
    """Another model in the place of the run's, to compare with."""

    method: Annotated[
        Literal["cogvideox"] | None,
        typer.Option(
            help="Another model to compare with, at --base.",
            rich_help_panel=Panel,
            show_default="the run's",
        ),
    ] = None
    model_size: Annotated[
        str | None,
        typer.Option(
            metavar="WxH",
            help="What it works at, not what comes out.",
            rich_help_panel=Panel,
            show_default="the model's",
        ),
    ] = None
    stride: Annotated[
        int | None,
        typer.Option(
            help="Frames it makes for each of the run's.",
            rich_help_panel=Panel,
            show_default="its own length",
        ),
    ] = None
    tiling: Annotated[
        bool,
        typer.Option(
            "--tiling",
            help="Decode in tiles: less memory, slightly other pixels.",
            rich_help_panel=Panel,
        ),
    ] = CogVideoX.tiling

    def refuse_alone(self, session: Session) -> None:
        """Refuse options of another model where none is asked for."""
        for name in ("model_size", "stride", "tiling"):
            if name in session.given:
                raise UsageError(
                    f"`{_option(name)}` is of another model", hint="`--method cogvideox` takes it"
                )


# What a clip of CogVideoX can be asked for; all else on the command line is refused.
OWN = {field.name for field in fields(OtherModel)}
ASKED = {"run", "run_option", "prompt", "prompts_file", "style", "negative", "guidance", "strength"}
ASKED |= {"from_noise", "seed", "steps", "base"} | OWN
ASKED |= {field.name for field in fields(Delivery)} | {field.name for field in fields(Session)}


def generate(
    session: Session,
    to: Delivery,
    other: OtherModel,
    *,
    kept: "Run",
    wishes: Sequence[Wish],
    base: str | None,
    guidance: float,
    strength: float,
    steps: int | None,
    from_noise: bool,
) -> None:
    """Make the clips of CogVideoX for the run's frames, each a result like those of `sample`."""
    from dvcli.models.video_shape import shape_of, video_model

    for name in sorted(session.given - ASKED):
        raise UsageError(
            f"`{_option(name)}` means nothing to CogVideoX", hint="leave it out, or `--method`"
        )
    if from_noise and "strength" in session.given:
        raise UsageError(
            "from noise there is no clip whose share `--strength` could be",
            hint="leave `--strength` or `--from-noise` out",
        )
    session.sources.expect(kept)
    frames = frames_of(kept)
    # The options are shared with `sample`, whose defaults are those of another model.
    guided = guidance if "guidance" in session.chosen else CogVideoX.guidance
    share = strength if "strength" in session.chosen else CogVideoX.strength
    size = None if other.model_size is None else parse_size(other.model_size, "--model-size")

    def made_of(wish: Wish, model: VideoModel, size: tuple[int, int], stride: int) -> CogVideoX:
        return CogVideoX(
            frames=frames,
            model=model,
            prompt=wish.prompt,
            negative=wish.negative,
            guidance=guided,
            steps=CogVideoX.steps if steps is None else steps,
            strength=share,
            start="noise" if from_noise else "clip",
            size=size,
            stride=stride,
            tiling=other.tiling,
            seed=wish.seed,
            dtype=session.number_format,
        )

    # Once on nothing, so that a wrong value is refused before a model is fetched or read.
    nothing = VideoModel(**dict.fromkeys((field.name for field in fields(VideoModel)), NOTHING))
    made_of(wishes[0], nothing, size or CogVideoX.size, other.stride or 1)
    reference = DEFAULT if base is None else base
    found = session.sources.video_model(reference)
    shape = shape_of(found)
    shape.check(size or shape.size)
    stride = (
        other.stride if other.stride is not None else _stride(session, shape, frames, from_noise)
    )
    model = video_model(found)
    recipes = [made_of(wish, model, size or shape.size, stride) for wish in wishes]
    check(to, results=len(recipes), session=session, sources=recipes)
    if session.dry_run:
        wished: dict[Recipe, Wish] = dict(zip(reversed(recipes), reversed(wishes), strict=True))
        show_plan(session, [Part(recipes=recipes, run=kept.name, wishes=wished)])
        return
    _remember(session, kept)
    session.expect(recipes)
    hand_over_all(session, recipes, wishes, to, run=replace(kept, model=reference))


def _stride(session: Session, shape: "VideoShape", frames: Extract, from_noise: bool) -> int:
    """The model's own length spread over the run's frames, as far as the clip has frames."""
    assert frames.frames is not None
    longest = shape.stride(frames.frames)
    if from_noise or longest == 1:
        return longest
    from dvcli.video.probe import probe

    info = probe(session.sources.locate(frames.clip))
    there = info.frames
    if frames.start > 0 or frames.end is not None:
        seconds = min(info.duration_s, frames.end or info.duration_s) - frames.start
        there = int(seconds * info.fps)  # one less than there may be, never one too many
    return max(1, min(longest, (there - 1) // max(frames.frames - 1, 1)))


def _remember(session: Session, kept: "Run") -> None:
    """Note in the run where the model is, for `eval` and for the same command again."""

    def change(stored: "Run") -> "Run":
        places = {**stored.sources, **session.sources.hints()}
        return replace(stored, sources=places, updated=time.time())

    session.runs.update(kept, change)


def _option(parameter: str) -> str:
    return f"--{parameter.replace('_', '-')}"


def tune_a_video(
    session: Session, *, model: str, chosen: bool, depth: Path | None, temporal_weight: float
) -> tuple[str, float]:
    """(the base, λ) that Tune-A-Video tunes with; what contradicts it is refused.

    `chosen` is whether the user, a configuration or the run named the model.
    """
    if "temporal_weight" in session.given and temporal_weight != 0:
        raise UsageError(
            f"Tune-A-Video has no temporal loss for `--temporal-weight {temporal_weight:g}`",
            hint="leave it out, or take `--method dvid`",
        )
    if "temporal_target" in session.given:
        raise UsageError(
            "Tune-A-Video has no temporal loss, so none has a target",
            hint="leave `--temporal-target` out",
        )
    if depth is not None or "normalise" in session.given:
        option = "--normalise" if depth is None else "--depth"
        raise UsageError(
            f"Tune-A-Video sees no depth, so `{option}` means nothing",
            hint="leave it out, or take `--method dvid`",
        )
    if chosen and model in WITHOUT_DEPTH:
        raise _takes_depth(model)
    return (model if chosen else BASE), 0.0


def fits(session: Session, method: TuneMethod, found: "Checkpoint", model: str) -> None:
    """Raise `UsageError` where the base has depth and the method none, or the other way round."""
    if method == "tune-a-video" and found.has_depth:
        raise _takes_depth(model)
    if method == "dvid" and not found.has_depth:
        if "method" in session.given:
            raise UsageError(
                f"the model `{model}` takes no depth",
                hint="`--method tune-a-video` is for such a base",
            )
        session.note(
            f"the model `{model}` takes no depth: only the latent that is sampled from knows the"
            " clip's layout"
        )


def _takes_depth(model: str) -> UsageError:
    return UsageError(
        f"the model `{model}` takes depth, which Tune-A-Video does not have",
        hint=f"`--model {WITHOUT_DEPTH.get(model, BASE)}` takes none",
    )
