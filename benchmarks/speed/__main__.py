"""Run the parts that were asked for, print the table, write the JSON."""

import argparse
import importlib
import json
import tempfile
from pathlib import Path

import benchmarks.speed
from benchmarks.speed import figures
from benchmarks.speed.settings import Settings, surroundings, take

# In this order: memory and start-up are processes of their own and come before this one grows.
PARTS = ("startup", "prompts", "store", "memory", "network", "fast", "phases")


def main() -> None:
    """The whole benchmark."""
    form = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(
        "python -m benchmarks.speed", description=benchmarks.speed.__doc__, formatter_class=form
    )
    parser.add_argument("--only", help="parts, between commas: " + ", ".join(PARTS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument("--device", help="cpu, mps or cuda; cuda where there is one")
    parser.add_argument("--dtype", choices=("fp32", "bf16", "fp16"), help="of the frozen weights")
    parser.add_argument("--threads", type=int, help="of torch; as many as it takes by itself")
    parser.add_argument("--repeat", type=int, default=7, help="turns that are counted")
    parser.add_argument(
        "--shape",
        choices=("shaped", "sd2", "tiny"),
        help="of the random networks; sd2, Stable Diffusion 2's, on a GPU and shaped elsewhere",
    )
    asked = parser.parse_args()
    if asked.repeat < 1 or (asked.threads is not None and asked.threads < 1):
        parser.error("--repeat and --threads are 1 at least")
    named = _named(parser, asked.only)
    import torch

    device = asked.device or ("cuda" if torch.cuda.is_available() else "cpu")
    whole = device.startswith("cuda") or asked.shape == "tiny"
    if named is not None and "phases" in named and not whole:
        parser.error("`phases` is for a GPU; `--shape tiny` runs its code anywhere")
    chosen = named or tuple(part for part in PARTS if whole or part != "phases")
    threads = asked.threads or torch.get_num_threads()
    take(device, threads)
    with tempfile.TemporaryDirectory(prefix="dvid-speed-") as folder:
        settings = Settings(
            shape=asked.shape or ("sd2" if device.startswith("cuda") else "shaped"),
            device=device,
            dtype=asked.dtype or ("bf16" if device.startswith("cuda") else "fp32"),
            threads=threads,
            repeat=asked.repeat,
            folder=Path(folder),
        )
        told = surroundings(settings)
        for name, value in told.items():
            print(f"{name}: {value}")
        found: list[figures.Figure] = []
        for part in chosen:
            print(f"measuring {part} …", flush=True)
            found += importlib.import_module(f"benchmarks.speed.{part}").measure(settings)
            if asked.json is not None:
                _write(asked.json, told, found)
    print(figures.table(found))
    failed = [figure.name for figure in found if figure.passed is False]
    if failed:
        print(f"{len(failed)} over the bar: {', '.join(failed)}")


def _named(parser: argparse.ArgumentParser, only: str | None) -> tuple[str, ...] | None:
    """The parts that were named, None where all are meant."""
    if only is None:
        return None
    for part in only.split(","):
        if part not in PARTS:
            parser.error(f"no part `{part}`, only {', '.join(PARTS)}")
    return tuple(only.split(","))


def _write(path: Path, told: dict[str, object], found: list[figures.Figure]) -> None:
    text = json.dumps({**told, "figures": [f.told() for f in found]}, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
