"""Phase `judge`: a small network that says what a picture shows, to measure prompt following.

It names place and style from the whole picture, each thing's colour from the picture under its
mask, and each thing's shape from a crop without the mask (a judge that sees the mask reads the
shape off the mask). Nothing but evaluation and the benchmark uses it.
"""

from dataclasses import dataclass, fields
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, grid_sample

from dvcli.bundled.world.layout import SLOTS, Layout
from dvcli.bundled.world.render import Pictures
from dvcli.bundled.world.words import COLOURS, PLACES, SHAPES, STYLES

_CROP = 32
SHIPPED = Path(__file__).parent.parent / "judge" / "model.safetensors"


class Verdict(nn.Module):
    """Three small convolutional readers over pictures in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.whole = _tower(3, len(PLACES) + len(STYLES))
        self.colour = _tower(4, len(COLOURS))
        self.shape = _tower(3, len(SHAPES))


def _tower(channels: int, classes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in ((channels, 24), (24, 48), (48, 96)):
        layers += [nn.Conv2d(a, b, 3, 2, 1), nn.BatchNorm2d(b), nn.ReLU()]
        layers += [nn.Conv2d(b, b, 3, 1, 1), nn.BatchNorm2d(b), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * 96, classes))


def shipped() -> Verdict:
    """The judge that comes with dvid, ready to be asked."""
    judge = Verdict()
    judge.load_state_dict({name: part.float() for name, part in load_file(SHIPPED).items()})
    return judge.eval().requires_grad_(False)


@dataclass(frozen=True)
class Cases:
    """Pictures with what is true of them; things are listed one by one with their picture's row."""

    pictures: Float[Tensor, "n 3 h w"]
    place: Int[Tensor, " n"]
    style: Int[Tensor, " n"]
    row: Int[Tensor, " k"]
    slot: Int[Tensor, " k"]
    masked: Float[Tensor, "k 4 c c"]
    crop: Float[Tensor, "k 3 c c"]
    colour: Int[Tensor, " k"]
    shape: Int[Tensor, " k"]

    def to(self, device: str) -> "Cases":
        return Cases(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


def cases(
    pictures: Float[Tensor, "n 3 h w"],
    layout: Layout,
    truth: Pictures,
    jitter: torch.Generator | None = None,
) -> Cases:
    """What to judge in pictures that should show `layout`, but for things mostly hidden.

    `jitter` moves the crops a little, for training.
    """
    masks = truth.masks[:, 1:]
    seen = masks.sum(dim=(2, 3))
    full = (layout.pixels**2) * 0.30
    there = (torch.arange(SLOTS) < layout.count[:, None]) & (seen > full / 2.2)
    row, slot = there.nonzero().unbind(dim=1)
    mask = masks[row, slot]
    axis = torch.arange(mask.shape[-1]) + 0.5
    weight = mask.sum(dim=(1, 2))
    x = (mask.sum(dim=1) * axis).sum(dim=1) / weight
    y = (mask.sum(dim=2) * axis).sum(dim=1) / weight
    half = layout.pixels[row, slot] * 0.62
    if jitter is not None:
        move = 4 * (torch.rand(3, len(row), generator=jitter) - 0.5)
        x, y, half = x + move[0], y + move[1], half + move[2]
    span = (torch.arange(_CROP) + 0.5) / _CROP * 2 - 1
    side = mask.shape[-1] / 2
    u = (x[:, None] + half[:, None] * span) / side - 1
    v = (y[:, None] + half[:, None] * span) / side - 1
    grid = torch.stack(
        (u[:, None].expand(-1, _CROP, -1), v[:, :, None].expand(-1, -1, _CROP)), dim=-1
    )
    both = torch.cat((pictures[row], mask[:, None]), dim=1)
    cut = grid_sample(both, grid, padding_mode="border", align_corners=False)
    return Cases(
        pictures,
        layout.place,
        layout.style,
        row,
        slot,
        torch.cat((cut[:, :3] * cut[:, 3:], cut[:, 3:]), dim=1),
        cut[:, :3],
        layout.colour[row, slot],
        layout.shape[row, slot],
    )


def judging_loss(judge: Verdict, given: Cases) -> Float[Tensor, ""]:
    """The cross entropy of all four answers."""
    place, style = judge.whole(given.pictures).split((len(PLACES), len(STYLES)), dim=1)
    loss = cross_entropy(place, given.place) + cross_entropy(style, given.style)
    loss = loss + cross_entropy(judge.colour(given.masked), given.colour)
    return loss + cross_entropy(judge.shape(given.crop), given.shape)


@torch.no_grad()
def verdicts(judge: Verdict, given: Cases) -> dict[str, float]:
    """Shares of right answers, and of pictures with several things all coloured right."""
    judge.eval()
    place, style = judge.whole(given.pictures).split((len(PLACES), len(STYLES)), dim=1)
    colour = judge.colour(given.masked).argmax(1) == given.colour
    shape = judge.shape(given.crop).argmax(1) == given.shape
    several = torch.bincount(given.row, minlength=len(given.pictures)) >= 2
    wrong = torch.zeros(len(given.pictures)).index_add(0, given.row, (~colour).float())
    animal = given.shape >= 5
    figures = {
        "place": (place.argmax(1) == given.place).float().mean(),
        "style": (style.argmax(1) == given.style).float().mean(),
        "colour": colour.float().mean(),
        "colour of several": colour[several[given.row]].float().mean(),
        "all colours of several": (wrong == 0)[several].float().mean(),
        "shape": shape.float().mean(),
        "shape of animals": shape[animal].float().mean(),
    }
    return {name: float(value) for name, value in figures.items()}
