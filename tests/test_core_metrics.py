"""The figures of an evaluation against cases worked by hand; motion and likeness have own files."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dvcli.core.metrics import (
    depth_agreement,
    frame_consistency,
    preference,
    psnr,
    textual_alignment,
)
from dvcli.errors import InputError


def test_a_frozen_clip_is_wholly_consistent() -> None:
    assert frame_consistency(torch.tensor([[3.0, 4.0]] * 5)) == pytest.approx((100, 100))


def test_all_pairs_and_consecutive_pairs_are_told_apart() -> None:
    turn = [0.0, math.pi / 3, 2 * math.pi / 3]  # cosines: ½ twice, and -½ from first to last
    embeddings = torch.tensor([[math.cos(a), math.sin(a)] for a in turn])
    assert frame_consistency(embeddings) == pytest.approx((100 / 6, 50), abs=1e-4)


def test_consistency_does_not_depend_on_the_length_of_embeddings() -> None:
    e = torch.randn(4, 7, generator=torch.Generator().manual_seed(0))
    scaled = e * torch.tensor([1.0, 2.0, 30.0, 0.1])[:, None]
    assert frame_consistency(scaled) == pytest.approx(frame_consistency(e), abs=1e-4)


def test_one_frame_has_no_consistency() -> None:
    with pytest.raises(InputError, match="only one"):
        frame_consistency(torch.ones(1, 3))


def test_textual_alignment_is_the_mean_cosine() -> None:
    frames = torch.tensor([[2.0, 0.0], [0.0, 5.0], [-1.0, 0.0], [3.0, 0.0]])
    assert textual_alignment(frames, torch.tensor([7.0, 0.0])) == pytest.approx(25)


def test_psnr_of_a_known_error() -> None:
    a = torch.zeros(2, 3)
    assert psnr(a, a + 0.1, 1.0) == pytest.approx(20, abs=1e-5)
    assert psnr(a, a + 0.1, 2.0) == pytest.approx(20 + 20 * math.log10(2), abs=1e-5)


def test_psnr_of_equal_clips_is_infinite() -> None:
    assert psnr(torch.ones(3), torch.ones(3), 1.0) == math.inf


def test_preference_is_the_scaled_mean_cosine() -> None:
    frames = torch.tensor([[2.0, 0.0], [0.0, 5.0], [-1.0, 0.0], [3.0, 0.0]])
    assert preference(frames, torch.tensor([7.0, 0.0]), 100.0) == pytest.approx(25)
    assert preference(frames, torch.tensor([7.0, 0.0]), 20.0) == pytest.approx(5)


def disparity(seed: int, frames: int = 4) -> torch.Tensor:
    """Two things that wander over a ground that comes nearer from top to bottom."""
    noise = torch.Generator().manual_seed(seed)
    d = torch.linspace(1, 3, 24)[None, None, :, None].repeat(frames, 1, 1, 32)
    for start in torch.randint(0, 16, (2,), generator=noise).tolist():
        for i in range(frames):
            d[i, 0, 8 + start // 2 : 14 + start // 2, start + 2 * i : start + 2 * i + 7] = 4.0
    return d + 0.01 * torch.rand(d.shape, generator=noise)


def test_depth_agrees_wholly_with_itself() -> None:
    assert depth_agreement(disparity(0), disparity(0)) == pytest.approx((100, 100), abs=1e-9)


def test_depth_turned_round_disagrees_wholly() -> None:
    d = disparity(0, frames=1)
    assert depth_agreement(d, -d) == pytest.approx((-100, -100), abs=1e-4)


@given(scale=st.floats(0.1, 50), shift=st.floats(-100, 100))
def test_a_scale_and_a_shift_of_the_clip_change_no_agreement(scale: float, shift: float) -> None:
    d, other = disparity(0).double(), disparity(1).double()
    before = depth_agreement(d, other)
    assert depth_agreement(d, scale * other + shift) == pytest.approx(before, abs=1e-3)


def test_a_scale_and_a_shift_of_each_frame_change_little() -> None:
    d = disparity(0)
    scales, shifts = torch.tensor([1.0, 3, 0.5, 2]), torch.tensor([0.0, 9, -4, 1])
    drifted = d * scales[:, None, None, None] + shifts[:, None, None, None]
    assert depth_agreement(d, drifted) == pytest.approx((100, 100), abs=0.1)


def test_the_agreement_is_pearsons_r_where_nothing_needs_aligning() -> None:
    d, other = disparity(0, frames=1), disparity(1, frames=1)

    def clamped(x: torch.Tensor) -> torch.Tensor:
        low, high = x.quantile(0.01), x.quantile(0.99)
        return x.clamp(low, high)

    a, b = clamped(d), clamped(other)
    both = torch.stack([a.flatten(), b.flatten()])
    inner = torch.stack([(x - x.mean(dim=3, keepdim=True)).flatten() for x in (a, b)])
    expected = [100 * float(torch.corrcoef(x.double())[0, 1]) for x in (both, inner)]
    assert depth_agreement(d, other) == pytest.approx(expected, abs=1e-3)


def test_the_ground_agrees_for_any_two_clips_and_within_rows_does_not_count() -> None:
    whole, in_rows = depth_agreement(disparity(0), disparity(5))
    assert whole is not None
    assert in_rows is not None
    assert whole > 50
    assert in_rows < whole - 20


def test_maps_of_other_sizes_are_compared_at_the_sources() -> None:
    d = disparity(0)
    larger = torch.nn.functional.interpolate(d, scale_factor=2, mode="bilinear")
    whole, _ = depth_agreement(d, larger)
    assert whole is not None
    assert whole > 95


def test_constant_depth_has_no_agreement() -> None:
    flat = torch.full((4, 1, 24, 32), 7.0)
    assert depth_agreement(disparity(0), flat) == (None, None)
    assert depth_agreement(flat, disparity(0)) == (None, None)


def test_a_bare_ground_has_no_agreement_within_rows() -> None:
    ground = torch.linspace(1, 3, 24)[None, None, :, None].repeat(4, 1, 1, 32)
    whole, in_rows = depth_agreement(disparity(0), ground)
    assert whole is not None
    assert in_rows is None


def test_depth_of_another_number_of_frames_is_refused() -> None:
    with pytest.raises(InputError, match="3 frames against 4"):
        depth_agreement(disparity(0), disparity(0)[:3])


def test_depth_that_is_not_finite_is_refused() -> None:
    bad = disparity(0)
    bad[2, 0, 3, 3] = math.nan
    with pytest.raises(InputError, match="frame 3"):
        depth_agreement(disparity(0), bad)
