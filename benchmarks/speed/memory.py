"""What `--memory low` saves and costs: its tuning step against one that keeps everything.

Each measurement is a process of its own, whose peak no other work has raised.
"""

import argparse
import json
import resource
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.speed import figures
from benchmarks.speed.figures import Figure
from benchmarks.speed.settings import Settings, take

PART = "memory"
BARS = {"peak": 0.62, "time": 1.35}
COUNTED = 3  # steps


def measure(settings: Settings) -> list[Figure]:
    """Peak memory and time of a step at `--memory low` and with nothing saved, and their ratios."""
    barred = settings.shape == "shaped" and settings.device == "cpu"
    peaks: dict[str, list[float]] = {"low": [], "none": []}
    times: dict[str, list[float]] = {"low": [], "none": []}
    reserved: dict[str, list[float]] = {"low": [], "none": []}
    for _ in range(max(1, min(settings.repeat, 3))):
        for level in peaks:
            told = json.loads(
                settings.python(
                    "-m", "benchmarks.speed.memory",
                    "--shape", settings.shape,
                    "--level", level,
                    "--device", settings.device,
                    "--dtype", settings.dtype,
                    "--threads", str(settings.threads),
                )
            )  # fmt: skip
            peaks[level].append(told["used"] / 1e9)
            if told["reserved"] is not None:
                reserved[level].append(told["reserved"] / 1e9)
            times[level].append(min(told["seconds"]))
    names = {"low": "low memory", "none": "no recomputation"}
    found = [figures.of(PART, f"peak, {name}", peaks[level], "GB") for level, name in names.items()]
    found += [
        figures.of(PART, f"peak reserved, {name}", reserved[level], "GB")
        for level, name in names.items()
        if reserved[level]
    ]
    found += [figures.of(PART, f"step, {name}", times[level], "s") for level, name in names.items()]
    return [
        *found,
        figures.ratio(
            PART,
            "peak, low / no recomputation",
            peaks["low"],
            peaks["none"],
            bar=BARS["peak"] if barred else None,
        ),
        figures.ratio(
            PART,
            "time, low / no recomputation",
            times["low"],
            times["none"],
            bar=BARS["time"] if barred else None,
        ),
    ]


@dataclass(frozen=True, kw_only=True)
class Peak:
    """The most bytes that were held: on a GPU in tensors and by torch's allocator, else by the
    process."""

    used: int
    reserved: int | None = None


def peak(device: str) -> Peak:
    """The most that this process has held, on a GPU since that was last reset."""
    if device.startswith("cuda"):
        import torch

        return Peak(
            used=torch.cuda.max_memory_allocated(), reserved=torch.cuda.max_memory_reserved()
        )
    return Peak(used=_resident())


def _resident() -> int:
    try:
        # getrusage would tell of the parent, whose memory is shared until the new program starts.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def main() -> None:
    """One arm: a few steps as the stage takes them, then their peak and seconds as JSON."""
    parser = argparse.ArgumentParser()
    for name in ("shape", "level", "device", "dtype"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--threads", type=int, required=True)
    asked = parser.parse_args()
    import torch

    from benchmarks.speed import shapes
    from dvcli.runtime import Runtime

    settings = Settings(
        shape=asked.shape,
        device=asked.device,
        dtype=asked.dtype,
        threads=asked.threads,
        repeat=COUNTED,
        folder=Path(),
    )
    take(settings.device, settings.threads)
    shape = shapes.SHAPES[settings.shape]
    if asked.level == "low":
        runtime = Runtime(device=settings.device, memory="low")
    else:
        runtime = Runtime(device=settings.device, checkpoint_grad="off")
    net = shapes.ours(shape, settings.torch_dtype, settings.device)
    given = shapes.inputs(shape, settings.device)
    if settings.device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()  # what making the network took is no part of it
    count = settings.uncounted + settings.repeat
    steps = shapes.our_steps(net, given, count, runtime, by=shapes.recorder(runtime))
    seconds = [settings.timed(lambda: next(steps))[1] for _ in range(count)]
    told = {**asdict(peak(settings.device)), "seconds": seconds[settings.uncounted :]}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
