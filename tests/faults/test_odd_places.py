"""Caches that are only to be read, no home, wrong clocks, no hard links, locks that fail."""

import errno
import fcntl
import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from faults import forks, goods
from faults.watched import CHANGES, Failing, watched
from program import Dvid

from dvcli.errors import StorageError
from dvcli.runs import Run, Runs, state_dir
from dvcli.store import Store
from dvcli.store.store import cache_dir

DAY = 86400.0


# A cache that is only to be read


@contextmanager
def mounted(folder: Path) -> Iterator[None]:
    """The folder as a file system that is read-only."""
    done = subprocess.run(["mount", "--bind", folder, folder], capture_output=True)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.decode().strip()}")
    try:
        remount = ["mount", "-o", "remount,bind,ro", folder]
        subprocess.run(remount, check=True, capture_output=True)
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@contextmanager
def refusing(folder: Path) -> Iterator[None]:
    """The folder with every change of it refused: needs no rights to mount."""
    with watched(folder, Failing(errno.EROFS, 1, ever=True, only=CHANGES)):
        yield


@pytest.mark.parametrize("kind", [mounted, refusing])
def test_a_read_only_cache_serves_new_results_go_out_and_keeping_house_says_why(
    dvid: Dvid, tuned: Path, kind: object
) -> None:
    assert callable(kind)
    dvid("sample", "-p", "a fox", "-o", "cached.mp4")
    key = dvid("cache", "ls").lines[0].split("\t")[0]
    dvid("cache", "export", key, "-o", "one.tar")
    with kind(tuned / "cache"):
        dvid("sample", "-p", "a fox", "-o", "fox.mp4")
        assert Path("fox.mp4").read_bytes() == Path("cached.mp4").read_bytes()
        assert dvid("sample", "-p", "a bear", "-o", "bear.mp4").lines == ["bear.mp4"]
        assert len(dvid("cache", "ls").lines) == 6
        dvid("cache", "show", key)
        dvid("cache", "verify")
        dvid("cache", "export", "-o", "all.tar")
        collect = ["gc", "--limit", "1", "--grace", "0"]
        for words in (["pin", key], ["rm", key], ["import", "one.tar"], collect):
            assert "error: " in dvid("cache", *words, code=6).err
    assert "0 damaged" in dvid("cache", "verify").err


# A cache with folders of two users


@contextmanager
def another_user(folder: Path) -> Iterator[None]:
    """What is done here is done by a user who may write in the folder, and not in all of it."""
    if os.name != "posix" or os.geteuid() != 0:
        pytest.skip("only root can take the place of another user")
    opened = [path for path in folder.resolve().parents if path.stat().st_uid == 0]
    modes = {path: path.stat().st_mode & 0o7777 for path in opened}
    for path, mode in modes.items():
        path.chmod(mode | 0o005)
    os.setegid(12345)
    os.seteuid(12345)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        for path, mode in modes.items():
            path.chmod(mode)


def owned(folder: Path) -> None:
    """Give the other user the folders, and what is in them."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, 12345, 12345)


def test_files_of_another_user_stay_the_rest_is_collected_and_it_is_said(
    dvid: Dvid, home: Path, tmp_path: Path
) -> None:
    with Store.open(home / "cache") as store:
        numbers = [n for n in range(0, 40, 2) if n % 5 != 0]
        for n in numbers:
            goods.put(store, n)
            goods.age(store.record_path(goods.key(n)))
        for path in (store.home / "objects").glob("*/*"):
            goods.age(path)
    if os.geteuid() == 0:
        owned(home / "cache")
        theirs = store.record_path(goods.key(numbers[3]))
        os.chown(theirs.parent, 0, 0)
    with another_user(home / "cache"):
        said = dvid("cache", "gc", "--limit", "1", "--grace", "0", code=6)
    assert f"`{theirs}` cannot be removed: Permission denied" in said.err
    assert "what else could go has gone" in said.err
    assert len(said.lines) == len(numbers) - 1
    with Store.open(home / "cache") as store:
        assert goods.check(store, numbers) == 1
        assert list((store.home / "tmp").iterdir()) == []
        assert store.verify().whole


def test_what_cannot_be_set_aside_is_said_with_the_reason(dvid: Dvid, home: Path) -> None:
    with Store.open(home / "cache") as store:
        path = goods.put(store, 3).path("frames")
        path.chmod(0o644)
        path.write_bytes(b"harm")
    with another_user(home / "cache"):
        said = dvid("cache", "verify", "--repair", code=8)
    assert f"`{path}` and 1 more is damaged and cannot be set aside: Permission denied" in said.err
    assert f"whoever may write in `{home / 'cache'}` can repair it" in said.err
    assert "verify --repair" not in said.err
    dvid("cache", "verify", "--repair")
    dvid("cache", "verify")


# No home


def test_a_user_without_a_home_is_told_which_variable_names_a_folder(
    dvid: Dvid, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(_: object) -> None:
        raise KeyError("no such user")

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    for name in ("HOME", "DVID_CACHE_DIR", "DVID_STATE_DIR", "XDG_CACHE_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for words, variable in ((["cache", "ls"], "DVID_CACHE_DIR"), (["runs"], "DVID_STATE_DIR")):
        said = dvid(*words, code=6)
        assert "there is no home folder" in said.err
        assert variable in said.err
    dvid("styles")
    assert list(Path.cwd().iterdir()) == []
    monkeypatch.setenv("DVID_CACHE_DIR", "~/cache")
    assert "there is no home folder" in dvid("cache", "ls", code=6).err
    monkeypatch.setenv("DVID_CACHE_DIR", str(home / "c"))
    monkeypatch.setenv("DVID_STATE_DIR", str(home / "s"))
    dvid("cache", "ls")
    dvid("runs")
    assert (cache_dir(), state_dir()) == (home / "c", home / "s")


def test_a_home_that_is_not_there_and_cannot_be_made_is_said(
    dvid: Dvid, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DVID_CACHE_DIR", "DVID_STATE_DIR"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", "/dev/null/nobody")
    assert "which is not a folder" in dvid("cache", "ls", code=6).err
    assert dvid("runs").lines == []


# Clocks


@pytest.mark.parametrize("then", [0.0, 4e9], ids=["1970", "2096"])
def test_whatever_the_clock_says_results_are_had_and_collected(
    tmp_path: Path, then: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time()
    with Store.open(tmp_path / "cache") as store:
        goods.put(store, 1)
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda: then)
            patch.setattr(time, "time_ns", lambda: int(then * 1e9))
            made = goods.put(store, 2)
            os.utime(store.record_path(made.key), (then, then))
            assert goods.check(store, [1, 2]) == 2
            assert store.partial(goods.key(9)).save(
                "old", lambda path: path.write_bytes(b"1") and None
            )
        assert time.time() >= real
        assert store.partial(goods.key(9)).save("new", lambda path: path.write_bytes(b"2") and None)
        assert [name for name, _ in store.partial(goods.key(9)).intact()] == ["new", "old"]
        for path in (store.home / "objects").glob("*/*"):
            os.utime(path, (then, then))
        os.utime(store.record_path(goods.key(2)), (then, then))
        assert Store.open(store.root).verify().whole
        store.gc(limit_bytes=0, grace_s=3600)
        assert [entry.key for entry in store.entries()] == [goods.key(1)]
        assert goods.check(Store.open(store.root), [1, 2]) == 1


def test_a_clock_a_little_ahead_takes_nothing_from_those_who_work(tmp_path: Path) -> None:
    with Store.open(tmp_path / "cache") as store:
        made = goods.put(store, 1)
        soon = time.time() + 600
        os.utime(store.record_path(made.key), (soon, soon))
        store.gc(limit_bytes=0, grace_s=3600)
        assert goods.check(store, [1]) == 1


def test_the_last_run_is_the_one_worked_on_last_even_if_the_clock_was_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Runs(tmp_path / "runs")
    for turn, (name, clock) in enumerate(
        (("a", 2e9), ("b", 1e9), ("c", 0.0), ("a", 5.0), ("b", 6.0))
    ):
        runs.update(
            Run(name=name, cwd="/", created=clock, updated=clock),
            lambda run, clock=clock: Run(name=run.name, cwd="/", created=clock, updated=clock),
        )
        assert runs.all()[0].name == name, turn


# File systems that lack something


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK])
def test_without_hard_links_everything_works(
    dvid: Dvid, tuned: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    dvid("sample", "-p", "a fox", "-o", "a.mp4")
    with refusing(tuned / "cache"):
        dvid("sample", "-p", "a bear", "-o", "b.mp4")
    dvid("cache", "export", "bikes", "-o", "c.tar")
    monkeypatch.setenv("DVID_CACHE_DIR", str(tuned / "other"))
    dvid("cache", "import", "c.tar")
    dvid("cache", "verify")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EIO])
def test_where_locks_fail_commands_work_and_do_not_wait(
    dvid: Dvid, tuned: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    begun = time.monotonic()
    said = dvid("sample", "-p", "a fox", "-o", "fox.mp4")
    dvid("cache", "gc", "--limit", "1", "--grace", "0")
    dvid("cache", "verify", "--repair")
    assert time.monotonic() - begun < 30
    assert "Warning" not in said.err


def test_a_run_is_saved_although_another_process_does_not_let_go_of_the_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvcli.store import locks

    monkeypatch.setattr("dvcli.runs._PATIENCE", 0.3)
    runs = Runs(tmp_path / "runs")
    held = locks.wait(runs.folder, "", None)
    assert held is not None
    saved = runs.update(Run(name="a", cwd="/"), lambda run: run)
    held.release()
    assert runs.get("a") == saved


def test_where_files_stand_for_locks_one_of_a_killed_process_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", missing)
    key = goods.key(1)
    held = tmp_path / "held"

    def hold() -> None:
        with Store.open(tmp_path / "cache") as store, store.lock(key):
            held.touch()
            time.sleep(100)

    child = forks.begin(hold)
    while not held.exists():
        time.sleep(0.01)
    forks.kill_after(child, 0)
    waited: list[float] = []

    def waiting() -> None:
        waited.append(time.monotonic())
        if len(waited) > 30:
            raise StorageError("the lock of a dead process is waited for")

    with Store.open(tmp_path / "cache") as store, store.lock(key, waiting=waiting):
        goods.put(store, 1)


def test_a_cache_can_be_copied_and_moved(
    dvid: Dvid, tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a memo that speaks of other inodes, and other times on every file."""
    dvid("sample", "-p", "a fox", "-o", "a.mp4")
    shutil.copytree(tuned / "cache", tuned / "copy", copy_function=shutil.copyfile)
    monkeypatch.setenv("DVID_CACHE_DIR", str(tuned / "copy"))
    shutil.rmtree(tuned / "cache")
    dvid("sample", "-p", "a fox", "-o", "b.mp4")
    assert Path("a.mp4").read_bytes() == Path("b.mp4").read_bytes()
    assert "0 damaged" in dvid("cache", "verify").err
