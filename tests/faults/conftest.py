"""The totals of what was tried, at the end of the run; a longer limit where it is long."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import empty_home
from faults import counts, tuning
from faults.nursery import Nursery

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(counts.TIMEOUT))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if lines := counts.totals():
        size = "full" if counts.FULL else "quick"
        terminalreporter.section(f"faults, seed {counts.SEED}, {size}")
        for line in lines:
            terminalreporter.line(line)


@pytest.fixture
def unflushed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits for the disk: for faults that end a process, not the power."""
    monkeypatch.setattr(os, "fsync", lambda number: None)


@pytest.fixture(scope="session")
def tuner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """A process that has all loaded that a tuning needs; each tuning is a fork of it."""
    with Nursery(tuning.PROGRAM, tmp_path_factory.mktemp("tuner")) as found:
        yield found


@pytest.fixture(scope="session")
def unbroken(
    tuner: Nursery, bikes: Path, base: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuning.Unbroken:
    """A tuning that nobody stopped."""
    home = tmp_path_factory.mktemp("unbroken")
    with pytest.MonkeyPatch.context() as patch:
        empty_home(home, patch)
        ended = tuning.finish(tuner, bikes, base)
        assert ended.status == 0, ended.said
        return tuning.Unbroken(home, tuning.deltas(), tuning.stepping(ended.said))
