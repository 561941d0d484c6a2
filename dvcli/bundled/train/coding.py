"""Phase `vae`: the autoencoder, first taught the linear patch code, then to beat it.

Staying near the linear code keeps the latents smooth and white, and lets a denoiser that began on
the one go on with the other.
"""

import torch
from diffusers import AutoencoderKL
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import l1_loss, mse_loss

from dvcli.bundled.train.patches import Patches

KL = 1e-5
EDGES = 0.3
NEAR = (1.0, 0.01)  # weight of staying near the linear code, at first and later
LEARN = 400  # steps over which the one becomes the other
NOISE = -5.0  # log variance of the posterior at first: more can stall the start


def prepare(vae: AutoencoderKL) -> AutoencoderKL:
    """Start the residual blocks as identities and the posterior nearly without noise."""
    with torch.no_grad():
        for name, module in vae.named_modules():
            if name.endswith("conv2") and isinstance(module, nn.Conv2d):
                module.weight.zero_()
        vae.quant_conv.weight.copy_(torch.eye(8)[:, :, None, None])
        vae.quant_conv.weight[4:].mul_(0.1)
        vae.quant_conv.bias[:4].zero_()
        vae.quant_conv.bias[4:].fill_(NOISE)
    return vae


def coding_loss(
    vae: AutoencoderKL,
    pictures: Float[Tensor, "n 3 h w"],
    patches: Patches,
    step: int,
    generator: torch.Generator,
) -> Float[Tensor, ""]:
    """Reconstruction (L1, MSE, edges), a little KL, and the distance to the linear code."""
    posterior = vae.encode(pictures).latent_dist
    mean, spread = posterior.mean.float(), posterior.logvar.float()
    eps = torch.randn(mean.shape, generator=generator).to(pictures.device)
    got = vae.decode(mean + (0.5 * spread).exp() * eps).sample.float()
    loss = l1_loss(got, pictures) + mse_loss(got, pictures) + EDGES * _edges(got, pictures)
    loss = loss + KL * 0.5 * (mean**2 + spread.exp() - 1 - spread).sum(dim=1).mean()
    part = min(1.0, step / LEARN)
    near = NEAR[0] * (1 - part) + NEAR[1] * part
    total: Float[Tensor, ""] = loss + near * mse_loss(mean, patches.encode(pictures))
    return total


def _edges(a: Float[Tensor, "n c h w"], b: Float[Tensor, "n c h w"]) -> Float[Tensor, ""]:
    down = l1_loss(a[:, :, 1:] - a[:, :, :-1], b[:, :, 1:] - b[:, :, :-1])
    across = l1_loss(a[..., 1:] - a[..., :-1], b[..., 1:] - b[..., :-1])
    return down + across


@torch.no_grad()
def fidelity(vae: AutoencoderKL, pictures: Float[Tensor, "n 3 h w"]) -> float:
    """Mean PSNR in dB of reconstructions from the posterior's mode."""
    parts = []
    for some in torch.split(pictures, 32):
        got = vae.decode(vae.encode(some).latent_dist.mode()).sample.clamp(-1, 1)
        parts.append(((got - some) / 2).square().mean(dim=(1, 2, 3)))
    return float((-10 * torch.cat(parts).log10()).mean())
