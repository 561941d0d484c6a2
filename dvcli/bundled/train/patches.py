"""The linear autoencoder everything starts from: the four main components of 4×4 patches.

Its latents are white (mean 0, deviation 1 per channel), so that colour counts as much as
brightness. The VAE is first taught to be this code and then to be better; a denoiser can start on
these latents before there is a VAE.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor

PATCH = 4


@dataclass(frozen=True)
class Patches:
    """`encode` is `(patch - mean) @ down`, `decode` its pseudo-inverse."""

    mean: Float[Tensor, " 48"]
    down: Float[Tensor, "48 4"]
    up: Float[Tensor, "4 48"]

    @classmethod
    def fit(cls, pictures: Float[Tensor, "n 3 h w"]) -> "Patches":
        rows = _cut(pictures).flatten(0, 2)
        mean = rows.mean(dim=0)
        values, vectors = torch.linalg.eigh(torch.cov((rows - mean).T.double()))
        main = vectors[:, -4:].flip(1).float()
        spread = values[-4:].flip(0).sqrt().float()
        return cls(mean, main / spread, (main * spread).T)

    def encode(self, pictures: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 4 a b"]:
        return rearrange((_cut(pictures) - self.mean) @ self.down, "n a b c -> n c a b")

    def decode(self, latents: Float[Tensor, "n 4 a b"]) -> Float[Tensor, "n 3 h w"]:
        rows = rearrange(latents, "n c a b -> n a b c") @ self.up + self.mean
        return rearrange(rows, "n a b (c p q) -> n c (a p) (b q)", p=PATCH, q=PATCH)

    def to(self, device: str) -> "Patches":
        return Patches(self.mean.to(device), self.down.to(device), self.up.to(device))

    def save(self, path: Path) -> None:
        held = {"mean": self.mean, "down": self.down.contiguous(), "up": self.up.contiguous()}
        save_file(held, path)

    @classmethod
    def load(cls, path: Path) -> "Patches":
        return cls(**load_file(path))


def _cut(pictures: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n a b 48"]:
    return rearrange(pictures, "n c (a p) (b q) -> n a b (c p q)", p=PATCH, q=PATCH)
