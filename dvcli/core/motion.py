"""Motion fidelity: whether a clip moves as its source moves, by dense optical flow.

Flow needs no weights: it is DIS (Kroeger et al., Fast Optical Flow using Dense Inverse Search, ECCV
2016) as OpenCV has it, on grey frames whose shorter side is brought to 128 pixels. One working size
makes a clip of 64 pixels and one of 512 comparable, and shows small clips to a method whose patches
are 8 pixels wide. The longer side has an end, so that no strip of frames outgrows the memory or
what OpenCV can warp, 32,766 pixels.
"""

from itertools import pairwise

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from dvcli.errors import InputError

SIDE = 128
LONGEST = 32 * SIDE  # a frame of a longer shape is squeezed to this, source and result alike
STILL = 0.05  # pixels of the working size: a source that moves less has no motion to be kept
SLACK = (0.01, 0.5)  # of forward and backward flow, as in Sundaram et al. (ECCV 2010)


def motion_fidelity(
    source: UInt8[np.ndarray, "f H W 3"], result: UInt8[np.ndarray, "g a b 3"]
) -> float | None:
    """Agreement × 100 of the result's optical flow with the source's, in [-100, 100].

    With u the source's flow and v the result's at every pixel of every consecutive pair, and w = 1
    where the source's pixel is seen in both frames, else 0:

        100 · 2 Σ w u·v / Σ w (|u|² + |v|²)  =  100 · (1 − Σ w |u − v|² / Σ w (|u|² + |v|²))

    100 is the same motion in place, direction and speed, 0 a frozen clip or unrelated motion, -100
    the opposite motion. None where there is nothing to compare: a single frame, or a source that
    does not move. Raises `InputError` for clips of different numbers of frames.
    """
    if len(source) != len(result):
        raise InputError(
            f"motion is compared frame by frame, and there are {len(result)} frames"
            f" against {len(source)}"
        )
    if len(source) < 2:
        return None
    size = working_size(source.shape[1], source.shape[2])
    u, back = flows(source, size)
    v, _ = flows(result, size)
    w = seen(u, back)[..., None]
    if np.sqrt(_energy(w, u) / max(float(w.sum()), 1.0)) < STILL:
        return None
    both = float((w * u * v).sum(dtype=np.float64))
    return 100 * 2 * both / (_energy(w, u) + _energy(w, v))


def _energy(w: Float[np.ndarray, "p h w 1"], flow: Float[np.ndarray, "p h w 2"]) -> float:
    return float((w * flow * flow).sum(dtype=np.float64))


def working_size(height: int, width: int) -> tuple[int, int]:
    """(width, height) of frames of that size when flow is estimated on them."""
    scale = SIDE / min(height, width)
    return min(round(width * scale), LONGEST), min(round(height * scale), LONGEST)


def flows(
    frames: UInt8[np.ndarray, "f H W 3"], size: tuple[int, int]
) -> tuple[Float[np.ndarray, "p h w 2"], Float[np.ndarray, "p h w 2"]]:
    """Flow in pixels of `size` of each frame to the next, and of each frame back to the last."""
    # Cubic for enlarging, area for reducing: what either is made for.
    way = cv2.INTER_CUBIC if size[0] > frames.shape[2] else cv2.INTER_AREA
    grey = [
        cv2.resize(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY), size, interpolation=way) for f in frames
    ]
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    pairs = list(pairwise(grey))
    # The stubs know no None, which starts the search from no motion.
    there = [search.calc(a, b, None) for a, b in pairs]  # type: ignore[call-overload]
    back = [search.calc(b, a, None) for a, b in pairs]  # type: ignore[call-overload]
    return np.stack(there), np.stack(back)


def seen(
    there: Float[np.ndarray, "p h w 2"], back: Float[np.ndarray, "p h w 2"]
) -> Float[np.ndarray, "p h w"]:
    """1 where the way there and back returns to its pixel, 0 where that was hidden meanwhile."""
    share, floor = SLACK
    height, width = there.shape[1:3]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    found = []
    for out, home in zip(there, back, strict=True):
        x, y = columns + out[..., 0], rows + out[..., 1]
        there_then = cv2.remap(home, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        missed = ((out + there_then) ** 2).sum(-1)
        length = (out**2).sum(-1) + (there_then**2).sum(-1)
        found.append((missed < share * length + floor).astype(np.float32))
    return np.stack(found)
