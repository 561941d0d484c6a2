"""Phases `unet` and `unet4`: the denoiser, with depth and without.

What made two-thing scenes come out in the right colours: a text encoder that already reads
(`reading.py`), scenes of two differently coloured things, a heavier loss on things, and a loss that
does not forget the noisiest steps, where colours are decided. The swap probe tells early whether a
colour is bound to its thing: the error must be lower under the true caption than under the one
with the two colours exchanged.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad
from transformers import CLIPTextModel, CLIPTokenizer

from dvcli.bundled.train.family import encode
from dvcli.bundled.train.pool import Pool, conditions
from dvcli.bundled.world.layout import said
from dvcli.bundled.world.words import Scene, caption

THING_WEIGHT = 4.0
BINDING = 20_000  # samples in which to learn what is where, before learning how it looks
NO_CAPTION = 0.10
NO_DEPTH = 0.06
PLAIN = 0.85  # of the captions are in the canonical form


class Examples(NamedTuple):
    """What one step of a denoiser's training sees."""

    latents: Float[Tensor, "n 4 a b"]
    depth: Float[Tensor, "n 1 a b"]
    things: Float[Tensor, "n 1 a b"]
    tokens: Int[Tensor, "n l"]


@dataclass(frozen=True)
class Noise:
    """The schedule as training needs it: ᾱ, the weight of each step's loss, how often noisy ones.

    `noisier` is the share of examples drawn from the noisier 650 steps alone.
    """

    alphas: Float[Tensor, " t"]
    weights: Float[Tensor, " t"]
    noisier: float

    @classmethod
    def of(cls, scheduler: DDIMScheduler, *, binding: bool) -> "Noise":
        """min-SNR-5 (Hang et al. 2023) with a floor under the weight of the noisiest steps.

        In predicted noise those steps weigh nearly nothing, but it is they that decide colours, so
        the floor is high while colours are being bound to things and low afterwards.
        """
        alphas = scheduler.alphas_cumprod
        ratio = alphas / (1 - alphas)
        floor, ceiling, noisier = (0.25, 8.0, 0.5) if binding else (0.08, 3.0, 0.0)
        weights = ((ratio.clamp(max=5) + floor) / ratio).clamp(max=ceiling)
        return cls(alphas, weights / weights.mean(), noisier)

    def steps(self, count: int, generator: torch.Generator) -> Int[Tensor, " n"]:
        """Diffusion steps to train on."""
        even = torch.randint(1000, (count,), generator=generator)
        late = torch.randint(350, 1000, (count,), generator=generator)
        pick = torch.rand(count, generator=generator) < self.noisier
        return torch.where(pick, late, even)


@dataclass(frozen=True)
class Feed:
    """All examples a denoiser is trained on, small enough to be held in memory.

    `depth` has four forms of every condition: exact, blurred, blurred and bent, and as the family's
    own estimator sees it, the last three because a user's depth is estimated.
    """

    latents: Float[Tensor, "n 4 a b"]
    depth: Float[Tensor, "n 4 a b"]
    things: Float[Tensor, "n 1 a b"]
    tokens: Int[Tensor, "n l"]
    odds: Float[Tensor, "4"]
    silence: Int[Tensor, " l"]

    @classmethod
    def of(
        cls,
        pool: Pool,
        latents: Float[Tensor, "n 4 a b"],
        estimates: Float[Tensor, "n 1 a b"] | None,
        words: CLIPTokenizer,
    ) -> "Feed":
        """What needs no other member of the family is kept beside the pool, made only once."""
        kept = pool.folder / "feed.safetensors"
        if not kept.exists():
            generator = torch.Generator().manual_seed(4)
            rows = [slice(i, min(i + 1000, pool.count)) for i in range(0, pool.count, 1000)]
            depth = torch.cat([_forms(pool.depth(part), generator) for part in rows])
            things = torch.cat([pool.things(part) for part in rows])
            texts = [_typed(pool.scene(row), pool.seed(row)) for row in range(pool.count)]
            made = {"depth": depth.half(), "things": things.half(), "tokens": encode(words, texts)}
            save_file(made, kept.with_suffix(".partial"))
            kept.with_suffix(".partial").replace(kept)
        held = load_file(kept)
        count = len(latents) if estimates is None else min(len(latents), len(estimates))
        exact = held["depth"][:count]
        seen = exact[:, :1] if estimates is None else estimates[:count].half()
        odds = (0.75, 0.15, 0.10, 0.0) if estimates is None else (0.45, 0.10, 0.10, 0.35)
        return cls(
            latents[:count],
            torch.cat((exact, seen), dim=1),
            held["things"][:count],
            held["tokens"][:count],
            torch.tensor(odds),
            encode(words, [""])[0],
        )

    def batch(self, size: int, generator: torch.Generator) -> Examples:
        rows = torch.randint(len(self.latents), (size,), generator=generator)
        form = torch.multinomial(self.odds, size, replacement=True, generator=generator)
        depth = self.depth[rows, form][:, None].float()
        depth = depth * (torch.rand(size, 1, 1, 1, generator=generator) > NO_DEPTH)
        silent = torch.rand(size, 1, generator=generator) < NO_CAPTION
        tokens = torch.where(silent, self.silence, self.tokens[rows])
        return Examples(self.latents[rows].float(), depth, self.things[rows].float(), tokens)


def _typed(scene: Scene, seed: int) -> str:
    """A caption as people type them: now and then the place or the style goes unsaid."""
    mute = np.random.default_rng((seed, 4)).random()
    if mute < 0.05:
        scene = replace(scene, style=None)
    elif mute < 0.10:
        scene = replace(scene, place=None)
    return said(scene, seed, PLAIN)


def _forms(depth: Float[Tensor, "n 1 h w"], generator: torch.Generator) -> Float[Tensor, "n 3 a b"]:
    soft = depth
    for _ in range(2):
        soft = avg_pool2d(pad(soft, (2, 2, 2, 2), mode="replicate"), 5, 1)
    bend = 0.7 + 0.7 * torch.rand(len(depth), 1, 1, 1, generator=generator)
    bent = (soft / soft.amax(dim=(1, 2, 3), keepdim=True)) ** bend
    return torch.cat([conditions(form) for form in (depth, soft, bent)], dim=1)


def denoising_loss(
    unet: UNet2DConditionModel,
    states: Float[Tensor, "n l d"],
    examples: Examples,
    noise: Noise,
    generator: torch.Generator,
) -> Float[Tensor, ""]:
    """The weighted error of the predicted noise; depth is seen by a 5-channel denoiser only."""
    device = states.device
    x = examples.latents
    eps = torch.randn(x.shape, generator=generator)
    t = noise.steps(len(x), generator)
    alpha = noise.alphas[t][:, None, None, None]
    noisy = alpha.sqrt() * x + (1 - alpha).sqrt() * eps
    if unet.config.in_channels == 5:
        noisy = torch.cat((noisy, examples.depth), dim=1)
    predicted = unet(noisy.to(device), t.to(device), states).sample.float()
    weight = noise.weights[t][:, None, None, None] * (1 + (THING_WEIGHT - 1) * examples.things)
    weight = weight / weight.mean()
    loss: Float[Tensor, ""] = ((predicted - eps.to(device)) ** 2 * weight.to(device)).mean()
    return loss


def prepare(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """Start every residual branch at zero, as in Dhariwal & Nichol 2021: it learns sooner."""
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            if any(part in name for part in ("conv2.", "proj_out.", "conv_out.")):
                parameter.zero_()
    return unet


def swapped(scene: Scene) -> Scene:
    """The scene with the colours of its first two things exchanged."""
    first, second, *rest = scene.things
    pair = (replace(first, colour=second.colour), replace(second, colour=first.colour))
    return replace(scene, things=(*pair, *rest))


@dataclass(frozen=True)
class Probe:
    """Held-out scenes of two things with their true and swapped captions."""

    latents: Float[Tensor, "n 4 a b"]
    depth: Float[Tensor, "n 1 a b"]
    things: Float[Tensor, "n 1 a b"]
    true: Int[Tensor, "n l"]
    swap: Int[Tensor, "n l"]

    @classmethod
    def of(
        cls,
        scenes: Sequence[Scene],
        latents: Float[Tensor, "n 4 a b"],
        depth: Float[Tensor, "n 1 h w"],
        owner: Int[Tensor, "n h w"],
        words: CLIPTokenizer,
    ) -> "Probe":
        things = (owner > 0).float()[:, None]
        return cls(
            latents,
            conditions(depth),
            interpolate(things, size=latents.shape[-2:], mode="area"),
            encode(words, [caption(scene) for scene in scenes]),
            encode(words, [caption(swapped(scene)) for scene in scenes]),
        )

    @torch.no_grad()
    def figures(
        self, unet: UNet2DConditionModel, text: CLIPTextModel, noise: Noise
    ) -> dict[str, float]:
        """Share of scenes told apart at t = 500, 700, 900, and the plain noise error over all t."""
        unet.eval()
        generator = torch.Generator().manual_seed(9)
        device = unet.device
        depth = self.depth if unet.config.in_channels == 5 else None
        told: dict[str, float] = {}
        errors = []
        for t in (100, 300, 500, 700, 900):
            eps = torch.randn(self.latents.shape, generator=generator)
            alpha = noise.alphas[t]
            noisy = alpha.sqrt() * self.latents + (1 - alpha).sqrt() * eps
            if depth is not None:
                noisy = torch.cat((noisy, depth), dim=1)
            got = []
            for tokens in (self.true, self.swap) if t >= 500 else (self.true,):
                states = text(tokens.to(device)).last_hidden_state
                predicted = unet(noisy.to(device), t, states).sample.cpu()
                wrong = (predicted - eps) ** 2
                got.append((wrong * self.things).sum(dim=(1, 2, 3)))
                if len(got) == 1:
                    errors.append(float(wrong.mean()))
            if len(got) == 2:
                told[f"swap{t}"] = float((got[0] < got[1]).float().mean())
        unet.train()
        return {**told, "mse": sum(errors) / len(errors)}
