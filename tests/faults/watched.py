"""Every call that a process makes on the files under a folder, told before and after it happens.

The calls of `os` and the reading and writing of opened files pass through a listener, which may
raise what a failing disk would, or end the process as a power cut does.
"""

# These are the calls that pathlib makes.
# ruff: noqa: PTH100, PTH115, PTH116, PTH118

import builtins
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest

BY_PATH = ("open", "unlink", "mkdir", "rmdir", "chmod", "utime", "listdir", "scandir")
BY_TWO = ("rename", "replace", "link")
BY_NUMBER = ("write", "fsync")
CHANGES = frozenset(
    {"open to write", "write", "fsync", "unlink", "mkdir", "rmdir", "chmod", "utime", *BY_TWO}
)


class Listener(Protocol):
    def before(self, call: str, paths: tuple[str, ...]) -> None:
        """Raise to make the call fail without having done anything."""

    def after(self, call: str, paths: tuple[str, ...]) -> None:
        """The call has been done."""


@contextmanager
def watched(root: Path, listener: Listener) -> Iterator[None]:
    """While open, calls on what lies under `root` are told to the listener."""
    with pytest.MonkeyPatch.context() as patch:
        watch = _Watch(str(root), listener)
        for name in BY_PATH:
            patch.setattr(os, name, watch.by_path(name, getattr(os, name)))
        for name in BY_TWO:
            patch.setattr(os, name, watch.by_two(name, getattr(os, name)))
        for name in BY_NUMBER:
            patch.setattr(os, name, watch.by_number(name, getattr(os, name)))
        opened = watch.opened(io.open)
        patch.setattr(io, "open", opened)
        patch.setattr(builtins, "open", opened)
        yield


class _Watch:
    def __init__(self, root: str, listener: Listener) -> None:
        self.root, self.listener = root, listener

    def ours(self, place: Any, folder: int | None = None) -> str | None:
        """The path as a text if it is under the root."""
        if isinstance(place, bool) or not isinstance(place, int | str | os.PathLike):
            return None
        if isinstance(place, int):
            place = _path_of(place)
        path = os.fspath(place)
        if not isinstance(path, str):
            return None
        if folder is not None:
            path = os.path.join(_path_of(folder), path)
        path = os.path.abspath(path)
        return path if path == self.root or path.startswith(self.root + os.sep) else None

    def tell(self, call: str, paths: tuple[str | None, ...], act: Callable[[], Any]) -> Any:
        known = tuple(path for path in paths if path is not None)
        if not known:
            return act()
        self.listener.before(call, known)
        done = act()
        self.listener.after(call, known)
        return done

    def by_path(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any = ".", *rest: Any, **more: Any) -> Any:
            kind = name
            if name == "open" and rest[0] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                kind = "open to write"
            where = self.ours(path, more.get("dir_fd"))
            return self.tell(kind, (where,), lambda: real(path, *rest, **more))

        return call

    def by_two(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(source: Any, target: Any, **more: Any) -> Any:
            paths = (self.ours(source), self.ours(target))
            return self.tell(name, paths, lambda: real(source, target, **more))

        return call

    def by_number(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(number: int, *rest: Any) -> Any:
            return self.tell(name, (self.ours(number),), lambda: real(number, *rest))

        return call

    def opened(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(file: Any, mode: str = "r", *rest: Any, **more: Any) -> Any:
            where = None if isinstance(file, int) else self.ours(file)
            if where is None:
                return real(file, mode, *rest, **more)
            opener = more.pop("opener", None)
            plain = mode.replace("b", "").replace("t", "")
            kind = "open" if plain == "r" else "open to write"
            raw = self.tell(
                kind, (where,), lambda: _Raw(self, where, os.fspath(file), plain, opener)
            )
            if "+" in plain:
                buffered: Any = io.BufferedRandom(raw)
            else:
                buffered = io.BufferedReader(raw) if plain == "r" else io.BufferedWriter(raw)
            return buffered if "b" in mode else io.TextIOWrapper(buffered, **more)

        return call


class _Raw(io.FileIO):
    def __init__(self, watch: _Watch, where: str, path: str, mode: str, opener: Any) -> None:
        super().__init__(path, mode, opener=opener)
        self.watch, self.where = watch, where

    def write(self, data: Any) -> int:
        return self.watch.tell("write", (self.where,), lambda: super(_Raw, self).write(data))

    def readinto(self, buffer: Any) -> int:
        return self.watch.tell("read", (self.where,), lambda: super(_Raw, self).readinto(buffer))

    def readall(self) -> bytes:
        return self.watch.tell("read", (self.where,), lambda: super(_Raw, self).readall())


def _path_of(number: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{number}")
    except OSError:
        return ""


class Silent:
    """Counts the calls and lets all of them be done."""

    def __init__(self) -> None:
        self.calls = 0

    def before(self, call: str, paths: tuple[str, ...]) -> None:
        self.calls += 1

    def after(self, call: str, paths: tuple[str, ...]) -> None:
        return


class Failing(Silent):
    """The call with that number fails, or every one from it on; `number` is the errno."""

    def __init__(
        self, number: int, first: int, *, ever: bool, only: frozenset[str] | None = None
    ) -> None:
        super().__init__()
        self.number, self.first, self.ever, self.only = number, first, ever, only

    def before(self, call: str, paths: tuple[str, ...]) -> None:
        if self.only is not None and call not in self.only:
            return
        super().before(call, paths)
        if self.calls == self.first or (self.ever and self.calls > self.first):
            raise OSError(self.number, os.strerror(self.number), paths[0])


class Filling(Silent):
    """A disk with room for so many more bytes; each new file or folder takes a block of 4 KiB."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.sizes: dict[str, int] = {}

    def before(self, call: str, paths: tuple[str, ...]) -> None:
        new = call in ("open to write", "mkdir") and not Path(paths[0]).exists()
        if (new or call == "write") and self.room <= 0:
            raise OSError(28, os.strerror(28), paths[0])
        if new:
            self.room -= 4096

    def after(self, call: str, paths: tuple[str, ...]) -> None:
        if call != "write":
            return
        size = os.stat(paths[0]).st_size
        self.room -= size - self.sizes.get(paths[0], 0)
        self.sizes[paths[0]] = size
