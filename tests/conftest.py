"""Every test runs in a home of its own, on one thread, with no way to a network."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")


def pytest_configure() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home; no `DVID_*` from outside; the working directory is an empty folder too."""
    home = tmp_path_factory.mktemp("home")
    for name in [n for n in os.environ if n.startswith(("DVID_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("NO_COLOR", "1")
    work = tmp_path_factory.mktemp("work")
    monkeypatch.chdir(work)
    return home
