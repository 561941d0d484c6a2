"""A tuning step that a device can run without its host: buffers, recordings, rare looks."""

import math
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from networks import noise, small
from torch import nn

from dvcli.core import tuning
from dvcli.core.ddim import add_noise, schedule
from dvcli.core.graphs import WARM, Recorder, Replayed, ReplayedCall, Work, recorder
from dvcli.core.tuning import Draw, Step, loss, seed_of, train
from dvcli.core.unet import bind, deltas, inflate, load_deltas, predict, trainable
from dvcli.errors import InputError
from dvcli.recipes import Seen, Trained

PLAN = schedule({}, 10)
KNOBS: dict[str, Any] = {
    "lr": 1e-2,
    "weight_decay": 1e-2,
    "grad_clip": 1.0,
    "temporal_weight": 0.1,
    "temporal_target": "source",
    "seed": 33,
}


LATENTS, DEPTH, TEXT = noise(4, 4, 8, 8), noise(4, 1, 8, 8, seed=2), noise(6, 12, seed=3)


def network(
    sees: Seen = "first-previous", trained: Trained = "queries", seed: int = 0
) -> UNet2DConditionModel:
    generator = torch.Generator().manual_seed(seed)
    return inflate(small(), generator, sees=sees, trained=trained)


def tune(unet: UNet2DConditionModel, steps: int, **changes: Any) -> list[Step]:
    return list(train(unet, LATENTS, DEPTH, TEXT, PLAN, **(KNOBS | {"steps": steps} | changes)))


def same(one: UNet2DConditionModel, other: UNet2DConditionModel) -> bool:
    theirs = deltas(other)
    return all(torch.equal(tensor, theirs[name]) for name, tensor in deltas(one).items())


class Tape:
    """Stands in for CUDA: a recording runs nothing, a replay runs the work."""

    def __init__(self, error: type[Exception] | None = None) -> None:
        self.told: list[str] = []
        self.error = error

    def warm(self, work: Work) -> None:
        self.told.append("warm")
        work()

    def record(self, work: Work) -> Work:
        self.told.append("record")
        if self.error is not None:
            raise self.error("operation not permitted when stream is capturing")

        def replay() -> None:
            self.told.append("replay")
            work()

        return replay


def test_a_step_from_buffers_is_bit_for_bit_the_step_written_out() -> None:
    plain, ours = network(), network()
    parameters = list(trainable(plain).values())
    adamw = torch.optim.AdamW(parameters, lr=1e-2, weight_decay=1e-2, fused=True)
    totals = []
    for index in (1, 2, 3):
        generator = torch.Generator().manual_seed(seed_of(33, index))
        t = int(torch.randint(1000, (), generator=generator))
        eps = torch.randn(LATENTS.shape, generator=generator)
        alpha = PLAN.alpha(t)
        output = predict(plain, add_noise(LATENTS, eps, alpha), t, TEXT, DEPTH)
        parts = loss(
            output, LATENTS, eps, alpha, "epsilon", temporal_weight=0.1, temporal_target="source"
        )
        adamw.zero_grad()
        parts.total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        adamw.step()
        totals.append(float(parts.total.detach()))
    assert [step.loss for step in tune(ours, 3)] == totals
    assert same(plain, ours)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_a_loss_at_an_alpha_on_the_device_is_that_at_the_number(prediction: Any) -> None:
    output, eps = noise(4, 4, 8, 8, seed=5), noise(4, 4, 8, 8, seed=6)
    knobs: dict[str, Any] = {"temporal_weight": 0.3, "temporal_target": "source"}
    found = [
        loss(output, LATENTS, eps, alpha, prediction, **knobs).total
        for alpha in (0.37, torch.tensor(0.37, dtype=torch.float64))
    ]
    assert torch.equal(*found)


def test_a_draw_is_a_function_of_the_seed_and_the_step_alone() -> None:
    one, other = Draw(LATENTS, PLAN), Draw(LATENTS, PLAN)
    for index in (5, 9, 2):
        one.next(33, index)
    t = other.next(33, 2)
    assert torch.equal(one.noise, other.noise)
    assert int(one.t) == int(other.t) == t
    assert float(one.alpha) == PLAN.alpha(t)


def test_a_draw_stays_in_its_buffers() -> None:
    draw = Draw(LATENTS, PLAN)
    places = [tensor.data_ptr() for tensor in (draw.noise, draw.alpha, draw.t)]
    draw.next(33, 1)
    assert [tensor.data_ptr() for tensor in (draw.noise, draw.alpha, draw.t)] == places


def test_a_replayed_tuning_is_bit_for_bit_the_plain_one() -> None:
    plain, replayed, tape = network(), network(), Tape()
    expected = tune(plain, WARM + 4)
    found = tune(replayed, WARM + 4, by=tape)
    assert tape.told == ["warm"] * WARM + ["record"] + ["replay"] * 4
    assert [step.loss for step in found] == [step.loss for step in expected]
    assert same(plain, replayed)


def test_work_that_cannot_be_recorded_goes_on_as_it_is() -> None:
    plain, unable, tape = network(), network(), Tape(RuntimeError)
    tune(plain, WARM + 4)
    tune(unable, WARM + 4, by=tape)
    assert tape.told == ["warm"] * WARM + ["record"]
    assert same(plain, unable)


def test_an_error_that_says_nothing_of_recording_is_not_swallowed() -> None:
    run = Replayed(lambda: None, Tape(ZeroDivisionError))
    for _ in range(WARM):
        run()
    with pytest.raises(ZeroDivisionError):
        run()


def test_every_call_does_the_work_once() -> None:
    done: list[int] = []
    run = Replayed(lambda: done.append(1), Tape())
    for calls in range(1, WARM + 5):
        run()
        assert len(done) == calls


def test_a_replayed_denoiser_gives_the_same_and_keeps_what_it_gave() -> None:
    unet = network().requires_grad_(False)
    plain, replayed = (bind(unet, TEXT, DEPTH, PLAN, by=by) for by in (None, Tape()))
    clips = [noise(4, 4, 8, 8, seed=seed) for seed in range(WARM + 4)]
    found = [replayed(x, 3 + t) for t, x in enumerate(clips)]
    for t, (x, mine) in enumerate(zip(clips, found, strict=True)):
        assert torch.equal(mine, plain(x, 3 + t))


def test_a_recording_serves_no_clip_of_another_size() -> None:
    tape = Tape()
    call = ReplayedCall(lambda x, t: x * t, tape)
    for _ in range(WARM + 1):
        call(torch.ones(2), torch.tensor(3))
    assert torch.equal(call(torch.ones(5), torch.tensor(2)), torch.full((5,), 2.0))
    assert tape.told.count("replay") == 1


def test_nothing_records_on_a_cpu() -> None:
    assert recorder(torch.device("cpu")) is None
    assert isinstance(Tape(), Recorder)


def test_an_optimiser_elsewhere_takes_the_same_steps_and_resumes() -> None:
    here, away, resumed = network(), network(), network(seed=5)
    tune(here, 4)
    state = tune(away, 2, offload=True)[-1].state()
    tune(resumed, 4, offload=True, start=state)
    assert same(here, resumed)


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, where results are looked at every few steps."""
    monkeypatch.setattr(tuning, "asynchronous", lambda _: True)
    monkeypatch.setattr(tuning, "PATIENCE", 4)


def spoiled_at(step: int, unet: UNet2DConditionModel, by: float = math.nan) -> None:
    calls = iter(range(1, 10**6))
    parameter = next(iter(trainable(unet).values()))
    parameter.register_hook(lambda grad: grad * by if next(calls) == step else grad)


@pytest.mark.usefixtures("ahead")
@pytest.mark.parametrize("replayed", [True, False])
def test_a_broken_step_changes_nothing_and_neither_do_those_after_it(replayed: bool) -> None:
    good, bad = network(), network()
    tune(good, 1)
    spoiled_at(2, bad)
    steps = train(
        bad,
        LATENTS,
        DEPTH,
        TEXT,
        PLAN,
        **(KNOBS | {"steps": 9}),
        by=Tape() if replayed else None,
    )
    seen = []
    with pytest.raises(InputError, match="step 2: the gradient is not finite"):
        seen += [step.index for step in steps]
    assert same(good, bad)


@pytest.mark.usefixtures("ahead")
def test_no_state_is_to_be_had_of_a_broken_step() -> None:
    unet = network()
    spoiled_at(2, unet, math.inf)
    steps = train(unet, LATENTS, DEPTH, TEXT, PLAN, **(KNOBS | {"steps": 9}))
    next(steps).state()
    with pytest.raises(InputError, match="step 2"):
        next(steps).state()


@pytest.mark.usefixtures("ahead")
def test_a_tuning_that_breaks_at_its_very_end_is_told_before_its_last_step_is_given() -> None:
    unet = network()
    spoiled_at(3, unet)
    steps = train(unet, LATENTS, DEPTH, TEXT, PLAN, **(KNOBS | {"steps": 3}))
    next(steps)
    next(steps)
    with pytest.raises(InputError, match="step 3"):
        next(steps)


@pytest.mark.parametrize("sees", ["first-previous", "first", "full"])
def test_each_choice_of_frames_can_be_tuned_and_is_another_network(sees: Seen) -> None:
    x = noise(4, 4, 8, 8)
    found = bind(network(sees), TEXT, DEPTH, PLAN)(x, 7)
    standard = bind(network(), TEXT, DEPTH, PLAN)(x, 7)
    assert torch.equal(found, standard) == (sees == "first-previous")
    assert len(tune(network(sees), 2)) == 2


def test_with_projections_trained_all_of_both_attentions_learns_and_nothing_else_spatial() -> None:
    unet = network(trained="projections")
    before = {name: tensor.detach().clone() for name, tensor in unet.named_parameters()}
    tune(unet, 2, weight_decay=0.0)
    changed = {n for n, tensor in unet.named_parameters() if not torch.equal(before[n], tensor)}
    assert changed == set(trainable(unet))
    spatial = {name.partition("transformer_blocks.0.")[2] for name in changed}
    projections = ("to_q.weight", "to_k.weight", "to_v.weight", "to_out.0.weight", "to_out.0.bias")
    assert {name for name in spatial if "temp" not in name} == {
        f"{attn}.{part}" for attn in ("attn1", "attn2") for part in projections
    }


def test_with_projections_trained_a_tuning_resumes_bit_for_bit() -> None:
    whole, first = network(trained="projections"), network(trained="projections")
    second = network(trained="projections", seed=9)
    tune(whole, 4)
    tune(second, 4, start=tune(first, 2)[-1].state())
    assert same(whole, second)


def test_deltas_of_queries_and_of_projections_are_told_apart() -> None:
    queries, projections = network(), network(trained="projections")
    with pytest.raises(InputError, match="lacks"):
        load_deltas(projections, deltas(queries))
    with pytest.raises(InputError, match="unknown tensor"):
        load_deltas(queries, deltas(projections))
    load_deltas(projections, deltas(network(trained="projections", seed=4)))
