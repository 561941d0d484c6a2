"""Frames as an artifact: one safetensors file with the one tensor `frames`, and no metadata."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from dvcli.errors import InputError


def save(path: Path, frames: UInt8[np.ndarray, "f H W 3"]) -> None:
    """Write uint8 RGB frames; the same frames give the same bytes."""
    save_file({"frames": np.ascontiguousarray(_checked(frames, path))}, path)


def load(path: Path) -> UInt8[np.ndarray, "f H W 3"]:
    """The frames that `save` wrote, uint8 RGB `[f H W 3]`. Raises `InputError` for another file."""
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"`{path}` is not a file of frames: {error}") from None
    if set(tensors) != {"frames"}:
        raise InputError(f"`{path}` is not a file of frames: it holds {sorted(tensors)}")
    return _checked(tensors["frames"], path)


def _checked(frames: NDArray[Any], path: Path) -> UInt8[np.ndarray, "f H W 3"]:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
        raise InputError(f"`{path}` is not uint8 RGB frames, but {frames.dtype} {frames.shape}")
    return frames
