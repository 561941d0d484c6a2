"""Which frames are taken: a clip's packets as a line of presentation times, and points on it."""

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Packet:
    """What the demuxer says about one coded frame; times in units of the stream's time base."""

    pts: int | None
    dts: int | None
    key: bool
    duration: int


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """A clip's frames in presentation order.

    `pts` is None when the stamps are not to be trusted; `times` (seconds from the first frame)
    then come from the frame rate. `keys` are the stamps of the key frames, ascending.
    """

    times: tuple[float, ...]
    pts: tuple[int, ...] | None
    keys: tuple[int, ...]
    tick: Fraction

    @property
    def count(self) -> int:
        return len(self.times)


def from_packets(packets: list[Packet], tick: Fraction, fps: float) -> Timeline:
    """The timeline of a demuxed stream: stamps are believed if all there, unique and in step.

    Decoding stamps that run backwards mean joined recordings, whose presentation stamps say
    nothing about the order in which frames come out.
    """
    stamps = [packet.pts for packet in packets if packet.pts is not None]
    decoding = [packet.dts for packet in packets if packet.dts is not None]
    complete = len(stamps) == len(packets) == len(set(stamps))
    if not complete or any(b < a for a, b in pairwise(decoding)):
        return evenly(len(packets), tick, fps)
    keys = sorted(p.pts for p in packets if p.key and p.pts is not None)
    return from_stamps(stamps, tick, keys)


def from_stamps(stamps: list[int], tick: Fraction, keys: list[int] | None = None) -> Timeline:
    """The timeline of unique stamps, in any order."""
    pts = tuple(sorted(stamps))
    times = tuple(float((stamp - pts[0]) * tick) for stamp in pts)
    return Timeline(times=times, pts=pts, keys=tuple(keys or ()), tick=tick)


def evenly(count: int, tick: Fraction, fps: float) -> Timeline:
    """The timeline of `count` frames at a constant rate, for streams without usable stamps."""
    return Timeline(times=tuple(i / fps for i in range(count)), pts=None, keys=(), tick=tick)


def span(times: tuple[float, ...], start: float, end: float | None) -> range:
    """The indices of the frames shown at `start <= t <= end`, within half a millisecond."""
    low = int(np.searchsorted(times, start - 5e-4))
    if end is None:
        return range(low, len(times))
    return range(low, int(np.searchsorted(times, end + 5e-4, side="right")))


def spread(times: tuple[float, ...], frames: int) -> list[int]:
    """`frames` distinct indices into ascending `times`, evenly spaced by time, ends included.

    At a constant rate this is `round(linspace(0, n-1, frames))`, exactly; stamps rounded to a
    container's ticks count as constant. At a varying rate the same points are taken on the line of
    presentation times, each by its nearest frame; where a held frame is nearest to several points
    its neighbours serve, so that no frame is taken twice. Needs `frames <= len(times)`.
    """
    n = len(times)
    assert 1 <= frames <= n
    places = np.linspace(0, n - 1, frames)
    line = np.asarray(times, dtype=np.float64)
    constant = line[0] + (line[-1] - line[0]) * np.arange(n) / max(n - 1, 1)
    step = (line[-1] - line[0]) / max(n - 1, 1)
    if np.abs(line - constant).max() > max(1.1e-3, 0.05 * step):
        places = np.interp(np.linspace(line[0], line[-1], frames), line, np.arange(n))
    chosen = np.round(places).astype(int)
    for i in range(1, frames):
        chosen[i] = max(chosen[i], chosen[i - 1] + 1)
    ceiling = n - 1
    for i in reversed(range(frames)):
        chosen[i] = min(chosen[i], ceiling)
        ceiling = chosen[i] - 1
    return [int(i) for i in chosen]
