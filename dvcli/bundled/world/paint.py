"""The three styles: how a composed scene becomes a picture nobody could mistake for another style.

Photorealism shades by the light, with highlights and soft shadows. Animation fills flat areas in
two tones inside thick dark outlines, on plain saturated grounds. Impressionism repaints the shaded
picture in broad strokes, warm where it is light and violet where it is dark.
"""

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from dvcli.bundled.world.layout import SIDE, TEXTURES, Layout
from dvcli.bundled.world.words import COLOURS, STYLES

PALETTE: dict[str, tuple[float, float, float]] = {
    "red": (0.84, 0.13, 0.12),
    "orange": (0.97, 0.50, 0.08),
    "yellow": (0.97, 0.83, 0.16),
    "green": (0.10, 0.60, 0.22),
    "blue": (0.12, 0.28, 0.85),
    "purple": (0.52, 0.16, 0.66),
    "white": (0.96, 0.96, 0.95),
    "black": (0.12, 0.12, 0.14),
    "brown": (0.45, 0.26, 0.12),
}
_INK = 0.05
_OUTLINE = 1.7  # pixels of ink around an animated thing
_STROKE = (7.5, 4.2)  # pixels long and wide


@cache
def _palette() -> Float[Tensor, "c 3"]:
    return torch.tensor([PALETTE[colour] for colour in COLOURS])


class Spot(NamedTuple):
    """Where a thing touches the ground, and how wide it is, in pixels."""

    x: Float[Tensor, " n"]
    foot: Float[Tensor, " n"]
    pixels: Float[Tensor, " n"]


@dataclass(frozen=True)
class Canvas:
    """Two pictures in the making, painted over in place: one shaded, one in flat tones."""

    shaded: Float[Tensor, "n 3 h w"]
    flat: Float[Tensor, "n 3 h w"]

    @classmethod
    def of(cls, shaded: Float[Tensor, "n 3 h w"], flat: Float[Tensor, "n 3 h w"]) -> "Canvas":
        mean = flat.mean(dim=1, keepdim=True)
        return cls(shaded.clone(), (mean + 1.45 * (flat - mean)).clamp(0, 1))

    def put(
        self,
        rows: Int[Tensor, " m"],
        sprite: Float[Tensor, "m 8 h w"],
        colour: Int[Tensor, " m"],
        layout: Layout,
        spot: Spot,
    ) -> None:
        """Paint one thing over each of the scenes `rows`, with its shadow on the ground."""
        alpha = sprite[:, :1]
        normal = sprite[:, 1:4] / alpha.clamp(min=0.05)
        dark, light = sprite[:, 5:6].clamp(0, 1), sprite[:, 6:7].clamp(0, 1)
        own = _palette()[colour][:, :, None, None]
        colours = own * (alpha - dark - light).clamp(min=0) + 0.93 * light + 0.07 * dark
        side = layout.light[:, None, None, None]
        facing = normal[:, :1] * side + normal[:, 1:2] * 0.62 + normal[:, 2:3] * 0.55
        lit = facing.clamp(0, 1)
        gloss = 0.35 * ((lit - 0.86).clamp(min=0) / 0.14) ** 2 * alpha
        shading = 0.42 + 0.68 * lit
        solids = (colours * shading + gloss).clamp(0, 1)
        tones = colours * (0.66 + 0.34 * ((lit - 0.42) * 8).clamp(0, 1))
        ink = ((_OUTLINE / 2 - (sprite[:, 7:8] + _OUTLINE / 2 - 0.4).abs()) + 0.5).clamp(0, 1)
        cover = (sprite[:, 7:8] + _OUTLINE - 0.4 + 0.5).clamp(0, 1)
        shade = _shadow(spot, layout.light)[:, None]
        old = self.shaded[rows] * (1 - 0.55 * shade)
        self.shaded[rows] = old * (1 - alpha) + solids
        hard = (shade * 3 - 1).clamp(0, 1)
        under = self.flat[rows] * (1 - 0.35 * hard)
        filled = under * (1 - cover) + cover * (tones / alpha.clamp(min=0.3)).clamp(0, 1)
        self.flat[rows] = filled * (1 - ink) + _INK * ink

    def finish(self, layout: Layout, owner: Int[Tensor, "n h w"]) -> UInt8[Tensor, "n 3 h w"]:
        """The pictures, each in its layout's style; `owner` says whose pixel is whose."""
        style = layout.style[:, None, None, None]
        photo = self.shaded
        painted = photo.clone()
        brush = (layout.style == STYLES.index("impressionism")).nonzero()[:, 0]
        if len(brush):
            painted[brush] = _brushed(photo[brush], owner[brush], layout.texture[brush])
        chosen = torch.where(style == STYLES.index("animation"), self.flat, painted)
        return (chosen.clamp(0, 1) * 255 + 0.5).to(torch.uint8)


def _shadow(spot: Spot, light: Float[Tensor, " n"]) -> Float[Tensor, "n h w"]:
    """A soft ellipse on the ground, away from the light."""
    axis = torch.arange(SIDE) + 0.5
    wide, deep = spot.pixels * 0.52, spot.pixels * 0.14
    centre = spot.x - light * spot.pixels * 0.25
    across = ((axis - centre[:, None]) / wide[:, None]) ** 2
    down = ((axis - spot.foot[:, None] + 0.5) / deep[:, None]) ** 2
    return (1.35 - (across[:, None, :] + down[:, :, None])).clamp(0, 1)


@cache
def _strokes() -> tuple[Int[Tensor, "k h w"], Float[Tensor, "k 3 h w"], Float[Tensor, "k 1 h w"]]:
    """For each field: the pixel each stroke takes its colour from, its tint, and its relief."""
    generator = torch.Generator().manual_seed(22)
    long, wide = _STROKE
    at = torch.stack(torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij"), -1)
    pixels = at.reshape(-1, 2).float() + 0.5
    picks, tints, reliefs = [], [], []
    for _ in range(TEXTURES):
        steps = torch.arange(-2, SIDE + 6, 5.2)
        grid = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), -1).reshape(-1, 2)
        centres = grid + 3.4 * (torch.rand(grid.shape, generator=generator) - 0.5)
        phase = 6.3 * torch.rand(3, generator=generator)
        angle = 0.6 * torch.sin(centres[:, 0] / 13 + phase[0]) + phase[1]
        angle = angle + 0.6 * torch.cos(centres[:, 1] / 15 + phase[2])
        away = pixels[:, None] - centres[None]
        along = away[..., 0] * angle.sin() + away[..., 1] * angle.cos()
        across = away[..., 0] * angle.cos() - away[..., 1] * angle.sin()
        height = torch.rand(len(centres), generator=generator) * 0.5
        nearness = (along / long) ** 2 + (across / wide) ** 2 + height
        stroke = nearness.argmin(dim=1)
        inside = centres.clamp(0, SIDE - 1).long()
        picks.append((inside[:, 0] * SIDE + inside[:, 1])[stroke].view(SIDE, SIDE))
        tint = torch.randn(len(centres), 1, generator=generator) * 0.050
        tint = tint + torch.randn(len(centres), 3, generator=generator) * 0.030
        tints.append(tint[stroke].T.reshape(3, SIDE, SIDE))
        ridge = across.gather(1, stroke[:, None])[:, 0] / wide
        reliefs.append((0.055 * ridge.clamp(-1, 1)).view(1, SIDE, SIDE))
    return torch.stack(picks), torch.stack(tints), torch.stack(reliefs)


def _brushed(
    picture: Float[Tensor, "n 3 h w"], owner: Int[Tensor, "n h w"], texture: Int[Tensor, " n"]
) -> Float[Tensor, "n 3 h w"]:
    """The picture in strokes; none crosses a thing's outline, or things would dissolve."""
    picks, tints, reliefs = _strokes()
    soft = avg_pool2d(pad(picture, (1, 1, 1, 1), mode="replicate"), 3, 1)
    index = picks[texture].flatten(1)
    stroke = soft.flatten(2).gather(2, index[:, None].expand(-1, 3, -1)).view_as(picture)
    same = (owner.flatten(1).gather(1, index) == owner.flatten(1)).view_as(owner)[:, None]
    thing = (owner > 0)[:, None]
    weight = torch.where(thing, 0.35, 0.65) * same
    paint = torch.lerp(torch.where(thing, picture, soft), stroke, weight)
    paint = paint + (tints[texture] + reliefs[texture]) * torch.where(thing, 0.8, 1.0)
    grey = paint.mean(dim=1, keepdim=True).clamp(0, 1)
    warm = torch.tensor([0.06, 0.03, -0.05])[:, None, None]
    cold = torch.tensor([0.07, 0.01, 0.15])[:, None, None]
    paint = 0.88 * paint + 0.05 + warm * grey + cold * (1 - grey) ** 2
    ghost = avg_pool2d(pad(paint, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return 0.7 * paint + 0.3 * ghost
