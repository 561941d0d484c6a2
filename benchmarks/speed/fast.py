"""What `--fast` gains, each thing alone and all together, and what calls side by side gain.

On a CPU the random network works on latents of half the side, so that it takes minutes.
"""

from dataclasses import replace
from functools import partial

import torch

from benchmarks.speed import figures, product, prompts, shapes
from benchmarks.speed.figures import Figure
from benchmarks.speed.settings import Settings
from dvcli import fast
from dvcli.core import unet
from dvcli.recipes import Invert, Sample

PART = "fast"


def measure(settings: Settings) -> list[Figure]:
    """Sampling of the random network, its calls side by side, and the built-in model's commands."""
    shape = shapes.SHAPES[settings.shape]
    if settings.device == "cpu" and settings.shape != "tiny":
        shape = replace(shape, side=shape.side // 2)
    return [*calls(settings, shape), *sampling(settings, shape), *commands(settings)]


@torch.no_grad()
def calls(settings: Settings, shape: shapes.Shape) -> list[Figure]:
    """Seconds a clip in calls of one, two and four clips: guidance, then two prompts with it."""
    net = shapes.ours(shape, settings.torch_dtype, settings.device)
    given = shapes.inputs(shape, settings.device)

    def call(clips: int) -> None:
        x, text = (tensor.expand(clips, *tensor.shape) for tensor in (given.latents, given.text))
        for _ in range(4 // clips):
            settings.wait(unet.predict_batch(net, x, 500, text, given.depth))

    arms = {str(clips): partial(call, clips) for clips in (1, 2, 4)}
    taken = figures.turns(arms, settings.repeat, settings.clock)
    return [
        figures.ratio(PART, "guidance in one batch / in turn", taken["2"], taken["1"]),
        figures.ratio(PART, "and two prompts in one batch / in turn", taken["4"], taken["2"]),
    ]


def sampling(settings: Settings, shape: shapes.Shape) -> list[Figure]:
    """The stage's sampling of an untuned network, from noise, by each thing that `--fast` does."""
    many, few = shape.sample, min(fast.STEPS, max(shape.sample // 2, 1))
    work = product.workspace(settings)
    tuned = product.tune(work, product.checkpoint(settings, shape), shape, 0)

    def recipe(steps: int, until: float, every: int) -> Sample:
        return Sample(
            inverted=Invert(tuned=tuned, steps=steps, dtype=tuned.dtype),
            prompt=prompts.PROMPTS[0],
            guidance_until=until,
            reuse=every,
            start="noise",
            dtype=tuned.dtype,
        )

    ways = {
        "plain": recipe(many, Sample.guidance_until, Sample.reuse),
        f"{few} steps for {many}": recipe(few, Sample.guidance_until, Sample.reuse),
        f"guidance until {fast.GUIDANCE_UNTIL:g}": recipe(many, fast.GUIDANCE_UNTIL, Sample.reuse),
        f"features of {fast.REUSE} steps": recipe(many, Sample.guidance_until, fast.REUSE),
        "all of it": recipe(few, fast.GUIDANCE_UNTIL, fast.REUSE),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for counted in range(max(1, min(settings.repeat, 3)) + 1):
        for name, way in ways.items():
            seconds = work.make(way, "sample").seconds
            if counted:
                taken[name].append(seconds)
    whole = taken.pop("plain")
    return [
        figures.of(PART, f"sample {many} with guidance", whole, "s"),
        *(figures.ratio(PART, f"{name} / plain", some, whole) for name, some in taken.items()),
    ]


def commands(settings: Settings) -> list[Figure]:
    """`dvid sample` on the built-in model with and without `--fast`, inverted and tuned before."""
    prompts.tuned(settings)
    quick: list[float] = []
    whole: list[float] = []
    steps = str(fast.STEPS + 2 if settings.shape == "tiny" else Invert.steps)
    settings.dvid("invert", "clip", "--steps", steps, "-q")
    settings.dvid("sample", "clip", "-p", "a cat", "--fast", "-q")
    for turn in range(max(1, min(settings.repeat, 3))):
        for taken, more in ((whole, []), (quick, ["--fast"])):
            taken.append(_seconds(settings, str(4 + turn / 10), *more))
    return [
        figures.of(PART, "prompt 2 on the built-in model", whole, "s"),
        figures.of(PART, "the same, --fast", quick, "s"),
        figures.ratio(PART, "the same, --fast / plain", quick, whole),
    ]


def _seconds(settings: Settings, guidance: str, *more: str) -> float:
    """What the second of two prompts took, as the store has it."""
    words = [word for prompt in prompts.PROMPTS[:2] for word in ("-p", prompt)]
    settings.dvid("sample", "clip", "--guidance", guidance, "-q", *more, *words)
    from dvcli.store import Store

    store = Store.open(settings.folder / "home" / "cache")
    made = [entry for entry in store.entries() if entry.stage == "sample"]
    last = max(made, key=lambda entry: entry.created)
    return float(str(last.info["seconds"]))
