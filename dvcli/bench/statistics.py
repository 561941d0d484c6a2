"""Means with bootstrapped intervals, and paired differences, over clips.

Prompts of one clip are not independent, so a clip's figure is the mean over its prompts and the
bootstrap draws whole clips (Davison and Hinkley, Bootstrap Methods, 1997: percentile intervals of
a cluster bootstrap).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

DRAWS = 10_000


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean, its 95 % interval, and how many clips it is of."""

    mean: float
    low: float
    high: float
    clips: int

    @property
    def clear_of_zero(self) -> bool:
        """Whether the interval leaves nought out."""
        return self.low > 0 or self.high < 0


def estimate(by_clip: Mapping[str, float], seed: int = 0) -> Estimate | None:
    """The mean over clips and its interval; nothing of nothing."""
    if not by_clip:
        return None
    values = np.array([by_clip[name] for name in sorted(by_clip)], dtype=np.float64)
    means = _resampled(values, seed)
    low, high = np.quantile(means, (0.025, 0.975))
    return Estimate(mean=float(values.mean()), low=float(low), high=float(high), clips=len(values))


def difference(
    ours: Mapping[str, float], theirs: Mapping[str, float], seed: int = 0
) -> Estimate | None:
    """`ours - theirs` over the clips that have both."""
    return estimate({name: ours[name] - theirs[name] for name in ours.keys() & theirs.keys()}, seed)


def _resampled(values: Float[NDArray[np.float64], " n"], seed: int) -> NDArray[np.float64]:
    means: NDArray[np.float64] = values[_draws(len(values), seed)].mean(axis=1)
    return means


@cache
def _draws(clips: int, seed: int) -> NDArray[np.int64]:
    """Which clips each draw takes: the same for every figure and method over as many clips."""
    return np.random.default_rng(seed).integers(clips, size=(DRAWS, clips))
