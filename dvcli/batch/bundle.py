"""What a batch is made of: bundles, each one clip under one tuning with all its results."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from dvcli.recipes import Depth, Digest, Extract, Invert, Sample, Tune


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """One clip, its tuning, the inversions that are wanted, and the new clips from them.

    `places` is where external inputs were, by their digest, and `models` what the base model was
    called: hints, which are checked before they are believed.
    """

    name: str
    tuned: Tune
    inverted: tuple[Invert, ...] = ()
    results: tuple[Sample, ...] = ()
    places: Mapping[Digest, str] = field(default_factory=dict)
    models: tuple[str, ...] = ()

    @property
    def first(self) -> tuple[Extract | Depth, ...]:
        """What needs no tuning: the frames and their depth."""
        frames, depth = self.tuned.frames, self.tuned.depth
        return (frames,) if depth is None else (frames, depth)

    @property
    def way(self) -> tuple[Tune | Invert, ...]:
        """What leads to the results, in order."""
        return (self.tuned, *self.inverted)


@dataclass(frozen=True, kw_only=True)
class Done:
    """A part of a bundle that is in the store now, or why it is not.

    `result` is the number of one of its results; None is the way to them. Where that failed, none
    of the results can be made.
    """

    bundle: int
    result: int | None = None
    seconds: float = 0.0
    error: Exception | None = None


Engine: TypeAlias = Callable[[Sequence[Bundle]], Iterator[Done]]
