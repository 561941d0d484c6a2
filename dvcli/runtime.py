"""What changes only the time a result takes, never the result: none of this is in a key."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, TypeVar, runtime_checkable

from dvcli.errors import Interrupted, MissingError

Attention = Literal["auto", "sdpa", "xformers"]
GradCheckpointing = Literal["auto", "off", "feed-forward", "blocks", "on"]
Memory = Literal["auto", "low"]


@runtime_checkable
class Task(Protocol):
    """One bar: `advance` after each step, with figures worth showing beside it."""

    def advance(self, steps: int = 1, **figures: float) -> None: ...


@runtime_checkable
class Progress(Protocol):
    """Where a stage reports how far it is. `total` is the number of steps of the task."""

    def task(self, name: str, total: int, done: int = 0) -> AbstractContextManager[Task]: ...

    def made(self, stage: str, key: str, seconds: float, *, cached: bool) -> None:
        """A stage's artifact is at hand: just built, or found in the store, saving that time."""


class _Unseen:
    def advance(self, steps: int = 1, **figures: float) -> None:
        return

    def task(self, name: str, total: int, done: int = 0) -> AbstractContextManager[Task]:
        return nullcontext(self)

    def made(self, stage: str, key: str, seconds: float, *, cached: bool) -> None:
        return


class Stop:
    """A request to stop at the end of the current step, made by a signal handler."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def request(self, signal: int) -> None:
        self.signal = signal

    def check(self, *, kept: str) -> None:
        """Raise `Interrupted` when a stop was requested; `kept` says what has been saved."""
        if self.signal is not None:
            raise Interrupted(
                self.signal, f"stopped, {kept}", hint="the same command goes on from here"
            )


T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Look:
    """A file or folder from outside as the file system told of it, to see whether it changes."""

    path: Path
    files: tuple[tuple[object, ...], ...]


class Shelf:
    """Loaded models, kept while one stage is built again and again, dropped when another begins.

    Of a kind of model, which is a name's first word, only the last is kept: a command that goes
    through many tunings needs the memory of one.
    `read` is how each input from outside looked, by its digest, when a stage was given its place.
    """

    def __init__(self) -> None:
        self.read: dict[str, Look] = {}
        self._stage: str | None = None
        self._held: dict[tuple[object, ...], object] = {}

    def get(self, stage: str, name: tuple[object, ...], make: Callable[[], T]) -> T:
        """What `make` returned the last time this stage asked for this name, else a new one."""
        if stage != self._stage:
            self._stage = stage
            self._held.clear()
        if name not in self._held:
            for other in [held for held in self._held if held[0] == name[0]]:
                self.drop(other)
            self._held[name] = make()
        return self._held[name]  # type: ignore[return-value]

    def holds(self, name: tuple[object, ...]) -> bool:
        """Whether that model is loaded now."""
        return name in self._held

    def drop(self, name: tuple[object, ...]) -> None:
        """Forget one model, so that its memory is free for the next."""
        self._held.pop(name, None)

    def clear(self) -> None:
        """Forget every model."""
        self._held.clear()


def nowhere(digest: str) -> Path:
    """The locator of a context without external inputs."""
    raise MissingError(f"no file with SHA-256 {digest[:12]} is at hand")


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """How to work: device, kernels, chunking, reporting, and where external inputs are today.

    `locate` maps the content digest of an external input (the source clip, a component folder of
    a checkpoint, a user's depth video) to its present path and raises `MissingError`.
    `checkpoint_seconds` is the most work that a killed tuning loses.
    `checkpoint_grad` is how much of the network a tuning step computes twice to save memory.
    `memory` at `low` takes every way to need less of it, whatever is free.
    `compile` lets torch compile the network, which takes minutes before the first step and, on
    CUDA, the place of recording it.
    `memory_limit`, in bytes, stands in for what the device has free, for the check before work.
    """

    device: str = "cpu"
    attention: Attention = "auto"
    checkpoint_grad: GradCheckpointing = "auto"
    memory: Memory = "auto"
    compile: bool = False
    checkpoint_seconds: float = 60.0
    memory_limit: int | None = None
    progress: Progress = field(default_factory=_Unseen)
    stop: Stop = field(default_factory=Stop)
    shelf: Shelf = field(default_factory=Shelf)
    locate: Callable[[str], Path] = nowhere

    @property
    def frame_chunk(self) -> int:
        """How many frames pass through the VAE, the depth estimator or CLIP at once."""
        return 1 if self.memory == "low" else 4
