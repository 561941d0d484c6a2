"""Whether the store is whole: everything read in full, nothing believed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dvcli.store import disk, keys, listing, record

if TYPE_CHECKING:
    from dvcli.store.store import Store


@dataclass(frozen=True, kw_only=True)
class Damage:
    """A file that is not what it should be; `repaired` when it went to quarantine."""

    path: Path
    problem: str
    repaired: bool


@dataclass(frozen=True, kw_only=True)
class Health:
    """What `verify` read and what it found."""

    records: int
    objects: int
    bytes: int
    damaged: tuple[Damage, ...]

    @property
    def whole(self) -> bool:
        return not self.damaged


def verify(store: "Store", repair: bool, seen: Callable[[int], None] | None) -> Health:
    """What is damaged, after reading every record and object in full.

    `seen` is called with the bytes of each object read.
    """
    damaged: list[Damage] = []

    def complain(path: Path, problem: str) -> None:
        moved = repair and store.quarantine(path)
        damaged.append(Damage(path=path, problem=problem, repaired=moved))

    objects = total = 0
    for path in listing.files(store.home / "objects"):
        problem, size = _object_problem(path)
        objects, total = objects + 1, total + size
        if problem:
            complain(path, problem)
        if seen is not None:
            seen(size)
    broken = {damage.path for damage in damaged}
    records = 0
    for path in listing.record_paths(store):
        records += 1
        problem = _record_problem(store, path, broken)
        if problem:
            complain(path, problem)
    return Health(records=records, objects=objects, bytes=total, damaged=tuple(damaged))


def _object_problem(path: Path) -> tuple[str | None, int]:
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            return (None if disk.digest(file) == path.name else "has other bytes"), size
    except OSError as refused:
        return f"cannot be read: {refused.strerror}", 0


def _record_problem(store: "Store", path: Path, broken: set[Path]) -> str | None:
    try:
        made = record.unseal(path.read_bytes(), path.stem)
    except record.Foreign:
        return None
    except (record.Damaged, OSError) as problem:
        return str(problem)
    preimage = made["preimage"]
    if not isinstance(preimage, Mapping) or keys.key_of(preimage) != path.stem:
        return "does not have the key of its own pre-image"
    for name, output in record.outputs_of(made).items():
        where = store.object_path(output.sha256)
        if where in broken or not where.exists() or where.stat().st_size != output.size:
            return f"names `{name}`, which is damaged or missing"
    return None
