"""Means with bootstrapped intervals, and paired differences, over clips.

Prompts of one clip are not independent, so a clip's figure is the mean over its prompts and the
bootstrap draws whole clips (Davison and Hinkley, Bootstrap Methods, 1997: a cluster bootstrap).
Plain percentiles are too narrow for few clips, so they are taken further out, where Student's t
has its own (Hesterberg, The American Statistician 69 (2015) 371-386: the expanded percentile
interval).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from dvcli.report.votes import wilson

DRAWS = 10_000
FEWEST = 5  # clips; fewer bear no interval
LEVEL = 0.95

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean, its 95 % interval unless the clips are too few for one, and how many they are."""

    mean: float
    interval: Interval | None
    clips: int

    @property
    def clear_of_zero(self) -> bool:
        """Whether the interval leaves nought out."""
        return self.interval is not None and (self.interval[0] > 0 or self.interval[1] < 0)


def estimate(by_clip: Mapping[str, float], seed: int = 0) -> Estimate | None:
    """The mean over clips and its interval; nothing of nothing."""
    if not by_clip:
        return None
    values = np.array([by_clip[name] for name in sorted(by_clip)], dtype=np.float64)
    interval = None if len(values) < FEWEST else _interval(values, seed)
    return Estimate(mean=float(values.mean()), interval=interval, clips=len(values))


def share(by_clip: Mapping[str, float], seed: int = 0) -> Estimate | None:
    """The same of percentages: where every clip has all or nothing, Wilson's interval.

    A bootstrap of 24 clips that all failed would have no width.
    """
    found = estimate(by_clip, seed)
    if found is None or found.interval is None or set(by_clip.values()) - {0.0, 100.0}:
        return found
    low, high = wilson(sum(by_clip.values()) / 100, found.clips)
    return Estimate(mean=found.mean, interval=(100 * low, 100 * high), clips=found.clips)


def difference(
    ours: Mapping[str, float], theirs: Mapping[str, float], seed: int = 0
) -> Estimate | None:
    """`ours - theirs` over the clips that have both."""
    return estimate({name: ours[name] - theirs[name] for name in ours.keys() & theirs.keys()}, seed)


def _interval(values: NDArray[np.float64], seed: int) -> Interval:
    means = values[_draws(len(values), seed)].mean(axis=1)
    tail = _tail(len(values))
    low, high = np.quantile(means, (tail, 1 - tail))
    return float(low), float(high)


def _tail(clips: int) -> float:
    """The share of the means to leave out at each end: Φ(-√(n / (n - 1)) t)."""
    return NormalDist().cdf(-math.sqrt(clips / (clips - 1)) * student(clips - 1))


def student(freedom: int) -> float:
    """Student's t that leaves 2.5 % above it, within 1 % for 4 and more degrees of freedom.

    Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.5.
    """
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return math.fsum(term / float(freedom) ** power for power, term in enumerate(terms))


@cache
def _draws(clips: int, seed: int) -> NDArray[np.int64]:
    """Which clips each draw takes: the same for every figure and method over as many clips."""
    return np.random.default_rng(seed).integers(clips, size=(DRAWS, clips))
