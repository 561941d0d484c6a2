"""What the stages do that no single room can: attention kernels, preflight, many prompts."""

import json
import subprocess
import sys
import time
import types
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from checkpoints import write_depth2img, write_tokenizer
from networks import small
from PIL import Image
from program import Dvid
from safetensors.torch import load_file
from torch import Tensor

from dvcli import stages
from dvcli.core.recomputing import LEVELS, Level
from dvcli.core.unet import video_blocks
from dvcli.errors import MissingError, ResourceError
from dvcli.models import latents, load
from dvcli.recipes import Base, Controls, Depth, DType, Extract, Invert, Recipe, Sample, Tune
from dvcli.runtime import Runtime
from dvcli.stages import Work, attention, depth, network, preflight
from dvcli.store import Artifact, Store
from dvcli.store.keys import key_of, preimage
from dvcli.video import frames as frame_file

ops = "xformers.ops"
OTHER = dict.fromkeys(("text_encoder", "tokenizer", "scheduler"), "0" * 64)
NETWORK = Base(unet="1" * 64, vae="2" * 64, **OTHER)
TUNE = Tune(frames=Extract(clip="0" * 64), depth=None, base=NETWORK, prompt="a bear")


def install(monkeypatch: pytest.MonkeyPatch, kernel: Callable[..., Tensor]) -> None:
    """A stand-in for xformers: there is no CPU path in the real one."""
    package, module = types.ModuleType("xformers"), types.ModuleType(ops)
    module.memory_efficient_attention = kernel  # type: ignore[attr-defined]
    package.ops = module  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "xformers", package)
    monkeypatch.setitem(sys.modules, ops, module)


def right(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)


def test_xformers_is_taken_when_it_gives_the_same_and_is_not_slower(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(monkeypatch, right)
    monkeypatch.setattr(attention, "fastest", lambda work: 1.0)
    attend = attention.chosen(Runtime(attention="xformers"), torch.float32)
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 2, 5, 8, generator=generator) for _ in range(3))
    assert attend is not F.scaled_dot_product_attention
    torch.testing.assert_close(attend(q, k, v), F.scaled_dot_product_attention(q, k, v))


def test_xformers_that_gives_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, lambda q, k, v: right(q, k, v) + 0.5)
    with pytest.raises(ResourceError, match=r"differs by 1\.4"):
        attention.chosen(Runtime(attention="xformers"), torch.float32)


def test_xformers_with_other_gradients_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, lambda q, k, v: right(q, k, v.detach()) + 0 * v.sum())
    with pytest.raises(ResourceError, match=r"gradients that differ"):
        attention.chosen(Runtime(attention="xformers"), torch.float32)


def test_slower_xformers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, right)
    times = iter([2.0, 1.0])
    monkeypatch.setattr(attention, "fastest", lambda work: next(times))
    with pytest.raises(ResourceError, match=r"2\.00 times as long"):
        attention.chosen(Runtime(attention="xformers"), torch.float32)


def test_xformers_asked_for_and_absent_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, ops, None)
    with pytest.raises(MissingError) as caught:
        attention.chosen(Runtime(attention="xformers"), torch.float32)
    assert caught.value.hint is not None
    assert "dvid[xformers]" in caught.value.hint


def test_auto_on_a_cpu_is_torchs_own() -> None:
    assert attention.chosen(Runtime(), torch.float32) is F.scaled_dot_product_attention


@pytest.mark.parametrize(
    ("asked", "device", "seconds", "taken"),
    [
        ({}, "cuda", (0.7, 1.0), True),
        ({}, "cuda", (0.9, 1.0), False),
        ({"attention": "sdpa"}, "cuda", (0.7, 1.0), False),
        ({"memory": "low"}, "cuda", (0.7, 1.0), False),
        ({}, "cpu", (0.7, 1.0), False),
    ],
)
def test_over_time_products_are_taken_where_a_gpu_is_faster_by_them(
    monkeypatch: pytest.MonkeyPatch,
    asked: dict[str, Any],
    device: str,
    seconds: tuple[float, float],
    taken: bool,
) -> None:
    times, as_it_is, probed = iter(seconds), attention.self_test, []

    def fastest(work: Callable[[], torch.Tensor]) -> float:
        probed.append(work().shape)
        return next(times)

    monkeypatch.setattr(attention, "fastest", fastest)
    monkeypatch.setattr(
        attention,
        "self_test",
        lambda attend, _, *rest, **named: as_it_is(attend, "cpu", *rest, **named),
    )
    runtime = Runtime(device=device, **asked)
    asked_of = []

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        asked_of.append(k.shape[-2])
        return v

    found = attention.over_time(runtime, torch.float32, attend)
    for frames in (8, 64):
        found(*torch.zeros(3, 1, 1, frames, 4))
    assert asked_of == ([64] if taken else [8, 64])
    tested = device == "cuda" and not asked
    assert probed == [attention.SHORT] * 2 * tested


def test_a_network_attends_over_time_by_what_was_chosen_for_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def chosen(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return v

    monkeypatch.setattr(attention, "over_time", lambda *_: chosen)
    monkeypatch.setattr(load, "unet", lambda *_: small())
    made = network.untuned(TUNE, "fp32", Runtime(locate=lambda _: Path()))
    blocks = [block for _, block in video_blocks(made)]
    assert blocks
    assert all(block.attend_over_time is chosen for block in blocks)
    assert all(block.attend is F.scaled_dot_product_attention for block in blocks)


def test_waiting_for_another_process_is_said_once_and_ends_with_its_result(
    tmp_path: Path, bikes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, runtime = Store.open(tmp_path), Runtime(locate=lambda _: bikes)
    recipe = Extract(clip=store.digest_file(bikes), frames=2, size=(16, 16))
    key = key_of(stages.request(recipe, {}))
    with ThreadPoolExecutor(1) as pool:
        with store.lock(key):
            made = pool.submit(stages.realise, recipe, store, runtime)
            time.sleep(0.7)
            assert not made.done()
        assert made.result(timeout=60).key == key
    assert caplog.messages == ["another process is at the same `extract`; waiting for it"]


def test_many_prompts_cost_one_load_of_each_model(
    dvid: Dvid, tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[str] = []
    parts = [(load, name) for name in ("unet", "vae", "text_encoder")]
    for module, name in [*parts, (preflight, "sample")]:
        real = getattr(module, name)

        def counted(*arguments: object, name: str = name, real: object = real) -> object:
            loads.append(name)
            return real(*arguments)  # type: ignore[operator]

        monkeypatch.setattr(module, name, counted)
    said = dvid("sample", *[part for p in "abcd" for part in ("-p", f"a bear {p}")])
    assert len(set(said.lines)) == 4
    assert loads == ["text_encoder", "sample", "unet", "vae"]


def test_a_second_prompt_is_not_refused_for_what_the_first_has_loaded(
    dvid: Dvid, tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = iter([2**40])
    monkeypatch.setattr(preflight, "available", lambda _: next(free, 0))
    assert len(dvid("sample", "-p", "a bear", "-p", "a fox").lines) == 2


def test_too_little_memory_is_told_before_the_network_is_loaded(
    dvid: Dvid, tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "unet", lambda *_: pytest.fail("loaded"))
    assert "sampling needs" in dvid("sample", "-p", "x", "--memory-limit", "1M", code=5).err


def test_free_memory_of_a_card_is_the_drivers_and_what_torch_holds_unused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    figures = {"mem_get_info": (500, 9000), "memory_reserved": 400, "memory_allocated": 100}
    for name, figure in figures.items():
        monkeypatch.setattr(torch.cuda, name, lambda _, figure=figure: figure)
    assert preflight.available(Runtime(device="cuda")) == 800


@pytest.mark.parametrize(
    ("upcast", "dtype", "expected"),
    [
        (None, "fp16", torch.float32),
        (True, "fp16", torch.float32),
        (False, "fp16", torch.float16),
        (True, "bf16", torch.bfloat16),
    ],
)
def test_decoding_is_reckoned_in_the_precision_that_the_vae_is_loaded_in(
    upcast: bool | None,
    dtype: DType,
    expected: torch.dtype,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = write_depth2img(tmp_path)
    file = folder / "vae" / "config.json"
    settings = {n: v for n, v in json.loads(file.read_text()).items() if n != "force_upcast"}
    file.write_text(json.dumps(settings if upcast is None else settings | {"force_upcast": upcast}))
    asked: list[torch.dtype] = []

    def decoding(*_: object, dtype: torch.dtype, **__: object) -> int:
        asked.append(dtype)
        return 0

    monkeypatch.setattr(preflight.memory, "decoding_bytes", decoding)
    places = {"1" * 64: folder / "unet", "2" * 64: folder / "vae"}
    runtime = Runtime(memory_limit=2**40, locate=places.__getitem__)
    preflight.sample(TUNE, torch.zeros(2, 4, 8, 8), torch.zeros(77, 32), dtype, runtime)
    assert asked == [expected] == [load.vae(folder / "vae", dtype, "cpu").dtype]


@pytest.mark.parametrize("name", ["cuda:99", "mps"])
def test_a_device_that_is_not_there_is_told_as_such(dvid: Dvid, tuned: Path, name: str) -> None:
    if name == "mps" and torch.backends.mps.is_available():
        pytest.skip("this machine has that device")
    said = dvid("sample", "-p", "a fox", "--device", name, "--dtype", "fp32", code=5)
    assert f"torch cannot use the device `{name}`" in said.err
    assert "--device cpu" in said.err


def deltas(dvid: Dvid) -> str:
    """The content of the deltas of the last run."""
    plan = map(json.loads, dvid("sample", "-p", "x", "-n", "--json").lines)
    found = Store.open().get(next(step["key"] for step in plan if step["stage"] == "tune"))
    assert found is not None
    return found.outputs["deltas"].sha256


def test_tuning_that_broke_off_inside_a_step_goes_on_as_if_it_had_not(
    dvid: Dvid, base: Path, bikes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["tune", bikes, "a man", "--model", base, "--steps", "4"]
    command += ["--lr", "1e-2", "--frames", "2", "--size", "64", "--refresh"]
    dvid(*command)
    unbroken = deltas(dvid)
    real, calls = torch.optim.AdamW.step, iter(range(3))

    def broken(self: torch.optim.AdamW) -> None:
        real(self)  # the tensors have changed, and the step is not done
        if next(calls) == 2:
            raise RuntimeError("broke off")

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", broken)
        dvid(*command, code=1)
    dvid(*command)
    assert deltas(dvid) == unbroken


def test_a_kept_trajectory_leaves_every_sample_a_hit(dvid: Dvid, tuned: Path) -> None:
    dvid("sample", "-p", "a fox")
    dvid("invert", "--steps", "3", "--trajectory")
    steps = {
        s["stage"]: s for s in map(json.loads, dvid("sample", "-p", "a fox", "-n", "--json").lines)
    }
    assert steps["sample"]["hit"]
    inverted = Store.open().get(steps["invert"]["key"])
    assert inverted is not None
    assert "trajectory" in inverted.outputs


def _tuned_run() -> tuple[Store, Callable[[str], Path], Invert]:
    """The store, what locates the inputs of the run `bikes`, and its inversion."""
    from dvcli.cli.sources import Sources
    from dvcli.runs import Runs

    store = Store.open()
    sources, run = Sources(store, offline=True), Runs.open().get("bikes")
    sources.expect(run)
    inverted = run.recipes["invert"]
    assert isinstance(inverted, Invert)
    return store, sources.locate, inverted


def test_features_kept_over_steps_change_a_sample_and_kept_for_none_do_not(
    tuned: Path, base: Path
) -> None:
    store, locate, inverted = _tuned_run()

    def made(reuse: int) -> bytes:
        recipe = Sample(inverted=inverted, prompt="a fox", reuse=reuse)
        runtime = Runtime(locate=locate)
        return stages.realise(recipe, store, runtime).path("frames").read_bytes()

    assert made(1) == made(1)
    assert made(2) != made(1)


def test_no_stage_reads_an_output_that_its_key_does_not_hold(
    dvid: Dvid, base: Path, judge: Path, bikes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, real, read = stages._build, Artifact.path, set[tuple[str, str, str]]()

    def build(recipe: Recipe, inputs: Mapping[str, Artifact], *more: Any) -> Artifact:
        def path(self: Artifact, name: str) -> Path:
            roles = [role for role, artifact in inputs.items() if artifact.key == self.key]
            read.update((recipe.stage, role, name) for role in roles)
            assert any(name in recipe.reads[role] for role in roles)
            return real(self, name)

        with monkeypatch.context() as patch:
            patch.setattr(Artifact, "path", path)
            return whole(recipe, inputs, *more)

    monkeypatch.setattr(stages, "_build", build)
    dvid("tune", bikes, "x", "--model", base, "--steps", "1", "--frames", "2", "--size", "64")
    dvid("invert", "--steps", "2")
    dvid("sample", "-p", "a fox")
    assert {(stage, name) for stage, _, name in read} == {
        ("depth", "frames"),
        ("tune", "frames"),
        ("tune", "disparity"),
        ("invert", "latents"),
        ("invert", "deltas"),
        ("invert", "disparity"),
        ("sample", "latents"),
        ("sample", "deltas"),
        ("sample", "disparity"),
        ("render", "frames"),
    }


def test_one_text_encoder_with_two_tokenizers_is_two(base: Path, tmp_path: Path) -> None:
    write_tokenizer(tmp_path, pad="<|endoftext|>")
    places = {"1" * 64: base / "text_encoder", "2" * 64: base / "tokenizer", "3" * 64: tmp_path}
    runtime = Runtime(locate=places.__getitem__)
    one, other = (
        network.embedding(
            replace(NETWORK, text_encoder="1" * 64, tokenizer=tokenizer),
            "a bear",
            "fp32",
            "sample",
            runtime,
        )
        for tokenizer in ("2" * 64, "3" * 64)
    )
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    ("limit", "steps", "doing"), [("100kB", "0", "encoding the frames"), ("4MB", "1", "tuning")]
)
def test_tuning_that_would_not_fit_is_refused_before_anything_is_encoded(
    dvid: Dvid,
    base: Path,
    bikes: Path,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    steps: str,
    doing: str,
) -> None:
    monkeypatch.setattr(latents, "encode", lambda *_: pytest.fail("encoded"))
    asked = ("x", "--model", base, "--frames", "2", "--size", "64", "--memory-limit", limit)
    said = dvid("tune", bikes, *asked, "--steps", steps, code=5)
    assert f"{doing} needs about" in said.err


def test_latents_reckoned_are_of_the_shape_of_those_encoded(base: Path) -> None:
    runtime = Runtime(memory_limit=2**40, locate=lambda _: base / "vae")
    frames = torch.zeros(3, 48, 80, 3, dtype=torch.uint8)
    made = latents.encode(load.vae(base / "vae", "fp32", "cpu"), frames, 2)
    assert preflight.encode(TUNE, (3, 48, 80), runtime).shape == made.shape


@pytest.mark.parametrize("stage", ["text", "vae"])
def test_tuning_keeps_neither_text_encoder_nor_vae_in_memory(
    dvid: Dvid, base: Path, bikes: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    held: list[set[object]] = []
    real = network.untuned

    def untuned(*arguments: Any) -> Any:
        held.append({name[0] for name in arguments[-1].shelf._held})
        return real(*arguments)

    monkeypatch.setattr(network, "untuned", untuned)
    dvid("tune", bikes, "x", "--model", base, "--steps", "1", "--frames", "2", "--size", "64")
    assert len(held) == 1
    assert stage not in held[0]


def test_a_given_depth_folder_is_read_with_the_clips_background_and_its_own_stream(
    tmp_path: Path,
) -> None:
    for number in range(2):
        Image.new("RGBA", (16, 16), (0, 0, 0, 0)).save(tmp_path / f"{number}.png")
    frames = Extract(clip="0" * 64, frames=2, size=(16, 16), background="#ffffff", stream=3)
    store = Store.open()
    asked = preimage("depth", 1, {}, {})
    with store.draft(asked) as out:
        kept = store.partial(out.key)
        runtime = Runtime(locate=lambda _: tmp_path)
        work = Work(inputs={}, out=out, partial=kept, runtime=runtime)
        depth.build(Depth(frames=frames, given="4" * 64), work)
        found = load_file(out.publish().path("disparity"))
    torch.testing.assert_close(found["disparity"], torch.full((2, 1, 16, 16), 255.0))


def test_tuning_recomputes_activations_only_as_far_as_memory_calls_for_it(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x0, text = torch.zeros(8, 4, 16, 16), torch.zeros(77, 32)
    known: dict[str, int] = {}
    real = preflight.memory.tuning_bytes

    def once(*network: Any, level: Level, **more: Any) -> int:
        if level not in known:
            known[level] = real(*network, level=level, **more)
        return known[level]

    monkeypatch.setattr(preflight.memory, "tuning_bytes", once)

    def asked(limit: int) -> str | None:
        runtime = Runtime(memory_limit=limit, locate=lambda _: base / "unet")
        try:
            return preflight.recompute(TUNE, x0, text, runtime).level
        except ResourceError:
            return None

    answers = [asked(2**20 * quarter) for quarter in range(1, 64)] + [asked(2**40)]
    # With growing memory: it does not fit, then it fits recomputed, then it fits as it is.
    order = [None, *reversed(LEVELS)]
    assert answers == sorted(answers, key=order.index)
    assert answers[0] is None
    assert answers[-1] == "none"
    assert len(set(answers)) > 3


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_low_memory_recomputes_all_whatever_is_free(base: Path, device: str) -> None:
    x0, text = torch.zeros(8, 4, 16, 16), torch.zeros(77, 32)
    runtime = Runtime(
        device=device, memory="low", memory_limit=2**40, locate=lambda _: base / "unet"
    )
    saving = preflight.recompute(TUNE, x0, text, runtime)
    assert saving == preflight.Saving(level="all", offload=device == "cuda")


def test_guidance_runs_side_by_side_only_on_a_gpu_that_has_the_memory(base: Path) -> None:
    x0, text = torch.zeros(8, 4, 16, 16), torch.zeros(77, 32)
    plenty = Runtime(device="cuda", memory_limit=2**40, locate=lambda _: base / "unet")
    asked = [plenty, replace(plenty, memory_limit=2**20), replace(plenty, memory="low")]
    asked.append(replace(plenty, device="cpu"))
    found = [preflight.side_by_side(TUNE, x0, text, "fp32", runtime) for runtime in asked]
    assert found == [True, False, False, False]


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"guidance_from": 0.25, "guidance_until": 0.8},
        {"controls": Controls(active=0.4)},
        {"reuse": 2, "guidance_until": 0.5},
    ],
    ids=["all the way", "in an interval", "with depth that fades", "with features kept"],
)
def test_both_prompts_in_one_batch_give_the_clip_that_they_give_in_turn(
    tuned: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]
) -> None:
    from dvcli.core import unet

    store, locate, inverted = _tuned_run()
    recipe = Sample(inverted=inverted, prompt="a fox", negative="snow", **more)
    rows: set[int] = set()
    real = unet.predict_batch

    def counted(network: Any, x: torch.Tensor, *rest: Any) -> torch.Tensor:
        rows.add(len(x))
        return real(network, x, *rest)

    monkeypatch.setattr(unet, "predict_batch", counted)

    def made() -> torch.Tensor:
        rows.clear()
        artifact = stages.realise(recipe, store, Runtime(locate=locate), refresh=True)
        return torch.from_numpy(frame_file.load(artifact.path("frames"))).int()

    in_turn = made()
    assert rows == {1}
    monkeypatch.setattr(preflight, "side_by_side", lambda *_: True)
    together = made()
    assert (2 in rows) == (recipe.reuse == 1)
    assert (together - in_turn).abs().max() <= 1  # of 255: another order of the same sums


def test_whether_prompts_go_in_one_batch_is_asked_once_and_before_the_network_is_loaded(
    dvid: Dvid, tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    unet = load.unet
    monkeypatch.setattr(preflight, "side_by_side", lambda *_: bool(asked.append("asked")))
    monkeypatch.setattr(load, "unet", lambda *how: (asked.append("loaded"), unet(*how))[1])
    dvid("sample", "-p", "a bear", "-p", "a fox", "-q")
    assert asked == ["asked", "loaded"]


def test_without_guidance_nothing_is_asked(
    dvid: Dvid, tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "side_by_side", lambda *_: pytest.fail("asked"))
    assert dvid("sample", "-p", "a bear", "--guidance", "1", "-q").lines


def test_where_memory_is_ample_no_step_is_reckoned(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("tuning_bytes", "sampling_bytes"):
        monkeypatch.setattr(preflight.memory, name, lambda *_, **__: pytest.fail("reckoned"))
    places = {"1" * 64: base / "unet", "2" * 64: base / "vae"}
    runtime = Runtime(memory_limit=2**36, locate=places.__getitem__)
    x0, text = torch.zeros(8, 4, 16, 16), torch.zeros(77, 32)
    assert preflight.recompute(TUNE, x0, text, runtime) == preflight.Saving()
    preflight.sample(TUNE, x0, text, "fp32", runtime)


@pytest.mark.parametrize(("memory", "frames"), [("auto", 4), ("low", 1)])
def test_low_memory_passes_one_frame_at_a_time(memory: Any, frames: int) -> None:
    assert Runtime(memory=memory).frame_chunk == frames


@pytest.mark.parametrize("stage", ["eval", "preference", "motion", "likeness", "agreement"])
def test_measuring_waits_for_no_diffusers(stage: str) -> None:
    code = f"import sys, dvcli.stages.{stage}; sys.exit('diffusers' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)


def test_the_memory_of_a_container_counts_and_not_only_the_machines(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    monkeypatch.setattr(preflight, "CGROUP", tmp_path)
    assert preflight.available(Runtime()) == 600_000


def test_a_render_of_cached_frames_waits_for_no_torch(dvid: Dvid, tuned: Path) -> None:
    dvid("sample", "-p", "a fox")
    program = (
        "import sys; from dvcli.cli.main import main; code = main(sys.argv[1:]);"
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    command = [sys.executable, "-c", program, "sample", "-p", "a fox", "--format", "gif"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.endswith(".gif\n")


def test_one_frame_is_measured_by_what_one_frame_has(dvid: Dvid, bikes: Path, judge: Path) -> None:
    dvid("extract", bikes, "--frames", "1", "--size", "64", "-o", "one.png")
    (row,) = dvid("eval", "one.png", "-p", "a man", "--clip-model", judge, "--json").lines
    assert "textual_alignment" in row
    assert "frame_consistency" not in row
