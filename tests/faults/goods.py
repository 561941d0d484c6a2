"""Artifacts whose right bytes are known from their number alone, and what must hold of a store."""

import os
import random
from pathlib import Path

from dvcli.store import Artifact, Store
from dvcli.store.keys import key_of, preimage

SIZES = (0, 3, 4096, 70_000, 400_000)
DAY = 86400.0


def asked(n: int) -> dict[str, object]:
    return preimage("extract", 1, {"clip": "c" * 64}, {"n": n})


def key(n: int) -> str:
    return key_of(asked(n))


def files(n: int) -> dict[str, bytes]:
    """The right bytes of that artifact; neighbours share an object."""
    own = random.Random(n)
    return {"frames": own.randbytes(SIZES[n % len(SIZES)]), "shared.json": b"[%d]" % (n // 2)}


def put(store: Store, n: int) -> Artifact:
    with store.draft(asked(n)) as draft:
        for name, data in files(n).items():
            draft.path(name).write_bytes(data)
        return draft.publish()


def read(artifact: Artifact) -> dict[str, bytes]:
    return {name: artifact.path(name).read_bytes() for name in artifact.outputs}


def check(store: Store, numbers: "range | list[int]") -> int:
    """How many of these are hits; a hit with wrong bytes is a failed test."""
    hits = 0
    for n in numbers:
        got = store.get(key(n))
        if got is not None:
            hits += 1
            assert read(got) == files(n), f"wrong bytes for {n}"
    return hits


def sweep_away(store: Store) -> None:
    """What killed processes left is gone once it is old; what is whole stays."""
    for place in ("tmp", "quarantine"):
        for path in (store.home / place).glob("*"):
            os.utime(path, (1, 1))
    for path in (store.home / "objects").glob("*/*"):
        age(path)
    store.gc(grace_s=DAY)
    for place in ("tmp", "quarantine"):
        assert list((store.home / place).glob("*")) == []
    named = {o.sha256 for entry in store.entries() for o in entry.outputs.values()}
    assert {path.name for path in (store.home / "objects").glob("*/*")} <= named


def age(path: Path) -> None:
    then = path.stat().st_mtime - 2 * DAY
    os.utime(path, (then, then))
