"""Checkpoints of work that is not finished, to go on from after an interruption."""

import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dvcli.store import disk, record

if TYPE_CHECKING:
    from dvcli.store.store import Store

_KEPT = 2
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Saved:
    name: str
    sha256: str
    size: int
    order: int


class Partial:
    """The checkpoints of one key: each a file and, beside it, `<file>.json` with its SHA-256.

    `before` is called before each is written; what it raises ends the work, and none is kept.
    """

    def __init__(self, store: "Store", key: str, before: Callable[[], None] | None = None) -> None:
        self._store, self._before = store, before
        self._folder = store.home / "partial" / key
        self._refused = False

    def save(self, name: str, write: Callable[[Path], None]) -> bool:
        """Whether the checkpoint was kept; `write` is called with the path to write it to.

        The newest two stay. A disk that refuses is noted once in the log and ends nothing.
        """
        record.output_name(name)
        if self._before is not None:
            self._before()
        tmp = self._store.home / "tmp" / disk.unique(name)
        try:
            disk.folder(tmp.parent)
            write(tmp)
            with tmp.open("rb") as file:
                sha256, size = disk.digest(file), tmp.stat().st_size
            order = max([time.time_ns(), *(saved.order + 1 for saved in self._saved())])
            disk.place(tmp, self._folder / name)
            side = _encode(_Saved(name=name, sha256=sha256, size=size, order=order))
            disk.write(side, self._side(name), tmp.parent)
        except Exception as error:
            if not isinstance(error, OSError) and not disk.is_full(error):
                raise
            self._note(error)
            return False
        finally:
            disk.discard(tmp)
        for old in self._saved()[_KEPT:]:
            disk.discard(self._side(old.name))
            disk.discard(self._folder / old.name)
        return True

    def intact(self) -> list[tuple[str, Path]]:
        """Name and path of each whole checkpoint, newest first; damaged ones are passed over."""
        found: list[tuple[str, Path]] = []
        for saved in self._saved():
            path = self._folder / saved.name
            try:
                with path.open("rb") as file:
                    whole = disk.digest(file) == saved.sha256
            except OSError:
                whole = False
            if whole:
                found.append((saved.name, path))
            else:
                _log.warning("the checkpoint `%s` is damaged and passed over", path)
        return found

    def damaged(self) -> list[Path]:
        """The files here that no work could go on from, whatever they are."""
        if self._folder.is_symlink():
            return []  # what others have put elsewhere is none of ours
        known = dict(self.intact())
        whole = {path for name in known for path in (known[name], self._side(name))}
        try:
            return sorted(path for path in self._folder.iterdir() if path not in whole)
        except OSError:
            return []

    def clear(self) -> None:
        """No checkpoint is left."""
        disk.discard(self._folder)

    def _side(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def _saved(self) -> list[_Saved]:
        try:
            sides = [path for path in self._folder.iterdir() if path.suffix == ".json"]
        except OSError:
            return []
        read = [saved for side in sides if (saved := _decode(side)) is not None]
        return sorted(read, key=lambda saved: saved.order, reverse=True)

    def _note(self, error: Exception) -> None:
        if not self._refused:
            _log.warning("no checkpoint can be kept under `%s`: %s", self._folder, error)
        self._refused = True


def _encode(saved: _Saved) -> bytes:
    body = {"order": saved.order, "sha256": saved.sha256, "size": saved.size}
    return json.dumps({**body, "check": _check(body)}).encode()


def _decode(side: Path) -> _Saved | None:
    try:
        body = json.loads(side.read_bytes())
        check = body.pop("check")
        if check != _check(body):
            return None
        return _Saved(name=side.name.removesuffix(".json"), **body)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _check(body: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
