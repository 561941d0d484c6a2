"""Whole phases on the true shape of Stable Diffusion 2 depth, for a GPU: times, memory, FLOP/s.

Random weights take as long as trained ones. Tuning, inversion and sampling are the stages that the
commands run, with every step. With `--shape tiny` the same code runs anywhere, and its figures
mean nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.speed import figures, product, prompts, shapes
from benchmarks.speed.figures import Figure
from benchmarks.speed.settings import Settings
from dvcli.models import latents, load
from dvcli.recipes import Invert, Sample, Tune
from dvcli.runtime import Runtime

PART = "phases"
BARS = {
    "tune": 30.0,
    "invert and sample": 3.5,
    "peak, unconstrained": 12.0,
    "peak, low memory": 7.0,
}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What every figure here is about; `top` is the measured peak of the device, in TFLOP/s."""

    settings: Settings
    shape: shapes.Shape
    checkpoint: Path
    top: float
    bar: Callable[[str], float | None]


def measure(settings: Settings) -> list[Figure]:
    """Every figure of the phases on this device."""
    shape = shapes.SHAPES["tiny" if settings.shape == "tiny" else "sd2"]
    top = matmul_peak(settings, 8192 if settings.device.startswith("cuda") else 256)
    about = Measured(
        settings=settings,
        shape=shape,
        checkpoint=product.checkpoint(settings, shape),
        top=max(top),
        bar=BARS.get if shape is shapes.SHAPES["sd2"] else _none,
    )
    found = [figures.of(PART, f"matmul peak, {settings.dtype}", top, "TFLOP/s")]
    for name, low in (("unconstrained", False), ("low memory", True)):
        runtime = Runtime(device=settings.device, memory="low" if low else "auto")
        found += steps(about, name, runtime)
        found += tuning(about, name, low=low)
    return found + sampling(about)


def _none(name: str) -> None:
    """No bar: those are about the true shape."""


def matmul_peak(settings: Settings, side: int) -> list[float]:
    """TFLOP/s of one large product of square matrices in the dtype of the weights."""
    a = torch.randn(side, side, device=settings.device).to(settings.torch_dtype)
    arms = {"matmul": lambda: settings.wait(a @ a)}
    taken = figures.turns(arms, max(settings.repeat, 5), settings.clock)
    return [2 * side**3 / seconds / 1e12 for seconds in taken["matmul"]]


def steps(about: Measured, name: str, runtime: Runtime) -> list[Figure]:
    """A tuning step's time and FLOP/s, and how soon the host has its hands free again."""
    settings, shape = about.settings, about.shape
    product.fresh(settings)
    net = shapes.ours(shape, settings.torch_dtype, settings.device)
    given = shapes.inputs(shape, settings.device)
    count = settings.repeat + settings.uncounted
    work = shapes.our_steps(net, given, count, runtime, by=shapes.recorder(runtime))
    timed = [settings.timed(lambda: next(work)) for _ in range(count)][settings.uncounted :]
    flops = _flops(lambda: next(shapes.our_steps(net, given, 1, runtime, by=None)))
    rates = [flops / whole / 1e12 for _, whole in timed]
    shares = [100 * rate / about.top for rate in rates]
    return [
        figures.of(PART, f"tuning step, {name}", [whole for _, whole in timed], "s"),
        figures.of(
            PART,
            f"host time per step, {name}",
            [host for host, _ in timed],
            "s",
            note="until the call returns",
        ),
        Figure(part=PART, name=f"work of a step, {name}", value=flops / 1e12, unit="TFLOP"),
        figures.of(PART, f"achieved, {name}", rates, "TFLOP/s"),
        figures.of(PART, f"share of the matmul peak, {name}", shares, "%"),
    ]


def tuning(about: Measured, name: str, *, low: bool) -> list[Figure]:
    """All steps of tuning, once, their memory, and whether they were replayed."""
    product.fresh(about.settings)
    work = product.workspace(about.settings, low=low)
    recipe = product.tune(work, about.checkpoint, about.shape, about.shape.tune)
    with product.taped() as tapes:
        phase = work.make(recipe, "tune")
    return [
        Figure(
            part=PART,
            name=f"tune {recipe.steps}, {name}",
            value=phase.seconds,
            unit="s",
            bar=None if low else about.bar("tune"),
            note="every step, one run",
        ),
        recorded(f"tune, {name}", tapes),
        *peaks(about, name, phase),
    ]


def sampling(about: Measured) -> list[Figure]:
    """Inversion, sampling with guidance and decoding, each whole, and what recording them takes."""
    settings, shape = about.settings, about.shape
    work = product.workspace(settings)
    tuned = product.tune(work, about.checkpoint, shape, shape.tune)
    inverted = Invert(tuned=tuned, steps=shape.invert, dtype=tuned.dtype)
    rounds = max(1, min(settings.repeat, 3)) + 1  # of which the first is not counted
    back = [_taped(work, inverted) for _ in range(rounds)][1:]
    asked = [
        Sample(inverted=inverted, prompt=prompt, dtype=tuned.dtype)
        for prompt in prompts.PROMPTS[:rounds]
    ]
    onward = [_taped(work, recipe) for recipe in asked][1:]
    work.runtime.shelf.clear()
    there, on = [phase.seconds for phase, _ in back], [phase.seconds for phase, _ in onward]
    both = [i + s for i, s in zip(there, on, strict=True)]
    flops = forward(about)
    rates = [(shape.invert + 2 * shape.sample) * flops / s / 1e12 for s in both]
    shares = [100 * rate / about.top for rate in rates]
    return [
        figures.of(PART, f"invert {shape.invert}", there, "s"),
        recorded("invert", back[-1][1]),
        figures.of(PART, f"sample {shape.sample} with guidance", on, "s"),
        recorded("sample, a prompt", onward[-1][1]),
        figures.of(PART, "of which recording, a prompt", [t.seconds for _, t in onward], "s"),
        figures.of(PART, "invert and sample", both, "s", bar=about.bar("invert and sample")),
        *decoding(about, tuned, work.runtime),
        Figure(part=PART, name="work of a forward", value=flops / 1e12, unit="TFLOP"),
        figures.of(PART, "achieved, invert and sample", rates, "TFLOP/s"),
        figures.of(PART, "share of the matmul peak, invert and sample", shares, "%"),
        *peaks(about, "sample", onward[-1][0]),
    ]


def _taped(work: product.Timed, recipe: Invert | Sample) -> tuple[product.Phase, product.Taped]:
    """The phase that the stage is named after, and what of it was recorded."""
    with product.taped() as tapes:
        return work.make(recipe, recipe.stage), tapes


def decoding(about: Measured, tuned: Tune, runtime: Runtime) -> list[Figure]:
    """Latents to frames, as many at a time as the stage decodes."""
    settings = about.settings
    vae = load.vae(about.checkpoint / "vae", tuned.dtype, settings.device)
    x = shapes.inputs(about.shape, settings.device).latents
    arms = {"decode": lambda: settings.wait(latents.decode(vae, x, runtime.frame_chunk))}
    taken = figures.turns(arms, max(1, min(settings.repeat, 3)), settings.clock)["decode"]
    return [figures.of(PART, f"decode {about.shape.frames} frames", taken, "s")]


def forward(about: Measured) -> float:
    """FLOP of one call of the network for the clip."""
    settings = about.settings
    product.fresh(settings)
    net = shapes.ours(about.shape, settings.torch_dtype, settings.device)
    given = shapes.inputs(about.shape, settings.device)
    with torch.no_grad():
        return _flops(lambda: shapes.our_call(net, given.latents, 500, given))


def recorded(what: str, tapes: product.Taped) -> Figure:
    """How many CUDA graphs that made, and whether any."""
    return Figure(
        part=PART, name=f"recorded, {what}", value=tapes.made, unit="graphs", note=tapes.word
    )


def peaks(about: Measured, name: str, phase: product.Phase) -> list[Figure]:
    """The most memory of the steps of a phase: in tensors, and as the allocator took it."""
    on_cuda = about.settings.device.startswith("cuda")
    used = Figure(
        part=PART,
        name=f"peak, {name}",
        value=phase.peak.used / 1e9,
        unit="GB",
        bar=about.bar(f"peak, {name}"),
        note="" if on_cuda else "of the whole process",
    )
    if phase.peak.reserved is None:
        return [used]
    return [
        used,
        Figure(
            part=PART, name=f"peak reserved, {name}", value=phase.peak.reserved / 1e9, unit="GB"
        ),
    ]


def _flops(work: Callable[[], Any]) -> float:
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())
