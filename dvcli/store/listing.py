"""What is in the store: artifacts by key, and which of them are pinned.

What cannot be read is passed over here; `health` finds it.
"""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dvcli.errors import MissingError, StorageError, UsageError
from dvcli.store import disk, record
from dvcli.store.record import Output

if TYPE_CHECKING:
    from dvcli.store.store import Store

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One artifact in the store; times in seconds since 1970, `size` in bytes of its objects."""

    key: str
    stage: str
    size: int
    created: float
    used: float
    pinned: bool
    info: Mapping[str, object]
    params: Mapping[str, object]
    outputs: Mapping[str, Output]


def entries(store: "Store") -> list[Entry]:
    """Every artifact with a readable record, the one used last first."""
    pinned = pins(store)
    found = [_entry(path, made, pinned) for path, made in records(store)]
    return sorted(found, key=lambda entry: (entry.used, entry.key), reverse=True)


def show(store: "Store", prefix: str) -> dict[str, object]:
    """The record of the one key that begins with `prefix`, as it was written."""
    key = one(prefix, (path.stem for path in record_paths(store)))
    try:
        return record.unseal(store.record_path(key).read_bytes(), key)
    except (record.Damaged, record.Foreign, OSError) as problem:
        raise StorageError(
            f"the record {key[:12]} {problem}", hint="`dvid cache verify --repair` clears it away"
        ) from None


def pin(store: "Store", prefix: str) -> str:
    """The key that begins with `prefix`, which nothing removes from now on."""
    key = one(prefix, (path.stem for path in record_paths(store)))
    try:
        disk.write(b"", store.home / "pins" / key, store.home / "tmp")
    except OSError as refused:
        raise StorageError(f"{key[:12]} could not be pinned: {refused.strerror}") from refused
    return key


def unpin(store: "Store", prefix: str) -> str:
    """The pinned key that begins with `prefix`, pinned no more."""
    key = one(prefix, pins(store), what="pinned artifact")
    try:
        (store.home / "pins" / key).unlink(missing_ok=True)
    except OSError as refused:
        raise StorageError(f"{key[:12]} could not be unpinned: {refused.strerror}") from refused
    return key


def files(folder: Path) -> Iterator[Path]:
    """What lies in the folders of the folder."""
    for sub in listed(folder):
        yield from listed(sub)


def listed(folder: Path) -> list[Path]:
    """What lies in the folder, by name; nothing where it cannot be read, or is only a link.

    No folder of the store is a link of ours, and what one leads to is not to be collected.
    """
    if folder.is_symlink():
        return []
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def record_paths(store: "Store") -> Iterator[Path]:
    """The file of every record, readable or not."""
    for path in files(store.home / "actions"):
        if path.suffix == ".json" and record.is_digest(path.stem):
            yield path


def records(store: "Store") -> Iterator[tuple[Path, dict[str, object]]]:
    """Every readable record and its file."""
    for path in record_paths(store):
        try:
            yield path, record.unseal(path.read_bytes(), path.stem)
        except (record.Damaged, record.Foreign, OSError) as problem:
            _log.debug("the record `%s` is passed over: %s", path, problem)


def pins(store: "Store") -> set[str]:
    """The pinned keys."""
    return {path.name for path in listed(store.home / "pins") if record.is_digest(path.name)}


def _entry(path: Path, made: Mapping[str, object], pinned: set[str]) -> Entry:
    preimage, info, created = made["preimage"], made["info"], made["created"]
    assert isinstance(preimage, Mapping)
    assert isinstance(info, Mapping)
    assert isinstance(created, int | float)
    outputs = record.outputs_of(made)
    return Entry(
        key=path.stem,
        stage=str(preimage["stage"]),
        size=sum(output.size for output in outputs.values()),
        created=created,
        used=disk.modified(path),
        pinned=path.stem in pinned,
        info=info,
        params=preimage["params"],
        outputs=outputs,
    )


def one(prefix: str, keys: Iterable[str], what: str = "artifact") -> str:
    """The only key that begins with `prefix`. Raises `UsageError` and `MissingError`."""
    if len(prefix) < 4:
        raise UsageError(f"`{prefix}` is too short for a key", hint="give at least 4 hex digits")
    found = sorted(key for key in keys if key.startswith(prefix.lower()))
    if not found:
        raise MissingError(
            f"no {what} has a key that begins with `{prefix}`", hint="`dvid cache ls` lists them"
        )
    if len(found) > 1:
        names = ", ".join(f"`{key[:12]}`" for key in found[:5])
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        raise UsageError(f"`{prefix}` begins {len(found)} keys: {names}{more}")
    return found[0]


def object_sizes(store: "Store") -> dict[str, int]:
    """Bytes of every object by its content."""
    return {
        path.name: disk.size(path)
        for path in files(store.home / "objects")
        if record.is_digest(path.name)
    }


def named_elsewhere(store: "Store") -> set[str]:
    """What the records that only another version can read may name: every digest in them."""
    found: set[str] = set()
    for path in record_paths(store):
        try:
            data = path.read_bytes()
            record.unseal(data, path.stem)
        except record.Foreign:
            found.update(re.findall(r"[0-9a-f]{64}", data.decode("ascii", "replace")))
        except (record.Damaged, OSError):
            continue
    return found
