"""Hard cuts between the frames of a clip, and clips whose frames are of many shots."""

from itertools import pairwise
from statistics import median

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

LEAST = 4  # frames, for one step to stand out among others
SHARE = 0.4  # of the pixels that change their colour, below which nothing is a cut
TIMES = 2.0  # as much as the median step of the clip
SPARSE = 64  # pixels looked at along a side at least
COLOURS = 0.25  # of the pixels that change their colour, from which a step may lead elsewhere
PLACES = 0.7  # of the blocks that are nowhere in the frame before, from which it does
FEWEST = 3  # such steps, for frames to be of many shots
SIDE, BLOCK = 48, 8  # pixels that a frame is reduced to, and those of a block
FOUND = 0.5  # of a block's own contrast, up to which what differs is the same thing
NOISE = 6.0  # levels: contrast that a plain block is taken to have


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


def unlike(frames: UInt8[np.ndarray, "f H W 3"]) -> bool:
    """Whether most steps lead to a frame that has hardly anything of the one before.

    That is a step in which at least a quarter of the pixels change their colour, and of 36 blocks
    that cover the frame at least 0.7 are nowhere in the one before, wherever they may have moved
    to. Fast motion leaves more of them, and a camera that pans by over half the frame too.
    """
    steps = [_elsewhere(a, b) for a, b in pairwise(frames)]
    return sum(steps) >= max(FEWEST, (len(steps) + 1) / 2)


def _elsewhere(before: UInt8[np.ndarray, "H W 3"], now: UInt8[np.ndarray, "H W 3"]) -> bool:
    changed = float(np.abs(_histogram(before) - _histogram(now)).sum()) / 2
    return changed >= COLOURS and _lost(before, now) >= PLACES


def _lost(before: UInt8[np.ndarray, "H W 3"], now: UInt8[np.ndarray, "H W 3"]) -> float:
    """The share of blocks that have no counterpart at any place of the frame before."""
    there = _windows(before).reshape(-1, 3, BLOCK * BLOCK)
    here = _windows(now)[::BLOCK, ::BLOCK].reshape(-1, 3, BLOCK * BLOCK)
    contrast = here.var(axis=2).sum(axis=1) * BLOCK * BLOCK + 3 * (NOISE * BLOCK) ** 2
    places, blocks = there.reshape(len(there), -1), here.reshape(len(here), -1)
    apart = (places**2).sum(axis=1)[:, None] - 2 * places @ blocks.T + (blocks**2).sum(axis=1)
    return float(np.mean(apart.min(axis=0) > FOUND * contrast))


def _windows(pixels: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "y x 3 b b"]:
    """The block at every place of the reduced frame."""
    small = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BOX)
    level = np.asarray(small, dtype=np.float64)
    found: Float[np.ndarray, "y x 3 b b"] = np.lib.stride_tricks.sliding_window_view(
        level, (BLOCK, BLOCK), axis=(0, 1)
    )
    return found


def _histogram(pixels: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "512"]:
    """The share of each colour."""
    stride = max(1, min(pixels.shape[:2]) // SPARSE)
    red, green, blue = (pixels[::stride, ::stride] >> 5).astype(np.int64).reshape(-1, 3).T
    counts = np.bincount(red * 64 + green * 8 + blue, minlength=512)
    share: Float[np.ndarray, "512"] = counts / counts.sum()
    return share
