"""A disk that fills up, 4 KiB at a time: exit 6, nothing half-written, and the result is had."""

import gc
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest
from faults import counts, goods
from faults.watched import Filling, watched
from program import Dvid, copy_state

from dvcli.errors import StorageError
from dvcli.store import Store

BLOCK = 4096
pytestmark = pytest.mark.usefixtures("unflushed")
Disk = Callable[[Path, int], AbstractContextManager[None]]


@contextmanager
def small_disk(folder: Path, room: int) -> Iterator[None]:
    """A file system of its own in the folder, with what is in it and so much room."""
    kept = folder.with_name(folder.name + ".kept")
    shutil.copytree(folder, kept) if folder.exists() else kept.mkdir()
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1g", "dvid-test", folder], capture_output=True
    )
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.decode().strip()}")
    try:
        shutil.copytree(kept, folder, dirs_exist_ok=True)
        used = sum(-(-p.lstat().st_size // BLOCK) * BLOCK for p in folder.rglob("*") if p.is_file())
        remount = ["mount", "-o", f"remount,size={used + room}", folder]
        subprocess.run(remount, check=True, capture_output=True)
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@contextmanager
def counted_disk(folder: Path, room: int) -> Iterator[None]:
    """The disk that there is, which refuses after so many bytes: needs no rights to mount."""
    folder.mkdir(exist_ok=True)
    with watched(folder, Filling(room)):
        yield


DISKS: list[Disk] = [small_disk, counted_disk]


@pytest.fixture(autouse=True)
def to_the_last_byte(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without looking for room first, as when others fill the disk meanwhile."""
    monkeypatch.setattr("dvcli.store.workplace._ROOM", 0)
    spare = tmp_path / "spare"
    spare.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(spare))


@pytest.mark.parametrize("disk", DISKS)
def test_at_every_step_of_room_a_result_is_had_and_nothing_is_half_written(
    tmp_path: Path, disk: Disk
) -> None:
    steps = counts.count("room") // 2
    full = stored = 0
    n = 3  # 70 kB and a small one
    for step in range(steps):
        root = tmp_path / str(step)
        root.mkdir()
        with disk(root, BLOCK * (1 + step * (40 if counts.FULL else 45) // steps)):
            with Store.open(root / "cache") as store:
                with store.draft(goods.asked(n)) as draft:
                    for name, data in goods.files(n).items():
                        draft.write(name, lambda path, data=data: _write(path, data))
                    made = draft.publish()
                assert goods.read(made) == goods.files(n)
                failures = [failure.exit_code for failure in store.failures]
            assert failures in ([], [6], [6, 6])
            full += bool(failures)
            with Store.open(root / "cache") as later:
                assert later.verify().whole
                hit = later.get(goods.key(n))
                assert (hit is None) == bool(failures)
                stored += hit is not None
    assert full > 3
    assert stored > 3
    assert list((tmp_path / "spare").iterdir()) == []
    counts.tally("full disk", steps=steps, full=full)


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def test_a_full_disk_takes_results_again_after_a_collection(tmp_path: Path) -> None:
    root = tmp_path / "small"
    root.mkdir()
    with small_disk(root, 100 * BLOCK), Store.open(root / "cache") as store:
        stored = 0
        with suppress(StorageError):
            while not store.failures:
                goods.put(store, 3 + 5 * stored)  # 70 kB each
                stored += 1
        assert 1 < stored < 6
        store.failures.clear()
        store.gc(limit_bytes=0, grace_s=0)
        goods.put(store, 3 + 5 * 99)
        assert store.failures == []
        assert goods.check(Store.open(root / "cache"), [3 + 5 * 99]) == 1


@pytest.mark.parametrize("disk", DISKS)
def test_a_sample_on_a_full_cache_disk_goes_to_its_output_with_exit_6(
    dvid: Dvid, tuned: Path, tmp_path: Path, disk: Disk
) -> None:
    """However little room there is; and after a collection the same command is whole again."""
    dvid("sample", "-p", "a fox", "-o", "right.mp4")
    right = Path("right.mp4").read_bytes()
    steps = counts.count("rooms of a sample")
    for step in range(steps):
        home = tmp_path / str(step)
        home.mkdir()
        copy_state(tuned, home)
        for path in (home / "cache" / "v1" / "objects").glob("*/*"):
            path.chmod(0o644)
        shutil.rmtree(home / "cache")
        shutil.copytree(_without_samples(tuned, tmp_path), home / "cache")
        os.environ.update(DVID_CACHE_DIR=str(home / "cache"), DVID_STATE_DIR=str(home / "state"))
        with disk(home / "cache", BLOCK * (1 + 7 * step // steps)):
            said = dvid("sample", "-p", "a fox", "-o", f"{step}.mp4", code=6)
            assert Path(f"{step}.mp4").read_bytes() == right
            assert said.lines == [f"{step}.mp4"]
            assert "could not store a result" in said.err
            dvid("cache", "verify")
    counts.tally("full disk", samples=steps)


def _without_samples(tuned: Path, tmp_path: Path) -> Path:
    """The cache of the tuned home as it was before anything was sampled."""
    place = tmp_path / "plain"
    if not place.exists():
        shutil.copytree(tuned / "cache", place)
        with Store.open(place) as store:
            for entry in store.entries():
                if entry.stage in ("sample", "render"):
                    store.rm(entry.key)
    return place


@contextmanager
def one_disk_for_all(folder: Path, room: int, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Cache, runs, temporary files and the working directory on one disk with so much room."""
    (folder / "tmp").mkdir(parents=True)
    (folder / "films").write_bytes(bytes(BLOCK))  # a disk of no size at all would have no end
    with small_disk(folder, room):
        patch.setenv("DVID_CACHE_DIR", str(folder / "cache"))
        patch.setenv("DVID_STATE_DIR", str(folder / "state"))
        patch.setenv("TMPDIR", str(folder / "tmp"))
        # The usual ones of this machine are on another disk.
        patch.setattr("tempfile._candidate_tempdir_list", lambda: [str(folder / "tmp")])
        patch.setattr("tempfile.tempdir", None)
        patch.chdir(folder)
        try:
            yield
        finally:
            patch.chdir(folder.parent)


TUNING = ["a man", "--frames", "2", "--size", "64", "--steps", "1"]


@pytest.mark.parametrize("room", [0, 3, 12, 40])
@pytest.mark.parametrize("verb", ["tune", "extract"])
def test_a_disk_that_is_full_for_everything_is_told_as_such(
    dvid: Dvid,
    base: Path,
    bikes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    room: int,
    verb: str,
) -> None:
    words = [*TUNING, "--model", base] if verb == "tune" else ["--frames", "9", "-o", "o.png"]
    with one_disk_for_all(tmp_path / "disk", room * BLOCK, monkeypatch):
        said = dvid(verb, bikes, *words, code=6)
        assert "error: " in said.err
        assert "hint: " in said.err
        assert not Path("o.png").exists()
        assert list((tmp_path / "disk").glob("tmp/*")) == []
        assert list((tmp_path / "disk").glob(".dvid-*")) == []
    counts.tally("full disk", full_for_everything=1)


def test_a_clip_reaches_an_output_that_has_room_when_nothing_else_has(
    dvid: Dvid, bikes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dvid("extract", bikes, "--frames", "9", "-o", "right.png")
    right, out = Path("right.png").read_bytes(), tmp_path / "out"
    out.mkdir()
    with one_disk_for_all(tmp_path / "disk", 0, monkeypatch):
        said = dvid("extract", bikes, "--frames", "9", "-o", out / "o.png", code=6)
        assert said.lines == [str(out / "o.png")]
        assert "could not store a result: " in said.err
        assert "No space left on device" in said.err
        assert (out / "o.png").read_bytes() == right
        gc.collect()  # what a command works in goes with it, which here has not ended its process
        assert list(out.iterdir()) == [out / "o.png"]
