"""Our network against the plain image U-Net on the same number of frames: the lower bound."""

from collections.abc import Callable

import torch

from benchmarks.speed import figures, shapes
from benchmarks.speed.figures import Figure
from benchmarks.speed.settings import Settings

PART = "network"
BARS = {"forward": 1.10, "train step": 1.15}


def measure(settings: Settings) -> list[Figure]:
    """Forward and train step of ours and of the plain network, and their ratios."""
    barred = settings.shape == "shaped" and settings.device == "cpu"  # what the bars are about
    found: list[Figure] = []
    for what, arms in (("forward", forwards), ("train step", steps)):
        taken = figures.turns(arms(settings), settings.repeat, settings.clock)
        found += [figures.of(PART, f"{what}, {name}", taken[name], "s") for name in taken]
        ours, plain = taken.values()
        bar = BARS[what] if barred else None
        found.append(figures.ratio(PART, f"{what}, ours / plain 2-D", ours, plain, bar=bar))
    return found


def forwards(settings: Settings) -> dict[str, Callable[[], None]]:
    """One call of each network without gradient."""
    shape = shapes.SHAPES[settings.shape]
    given = shapes.inputs(shape, settings.device)
    ours = shapes.ours(shape, settings.torch_dtype, settings.device)
    plain = shapes.plain(shape, settings.torch_dtype, settings.device)

    @torch.no_grad()
    def mine() -> None:
        settings.wait(shapes.our_call(ours, given.latents, 500, given))

    @torch.no_grad()
    def theirs() -> None:
        settings.wait(shapes.plain_call(plain, given.latents, 500, given))

    return {"ours": mine, "plain 2-D": theirs}


def steps(settings: Settings) -> dict[str, Callable[[], None]]:
    """One step of tuning ours, which trains queries and temporal layers, and the plain queries."""
    shape = shapes.SHAPES[settings.shape]
    given, count = shapes.inputs(shape, settings.device), settings.repeat + 1
    ours = shapes.ours(shape, settings.torch_dtype, settings.device)
    plain = shapes.plain(shape, settings.torch_dtype, settings.device)
    mine = shapes.our_steps(ours, given, count)
    theirs = shapes.plain_steps(plain, given, count)
    return {
        "ours": lambda: settings.wait(next(mine)),
        "plain 2-D": lambda: settings.wait(next(theirs)),
    }
