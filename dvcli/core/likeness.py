"""Likeness of a clip to a reference, pixel by pixel, without any learned weights."""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from dvcli.core.metrics import psnr
from dvcli.errors import InputError

PEAK = 255.0
MOST_PSNR = 100.0  # dB, said of equal clips in the place of infinity
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
WINDOW, SIGMA = 11, 1.5
K1, K2 = 0.01, 0.03
GRADIENT_C = 170.0  # of GMSD, for values up to 255

Grey = Float[Tensor, "1 1 h w"]


def likeness(
    clip: UInt8[Tensor, "f H W 3"], reference: UInt8[Tensor, "g a b 3"]
) -> dict[str, float]:
    """`psnr` in dB over all pixels and channels, mean `ssim` and `gmsd` over frames, of luma.

    PSNR is at most 100, which equal clips have. Frames under 11 pixels have no SSIM, those under 4
    no GMSD. Raises `InputError` for clips of different shapes.
    """
    if clip.shape != reference.shape:
        raise InputError(
            f"pixels are compared one by one, and the clips are {_shape(clip)} and"
            f" {_shape(reference)}"
        )
    found = {"psnr": min(psnr(clip.float(), reference.float(), PEAK), MOST_PSNR)}
    smallest = min(clip.shape[1:3])
    # Frame by frame, so that a long clip needs no more memory than a short one.
    pairs = [(luma(a), luma(b)) for a, b in zip(clip, reference, strict=True)]
    if smallest >= WINDOW:
        found["ssim"] = sum(ssim(a, b) for a, b in pairs) / len(pairs)
    if smallest >= 4:
        found["gmsd"] = sum(gmsd(a, b) for a, b in pairs) / len(pairs)
    return found


def _shape(clip: UInt8[Tensor, "f H W 3"]) -> str:
    frames, height, width, _ = clip.shape
    return f"{frames} × {width}×{height}"


def luma(frame: UInt8[Tensor, "H W 3"]) -> Grey:
    """Grey levels from 0 to 255, in float64."""
    weights = torch.tensor(LUMA, dtype=torch.float64)
    return rearrange(frame.double() @ weights, "h w -> 1 1 h w")


def ssim(a: Grey, b: Grey) -> float:
    """Mean structural similarity, at most 1, of two grey pictures with values up to 255.

    Wang et al. 2004, eq. 13: K1 = 0.01, K2 = 0.03, α = β = γ = 1, a Gaussian window of 11 × 11 with
    σ = 1.5, at every place where the window lies wholly inside.
    """
    c1, c2 = (K1 * PEAK) ** 2, (K2 * PEAK) ** 2
    mean_a, mean_b = blurred(a), blurred(b)
    var_a = blurred(a * a) - mean_a**2
    var_b = blurred(b * b) - mean_b**2
    cov = blurred(a * b) - mean_a * mean_b
    above = (2 * mean_a * mean_b + c1) * (2 * cov + c2)
    below = (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    return float((above / below).mean())


def blurred(picture: Grey) -> Float[Tensor, "1 1 u v"]:
    """Its Gaussian mean around every pixel whose window lies inside."""
    at = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    weight = torch.exp(-(at**2) / (2 * SIGMA**2))
    weight = weight / weight.sum()
    down = F.conv2d(picture, weight[None, None, :, None])
    return F.conv2d(down, weight[None, None, None, :])


def gmsd(a: Grey, b: Grey) -> float:
    """Gradient magnitude similarity deviation of two grey pictures: 0 where they are equal.

    Xue et al. 2014: means of 2 × 2 at every second pixel, Prewitt gradients g (divided by 3), and
    the standard deviation over the picture of (2 g_a g_b + c) / (g_a² + g_b² + c) with c = 170.
    """
    g_a, g_b = gradient(halved(a)), gradient(halved(b))
    alike = (2 * g_a * g_b + GRADIENT_C) / (g_a**2 + g_b**2 + GRADIENT_C)
    return float(alike.std(correction=0))


def halved(picture: Grey) -> Float[Tensor, "1 1 u v"]:
    """Means of 2 × 2 at every second pixel; nothing lies beyond the right and the lower edge."""
    padded = F.pad(picture, (0, 1, 0, 1))
    return F.avg_pool2d(padded, 2, stride=1)[..., ::2, ::2]


def gradient(picture: Grey) -> Grey:
    """The length of the Prewitt gradient; nothing lies beyond the edges."""
    across = torch.tensor([[1.0, 0.0, -1.0]] * 3, dtype=torch.float64)[None, None] / 3
    x = F.conv2d(picture, across, padding=1)
    y = F.conv2d(picture, across.transpose(2, 3), padding=1)
    return (x**2 + y**2).sqrt()
