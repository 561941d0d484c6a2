"""The schedule, the sampler and its inversion, against diffusers and against themselves."""

import math
from collections.abc import Callable, Iterable

import pytest
import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler, PNDMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dvcli.core.ddim import (
    Clip,
    Schedule,
    add_noise,
    ddim_noise_step,
    ddim_step,
    eps_from,
    guide,
    guide_within,
    in_turn,
    invert,
    sample,
    sample_last,
    schedule,
    x0_from,
)
from dvcli.errors import InputError, UsageError

SD: dict[str, object] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
SHAPE = (3, 4, 5, 6)


def last(clips: Iterable[Clip]) -> Clip:
    """The clip after the last step."""
    *_, clip = clips
    return clip


def start(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(SHAPE, generator=generator, dtype=torch.float64)


def network(x: Tensor, t: int) -> Tensor:
    """A smooth stand-in for a network's raw output."""
    return 0.8 * torch.tanh(x) + 0.3 * math.sin(t / 100) + 0.1 * x.roll(1, 0)


def denoiser(plan: Schedule) -> Callable[[Clip, int], Clip]:
    return lambda x, t: eps_from(plan.prediction, network(x, t), x, plan.alpha(t))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("steps", [1, 7, 50])
@pytest.mark.parametrize("to_one", [True, False])
@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
def test_sampling_equals_diffusers(spacing: str, to_one: bool, steps: int, prediction: str) -> None:
    config = SD | {
        "timestep_spacing": spacing,
        "set_alpha_to_one": to_one,
        "prediction_type": prediction,
    }
    theirs = DDIMScheduler(**config)
    theirs.set_timesteps(steps)
    plan = schedule(config, steps)
    assert list(plan.timesteps) == theirs.timesteps.tolist()
    x = start()
    ours = sample(denoiser(plan), x, plan)
    for t, mine in zip(theirs.timesteps, ours, strict=True):
        x = theirs.step(network(x, int(t)), t, x).prev_sample
        torch.testing.assert_close(mine, x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("to_one", [True, False])
@pytest.mark.parametrize("steps", [1, 7, 50])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_inversion_equals_diffusers(spacing: str, steps: int, to_one: bool) -> None:
    config = SD | {"timestep_spacing": spacing, "set_alpha_to_one": to_one}
    theirs = DDIMInverseScheduler(**config)
    theirs.set_timesteps(steps)
    x = start()
    ours = invert(network, x, schedule(config, steps))
    for t, mine in zip(theirs.timesteps, ours, strict=True):
        x = theirs.step(network(x, int(t)), t, x).prev_sample
        torch.testing.assert_close(mine, x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "betas",
    [
        {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02},
        {"beta_schedule": "scaled_linear"},
        {"beta_schedule": "squaredcos_cap_v2"},
        {"trained_betas": torch.linspace(0.001, 0.02, 1000).tolist()},
        {"rescale_betas_zero_snr": True},
        {"num_train_timesteps": 100},
    ],
    ids=["linear", "scaled_linear", "cosine", "trained", "zero_snr", "short"],
)
def test_the_noise_levels_equal_those_of_diffusers(betas: dict[str, object]) -> None:
    config = SD | betas
    theirs = DDIMScheduler(**config).alphas_cumprod.double()
    torch.testing.assert_close(schedule(config, 5).train_alphas, theirs, rtol=2e-6, atol=1e-7)


def test_a_pndm_config_gives_the_ddim_scheduler_made_from_it() -> None:
    own = {name: value for name, value in SD.items() if name != "clip_sample"}
    saved = {**PNDMScheduler(**own, skip_prk_steps=True).config, "clip_sample": False}
    theirs = DDIMScheduler.from_config(saved)
    theirs.set_timesteps(50)
    plan = schedule(saved, 50)
    assert list(plan.timesteps) == theirs.timesteps.tolist()
    assert plan.alpha_last == pytest.approx(float(theirs.final_alpha_cumprod), abs=1e-9)


def test_a_config_with_nothing_in_it_has_the_defaults_of_diffusers() -> None:
    theirs = DDIMScheduler(clip_sample=False)
    theirs.set_timesteps(10)
    plan = schedule({}, 10)
    assert list(plan.timesteps) == theirs.timesteps.tolist()
    assert plan.alpha_last == 1.0
    torch.testing.assert_close(plan.train_alphas, theirs.alphas_cumprod.double())


def test_a_terminal_snr_of_zero_samples_as_in_diffusers() -> None:
    config = SD | {
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
        "prediction_type": "v_prediction",
    }
    theirs = DDIMScheduler(**config)
    theirs.set_timesteps(20)
    plan = schedule(config, 20)
    x = start()
    for t in theirs.timesteps:
        x = theirs.step(network(start(1), int(t)), t, x).prev_sample
    raw = network

    def denoise(x: Clip, t: int) -> Clip:
        return eps_from("v_prediction", raw(start(1), t), x, plan.alpha(t))

    torch.testing.assert_close(last(sample(denoise, start(), plan)), x, rtol=0, atol=2e-3)


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ({"beta_schedule": "sigmoid"}, "sigmoid"),
        ({"timestep_spacing": "karras"}, "karras"),
        ({"prediction_type": "flow_prediction"}, "flow_prediction"),
        ({"clip_sample": True}, "clip_sample"),
        ({"thresholding": True}, "thresholding"),
        ({"beta_start": "low"}, "beta_start"),
        ({"steps_offset": None}, "steps_offset"),
        ({"trained_betas": [0.1, 0.2]}, "trained_betas"),
    ],
)
def test_an_unsupported_entry_is_named(entry: dict[str, object], named: str) -> None:
    with pytest.raises(InputError, match=named):
        schedule(SD | entry, 5)


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_a_step_count_outside_the_training_steps_is_refused(steps: int) -> None:
    with pytest.raises(UsageError, match=str(steps)):
        schedule(SD, steps)


def test_a_step_count_that_the_offset_pushes_out_is_refused_and_the_hint_is_right() -> None:
    with pytest.raises(UsageError) as refused:
        schedule(SD, 1000)
    assert refused.value.hint == "ask for 999 steps"
    assert schedule(SD, 999).timesteps[0] == 999


@given(
    steps=st.integers(1, 60),
    spacing=st.sampled_from(["leading", "linspace", "trailing"]),
    to_one=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=30, deadline=None)
def test_with_noise_of_t_alone_inverting_then_sampling_is_the_identity(
    steps: int, spacing: str, to_one: bool, seed: int
) -> None:
    plan = schedule(SD | {"timestep_spacing": spacing, "set_alpha_to_one": to_one}, steps)

    def eps(x: Clip, t: int) -> Clip:
        return start(t)

    x_0 = start(seed).float()
    back = last(sample(eps, last(invert(eps, x_0, plan)), plan))
    torch.testing.assert_close(back.float(), x_0, rtol=0, atol=1e-5)


@given(a=st.floats(0.01, 0.999), b=st.floats(0.01, 0.999), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_a_step_there_and_back_is_the_identity(a: float, b: float, seed: int) -> None:
    x, eps = start(seed), start(seed + 1)
    torch.testing.assert_close(ddim_step(ddim_step(x, eps, a, b), eps, b, a), x)


def test_refinement_converges_to_the_exact_inverse_of_the_sampler() -> None:
    plan = schedule(SD, 10)
    x_0 = start()
    errors = []
    for refine in (0, 1, 2, 4, 8, 60):
        x_T = last(invert(network, x_0, plan, refine=refine))
        errors.append(float((last(sample(network, x_T, plan)) - x_0).abs().max()))
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 1e-2
    assert errors[-1] < 1e-6


def test_inversion_asks_for_each_time_step_once_per_round_in_ascending_order() -> None:
    plan = schedule(SD, 5)
    asked: list[int] = []

    def eps(x: Clip, t: int) -> Clip:
        asked.append(t)
        return x

    last(invert(eps, start(), plan, refine=2))
    assert asked == [t for t in sorted(plan.timesteps) for _ in range(3)]


@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_a_noisy_step_equals_that_of_diffusers(eta: float) -> None:
    theirs = DDIMScheduler(**SD)
    theirs.set_timesteps(10)
    x, eps, noise = start(0), start(1), start(2)
    for t, alpha_from, alpha_to in schedule(SD, 10):
        expected = theirs.step(eps, t, x, eta=eta, variance_noise=noise).prev_sample
        mine = ddim_noise_step(x, eps, alpha_from, alpha_to, eta, noise)
        torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-5)


def test_a_noisy_step_without_noise_is_the_plain_step() -> None:
    x, eps = start(0), start(1)
    assert torch.equal(ddim_noise_step(x, eps, 0.2, 0.5, 0.0, x), ddim_step(x, eps, 0.2, 0.5))


def test_the_generator_alone_decides_a_noisy_sample() -> None:
    plan = schedule(SD, 4)

    def run(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return last(sample(network, start(), plan, eta=1.0, generator=generator))

    before = torch.get_rng_state()
    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))
    assert torch.equal(torch.get_rng_state(), before)


def test_noise_without_a_generator_is_refused() -> None:
    with pytest.raises(ValueError, match="generator"):
        next(sample(network, start(), schedule(SD, 4), eta=0.5))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_noise_and_clip_from_an_output_make_up_the_input(prediction: str) -> None:
    x, output, alpha = start(0), start(1), 0.37
    x_0 = x0_from(prediction, output, x, alpha)  # type: ignore[arg-type]
    eps = eps_from(prediction, output, x, alpha)  # type: ignore[arg-type]
    torch.testing.assert_close(math.sqrt(alpha) * x_0 + math.sqrt(1 - alpha) * eps, x)


def test_the_state_is_float64_whatever_comes_in() -> None:
    plan = schedule(SD, 2)
    half = start().half()
    assert {x.dtype for x in sample(network, half, plan)} == {torch.float64}
    assert {x.dtype for x in invert(network, half, plan)} == {torch.float64}


def test_guidance_one_is_the_conditional_denoiser_itself() -> None:
    assert guide(network, start, 1) is network  # type: ignore[arg-type]


@given(scale=st.floats(0, 20))
@settings(max_examples=20, deadline=None)
def test_guidance_is_linear_in_its_scale(scale: float) -> None:
    def cond(x: Clip, t: int) -> Clip:
        return x + t

    def uncond(x: Clip, t: int) -> Clip:
        return x * t

    x = start()
    expected = (1 - scale) * uncond(x, 3) + scale * cond(x, 3)
    torch.testing.assert_close(guide(cond, in_turn(cond, uncond), scale)(x, 3), expected)


PLAN = schedule(SD, 8)


def noised(k: int) -> Clip:
    """A known clip's latents before step k of `PLAN`."""
    return add_noise(start(1), start(2), (*PLAN.alphas, 1.0)[k])


def strong(strength: float) -> Clip:
    return last([noised(len(PLAN)), *sample_last(denoiser(PLAN), noised, PLAN, strength)])


def test_strength_1_is_the_whole_sampler() -> None:
    ours = list(sample_last(denoiser(PLAN), noised, PLAN, 1.0))
    assert all(map(torch.equal, ours, sample(denoiser(PLAN), noised(0), PLAN)))
    assert len(ours) == len(PLAN)


def test_strength_0_runs_no_step() -> None:
    assert list(sample_last(denoiser(PLAN), noised, PLAN, 0.0)) == []


def test_a_strength_of_whole_steps_runs_just_these_from_where_the_clip_is() -> None:
    seen: list[int] = []

    def counted(x: Clip, t: int) -> Clip:
        if not seen:
            torch.testing.assert_close(x, noised(5), rtol=0, atol=0)
        seen.append(t)
        return denoiser(PLAN)(x, t)

    last(sample_last(counted, noised, PLAN, 3 / 8))
    assert tuple(seen) == PLAN.timesteps[5:]


@pytest.mark.parametrize("strength", [0.0, 1 / 8, 0.375, 0.5, 0.875])
def test_the_outcome_does_not_jump_where_another_step_begins(strength: float) -> None:
    here, above, far = strong(strength), strong(strength + 1e-6), strong(strength + 0.1)
    assert (here - above).abs().max() < 1e-4 < (here - far).abs().max()


def test_with_the_trajectory_of_an_exact_inversion_every_strength_gives_the_clip_back() -> None:
    def flat(x: Clip, t: int) -> Clip:
        return torch.full_like(x, t / 1000)

    way = [start(), *invert(flat, start(), PLAN)]
    for strength in (0.2, 0.5, 0.8, 1.0):
        back = last(sample_last(flat, lambda k: way[len(PLAN) - k], PLAN, strength))
        torch.testing.assert_close(back, start(), rtol=1e-9, atol=1e-9)


def one(x: Clip, t: int) -> Clip:
    return torch.ones_like(x)


def none(x: Clip, t: int) -> Clip:
    return torch.zeros_like(x)


def scales(start_at: float, until: float) -> list[float]:
    """The guidance scale at each of `PLAN`'s steps, asked for 5."""
    guided = guide_within(one, in_turn(one, none), 5.0, PLAN, start=start_at, until=until)
    return [float(guided(start(), t).mean()) for t in PLAN.timesteps]


def test_guidance_over_the_whole_way_is_guidance() -> None:
    assert scales(0, 1) == [5.0] * 8
    assert guide_within(one, in_turn(one, none), 1.0, PLAN, start=0, until=1) is one


def test_guidance_acts_inside_its_interval_only() -> None:
    assert scales(0.25, 0.75) == [1, 1, 5, 5, 5, 5, 1, 1]
    assert scales(0.5, 0.5) == [1.0] * 8
    assert scales(0.75, 0.25) == [1.0] * 8


def test_a_step_that_the_interval_cuts_is_guided_in_part() -> None:
    assert scales(0.0625, 0.3125) == pytest.approx([3, 5, 3, 1, 1, 1, 1, 1])
    assert scales(0.0625, 0.09375) == pytest.approx([2, 1, 1, 1, 1, 1, 1, 1])
