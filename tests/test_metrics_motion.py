"""Motion fidelity: the same motion scores high however it is painted, lost motion scores low."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from retold import KEPT, LOST, real, recoloured, retold, spoilt

from dvcli.bundled.world.layout import HELD_OUT
from dvcli.core.motion import flows, motion_fidelity, seen, working_size
from dvcli.errors import InputError

SEEDS = range(HELD_OUT, HELD_OUT + 6)


def sliding(dx: float, dy: float = 0.0, frames: int = 4, side: int = 64) -> np.ndarray:
    """A smooth texture that moves by so many pixels a frame."""
    y, x = np.mgrid[:side, :side].astype(np.float64)
    found = []
    for i in range(frames):
        u, v = x - dx * i, y - dy * i
        wave = np.sin(u / 5) * np.cos(v / 6) + 0.5 * np.sin((u + v) / 9 + 1)
        found.append(np.repeat((128 + 70 * wave)[..., None], 3, axis=2))
    return np.clip(np.stack(found), 0, 255).astype(np.uint8)


def fidelity(source: np.ndarray, result: np.ndarray) -> float:
    found = motion_fidelity(source, result)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def world() -> dict[str, list[float]]:
    """Motion fidelity of every version of six clips of the built-in world."""
    found: dict[str, list[float]] = {}
    for seed in SEEDS:
        versions = retold(seed)
        source = versions["the source itself"]
        for name, frames in versions.items():
            found.setdefault(name, []).append(fidelity(source, frames))
    return found


def test_a_clip_has_all_of_its_own_motion(world: dict[str, list[float]]) -> None:
    assert world["the source itself"] == pytest.approx([100] * len(SEEDS), abs=1e-4)


@pytest.mark.parametrize("name", [name for name in KEPT if name != "the source itself"])
def test_motion_survives_another_look(name: str, world: dict[str, list[float]]) -> None:
    assert np.mean(world[name]) > 75


@pytest.mark.parametrize("name", LOST)
def test_lost_motion_scores_low(name: str, world: dict[str, list[float]]) -> None:
    assert np.mean(world[name]) < 30


def test_a_frozen_clip_scores_nothing(world: dict[str, list[float]]) -> None:
    assert world["frozen"] == [0.0] * len(SEEDS)
    assert np.abs(world["frozen, with grain"]).max() < 10


def test_every_kept_motion_beats_every_lost_one_of_its_clip_on_average(
    world: dict[str, list[float]],
) -> None:
    worst = min(np.mean(world[name]) for name in KEPT)
    best = max(np.mean(world[name]) for name in LOST)
    assert worst > best + 40


def test_half_the_speed_scores_between(world: dict[str, list[float]]) -> None:
    assert max(np.mean(world[n]) for n in ("frozen", "reversed", "shuffled")) < np.mean(
        world["half as fast"]
    )
    assert np.mean(world["half as fast"]) < min(np.mean(world[name]) for name in KEPT)


REAL = [
    (name, every)
    for name in ("bikes.mp4", "bigbuckbunny.mp4", "carphone_pristine.mp4")
    for every in (1, 2, 3, 4)
]
CUT = [("bikes.mp4", 3), ("bikes.mp4", 4)]  # these eight frames are of two scenes


@pytest.mark.parametrize(("name", "every"), REAL)
def test_on_a_real_clip_the_motion_counts_and_the_colours_do_not(name: str, every: int) -> None:
    source = real(name, every)
    versions = spoilt(source)
    assert fidelity(source, source) == pytest.approx(100, abs=1e-4)
    assert fidelity(source, recoloured(source)) > 85
    assert fidelity(source, versions["frozen"]) == 0
    assert fidelity(source, versions["shuffled"]) < 0


@pytest.mark.parametrize(("name", "every"), REAL)
def test_a_real_clip_backwards_scores_far_below_its_recolouring(name: str, every: int) -> None:
    """Below, not nothing: a head that goes over and comes back does much the same backwards."""
    source = real(name, every)
    backwards = fidelity(source, spoilt(source)["reversed"])
    assert backwards < 45
    assert backwards < fidelity(source, recoloured(source)) - 50


@pytest.mark.parametrize(("name", "every"), [pair for pair in REAL if pair not in CUT])
def test_backwards_a_real_clip_scores_what_its_going_to_and_fro_makes_it(
    name: str, every: int
) -> None:
    source = real(name, every)
    backwards = fidelity(source, spoilt(source)["reversed"])
    assert backwards == pytest.approx(to_and_fro(source), abs=4)


def to_and_fro(source: np.ndarray) -> float:
    """The score of the reversed clip by the source's own flow u alone.

    Backwards the pairs come in reverse and each moves the other way: v_p = -u_{P-1-p}. So it is
    100 where the second half takes back the first, -100 where all goes one way.
    """
    u, back = flows(source, working_size(*source.shape[1:3]))
    w, v = seen(u, back)[..., None], -u[::-1]
    return float(100 * 2 * (w * u * v).sum() / (w * (u**2 + v**2)).sum())


def test_what_goes_over_and_comes_back_is_its_own_reverse() -> None:
    way = sliding(1.5, frames=5)
    assert fidelity(way, way[::-1]) < -90
    over_and_back = np.concatenate([way, way[-2::-1]])
    assert fidelity(over_and_back, over_and_back[::-1]) == pytest.approx(100, abs=1e-4)


@pytest.mark.parametrize(("dx", "dy"), [(1.5, 0.0), (0.0, -2.0), (1.0, 1.0)])
def test_flow_of_a_sliding_texture_is_its_slide(dx: float, dy: float) -> None:
    there, back = flows(sliding(dx, dy), (128, 128))
    inner = np.s_[:, 20:-20, 20:-20]
    assert there[inner].mean(axis=(0, 1, 2)) == pytest.approx([2 * dx, 2 * dy], abs=0.15)
    assert back[inner].mean(axis=(0, 1, 2)) == pytest.approx([-2 * dx, -2 * dy], abs=0.15)


@pytest.mark.parametrize("share", [0.5, 2.0, -1.0])
def test_the_score_is_that_of_its_equation(share: float) -> None:
    """With v = s·u everywhere it is 2s / (1 + s²)."""
    expected = 100 * 2 * share / (1 + share**2)
    source, result = sliding(1.0, side=96), sliding(share, side=96)
    assert fidelity(source, result) == pytest.approx(expected, abs=4)


def test_motion_across_is_not_motion_along() -> None:
    assert abs(fidelity(sliding(1.5), sliding(0, 1.5))) < 6


def test_added_motion_costs_as_lost_motion_does() -> None:
    source = sliding(1.0, side=96)
    assert fidelity(source, sliding(2.0, side=96)) == pytest.approx(
        fidelity(sliding(2.0, side=96), source), abs=4
    )


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_no_pair_of_clips_leaves_the_range(seed: int) -> None:
    rng = np.random.default_rng(seed)
    source, result = (rng.integers(0, 256, (3, 24, 40, 3), dtype=np.uint8) for _ in range(2))
    assert -100 <= fidelity(source, result) <= 100


def test_the_working_size_keeps_the_shape() -> None:
    assert working_size(64, 64) == (128, 128)
    assert working_size(272, 640) == (301, 128)
    assert working_size(1280, 720) == (128, 228)


def test_the_working_size_has_an_end() -> None:
    assert working_size(16, 512) == (4096, 128)
    assert working_size(8, 2100) == (4096, 128)
    assert working_size(30_000, 1) == (128, 4096)


@pytest.mark.parametrize("size", [(8, 2100), (2100, 8), (1, 40_000)], ids=str)
def test_a_strip_of_any_shape_has_all_of_its_own_motion(size: tuple[int, int]) -> None:
    height, width = size
    rng = np.random.default_rng(0)
    along = int(np.argmax(size))
    texture = cv2.resize(rng.integers(0, 256, (max(size) // 4, 1), np.uint8), (1, max(size)))
    first = np.repeat(texture, min(size), axis=1)[..., None].repeat(3, axis=2)
    if along == 1:
        first = first.transpose(1, 0, 2)
    clip = np.stack([np.roll(first, 2 * i, axis=along) for i in range(3)])
    assert clip.shape == (3, height, width, 3)
    assert fidelity(clip, clip) == pytest.approx(100, abs=1e-4)
    assert fidelity(clip, np.repeat(clip[:1], 3, axis=0)) == 0


def test_size_hardly_matters() -> None:
    versions = retold(HELD_OUT)
    source, other = versions["the source itself"], versions["another style"]
    large = [np.stack([cv2.resize(f, (256, 256)) for f in clip]) for clip in (source, other)]
    assert fidelity(*large) == pytest.approx(fidelity(source, other), abs=5)


def test_a_hidden_pixel_is_not_seen() -> None:
    there = np.zeros((1, 8, 8, 2), np.float32)
    back = np.zeros((1, 8, 8, 2), np.float32)
    there[0, 2, 3, 0] = 3.0  # goes where nothing comes back from
    assert seen(there, back)[0, 2, 3] == 0
    back[0, 2, 6, 0] = -3.0
    assert seen(there, back)[0, 2, 3] == 1
    assert seen(there, back)[0, 2, 6] == 0
    assert seen(there, back).sum() == 63


def test_a_clip_that_does_not_move_has_no_motion_to_keep() -> None:
    still = np.repeat(sliding(1)[:1], 4, axis=0)
    assert motion_fidelity(still, sliding(1)) is None
    assert motion_fidelity(np.full((4, 64, 64, 3), 9, np.uint8), sliding(1)) is None


def test_one_frame_has_no_motion() -> None:
    assert motion_fidelity(sliding(1)[:1], sliding(1)[:1]) is None


def test_another_number_of_frames_is_refused() -> None:
    with pytest.raises(InputError, match="3 frames against 4"):
        motion_fidelity(sliding(1), sliding(1)[:3])


def test_the_score_does_not_depend_on_opencvs_threads() -> None:
    versions = retold(HELD_OUT + 1)
    source, other = versions["the source itself"], versions["other colours"]
    before = cv2.getNumThreads()
    try:
        found = []
        for threads in (1, 2, 7):
            cv2.setNumThreads(threads)
            found.append(motion_fidelity(source, other))
    finally:
        cv2.setNumThreads(before)
    assert len(set(found)) == 1


def test_golden_scores() -> None:
    """OpenCV 4.11 and 5.0 differ by 0.6. More is another method: the stage's `version` goes up."""
    versions = retold(HELD_OUT)
    source = versions["the source itself"]
    found = [fidelity(source, versions[n]) for n in ("other colours", "another style", "reversed")]
    assert found == pytest.approx(GOLDEN, abs=0.8)


GOLDEN = [99.47, 87.14, -22.03]
