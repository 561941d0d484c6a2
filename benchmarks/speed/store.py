"""The store's throughput: publishing and reading with every byte verified, small and large."""

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.speed import figures
from benchmarks.speed.figures import Figure
from benchmarks.speed.settings import Settings

PART = "store"
SIZES = {"small, 4 KB": (4_000, 20), "large, 64 MB": (64_000_000, 1)}
TINY = {"small, 4 KB": (4_000, 3), "large, 1 MB": (1_000_000, 1)}


def measure(settings: Settings) -> list[Figure]:
    """Publishing, reading verified and reading what is known, in turns; the disk and hash alone."""
    from dvcli.store import Store

    found: list[Figure] = []
    sizes = TINY if settings.shape == "tiny" else SIZES
    for name, (size, count) in sizes.items():
        home = settings.folder / f"store {size}"
        made: list[str] = []
        data = os.urandom(size)

        def publish(home: Path = home, count: int = count, made: list[str] = made) -> None:
            store = Store.open(home)
            for _ in range(count):
                made.append(_published(store, os.urandom(16), data, len(made)))  # noqa: B023

        def read(home: Path = home, count: int = count, made: list[str] = made) -> None:
            store = Store.open(home)
            if any(store.get(key) is None for key in made[-count:]):
                raise SystemExit("the store lost what was published")

        def verified(home: Path = home, read: Callable[[], None] = read) -> None:
            (home / "v1" / "memo").unlink(missing_ok=True)  # so that every byte is read again
            read()

        def flushed(home: Path = home, count: int = count, data: bytes = data) -> None:
            for index in range(count):
                _flushed(home / f"plain {index} {time.time_ns()}", data)

        def hashed(count: int = count, data: bytes = data) -> None:
            for _ in range(count):
                hashlib.sha256(data).hexdigest()

        taken = figures.turns(
            {
                "publish": publish,
                "read, known": read,
                "read, verified": verified,
                "plain write and flush": flushed,
                "SHA-256 alone": hashed,
            },
            settings.repeat,
        )
        for what, seconds in taken.items():
            rates = [size * count / s / 1e6 for s in seconds]
            each = [1000 * s / count for s in seconds]
            found.append(figures.of(PART, f"{what}, {name}", each, "ms each"))
            if size > 100_000 and what != "read, known":
                found.append(figures.of(PART, f"{what}, {name}, rate", rates, "MB/s"))
    return found


def _published(store: object, head: bytes, data: bytes, index: int) -> str:
    """The key of an artifact that was not there before."""
    from dvcli.store import Store
    from dvcli.store.keys import preimage

    assert isinstance(store, Store)
    asked = preimage("bench", 1, {}, {"index": index, "head": head.hex()})
    with store.draft(asked) as out:
        out.write("data", lambda path: _write(path, head, data))
        return out.publish().key


def _write(path: Path, head: bytes, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(head)
        file.write(data)


def _flushed(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    path.unlink()
