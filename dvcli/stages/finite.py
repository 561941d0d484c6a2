"""Whether the networks answer in numbers: the first step that does not is named, none is stored."""

import torch
from torch import Tensor

from dvcli.errors import InputError

EVERY = 8  # steps between two looks where looking waits for the device


class Watch:
    """Looks at the state after every step of a sampler; on the CPU at once.

    On a device each step leaves one truth value there, and only every eighth look and the last wait
    for the device: the step that is named is still the first that went wrong.
    """

    def __init__(self, doing: str, steps: int) -> None:
        self._doing, self._steps = doing, steps
        self._seen: list[Tensor] = []

    def look(self, x: Tensor) -> None:
        """The state after the next step. Raises `InputError` where NaN or infinity is in it."""
        self._seen.append(x.isfinite().all())
        step = len(self._seen)
        if x.device.type != "cpu" and step % EVERY and step < self._steps:
            return
        whole = torch.stack(self._seen[-EVERY:])
        if not whole.all():
            first = step - len(whole) + 1 + int((~whole).nonzero()[0])
            raise broken(f"{self._doing} broke down at step {first} of {self._steps}: the latent")


def require(what: str, x: Tensor) -> Tensor:
    """The tensor itself. Raises `InputError`, calling it `what`, unless all of it is finite."""
    if not x.isfinite().all():
        raise broken(what)
    return x


def broken(what: str) -> InputError:
    """The error for numbers that are none."""
    return InputError(
        f"{what} is not finite",
        hint="`--dtype fp32` is steadier; else the tuning, or the checkpoint itself, is broken",
    )
