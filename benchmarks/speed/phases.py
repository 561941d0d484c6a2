"""Whole phases on the true shape of Stable Diffusion 2 depth, for a GPU: times, memory, FLOP/s.

Random weights take as long as trained ones. Tuning is measured on a few steps and scaled; all else
is run whole. With `--shape tiny` the same code runs anywhere, and its figures mean nothing.
"""

import gc
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.speed import figures, memory, shapes
from benchmarks.speed.figures import Figure
from benchmarks.speed.settings import Settings
from dvcli.core import ddim, unet
from dvcli.models import latents
from dvcli.recipes import Sample

PART = "phases"
CHUNK = 4  # frames decoded at once
WARM = 5  # steps until kernels are chosen, memory is at hand and the step is recorded
BARS = {
    "tune": 30.0,
    "invert and sample": 3.5,
    "peak, unconstrained": 12.0,
    "peak, low memory": 7.0,
}


def measure(settings: Settings) -> list[Figure]:
    """Every figure of the three phases on this device."""
    shape = shapes.SHAPES["tiny" if settings.shape == "tiny" else "sd2"]
    bar = BARS.get if shape is shapes.SHAPES["sd2"] else _none
    top = matmul_peak(settings, 8192 if settings.device.startswith("cuda") else 256)
    found = [figures.of(PART, f"matmul peak, {settings.dtype}", top, "TFLOP/s")]
    for name, low in (("unconstrained", False), ("low memory", True)):
        found += tuning(settings, shape, name, low, max(top), bar)
    found += sampling(settings, shape, max(top), bar)
    return found


def _none(name: str) -> None:
    """No bar: those are about the true shape."""


def matmul_peak(settings: Settings, side: int) -> list[float]:
    """TFLOP/s of one large product of square matrices in the dtype of the weights."""
    a = torch.randn(side, side, device=settings.device).to(settings.torch_dtype)
    taken = figures.turns({"matmul": lambda: settings.wait(a @ a)}, max(settings.repeat, 5))
    return [2 * side**3 / seconds / 1e12 for seconds in taken["matmul"]]


def tuning(
    settings: Settings,
    shape: shapes.Shape,
    name: str,
    low: bool,
    top: float,
    bar: Callable[[str], float | None],
) -> list[Figure]:
    """A tuning step's time, memory and FLOP/s, the whole of tuning, and what the host has to do."""
    _fresh(settings)
    net = shapes.ours(shape, settings.torch_dtype, settings.device)
    given = shapes.inputs(shape, settings.device)
    count = settings.repeat + WARM
    steps = shapes.our_steps(net, given, count, low=low)
    seconds = [_timed(settings, lambda: next(steps)) for _ in range(count)][WARM:]
    held = memory.peak(settings.device)
    flops = _flops(lambda: next(shapes.our_steps(net, given, 1, low=low, replayed=False)))
    # Where the device has next to nothing to do, a step takes as long as the host does.
    few = shapes.inputs(_narrow(shape), settings.device)
    host = shapes.our_steps(net, few, count, low=low)
    hosted = [_timed(settings, lambda: next(host)) for _ in range(count)][WARM:]
    rates = [flops / s / 1e12 for s in seconds]
    return [
        figures.of(PART, f"tuning step, {name}", seconds, "s"),
        figures.of(
            PART,
            f"tune {shape.tune}, {name}",
            [s * shape.tune for s in seconds],
            "s",
            bar=None if low else bar("tune"),
            note=f"scaled from {len(seconds)} steps",
        ),
        Figure(
            part=PART,
            name=f"peak, {name}",
            value=held / 1e9,
            unit="GB",
            bar=bar(f"peak, {name}"),
            note="" if settings.device.startswith("cuda") else "of the whole process",
        ),
        Figure(part=PART, name=f"work of a step, {name}", value=flops / 1e12, unit="TFLOP"),
        figures.of(PART, f"achieved, {name}", rates, "TFLOP/s"),
        figures.of(PART, f"share of the matmul peak, {name}", [100 * r / top for r in rates], "%"),
        figures.of(
            PART, f"host time per step, {name}", hosted, "s", note="the same step, few latents"
        ),
    ]


@torch.no_grad()
def sampling(
    settings: Settings,
    shape: shapes.Shape,
    top: float,
    bar: Callable[[str], float | None],
) -> list[Figure]:
    """Inversion, sampling with guidance, and decoding, each whole."""
    _fresh(settings)
    net = shapes.ours(shape, settings.torch_dtype, settings.device)
    vae = shapes.decoder(shape, settings.torch_dtype, settings.device)
    back = shapes.inputs(shape, settings.device, shape.invert)
    onward = shapes.inputs(shape, settings.device, shape.sample)
    under = unet.bind(net, back.text, back.depth, back.schedule)
    cond = unet.bind(net, onward.text, onward.depth, onward.schedule)
    uncond = unet.bind(net, -onward.text, onward.depth, onward.schedule)
    guided = ddim.guide(cond, ddim.in_turn(cond, uncond), Sample.guidance)
    arms: dict[str, Callable[[], object]] = {
        "invert": lambda: _run(ddim.invert(under, back.latents, back.schedule)),
        "sample": lambda: _run(ddim.sample(guided, onward.latents, onward.schedule)),
        "decode": lambda: latents.decode(vae, onward.latents, CHUNK),
    }
    taken = figures.turns(
        {name: lambda work=work: settings.wait(work()) for name, work in arms.items()},  # type: ignore[misc]
        max(1, min(settings.repeat, 3)),
    )
    flops = _flops(lambda: under(back.latents, 500))
    both = [i + s for i, s in zip(taken["invert"], taken["sample"], strict=True)]
    calls = shape.invert + 2 * shape.sample
    rates = [calls * flops / s / 1e12 for s in both]
    return [
        figures.of(PART, f"invert {shape.invert}", taken["invert"], "s"),
        figures.of(PART, f"sample {shape.sample} with guidance", taken["sample"], "s"),
        figures.of(PART, "invert and sample", both, "s", bar=bar("invert and sample")),
        figures.of(PART, f"decode {shape.frames} frames", taken["decode"], "s"),
        Figure(part=PART, name="work of a forward", value=flops / 1e12, unit="TFLOP"),
        figures.of(PART, "achieved, invert and sample", rates, "TFLOP/s"),
        figures.of(
            PART, "share of the matmul peak, invert and sample", [100 * r / top for r in rates], "%"
        ),
        Figure(
            part=PART,
            name="peak, invert and sample",
            value=memory.peak(settings.device) / 1e9,
            unit="GB",
        ),
    ]


def _fresh(settings: Settings) -> None:
    """Nothing of what was measured before is held, or counted."""
    gc.collect()
    if settings.device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _timed(settings: Settings, work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    settings.wait(work())
    return time.perf_counter() - begun


def _flops(work: Callable[[], Any]) -> float:
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def _narrow(shape: shapes.Shape) -> shapes.Shape:
    from dataclasses import replace

    return replace(shape, side=2 ** (len(shape.channels) - 1))


def _run(clips: Any) -> Any:
    for clip in clips:
        last = clip
    return last
