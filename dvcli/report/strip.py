"""All frames of a clip as one still WebP, laid out in columns and rows, for a page to step through.

A page that shows frame `k` by moving the strip has every clip in step by construction, in every
browser, from a `file:` address, and without scripts too.
"""

from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 512  # pixels: a page shows no clip larger
LARGEST = 16383  # pixels: what WebP can be wide and high
EXACT = 128  # pixels: up to here a clip is kept to the last bit, which scaled-up pixels need
QUALITY = 85


@dataclass(frozen=True, kw_only=True)
class Strip:
    """One WebP with `frames` pictures of `width` × `height` in reading order."""

    webp: bytes
    frames: int
    columns: int
    rows: int
    width: int
    height: int


def strip(frames: NDArray[np.uint8]) -> Strip:
    """The strip of uint8 RGB frames `[f H W 3]`; the same frames give the same bytes.

    Frames of at most 128 × 128 are lossless, larger ones of WebP quality 85.
    """
    count, height, width, _ = frames.shape
    rows = min(count, max(1, LARGEST // height))
    columns = -(-count // rows)
    rows = -(-count // columns)
    sheet = np.zeros((rows * height, columns * width, 3), dtype=np.uint8)
    for number, frame in enumerate(frames):
        top, left = number // columns * height, number % columns * width
        sheet[top : top + height, left : left + width] = frame
    target = BytesIO()
    small = max(height, width) <= EXACT
    quality = 100 if small else QUALITY
    Image.fromarray(sheet).save(target, "WEBP", lossless=small, quality=quality, method=4)
    return Strip(
        webp=target.getvalue(),
        frames=count,
        columns=columns,
        rows=rows,
        width=width,
        height=height,
    )
