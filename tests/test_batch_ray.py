"""`dvid batch --engine ray`: two workers with faked GPUs, one killed and its work taken up.

Starting Ray takes seconds, so what really starts it is slow:
`TEST_RAY=1 pytest -m slow tests/test_batch_ray.py`. Without Ray these are skipped, and with
that variable they fail.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from program import Dvid, Said

from dvcli.batch import cluster
from dvcli.batch.cluster import Job, Slot, shared
from dvcli.batch.hand import sendable
from dvcli.errors import InputError

TUNE = {"steps": 1, "frames": 2, "size": 64}
MUST = os.environ.get("TEST_RAY") == "1"


@pytest.fixture(scope="module")
def ray() -> Any:
    """The package."""
    if MUST:
        import ray
    else:
        ray = pytest.importorskip("ray")
    return ray


@pytest.fixture(scope="module")
def two_gpus(ray: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Ray in this process, with two GPUs that only it believes in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("ray")))  # it keeps a token there
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False)
        yield ray
        ray.shutdown()


def write(*jobs: object) -> None:
    Path("jobs.jsonl").write_text("".join(json.dumps(job) + "\n" for job in jobs))


def job(clip: str, *prompts: str, steps: int = 1) -> dict[str, object]:
    found = {"clip": clip, "caption": "a man", "tune": {**TUNE, "steps": steps}}
    return {**found, "invert": {"steps": 2}, "prompts": list(prompts)}


def told(said: Said) -> list[dict[str, Any]]:
    return sorted(map(json.loads, said.lines), key=lambda one: (one["job"], one["prompt"]))


def test_without_ray_the_hint_says_how_to_get_it(
    dvid: Dvid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    said = dvid("batch", "jobs.jsonl", "--engine", "ray", code=4)
    assert "hint: `pip install 'dvid[ray]'`" in said.err


def test_one_process_is_never_asked_to_choose_a_gpu(
    dvid: Dvid, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = dvid("batch", "jobs.jsonl", "--engine", "ray", "--device", "cuda:1", code=2)
    assert "Ray gives each worker a GPU" in said.err


def test_an_idle_worker_takes_half_of_what_another_has_before_it() -> None:
    busy = Slot(number=1, actor=None, job=Job(bundle=7, results=deque(range(5)), learned=True))
    taken = shared([busy])
    assert taken is not None
    assert busy.job is not None
    assert (list(busy.job.results), list(taken.results)) == ([0, 1, 2], [3, 4])
    assert (taken.bundle, taken.learned) == (7, True)
    untuned = Slot(number=2, actor=None, job=Job(bundle=8, results=deque(range(9))))
    one_left = Slot(number=3, actor=None, job=Job(bundle=9, results=deque([1]), learned=True))
    assert shared([untuned, one_left]) is None


def test_errors_cross_between_processes() -> None:
    import pickle

    class Exotic(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__("both")

    known = pickle.loads(pickle.dumps(sendable(InputError("no clip", hint="look"))))
    assert (type(known), known.message, known.hint) == (InputError, "no clip", "look")
    strange = pickle.loads(pickle.dumps(sendable(Exotic(1, 2))))
    assert "Exotic: both" in str(strange)
    full = pickle.loads(pickle.dumps(sendable(OSError(28, "No space left", "x"))))
    assert (full.errno, full.filename) == (28, "x")
    assert type(sendable(RuntimeError("can't allocate memory"))) is MemoryError


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_workers_with_a_gpu_each_make_what_one_process_makes(
    two_gpus: Any, base: Path, bikes: Path, dvid: Dvid, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(bikes, "one.mp4")
    shutil.copy(bikes.with_name("carphone_pristine.mp4"), "two.mp4")
    write(job("one.mp4", "a fox", "a bear"), job("two.mp4", "a fox"), job("two.mp4", "", steps=1))
    assert "prompt is empty" in dvid("batch", "jobs.jsonl", "--engine", "ray", code=3).err
    write(job("one.mp4", "a fox", "a bear"), job("two.mp4", "a fox", "a cat"))
    said = dvid("batch", "jobs.jsonl", "--model", base, "--engine", "ray", "-v")
    assert len(set(re.findall(r"worker \d is process (\d+)", said.err))) == 2
    on_ray = told(said)
    assert [one["status"] for one in on_ray] == ["ok"] * 4
    monkeypatch.setenv("DVID_CACHE_DIR", str(home / "other"))
    here = told(dvid("batch", "jobs.jsonl", "--model", base, "-o", "here", "-q"))
    for mine, theirs in zip(on_ray, here, strict=True):
        assert mine["key"] == theirs["key"]
        assert Path(mine["path"]).read_bytes() == Path(theirs["path"]).read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_workers_with_caches_of_their_own_meet_in_a_remote_folder(
    two_gpus: Any, base: Path, bikes: Path, dvid: Dvid, home: Path, tmp_path: Path
) -> None:
    shutil.copy(bikes, "one.mp4")
    write(job("one.mp4", "a fox", "a bear", "a cat", "a man"))
    options = ["--remote", f"file://{tmp_path}/there", "--worker-cache", tmp_path / "scratch"]
    said = dvid("batch", "jobs.jsonl", "--model", base, "--engine", "ray", *options, "-q")
    assert [one["status"] for one in told(said)] == ["ok"] * 4
    records = list((tmp_path / "there" / "v1" / "actions").rglob("*.json"))
    assert len(records) == 8  # four stages and four samples
    assert (tmp_path / "scratch" / "v1" / "actions").is_dir()
    assert "invert: cached" in dvid("sample", "one", "-p", "a fox").err


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_killed_worker_is_replaced_and_its_job_goes_on(
    two_gpus: Any, base: Path, bikes: Path, dvid: Dvid, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(bikes, "one.mp4")
    write(job("one.mp4", "a fox", steps=300))
    pids: list[int] = []
    real = cluster.Cluster._assign

    def assign(self: Any, slot: Any, *rest: Any) -> None:
        real(self, slot, *rest)
        if slot.job is not None and not pids and slot.part is None and slot.greeted:
            pids.append(two_gpus.get(slot.actor.hello.remote())[0])
            os.kill(pids[0], signal.SIGKILL)

    monkeypatch.setattr(cluster.Cluster, "_assign", assign)
    said = dvid("batch", "jobs.jsonl", "--model", base, "--engine", "ray")
    assert pids
    assert "died at `one`; another one goes on" in said.err
    assert [one["status"] for one in told(said)] == ["ok"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_job_that_kills_three_workers_fails_alone(
    two_gpus: Any, base: Path, bikes: Path, dvid: Dvid, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(bikes, "one.mp4")
    shutil.copy(bikes.with_name("carphone_pristine.mp4"), "two.mp4")
    write(job("one.mp4", "a fox", "a cat", steps=300), job("two.mp4", "a fox"))
    killed: list[int] = []
    real = cluster.Cluster._assign

    def assign(self: Any, slot: Any, *rest: Any) -> None:
        real(self, slot, *rest)
        if slot.job is not None and slot.job.bundle == 0 and slot.part is None and slot.greeted:
            killed.append(two_gpus.get(slot.actor.hello.remote())[0])
            os.kill(killed[-1], signal.SIGKILL)

    monkeypatch.setattr(cluster.Cluster, "_assign", assign)
    said = dvid("batch", "jobs.jsonl", "--model", base, "--engine", "ray", code=7)
    made = told(said)
    assert len(killed) == 3
    assert [(one["job"], one["status"]) for one in made] == [
        (1, "failed"),
        (1, "failed"),
        (2, "ok"),
    ]
    assert {one.get("code") for one in made[:2]} == {5}
    assert "3 workers died at it" in made[0]["error"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_stop_reaches_the_workers_and_keeps_a_checkpoint(
    ray: Any, base: Path, bikes: Path, home: Path
) -> None:
    shutil.copy(bikes, "one.mp4")
    write(job("one.mp4", "a fox", steps=1_000_000))
    words = ["batch", "jobs.jsonl", "--model", str(base), "--engine", "ray", "-v"]
    running = subprocess.Popen(
        [sys.executable, "-m", "dvcli", *words], stderr=subprocess.PIPE, text=True
    )
    assert running.stderr is not None
    for line in running.stderr:
        if "takes `one`" in line:
            break
    partial = home / "cache" / "v1" / "partial"
    actions = home / "cache" / "v1" / "actions"
    while len(list(actions.rglob("*.json"))) < 2:  # frames and depth; then it tunes
        assert running.poll() is None
        time.sleep(0.2)
    time.sleep(4)
    running.send_signal(signal.SIGTERM)
    _, err = running.communicate(timeout=120)
    assert running.returncode == -signal.SIGTERM, err
    assert "a checkpoint of what was being tuned" in err
    assert list(partial.rglob("step-*.safetensors"))
