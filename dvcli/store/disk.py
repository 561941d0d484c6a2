"""How bytes come to lie on a disk whole or not at all, and what it means when a disk refuses."""

import errno
import hashlib
import os
import stat
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path

# The refusals of a cache that is only to be read; anything else is a failure.
READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_CHUNK = 4 * 2**20
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FULL_TEXT = ("No space left on device", "Disk quota exceeded", "os error 28", "os error 122")


def sync(path: Path) -> None:
    """The file or folder's bytes are on the disk, not only on their way to it."""
    if os.name == "nt" and path.is_dir():
        return  # Windows has no handle of a folder to flush
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError as refused:
        # Some network and FUSE file systems have no fsync of a folder; a file's must not fail.
        if refused.errno not in (errno.EINVAL, errno.ENOTSUP) or not stat.S_ISDIR(
            os.fstat(fd).st_mode
        ):
            raise
    finally:
        os.close(fd)


def folder(path: Path) -> Path:
    """The folder, there now and durably so, and every folder above that had to be made for it."""
    if not path.is_dir():
        folder(path.parent)
        path.mkdir(exist_ok=True)
        sync(path.parent)
    return path


def place(source: Path, target: Path) -> None:
    """`source` lies at `target`, read-only and durable; whatever lay there before is replaced."""
    sync(source)
    source.chmod(0o444)
    folder(target.parent)
    if target.is_dir():
        target.rename(source.with_name(source.name + ".was"))
    source.replace(target)
    sync(target.parent)


def write(data: bytes, target: Path, tmp: Path) -> None:
    """`data` is the content of `target`: written under the folder `tmp`, then moved there."""
    path = folder(tmp) / unique(target.name)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(fd, rest) :]
        finally:
            os.close(fd)
        place(path, target)
    finally:
        path.unlink(missing_ok=True)


def unique(name: str) -> str:
    """A name that nothing else has, ending in `name`."""
    return f"{os.urandom(8).hex()}-{name}"


def digest(file: BufferedReader, waiting: Callable[[], None] | None = None) -> str:
    """SHA-256 of the open file, 64 hex digits.

    `waiting` is called after every few MiB; what it raises ends the reading.
    """
    if waiting is None:
        return hashlib.file_digest(file, "sha256").hexdigest()
    found, buffer = hashlib.sha256(), memoryview(bytearray(_CHUNK))
    while count := file.readinto(buffer):
        found.update(buffer[:count])
        waiting()
    return found.hexdigest()


def discard(path: Path) -> None:
    """Neither file nor folder is at `path` any more, as far as the file system lets go of it."""
    if path.is_dir() and not path.is_symlink():
        import shutil

        shutil.rmtree(path, ignore_errors=True)
        return
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return


def is_full(error: BaseException) -> bool:
    """Whether the error says that a disk is full; safetensors says it in words only."""
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    return any(text in str(error) for text in _FULL_TEXT)


def modified(path: Path) -> float:
    """When the file last changed, in seconds since 1970; 0 if it is not there."""
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0


def size(path: Path) -> int:
    """Bytes of the file; 0 if it is not there."""
    try:
        return path.lstat().st_size
    except OSError:
        return 0
