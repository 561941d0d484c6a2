"""What a run of the benchmark was asked for, and where."""

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One run. `repeat` is the number of turns; `folder` is a private, empty one."""

    shape: str
    device: str
    dtype: str
    threads: int
    repeat: int
    folder: Path

    @property
    def torch_dtype(self) -> Any:
        """The dtype of the frozen weights."""
        from dvcli.models.load import DTYPES

        return DTYPES[self.dtype]  # type: ignore[index]

    @property
    def clock(self) -> Callable[[], float]:
        """What networks are timed by: on one thread of the CPU its own seconds, else the clock.

        On an idle machine these are the same; on a busy one the wait for a turn is left out.
        """
        alone = self.device == "cpu" and self.threads == 1
        return time.process_time if alone else time.perf_counter

    @property
    def uncounted(self) -> int:
        """Steps or calls before those that count: on a GPU until one has been replayed."""
        from dvcli.core.graphs import WARM

        return WARM + 2 if self.device.startswith("cuda") else 1

    def timed(self, work: Callable[[], object]) -> tuple[float, float]:
        """Seconds until the call returned, and until the device had done it too."""
        self.wait(None)
        begun = self.clock()
        result = work()
        returned = self.clock() - begun
        self.wait(result)
        return returned, self.clock() - begun

    def wait(self, _: object) -> None:
        """Let the device finish, so that what was just called has been done."""
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.synchronize()
        elif self.device == "mps":
            import torch

            torch.mps.synchronize()

    @property
    def on_device(self) -> tuple[str, ...]:
        """The options of a command that is to work where and in what the networks do."""
        return ("--device", self.device, "--dtype", self.dtype)

    def dvid(self, *words: str) -> str:
        """What a command printed that worked on the device."""
        return self.python("-m", "dvcli", *words, *self.on_device)

    @cached_property
    def environment(self) -> dict[str, str]:
        """The environment of a process of its own: a private home, these threads, no network."""
        kept = {n: v for n, v in os.environ.items() if not n.startswith(("DVID_", "XDG_"))}
        home = self.folder / "home"
        (home / "work").mkdir(parents=True, exist_ok=True)
        return {
            **kept,
            "HOME": str(home),
            "DVID_CACHE_DIR": str(home / "cache"),
            "DVID_STATE_DIR": str(home / "state"),
            "XDG_CONFIG_HOME": str(home / "config"),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": str(self.threads),
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [kept.get("PYTHONPATH")])]),
        }

    def python(self, *arguments: str) -> str:
        """What a Python process of its own printed; it has to succeed."""
        done = subprocess.run(
            [sys.executable, *arguments],
            env=self.environment,
            cwd=self.folder / "home" / "work",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(arguments)}: exit {done.returncode}\n{done.stderr}")
        return done.stdout


def take(device: str, threads: int) -> None:
    """Let torch work on so many threads, and mean this device where it is asked of none."""
    import torch

    torch.set_num_threads(threads)
    if device.startswith("cuda"):
        torch.cuda.set_device(torch.device(device).index or 0)


def surroundings(settings: Settings) -> dict[str, object]:
    """The machine, the versions and the settings, as the table's head and the JSON have them."""
    from importlib.metadata import version

    import torch

    name = processor()
    if settings.device.startswith("cuda"):
        name = torch.cuda.get_device_name(settings.device)
    packages = ("torch", "diffusers", "transformers", "safetensors", "typer")
    return {
        "device": f"{settings.device}: {name}",
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": {package: version(package) for package in packages},
        "threads": settings.threads,
        "networks timed by": settings.clock.__name__,
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "dtype": settings.dtype,
        "shape": settings.shape,
        "repeat": settings.repeat,
    }


def processor() -> str:
    """The processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
