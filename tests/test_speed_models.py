"""Of the models that a command loads: each once, none for longer than it serves."""

import gc
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import awake, noise, small
from test_stages import TUNE, _tuned_run

from dvcli import stages
from dvcli.core import graphs, memory, tuning, unet
from dvcli.core.ddim import schedule
from dvcli.models import latents, load, text
from dvcli.recipes import Controls, Sample
from dvcli.runtime import Runtime, Shelf
from dvcli.stages import network, preflight
from dvcli.store import Store

MODELS = ("unet", "vae", "text_encoder", "tokenizer")


class Tape:
    """Stands in for CUDA."""

    def warm(self, work: graphs.Work) -> None:
        work()

    def record(self, work: graphs.Work) -> graphs.Work:
        return work


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every model that is loaded and every text that is embedded, by name."""
    found: list[str] = []

    def counting(module: Any, name: str, told: Any) -> None:
        real = getattr(module, name)

        def counted(*how: Any) -> Any:
            found.append(told(how))
            return real(*how)

        monkeypatch.setattr(module, name, counted)

    for name in MODELS:
        counting(load, name, lambda _, name=name: name)
    counting(text, "embed", lambda how: f"“{how[2]}”")
    return found


def asked(prompt: str, **more: Any) -> Sample:
    """A clip of the tuned run, by an inversion that is not made yet."""
    _, _, inverted = _tuned_run()
    return Sample(inverted=replace(inverted, steps=2), prompt=prompt, negative="snow", **more)


def runtime(**more: Any) -> tuple[Store, Runtime]:
    store, locate, _ = _tuned_run()
    return store, Runtime(locate=locate, **more)


@pytest.mark.usefixtures("tuned")
def test_an_inversion_and_the_clips_after_it_load_each_model_once_and_embed_each_text_once(
    loads: list[str],
) -> None:
    store, how = runtime()
    for prompt in ("a fox", "a bear"):
        stages.realise(asked(prompt), store, how)
    assert sorted(name for name in loads if name in MODELS) == sorted(MODELS)
    texts = [name for name in loads if name not in MODELS]
    assert texts[1:] == ["“a fox”", "“snow”", "“a bear”"]
    assert len(texts) == 4  # the first is the caption


@pytest.mark.usefixtures("tuned")
def test_where_memory_is_short_the_network_is_called_with_no_other_model_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, how = runtime(memory="low")
    held: list[set[object]] = []
    real = unet.predict_batch

    def watched(*given: Any) -> Any:
        held.append({name[0] for name in how.shelf._held})
        return real(*given)

    monkeypatch.setattr(unet, "predict_batch", watched)
    for prompt in ("a fox", "a bear"):
        stages.realise(asked(prompt), store, how)
    assert len(held) > 4
    assert all("unet" in names and not {"text", "vae"} & names for names in held)


@pytest.mark.usefixtures("tuned")
@pytest.mark.parametrize(("active", "bound"), [(1.0, 2), (0.4, 4)])
def test_a_network_blind_to_depth_is_bound_only_where_depth_ends_early(
    active: float, bound: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, how = runtime()
    recipe = asked("a fox", controls=Controls(active=active))
    stages.realise(recipe.inverted, store, how)
    calls: list[None] = []
    real = unet.bind
    monkeypatch.setattr(unet, "bind", lambda *a, **k: (calls.append(None), real(*a, **k))[1])
    stages.realise(recipe, store, how)
    assert len(calls) == bound


@pytest.mark.usefixtures("tuned")
def test_no_recording_is_left_when_frames_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    store, how = runtime()
    calls: list[weakref.ref[graphs.Replayed]] = []
    alive: list[int] = []
    begin, decode = graphs.Replayed.__init__, latents.decode

    def begun(self: graphs.Replayed, *given: Any) -> None:
        begin(self, *given)
        calls.append(weakref.ref(self))

    def decoded(*given: Any) -> Any:
        alive.append(sum(call() is not None for call in calls))
        return decode(*given)

    monkeypatch.setattr(graphs.Replayed, "__init__", begun)
    monkeypatch.setattr(latents, "decode", decoded)
    monkeypatch.setattr(network, "recorder", lambda _: Tape())
    gc.collect()
    gc.disable()
    try:
        stages.realise(asked("a fox"), store, how)
    finally:
        gc.enable()
    assert len(calls) == 3  # one for the inversion and two in turn
    assert alive == [0, 0, 0]


def test_a_shelf_has_one_of_a_kind_and_has_let_go_of_it_before_it_makes_the_next() -> None:
    shelf, held = Shelf(), list[bool]()
    shelf.get("invert", ("unet", 1), object)
    other = shelf.get("invert", ("vae", 1), object)
    shelf.get("invert", ("unet", 2), lambda: held.append(shelf.holds(("unet", 1))))
    assert held == [False]
    assert shelf.holds(("unet", 2))
    assert shelf.get("invert", ("vae", 1), object) is other


def test_a_gpu_is_reckoned_to_hold_a_feed_forward_layer_whole(base: Path) -> None:
    found = {}
    for device in ("cpu", "cuda", "mps"):
        net = preflight.skeleton(base / "unet", device)
        found[device] = memory.sampling_bytes(
            net, frames=24, size=(4, 32, 32), tokens=77, dtype=torch.bfloat16
        )
    assert found["cuda"] == found["mps"] > 1.1 * found["cpu"]


def test_a_network_that_is_loaded_is_not_counted_twice(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x0, words = torch.zeros(8, 4, 16, 16), torch.zeros(77, 32)
    net = preflight.skeleton(base / "unet", "cuda")
    weights = 4 * sum(p.numel() for p in net.parameters())
    need = memory.sampling_bytes(net, frames=16, size=(4, 16, 16), tokens=77, dtype=torch.float32)
    how = Runtime(device="cuda", locate=lambda _: base / "unet")
    free = int(need * preflight.SLACK) - weights + 1
    monkeypatch.setattr(preflight, "available", lambda _: free)
    found = [preflight.side_by_side(TUNE, x0, words, "fp32", how, held) for held in (False, True)]
    assert found == [False, True]


@pytest.mark.parametrize("trained", ["queries", "projections"])
def test_a_tuning_that_has_its_texts_keys_at_hand_is_bit_for_bit_one_that_has_not(
    trained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    real = unet.constant
    for known in (True, False):
        net = small().requires_grad_(False)
        awake(unet.inflate(net, torch.Generator().manual_seed(0), trained=trained))
        made: list[int] = []

        def constant(*how: Any, known: bool = known, made: list[int] = made) -> Any:
            found = real(*how) if known else {}
            made.append(len(found))
            return found

        monkeypatch.setattr(tuning, "constant", constant)
        steps = tuning.train(
            net,
            noise(4, 4, 8, 8),
            noise(4, 1, 8, 8, seed=2),
            noise(6, 12, seed=3),
            schedule({}, 10),
            steps=3,
            lr=1e-2,
            weight_decay=1e-2,
            grad_clip=1.0,
            temporal_weight=0.1,
            temporal_target="source",
            seed=1,
        )
        losses = [step.loss for step in steps]
        blocks = len(list(unet.video_blocks(net)))
        assert made == [blocks if known and trained == "queries" else 0]
        found.append((losses, unet.deltas(net)))
    assert found[0][0] == found[1][0]
    assert all(torch.equal(found[0][1][name], found[1][1][name]) for name in found[0][1])
