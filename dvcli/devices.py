"""Which device and number format `auto` means here, found out without importing torch."""

import ctypes
import math
import os
import platform
import re
import sys
from contextlib import suppress
from pathlib import Path

from dvcli.errors import UsageError
from dvcli.recipes import DType


def resolve_device(asked: str) -> str:
    """`cpu`, `mps`, `cuda` or `cuda:N` for what was asked; `auto` takes the best there is."""
    if asked == "auto":
        if _cuda_capability() is not None:
            return "cuda"
        return "mps" if sys.platform == "darwin" and platform.machine() == "arm64" else "cpu"
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", asked):
        raise UsageError(f"no device `{asked}`", hint="one of auto, cpu, mps, cuda, cuda:N")
    return asked


def usable(device: str) -> bool:
    """Whether torch may have that device, as far as can be told without importing torch."""
    return not device.startswith("cuda") or _cuda_capability() is not None


def resolve_dtype(asked: str, device: str) -> DType:
    """`fp32`, `bf16` or `fp16`; `auto` is fp32 but on CUDA, where it is bf16 if the card has it."""
    match asked:
        case "fp32" | "bf16" | "fp16":
            return asked
        case "auto":
            if not device.startswith("cuda"):
                return "fp32"
            return "bf16" if (_cuda_capability() or (0, 0)) >= (8, 0) else "fp16"
    raise UsageError(f"no number format `{asked}`", hint="one of auto, fp32, bf16, fp16")


def processors(root: Path = Path("/")) -> int:
    """How many processors' time this process may have: its affinity, and its cgroup's quota.

    The quota is that of the group the process is in and of all groups around it, `cpu.max` of
    version 2 or `cpu.cfs_quota_us` of version 1, as Linux lists them below `root`.
    """
    allowed = float(
        len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    )
    with suppress(OSError, ValueError):  # a kernel may have other ideas of that file
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, kinds, name = line.split(":", 2)
            if kinds and "cpu" not in kinds.split(","):
                continue
            top = root / "sys/fs/cgroup" / ("cpu" if kinds else "")
            group = top / name.lstrip("/")
            for folder in (group, *group.parents):
                if folder.is_relative_to(top):
                    allowed = min(allowed, _quota(folder))
    return max(1, math.ceil(allowed))


def _quota(folder: Path) -> float:
    """Processors that the cgroup in the folder may keep busy."""
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        with suppress(OSError, ValueError, ZeroDivisionError):
            quota, period = " ".join((folder / n).read_text() for n in names).split()
            if quota != "max" and int(quota) > 0:
                return int(quota) / int(period)
    return math.inf


def _cuda_capability() -> tuple[int, int] | None:
    """The compute capability of the first CUDA device that the installed torch could use."""
    from importlib import metadata

    with suppress(metadata.PackageNotFoundError):
        if "+cpu" in metadata.version("torch"):
            return None
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return None
    try:
        cuda = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    asked = (
        cuda.cuInit(0),
        cuda.cuDeviceGet(ctypes.byref(device), 0),
        cuda.cuDeviceGetAttribute(ctypes.byref(major), 75, device),
        cuda.cuDeviceGetAttribute(ctypes.byref(minor), 76, device),
    )
    return (major.value, minor.value) if not any(asked) else None
