"""CUDA graphs: a piece of work recorded once and replayed, so that the host has nothing to launch.

A replay reads and writes the very memory of the recording. What goes in is therefore copied into
buffers, and nothing on the way may depend on a number that the host knows.
"""

import logging
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

log = logging.getLogger(__name__)
Work = Callable[[], None]
WARM = 3  # runs before the recording, in which libraries choose kernels and take workspaces


@runtime_checkable
class Recorder(Protocol):
    """What records work on a device: `warm` runs it, `record` gives back what replays it."""

    def warm(self, work: Work) -> None: ...

    def record(self, work: Work) -> Work: ...


class Cuda:
    """The recorder of one CUDA device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.aside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def warm(self, work: Work) -> None:
        """Run on another stream, as the memory of the recording wants it."""
        main = torch.cuda.current_stream(self.device)
        self.aside.wait_stream(main)
        with torch.cuda.stream(self.aside):
            work()
        main.wait_stream(self.aside)

    def record(self, work: Work) -> Work:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.aside):
            work()
        return graph.replay


def recorder(device: torch.device) -> Recorder | None:
    """What records on this device: only CUDA can."""
    return Cuda(device) if device.type == "cuda" and torch.cuda.is_available() else None


class Replayed:
    """Work that is run as it is the first few times, then recorded, then replayed.

    Every call does the work once. Work that cannot be recorded goes on as it is.
    """

    def __init__(self, work: Work, by: Recorder) -> None:
        self.work = work
        self.by = by
        self.runs = 0
        self.replay: Work | None = None

    def __call__(self) -> None:
        self.runs += 1
        if self.replay is None and self.runs == WARM + 1:
            try:
                self.replay = self.by.record(self.work)
            except RuntimeError as error:
                log.info("no CUDA graph: %s", str(error).partition("\n")[0])
        if self.replay is not None:
            self.replay()
        elif self.runs <= WARM:
            self.by.warm(self.work)
        else:
            self.work()


class ReplayedCall:
    """A function of two tensors of one shape each, replayed; the result is a copy."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], by: Recorder) -> None:
        self.inputs: tuple[Tensor, Tensor] | None = None
        self.output: Tensor | None = None
        self.function = function
        self.run = Replayed(self._work, by)

    def _work(self) -> None:
        assert self.inputs is not None
        self.output = self.function(*self.inputs)

    @torch.no_grad()
    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        if self.inputs is None:
            self.inputs = x.clone(), t.clone()
        for buffer, given in zip(self.inputs, (x, t), strict=True):
            if given.shape != buffer.shape or given.dtype != buffer.dtype:
                return self.function(x, t)  # another clip than the one recorded
            buffer.copy_(given)
        self.run()
        assert self.output is not None
        return self.output.clone()
