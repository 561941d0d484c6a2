"""The benchmark of speed: its figures, and its own code run on tiny shapes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.speed import figures  # noqa: E402
from benchmarks.speed.settings import Settings  # noqa: E402


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


def test_the_phases_of_a_gpu_run_on_a_tiny_shape(settings: Settings) -> None:
    from benchmarks.speed import phases

    found = {figure.name: figure.value for figure in phases.measure(settings)}
    assert found["work of a step, low memory"] > found["work of a step, unconstrained"]
    assert found["tune 4, unconstrained"] == pytest.approx(4 * found["tuning step, unconstrained"])
    assert found["invert and sample"] == pytest.approx(
        found["invert 2"] + found["sample 2 with guidance"]
    )
    assert {"peak, low memory", "decode 3 frames", "host time per step, low memory"} <= found.keys()


def test_the_fast_part_compares_each_thing_with_the_plain_way(settings: Settings) -> None:
    from benchmarks.speed import fast, shapes

    shape = shapes.SHAPES["tiny"]
    net = shapes.ours(shape, settings.torch_dtype, settings.device)
    names = [figure.name for figure in fast.sampling(settings, shape, net)]
    assert names[0] == "sample 2 with guidance"
    assert "all of it / plain" in names
    assert len(names) == 5
    assert all(figure.value > 0 for figure in fast.calls(settings, shape, net))


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
    assert all(figure["value"] > 0 for figure in told["figures"])
    assert {"device", "versions", "threads", "dtype"} <= told.keys()
