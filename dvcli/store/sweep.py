"""What may go from the store, and how it goes while others publish.

How a collection and a publication meet: whatever goes is first moved to `tmp/` and looked at again.
A record or object that was used meanwhile goes back, and so does every object that a record names
by then. A publication, having written its record, looks whether all its objects are there and puts
its own copy in where one is not. One of the two always comes second and sees the other.
"""

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dvcli.errors import StorageError, UsageError
from dvcli.store import disk, listing, locks
from dvcli.store.listing import Entry

if TYPE_CHECKING:
    from dvcli.store.store import Store

_STALE = 7 * 24 * 3600.0
_WRITTEN = 3600.0  # no single file is written for longer, whatever grace was asked for
_AHEAD = 24 * 3600.0  # what claims to be used later than this from now met a clock that was wrong
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What a collection removed, or would remove; sizes in bytes of objects.

    `swept` counts the leftovers: of killed processes, stale checkpoints, objects that no record
    names, quarantine. `after > limit` says that what must be kept is more than the limit. `stuck`
    are the files that the disk would not let go of, `why` its words for the first of them.
    """

    removed: tuple[Entry, ...]
    kept: int
    swept: int
    freed: int
    before: int
    after: int
    limit: float
    stuck: tuple[Path, ...] = ()
    why: str = ""


def gc(store: "Store", limit: float, grace: float, roots: frozenset[str], dry_run: bool) -> Sweep:
    """What went: least recently used first until the objects are within `limit` bytes.

    Pinned, in `roots`, or used within the last `grace` seconds stays. Leftovers go in any case:
    files in quarantine older than that, in `tmp/` older than an hour at least, checkpoints of seven
    days that nobody works on, objects that no record names.
    """
    now = time.time()

    def old(path: Path) -> bool:
        return not _within(disk.modified(path), now, grace)

    sizes = listing.object_sizes(store)
    everything = listing.entries(store)
    uses = _uses(everything)
    uses.update(listing.named_elsewhere(store))
    total = before = sum(sizes.values())
    victims: list[Entry] = []
    orphans = {sha for sha in sizes if sha not in uses and old(store.object_path(sha))}
    total -= sum(sizes[sha] for sha in orphans)
    for entry in reversed(everything):
        if total <= limit:
            break
        if entry.pinned or entry.key in roots or _within(entry.used, now, grace):
            continue
        victims.append(entry)
        for sha in _contents(entry):
            uses[sha] -= 1
            if not uses[sha]:
                orphans.add(sha)
                total -= sizes.get(sha, 0)
    leftovers = list(_leftovers(store, now, grace))
    stuck: list[tuple[Path, str]] = []
    if not dry_run:
        with store.lock("gc"):
            gone, stuck = _remove(store, victims, orphans, young=lambda path: not old(path))
            for path in leftovers:
                disk.discard(path)
            stuck += [(path, "it stays") for path in leftovers if os.path.lexists(path)]
            leftovers = [path for path in leftovers if not os.path.lexists(path)]
            _sweep_locks(store, now)
        victims = [entry for entry in victims if entry.key in gone]
        orphans &= gone
        total = before - sum(sizes.get(sha, 0) for sha in gone)
    return Sweep(
        removed=tuple(victims),
        kept=len(everything) - len(victims),
        swept=len(leftovers) + len(orphans - {s for e in victims for s in _contents(e)}),
        freed=before - total,
        before=before,
        after=total,
        limit=limit,
        stuck=tuple(path for path, _ in stuck),
        why=stuck[0][1] if stuck else "",
    )


def _within(then: float, now: float, seconds: float) -> bool:
    """Whether it was in the last so many seconds, going by clocks that may differ by a day."""
    return -_AHEAD <= now - then <= seconds


def rm(store: "Store", prefix: str) -> Entry:
    """The artifact of the one key that begins with `prefix`: it and what only it needed is gone."""
    everything = listing.entries(store)
    key = listing.one(prefix, (path.stem for path in listing.record_paths(store)))
    found = [entry for entry in everything if entry.key == key]
    if not found:
        store.quarantine(store.record_path(key))
        raise StorageError(f"the record {key[:12]} is damaged; it was moved to quarantine")
    if found[0].pinned:
        raise UsageError(f"{key[:12]} is pinned", hint="unpin it first")
    uses = _uses(everything)
    uses.update(listing.named_elsewhere(store))
    lonely = {sha for sha in _contents(found[0]) if uses[sha] == 1}
    with store.lock("gc"):
        gone, stuck = _remove(store, found, lonely, young=lambda _: False)
    if stuck:
        path, why = stuck[0]
        raise StorageError(f"`{path}` cannot be removed: {why}")
    if key not in gone:
        raise StorageError(f"{key[:12]} could not be removed from `{store.root}`")
    return found[0]


def _uses(listed: Iterable[Entry]) -> Counter[str]:
    return Counter(sha for entry in listed for sha in _contents(entry))


def _contents(entry: Entry) -> set[str]:
    return {output.sha256 for output in entry.outputs.values()}


def _remove(
    store: "Store", victims: list[Entry], orphans: set[str], *, young: Callable[[Path], bool]
) -> tuple[set[str], list[tuple[Path, str]]]:
    """Keys and contents that are gone for good, and what could not be moved, with the reason.

    One file that stays, as another user's does, keeps none of the others.
    """
    gone: set[str] = set()
    stuck: list[tuple[Path, str]] = []
    for entry in victims:
        path = store.record_path(entry.key)
        away = _take(store, path, stuck)
        if away is None:
            continue
        if young(away):
            _give_back(away, path)
            continue
        disk.discard(away)
        gone.add(entry.key)
    taken: dict[str, Path] = {}
    for sha in orphans:
        away = _take(store, store.object_path(sha), stuck)
        if away is not None:
            taken[sha] = away
    still = {*_uses(listing.entries(store)), *listing.named_elsewhere(store)}
    for sha, away in taken.items():
        if sha in still or young(away):
            _give_back(away, store.object_path(sha))
            continue
        disk.discard(away)
        gone.add(sha)
    return gone, stuck


def _take(store: "Store", path: Path, stuck: list[tuple[Path, str]]) -> Path | None:
    away = store.home / "tmp" / disk.unique(path.name)
    try:
        disk.folder(away.parent)
        path.rename(away)
    except FileNotFoundError:
        return None
    except OSError as refused:
        stuck.append((path, refused.strerror or str(refused)))
        return None
    return away


def _give_back(away: Path, path: Path) -> None:
    try:
        # A publication may have put its own there already; for an object that is the same bytes,
        # and a record that is there is the newer one.
        if path.exists():
            disk.discard(away)
        else:
            away.rename(path)
    except OSError as refused:
        _log.warning("`%s` could not be put back: %s", path, refused.strerror)


def _leftovers(store: "Store", now: float, grace: float) -> Iterator[Path]:
    for path in listing.listed(store.home / "tmp"):
        if not _within(disk.modified(path), now, max(grace, _WRITTEN)) and not _worked_in(
            path, now
        ):
            yield path
    for path in listing.listed(store.home / "quarantine"):
        if not _within(disk.modified(path), now, grace):
            yield path
    for path in listing.listed(store.home / "partial"):
        newest = max([disk.modified(path), *map(disk.modified, listing.listed(path))])
        if not _within(newest, now, _STALE) and not locks.held(
            store.home / "locks" / f"{path.name}.lock"
        ):
            yield path


def _worked_in(path: Path, now: float) -> bool:
    if not path.is_dir():
        return False
    if not (path / ".lock").exists():
        # A draft where no lock works: only its age can tell.
        return _within(disk.modified(path), now, _STALE)
    return locks.held(path / ".lock")


def _sweep_locks(store: "Store", now: float) -> None:
    for path in listing.listed(store.home / "locks"):
        if not _within(disk.modified(path), now, _STALE) and not locks.held(path):
            disk.discard(path)
