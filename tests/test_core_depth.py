"""Alignment on synthetic flicker, the normalised map, and every control's continuity."""

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionDepth2ImgPipeline
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dvcli.core.ddim import Clip, sample, schedule
from dvcli.core.depth import (
    active_weight,
    align,
    fade_depth,
    normalised,
    percentile,
    to_condition,
)
from dvcli.errors import InputError
from dvcli.recipes import Controls, Normalise

SIZE = (6, 8)


def scene(seed: int = 0, rows: int = 36, columns: int = 48) -> Tensor:
    """A smooth still scene with some texture, `[1 1 a b]`, disparity about 100 to 900."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 1, 5, 6, generator=generator)
    fine = torch.rand(1, 1, rows, columns, generator=generator)
    up = torch.nn.functional.interpolate(coarse, (rows, columns), mode="bilinear")
    return 100 + 700 * up + 100 * fine


def moving(frames: int = 8) -> Tensor:
    """The scene with a near square that crosses it."""
    clip = scene().repeat(frames, 1, 1, 1)
    for i in range(frames):
        clip[i, 0, 10:22, 4 * i : 4 * i + 12] = 1500
    return clip


def flicker(clip: Tensor, seed: int = 0) -> Tensor:
    """Each frame but the first on a scale and shift of its own."""
    generator = torch.Generator().manual_seed(seed)
    scale = 0.4 + 1.6 * torch.rand(len(clip), generator=generator)
    shift = 300 * torch.randn(len(clip), generator=generator)
    scale[0], shift[0] = 1, 0
    return clip * scale[:, None, None, None] + shift[:, None, None, None]


@given(seed=st.integers(0, 1000), frames=st.integers(2, 12))
@settings(max_examples=20, deadline=None)
def test_aligning_recovers_a_still_scene_from_affine_flicker(seed: int, frames: int) -> None:
    still = scene(seed).repeat(frames, 1, 1, 1)
    torch.testing.assert_close(align(flicker(still, seed)), still, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("seed", range(5))
def test_a_moving_object_is_an_outlier_and_does_not_disturb_alignment(seed: int) -> None:
    torch.testing.assert_close(align(flicker(moving(), seed)), moving(), rtol=1e-4, atol=1e-2)


def test_noise_does_not_add_up_along_a_long_clip() -> None:
    frames = 64
    generator = torch.Generator().manual_seed(3)
    still = scene().repeat(frames, 1, 1, 1)
    noisy = flicker(still + 60 * torch.randn(still.shape, generator=generator))
    contrast = align(noisy).flatten(1).std(dim=1)
    # neighbours alone drift by 0.034 here
    assert float((contrast / contrast[0] - 1).abs().max()) < 0.01


def test_a_clip_that_does_not_flicker_stays_as_it_is() -> None:
    torch.testing.assert_close(align(moving()), moving(), rtol=1e-5, atol=1e-2)


def test_one_frame_is_left_alone() -> None:
    assert torch.equal(align(scene()), scene())


def test_constant_maps_are_left_alone() -> None:
    flat = torch.full((3, 1, 8, 8), 7.0)
    assert torch.equal(align(flat), flat)


@pytest.mark.parametrize("at", [0, 2, 7])
def test_a_constant_frame_between_others_does_not_break_the_rest(at: int) -> None:
    clip = flicker(moving(), 4)
    clip[at] = 5.0
    aligned = align(clip)
    assert aligned.isfinite().all()
    others = [i for i in range(8) if i != at]
    gauge = (moving()[others] - moving()[others[0]]).abs().amax(dim=(1, 2, 3))
    mine = (aligned[others] - aligned[others[0]]).abs().amax(dim=(1, 2, 3))
    ratio = mine[1:] / gauge[1:]
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), rtol=1e-3, atol=1e-3)
    near = others[min(range(7), key=lambda k: abs(others[k] - at))]
    assert float(aligned[at].mean()) == pytest.approx(float(aligned[near].mean()), rel=1e-4)


def test_a_mostly_empty_scene_keeps_the_scale_it_has() -> None:
    clip = torch.full((4, 1, 32, 32), 10.0)
    for i in range(4):
        clip[i, 0, 4 + i : 10 + i, 8:14] = 50
    aligned = align(clip)
    torch.testing.assert_close(aligned, clip, rtol=1e-3, atol=1e-2)


def test_large_maps_and_frames_of_any_shape_are_aligned_too() -> None:
    still = scene(1, rows=130, columns=300).repeat(3, 1, 1, 1)
    torch.testing.assert_close(align(flicker(still)), still, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("normalise", ["clip", "frame"])
def test_depth_that_is_not_finite_names_its_frame(value: float, normalise: Normalise) -> None:
    clip = moving()
    clip[2, 0, 0, 0] = value
    with pytest.raises(InputError, match="frame 3"):
        to_condition(clip, SIZE, normalise)


@pytest.mark.parametrize("size", [(6, 8), (36, 48), (50, 40)], ids=str)
def test_frame_normalisation_equals_that_of_diffusers(size: tuple[int, int]) -> None:
    raw = flicker(moving())
    image = [
        np.zeros((size[1] * 8, size[0] * 8, 3))
    ]  # the pipeline reads arrays as (width, height)
    theirs = StableDiffusionDepth2ImgPipeline.prepare_depth_map(
        SimpleNamespace(vae_scale_factor=8), image, raw[:, 0], 8, False, torch.float32, "cpu"
    )
    assert torch.equal(to_condition(raw, size, "frame"), theirs)


def test_flicker_leaves_no_trace_in_the_clips_condition() -> None:
    steady, flickering = (to_condition(v, SIZE, "clip") for v in (moving(), flicker(moving())))
    torch.testing.assert_close(steady, flickering, rtol=0, atol=1e-3)
    shaky = to_condition(flicker(moving()), SIZE, "frame")
    assert shaky.shape == steady.shape == (8, 1, *SIZE)


def test_the_clip_has_one_range_and_reaches_both_ends_of_it() -> None:
    d = to_condition(moving(), (36, 48), "clip")
    assert float(d.min()) == -1
    assert float(d.max()) == 1
    low, high = (float(torch.quantile(d, q)) for q in (0.02, 0.98))
    assert -1 < low < high <= 1


def test_a_small_object_before_a_flat_ground_is_kept() -> None:
    clip = torch.full((2, 1, 36, 48), 10.0)
    clip[:, 0, 20:22, 30:32] = 50
    d = to_condition(clip, (36, 48), "clip")
    assert float(d[:, 0, 20:22, 30:32].min()) == 1
    assert float(d[:, 0, :10].max()) == -1


def test_near_is_plus_one() -> None:
    d = to_condition(moving(), (36, 48), "clip")
    assert float(d[0, 0, 12:20, 2:10].mean()) > 0.99


@pytest.mark.parametrize("normalise", ["clip", "frame"])
@pytest.mark.parametrize("value", [0.0, 1.0, 7.25, 1e6, -3.0])
def test_a_constant_map_becomes_zeros(normalise: Normalise, value: float) -> None:
    d = to_condition(torch.full((3, 1, 17, 13), value), SIZE, normalise)
    assert torch.equal(d, torch.zeros(3, 1, *SIZE))


def test_a_percentile_is_the_interpolated_quantile() -> None:
    d = torch.rand(3, 1, 7, 5, generator=torch.Generator().manual_seed(0))
    for q in (0.0, 0.01, 0.5, 0.99, 1.0):
        torch.testing.assert_close(percentile(d, q), torch.quantile(d, q))


def condition(controls: Controls, other: Tensor | None = None) -> Tensor:
    return to_condition(moving(), SIZE, "clip", controls, other)


OTHER = scene(5).repeat(8, 1, 1, 1)
NUDGES: list[tuple[str, float]] = [
    ("gain", 1.0),
    ("gain", 0.0),
    ("bias", 0.0),
    ("gamma", 1.0),
    ("gamma", 2.5),
    ("near", 1.0),
    ("near", 0.2),
    ("far", -1.0),
    ("far", 0.3),
    ("blend", 0.0),
    ("blend", 0.5),
    ("smooth", 0.0),
    ("smooth", 1.3),
]


@pytest.mark.parametrize("normalise", ["clip", "frame"])
@pytest.mark.parametrize("other", [None, OTHER], ids=["alone", "beside another clip"])
def test_neutral_controls_are_an_exact_no_op(normalise: Normalise, other: Tensor | None) -> None:
    neutral = Controls(
        gain=1.0, bias=0.0, gamma=1.0, near=1.0, far=-1.0, blend=0.0, smooth=0.0, active=1.0
    )
    assert neutral == Controls()
    untouched = normalised(moving(), SIZE, normalise)
    assert torch.equal(to_condition(moving(), SIZE, normalise, neutral, other), untouched)
    assert torch.equal(to_condition(moving(), SIZE, normalise), untouched)


@pytest.mark.parametrize(("name", "value"), NUDGES)
def test_every_control_is_continuous(name: str, value: float) -> None:
    here = condition(replace(Controls(), **{name: value}), OTHER)
    step = -1e-4 if value == 1.0 and name == "near" else 1e-4
    close = condition(replace(Controls(), **{name: value + step}), OTHER)
    assert float((close - here).abs().max()) < 2e-3


@pytest.mark.parametrize("name", ["bias", "near", "far"])
def test_more_of_a_control_brings_nothing_farther(name: str) -> None:
    grid = [-0.8, -0.2, 0.0, 0.3, 0.9]
    maps = [condition(replace(Controls(), **{name: v})) for v in grid]
    assert all(bool((b >= a - 1e-6).all()) for a, b in pairwise(maps))


def test_more_gamma_brings_nothing_nearer() -> None:
    maps = [condition(Controls(gamma=g)) for g in (0.2, 0.7, 1.0, 1.4, 6.0)]
    assert all(bool((b <= a + 1e-6).all()) for a, b in pairwise(maps))


def test_gain_spreads_depth_about_its_middle() -> None:
    d = condition(Controls())
    torch.testing.assert_close(condition(Controls(gain=0.5)), d / 2)
    torch.testing.assert_close(condition(Controls(gain=3.0)), (3 * d).clamp(-1, 1))
    assert torch.equal(condition(Controls(gain=0.0)), torch.zeros_like(d))


def test_near_and_far_are_where_the_ends_of_the_range_end_up() -> None:
    d = condition(Controls(near=0.5, far=-0.25))
    assert float(d.max()) == pytest.approx(0.5)
    assert float(d.min()) == pytest.approx(-0.25)
    torch.testing.assert_close(condition(Controls(near=-1.0, far=1.0)), -condition(Controls()))


@given(
    gain=st.floats(-10, 10),
    bias=st.floats(-2, 2),
    gamma=st.floats(0.1, 10),
    near=st.floats(-1, 1),
    far=st.floats(-1, 1),
    blend=st.floats(0, 1),
    smooth=st.floats(0, 32),
)
@settings(max_examples=40, deadline=None)
def test_no_setting_of_the_controls_leaves_the_range(**settings: Any) -> None:
    d = condition(Controls(**settings), OTHER)
    assert float(d.abs().max()) <= 1 + 1e-5


def test_a_full_blend_is_the_other_clips_depth() -> None:
    assert torch.equal(condition(Controls(blend=1.0), OTHER), to_condition(OTHER, SIZE, "clip"))


def test_half_a_blend_is_half_way() -> None:
    a, b = to_condition(moving(), SIZE, "clip"), to_condition(OTHER, SIZE, "clip")
    torch.testing.assert_close(condition(Controls(blend=0.5), OTHER), (a + b) / 2)


def test_a_blend_with_another_number_of_frames_is_refused() -> None:
    with pytest.raises(InputError, match="5 frames"):
        condition(Controls(blend=0.5), OTHER[:5])


def test_a_blend_with_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="other"):
        condition(Controls(blend=0.5))


def test_smoothing_keeps_a_still_clip_and_calms_a_moving_one() -> None:
    still = to_condition(OTHER, SIZE, "clip")
    smooth = to_condition(OTHER, SIZE, "clip", Controls(smooth=2.0))
    torch.testing.assert_close(smooth, still)
    motion = [float(condition(Controls(smooth=s)).diff(dim=0).square().mean()) for s in (0, 1, 3)]
    assert motion[0] > motion[1] > motion[2]


def test_strong_smoothing_is_the_mean_over_time() -> None:
    d = condition(Controls())
    smooth = condition(Controls(smooth=32.0))
    torch.testing.assert_close(smooth, d.mean(0, keepdim=True).expand_as(d), rtol=0, atol=0.03)


def test_depth_is_active_first_then_in_part_then_no_more() -> None:
    assert [active_weight(k, 4, 0.625) for k in range(4)] == [1, 1, 0.5, 0]
    assert [active_weight(k, 4, 1.0) for k in range(4)] == [1, 1, 1, 1]
    assert [active_weight(k, 4, 0.0) for k in range(4)] == [0, 0, 0, 0]


@given(active=st.floats(0, 1), steps=st.integers(1, 60))
@settings(deadline=None)
def test_the_active_share_of_all_steps_sees_depth(active: float, steps: int) -> None:
    weights = [active_weight(k, steps, active) for k in range(steps)]
    assert sum(weights) == pytest.approx(active * steps, abs=1e-9)
    assert weights == sorted(weights, reverse=True)


PLAN = schedule({}, 4)


def ones(x: Clip, t: int) -> Clip:
    return torch.ones_like(x)


def zeros(x: Clip, t: int) -> Clip:
    return torch.zeros_like(x)


def test_fading_mixes_two_denoisers_only_at_the_boundary() -> None:
    faded = fade_depth(ones, zeros, PLAN, 0.625)
    x = torch.zeros(1, 1, 1, 1)
    assert [float(faded(x, t)) for t in PLAN.timesteps] == [1, 1, 0.5, 0]


def test_depth_active_throughout_is_the_denoiser_itself() -> None:
    assert fade_depth(ones, zeros, PLAN, 1.0) is ones


def test_a_sample_is_continuous_in_the_active_share_also_across_a_step() -> None:
    x = torch.ones(1, 1, 2, 2)

    def run(active: float) -> Tensor:
        return list(sample(fade_depth(ones, zeros, PLAN, active), x, PLAN))[-1]

    for active in (0.25, 0.5, 0.6, 0.75, 1.0):
        difference = float((run(active) - run(active - 1e-6)).abs().max())
        assert difference < 1e-4
    assert float((run(1.0) - run(0.0)).abs().max()) > 0.1


@pytest.mark.parametrize("at", [0, 2])
def test_one_structured_frame_among_constant_ones_is_kept_and_lends_them_its_mean(at: int) -> None:
    clip = torch.full((4, 1, 36, 48), 5.0)
    clip[at] = scene()[0]
    aligned = align(clip)
    assert torch.equal(aligned[at], clip[at])
    torch.testing.assert_close(
        aligned.mean(dim=(1, 2, 3)), clip[at].mean().expand(4), rtol=1e-5, atol=1e-3
    )
