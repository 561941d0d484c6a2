"""Where scenes are set: eight places, each with a ground, a backdrop and its own marks.

Every place is a table row of colours and two small banks of marks (above and under the horizon),
so that a batch of places is a handful of gathers.
"""

from functools import cache
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

from dvcli.bundled.world.words import PLACES

SIDE = 64
FOCUS = 30.0
TEXTURES = 24
ROWS = 42  # rows of marks kept on each side of the horizon


class Ground(NamedTuple):
    """`colour` is the place painted with its gradients and marks, `flat` in plain areas only."""

    colour: Float[Tensor, "n 3 h w"]
    flat: Float[Tensor, "n 3 h w"]
    depth: Float[Tensor, "n h w"]


# ground near, ground far, sky low, sky high, marks above, marks under; inverse depth behind
_TABLE: dict[str, tuple[tuple[float, float, float], ...]] = {
    "snow": (
        (0.95, 0.96, 0.99), (0.84, 0.89, 0.96),
        (0.80, 0.88, 0.95), (0.52, 0.68, 0.86),
        (0.93, 0.95, 0.99), (0.78, 0.85, 0.95),
    ),
    "grass": (
        (0.38, 0.58, 0.16), (0.55, 0.70, 0.26),
        (0.72, 0.86, 0.97), (0.38, 0.62, 0.92),
        (0.97, 0.98, 1.0), (0.26, 0.45, 0.10),
    ),
    "sand": (
        (0.90, 0.76, 0.48), (0.82, 0.66, 0.40),
        (0.98, 0.86, 0.62), (0.93, 0.66, 0.42),
        (0.74, 0.54, 0.32), (0.76, 0.60, 0.34),
    ),
    "water": (
        (0.05, 0.30, 0.46), (0.22, 0.55, 0.68),
        (0.86, 0.92, 0.93), (0.56, 0.76, 0.84),
        (0.96, 0.97, 0.97), (0.45, 0.72, 0.80),
    ),
    "forest": (
        (0.36, 0.40, 0.17), (0.26, 0.33, 0.12),
        (0.30, 0.50, 0.26), (0.17, 0.36, 0.17),
        (0.40, 0.26, 0.15), (0.50, 0.50, 0.22),
    ),
    "city": (
        (0.42, 0.42, 0.44), (0.56, 0.56, 0.58),
        (0.84, 0.83, 0.82), (0.68, 0.74, 0.80),
        (0.40, 0.40, 0.50), (0.82, 0.82, 0.78),
    ),
    "room": (
        (0.62, 0.40, 0.22), (0.50, 0.31, 0.16),
        (0.92, 0.85, 0.70), (0.86, 0.77, 0.60),
        (0.46, 0.62, 0.72), (0.38, 0.22, 0.11),
    ),
    "night": (
        (0.10, 0.13, 0.24), (0.06, 0.08, 0.17),
        (0.11, 0.12, 0.30), (0.02, 0.03, 0.11),
        (0.96, 0.94, 0.76), (0.17, 0.20, 0.34),
    ),
}  # fmt: skip
_BEHIND = {"forest": 0.30, "city": 0.20, "room": 0.33}
_SKY = 0.05


def _smooth(noise: Tensor, times: int) -> Tensor:
    for _ in range(times):
        noise = avg_pool2d(pad(noise[:, None], (2, 2, 2, 2), mode="circular"), 5, 1)[:, 0]
    return noise


@cache
def noise() -> Float[Tensor, "k h w"]:
    """Smooth fields of mean 0 and deviation 1, one per texture, that wrap around."""
    generator = torch.Generator().manual_seed(20)
    fields = _smooth(torch.randn(TEXTURES, SIDE, SIDE, generator=generator), 2)
    return fields / fields.std(dim=(1, 2), keepdim=True)


def _above(place: str, generator: torch.Generator) -> Float[Tensor, "r w"]:
    """Weight of the mark colour, row 0 just over the horizon."""

    def rand(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    up = torch.arange(ROWS)[:, None] + 0.5
    across = torch.arange(SIDE)[None] + 0.5
    marks = torch.zeros(ROWS, SIDE)
    if place in ("snow", "sand"):
        hill = rand(4, 7) + 3 * torch.sin(across / rand(7, 11) + rand(0, 6))
        marks = (up < hill).float() * (0.9 if place == "snow" else 0.75)
    elif place == "grass":
        for _ in range(2):
            cx, cy, r = rand(6, 58), rand(11, 20), rand(6, 9)
            marks = torch.maximum(
                marks, (((across - cx) / 1.8) ** 2 + (up - cy) ** 2 < (r / 1.6) ** 2).float()
            )
    elif place == "water":
        cx, cy = rand(8, 56), rand(8, 18)
        marks = ((across - cx) ** 2 + (up - cy) ** 2 < 25).float() * 0.9
    elif place == "forest":
        for k in range(5):
            cx, width = 7 + 12.5 * k + rand(-3, 3), rand(2.2, 3.6)
            marks = torch.maximum(marks, ((across - cx).abs() < width).float() * (up < 40))
    elif place == "city":
        left = rand(-4, 0)
        while left < SIDE:
            width, tall = rand(8, 13), rand(9, 22)
            inside = (across >= left) & (across < left + width) & (up < tall)
            tone = rand(0.6, 1.0)
            windows = ((across - left) % 5 > 2.5) & (up % 6 > 3.2) & (up < tall - 2)
            marks = torch.where(inside, tone - 0.45 * windows.float(), marks)
            left += width + rand(0, 2)
    elif place == "room":
        cx, cy = rand(10, 54), rand(11, 14)
        frame = torch.maximum((across - cx).abs() / 8, (up - cy).abs() / 6)
        marks = (frame < 1).float() * 0.9
    else:
        cx, cy = rand(8, 56), rand(13, 20)
        marks = ((across - cx) ** 2 + (up - cy) ** 2 < 26).float()
        for _ in range(7):
            sx, sy = rand(1, 63), rand(4, 28)
            star = ((across - sx).abs() < 1) & ((up - sy).abs() < 1)
            marks = torch.maximum(marks, star.float() * 0.8)
    return marks


def _under(place: str, generator: torch.Generator) -> Float[Tensor, "r w"]:
    """Weight of the mark colour, row 0 just under the horizon."""
    phase = 6.0 * float(torch.rand((), generator=generator))
    down = torch.arange(ROWS)[:, None] + 0.5
    across = torch.arange(SIDE)[None] - SIDE / 2 + 0.5
    far = FOCUS / down
    if place == "water":
        return ((torch.sin(down * 0.75 + 0.9 * torch.sin(across / 6 + phase)) > 0.35).float()) * 0.6
    if place == "room":
        return ((torch.sin(across * far * 0.22 + phase) > 0.93) & (down > 1)).float() * 0.8
    if place == "city":
        lane = (across + 4 * (phase - 3)) * far
        return ((lane.abs() < 2.2) & (torch.sin(14 * far**0.5 + phase) > -0.2)).float() * 0.9
    rows = torch.randn(1, ROWS // 3, SIDE // 8, generator=generator)
    blobs = interpolate(rows[None], size=(ROWS, SIDE), mode="bicubic")[0, 0]
    return (blobs > 0.6).float() * (0.35 if place in ("snow", "night") else 0.45)


@cache
def _banks() -> tuple[Float[Tensor, "p k r w"], Float[Tensor, "p k r w"]]:
    generator = torch.Generator().manual_seed(21)
    above = [[_above(p, generator) for _ in range(TEXTURES)] for p in PLACES]
    under = [[_under(p, generator) for _ in range(TEXTURES)] for p in PLACES]
    return (
        torch.stack([torch.stack(row) for row in above]),
        torch.stack([torch.stack(row) for row in under]),
    )


@cache
def _colours() -> tuple[Float[Tensor, "p 6 3"], Float[Tensor, " p"]]:
    behind = torch.tensor([_BEHIND.get(place, _SKY) for place in PLACES])
    return torch.tensor([_TABLE[place] for place in PLACES]), behind


def lay_out(
    place: Int[Tensor, " n"],
    horizon: Float[Tensor, " n"],
    texture: Int[Tensor, " n"],
    shift: Float[Tensor, " n"],
) -> Ground:
    """The empty places of a batch: painted, in plain areas, and their inverse depth.

    `shift` moves backdrop and ground sideways, in pixels, as when the camera pans.
    """
    table, behind = _colours()
    near, far, low, high, over, beneath = table[place][:, :, :, None, None].unbind(dim=1)
    rows = torch.arange(SIDE)[None]
    line = horizon.round().long()[:, None]
    down = (rows - line).clamp(0, ROWS - 1)
    up = (line - 1 - rows).clamp(0, ROWS - 1)
    columns = (torch.arange(SIDE)[None] + shift.round().long()[:, None]) % SIDE
    ground = (rows >= line)[:, None, :, None]
    above, under = _banks()
    pick = (place[:, None, None], texture[:, None, None])
    marks_over = above[(*pick, up[:, :, None], columns[:, None, :])][:, None]
    marks_under = under[(*pick, down[:, :, None], columns[:, None, :])][:, None]
    slope = (down.float() / (SIDE - line).clamp(min=1)).clamp(0, 1)[:, None, :, None]
    rise = (up.float() / line.clamp(min=1)).clamp(0, 1)[:, None, :, None]
    grain = noise()[texture[:, None, None], rows[:, :, None], columns[:, None, :]][:, None]
    floor = torch.lerp(far, near, slope)
    floor = torch.lerp(floor, beneath, 0.7 * marks_under) * (1 + 0.035 * grain)
    sky = torch.lerp(torch.lerp(low, high, rise) * (1 + 0.012 * grain), over, marks_over)
    colour = torch.where(ground, floor, sky)
    flat = torch.where(
        ground,
        torch.lerp(near, beneath, 0.55 * (marks_under > 0.4).float()),
        torch.lerp((low + high) / 2, over, (marks_over > 0.5).float()),
    )
    floor_depth = (rows + 0.5 - line) / FOCUS
    wall = behind[place][:, None]
    depth = torch.where(rows >= line, torch.maximum(floor_depth, wall), wall)
    return Ground(colour, flat, depth[:, :, None].expand(-1, -1, SIDE).contiguous())
