"""What a disk may hold after the power went: what was flushed for certain, the rest perhaps.

`Recorder` follows a process's calls and ends it before the n-th. Then `disk` lays out one of the
states that POSIX allows: a file holds what it held when it was last flushed or anything on the way
to what it holds now; a new, moved or removed name is there as it was when its folder was last
flushed, or as it is now, each independently of the others. Only a single move is indivisible.
"""

# Paths are compared as texts, some thousands of times.
# ruff: noqa: PTH112, PTH113, PTH120

import os
import random
from dataclasses import dataclass
from itertools import count
from pathlib import Path


class PowerCut(BaseException):
    """The process is no more; nothing that it does from here on reaches the disk."""


@dataclass
class _Step:
    kind: str
    paths: tuple[str, ...]
    file: int
    flushed: bool = False


class Recorder:
    """Follows the calls under `root`, an empty folder, and cuts the power before number `last`."""

    def __init__(self, root: Path, last: int | None) -> None:
        self.root, self.last, self.calls = str(root), last, 0
        self.cut = False
        self.steps: list[_Step] = []
        self.names: dict[str, int] = {}
        self.flushed: dict[int, bytes] = {}
        self.held: dict[int, bytes] = {}
        self._numbers = count()

    def before(self, call: str, paths: tuple[str, ...]) -> None:
        if self.cut:
            raise PowerCut  # whatever tries to tidy up comes too late
        self.calls += 1
        if self.calls == self.last:
            self.stop()
            raise PowerCut
        if call == "open to write" and not os.path.lexists(paths[0]):
            self._create(paths[0])
        if call == "unlink":
            self._note("unlink", paths, self.names.pop(paths[0], -1))

    def after(self, call: str, paths: tuple[str, ...]) -> None:
        match call:
            case "mkdir" | "rmdir":
                self._note(call, paths, -1)
            case "rename" | "replace":
                self._move(*paths)
            case "link":
                self.names[paths[1]] = self.names[paths[0]]
                self._note("link", paths[1:], self.names[paths[1]])
            case "fsync":
                self._flush(paths[0])

    def stop(self) -> None:
        """The power is cut now; the files hold what they hold."""
        self.cut = True
        for path, file in self.names.items():
            if os.path.isfile(path):
                self.held[file] = Path(path).read_bytes()

    def _create(self, path: str) -> None:
        self.names[path] = next(self._numbers)
        self._note("create", (path,), self.names[path])

    def _move(self, source: str, target: str) -> None:
        inside = [name for name in self.names if name.startswith(source + os.sep)]
        for name in inside:
            self.names[target + name[len(source) :]] = self.names.pop(name)
        file = self.names.pop(source, -1)
        if file >= 0:
            self.names[target] = file
        self._note("move", (source, target), file)

    def _note(self, kind: str, paths: tuple[str, ...], file: int) -> None:
        self.steps.append(_Step(kind, paths, file))

    def _flush(self, path: str) -> None:
        if os.path.isdir(path):
            for step in self.steps:
                # A move is durable with the folder that it leads to.
                if os.path.dirname(step.paths[-1]) == path:
                    step.flushed = True
        elif path in self.names:
            self.flushed[self.names[path]] = Path(path).read_bytes()

    def disk(self, target: Path, dice: random.Random) -> None:
        """Lay out, in the empty folder `target`, one state of the disk after the cut."""
        lost = dice.choice((0.0, 0.5, 1.0))
        folders, files = {self.root}, {}
        for step in self.steps:
            if not step.flushed and dice.random() < lost:
                continue
            path = step.paths[-1]
            if step.kind == "unlink":
                files.pop(path, None)
            elif step.kind == "rmdir":
                folders.discard(path)
            elif os.path.dirname(path) not in folders:
                continue  # its folder never came to be
            elif step.kind == "mkdir":
                folders.add(path)
            elif step.kind == "move" and step.file < 0:
                _move_folder(step.paths[0], path, folders, files)
            else:
                if step.kind == "move":
                    files.pop(step.paths[0], None)
                files[path] = step.file
        for folder in sorted(folders):
            (target / os.path.relpath(folder, self.root)).mkdir(parents=True, exist_ok=True)
        for path, file in files.items():
            if os.path.dirname(path) in folders:
                (target / os.path.relpath(path, self.root)).write_bytes(self._bytes(file, dice))

    def _bytes(self, file: int, dice: random.Random) -> bytes:
        flushed, held = self.flushed.get(file), self.held.get(file, b"")
        if flushed is not None and (file not in self.held or flushed == held):
            return flushed
        before = flushed or b""
        part = held[: dice.randrange(len(held) + 1)]
        return dice.choice(
            (before, held, part, bytes(len(held)), part + bytes(len(held) - len(part)))
        )


def _move_folder(source: str, target: str, folders: set[str], files: dict[str, int]) -> None:
    for folder in [f for f in folders if f == source or f.startswith(source + os.sep)]:
        folders.discard(folder)
        folders.add(target + folder[len(source) :])
    for name in [n for n in files if n.startswith(source + os.sep)]:
        files[target + name[len(source) :]] = files.pop(name)
