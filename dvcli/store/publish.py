"""How files become an artifact that everybody sees: objects first, then the record that names them.

The record is the commit point: before it lies in its place nothing is to be seen, and whoever sees
it finds its objects there. A process killed between two steps leaves objects that no record names.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dvcli.store import disk, record
from dvcli.store.record import Output

if TYPE_CHECKING:
    from dvcli.store.store import Store


def commit(
    store: "Store", made: Mapping[str, object], files: Sequence[tuple[Path, Output]]
) -> None:
    """The record is in the store, and so is what it names.

    `files` lie on the store's file system and were hashed just now; those whose bytes are in the
    store already stay where they are. Raises `OSError` where the disk refuses.
    """
    for path, output in files:
        _put(store, path, output)
    key = str(made["key"])
    disk.write(record.seal(made), store.record_path(key), store.home / "tmp")
    # A collection that began before the record was there may have taken an object that was found
    # rather than written. From here on it sees the record and gives it back or, having looked too
    # early, it has taken it already: then the copy that was brought along goes in.
    for path, output in files:
        if not store.object_path(output.sha256).exists() and path.exists():
            _put(store, path, output)


def _put(store: "Store", path: Path, output: Output) -> None:
    target = store.object_path(output.sha256)
    if not store.holds(output):
        disk.place(path, target)
    store.memo.vouch(target, output.sha256)  # new or found, it is young from now on
