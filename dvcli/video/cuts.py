"""Hard cuts between the frames of a clip: steps that stand out among its other steps."""

from itertools import pairwise
from statistics import median

import numpy as np
from jaxtyping import Float, UInt8

LEAST = 4  # frames, for one step to stand out among others
SHARE = 0.4  # of the pixels that change their colour, below which nothing is a cut
TIMES = 2.0  # as much as the median step of the clip
SPARSE = 64  # pixels looked at along a side at least


def cuts(frames: UInt8[np.ndarray, "f H W 3"]) -> list[int]:
    """The numbers of the frames that a cut comes before.

    A step's size is the share of pixels whose colour has no counterpart in the frame before: half
    the absolute difference of their histograms, of 8 × 8 × 8 colours. A cut is at least 0.4 and
    twice the median step, so that fast motion, where all steps are large, is none. A clip with a
    cut at most of its steps has none that stands out.
    """
    if len(frames) < LEAST:
        return []
    steps = [float(np.abs(a - b).sum()) / 2 for a, b in pairwise(map(_histogram, frames))]
    least = max(SHARE, TIMES * median(steps))
    return [number for number, step in enumerate(steps, 1) if step >= least]


def _histogram(pixels: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "512"]:
    """The share of each colour."""
    stride = max(1, min(pixels.shape[:2]) // SPARSE)
    red, green, blue = (pixels[::stride, ::stride] >> 5).astype(np.int64).reshape(-1, 3).T
    counts = np.bincount(red * 64 + green * 8 + blue, minlength=512)
    share: Float[np.ndarray, "512"] = counts / counts.sum()
    return share
