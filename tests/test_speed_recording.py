"""What a GPU would record: nothing in it waits for a host, and nothing outlives its use."""

import gc
import importlib
import logging
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from networks import awake, noise, small
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dvcli.core import graphs, optimising
from dvcli.core.attention import TemporalAttention
from dvcli.core.ddim import schedule
from dvcli.core.graphs import WARM, Cuda, Replayed, Work
from dvcli.core.optimising import Optimiser
from dvcli.core.recomputing import LEVELS, Level, checkpoint_gradients
from dvcli.core.tuning import train
from dvcli.core.unet import bind, bind_pair, inflate

PLAN = schedule({}, 10)
ASKED = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal.default", "unique")


class Unattended(TorchDispatchMode):
    """Refuses what a recording cannot hold: a number read by the host, or a tensor elsewhere."""

    def __init__(self, device: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device = device
        self.seen = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen += 1
        assert not any(name in str(func) for name in ASKED), f"{func} waits for the device"
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves((args, kwargs or {}, out)):
            if isinstance(leaf, torch.Tensor):
                assert leaf.device.type == self.device, f"{func} touches {leaf.device}"
        return out


class Guard:
    """A recorder that runs the work where nothing may wait."""

    def __init__(self, device: str) -> None:
        self.mode = Unattended(device)

    def warm(self, work: Work) -> None:
        with self.mode:
            work()

    def record(self, work: Work) -> Work:
        return lambda: self.warm(work)


class Tape:
    def warm(self, work: Work) -> None:
        work()

    def record(self, work: Work) -> Work:
        return work


def network(device: str = "cpu", dtype: torch.dtype = torch.float32) -> UNet2DConditionModel:
    unet = small().to(dtype).requires_grad_(False)
    return awake(inflate(unet, torch.Generator().manual_seed(0))).to(device)


def given(device: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Latents, depth and text."""
    found = noise(4, 4, 8, 8), noise(4, 1, 8, 8, seed=2), noise(6, 12, seed=3)
    return found[0].to(device), found[1].to(device), found[2].to(device)


@pytest.fixture(params=["cpu", "meta"])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """`meta` stands for a GPU, whose tensors are not the host's: AdamW is fused there as there."""
    monkeypatch.setattr(optimising, "FUSED", ("cpu", "cuda", "meta"))
    theirs = importlib.import_module("torch.optim.optimizer")
    monkeypatch.setattr(theirs, "_get_fused_kernels_supported_devices", lambda: ["cpu", "meta"])
    found: str = request.param
    return found


@pytest.mark.parametrize("level", LEVELS)
def test_a_tuning_step_as_it_is_recorded_never_waits_for_its_host(
    device: str, level: Level
) -> None:
    unet, guard = network(device, torch.bfloat16), Guard(device)
    checkpoint_gradients(unet, level)
    steps = train(
        unet,
        *given(device)[:2],
        given(device)[2],
        PLAN,
        steps=3,
        lr=1e-3,
        weight_decay=1e-2,
        grad_clip=1.0,
        temporal_weight=0.1,
        temporal_target="source",
        seed=1,
        by=guard,
    )
    next(steps)
    assert guard.mode.seen > 1000


@pytest.mark.parametrize("together", [True, False])
def test_a_call_as_it_is_recorded_never_waits_for_its_host(
    device: str, together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Looked at when the network is bound, and `meta` has nothing to look at.
    monkeypatch.setattr(TemporalAttention, "silent", False)
    unet, guard = network(device), Guard(device)
    latents, depth, text = given(device)
    denoise = (
        bind_pair(unet, text, text + 1, depth, PLAN, by=guard)
        if together
        else bind(unet, text, depth, PLAN, by=guard)
    )
    denoise(latents, 7)
    assert guard.mode.seen > 100


@contextmanager
def no_cycles_looked_for() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.parametrize("together", [True, False])
def test_a_recording_and_its_network_are_gone_with_the_last_who_used_them(
    together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[weakref.ref[Replayed]] = []
    real = graphs.Replayed.__init__

    def watched(self: Replayed, *how: Any) -> None:
        real(self, *how)
        calls.append(weakref.ref(self))

    monkeypatch.setattr(graphs.Replayed, "__init__", watched)
    unet = network()
    latents, depth, text = given("cpu")
    seen = weakref.ref(unet)

    def prompt() -> None:
        denoise = (
            bind_pair(unet, text, text + 1, depth, PLAN, by=Tape())
            if together
            else bind(unet, text, depth, PLAN, by=Tape())
        )
        for _ in range(WARM + 2):
            denoise(latents, 7)

    with no_cycles_looked_for():
        prompt()
        prompt()
        assert [call() for call in calls] == [None, None]
        del unet, prompt
        assert seen() is None


class FakeCuda:
    """Tells in which order torch was asked for what."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, failing: bool = False) -> None:
        self.told: list[str] = []
        self.current = "main"
        self.streams = 0
        self.failing = failing
        for name in ("Stream", "CUDAGraph", "graph", "stream", "set_stream"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, f"make_{name}"))
        monkeypatch.setattr(torch.cuda, "current_stream", lambda _: FakeStream(self, self.current))
        monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
        graphs._aside.cache_clear()

    def make_Stream(self, _: torch.device) -> "FakeStream":
        self.streams += 1
        return FakeStream(self, "aside")

    def make_CUDAGraph(self) -> "FakeGraph":
        return FakeGraph(self)

    def make_set_stream(self, stream: "FakeStream") -> None:
        self.current = stream.name

    @contextmanager
    def make_stream(self, stream: "FakeStream") -> Iterator[None]:
        before, self.current = self.current, stream.name
        yield
        self.current = before

    @contextmanager
    def make_graph(self, graph: "FakeGraph", pool: str, stream: "FakeStream") -> Iterator[None]:
        before, self.current = self.current, stream.name
        self.told.append(f"begin in {pool}")
        yield
        if self.failing:
            raise RuntimeError("the recording is void")  # as torch does, before it goes back
        self.told.append("end")
        self.current = before

    def work(self) -> None:
        self.told.append(f"work on {self.current}")


class FakeStream:
    def __init__(self, cuda: FakeCuda, name: str) -> None:
        self.cuda, self.name = cuda, name

    def wait_stream(self, other: "FakeStream") -> None:
        self.cuda.told.append(f"{self.name} waits for {other.name}")


class FakeGraph:
    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda = cuda

    def replay(self) -> None:
        self.cuda.told.append("replay")


@pytest.fixture(autouse=True)
def no_stream_kept() -> Iterator[None]:
    yield
    graphs._aside.cache_clear()
    graphs._warn.cache_clear()


def test_work_is_warmed_on_a_stream_aside_that_neither_overtakes_nor_is_overtaken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuda = FakeCuda(monkeypatch)
    Cuda(torch.device("cuda:0")).warm(cuda.work)
    assert cuda.told == ["aside waits for main", "work on aside", "main waits for aside"]
    assert cuda.current == "main"


def test_a_recording_holds_the_work_and_replays_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda(monkeypatch)
    by = Cuda(torch.device("cuda:0"))
    replay = by.record(cuda.work)
    assert cuda.told == ["begin in pool", "work on aside", "end"]
    replay()
    assert cuda.told[3:] == ["replay"]
    assert (by.recordings, cuda.current) == (1, "main")


def test_one_stream_aside_serves_all_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda(monkeypatch)
    for _ in range(5):
        Cuda(torch.device("cuda:0"))
    assert cuda.streams == 1
    Cuda(torch.device("cuda:1"))
    assert cuda.streams == 2


def test_a_recording_that_fails_leaves_work_on_the_stream_it_was_on_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cuda = FakeCuda(monkeypatch, failing=True)
    by = Cuda(torch.device("cuda:0"))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            run = Replayed(cuda.work, by)
            for _ in range(WARM + 2):
                run()
    assert cuda.told[-1] == "work on main"
    assert by.recordings == 0
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "the recording is void" in caplog.text


def optimiser(make: Callable[[], torch.Tensor], *, offload: bool) -> Optimiser:
    return Optimiser([nn.Parameter(make())], lr=1e-3, weight_decay=0.0, offload=offload)


def test_on_a_gpu_adamw_is_fused_and_can_be_recorded() -> None:
    with FakeTensorMode():
        found = optimiser(lambda: torch.zeros(3, device="cuda"), offload=False)
        assert found.fused
        assert {n: found.adamw.defaults[n] for n in ("fused", "capturable", "foreach")} == {
            "fused": True,
            "capturable": True,
            "foreach": None,
        }
        assert found.broken.device.type == "cuda"


def test_what_an_offloaded_optimiser_holds_is_on_the_cpu_and_what_it_trains_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    brought: list[tuple[str, str]] = []
    monkeypatch.setattr(  # a torch without CUDA copies nothing there, not even what is no number
        torch.Tensor,
        "copy_",
        lambda to, of, **_: brought.append((of.device.type, to.device.type)),
    )
    with FakeTensorMode():
        found = optimiser(lambda: torch.zeros(3, device="cuda"), offload=True)
        (parameter,) = found.parameters
        parameter.grad = torch.ones(3, device="cuda")
        found.broken = torch.tensor(0.0)  # a number that the mode knows
        found.step()
        held = [t for state in found.adamw.state.values() for t in state.values()]
        assert len(held) == 3
        assert {t.device.type for t in (*held, *found.adamw.state)} == {"cpu"}
        assert brought == [("cpu", "cuda")]
        assert not found.fused
