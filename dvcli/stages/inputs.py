"""What an earlier stage wrote, checked before work begins on it.

The store knows that the bytes are those of the record. That they are what the stage writes it does
not: an archive of somebody else's may hold anything under a record that fits it.
"""

from typing import TYPE_CHECKING

from jaxtyping import UInt8
from numpy import ndarray
from safetensors import SafetensorError

from dvcli.errors import InputError
from dvcli.recipes import Extract
from dvcli.store import Artifact
from dvcli.video import frames as frame_file

if TYPE_CHECKING:
    from torch import Tensor


def frames(
    artifact: Artifact, name: str = "frames", choice: Extract | None = None
) -> UInt8[ndarray, "f H W 3"]:
    """The frames of that output; as many and as large as the `choice` says, where it is given."""
    try:
        found = frame_file.load(artifact.path(name))
    except InputError as unfit:
        raise unfit_for(artifact, name, unfit.message) from unfit
    count, height, width, _ = found.shape
    if not found.size:
        raise unfit_for(artifact, name, "it holds no frame")
    if choice is not None and choice.frames not in (None, count):
        raise unfit_for(artifact, name, f"it holds {count} frames, not {choice.frames}")
    if choice is not None and choice.size not in (None, (width, height)):
        wanted = "×".join(map(str, choice.size))
        raise unfit_for(artifact, name, f"its frames are {width}×{height}, not {wanted}")
    return found


def tensor(artifact: Artifact, name: str, shape: tuple[int | None, ...]) -> "Tensor":
    """The one float32 tensor of that output, finite and of that shape; None stands for any size."""
    found = tensors(artifact, name)
    if set(found) != {name}:
        names = ", ".join(sorted(found)[:3]) or "nothing"
        raise unfit_for(artifact, name, f"it holds {names[:80]}, not `{name}`")
    return _checked(artifact, name, found[name], shape)


def disparity(artifact: Artifact, frames: int | None = None) -> "Tensor":
    """The raw disparity `[f 1 a b]` of a depth artifact, of so many frames."""
    return tensor(artifact, "disparity", (frames, 1, None, None))


def tensors(artifact: Artifact, name: str) -> "dict[str, Tensor]":
    """All tensors in that output, whatever they are."""
    from safetensors.torch import load_file  # here, because frames need no torch

    try:
        return load_file(artifact.path(name))
    except (SafetensorError, OSError, LookupError, ValueError) as error:
        raise unfit_for(artifact, name, f"it is no safetensors file ({error})") from error


def require_numbers(artifact: Artifact, name: str, label: str, found: "Tensor") -> None:
    """Raise `InputError`, naming the tensor, unless it is float32 and all of it finite."""
    kind = str(found.dtype).removeprefix("torch.")
    if kind != "float32":
        raise unfit_for(artifact, name, f"`{label}` is {kind}, not float32")
    if not found.isfinite().all():
        raise unfit_for(artifact, name, f"`{label}` is not finite")


def _checked(
    artifact: Artifact, name: str, found: "Tensor", shape: tuple[int | None, ...]
) -> "Tensor":
    fits = len(found.shape) == len(shape) and all(
        size in (None, here) for size, here in zip(shape, found.shape, strict=True)
    )
    if not fits or not found.numel():
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise unfit_for(artifact, name, f"it is {list(found.shape)}, not [{wanted}]")
    require_numbers(artifact, name, name, found)
    return found


def unfit_for(artifact: Artifact, name: str, why: str) -> InputError:
    """The error for an output that its stage cannot have written."""
    return InputError(
        f"`{name}` of the {artifact.stage} artifact {artifact.key[:12]} is not what that stage"
        f" writes: {why}",
        hint=f"`dvid cache rm {artifact.key[:12]}` lets it be made again, here",
    )
