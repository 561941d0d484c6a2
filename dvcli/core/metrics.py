"""The figures of an evaluation, from embeddings and pixels."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

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


def psnr(a: Float[Tensor, "*shape"], b: Float[Tensor, "*shape"], peak: float) -> float:
    """Peak signal-to-noise ratio in dB, for values that span `peak`; equal ones give infinity."""
    error = float(torch.mean((a.double() - b.double()) ** 2))
    return math.inf if error == 0 else 10 * math.log10(peak**2 / error)
