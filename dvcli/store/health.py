"""Whether the store is whole: everything read in full, nothing believed; and putting it in order.

A repair moves what is damaged to quarantine, looks there for what a record needs and is whole after
all, and tells which artifacts have to be made again.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dvcli.store import disk, listing, locks, record
from dvcli.store.record import Output

if TYPE_CHECKING:
    from dvcli.store.store import Store


@dataclass(frozen=True, kw_only=True)
class Damage:
    """A file that is not what it should be; `repaired` when it went to quarantine.

    `stuck` is why it did not, where that was tried.
    """

    path: Path
    problem: str
    repaired: bool
    stuck: str | None = None


@dataclass(frozen=True, kw_only=True)
class Lost:
    """An artifact that is there no more; `stage` is None where its record cannot tell."""

    key: str
    stage: str | None


@dataclass(frozen=True, kw_only=True)
class Health:
    """What `verify` read and found, what a repair put back, and what has to be made again."""

    records: int
    objects: int
    bytes: int
    damaged: tuple[Damage, ...]
    restored: tuple[Path, ...] = ()
    lost: tuple[Lost, ...] = ()

    @property
    def whole(self) -> bool:
        return not self.damaged


def verify(store: "Store", repair: bool, seen: Callable[[int], None] | None) -> Health:
    """What is damaged, after reading every record, object and checkpoint in full.

    `seen` is called with the bytes of each object read.
    """
    damaged: list[Damage] = []

    def complain(path: Path, problem: str) -> None:
        stuck = store.quarantine(path) if repair else None
        moved = repair and stuck is None
        damaged.append(Damage(path=path, problem=problem, repaired=moved, stuck=stuck))

    # A collection moves what it looks at for a moment; it waits until a repair is done.
    with store.lock("gc") if repair else nullcontext():
        objects = total = 0
        for path in listing.files(store.home / "objects"):
            problem, size = _object_problem(path)
            objects, total = objects + 1, total + size
            if problem:
                complain(path, problem)
            if seen is not None:
                seen(size)
        restored = tuple(_restore(store)) if repair else ()
        broken = {damage.path for damage in damaged} - set(restored)
        records = 0
        lost: list[Lost] = []
        for path in listing.record_paths(store):
            records += 1
            problem, stage = _record_problem(store, path, broken)
            if problem:
                complain(path, problem)
                lost.append(Lost(key=path.stem, stage=stage))
        for path, problem in _checkpoints(store):
            complain(path, problem)
    return Health(
        records=records,
        objects=objects,
        bytes=total,
        damaged=tuple(damaged),
        restored=restored,
        lost=tuple(lost),
    )


def _object_problem(path: Path) -> tuple[str | None, int]:
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            return (None if disk.digest(file) == path.name else "has other bytes"), size
    except OSError as refused:
        return f"cannot be read: {refused.strerror}", 0


def _record_problem(store: "Store", path: Path, broken: set[Path]) -> tuple[str | None, str | None]:
    """What is wrong with a record, and the stage of what it was the record of."""
    try:
        made = record.unseal(path.read_bytes(), path.stem)
        record.own_key(made)
    except record.Foreign:
        return None, None
    except record.Damaged as problem:
        return str(problem), None
    except OSError as refused:
        return f"cannot be read: {refused.strerror}", None
    for name, output in record.outputs_of(made).items():
        where = store.object_path(output.sha256)
        if where in broken or not _is_there(where, output):
            return f"names `{name}`, which is damaged or missing", record.stage_of(made)
    return None, None


def _is_there(where: Path, output: Output) -> bool:
    if not where.exists():
        time.sleep(0.05)  # a collection takes an object away for a moment before it looks
    return where.exists() and where.stat().st_size == output.size


def _checkpoints(store: "Store") -> Iterator[tuple[Path, str]]:
    """The checkpoints that no tuning could go on from; none of those being written now."""
    from dvcli.store.partial import Partial

    for folder in listing.listed(store.home / "partial"):
        if locks.held(store.home / "locks" / f"{folder.name}.lock"):
            continue
        for path in Partial(store, folder.name).damaged():
            yield path, "is no whole checkpoint"


def _restore(store: "Store") -> Iterator[Path]:
    """Where each file that came out of quarantine lies now: the ones that are needed and whole."""
    aside = [path for path in listing.listed(store.home / "quarantine") if path.is_file()]
    set_aside = {path: made for path in aside if (made := _quarantined(path)) is not None}
    needed: dict[str, Output] = {}
    for made in [*set_aside.values(), *(made for _, made in listing.records(store))]:
        needed |= {output.sha256: output for output in record.outputs_of(made).values()}
    sizes = {output.size for output in needed.values()}
    for path in aside:
        if path in set_aside or disk.size(path) not in sizes:
            continue
        sha256 = _content(path)
        target = store.object_path(sha256)
        if sha256 in needed and not target.exists() and _put_back(path, target):
            yield target
    for path, made in set_aside.items():
        target = store.record_path(str(made["key"]))
        outputs = record.outputs_of(made).values()
        if not target.exists() and all(map(store.holds, outputs)) and _put_back(path, target):
            yield target


def _quarantined(path: Path) -> dict[str, object] | None:
    """The record in that file of the quarantine, if it is one and whole."""
    name = path.name.partition("-")[2]
    if not name.endswith(".json"):
        return None
    try:
        made = record.unseal(path.read_bytes(), name.removesuffix(".json"))
        record.own_key(made)
    except (record.Damaged, record.Foreign, OSError):
        return None
    return made


def _content(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return disk.digest(file)
    except OSError:
        return ""


def _put_back(path: Path, target: Path) -> bool:
    try:
        disk.place(path, target)
    except OSError:
        return False
    return True
