"""What low memory saves and costs: a tuning step that recomputes all against one that keeps all.

Each measurement is a process of its own, whose peak no other work has raised.
"""

import argparse
import json
import resource
import sys
import time
from pathlib import Path

from benchmarks.speed import figures
from benchmarks.speed.figures import Figure
from benchmarks.speed.settings import Settings

PART = "memory"
BARS = {"peak": 0.62, "time": 1.35}


def measure(settings: Settings) -> list[Figure]:
    """Peak memory and time of a step with and without recomputation, and their ratios."""
    barred = settings.shape == "shaped" and settings.device == "cpu"
    peaks: dict[str, list[float]] = {"low": [], "none": []}
    times: dict[str, list[float]] = {"low": [], "none": []}
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
            peaks[level].append(told["peak"] / 1e9)
            times[level].append(min(told["seconds"]))
    names = {"low": "low memory", "none": "no recomputation"}
    found = [figures.of(PART, f"peak, {name}", peaks[level], "GB") for level, name in names.items()]
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


def peak(device: str) -> int:
    """The most bytes that this process has held: on a GPU there, else in memory."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated())
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
    """One arm: a few steps, then its peak and its seconds as JSON."""
    parser = argparse.ArgumentParser()
    for name in ("shape", "level", "device", "dtype"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--steps", type=int, default=4)
    asked = parser.parse_args()
    import torch

    from benchmarks.speed import shapes
    from dvcli.models.load import DTYPES

    torch.set_num_threads(asked.threads)
    shape = shapes.SHAPES[asked.shape]
    net = shapes.ours(shape, DTYPES[asked.dtype], asked.device)
    given = shapes.inputs(shape, asked.device)
    seconds = []
    alone = asked.device == "cpu" and asked.threads == 1  # as `Settings.clock` has it
    clock = time.process_time if alone else time.perf_counter
    begun = clock()
    for _ in shapes.our_steps(net, given, asked.steps, low=asked.level == "low"):
        if asked.device.startswith("cuda"):
            torch.cuda.synchronize()
        now = clock()
        seconds.append(now - begun)
        begun = now
    print(json.dumps({"peak": peak(asked.device), "seconds": seconds[1:]}))


if __name__ == "__main__":
    main()
