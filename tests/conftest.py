"""Every test runs in a home of its own, on one thread, with no way to a network."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkpoints import write_clip, write_depth2img
from media import real_clips
from program import Dvid, copy_state

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["OMP_NUM_THREADS"] = "1"  # a sum over threads rounds otherwise than over one
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")


def pytest_configure() -> None:
    import torch
    from hypothesis import settings

    torch.set_num_threads(1)
    # A machine that others use too may halt any example for a second.
    settings.register_profile("shared", deadline=None)
    settings.load_profile("shared")


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty home; no `DVID_*` from outside; the working directory is an empty folder too."""
    with pytest.MonkeyPatch.context() as patch:
        yield empty_home(tmp_path_factory.mktemp("home"), patch)


def empty_home(home: Path, patch: pytest.MonkeyPatch) -> Path:
    for name in [n for n in os.environ if n.startswith(("DVID_", "XDG_"))]:
        patch.delenv(name)
    patch.setenv("HOME", str(home))
    patch.setenv("DVID_CACHE_DIR", str(home / "cache"))
    patch.setenv("DVID_STATE_DIR", str(home / "state"))
    patch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    patch.setenv("NO_COLOR", "1")
    (home / "work").mkdir(exist_ok=True)
    patch.chdir(home / "work")
    return home


@pytest.fixture
def dvid(capfd: pytest.CaptureFixture[str]) -> Dvid:
    """The program, in this process."""
    return Dvid(capfd)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random checkpoint with depth, in the real format. Copy it before changing it."""
    return write_depth2img(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random CLIP in the real format."""
    return write_clip(tmp_path_factory.mktemp("judge"))


@pytest.fixture(scope="session")
def bikes() -> Path:
    """A real clip: 640 × 272, 250 frames at 25 a second, several scenes."""
    return real_clips()["bikes.mp4"]


@pytest.fixture(scope="session")
def tuned_home(tmp_path_factory: pytest.TempPathFactory, base: Path, bikes: Path) -> Path:
    """A home in which `bikes` has been tuned for two steps and inverted in three; do not write."""
    from dvcli.cli.main import main

    home = tmp_path_factory.mktemp("tuned")
    with pytest.MonkeyPatch.context() as patch:
        empty_home(home, patch)
        options = ["--model", str(base), "--steps", "2", "--frames", "3", "--size", "64", "-q"]
        assert main(["tune", str(bikes), "a man", *options]) == 0
        assert main(["invert", "--steps", "3", "-q"]) == 0
    return home


@pytest.fixture
def tuned(home: Path, tuned_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This test's own copy of that home; commands here go on with its run, `bikes`."""
    copy_state(tuned_home, home)
    monkeypatch.setenv("DVID_RUN", "bikes")
    return home
