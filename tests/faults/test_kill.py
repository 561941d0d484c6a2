"""SIGKILL at a random moment: no bad entry, and the same work goes through after it."""

import random
from pathlib import Path

import pytest
from faults import counts, forks, goods

from dvcli.store import Store, archive
from dvcli.store.parcel import Parcel

NUMBERS = range(10)
SEVERAL = 10  # kills a store, before its leftovers are swept
pytestmark = pytest.mark.usefixtures("unflushed")  # a kill loses nothing that was written


def publish(root: Path, dice: random.Random) -> None:
    with Store.open(root) as store:
        while True:
            goods.put(store, dice.choice(NUMBERS))


def publish_and_keep_house(root: Path, dice: random.Random) -> None:
    with Store.open(root) as store:
        while True:
            match dice.randrange(6):
                case 0:
                    store.gc(limit_bytes=dice.choice((0, 1e6)), grace_s=0)
                case 1:
                    store.verify(repair=True)
                case 2:
                    store.partial(goods.key(3)).save("step", lambda p: _write(p, b"s" * 50_000))
                case 3:
                    with Parcel(store, root.parent / "all.tar") as parcel:
                        parcel.publish(overwrite=True)
                case _:
                    goods.put(store, dice.choice(NUMBERS))


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


@pytest.mark.parametrize("work", [publish, publish_and_keep_house])
def test_a_kill_at_any_moment_leaves_no_bad_entry_and_the_work_goes_through_again(
    tmp_path: Path, work: "object"
) -> None:
    assert callable(work)
    with Store.open(tmp_path / "source") as source:
        for n in NUMBERS:
            goods.put(source, n)
        archive.export(source, [goods.key(n) for n in NUMBERS], {}, "", tmp_path / "all.tar")
    dice = random.Random(counts.SEED)
    kills = counts.count("kills") // 2
    left = hits = 0
    for turn in range(kills):
        root = tmp_path / str(turn // SEVERAL)
        seed = dice.random()
        child = forks.begin(lambda root=root, seed=seed: work(root, random.Random(seed)))
        assert forks.kill_after(child, dice.expovariate(1 / 0.03)) == -9
        with Store.open(root) as store:
            health = store.verify()
            # An object may have been on its way out with its record still there, a checkpoint on
            # its way in without its digest; never a wrong one, and no work goes on from the latter.
            half = [d.path for d in health.damaged if d.problem == "is no whole checkpoint"]
            bad = [d for d in health.damaged if "names" not in d.problem and d.path not in half]
            assert bad == []
            whole = [path for _, path in store.partial(goods.key(3)).intact()]
            assert not set(half) & set(whole)
            assert work is not publish or health.whole
            hits += goods.check(store, NUMBERS)
            if turn % SEVERAL == SEVERAL - 1 or turn == kills - 1:
                left += len(list((store.home / "tmp").iterdir()))
                for n in NUMBERS:
                    assert goods.read(goods.put(store, n)) == goods.files(n)
                assert store.verify(repair=True).lost == ()
                assert goods.check(store, NUMBERS) == len(NUMBERS)
                goods.sweep_away(store)
                assert store.verify().whole
                assert store.partial(goods.key(3)).damaged() == []
    assert left > 0, "no process was killed in the middle of anything"
    counts.tally("kills", kills=kills, leftovers_swept=left, hits_checked=hits)
