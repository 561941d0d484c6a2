"""Where things are kept: the cache and the runs, room for them, and what their disk can do."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from dvcli.doctor import Finding, Findings
from dvcli.errors import StorageError
from dvcli.runs import state_dir
from dvcli.store import Store, locks
from dvcli.store.store import cache_dir

GIB = 2**30
LITTLE = 10 * GIB  # a default model and a few tuned clips
LEAST = 64 * 2**20
STALE = 7 * 24 * 3600.0


def kept() -> Findings:
    """The cache and the folder of runs."""
    yield from _folder("cache", cache_dir, "DVID_CACHE_DIR", LITTLE)
    yield from _folder("runs", state_dir, "DVID_STATE_DIR", LEAST)
    with suppress(StorageError):
        yield from _cache(cache_dir())


def _folder(name: str, where: Callable[[], Path], variable: str, wanted: int) -> Findings:
    """Where it is, whether it can be written, how much room there is, what its disk can do."""
    elsewhere = f"`{variable}` names another folder"
    try:
        folder = where()
    except StorageError as error:
        yield Finding(name=name, status="fail", said=error.message, fix=error.hint)
        return
    there = present(folder)
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        yield Finding(name=name, status="fail", said=f"`{folder}` cannot be written", fix=elsewhere)
        return
    yet = "" if folder.exists() else ", not made yet"
    yield Finding(name=name, said=f"`{folder}`{yet}")
    yield _room(name, there, wanted, elsewhere)
    try:
        yield from _disk(name, there, elsewhere)
    except OSError as refused:
        said = f"`{there}` cannot be written: {refused.strerror}"
        yield Finding(name=f"{name} disk", status="fail", said=said, fix=elsewhere)


def present(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def _room(name: str, folder: Path, wanted: int, elsewhere: str) -> Finding:
    free = shutil.disk_usage(folder).free
    said = f"{free / GIB:.1f} GiB free"
    if free < LEAST:
        return Finding(
            name=f"{name} room",
            status="fail",
            said=said,
            fix=f"`dvid cache gc --limit 10G` makes room, {elsewhere}",
        )
    if free < wanted:
        return Finding(
            name=f"{name} room",
            status="warn",
            said=f"{said}, a model and a few clips take {wanted / GIB:.0f}",
            fix=f"`dvid cache gc --limit 10G` makes room, {elsewhere}",
        )
    return Finding(name=f"{name} room", said=said)


def _disk(name: str, folder: Path, elsewhere: str) -> Findings:
    """What the file system can do, tried in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".dvid-doctor-") as made:
        trial = Path(made)
        one, other = trial / "one", trial / "other"
        one.write_bytes(b"1")
        other.write_bytes(b"2")
        one.replace(other)
        whole = other.read_bytes() == b"1" and not one.exists()
        lock = _locks(trial / "lock")
        link = _links(other, trial / "link")
    if not whole:
        yield Finding(
            name=f"{name} disk",
            status="fail",
            said="a renamed file does not take the place of another whole",
            fix=elsewhere,
        )
        return
    facts = f"renames replace whole files, hard links {'work' if link else 'do not work'}"
    if lock:
        yield Finding(name=f"{name} disk", said=f"{facts}, locks work")
    else:
        yield Finding(
            name=f"{name} disk",
            status="warn",
            said=f"{facts}, locks do not work: two commands may do the same work twice",
            fix=f"let no two commands work on one clip at once, or {elsewhere}",
        )


def _locks(path: Path) -> bool:
    """Whether a second taker is turned away while the first holds the lock."""
    try:
        first = locks.take(path)
        second = locks.take(path)
    except OSError:
        return False
    for lock in (first, second):
        if lock is not None:
            lock.release()
    return first is not None and second is None


def _links(path: Path, link: Path) -> bool:
    try:
        link.hardlink_to(path)
    except OSError:
        return False
    return path.stat().st_nlink == 2


def _cache(root: Path) -> Findings:
    """What is in the cache, and what was left over in it."""
    store = Store(root)
    if not store.home.is_dir():
        return
    sweep = store.gc(limit_bytes=float("inf"), dry_run=True)
    yield Finding(name="artifacts", said=f"{sweep.kept}, {sweep.before / GIB:.2f} GiB")
    working = [path for path in (store.home / "locks").glob("*.lock") if locks.held(path)]
    old = [p for p in (store.home / "partial").glob("*") if time.time() - _changed(p) > STALE]
    parts = len(list((store.home / "partial").glob("*")))
    said = f"{len(working)} at work now, {parts} unfinished with a checkpoint"
    if old or sweep.swept:
        yield Finding(
            name="leftovers",
            status="warn",
            said=f"{said}, {sweep.swept} files or folders nobody needs, {len(old)} old checkpoints",
            fix="`dvid cache gc` takes them away",
        )
    else:
        yield Finding(name="leftovers", said=said)


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()
