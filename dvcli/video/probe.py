"""What a clip is, found out in a process of its own."""

from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal, TypedDict

from dvcli.video.apart import ask
from dvcli.video.digest import check_source

Kind = Literal["video", "animation", "folder"]


@dataclass(frozen=True, kw_only=True)
class StreamInfo:
    """One video stream of a file; `index` is its number for `--stream`."""

    index: int
    codec: str
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class ClipInfo:
    """A clip as it was measured, not as its header describes it.

    `width` and `height` are those of the picture as shown: pixels made square, rotation applied.
    `rotation` is in degrees counter-clockwise, `sar` the width of a stored pixel over its height.
    `frames` are counted, `duration_s` and `fps` come from presentation times; a folder of images
    counts as 25 frames per second. `color_trc` is the transfer function's name where it is tagged.
    """

    kind: Kind
    container: str
    codec: str
    width: int
    height: int
    rotation: int
    sar: Fraction
    frames: int
    duration_s: float
    fps: float
    color_trc: str | None
    alpha: bool
    interlaced: bool
    streams: tuple[StreamInfo, ...]


class Described(TypedDict):
    """A `ClipInfo` as JSON."""

    info: dict[str, object]


def probe(path: Path) -> ClipInfo:
    """The clip's description, every frame counted. Raises `InputError` for what is no clip."""
    check_source(path)
    return info_from(ask({"task": "probe", "path": str(path)}, path).answer["info"])


def require_media(path: Path) -> None:
    """Raise `InputError` for a file that cannot be opened as a clip; little of it is read."""
    ask({"task": "open", "path": str(path)}, path)


def display_size(width: int, height: int, sar: Fraction, rotation: int) -> tuple[int, int]:
    """The size of a picture as shown: the shorter side of its pixels is stretched, then turned."""
    if sar >= 1:
        width = max(1, round(width * sar))
    else:
        height = max(1, round(height / sar))
    return (height, width) if rotation % 180 == 90 else (width, height)


def info_to(info: ClipInfo) -> dict[str, object]:
    """The description as JSON values."""
    return {**asdict(info), "sar": str(info.sar)}


def info_from(values: dict[str, object]) -> ClipInfo:
    """The description back from `info_to`."""
    streams = tuple(StreamInfo(**stream) for stream in values["streams"])  # type: ignore[attr-defined]
    sar = Fraction(str(values["sar"]))
    return ClipInfo(**{**values, "streams": streams, "sar": sar})  # type: ignore[arg-type]
