"""Whether torch can use the device at all, asked once before anything is loaded onto it."""

from functools import cache

import torch

from dvcli.errors import ResourceError


@cache
def require(device: str) -> None:
    """Raise `ResourceError` unless a sum on the device comes out."""
    try:
        torch.ones(1, device=device).sum().item()
    except (RuntimeError, AssertionError) as error:  # an assertion where torch was built without
        first = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ResourceError(
            f"torch cannot use the device `{device}`: {first}",
            hint="`--device cpu` works everywhere",
        ) from error
