"""CUDA graphs: a piece of work recorded once and replayed, so that the host has nothing to launch.

A replay reads and writes the very memory of the recording. What goes in is therefore copied into
buffers, and nothing on the way may depend on a number that the host knows.
"""

import logging
from collections.abc import Callable
from functools import cache
from typing import Any, Protocol, runtime_checkable

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
    """The recorder of one CUDA device; `recordings` is how many it has made.

    They share the memory that they work in, so they are to be replayed one at a time, and what one
    gives is to be copied before the next is.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.aside = _aside(device)
        self.pool = torch.cuda.graph_pool_handle()
        self.recordings = 0

    def warm(self, work: Work) -> None:
        """Run on another stream, as the memory of the recording wants it."""
        main = torch.cuda.current_stream(self.device)
        self.aside.wait_stream(main)
        with torch.cuda.stream(self.aside):
            work()
        main.wait_stream(self.aside)

    def record(self, work: Work) -> Work:
        graph = torch.cuda.CUDAGraph()
        main = torch.cuda.current_stream(self.device)
        try:
            with torch.cuda.graph(graph, pool=self.pool, stream=self.aside):
                work()
        finally:
            torch.cuda.set_stream(main)  # a recording that fails at its end leaves the other one
        self.recordings += 1
        return graph.replay


@cache
def _aside(device: torch.device) -> Any:
    """One more stream, ever the same, as what is freed on a stream is free for that stream only."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def recorder(device: torch.device) -> Recorder | None:
    """What records on this device: only CUDA can."""
    return Cuda(device) if device.type == "cuda" and torch.cuda.is_available() else None


class Replayed:
    """Work that is run as it is the first few times, then recorded, then replayed.

    Every call does the work once. Work that cannot be recorded goes on as it is, with a warning.
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
                _warn(str(error).partition("\n")[0])
        if self.replay is not None:
            self.replay()
        elif self.runs <= WARM:
            self.by.warm(self.work)
        else:
            self.work()


@cache
def _warn(reason: str) -> None:
    """Say once, not for every prompt, that the host goes on launching every kernel."""
    log.warning("no CUDA graph could be recorded, so each step takes longer: %s", reason)


Function = Callable[[Tensor, Tensor], Tensor]


class _Buffers:
    """A function's two inputs and its output, in places that stay.

    Apart from `ReplayedCall`, because a call that owned the work it replays would be a cycle, and
    hold the network and the memory of the recording until Python happens to look for cycles.
    """

    def __init__(self, function: Function) -> None:
        self.function = function
        self.inputs: tuple[Tensor, Tensor] | None = None
        self.output: Tensor | None = None

    def work(self) -> None:
        assert self.inputs is not None
        self.output = self.function(*self.inputs)


class ReplayedCall:
    """A function of two tensors of one shape each, replayed; the result is a copy."""

    def __init__(self, function: Function, by: Recorder) -> None:
        self.buffers = _Buffers(function)
        self.run = Replayed(self.buffers.work, by)

    @torch.no_grad()
    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        buffers = self.buffers
        if buffers.inputs is None:
            buffers.inputs = x.clone(), t.clone()
        for buffer, given in zip(buffers.inputs, (x, t), strict=True):
            if given.shape != buffer.shape or given.dtype != buffer.dtype:
                return buffers.function(x, t)  # another clip than the one recorded
            buffer.copy_(given)
        self.run()
        assert buffers.output is not None
        return buffers.output.clone()
