"""Frames to latents and back, a few at a time.

The latent is the posterior's mode, never a sample of it, in the checkpoint's own scale.
"""

from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from dvcli.errors import InputError


def factor(config: Any) -> int:
    """How many pixels a side of a latent stands for, by the settings of its VAE."""
    return int(2 ** (len(config.block_out_channels) - 1))


@torch.no_grad()
def encode(vae: Any, frames: UInt8[Tensor, "f H W 3"], chunk: int) -> Float[Tensor, "f c h w"]:
    """Latents in float32 on the VAE's device: `(mode - shift) * scaling`."""
    scale, shift = _scale(vae)
    parts = []
    for few in torch.split(frames, chunk):
        pixels = rearrange(few.to(vae.device), "f H W c -> f c H W").float() / 255 * 2 - 1
        mode = vae.encode(pixels.to(vae.dtype)).latent_dist.mode().float()
        _require_finite(mode, "latents")
        parts.append((mode - shift) * scale)
    return torch.cat(parts)


@torch.no_grad()
def decode(vae: Any, latents: Float[Tensor, "f c h w"], chunk: int) -> UInt8[Tensor, "f H W 3"]:
    """Frames on the CPU, rounded and clamped as diffusers does it."""
    scale, shift = _scale(vae)
    parts = []
    for few in torch.split(latents, chunk):
        z = few.to(vae.device, torch.float32) / scale + shift
        pixels = vae.decode(z.to(vae.dtype)).sample.float()
        _require_finite(pixels, "pixels")  # rounded to bytes NaN would be black
        pixels = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
        parts.append(rearrange(pixels, "f c H W -> f H W c").cpu())
    return torch.cat(parts)


def _require_finite(x: Float[Tensor, "f c a b"], what: str) -> None:
    if not x.isfinite().all():
        raise InputError(
            f"the VAE answers with {what} that are not finite", hint="`--dtype fp32` is steadier"
        )


def _scale(vae: Any) -> tuple[float, float]:
    shift = getattr(vae.config, "shift_factor", None)
    return float(vae.config.scaling_factor), 0.0 if shift is None else float(shift)
