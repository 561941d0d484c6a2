"""The store: what was made before, by the key of what is asked now.

`<root>/v1/` holds `objects/ab/<sha256>` (bytes), `actions/ab/<key>.json` (records: what was asked
and which objects answer it), `partial/<key>/` (checkpoints), `pins/`, `locks/`, `quarantine/`,
`tmp/`, the memo of digests, and `CACHEDIR.TAG`. A record is written after its objects and names
them by content, so whatever is damaged or missing is found out by reading, and is made again.
"""

import logging
import os
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from dvcli.errors import StorageError
from dvcli.store import disk, locks, places, record, workplace
from dvcli.store.memo import Memo
from dvcli.store.record import Artifact, Output
from dvcli.store.workplace import Workplace

if TYPE_CHECKING:
    from dvcli.store.draft import Draft
    from dvcli.store.health import Health
    from dvcli.store.listing import Entry
    from dvcli.store.partial import Partial
    from dvcli.store.sweep import Sweep

_TAG = (
    b"Signature: 8a477f597d28d172789f06886806bc55\n# The cache of dvid; nothing here is unique.\n"
)
_log = logging.getLogger(__name__)


class Store:
    """Artifacts by key, under one root. Safe to use from many processes at once.

    `failures` is what could not be stored and why; the results themselves were not lost by it.
    """

    def __init__(self, root: Path, *, locked: bool = True) -> None:
        self.root = root
        self.home = root / "v1"
        self.memo = Memo(self.home / "memo")
        self.failures: list[StorageError] = []
        self.locks = locked
        self._noted = False
        self._loose: dict[str, Artifact] = {}
        self._kept: list[Workplace] = []
        # Called by `close`, else when the process ends; it must not hold on to the store itself.
        self._end = weakref.finalize(self, workplace.end_all, self._kept, os.getpid())

    @classmethod
    def open(
        cls, root: Path | None = None, *, temporary: bool = False, locks: bool = True
    ) -> "Store":
        """The store at `root`, else `$DVID_CACHE_DIR`, else the user's cache folder.

        A `temporary` one is empty and goes with the process. Raises `StorageError` where the root
        cannot be a folder; a root that cannot be written is no error.
        """
        if temporary:
            folder = workplace.temporary()
            store = cls(folder, locked=False)
            store.keep(Workplace(folder=folder, in_store=False))
        else:
            store = cls(root.absolute() if root is not None else cache_dir(), locked=locks)
        store._lay_out()
        return store

    def close(self) -> None:
        """Let go of everything that was not to outlive this process."""
        self._loose.clear()
        self._end()

    def __enter__(self) -> "Store":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # Reading

    def get(self, key: str) -> Artifact | None:
        """The artifact of that key, every byte verified, or None where it has to be made (again).

        A hit counts as a use for `gc`. What is damaged goes to quarantine with a warning.
        """
        if not record.is_digest(key):
            raise ValueError(f"{key!r} is not a key")
        if key in self._loose:
            return self._loose[key]
        path = self.record_path(key)
        try:
            self._touch(path)
            found = record.unseal(path.read_bytes(), key)
            self._verify(found)
        except FileNotFoundError:
            return None
        except record.Foreign as foreign:
            _log.debug("the record `%s` %s", path, foreign)
            return None
        except (record.Damaged, IsADirectoryError, NotADirectoryError) as damage:
            reason = damage if isinstance(damage, record.Damaged) else "is not a file"
            _log.warning("the record %s %s; it is made again", key[:12], reason)
            self.quarantine(path)
            return None
        except OSError as refused:
            _log.warning("the record `%s` cannot be read: %s", path, refused.strerror)
            return None
        return self.artifact(found)

    def digest_file(self, path: Path) -> str:
        """SHA-256 of a file from outside, 64 hex digits; remembered while the file stays as it is.

        Raises `MissingError`, and `InputError` for what is not a file or cannot be read.
        """
        return self.memo.digest(path)

    def prepare(self) -> None:
        """Raises `StorageError` where nothing could be stored, so that nobody works for nothing."""
        tmp = self.home / "tmp" / disk.unique("probe")
        try:
            disk.folder(tmp.parent)
            tmp.touch()
        except OSError as refused:
            raise StorageError(
                f"the cache `{self.root}` cannot be written: {refused.strerror}",
                hint="`DVID_CACHE_DIR` names another folder",
            ) from refused
        finally:
            disk.discard(tmp)

    # Making

    @contextmanager
    def lock(self, key: str, *, waiting: Callable[[], None] | None = None) -> Iterator[None]:
        """While held, no other process works on that key, where the file system can lock.

        `waiting` is called a few times a second until the lock is ours; raising ends it.
        """
        held = locks.wait(self.home / "locks", key, waiting) if self.locks else None
        try:
            yield
        finally:
            if held is not None:
                held.release()

    def draft(self, preimage: Mapping[str, object]) -> "Draft":
        """A context to write an artifact in; see `Draft`."""
        from dvcli.store.draft import Draft

        return Draft(self, preimage)

    def partial(self, key: str, *, before: Callable[[], None] | None = None) -> "Partial":
        """The checkpoints of an unfinished artifact; see `Partial`."""
        from dvcli.store.partial import Partial

        return Partial(self, key, before)

    # Keeping house; told in `listing`, `health` and `sweep`

    def entries(self) -> "list[Entry]":
        """Every artifact, the one used last first."""
        from dvcli.store import listing

        return listing.entries(self)

    def show(self, prefix: str) -> dict[str, object]:
        """The record, pre-image included, of the one key that begins so."""
        from dvcli.store import listing

        return listing.show(self, prefix)

    def verify(
        self, repair: bool = False, *, seen: Callable[[int], None] | None = None
    ) -> "Health":
        """What is damaged after reading everything; `repair` moves it to quarantine."""
        from dvcli.store import health

        return health.verify(self, repair, seen)

    def gc(
        self,
        limit_bytes: float = 50e9,
        grace_s: float = 3600,
        roots: Iterable[str] = (),
        dry_run: bool = False,
    ) -> "Sweep":
        """What was removed to come down to the limit, least recently used first."""
        from dvcli.store import sweep

        return sweep.gc(self, limit_bytes, grace_s, frozenset(roots), dry_run)

    def rm(self, prefix: str) -> "Entry":
        """The artifact that was removed, with what only it needed."""
        from dvcli.store import sweep

        return sweep.rm(self, prefix)

    def pin(self, prefix: str) -> str:
        """The key that `gc` and `rm` keep from now on."""
        from dvcli.store import listing

        return listing.pin(self, prefix)

    def unpin(self, prefix: str) -> str:
        """The key that is no longer pinned."""
        from dvcli.store import listing

        return listing.unpin(self, prefix)

    # For the other files of this room

    def object_path(self, sha256: str) -> Path:
        """Where the object of that content lies."""
        return self.home / "objects" / sha256[:2] / sha256

    def record_path(self, key: str) -> Path:
        """Where the record of that key lies."""
        return self.home / "actions" / key[:2] / f"{key}.json"

    def holds(self, output: Output) -> bool:
        """Whether the object is there and intact."""
        try:
            return self.memo.has(self.object_path(output.sha256), output.sha256, output.size)
        except OSError:
            return False

    def artifact(self, made: Mapping[str, object]) -> Artifact:
        """The artifact of a record whose objects are in the store."""
        files = {n: self.object_path(o.sha256) for n, o in record.outputs_of(made).items()}
        return self._compose(made, files)

    def adopt(self, made: Mapping[str, object], files: Mapping[str, Path]) -> Artifact:
        """The artifact of files that are not in the store; a hit until the store is closed."""
        artifact = self._compose(made, files)
        self._loose[artifact.key] = artifact
        return artifact

    def quarantine(self, path: Path) -> str | None:
        """None once the file is out of the way, with the damaged ones; else why it is not."""
        try:
            path.rename(disk.folder(self.home / "quarantine") / disk.unique(path.name))
        except OSError as refused:
            _log.debug("`%s` cannot be moved to quarantine: %s", path, refused)
            return refused.strerror or str(refused)
        return None

    def refused(self, error: Exception) -> None:
        """Take note that the disk would not store something."""
        if isinstance(error, OSError) and error.errno in disk.READ_ONLY:
            if not self._noted:
                _log.info("the cache `%s` is read-only: new results are not kept", self.root)
            self._noted = True
            return
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        self.failures.append(
            StorageError(
                f"the cache `{self.root}` could not store a result: {reason}",
                hint="`dvid cache gc` makes room, `DVID_CACHE_DIR` names another folder",
            )
        )

    def keep(self, place: Workplace) -> None:
        """The folder stays until the store is closed or the process ends."""
        self._kept.append(place)

    def leave(self, place: Workplace) -> None:
        """The folder goes, unless it was to be kept."""
        if place not in self._kept:
            workplace.end(place)

    def _lay_out(self) -> None:
        tag = self.home / "CACHEDIR.TAG"
        if tag.exists():
            return
        try:
            disk.folder(self.home)
            disk.write(_TAG, tag, self.home / "tmp")
        except (FileExistsError, NotADirectoryError):
            raise StorageError(
                f"the cache cannot be in `{self.root}`, which is not a folder",
                hint="`DVID_CACHE_DIR` names the folder of the cache",
            ) from None
        except OSError as refused:
            _log.debug("the cache `%s` cannot be laid out: %s", self.root, refused)

    def _touch(self, path: Path) -> None:
        try:
            os.utime(path)
        except FileNotFoundError:
            raise
        except OSError:
            return  # another user's cache, or a read-only one: its order of use stays as it is

    def _verify(self, found: Mapping[str, object]) -> None:
        for name, output in record.outputs_of(found).items():
            path = self.object_path(output.sha256)
            try:
                whole = self.memo.has(path, output.sha256, output.size)
            except FileNotFoundError:
                # A collection takes an object away for a moment before it looks whether it may.
                time.sleep(0.05)
                whole = self.holds(output)
            if not whole:
                self.quarantine(path)
                raise record.Damaged(f"names `{name}`, which is damaged or missing")

    def _compose(self, made: Mapping[str, object], files: Mapping[str, Path]) -> Artifact:
        preimage, info = made["preimage"], made["info"]
        assert isinstance(preimage, Mapping)
        assert isinstance(info, Mapping)
        return Artifact(
            key=str(made["key"]),
            stage=str(preimage["stage"]),
            outputs=record.outputs_of(made),
            info=info,
            record=made,
            files=files,
            intact=lambda path, output: self.memo.has(path, output.sha256, output.size),
        )


def cache_dir() -> Path:
    """`$DVID_CACHE_DIR`, else the user's cache folder."""

    def usual() -> Path:
        import platformdirs

        return platformdirs.user_cache_path("dvid", appauthor=False)

    return places.folder_of("DVID_CACHE_DIR", "the cache", usual)
