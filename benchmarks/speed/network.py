"""Our network against the plain image U-Net on the same number of frames: the lower bound."""

from collections.abc import Callable
from dataclasses import replace

import torch

from benchmarks.speed import figures, shapes
from benchmarks.speed.figures import Figure
from benchmarks.speed.settings import Settings
from dvcli.core import graphs, unet
from dvcli.runtime import Runtime

PART = "network"
BARS = {"forward": 1.10, "train step": 1.15}


def measure(settings: Settings) -> list[Figure]:
    """Forward and train step of ours and of the plain network, and their ratios.

    Both as they are called; where a device records, ours replayed comes beside them. On a GPU
    that is asked about Stable Diffusion 2's shape the small one is measured, too.
    """
    small = settings.shape == "sd2" and settings.device.startswith("cuda")
    also = compared(replace(settings, shape="shaped"), ", shaped") if small else []
    return compared(settings, "") + also


def compared(settings: Settings, of: str) -> list[Figure]:
    """The figures of one shape, whose names end in `of`."""
    barred = settings.shape == "shaped" and settings.device == "cpu"  # what the bars are about
    found: list[Figure] = []
    for what, arms in (("forward", forwards), ("train step", steps)):
        taken = figures.turns(
            arms(settings), settings.repeat, settings.clock, uncounted=settings.uncounted
        )
        plain = taken["plain 2-D"]
        found += [figures.of(PART, f"{what}, {name}{of}", taken[name], "s") for name in taken]
        found += [
            figures.ratio(
                PART,
                f"{what}, {name} / plain 2-D{of}",
                seconds,
                plain,
                bar=BARS[what] if barred and name == "ours" else None,
            )
            for name, seconds in taken.items()
            if seconds is not plain
        ]
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

    arms = {"ours": mine, "plain 2-D": theirs}
    by = shapes.recorder(Runtime(device=settings.device))
    if by is None:
        return arms
    replayed = unet.bind(ours, given.text, given.depth, given.schedule, by=by)
    return {**arms, "ours, replayed": lambda: settings.wait(replayed(given.latents, 500))}


def steps(settings: Settings) -> dict[str, Callable[[], None]]:
    """One step of tuning ours, which trains queries and temporal layers, and the plain queries."""
    shape = shapes.SHAPES[settings.shape]
    given = shapes.inputs(shape, settings.device)
    count = settings.repeat + settings.uncounted
    plain = shapes.plain(shape, settings.torch_dtype, settings.device)
    runtime = Runtime(device=settings.device, checkpoint_grad="off")
    by = shapes.recorder(runtime)

    def ours(recorder: graphs.Recorder | None) -> Callable[[], None]:
        net = shapes.ours(shape, settings.torch_dtype, settings.device)
        taken = shapes.our_steps(net, given, count, runtime, by=recorder)
        return lambda: settings.wait(next(taken))

    theirs = shapes.plain_steps(plain, given, count)
    arms = {"ours": ours(None), "plain 2-D": lambda: settings.wait(next(theirs))}
    return arms if by is None else {**arms, "ours, replayed": ours(by)}
