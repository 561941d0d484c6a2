"""`dvid doctor`: each look is right about what it looks at, and nothing is changed by looking."""

import json
import os
import pty
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from program import Dvid, process

from dvcli.doctor import Finding, Plans, installed, machine, model, places
from dvcli.store import Store, locks

TINY = ["doctor", "--model", "tiny", "--no-smoke"]


def plans(**changed: object) -> Plans:
    usual: dict[str, object] = {
        "model": "tiny",
        "size": None,
        "frames": 8,
        "device": "cpu",
        "dtype": "fp32",
        "attention": "auto",
        "memory_limit": None,
    }
    return Plans(**(usual | changed))  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No estimate of memory, which takes seconds, but where it is what the test is about."""
    from dvcli.cli import doctor

    if not {"memory", "well"} & set(request.node.name.split("_")):
        monkeypatch.setattr(doctor, "_memory", lambda *_: iter(()))


def rows(out: str) -> dict[str, list[str]]:
    """The lines by what was looked at."""
    split = [line.split("\t") for line in out.splitlines()]
    return {cells[1]: cells for cells in split}


def test_all_is_well_on_the_built_in_model_and_nothing_is_left(dvid: Dvid, home: Path) -> None:
    before = sorted(home.rglob("*"))
    said = dvid("doctor", "--model", "tiny")
    assert {line.split("\t")[0] for line in said.lines} <= {"ok", "warn"}
    assert sorted(home.rglob("*")) == before
    found = rows(said.out)
    for stage in ("extract", "depth", "tune", "invert", "sample"):
        assert found[f"smoke {stage}"][2].endswith(" s")


def test_looking_at_a_used_cache_changes_nothing_in_it(dvid: Dvid, tuned: Path) -> None:
    def state() -> dict[str, int]:
        # Asking whether an empty file is locked sets its time, with a filelock that truncates.
        files = (p for p in tuned.rglob("*") if p.is_file() and p.suffix != ".lock")
        return {str(p): p.stat().st_mtime_ns for p in files}

    before = state()
    found = rows(dvid(*TINY).out)
    assert state() == before
    assert found["artifacts"][2].startswith("4, ")


def test_a_model_that_is_absent_where_nothing_is_fetched_is_exit_8_with_its_fix(
    dvid: Dvid, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = dvid("doctor", "--no-smoke", code=8)
    assert rows(said.out)["model"][0] == "fail"
    assert "`--model tiny` is built in" in rows(said.out)["model"][3]
    assert said.err.splitlines()[0].startswith("error: 1 thing must be fixed, first model")


def test_a_model_that_its_first_use_would_fetch_is_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "is_offline_mode", lambda: False)
    (found, licence), checkpoint = model.at_hand("sd2-depth")
    assert (found.status, checkpoint) == ("warn", None)
    assert "Open RAIL++-M" in licence.said


def test_a_model_that_is_not_here_and_wants_a_gpu_is_a_warning_on_a_processor(
    dvid: Dvid, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "is_offline_mode", lambda: False)
    found = rows(dvid("doctor", "--no-smoke", "--device", "cpu").out)
    assert found["memory to tune"][0] == "warn"
    assert "`sd2-depth` wants a GPU" in found["memory to tune"][2]


def test_a_folder_that_is_no_model_is_exit_8(dvid: Dvid, tmp_path: Path) -> None:
    said = dvid("doctor", "--no-smoke", "--model", tmp_path, code=8)
    assert "model_index.json" in rows(said.out)["model"][2]


def test_the_digests_are_those_of_the_recipes(dvid: Dvid, base: Path) -> None:
    from dvcli.models.fingerprint import checkpoint

    store = Store.open(temporary=True)
    parts = checkpoint("x", base, store.digest_file).components
    found = rows(dvid("doctor", "--no-smoke", "--model", base).out)
    assert {name: found[name][2] for name in parts} == {
        name: f"SHA-256 {part.digest}" for name, part in parts.items()
    }


def test_too_little_memory_is_exit_8_with_the_levers(dvid: Dvid) -> None:
    said = dvid(*TINY, "--memory-limit", "20M", code=8)
    assert rows(said.out)["memory to tune"][0] == "fail"
    assert "`--size`" in rows(said.out)["memory to tune"][3]


@pytest.mark.parametrize(
    ("free", "status", "words"),
    [(150, "ok", "100 of 150"), (80, "ok", "50 by computing twice"), (40, "fail", "50 at least")],
)
def test_what_tuning_needs_is_told_beside_what_is_free(
    monkeypatch: pytest.MonkeyPatch, free: int, status: str, words: str
) -> None:
    from dvcli.core import memory as estimate
    from dvcli.doctor import memory

    def need(network: object, *, level: str, **_: object) -> float:
        return (100 if level == "none" else 50) / memory.SLACK

    monkeypatch.setattr(estimate, "tuning_bytes", need)
    monkeypatch.setattr(memory, "_size", lambda count: f"{count:.0f}")
    found = memory._tuning(None, (4, 8, 8), free, "it", plans())
    assert (found.status, words in found.said) == (status, True), found.said


def test_a_package_that_is_too_old_or_missing_is_told_with_its_fix() -> None:
    old = installed.package("numpy", "999.1")
    assert (old.status, old.fix) == ("fail", "`pip install 'numpy>=999.1'`")
    assert installed.package("no-such-thing", "1").said == "is not installed"
    assert installed.package("numpy", "2.0").status == "ok"


@pytest.mark.parametrize(
    ("older", "newer"), [("1.9", "1.10"), ("2", "2.0.1"), ("0.28.9", "0.29"), ("1.0rc1", "1.1")]
)
def test_versions_are_compared_by_their_numbers(older: str, newer: str) -> None:
    assert installed.release(older) < installed.release(newer)


def test_zeros_at_the_end_of_a_version_say_nothing() -> None:
    assert installed.release("5.0.0") == installed.release("5")


def test_every_requirement_of_the_package_is_looked_at(dvid: Dvid) -> None:
    found = rows(dvid(*TINY).out)
    for line in metadata.requires("dvid") or []:
        if "extra" not in line:
            assert line.partition(">")[0].strip() in found


def test_a_cache_that_cannot_be_written_is_exit_8(
    dvid: Dvid, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "file").touch()
    monkeypatch.setenv("DVID_CACHE_DIR", str(home / "file" / "cache"))
    said = dvid(*TINY, code=8)
    assert "cannot be written" in rows(said.out)["cache"][2]
    assert "DVID_CACHE_DIR" in rows(said.out)["cache"][3]


def test_no_room_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil
    from collections import namedtuple

    Usage = namedtuple("Usage", "total used free")
    for free, status in ((2**20, "fail"), (2**30, "warn"), (2**40, "ok")):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: Usage(1, 1, free))
        found = list(places._folder("cache", lambda: tmp_path, "DVID_CACHE_DIR", places.LITTLE))
        assert found[1].status == status


class Everybodys:
    """A lock that keeps nobody out."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def release(self) -> None:
        return


def refuse(path: Path) -> None:
    raise OSError("no locks")


@pytest.mark.parametrize("take", [refuse, Everybodys], ids=["refused", "granted twice"])
def test_a_disk_without_locks_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, take: object
) -> None:
    monkeypatch.setattr(locks, "take", take)
    *_, found = places._folder("cache", lambda: tmp_path, "DVID_CACHE_DIR", 1)
    assert found.status == "warn"
    assert "locks do not work" in found.said
    assert list(tmp_path.iterdir()) == []


def test_what_was_left_over_is_told_with_the_command_that_takes_it_away(
    dvid: Dvid, tuned: Path
) -> None:
    old = tuned / "cache" / "v1" / "partial" / ("a" * 64)
    old.mkdir(parents=True)
    os.utime(old, (0, 0))
    found = rows(dvid(*TINY).out)["leftovers"]
    assert found[0] == "warn"
    assert "`dvid cache gc`" in found[3]
    dvid("cache", "gc")
    assert rows(dvid(*TINY).out)["leftovers"][0] == "ok"


def test_a_broken_configuration_is_one_finding_among_the_others(dvid: Dvid) -> None:
    Path("dvid.toml").write_text("[tune]\nstpes = 3\n")
    said = dvid(*TINY, code=8)
    assert "did you mean `steps`?" in rows(said.out)["settings"][2]
    assert rows(said.out)["device"][0] == "ok"


def test_a_broken_styles_file_is_told(dvid: Dvid, home: Path) -> None:
    own = home / "config" / "dvid" / "styles.toml"
    own.parent.mkdir(parents=True)
    own.write_text("[broken")
    assert rows(dvid(*TINY, code=8).out)["styles"][0] == "fail"


def test_configured_options_are_those_it_looks_with(
    dvid: Dvid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVID_MODEL", "tiny")
    found = rows(dvid("doctor", "--no-smoke").out)
    assert found["model"][2].startswith("`tiny`")
    assert found["environment"][2]


def test_a_size_the_model_cannot_take_is_a_usage_error_and_no_matter_of_memory(dvid: Dvid) -> None:
    assert "multiples of" in dvid(*TINY, "--size", "65", code=2).err


def test_a_device_that_is_not_there_is_exit_8(dvid: Dvid) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one here")
    assert rows(dvid(*TINY, "--device", "cuda", code=8).out)["device"][0] == "fail"


def test_xformers_that_is_asked_for_and_absent_is_a_fault_with_its_fix() -> None:
    from importlib.util import find_spec

    if find_spec("xformers") is not None:
        pytest.skip("it is installed here")
    found = machine.attention(plans(attention="xformers"))
    assert found.status == "fail"
    assert "`pip install 'dvid[xformers]'`" in str(found.fix)


@pytest.mark.parametrize(("granted", "said"), [(2, "2 of 8 processors"), (8, "8 processors")])
def test_processors_that_a_container_does_not_grant_are_not_counted(
    monkeypatch: pytest.MonkeyPatch, granted: int, said: str
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(machine, "processors", lambda: granted)
    found = {one.name: one.said for one in machine.device(plans(), "cpu")}
    assert found["threads"] == said


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (None, "xformers, as its results are the same, not slower"),
        ("differs by 3", "sdpa of torch, as xformers differs by 3"),
    ],
)
def test_on_a_gpu_xformers_is_tested_against_torch(
    monkeypatch: pytest.MonkeyPatch, wrong: str | None, said: str
) -> None:
    from dvcli.stages import attention

    monkeypatch.setattr(machine, "find_spec", lambda name: object())
    monkeypatch.setattr(attention, "xformers_attention", lambda: None)
    monkeypatch.setattr(attention, "self_test", lambda *_: wrong)
    assert machine.attention(plans(device="cuda")).said == said


def test_a_stage_that_breaks_in_the_smoke_run_is_the_finding(
    dvid: Dvid, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvcli.stages import depth

    def broken(*_: object) -> None:
        raise RuntimeError("kernel image\nis not there")

    monkeypatch.setattr(depth, "build", broken)
    said = dvid("doctor", "--model", "tiny", code=8)
    assert rows(said.out)["smoke depth"][2] == "RuntimeError: kernel image is not there"
    assert "smoke tune" not in said.out


def test_a_library_that_cannot_be_loaded_is_a_finding(
    dvid: Dvid, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> list[Finding]:
        raise ImportError("libcudart.so.12: cannot open", name="torch")

    monkeypatch.setattr(machine, "device", broken)
    assert "torch cannot be loaded" in rows(dvid(*TINY, code=8).out)["import"][2]


def test_json_gives_an_object_a_finding(dvid: Dvid) -> None:
    found = [json.loads(line) for line in dvid(*TINY, "--json").lines]
    assert {(one["schema"], *sorted(one)) for one in found} == {
        (1, "fix", "name", "said", "schema", "status")
    }


@pytest.mark.parametrize("width", [40, 80, 200])
def test_on_a_terminal_no_line_is_wider_than_it(width: int) -> None:
    outer, inner = pty.openpty()
    env = {**os.environ, "COLUMNS": str(width), "TERM": "xterm"}
    running = subprocess.Popen(
        [sys.executable, "-m", "dvcli", "doctor", "--no-smoke"],
        stdout=inner,
        stderr=subprocess.DEVNULL,
        env=env,
    )
    os.close(inner)
    seen = b""
    try:
        while chunk := os.read(outer, 4096):
            seen += chunk
    except OSError:
        pass
    assert running.wait() == 8
    lines = seen.decode().splitlines()
    longest = max((word for line in lines for word in line.split()), key=len)
    assert max(map(len, lines)) <= max(width, 24 + len(longest))
    assert "\x1b" not in seen.decode()  # NO_COLOR is set
    assert any(line.lstrip().startswith("→ ") for line in lines)


def test_without_a_model_and_a_smoke_run_diffusers_is_never_loaded() -> None:
    program = (
        "import sys; from dvcli.cli.main import main; main(sys.argv[1:]);"
        "assert 'diffusers' not in sys.modules; assert 'transformers' not in sys.modules"
    )
    words = ["doctor", "--no-smoke", "-q", "--device", "cpu"]
    subprocess.run([sys.executable, "-c", program, *words], check=True, stdout=subprocess.DEVNULL)


def test_it_runs_where_there_is_no_home(home: Path) -> None:
    words = ["doctor", "--no-smoke", "--model", "/nowhere"]  # no time for an estimate of memory
    gone = {"HOME": "/proc/no", "DVID_CACHE_DIR": "", "DVID_STATE_DIR": ""}
    said = process(*words, code=8, env=gone)
    assert "fail\tcache" in said.out
