"""Clips: a scene whose things move smoothly and pass in front of each other, with exact truth.

The layout of frame `i` is the scene's layout with `x`, `z` and size on a smooth path; places,
strokes and light stay as they are, so that only motion changes from frame to frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from dvcli.bundled.world.layout import SIDE, SLOTS, Layout, draw, lay, together
from dvcli.bundled.world.render import render
from dvcli.bundled.world.words import Scene, caption

MIX = (0, 1, 0, 0.3, 0.4)  # of arrangements, see `draw`: what has something to pass


@dataclass(frozen=True, kw_only=True)
class Clip:
    """`frames` are 8-bit RGB, `depth` inverse distance, `owner` 0 for the place, else slot + 1."""

    scene: Scene
    caption: str
    frames: UInt8[Tensor, "f 3 h w"]
    depth: Float[Tensor, "f 1 h w"]
    owner: Int[Tensor, "f h w"]


def clip(seed: int, frames: int = 16, scene: Scene | None = None) -> Clip:
    """The clip of a seed: things cross the picture, the nearer ones in front of the farther.

    `scene` says what is shown instead of what the seed would draw; place and style fall back to
    the seed's.
    """
    shown, moving = course(seed, frames, scene)
    got = render(moving)
    return Clip(
        scene=shown,
        caption=caption(shown),
        frames=got.image,
        depth=got.depth,
        owner=got.owner,
    )


def course(seed: int, frames: int = 16, scene: Scene | None = None) -> tuple[Scene, Layout]:
    """What the clip of a seed shows, and where everything is in each of its frames."""
    drawn = draw(seed, MIX)
    shown = drawn if scene is None else scene
    shown = replace(shown, place=shown.place or drawn.place, style=shown.style or drawn.style)
    still = lay([shown], [seed])
    return shown, _at(still, seed, torch.linspace(0, 1, frames)[:, None])


def passing(seeds: Sequence[int]) -> tuple[list[Scene], Layout]:
    """Each seed's clip at one moment of its middle, when things pass in front of each other."""
    scenes = [draw(seed, MIX) for seed in seeds]
    times = [np.random.default_rng((seed, 6)).uniform(0.25, 0.75) for seed in seeds]
    moments = [
        _at(lay([scene], [seed]), seed, torch.tensor([[time]], dtype=torch.float32))
        for scene, seed, time in zip(scenes, seeds, times, strict=True)
    ]
    return scenes, together(moments)


def _at(still: Layout, seed: int, time: Float[Tensor, "f 1"]) -> Layout:
    """The layouts at these times of the clip, 0 to 1."""
    return _moved(still, _paths(np.random.default_rng((seed, 5)), still, time))


def _paths(
    rng: np.random.Generator, still: Layout, time: Float[Tensor, "f 1"]
) -> tuple[Float[Tensor, "f 3"], Float[Tensor, "f 3"]]:
    """`x` and the factor on `z` of every slot over time; neighbours travel in opposite directions.

    The young of a family follow their parent instead, at its pace.
    """
    ease = 0.5 - 0.5 * torch.cos(torch.pi * time)
    count = int(still.count[0])
    middle = SIDE / 2
    reach = torch.tensor([rng.uniform(13, 19) for _ in range(SLOTS)])
    way = torch.tensor([1.0, -1.0, 1.0]) * (1 if rng.random() < 0.5 else -1)
    kinds = zip(still.shape[0, :count].tolist(), still.colour[0, :count].tolist(), strict=True)
    if count > 1 and len(set(kinds)) == 1:
        shift = (ease - 0.5) * 16 * way[0]
        x = still.x + shift
    else:
        x = middle + (2 * ease - 1) * reach * way
    phase = torch.tensor([rng.uniform(0, 6.28) for _ in range(SLOTS)])
    nearer = 1 + 0.05 * torch.sin(2 * torch.pi * time + phase)
    return x, nearer


def _moved(still: Layout, paths: tuple[Tensor, Tensor]) -> Layout:
    """The layouts of all frames. A thing that comes nearer by a factor grows by it."""
    x, nearer = paths
    count = len(x)
    every = {
        f.name: getattr(still, f.name).expand(count, *getattr(still, f.name).shape[1:])
        for f in fields(still)
    }
    every["x"] = x
    every["z"] = still.z / nearer
    every["pixels"] = still.pixels * nearer
    return Layout(**every)


def sheet(clips: Sequence[Clip]) -> UInt8[Tensor, "h w 3"]:
    """All frames of clips in one picture, a row each, for looking at."""
    rows = [torch.cat(list(clip.frames), dim=2) for clip in clips]
    return torch.cat(rows, dim=1).permute(1, 2, 0)
