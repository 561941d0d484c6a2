"""The benchmark of speed: its figures, and its own code run on tiny shapes."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dvcli.core import graphs, memory, unet
from dvcli.core.graphs import Work
from dvcli.core.recomputing import checkpointed
from dvcli.runtime import Runtime

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.speed import figures  # noqa: E402
from benchmarks.speed.settings import Settings, take  # noqa: E402


def speed(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.speed", "--threads", "1", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == code, done.stderr
    return done


def test_what_is_compared_takes_turns() -> None:
    order: list[str] = []
    arms = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    taken = figures.turns(arms, 2)
    assert "".join(order) == "ababab"
    assert [len(seconds) for seconds in taken.values()] == [2, 2]


def test_rounds_before_those_that_count_are_left_out() -> None:
    calls: list[float] = []
    taken = figures.turns(
        {"a": lambda: calls.append(10.0 ** len(calls))}, 2, lambda: sum(calls), uncounted=3
    )
    assert taken["a"] == [1000, 10000]


def test_a_ratio_is_the_median_over_the_turns() -> None:
    found = figures.ratio("x", "y", [1.0, 10.0, 3.0], [1.0, 5.0, 1.0])
    assert (found.value, found.low, found.high) == (2, 1.5, 2.5)


@pytest.mark.parametrize(("value", "passed"), [(1.0, True), (1.0001, False)])
def test_a_figure_over_its_bar_fails(value: float, passed: bool) -> None:
    figure = figures.Figure(part="x", name="y", value=value, unit="×", bar=1.0)
    assert figure.passed is passed
    assert ("FAIL" in figures.table([figure])) is not passed


def test_a_figure_without_a_bar_neither_passes_nor_fails() -> None:
    assert figures.Figure(part="x", name="y", value=1, unit="s").passed is None


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(shape="tiny", device="cpu", dtype="fp32", threads=1, repeat=1, folder=tmp_path)


def test_the_network_part_runs_on_a_tiny_shape(settings: Settings) -> None:
    from benchmarks.speed import network

    found = {figure.name: figure for figure in network.measure(settings)}
    for what in ("forward", "train step"):
        ours, plain = found[f"{what}, ours"].value, found[f"{what}, plain 2-D"].value
        assert found[f"{what}, ours / plain 2-D"].value == pytest.approx(ours / plain)


class Tape:
    """A recorder that notes what it is asked and replays by doing the work again."""

    def __init__(self, told: list[str]) -> None:
        self.told = told

    def warm(self, work: Work) -> None:
        self.told.append("warm")
        work()

    def record(self, work: Work) -> Work:
        self.told.append("record")

        def replay() -> None:
            self.told.append("replay")
            work()

        return replay


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked of the recorder that every device now has."""
    found: list[str] = []
    monkeypatch.setattr(graphs, "recorder", lambda device: Tape(found))
    return found


@pytest.mark.parametrize("arms", ["forwards", "steps"])
def test_on_a_gpu_only_replays_are_counted(
    settings: Settings, told: list[str], monkeypatch: pytest.MonkeyPatch, arms: str
) -> None:
    from benchmarks.speed import network

    uncounted = Settings.uncounted.fget(replace(settings, device="cuda"))  # type: ignore[attr-defined]
    monkeypatch.setattr(Settings, "uncounted", uncounted)
    work = getattr(network, arms)(settings)["ours, replayed"]
    for _ in range(uncounted):
        work()
    told.clear()
    work()
    assert told == ["replay"]


def test_the_ratio_to_the_plain_network_is_of_two_that_are_not_replayed(
    settings: Settings, told: list[str]
) -> None:
    from benchmarks.speed import network

    for arms in (network.forwards(settings), network.steps(settings)):
        arms["ours"]()
        arms["plain 2-D"]()
    assert not told


def test_the_phases_of_a_gpu_run_on_a_tiny_shape(settings: Settings) -> None:
    from benchmarks.speed import phases

    found = {figure.name: figure for figure in phases.measure(settings)}
    work = [found[f"work of a step, {way}"].value for way in ("low memory", "unconstrained")]
    assert work[0] > work[1]
    assert found["tune 4, unconstrained"].note == "every step, one run"
    assert found["recorded, tune, unconstrained"].note == "no"
    assert found["invert and sample"].value == pytest.approx(
        found["invert 2"].value + found["sample 2 with guidance"].value
    )
    rest = {"peak, low memory", "tune 4, low memory", "decode 3 frames", "peak, sample"}
    assert rest <= found.keys()


def test_inversion_and_each_prompt_are_recorded_as_the_stages_do(
    settings: Settings, told: list[str]
) -> None:
    from benchmarks.speed import phases, product, shapes

    shape = replace(shapes.SHAPES["tiny"], invert=5, sample=5, tune=0)
    about = phases.Measured(
        settings=settings,
        shape=shape,
        checkpoint=product.checkpoint(settings, shape),
        top=1.0,
        bar=lambda name: None,
    )
    found = {figure.name: figure for figure in phases.sampling(about)}
    inverted, prompt = found["recorded, invert"], found["recorded, sample, a prompt"]
    assert (inverted.value, inverted.note) == (1, "yes")
    assert (prompt.value, prompt.note) == (2, "yes")  # on a CPU the two prompts go in turn
    assert found["of which recording, a prompt"].value > 0
    assert "replay" in told


def test_a_recording_that_fails_is_told_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.speed import phases, product

    class Broken(Tape):
        def record(self, work: Work) -> Work:
            raise RuntimeError("not permitted\nwhen capturing")

    monkeypatch.setattr(graphs, "recorder", lambda device: Broken([]))
    with product.taped() as tapes:
        by = graphs.recorder(torch.device("cpu"))
        assert by is not None
        run = graphs.Replayed(lambda: None, by)
        for _ in range(graphs.WARM + 1):
            run()
    figure = phases.recorded("x", tapes)
    assert (figure.value, figure.note) == (0, "no: not permitted")


@pytest.mark.parametrize("device", ["cpu", "mps", "cuda"])
def test_the_low_memory_arm_is_what_low_memory_means_on_that_device(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    from benchmarks.speed import shapes

    shape = shapes.SHAPES["tiny"]
    net = shapes.ours(shape, torch.float32, "cpu")
    asked: dict[str, object] = {}
    monkeypatch.setattr(shapes.tuning, "train", lambda *_, **given: iter([asked.update(given)]))
    runtime = Runtime(device=device, memory="low", attention="sdpa")
    next(shapes.our_steps(net, shapes.inputs(shape, "cpu"), 1, runtime, by=None))
    assert checkpointed(net) == "all"
    assert asked["offload"] is (device != "cpu")
    attends = {block.attend.__name__ for _, block in unet.video_blocks(net)}
    assert attends == {"attend_in_slices"}
    assert shapes.recorder(runtime) is None


def test_a_network_in_half_precision_is_never_held_in_full() -> None:
    from benchmarks.speed import shapes

    with memory.Watch([]) as watch:
        net = shapes.plain(shapes.SHAPES["tiny"], torch.bfloat16, "cpu")
    held = sum(p.numel() * 2 for p in net.parameters())
    assert {p.dtype for p in net.parameters()} == {torch.bfloat16}
    assert watch.peak <= 1.1 * held
    assert torch.get_default_dtype() == torch.float32


def test_host_time_ends_when_the_call_returns(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]

    def takes(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(Settings, "clock", property(lambda _: lambda: now[0]))
    monkeypatch.setattr(Settings, "wait", lambda *_: takes(10))
    assert settings.timed(lambda: takes(1)) == (1, 11)


@pytest.mark.parametrize(("device", "index"), [("cuda", 0), ("cuda:1", 1)])
def test_the_device_asked_for_is_the_one_that_torch_means(
    monkeypatch: pytest.MonkeyPatch, device: str, index: int
) -> None:
    taken: list[int] = []
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    take(device, torch.get_num_threads())
    assert taken == [index]


def test_commands_work_on_the_device_and_in_the_dtype_asked_for(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks.speed import prompts, startup

    lines: list[str] = []

    def noted(_: Settings, *words: str) -> str:
        lines.append(" ".join(words))
        return "{}"

    monkeypatch.setattr(Settings, "python", noted)
    there = replace(settings, device="cuda:1", dtype="bf16")
    prompts.tuned(there)
    startup.first_step(there)
    assert len(lines) == 3
    assert all("--device cuda:1 --dtype bf16" in line for line in lines)


def test_the_fast_part_compares_each_thing_with_the_plain_way(settings: Settings) -> None:
    from benchmarks.speed import fast, shapes

    shape = shapes.SHAPES["tiny"]
    names = [figure.name for figure in fast.sampling(settings, shape)]
    assert names[0] == "sample 2 with guidance"
    assert "all of it / plain" in names
    assert len(names) == 5
    assert all(figure.value > 0 for figure in fast.calls(settings, shape))


def test_the_store_part_runs(settings: Settings) -> None:
    from benchmarks.speed import store

    names = {figure.name for figure in store.measure(settings)}
    assert {"publish, large, 1 MB, rate", "read, verified, large, 1 MB, rate"} <= names


def test_phases_are_refused_without_a_gpu() -> None:
    said = speed("--device", "cpu", "--only", "phases", code=2)
    assert "`--shape tiny`" in said.stderr


def test_an_unknown_part_is_named() -> None:
    assert "`warp`" in speed("--only", "warp", code=2).stderr


@pytest.mark.slow
def test_all_parts_run_on_tiny_shapes(tmp_path: Path) -> None:
    into = tmp_path / "figures.json"
    said = speed("--shape", "tiny", "--repeat", "1", "--json", str(into)).stdout
    told = json.loads(into.read_text())
    names = {figure["name"] for figure in told["figures"]}
    parts = {figure["part"] for figure in told["figures"]}
    assert parts == {"start-up", "prompts", "store", "memory", "network", "fast", "phases"}
    assert all(name in said for name in names)
    recordings = {figure["name"] for figure in told["figures"] if "record" in figure["name"]}
    assert all(figure["value"] > 0 or figure["name"] in recordings for figure in told["figures"])
    assert {"device", "versions", "threads", "dtype"} <= told.keys()
