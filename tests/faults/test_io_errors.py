"""The n-th call on the disk fails, for every n; and the power goes before it, for every n."""

import errno
import random
from pathlib import Path

import pytest
from faults import counts, goods
from faults.crash import PowerCut, Recorder
from faults.watched import Failing, Listener, Silent, watched

from dvcli.cli.main import main
from dvcli.errors import DvidError, StorageError
from dvcli.store import Store

NUMBERS = range(2)
FAILURES = [
    pytest.param(errno.EIO, False, id="EIO once"),
    pytest.param(errno.ENOSPC, True, id="ENOSPC from then on"),
]
if counts.FULL:
    FAILURES += [
        pytest.param(errno.EIO, True, id="EIO from then on"),
        pytest.param(errno.ENOSPC, False, id="ENOSPC once"),
        pytest.param(errno.EDQUOT, True, id="EDQUOT from then on"),
        pytest.param(errno.EROFS, True, id="EROFS from then on"),
        pytest.param(errno.ESTALE, False, id="ESTALE once"),
    ]
pytestmark = pytest.mark.usefixtures("unflushed")  # what flushing is for is told by `crash`


def work(store: Store) -> None:
    """Publish, publish again, use, keep a checkpoint, keep house."""
    for n in NUMBERS:
        goods.put(store, n)
    goods.put(store, 0)
    goods.check(store, NUMBERS)
    store.partial(goods.key(9)).save("step", lambda path: _write(path, b"step" * 100))
    store.pin(goods.key(1))
    store.verify(repair=True)
    store.gc()


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def calls(root: Path) -> int:
    """How many calls that work makes."""
    silent = Silent()
    root.mkdir()
    with watched(root, silent), Store.open(root / "cache") as store:
        work(store)
    return silent.calls


@pytest.mark.parametrize(("number", "ever"), FAILURES)
def test_whichever_call_fails_the_errors_are_clean_and_the_store_is_whole(
    tmp_path: Path, number: int, ever: bool
) -> None:
    total = calls(tmp_path / "counted")
    for first in range(1, total + 1):
        root = tmp_path / str(first)
        root.mkdir()
        with watched(root, Failing(number, first, ever=ever)):
            try:
                with Store.open(root / "cache") as store:
                    work(store)
            except (DvidError, OSError):
                pass  # of the disk; the stage that writes its output sees it as it is
        with Store.open(root / "cache") as store:
            goods.check(store, NUMBERS)
            assert store.verify(repair=True).records <= len(NUMBERS)
            for n in NUMBERS:
                assert goods.read(goods.put(store, n)) == goods.files(n)
            assert store.failures == []
            assert goods.check(store, NUMBERS) == len(NUMBERS)
            assert store.verify().whole
            goods.sweep_away(store)
    assert total > 100
    counts.tally("failing calls", calls=total)


def test_no_error_of_the_disk_leaves_a_bad_entry_to_be_found_by_verify(tmp_path: Path) -> None:
    """Without a repair: what a failed publication leaves is no damage."""
    total = calls(tmp_path / "counted")
    for first in range(1, total + 1):
        root = tmp_path / str(first)
        root.mkdir()
        with watched(root, Failing(errno.EIO, first, ever=True)):
            try:
                with Store.open(root / "cache") as store:
                    for n in NUMBERS:
                        goods.put(store, n)
            except (DvidError, OSError):
                pass
        with Store.open(root / "cache") as store:
            assert store.verify().damaged == ()


def test_after_a_power_cut_nothing_is_wrong_and_nothing_published_is_lost(tmp_path: Path) -> None:
    root = tmp_path / "counted"
    total = calls(root)
    dice = random.Random(counts.SEED)
    states = counts.count("states")
    for last in range(1, total + 2):
        root = tmp_path / str(last)
        root.mkdir()
        recorder = Recorder(root, last)
        safe: list[int] = []
        with watched(root, recorder):
            try:
                with Store.open(root / "cache") as store:
                    for n in NUMBERS:
                        goods.put(store, n)
                        safe.append(n)
                    work(store)
            except (PowerCut, StorageError):
                pass
            if not recorder.cut:
                recorder.stop()
        for state in range(states):
            target = tmp_path / f"{last}-{state}"
            target.mkdir()
            recorder.disk(target, dice)
            with Store.open(target / "cache") as store:
                assert store.verify(repair=True).restored == ()
                assert goods.check(store, safe) == len(safe), f"lost after call {last}"
                for n in NUMBERS:
                    goods.put(store, n)
                assert goods.check(store, NUMBERS) == len(NUMBERS)
                assert store.verify().whole
                goods.sweep_away(store)
    counts.tally("power cuts", calls=total, states=total * states)


def test_whichever_call_of_tune_and_sample_fails_the_clip_is_right_or_the_error_is_clean(
    base: Path, bikes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls on the cache and on the runs; after each failure the same commands go through."""

    def run(home: Path, listener: Listener) -> list[int]:
        monkeypatch.setenv("DVID_CACHE_DIR", str(home / "cache"))
        monkeypatch.setenv("DVID_STATE_DIR", str(home / "state"))
        home.mkdir(exist_ok=True)
        with watched(home, listener):
            codes = [main([*tune, "-q"])]
            out = ["-o", str(tmp_path / f"{home.name}.mp4"), "--no-metadata", "--overwrite", "-q"]
            codes += [main(["sample", "r", "-p", "a fox", *out])] if codes == [0] else []
        return codes

    tune = ["tune", str(bikes), "a man", "--run", "r", "--model", str(base), "--steps", "2"]
    tune += ["--frames", "2", "--size", "64"]
    silent = Silent()
    assert run(tmp_path / "right", silent) == [0, 0]
    right = (tmp_path / "right.mp4").read_bytes()
    total, tries = silent.calls, counts.count("calls of a command")
    dice = random.Random(counts.SEED)
    chosen = range(1, total + 1) if tries >= total else dice.sample(range(1, total + 1), tries)
    # Once and from then on: each call both ways in the full run, in turn in the quick one.
    ways = [(first, turn % 2 == 0) for turn, first in enumerate(chosen)]
    if counts.FULL:
        ways += [(first, not ever) for first, ever in ways]
    for first, ever in ways:
        number = dice.choice((errno.EIO, errno.ENOSPC))
        home = tmp_path / f"{first}-{ever}"
        codes = run(home, Failing(number, first, ever=ever))
        assert set(codes) <= {0, 3, 6}, f"call {first} of {total}, {ever}"
        if codes[1:] == [0]:
            assert (tmp_path / f"{home.name}.mp4").read_bytes() == right
        assert run(home, Silent()) == [0, 0]
        assert (tmp_path / f"{home.name}.mp4").read_bytes() == right
        assert main(["cache", "verify", "-q"]) == 0
    assert {ever for _, ever in ways} == {True, False}
    counts.tally("failing calls", calls_of_commands=len(ways))
