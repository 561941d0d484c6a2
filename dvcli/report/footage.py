"""The frames of a clip wherever they are: in the cache, in a file of ours, in anybody's file."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from dvcli.video import frames as frame_file
from dvcli.video.probe import probe
from dvcli.video.read import read
from dvcli.video.timeline import spread

MOST = 120  # frames of one clip that are shown
_WEBP = b"WEBP"


@dataclass(frozen=True, kw_only=True)
class Footage:
    """A clip that is opened only when it is shown.

    `path` is a file of frames or an animated WebP out of the cache, with `kept`; else any clip.
    """

    path: Path
    kept: bool = False

    def frames(self, side: int | None = None) -> NDArray[np.uint8]:
        """uint8 RGB `[f H W 3]`, at most 120 frames, evenly spaced where there are more.

        With `side`, frames whose longer side is more are reduced to it. Raises `InputError`.
        """
        if self.kept:
            return reduced(thinned(_kept(self.path)), side)
        found = probe(self.path)
        size = _fitted(found.width, found.height, side)
        picked = read(self.path, frames=min(found.frames, MOST), size=size, fit="squash")
        return picked.frames


def decoded(path: Path) -> NDArray[np.uint8]:
    """The frames of an animated picture of our own writing, uint8 RGB `[f H W 3]`."""
    with Image.open(path) as picture:
        return np.stack([np.asarray(f.convert("RGB")) for f in ImageSequence.Iterator(picture)])


def thinned(frames: NDArray[np.uint8], most: int = MOST) -> NDArray[np.uint8]:
    """At most so many of the frames, evenly spaced, the first and the last among them."""
    if len(frames) <= most:
        return frames
    return frames[spread(tuple(map(float, range(len(frames)))), most)]


def reduced(frames: NDArray[np.uint8], side: int | None) -> NDArray[np.uint8]:
    """The frames, smaller where their longer side is more than that."""
    _, height, width, _ = frames.shape
    size = _fitted(width, height, side)
    if size is None or size == (width, height):
        return frames
    kind = Image.Resampling.LANCZOS
    return np.stack([np.asarray(Image.fromarray(frame).resize(size, kind)) for frame in frames])


def _kept(path: Path) -> NDArray[np.uint8]:
    with path.open("rb") as file:
        head = file.read(12)
    return decoded(path) if head[8:12] == _WEBP else frame_file.load(path)


def _fitted(width: int, height: int, side: int | None) -> tuple[int, int] | None:
    if side is None:
        return None
    scale = min(1.0, side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))
