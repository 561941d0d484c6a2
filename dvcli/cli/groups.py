"""Option groups of the pipeline verbs: framing, delivery, depth controls; each makes its recipe."""

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from dvcli.cli import options as o
from dvcli.cli.session import Session
from dvcli.errors import UsageError
from dvcli.recipes import Controls, Digest, Extract, Render

if TYPE_CHECKING:
    from dvcli.runs import Run

Panel = "Depth controls"
# The recipe allows None for both, which no verb means by its default.
COUNT, FULL_SIZE = cast("int", Extract.frames), cast("tuple[int, int]", Extract.size)


def _control(help_text: str) -> object:
    return typer.Option(help=help_text, rich_help_panel=Panel)


@dataclass(frozen=True, kw_only=True)
class Framing:
    """Which frames of a clip, in what shape."""

    frames: o.Frames = COUNT
    size: o.Size = None
    fit: o.Fit = Extract.fit
    start: o.StartAt = Extract.start
    end: o.EndAt = Extract.end
    stream: o.Stream = Extract.stream
    background: o.Background = Extract.background
    tolerate_errors: o.Tolerate = Extract.tolerate_errors

    def recipe(self, clip: Digest, native: tuple[int, int]) -> Extract:
        """The frames of that clip; `native` is the size where none was asked for."""
        return Extract(
            clip=clip,
            frames=self.frames,
            size=native if self.size is None else parse_size(self.size),
            fit=self.fit,
            start=self.start,
            end=self.end,
            stream=self.stream,
            background=self.background,
            tolerate_errors=self.tolerate_errors,
        )

    @classmethod
    def refuse_for(cls, session: Session, run: "Run") -> None:
        """Refuse framing on the command line where the frames are those of a run."""
        if session.given & {f.name for f in fields(cls)}:
            raise UsageError(
                f"the frames of the run `{run.name}` are chosen already",
                hint="name the clip instead of the run to choose others",
            )


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """Where a result goes and as what."""

    output: o.Output = None
    format: o.Format = None
    fps: o.Fps = Render.fps
    crf: o.Crf = Render.crf
    overwrite: o.Overwrite = False
    no_metadata: o.NoMetadata = False


@dataclass(frozen=True, kw_only=True)
class DepthControls:
    """The continuous depth controls; the defaults change nothing."""

    depth_gain: Annotated[float, _control("Contrast of depth about its middle.")] = Controls.gain
    depth_bias: Annotated[float, _control("Everything nearer (+) or farther (-).")] = Controls.bias
    depth_gamma: Annotated[float, _control("Bend: over 1 pushes the middle away.")] = Controls.gamma
    depth_near: Annotated[float, _control("Where the nearest ends up, -1 to 1.")] = Controls.near
    depth_far: Annotated[float, _control("Where the farthest ends up, -1 to 1.")] = Controls.far
    depth_smooth: Annotated[float, _control("Blur over time, in frames.")] = Controls.smooth
    depth_active: Annotated[float, _control("Share of steps that see it.")] = Controls.active
    depth_blend: Annotated[float, _control("Weight of the other depth.")] = Controls.blend
    depth_from: Annotated[
        str | None,
        typer.Option(
            metavar="RUN", help="The other clip, for --depth-blend.", rich_help_panel=Panel
        ),
    ] = None

    def controls(self) -> Controls:
        """The controls of a recipe."""
        return Controls(
            gain=self.depth_gain,
            bias=self.depth_bias,
            gamma=self.depth_gamma,
            near=self.depth_near,
            far=self.depth_far,
            blend=self.depth_blend,
            smooth=self.depth_smooth,
            active=self.depth_active,
        )


def parse_size(text: str, option: str = "--size") -> tuple[int, int]:
    """(width, height) for `512` or `768x432`, which was given as that option."""
    match = re.fullmatch(r"(-?\d{1,15})(?:[x×](-?\d{1,15}))?", text.strip().lower())
    if match is None:
        raise UsageError(f"`{option}` is `{text[:40]}`, which is no size such as 512 or 768x432")
    size = int(match[1]), int(match[2] or match[1])
    Extract(clip="", size=size)  # refuses what is too small or too large, and says what is not
    return size


ClipPath = Annotated[
    Path, typer.Argument(metavar="CLIP", help="A video, an animation or a folder of images.")
]
