"""Whether torch can use the device at all, asked once before anything is loaded onto it."""

import os
from functools import cache

import torch

from dvcli.devices import processors
from dvcli.errors import ResourceError


@cache
def require(device: str) -> None:
    """Raise `ResourceError` unless a sum on the device comes out.

    torch takes as many threads as there are cores; where a container grants the time of fewer,
    they wait for each other, so no more than that are kept. `OMP_NUM_THREADS` is left as it is.
    """
    if "OMP_NUM_THREADS" not in os.environ and processors() < torch.get_num_threads():
        torch.set_num_threads(processors())
    try:
        torch.ones(1, device=device).sum().item()
    except (RuntimeError, AssertionError) as error:  # an assertion where torch was built without
        first = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ResourceError(
            f"torch cannot use the device `{device}`: {first}",
            hint="`--device cpu` works everywhere",
        ) from error
