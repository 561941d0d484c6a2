"""What a command costs before it does anything: help, a full cache hit, the first step of tuning.

Commands are compared by processor seconds, which other work on the machine hardly changes; the
seconds on the clock stand beside them. What comes before the first step is on the clock on a GPU,
which processor seconds know nothing of.
"""

import argparse
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.speed import figures, prompts
from benchmarks.speed.figures import Figure
from benchmarks.speed.settings import Settings, take

PART = "start-up"
YARDSTICK = "import typer, rich"
WAKING = "wake the device"
HIT_RATIO, HIT_SECONDS = 4.0, 0.6


def measure(settings: Settings) -> list[Figure]:
    """Each command over the yardstick, then what comes before the first step of tuning."""
    prompts.tuned(settings)
    words = ("sample", "clip", "--guidance", "4", "-q", "-p", prompts.PROMPTS[0])
    settings.dvid(*words)
    sample = ("-m", "dvcli", *words, *settings.on_device)
    arms = {
        YARDSTICK: ("-c", YARDSTICK),
        "dvid --help": ("-m", "dvcli", "--help"),
        "dvid sample, full cache hit": sample,
        "dvid runs": ("-m", "dvcli", "runs"),
    }
    spent: dict[str, list[float]] = {name: [] for name in arms}
    clock: dict[str, list[float]] = {name: [] for name in arms}
    for counted in range(settings.repeat + 1):
        for name, arguments in arms.items():
            processor, seconds = cost(settings, arguments)
            if counted:
                spent[name].append(processor)
                clock[name].append(seconds)
    found = [figures.of(PART, f"{name}, processor", spent[name], "s") for name in arms]
    for name in arms:
        if name != YARDSTICK:
            hit = "hit" in name
            bar = HIT_RATIO if hit else None
            found += [
                figures.ratio(PART, f"{name} / {YARDSTICK}", spent[name], spent[YARDSTICK], bar=bar)
            ]
            limit = HIT_SECONDS if hit else None
            found += [figures.of(PART, f"{name}, clock", clock[name], "s", bar=limit)]
    return found + first_step(settings)


def cost(settings: Settings, arguments: tuple[str, ...]) -> tuple[float, float]:
    """Processor seconds and seconds of a Python process."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    settings.python(*arguments)
    seconds, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, seconds


def first_step(settings: Settings) -> list[Figure]:
    """Where the seconds before the first step of tuning go, in order."""
    options = (*settings.on_device, "--threads", str(settings.threads))
    rounds: list[dict[str, float]] = [
        json.loads(settings.python("-m", "benchmarks.speed.startup", *options))
        for _ in range(max(1, min(settings.repeat, 3)))
    ]
    return [
        figures.of(PART, f"first step: {name}", [r[name] for r in rounds], "s")
        for name in rounds[0]
    ]


def main() -> None:
    """One process that does what tuning does up to its first step, and times each part."""
    taken: dict[str, float] = {"python": time.process_time()}
    parser = argparse.ArgumentParser()
    for name in ("device", "dtype"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--threads", type=int, required=True)
    asked = parser.parse_args()
    device, dtype = asked.device, asked.dtype
    clock = time.process_time if device == "cpu" else time.perf_counter
    settings = Settings(
        shape="tiny", device=device, dtype=dtype, threads=asked.threads, repeat=1, folder=Path()
    )

    def part(name: str, work: Callable[[], object]) -> object:
        begun = clock()
        result = work()
        if name == WAKING or WAKING in taken:  # to wait is to wake it
            settings.wait(result)
        taken[name] = clock() - begun
        return result

    def stages() -> None:
        import dvcli.stages.tune  # noqa: F401

    def command_line() -> None:
        import dvcli.cli.main  # noqa: F401

    def torch() -> None:
        import torch  # noqa: F401

    def numbers() -> None:
        from diffusers import UNet2DConditionModel  # noqa: F401

    def text() -> None:
        from transformers import CLIPTextModel, CLIPTokenizer  # noqa: F401

    def autoencoder() -> None:
        from diffusers import AutoencoderKL  # noqa: F401

    part("import the command line", command_line)
    part("import torch", torch)
    part("import diffusers' UNet", numbers)
    part("import diffusers' VAE", autoencoder)
    part("import transformers' CLIP", text)
    part("import the stage", stages)
    import torch as t

    import dvcli
    from dvcli.core import ddim, tuning, unet
    from dvcli.models import load
    from dvcli.recipes import Tune
    from dvcli.runtime import Runtime
    from dvcli.stages import network

    tiny = Path(dvcli.__file__).parent / "bundled" / "tiny"
    take(device, asked.threads)
    part(WAKING, lambda: t.zeros(1, device=device))
    vae = part("load the VAE", lambda: load.vae(tiny / "vae", dtype, device))
    part("load the tokenizer", lambda: load.tokenizer(tiny / "tokenizer"))
    part("load the text encoder", lambda: load.text_encoder(tiny / "text_encoder", dtype, device))
    net: Any = part("load the U-Net", lambda: load.unet(tiny / "unet", dtype, device))
    assert vae is not None
    part("inflate", lambda: unet.inflate(net, t.Generator().manual_seed(0)))
    plan = ddim.schedule(load.scheduler_config(tiny / "scheduler"), 1)
    x, depth = t.zeros(8, 4, 16, 16, device=device), t.zeros(8, 1, 16, 16, device=device)
    words = t.zeros(77, net.config.cross_attention_dim, device=device)
    steps = tuning.train(
        net,
        x,
        depth,
        words,
        plan,
        steps=2,
        lr=Tune.lr,
        weight_decay=Tune.weight_decay,
        grad_clip=Tune.grad_clip,
        temporal_weight=Tune.temporal_weight,
        temporal_target=Tune.temporal_target,
        seed=Tune.seed,
        by=network.recorder(Runtime(device=device)),
    )
    part("the first step", lambda: next(steps))
    part("the second step", lambda: next(steps))
    print(json.dumps(taken))


if __name__ == "__main__":
    main()
