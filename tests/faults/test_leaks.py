"""Many samples in one process: its memory, its open files and its leftovers do not grow.

Stated tolerance: from the largest of the first fifth to the last sample the resident memory may
rise by 12 MiB, for an allocator that fragments, and 0.02 MiB a sample. The network that each
sample loads is 2 MiB, so one that is kept shows in the quick run; what is smaller than 0.1 MiB a
sample shows in no run. Open files and leftovers must not grow at all.
"""

import gc
import os
import tempfile
from pathlib import Path

import psutil
import pytest
from faults import counts
from program import Dvid

MEBI = 2**20


def leftovers(home: Path, temporary: Path) -> set[str]:
    """What nobody should find after a command: temporary files, half-written ones, locks held."""
    places = [
        *temporary.rglob("*"),
        *home.glob("cache/v1/tmp/*"),
        *home.glob("cache/v1/partial/*/*"),
    ]
    return {str(path) for path in [*places, *home.glob("work/**/.*")]}


def test_many_samples_in_one_process_leave_nothing_behind(
    dvid: Dvid, tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    process = psutil.Process(os.getpid())
    number = counts.count("leaks")
    settled, memory, files = number // 5, [], []
    for sample in range(number):
        (made,) = dvid("sample", "-p", f"a fox number {sample}", "-q").lines
        assert Path(made).stat().st_size > 1000
        gc.collect()
        memory.append(process.memory_info().rss / MEBI)
        files.append(process.num_fds() if os.name == "posix" else process.num_handles())
        assert leftovers(tuned, tmp_path) == set()
    grown = memory[-1] - max(memory[:settled])
    counts.tally("leaks", samples=number, MiB_grown=round(max(grown, 0)))
    assert max(files[settled:]) <= max(files[:settled]), files
    assert grown < 12 + 0.02 * number, [round(size) for size in memory]


def test_many_readings_of_clips_leave_no_process_and_no_file(
    bikes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvcli.errors import InputError
    from dvcli.video.read import read

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    broken = tmp_path.parent / "broken.mp4"
    broken.write_bytes(bikes.read_bytes()[:200_000])
    process = psutil.Process(os.getpid())
    before = process.num_fds() if os.name == "posix" else process.num_handles()
    children = set(process.children())  # of tests before this one
    for _ in range(4):
        read(bikes, frames=2, size=(32, 32), fit="crop")
        with pytest.raises(InputError):
            read(broken, frames=2, size=(32, 32), fit="crop")
    after = process.num_fds() if os.name == "posix" else process.num_handles()
    assert after <= before
    assert set(process.children()) <= children
    assert list(tmp_path.iterdir()) == []
