"""What the phases leave in the working folder, loaded again for the phases that follow."""

from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from diffusers import AutoencoderKL
from jaxtyping import Float
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from dvcli.bundled.train import denoising, family, measuring
from dvcli.bundled.train.loop import average_of
from dvcli.bundled.train.patches import Patches
from dvcli.bundled.train.pool import Pool

PROBES = 96
Module = TypeVar("Module", bound=nn.Module)


def words_of(work: Path) -> CLIPTokenizer:
    """The tokenizer."""
    return family.tokenizer()


def loaded(module: Module, state: dict[str, Tensor]) -> Module:
    """The module with these weights, ready to be used."""
    module.load_state_dict({key: value.cpu() for key, value in state.items()})
    return module.eval().requires_grad_(False)


def text_of(work: Path) -> CLIPTextModel:
    """The trained text encoder."""
    return loaded(family.text_encoder(words_of(work)), average_of(work / "text", "text"))


def vae_of(work: Path) -> AutoencoderKL:
    """The trained autoencoder."""
    return loaded(family.vae(), average_of(work / "vae", "vae"))


@torch.no_grad()
def encoded(model: AutoencoderKL, pictures: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 4 a b"]:
    """Latents of pictures, scaled as the denoiser sees them."""
    parts = [model.encode(some).latent_dist.mode() for some in torch.split(pictures, 50)]
    codes: Float[Tensor, "n 4 a b"] = torch.cat(parts) * model.config.scaling_factor
    return codes


def decoder(model: AutoencoderKL) -> measuring.Decode:
    """The way from latents back to pictures."""

    @torch.no_grad()
    def decode(x: Float[Tensor, "n 4 a b"]) -> Float[Tensor, "n 3 h w"]:
        shown: Float[Tensor, "n 3 h w"] = model.decode(x / model.config.scaling_factor).sample
        return shown

    return decode


def pool_latents(work: Path) -> Float[Tensor, "n 4 a b"]:
    """The autoencoder's latents of the pool where there are any, else the linear code's."""
    kept = work / "pool" / "latents.npy"
    if kept.exists():
        return torch.from_numpy(np.load(kept))
    patches, scenes = Patches.load(work / "pca.safetensors"), Pool(work / "pool")
    rows = range(0, scenes.count, 1000)
    return torch.cat([patches.encode(scenes.pictures(slice(i, i + 1000))).half() for i in rows])


def pool_estimates(work: Path) -> Float[Tensor, "n 1 a b"] | None:
    """The pool's conditions as the family's estimator sees them, once it has looked."""
    kept = work / "pool" / "estimates.npy"
    return torch.from_numpy(np.load(kept)) if kept.exists() else None


def probe_of(work: Path, words: CLIPTokenizer) -> denoising.Probe:
    """The swap probe on held-out scenes, in the code the denoiser is trained on."""
    given = measuring.held_out_scenes(PROBES, "two", start=10**6)
    pictures = given.pictures.image.float() / 127.5 - 1
    if (work / "pool" / "latents.npy").exists():
        codes = encoded(vae_of(work), pictures)
    else:
        codes = Patches.load(work / "pca.safetensors").encode(pictures)
    truth = given.pictures
    return denoising.Probe.of(given.scenes, codes, truth.depth, truth.owner, words)
