"""Evenly spaced frames of a clip, of one size, in RGB."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import ImageColor

from dvcli.errors import InputError, UsageError
from dvcli.recipes import Fit
from dvcli.video.apart import asked
from dvcli.video.choice import Choice
from dvcli.video.digest import check_source
from dvcli.video.probe import ClipInfo, info_from


@dataclass(frozen=True, kw_only=True)
class Picked:
    """Frames of a clip in presentation order.

    `times` are seconds from the clip's first frame, `indices` the frames' numbers in the clip from
    0, and `notes` say what was converted on the way (HDR, interlacing, rotation, transparency …).
    """

    frames: UInt8[np.ndarray, "f H W 3"]
    times: tuple[float, ...]
    indices: tuple[int, ...]
    source: ClipInfo
    notes: tuple[str, ...]


def read(
    path: Path,
    *,
    frames: int | None,
    size: tuple[int, int] | None,
    fit: Fit,
    start: float = 0.0,
    end: float | None = None,
    stream: int | None = None,
    background: str = "#000000",
    tolerate_errors: bool = False,
) -> Picked:
    """uint8 RGB `[f H W 3]`: `frames` evenly spaced ones from `start` to `end`, ends included.

    `frames=None` takes every frame in the range, `size=None` the clip's own size as shown (else
    width, height). `start` and `end` are seconds from the clip's first frame, `stream` a stream's
    number in the file. `path` is a video, an animation (GIF, APNG, WebP, AVIF), an image or a
    folder of images. Decoding happens in a process of its own. Raises `InputError` for every clip
    that cannot be used, `UsageError` for arguments that make no sense.
    """
    check_source(path)
    choice = Choice(
        frames=frames,
        size=size,
        fit=fit,
        start=start,
        end=end,
        stream=stream,
        background=_colour(background),
        tolerate_errors=tolerate_errors,
    )
    request = {"task": "read", "path": str(path), "choice": asdict(choice)}
    with asked(request, path) as reply:
        answer = reply.answer
        taken: UInt8[np.ndarray, "f H W 3"] = np.load(reply.frames, allow_pickle=False)
    if len(taken) != len(answer["indices"]):
        raise InputError(f"`{path}` gave {len(taken)} frames for {len(answer['indices'])}")
    return Picked(
        frames=taken,
        times=tuple(answer["times"]),
        indices=tuple(answer["indices"]),
        source=info_from(answer["info"]),
        notes=tuple(answer["notes"]),
    )


def _colour(name: str) -> tuple[int, int, int]:
    try:
        red, green, blue = ImageColor.getrgb(name)[:3]
    except ValueError:
        raise UsageError(
            f"`{name}` is not a colour", hint="write it as `#rrggbb`, or by its CSS name"
        ) from None
    return red, green, blue
