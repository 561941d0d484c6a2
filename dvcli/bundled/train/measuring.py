"""Phase `evaluate`: what the family can do on held-out scenes, in figures.

Pictures are sampled from noise with depth and prompt by the stock scheduler, and read by the
judge. The same judge on the true renders is the ceiling, and is reported beside.
"""

from collections.abc import Callable

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from jaxtyping import Float, Int
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from dvcli.bundled.train.family import encode
from dvcli.bundled.train.judging import Verdict, cases, verdicts
from dvcli.bundled.train.pool import MIXES, Rendered, conditions
from dvcli.bundled.world.clips import passing
from dvcli.bundled.world.layout import draw, held_out, lay
from dvcli.bundled.world.render import render
from dvcli.bundled.world.words import caption

GUIDANCE = 5.0
STEPS = 25
Decode = Callable[[Float[Tensor, "n 4 a b"]], Float[Tensor, "n 3 h w"]]


def held_out_scenes(count: int, kind: str, start: int = 0) -> Rendered:
    """The first held-out scenes of a kind.

    "any"; "two", one before the other; "beside"; "passing", two of a clip as they pass each other.
    """
    if kind == "passing":
        return _passing(count, start)
    seeds, scenes = [], []
    for seed in held_out(50 * count, start):
        scene = draw(seed, MIXES["everyday"])
        two = len(scene.things) == 2 and scene.relation != "family"
        if kind == "any" or (two and scene.relation == ("front" if kind == "two" else kind)):
            seeds.append(seed)
            scenes.append(scene)
        if len(seeds) == count:
            break
    layout = lay(scenes, seeds)
    return Rendered(scenes, layout, render(layout))


def _passing(count: int, start: int) -> Rendered:
    scenes, layout = passing(held_out(10 * count, start))
    rows = [i for i, scene in enumerate(scenes) if scene.relation == "front"]
    rows = [i for i in rows if len(scenes[i].things) == 2][:count]
    layout = layout[torch.tensor(rows)]
    return Rendered([scenes[i] for i in rows], layout, render(layout))


@torch.no_grad()
def sampled(
    unet: UNet2DConditionModel,
    text: CLIPTextModel,
    scheduler: DDIMScheduler,
    tokens: Int[Tensor, "n l"],
    empty: Int[Tensor, "1 l"],
    depth: Float[Tensor, "n 1 a b"],
    generator: torch.Generator,
    guidance: float = GUIDANCE,
) -> Float[Tensor, "n 4 a b"]:
    """Latents sampled from noise with DDIM under classifier-free guidance."""
    device = unet.device
    unet.eval()
    scheduler.set_timesteps(STEPS)
    x = torch.randn(len(tokens), 4, *depth.shape[-2:], generator=generator).to(device)
    told = text(tokens.to(device)).last_hidden_state
    untold = text(empty.to(device)).last_hidden_state.expand_as(told)
    states = torch.cat((untold, told))
    shape = torch.cat((depth, depth)).to(device)
    for t in scheduler.timesteps:
        both = torch.cat((x, x))
        if unet.config.in_channels == 5:
            both = torch.cat((both, shape), dim=1)
        low, high = unet(both, t, states).sample.chunk(2)
        x = scheduler.step(low + guidance * (high - low), t, x).prev_sample
    return x


def following(
    unet: UNet2DConditionModel,
    text: CLIPTextModel,
    words: CLIPTokenizer,
    scheduler: DDIMScheduler,
    decode: Decode,
    judge: Verdict,
    given: Rendered,
    seed: int = 0,
) -> tuple[dict[str, float], Float[Tensor, "n 3 h w"]]:
    """The judge's figures on pictures sampled for held-out scenes, and the pictures."""
    generator = torch.Generator().manual_seed(seed)
    tokens = encode(words, [caption(scene) for scene in given.scenes])
    depth = conditions(given.pictures.depth)
    made = [
        decode(
            sampled(
                unet,
                text,
                scheduler,
                tokens[i : i + 32],
                encode(words, [""]),
                depth[i : i + 32],
                generator,
            )
        )
        for i in range(0, len(tokens), 32)
    ]
    pictures = torch.cat(made).clamp(-1, 1).cpu()
    return verdicts(judge, cases(pictures, given.layout, given.pictures)), pictures


def ceiling(judge: Verdict, given: Rendered) -> dict[str, float]:
    """The judge's figures on the true renders."""
    pictures = given.pictures.image.float() / 127.5 - 1
    return verdicts(judge, cases(pictures, given.layout, given.pictures))
