"""Pictures of layouts: colour, exact inverse depth and a mask for every thing.

Things are composed far to near from the sprite atlas into maps of colour, normal and outline;
`paint` turns those into one of the three styles. Depth is inverse distance (near = large), exact
for the ground plane, the backdrop and each thing's flattened relief.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn.functional import grid_sample

from dvcli.bundled.world import paint, places
from dvcli.bundled.world.layout import FOCUS, SIDE, SLOTS, Layout
from dvcli.bundled.world.sprites import HALF, SIZE, VIEWS, atlas

RELIEF = 0.5  # how much of its true thickness a thing shows in the depth map
_CHUNK = 16  # scenes at a time: small enough to stay in the cache


class Pictures(NamedTuple):
    """`image` is 8-bit RGB, `depth` inverse distance, `owner` 0 for the place, else slot + 1."""

    image: UInt8[Tensor, "n 3 h w"]
    depth: Float[Tensor, "n 1 h w"]
    owner: Int[Tensor, "n h w"]

    @property
    def masks(self) -> Float[Tensor, "n 4 h w"]:
        """One mask for the place and one per slot; they partition the picture."""
        return (self.owner[:, None] == torch.arange(SLOTS + 1)[:, None, None]).float()


def render(layout: Layout) -> Pictures:
    """The pictures of a batch of scenes, 64×64."""
    with torch.no_grad():
        parts = [_render(layout[i : i + _CHUNK]) for i in range(0, len(layout), _CHUNK)]
    return Pictures(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _sampled(layout: Layout, slot: Tensor) -> tuple[Tensor, Tensor]:
    """One thing per scene on the picture's grid `[n 8 h w]`, and its foot's row."""
    pick = slot[:, None]
    shape, view, turn, x, z, pixels = (
        getattr(layout, key).gather(1, pick)[:, 0]
        for key in ("shape", "view", "turn", "x", "z", "pixels")
    )
    foot = layout.horizon + FOCUS / z
    half = pixels / 2
    sprite = atlas()[shape * VIEWS + view]
    centre = torch.arange(SIDE) + 0.5
    mirror = (1 - 2 * turn).float()
    u = (centre - x[:, None]) / half[:, None] * mirror[:, None] / HALF
    v = (centre - (foot - half)[:, None]) / half[:, None] / HALF
    grid = torch.stack(
        (
            u[:, None, :].expand(-1, SIDE, -1),
            v[:, :, None].expand(-1, -1, SIDE),
        ),
        dim=-1,
    )
    got = grid_sample(sprite, grid, mode="bilinear", padding_mode="border", align_corners=False)
    got[:, 1] *= mirror[:, None, None]
    outside = (grid.abs().amax(dim=-1) > 1).float()
    got[:, :7] *= (1 - outside)[:, None]
    got[:, 7] = got[:, 7] * (half * 2 * HALF / SIZE)[:, None, None] - 9 * outside
    return got, foot


def _render(layout: Layout) -> tuple[Tensor, Tensor, Tensor]:
    n = len(layout)
    scene = places.lay_out(layout.place, layout.horizon, layout.texture, layout.shift)
    canvas = paint.Canvas.of(scene.colour, scene.flat)
    depth, owner = scene.depth.clone(), torch.zeros(n, SIDE, SIDE, dtype=torch.long)
    present = torch.arange(SLOTS) < layout.count[:, None]
    far_first = torch.where(present, layout.z, -1.0).argsort(dim=1, descending=True, stable=True)
    for turn in range(SLOTS):
        rows = (layout.count > turn).nonzero()[:, 0]
        if len(rows) == 0:
            break
        some = layout[rows]
        slot = far_first[rows, turn]
        sprite, foot = _sampled(some, slot)
        z = some.z.gather(1, slot[:, None])[:, :, None]
        pixels = some.pixels.gather(1, slot[:, None])[:, :, None]
        alpha = sprite[:, 0]
        solid = alpha > 0.5
        bulge = sprite[:, 4] / alpha.clamp(min=0.1)
        near = 1 / (z - RELIEF * bulge * pixels * z / (2 * SIDE))
        depth[rows] = torch.where(solid, near, depth[rows])
        owner[rows] = torch.where(solid, slot[:, None, None] + 1, owner[rows])
        colour = some.colour.gather(1, slot[:, None])[:, 0]
        x = some.x.gather(1, slot[:, None])[:, 0]
        canvas.put(rows, sprite, colour, some, paint.Spot(x, foot, pixels[:, 0, 0]))
    return canvas.finish(layout, owner), depth[:, None], owner
