"""A picture brought to the size asked for: cropped, squashed or padded, in one resampling."""

from fractions import Fraction

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from dvcli.recipes import Fit


def fit_to(
    pixels: UInt8[np.ndarray, "h w 3"],
    *,
    sar: Fraction,
    size: tuple[int, int],
    fit: Fit,
    background: tuple[int, int, int],
) -> UInt8[np.ndarray, "H W 3"]:
    """The picture as exactly `size` (width, height), by an antialiased Lanczos filter.

    `sar` is the width of a stored pixel over its height. `crop` keeps the largest centred part of
    the right shape, `squash` the whole picture distorted, `pad` the whole picture undistorted on
    `background`. A picture that is already right is returned as it is.
    """
    height, width = pixels.shape[:2]
    box = (0.0, 0.0, float(width), float(height))
    inner = size
    shape = Fraction(size[0], size[1])
    shown = Fraction(width, height) * sar
    if fit == "crop" and shown > shape:
        kept = float(width * shape / shown)
        box = ((width - kept) / 2, 0.0, (width + kept) / 2, float(height))
    elif fit == "crop" and shown < shape:
        kept = float(height * shown / shape)
        box = (0.0, (height - kept) / 2, float(width), (height + kept) / 2)
    elif fit == "pad" and shown > shape:
        inner = (size[0], max(1, round(size[0] / shown)))
    elif fit == "pad" and shown < shape:
        inner = (max(1, round(size[1] * shown)), size[1])
    if inner == (width, height) and box == (0.0, 0.0, width, height):
        image = pixels
    else:
        resampled = Image.fromarray(pixels).resize(inner, Image.Resampling.LANCZOS, box=box)
        image = np.asarray(resampled)
    if inner == size:
        return image
    canvas = np.empty((size[1], size[0], 3), dtype=np.uint8)
    canvas[:] = background
    left, top = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    canvas[top : top + inner[1], left : left + inner[0]] = image
    return canvas
