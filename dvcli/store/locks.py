"""Locks between processes. They only save double work, so a disk without them is no error."""

import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from dvcli.store import disk

if TYPE_CHECKING:
    from filelock import BaseFileLock

_PAUSE = 0.2  # seconds
_log = logging.getLogger(__name__)


def take(path: Path) -> "BaseFileLock | None":
    """The lock of that file, or None while another holds it; `OSError` where none works."""
    import warnings

    from filelock import FileLock, Timeout

    lock = FileLock(path, thread_local=False)
    try:
        with warnings.catch_warnings():  # that a file is the lock where the system has none
            warnings.simplefilter("ignore")
            lock.acquire(timeout=0)
    except Timeout:
        _refused(path)
        return None
    except NotImplementedError as missing:
        raise OSError(str(missing)) from missing
    return lock


def _refused(path: Path) -> None:
    """Raises `OSError` where no other holder but the file system says no.

    As network file systems do with ENOLCK, which older releases of filelock take for a holder.
    """
    if os.name == "nt":
        return
    import fcntl

    try:
        number = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return  # let go of since
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES, errno.ENOSYS):
            raise
    finally:
        os.close(number)


def wait(folder: Path, key: str, waiting: Callable[[], None] | None) -> "BaseFileLock | None":
    """The lock of that key as soon as it is free, or None where nothing can lock.

    `waiting` is called between two looks; what it raises ends the wait.
    """
    import time

    told = False
    while True:
        try:
            lock = take(disk.folder(folder) / f"{key}.lock")
        except OSError as refused:
            _log.debug("no lock on %s: %s", key[:12], refused)
            return None
        if lock is not None:
            return lock
        if not told:
            _log.info("another process works on %s: waiting for it", key[:12] or folder.name)
        told = True
        if waiting is not None:
            waiting()
        time.sleep(_PAUSE)


def held(path: Path) -> bool:
    """Whether somebody holds the lock of that file, as far as can be known."""
    if not path.exists():
        return False
    try:
        lock = take(path)
    except OSError:
        return True
    if lock is None:
        return True
    lock.release()
    return False
