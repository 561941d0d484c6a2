"""SHA-256 of files that have been read before: known by what the file system says of them.

One small append-only text file. A line is `dev inode size mtime_ns ctime_ns sha256 crc32`; what
does not parse or has another checksum is no line. Losing the file, or not being able to write it,
costs reading files again and nothing else.
"""

import os
import stat
import time
import zlib
from collections.abc import Callable
from pathlib import Path

from dvcli.errors import InputError, MissingError
from dvcli.store import disk

_Seen = tuple[int, int, int, int, int]
_RACY_NS = 2_000_000_000  # a file changed this recently can change again and look the same
_LARGE = 1_000_000
_KEPT = 4000


class Memo:
    """Digests by (device, inode, size, mtime_ns, ctime_ns), kept in the file at `path`.

    `waiting`, if set, is called every few MiB while a file from outside is read; raising ends that.
    """

    def __init__(self, path: Path) -> None:
        self.waiting: Callable[[], None] | None = None
        self._path = path
        self._known: dict[_Seen, str] | None = None

    def digest(self, path: Path) -> str:
        """SHA-256 of a file from outside. Raises `MissingError` and `InputError`."""
        try:
            for _ in range(2):
                known = self._recall(path)
                if known is not None:
                    return known
                sha256, settled = self._read(path, self.waiting)
                if settled:
                    return sha256
        except (FileNotFoundError, NotADirectoryError):
            raise MissingError(f"there is no file `{path}`") from None
        except OSError as refused:
            reason = refused.strerror or str(refused)
            raise InputError(f"`{path}` cannot be read: {reason}") from refused
        raise InputError(
            f"`{path}` changes while it is read", hint="try again once it has been written"
        )

    def knows(self, path: Path) -> bool:
        """Whether the file's digest is known without reading it."""
        try:
            return self._recall(path) is not None
        except OSError:
            return False

    def has(self, path: Path, sha256: str, size: int) -> bool:
        """Whether the regular file at `path` is of that size and has that content."""
        now = path.stat()
        if not stat.S_ISREG(now.st_mode) or now.st_size != size:
            return False
        # Others may give the object a new time while it is read; its bytes are what counts.
        return self._recall(path) == sha256 or self._read(path)[0] == sha256

    def vouch(self, path: Path, sha256: str) -> None:
        """Note the content of a file that was hashed just now, and give it a time of its own.

        The time has nanoseconds that the kernel's coarse clock will not give to a later change, so
        the file is safe to remember although it is new.
        """
        now = time.time_ns()
        try:
            os.utime(path, ns=(now, now))
            after = path.stat()
        except OSError:
            return
        if after.st_mtime_ns == now:
            self._add(_seen(after), sha256)

    def _recall(self, path: Path) -> str | None:
        return self._entries().get(_seen(path.stat()))

    def _read(self, path: Path, waiting: Callable[[], None] | None = None) -> tuple[str, bool]:
        """The digest of what is in the file, and whether nobody touched it meanwhile."""
        with open(path, "rb", opener=_open) as file:
            before = os.fstat(file.fileno())
            if not stat.S_ISREG(before.st_mode):
                raise InputError(f"`{path}` is not a file")
            sha256 = disk.digest(file, waiting)
            if _seen(os.fstat(file.fileno())) != _seen(before):
                return sha256, False
        if time.time_ns() - before.st_mtime_ns > _RACY_NS:
            self._add(_seen(before), sha256)
        return sha256, True

    def _entries(self) -> dict[_Seen, str]:
        if self._known is None:
            try:
                text = self._path.read_bytes()
            except OSError:
                text = b""
            self._known = _parse(text)
            if len(text) > _LARGE:
                self._shrink()
        return self._known

    def _add(self, seen: _Seen, sha256: str) -> None:
        self._entries()[seen] = sha256
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(fd, _line(seen, sha256))  # one write: lines of two processes never mix
            finally:
                os.close(fd)
        except OSError:
            return

    def _shrink(self) -> None:
        newest = list((self._known or {}).items())[-_KEPT:]
        self._known = dict(newest)
        path = self._path.with_name(disk.unique(self._path.name))
        try:
            path.write_bytes(b"".join(_line(seen, sha256) for seen, sha256 in newest))
            path.replace(self._path)
        except OSError:
            disk.discard(path)


def _open(path: str, flags: int) -> int:
    # Without O_NONBLOCK a pipe that nobody writes to would hang here.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _seen(s: os.stat_result) -> _Seen:
    return s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns


def _line(seen: _Seen, sha256: str) -> bytes:
    text = " ".join((*map(str, seen), sha256)).encode()
    return b"\n%s %08x\n" % (text, zlib.crc32(text))


def _parse(data: bytes) -> dict[_Seen, str]:
    known: dict[_Seen, str] = {}
    for line in data.split(b"\n"):
        text, _, check = line.rpartition(b" ")
        parts = text.split(b" ")
        if len(parts) != 6 or check != b"%08x" % zlib.crc32(text):
            continue
        dev, inode, size, mtime, ctime = map(int, parts[:5])
        known[dev, inode, size, mtime, ctime] = parts[5].decode()
    return known
