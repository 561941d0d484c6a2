"""The figures of an evaluation, from embeddings and pixels."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dvcli.core.depth import FLAT, Disparity, normalised
from dvcli.errors import InputError


def frame_consistency(embeddings: Float[Tensor, "f d"]) -> tuple[float, float]:
    """Mean cosine × 100 of frames over all pairs i ≠ j, and over consecutive pairs."""
    frames = len(embeddings)
    if frames < 2:
        raise InputError("frame consistency compares frames, and this clip has only one")
    e = F.normalize(embeddings.double(), dim=1)
    cosines = e @ e.T
    every = (cosines.sum() - cosines.trace()) / (frames * (frames - 1))
    return 100 * float(every), 100 * float(cosines.diagonal(1).mean())


def textual_alignment(frames: Float[Tensor, "f d"], text: Float[Tensor, " d"]) -> float:
    """Mean cosine × 100 of each frame's embedding with the text's."""
    return 100 * float(F.cosine_similarity(frames.double(), text.double()[None]).mean())


def preference(frames: Float[Tensor, "f d"], text: Float[Tensor, " d"], scale: float) -> float:
    """Mean PickScore of the frames: `scale` · cosine with the text (Kirstain et al. 2023)."""
    return scale * float(F.cosine_similarity(frames.double(), text.double()[None]).mean())


def depth_agreement(
    source: Disparity, result: Float[Tensor, "g 1 c d"]
) -> tuple[float | None, float | None]:
    """Correlations × 100, in [-100, 100], of two raw disparity maps of as many frames.

    Both are brought to the map that conditions the network, `normalised` for the clip, at the
    source's size: within each clip every frame to the scale and shift of the first, then one range
    for all. The first figure is Pearson's r over all pixels of all frames, to which one positive
    scale and shift a clip make no difference. The second is r once every row of every frame has
    lost its mean: the ground and the sky, alike in any two clips, are then gone, things are left.
    None where either has no variance. Raises `InputError` for another number of frames and for what
    is not finite.
    """
    if len(source) != len(result):
        raise InputError(
            f"depth is compared frame by frame, and there are {len(result)} frames"
            f" against {len(source)}"
        )
    size = (source.shape[2], source.shape[3])
    x, y = (normalised(d, size, "clip").double() for d in (source, result))
    in_rows = (d - d.mean(dim=3, keepdim=True) for d in (x, y))
    return _correlation(x, y), _correlation(*in_rows)


def _correlation(x: Float[Tensor, "*shape"], y: Float[Tensor, "*shape"]) -> float | None:
    """Pearson's r × 100; None where the values are all one, but for rounding."""
    x, y = (d.flatten() - d.mean() for d in (x, y))
    if min(float(d.square().mean().sqrt()) for d in (x, y)) < FLAT:
        return None
    r = float(x @ y) / float(x.norm() * y.norm())
    return 100 * max(-1.0, min(1.0, r))


def psnr(a: Float[Tensor, "*shape"], b: Float[Tensor, "*shape"], peak: float) -> float:
    """Peak signal-to-noise ratio in dB, for values that span `peak`; equal ones give infinity."""
    error = float(torch.mean((a.double() - b.double()) ** 2))
    return math.inf if error == 0 else 10 * math.log10(peak**2 / error)
