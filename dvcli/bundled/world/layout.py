"""Where things stand: scenes drawn from seeds, laid out as arrays that render in one go.

The camera looks over a ground plane: a thing at distance `z` meets the ground `FOCUS / z` pixels
under the horizon, so a nearer thing stands lower and is drawn larger. Everything a scene is comes
from its seed alone, whatever the batch it is drawn in.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dvcli.bundled.world.sprites import VIEWS
from dvcli.bundled.world.words import (
    COLOURS,
    NATURAL,
    PLACES,
    SHAPES,
    STYLES,
    Scene,
    Thing,
    sentences,
)

SIDE = 64
FOCUS = 30.0
SLOTS = 3
HELD_OUT = 2**40  # seeds from here on are kept for evaluation: nothing is ever trained on them
TEXTURES = 24  # how many noise and stroke fields there are to choose from

# One, two one before the other, two side by side, three, a parent with her young.
EVERYDAY = (0.20, 0.42, 0.12, 0.10, 0.16)
BINDING = (0.08, 0.70, 0.10, 0.06, 0.06)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A batch of scenes as arrays: `n` scenes of up to three things, listed front to back.

    `x` and `pixels` are in pixels of a 64-pixel picture, `z` in camera distances. Slots from
    `count` on are empty. `turn` mirrors a thing; `light` is where the light comes from, left < 0.
    """

    count: Int[Tensor, " n"]
    shape: Int[Tensor, "n 3"]
    colour: Int[Tensor, "n 3"]
    view: Int[Tensor, "n 3"]
    turn: Int[Tensor, "n 3"]
    x: Float[Tensor, "n 3"]
    z: Float[Tensor, "n 3"]
    pixels: Float[Tensor, "n 3"]
    place: Int[Tensor, " n"]
    style: Int[Tensor, " n"]
    horizon: Float[Tensor, " n"]
    light: Float[Tensor, " n"]
    texture: Int[Tensor, " n"]
    shift: Float[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.count)

    def __getitem__(self, rows: slice | Tensor) -> "Layout":
        return Layout(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def painted(self, style: str) -> "Layout":
        """The same scenes in another style."""
        return replace(self, style=torch.full_like(self.style, STYLES.index(style)))


def together(layouts: Sequence[Layout]) -> Layout:
    """All scenes of the layouts in one, in their order."""
    names = [f.name for f in fields(Layout)]
    return Layout(**{name: torch.cat([getattr(one, name) for one in layouts]) for name in names})


def held_out(count: int, start: int = 0) -> range:
    """Seeds reserved for evaluation."""
    return range(HELD_OUT + start, HELD_OUT + start + count)


def _things(rng: np.random.Generator, kind: int) -> tuple[Thing, ...]:
    count = (1, 2, 2, 3, 1)[kind]
    colours = [COLOURS[i] for i in rng.permutation(len(COLOURS))]
    things: list[Thing] = []
    for _ in range(count):
        animal = rng.random() < (1.0 if kind == 4 else 0.5)
        shape = SHAPES[int(rng.integers(5)) + 5 * animal]
        wanted = NATURAL.get(shape, "")
        if shape == "bear" and rng.random() < 0.4:
            wanted = "white"
        if not (animal and rng.random() < 0.5 and wanted in colours):
            wanted = colours[0]
        colours.remove(wanted)
        things.append(Thing(shape=shape, colour=wanted))
    if kind == 4:
        things *= 2 + int(rng.random() < 0.5)
    return tuple(things)


def draw(seed: int, mix: Sequence[float] = EVERYDAY) -> Scene:
    """The scene of a seed; `mix` weighs the five kinds of arrangement."""
    rng = np.random.default_rng((seed, 0))
    kind = int(np.searchsorted(np.cumsum(mix), rng.random() * sum(mix), side="right"))
    return Scene(
        things=_things(rng, kind),
        place=PLACES[int(rng.integers(len(PLACES)))],
        style=STYLES[int(rng.integers(len(STYLES)))],
        relation=("front", "front", "beside", "front", "family")[kind],
    )


def _abreast(rng: np.random.Generator, sizes: list[float], overlap: float) -> list[float]:
    """Horizontal places from left to right, neighbours overlapping by at most `overlap`."""
    gaps = [(a + b) / 2 * (1 - overlap) for a, b in itertools.pairwise(sizes)]
    width = sizes[0] / 2 + sum(gaps) + sizes[-1] / 2
    scale = min(1.0, (SIDE + 6) / width)
    left = -3 + sizes[0] / 2 + rng.random() * max(0.0, SIDE + 6 - width)
    xs = [left]
    for gap in gaps:
        xs.append(xs[-1] + gap * scale)
    return xs


def _stand(rng: np.random.Generator, scene: Scene) -> tuple[list[float], list[float], list[float]]:
    """`x`, `z` and pixel sizes of a scene's things."""
    count = len(scene.things)
    if count == 1:
        size = rng.uniform(30, 44)
        return [rng.uniform(size / 2 - 2, SIDE + 2 - size / 2)], [rng.uniform(0.95, 1.3)], [size]
    if scene.relation == "family":
        parent = rng.uniform(30, 36)
        young = [parent * rng.uniform(0.55, 0.65) for _ in range(count - 1)]
        z = [1.25, *(rng.uniform(0.94, 1.0) for _ in young)]
        if count == 2:
            sizes = [parent, *young]
            side = int(rng.integers(2))
            xs = _abreast(rng, sizes[:: -1 if side else 1], 0.25)
            return xs[:: -1 if side else 1], z, sizes
        xs = _abreast(rng, [young[0], parent, young[1]], 0.30)
        return [xs[1], xs[0], xs[2]], z, [parent, *young]
    if scene.relation == "beside":
        sizes = [rng.uniform(26, 31) for _ in range(2)]
        return _abreast(rng, sizes, 0.0), [rng.uniform(1.0, 1.2)] * 2, sizes
    sizes = (
        [rng.uniform(26, 34), rng.uniform(24, 31)]
        if count == 2
        else [rng.uniform(23, 27), rng.uniform(22, 25), rng.uniform(20, 23)]
    )
    z = [rng.uniform(0.95, 1.08), rng.uniform(1.4, 1.75), rng.uniform(2.1, 2.5)][:count]
    order = rng.permutation(count)
    xs = _abreast(rng, [sizes[i] for i in order], rng.uniform(0.0, 0.38))
    return [xs[list(order).index(i)] for i in range(count)], z, sizes


def _padded(values: Sequence[float]) -> list[float]:
    return [*values, *([1.0] * (SLOTS - len(values)))]


def lay(scenes: Sequence[Scene], seeds: Sequence[int]) -> Layout:
    """The layout of scenes, each stood up by its own seed; place and style must be said.

    In a family the young stand before the parent; slots keep the order of `scene.things`.
    """
    ints: dict[str, list[list[int]]] = {k: [] for k in ("shape", "colour", "view", "turn")}
    floats: dict[str, list[list[float]]] = {k: [] for k in ("x", "z", "pixels")}
    whole: list[list[float]] = []
    for scene, seed in zip(scenes, seeds, strict=True):
        rng = np.random.default_rng((seed, 1))
        x, z, pixels = _stand(rng, scene)
        pad = SLOTS - len(scene.things)
        views, turns = rng.integers(VIEWS, size=SLOTS), rng.integers(2, size=SLOTS)
        if scene.relation == "family":
            turns[:] = turns[0]
        ints["shape"].append([SHAPES.index(t.shape) for t in scene.things] + [0] * pad)
        ints["colour"].append([COLOURS.index(t.colour) for t in scene.things] + [0] * pad)
        ints["view"].append(views.tolist())
        ints["turn"].append(turns.tolist())
        floats["x"].append(_padded(x))
        floats["z"].append(_padded(z))
        floats["pixels"].append(_padded(pixels))
        light = rng.uniform(0.3, 0.7) * (1 if rng.random() < 0.5 else -1)
        whole.append(
            [rng.uniform(22, 29), light, float(rng.integers(TEXTURES)), float(rng.integers(SIDE))]
        )
    table = torch.tensor(whole)
    return Layout(
        count=torch.tensor([len(scene.things) for scene in scenes]),
        **{key: torch.tensor(rows) for key, rows in ints.items()},
        **{key: torch.tensor(rows) for key, rows in floats.items()},
        place=torch.tensor([PLACES.index(scene.place or "grass") for scene in scenes]),
        style=torch.tensor([STYLES.index(scene.style or "photorealism") for scene in scenes]),
        horizon=table[:, 0].round(),
        light=table[:, 1],
        texture=table[:, 2].long(),
        shift=table[:, 3],
    )


def said(scene: Scene, seed: int, plain: float = 0.7) -> str:
    """A caption of the scene, the canonical one with chance `plain`, else any that means it."""
    rng = np.random.default_rng((seed, 2))
    ways = sentences(scene)
    return ways[0] if rng.random() < plain else ways[int(rng.integers(len(ways)))]
