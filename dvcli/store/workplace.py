"""Where a draft is written: a folder that nobody reads, and that goes when the draft is done."""

import errno
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dvcli.errors import StorageError
from dvcli.store import disk, locks

if TYPE_CHECKING:
    from filelock import BaseFileLock

    from dvcli.store.store import Store

TEMPORARY_HINT = "`dvid cache gc` makes room, `TMPDIR` names a folder on another disk"
_ROOM = 16 * 2**20  # with less free than this a disk counts as full before anything is written
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """A folder to write to; `lock` tells a collection that somebody does."""

    folder: Path
    in_store: bool
    lock: "BaseFileLock | None" = None


def within(store: "Store", name: str) -> Workplace:
    """A new folder on the file system of the store, or elsewhere if that takes nothing."""
    import shutil

    folder = store.home / "tmp" / disk.unique(name)
    try:
        disk.folder(folder.parent)
        folder.mkdir()
        if shutil.disk_usage(folder).free < _ROOM:
            disk.discard(folder)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        store.refused(error)
        return Workplace(folder=temporary(), in_store=False)
    return Workplace(folder=folder, in_store=True, lock=_mark(folder) if store.locks else None)


def elsewhere(store: "Store", full: Workplace) -> Workplace:
    """A folder outside the store for the rest of a draft; what was written before stays."""
    store.keep(full)
    return Workplace(folder=temporary(), in_store=False)


def temporary() -> Path:
    """A new folder in the system's temporary folder. Raises `StorageError` where none can be."""
    import tempfile

    try:
        return Path(tempfile.mkdtemp(prefix="dvid-"))
    except OSError as refused:
        # Where no folder takes a file Python says that it found none, and not why.
        why = refused.strerror if disk.is_full(refused) else "full, or closed to you"
        raise StorageError(
            f"no folder for temporary files can be written: {why}", hint=TEMPORARY_HINT
        ) from refused


def end(place: Workplace) -> None:
    """The folder is gone."""
    if place.lock is not None:
        place.lock.release()
    disk.discard(place.folder)


def end_all(kept: list[Workplace], pid: int) -> None:
    """None of the folders is left; in a fork of the process that made them, they stay."""
    if os.getpid() == pid:
        while kept:
            end(kept.pop())


def _mark(folder: Path) -> "BaseFileLock | None":
    try:
        return locks.take(folder / ".lock")
    except OSError as refused:
        _log.debug("no lock on `%s`: %s", folder, refused)
        return None
