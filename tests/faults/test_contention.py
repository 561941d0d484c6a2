"""Many processes on the same keys with a collection beside them: right bytes, each made once."""

import errno
import fcntl
import random
from collections import Counter
from pathlib import Path

import pytest
from faults import counts, forks, goods

from dvcli.store import Store

pytestmark = pytest.mark.usefixtures("unflushed")


def realise(store: Store, n: int, log: Path) -> None:
    """As stages do: look, lock, look again, make."""
    got = store.get(goods.key(n))
    if got is None:
        with store.lock(goods.key(n)):
            got = store.get(goods.key(n))
            if got is None:
                forks.note(log, str(n))
                got = goods.put(store, n)
    assert goods.read(got) == goods.files(n)


def works(root: Path, log: Path, *, locked: bool) -> list[object]:
    operations = counts.count("operations")
    keys = range(operations // 2)
    processes = counts.count("processes")
    ended = log.with_name("ended")
    ended.touch()

    def work(me: int) -> None:
        dice = random.Random(f"{counts.SEED} {me}")
        try:
            with Store.open(root, locks=locked) as store:
                for _ in range(operations):
                    realise(store, dice.choice(keys), log)
                assert store.failures == []
        finally:
            forks.note(ended, str(me))

    def collect() -> None:
        with Store.open(root, locks=locked) as store:
            while len(ended.read_text().split()) < processes:
                store.gc(limit_bytes=0, grace_s=600)
                store.verify(repair=True) if locked else None

    counts.tally("contention", operations=operations * processes)
    return [*(lambda me=me: work(me) for me in range(processes)), collect]


def refuse_locks(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, "no locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_with_locks_each_key_is_made_once_and_every_byte_is_right(tmp_path: Path) -> None:
    log = tmp_path / "made"
    forks.together(*works(tmp_path / "cache", log, locked=True))  # type: ignore[arg-type]
    made = Counter(log.read_text().split())
    assert {n: times for n, times in made.items() if times > 1} == {}
    with Store.open(tmp_path / "cache") as store:
        assert store.verify().whole
        assert len(store.entries()) == len(made)


@pytest.mark.parametrize("how", ["none", "ENOLCK", "ENOSYS", "EOPNOTSUPP"])
def test_without_locks_every_byte_is_right(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how != "none":
        refuse_locks(monkeypatch, getattr(errno, how))
    root = tmp_path / "cache"
    forks.together(*works(root, tmp_path / "made", locked=how != "none"))  # type: ignore[arg-type]
    with Store.open(root) as store:
        assert store.verify().whole
        goods.check(store, range(counts.count("operations") // 2))
