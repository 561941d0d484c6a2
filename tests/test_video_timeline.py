"""Which frames are chosen: plain numbers, no media."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvcli.video.timeline import Packet, evenly, from_packets, span, spread

TICK = Fraction(1, 1000)


def packets(stamps: "list[int | None]", decoding: "list[int] | None" = None) -> list[Packet]:
    decoding = decoding or list(range(len(stamps)))
    return [
        Packet(pts=pts, dts=dts, key=i % 5 == 0, duration=1)
        for i, (pts, dts) in enumerate(zip(stamps, decoding, strict=True))
    ]


@given(st.integers(1, 3000), st.data())
def test_at_a_constant_rate_the_choice_is_the_rounded_linspace(
    count: int, data: st.DataObject
) -> None:
    frames = data.draw(st.integers(1, count))
    times = tuple(i / 25 for i in range(count))
    assert spread(times, frames) == np.round(np.linspace(0, count - 1, frames)).astype(int).tolist()


@given(st.integers(2, 500), st.data())
def test_stamps_rounded_to_milliseconds_are_a_constant_rate(
    count: int, data: st.DataObject
) -> None:
    frames = data.draw(st.integers(1, count))
    times = tuple(round(i * 1000 / 30) / 1000 for i in range(count))
    assert spread(times, frames) == np.round(np.linspace(0, count - 1, frames)).astype(int).tolist()


@given(st.lists(st.floats(0.001, 5), min_size=1, max_size=60), st.data())
def test_any_clip_gives_distinct_ascending_frames_with_both_ends(
    gaps: list[float], data: st.DataObject
) -> None:
    times = (0.0, *np.cumsum(gaps).tolist())
    frames = data.draw(st.integers(2, len(times)))
    chosen = spread(times, frames)
    assert len(chosen) == frames
    assert chosen[0] == 0
    assert chosen[-1] == len(times) - 1
    assert all(a < b for a, b in pairwise(chosen))


def test_at_a_varying_rate_the_points_are_even_in_time_not_in_number() -> None:
    fast = [i * 0.01 for i in range(100)]  # 100 frames in the first second, then one a second
    times = tuple(fast + [1.0 + i for i in range(10)])
    assert spread(times, 4) == [0, 102, 106, 109]  # 0, 3, 7 and 10 s


def test_a_held_frame_is_not_taken_twice() -> None:
    times = (0.0, 10.0, 10.1, 10.2, 10.3)
    assert spread(times, 4) == [0, 1, 2, 4]


def test_all_frames_of_a_clip_are_all_its_numbers() -> None:
    assert spread((0.0, 0.1, 0.5, 3.0), 4) == [0, 1, 2, 3]


def test_one_frame_is_the_first() -> None:
    assert spread((0.0, 0.04, 0.08), 1) == [0]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0.0, None, range(10)),
        (0.2, None, range(2, 10)),
        (0.2, 0.5, range(2, 6)),
        (0.95, None, range(10, 10)),
    ],
)
def test_a_range_includes_both_its_ends(start: float, end: "float | None", expected: range) -> None:
    assert list(span(tuple(i / 10 for i in range(10)), start, end)) == list(expected)


def test_stamps_out_of_coding_order_are_sorted() -> None:
    line = from_packets(packets([0, 120, 40, 80]), TICK, 25)
    assert line.pts == (0, 40, 80, 120)
    assert line.times == (0.0, 0.04, 0.08, 0.12)


@pytest.mark.parametrize(
    ("stamps", "decoding"),
    [([0, None, 80], None), ([0, 40, 40], None), ([500, 540, 0, 40], [500, 540, 0, 40])],
    ids=["missing", "twice the same", "joined recordings"],
)
def test_unusable_stamps_give_way_to_the_frame_rate(
    stamps: "list[int | None]", decoding: "list[int] | None"
) -> None:
    line = from_packets(packets(stamps, decoding), TICK, 25)
    assert line == evenly(len(stamps), TICK, 25)
    assert line.times[:3] == (0.0, 0.04, 0.08)
