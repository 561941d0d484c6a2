"""The loss against closed forms, and what a step changes, repeats and refuses."""

import math
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import noise, small
from safetensors.torch import load, save
from torch import Tensor

from dvcli.core.ddim import Prediction, add_noise, schedule
from dvcli.core.optimising import gradients
from dvcli.core.recomputing import LEVELS, Level, checkpoint_gradients, checkpointed
from dvcli.core.tuning import Step, Torn, loss, seed_of, train
from dvcli.core.unet import deltas, inflate, predict, trainable, video_blocks
from dvcli.errors import InputError
from dvcli.recipes import TemporalTarget

PLAN = schedule({}, 1)
KNOBS: dict[str, Any] = {
    "lr": 1e-3,
    "weight_decay": 1e-2,
    "grad_clip": 1.0,
    "temporal_weight": 0.1,
    "temporal_target": "source",
    "seed": 33,
}
PREDICTIONS: list[Prediction] = ["epsilon", "v_prediction", "sample"]
TARGETS: list[TemporalTarget] = ["zero", "source"]


LATENTS, DEPTH, TEXT = noise(4, 4, 8, 8), noise(4, 1, 8, 8, seed=2), noise(6, 12, seed=3)


def inflated(seed: int = 0) -> UNet2DConditionModel:
    return inflate(small(), torch.Generator().manual_seed(seed))


def tune(unet: UNet2DConditionModel, steps: int, **changes: Any) -> list[Step]:
    return list(train(unet, LATENTS, DEPTH, TEXT, PLAN, **(KNOBS | {"steps": steps} | changes)))


def values(unet: UNet2DConditionModel) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in unet.named_parameters()}


def changed(before: dict[str, Tensor], unet: UNet2DConditionModel) -> set[str]:
    return {name for name, p in unet.named_parameters() if not torch.equal(before[name], p)}


def with_gradient(unet: UNet2DConditionModel) -> set[str]:
    named = unet.named_parameters()
    return {name for name, p in named if p.grad is not None and bool((p.grad != 0).any())}


def output_for(prediction: Prediction, clean: Tensor, eps: Tensor, alpha: float) -> Tensor:
    """What a network gives that believes in this clean clip at the noisy clip of `eps`."""
    x = add_noise(LATENTS, eps, alpha)
    implied = (x - math.sqrt(alpha) * clean) / math.sqrt(1 - alpha)
    if prediction == "epsilon":
        return implied
    if prediction == "v_prediction":
        return math.sqrt(alpha) * implied - math.sqrt(1 - alpha) * clean
    return clean


def steady(step: Tensor, clean: Tensor) -> Tensor:
    """A clip that starts as `clean` does and then moves by `step` each frame."""
    return torch.stack([clean[0] + i * step for i in range(len(clean))])


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("target", TARGETS)
@given(alpha=st.floats(0.05, 0.95), seed=st.integers(0, 9))
@settings(max_examples=10, deadline=None)
def test_the_temporal_loss_is_its_closed_form_whatever_the_network_predicts(
    target: TemporalTarget, prediction: Prediction, alpha: float, seed: int
) -> None:
    eps, clean = noise(*LATENTS.shape, seed=seed), noise(*LATENTS.shape, seed=seed + 50)
    output = output_for(prediction, clean, eps, alpha)
    parts = loss(
        output, LATENTS, eps, alpha, prediction, temporal_weight=0.7, temporal_target=target
    )
    moved = clean.diff(dim=0) - (LATENTS.diff(dim=0) if target == "source" else 0)
    torch.testing.assert_close(parts.temporal, alpha * (moved**2).mean(), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(parts.total, parts.denoising + 0.7 * parts.temporal)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_perfect_prediction_costs_nothing_with_the_source_as_target(
    prediction: Prediction,
) -> None:
    eps = noise(*LATENTS.shape, seed=7)
    output = output_for(prediction, LATENTS, eps, 0.4)
    parts = loss(
        output, LATENTS, eps, 0.4, prediction, temporal_weight=1.0, temporal_target="source"
    )
    assert float(parts.total) == pytest.approx(0, abs=1e-9)


def test_with_the_target_zero_a_frozen_prediction_costs_nothing_and_a_perfect_one_its_motion() -> (
    None
):
    eps = noise(*LATENTS.shape, seed=7)
    found = []
    for clean in (LATENTS[:1].expand_as(LATENTS), LATENTS):
        output = output_for("epsilon", clean, eps, 0.4)
        found.append(
            loss(output, LATENTS, eps, 0.4, "epsilon", temporal_weight=1, temporal_target="zero")
        )
    assert float(found[0].temporal) == pytest.approx(0, abs=1e-9)
    assert float(found[1].temporal) == pytest.approx(
        0.4 * float((LATENTS.diff(dim=0) ** 2).mean()), rel=1e-4
    )


def test_the_two_targets_differ_by_the_motion_of_the_clip_alone() -> None:
    eps = noise(*LATENTS.shape, seed=7)
    step = noise(4, 8, 8, seed=8)
    latents = steady(step, LATENTS)
    x = add_noise(latents, eps, 0.4)
    still = (x - math.sqrt(0.4) * latents[:1]) / math.sqrt(0.6)
    parts = loss(still, latents, eps, 0.4, "epsilon", temporal_weight=1, temporal_target="source")
    assert float(parts.temporal) == pytest.approx(0.4 * float((step**2).mean()), rel=1e-4)


def test_the_denoising_loss_is_the_mean_square_error_of_the_noise() -> None:
    eps = noise(*LATENTS.shape, seed=7)
    parts = loss(eps + 0.5, LATENTS, eps, 0.4, "epsilon", temporal_weight=0, temporal_target="zero")
    assert float(parts.denoising) == pytest.approx(0.25)
    assert torch.equal(parts.total, parts.denoising)


@pytest.mark.parametrize("target", TARGETS)
def test_one_frame_has_no_temporal_loss(target: TemporalTarget) -> None:
    one, eps = LATENTS[:1], noise(1, 4, 8, 8)
    parts = loss(-eps, one, eps, 0.4, "epsilon", temporal_weight=9, temporal_target=target)
    assert float(parts.temporal) == 0
    assert torch.equal(parts.total, parts.denoising)


@pytest.mark.parametrize("level", LEVELS)
def test_the_first_step_has_gradient_in_every_query_and_temporal_output(level: Level) -> None:
    unet = inflated()
    checkpoint_gradients(unet, level)
    tuning = train(unet, LATENTS, DEPTH, TEXT, PLAN, **(KNOBS | {"steps": 2}))
    next(tuning)
    # Behind an output projection of zeros the other temporal tensors have none yet.
    behind = ("attn_temp.to_q", "attn_temp.to_k", "attn_temp.to_v", "norm_temp")
    expected = {n for n in trainable(unet) if not any(part in n for part in behind)}
    assert with_gradient(unet) == expected
    assert any(name.startswith("down_blocks.0") for name in expected)


@pytest.mark.parametrize("level", LEVELS)
def test_by_the_second_step_every_trainable_tensor_has_had_gradient_and_changed_and_no_frozen_one(
    level: Level,
) -> None:
    unet = inflated()
    checkpoint_gradients(unet, level)
    before = values(unet)
    had: set[str] = set()
    for _ in train(unet, LATENTS, DEPTH, TEXT, PLAN, **(KNOBS | {"steps": 2, "weight_decay": 0.0})):
        had |= with_gradient(unet)
    assert had == changed(before, unet) == set(trainable(unet))


def test_one_step_reaches_every_trainable_tensor_once_temporal_outputs_are_not_zero() -> None:
    unet = inflated()
    checkpoint_gradients(unet, "all")
    for _, block in video_blocks(unet):
        torch.nn.init.normal_(block.attn_temp.to_out.weight, std=0.1)
    before = values(unet)
    tuning = train(unet, LATENTS, DEPTH, TEXT, PLAN, **(KNOBS | {"steps": 2, "weight_decay": 0.0}))
    next(tuning)
    assert with_gradient(unet) == changed(before, unet) == set(trainable(unet))


def test_checkpointing_gradients_changes_no_gradient() -> None:
    found = []
    for level in LEVELS:
        unet = inflated()
        parameters = trainable(unet)
        checkpoint_gradients(unet, level)
        assert checkpointed(unet) == level
        predict(unet, LATENTS, 7, TEXT, DEPTH).square().mean().backward()
        found.append({n: p.grad for n, p in parameters.items()})
    for other in found[1:]:
        assert all(torch.equal(found[0][n], grad) for n, grad in other.items())  # type: ignore[arg-type]


def test_tuning_lowers_the_loss_at_the_very_same_draws() -> None:
    tuned = tune(inflated(), 30, lr=1e-2)
    untuned = tune(inflated(), 30, lr=0.0)
    late = [(a.loss, b.loss) for a, b in zip(tuned, untuned, strict=True)][15:]
    assert tuned[0].loss == untuned[0].loss
    assert sum(a for a, _ in late) < 0.95 * sum(b for _, b in late)


def test_a_step_reports_its_parts() -> None:
    (step,) = tune(inflated(), 1)
    assert step.index == 1
    assert step.loss == pytest.approx(step.denoising + 0.1 * step.temporal, rel=1e-5)
    assert step.gradient_norm > 0
    assert 0 <= step.t < 1000


@pytest.mark.parametrize("at", [1, 3])
@pytest.mark.parametrize("level", LEVELS)
def test_resuming_gives_the_same_deltas_bit_for_bit(at: int, level: Level) -> None:
    whole, first, second = inflated(), inflated(), inflated(seed=99)
    for unet in (whole, first, second):
        checkpoint_gradients(unet, level)
    expected = tune(whole, 5)[-1].state()
    stored = save(tune(first, at)[-1].state())
    torch.manual_seed(12345)
    resumed = tune(second, 5, start=load(stored))
    assert [step.index for step in resumed] == list(range(at + 1, 6))
    state = resumed[-1].state()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())
    assert all(torch.equal(deltas(second)[n], tensor) for n, tensor in deltas(whole).items())


def test_resuming_a_finished_tuning_does_nothing_but_load_it() -> None:
    done, fresh = inflated(), inflated(seed=99)
    state = tune(done, 2)[-1].state()
    assert tune(fresh, 2, start=state) == []
    assert all(torch.equal(deltas(fresh)[n], tensor) for n, tensor in deltas(done).items())


def test_a_state_is_a_copy_that_later_steps_leave_alone() -> None:
    unet = inflated()
    tuning = train(unet, LATENTS, DEPTH, TEXT, PLAN, **(KNOBS | {"steps": 2}))
    state = next(tuning).state()
    before = {name: tensor.clone() for name, tensor in state.items()}
    next(tuning)
    assert all(torch.equal(state[name], tensor) for name, tensor in before.items())


def test_a_step_that_broke_off_while_it_changed_the_tensors_leaves_no_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tuning = train(inflated(), LATENTS, DEPTH, TEXT, PLAN, **(KNOBS | {"steps": 3}))
    next(tuning)
    second = next(tuning)
    real = torch.optim.AdamW.step

    def broken(self: torch.optim.AdamW) -> None:
        real(self)
        raise torch.OutOfMemoryError

    monkeypatch.setattr(torch.optim.AdamW, "step", broken)
    with pytest.raises(torch.OutOfMemoryError):
        next(tuning)
    with pytest.raises(Torn):
        second.state()


def test_a_step_that_broke_off_before_it_changed_the_tensors_leaves_the_last_state() -> None:
    unet = inflated()
    tuning = train(unet, LATENTS, DEPTH, TEXT, PLAN, **(KNOBS | {"steps": 3}))
    next(tuning)
    second = next(tuning)
    expected = second.state()

    def broken(grad: Tensor) -> Tensor:
        raise torch.OutOfMemoryError

    next(iter(trainable(unet).values())).register_hook(broken)
    with pytest.raises(torch.OutOfMemoryError):
        next(tuning)
    state = second.state()
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())


def test_a_state_is_no_longer_there_once_the_next_step_is_done() -> None:
    first, second, *_ = tune(inflated(), 2)
    second.state()
    with pytest.raises(Torn):
        first.state()


def test_a_checkpoint_that_lacks_something_is_refused() -> None:
    state = tune(inflated(), 1)[-1].state()
    moment = next(name for name in state if name.startswith("exp_avg_sq/"))
    delta = next(name for name in state if name.startswith("deltas/"))
    for lost, named in (("step", "how many"), (moment, moment), (delta, "lacks")):
        partial = {name: tensor for name, tensor in state.items() if name != lost}
        with pytest.raises(InputError, match=named):
            tune(inflated(), 2, start=partial)


def test_the_global_generator_decides_nothing_and_is_not_touched() -> None:
    runs = []
    for seed in (1, 2):
        unet = inflated()
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        checkpoint_gradients(unet, "all")
        tune(unet, 2)
        assert torch.equal(torch.get_rng_state(), before)
        runs.append(deltas(unet))
    assert all(torch.equal(runs[0][name], tensor) for name, tensor in runs[1].items())


def test_another_seed_is_another_tuning() -> None:
    assert tune(inflated(), 1)[0].loss != tune(inflated(), 1, seed=34)[0].loss


def test_seeds_beyond_32_bits_and_neighbouring_steps_are_told_apart() -> None:
    seeds = {seed_of(s, k) for s in (0, 1, 33, 33 + 2**32, 2**63 - 1) for k in range(200)}
    assert len(seeds) == 1000


def test_no_steps_leave_the_network_as_it_was() -> None:
    unet = inflated()
    before = values(unet)
    assert tune(unet, 0) == []
    assert changed(before, unet) == set()


def test_a_base_without_depth_is_tuned_the_same_way() -> None:
    unet = small(
        in_channels=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )
    inflate(unet, torch.Generator().manual_seed(0))
    before = values(unet)
    list(train(unet, LATENTS, None, TEXT, PLAN, **(KNOBS | {"steps": 2})))
    assert changed(before, unet) == set(trainable(unet))


def test_the_gradient_is_clipped_to_its_limit() -> None:
    unet = inflated()
    parameters = list(trainable(unet).values())
    tuning = train(unet, LATENTS, DEPTH, TEXT, PLAN, **(KNOBS | {"steps": 1, "grad_clip": 1e-3}))
    step = next(tuning)
    clipped = math.sqrt(sum(float(p.grad.square().sum()) for p in parameters if p.grad is not None))
    assert step.gradient_norm > 1e-3
    assert clipped == pytest.approx(1e-3, rel=1e-2)


def test_a_loss_that_is_not_finite_names_the_step() -> None:
    broken = LATENTS.clone()
    broken[0, 0, 0, 0] = math.nan
    tuning = train(inflated(), broken, DEPTH, TEXT, PLAN, **(KNOBS | {"steps": 3}))
    with pytest.raises(InputError, match="step 1: the loss is not finite"):
        next(tuning)


def test_a_gradient_that_is_not_finite_names_the_step_and_changes_nothing() -> None:
    unet = inflated()
    tuning = train(unet, LATENTS, DEPTH, TEXT, PLAN, **(KNOBS | {"steps": 3}))
    next(tuning)
    before = deltas(unet)
    next(iter(trainable(unet).values())).register_hook(lambda grad: grad * math.inf)
    with pytest.raises(InputError, match="step 2: the gradient is not finite"):
        next(tuning)
    assert all(torch.equal(before[name], tensor) for name, tensor in deltas(unet).items())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_half_network_has_the_gradient_of_the_full_one(dtype: torch.dtype) -> None:
    full, half = inflated(), inflated().to(dtype)
    norms = [tune(unet, 1)[0].gradient_norm for unet in (full, half)]
    assert norms[1] == pytest.approx(norms[0], rel=0.05)
    assert {p.dtype for p in trainable(half).values()} == {torch.float32}


LIGHT: dict[str, Any] = {"temporal_weight": 0.0, "temporal_target": "zero"}


def test_fp16_gradients_too_small_for_fp16_still_arrive() -> None:
    norms = []
    for unet in (inflated(), inflated().half()):
        parameters = list(trainable(unet).values())

        def small(unet: UNet2DConditionModel = unet) -> Any:
            output = predict(unet, LATENTS, 7, TEXT, DEPTH) * 3e-3
            return loss(output, LATENTS, 0 * LATENTS, 0.5, "epsilon", **LIGHT).total

        half = unet.conv_in.weight.dtype == torch.float16
        norms.append(float(gradients(small, parameters, 1e9, half=half)))
    assert norms[1] == pytest.approx(norms[0], rel=0.05)


def test_fp16_gradients_too_large_for_the_first_scale_still_arrive() -> None:
    unet = inflated().half()
    parameters = list(trainable(unet).values())

    def huge() -> Any:
        output = predict(unet, LATENTS, 7, TEXT, DEPTH) * 30
        return loss(output, LATENTS, 0 * LATENTS, 0.5, "epsilon", **LIGHT).total

    norm = float(gradients(huge, parameters, 1e9, half=True))
    assert math.isfinite(norm)
    assert norm > 1
