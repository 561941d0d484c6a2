"""Many processes on one store: nobody sees half a thing, and nobody fails."""

import subprocess
import sys
import textwrap
from pathlib import Path

from dvcli.store import Store
from dvcli.store.keys import key_of, preimage

COMMON = """
import sys, random
from pathlib import Path
from dvcli.store import Store
from dvcli.store.keys import preimage, key_of
root, me = Path(sys.argv[1]), int(sys.argv[2])
def asked(n):
    return preimage("extract", 1, {"clip": "c" * 64}, {"n": n})
def files(n):
    return {"shared": b"s" * 5000, "own": b"%d" % n * 1000}
def put(store, n):
    with store.draft(asked(n)) as draft:
        for name, data in files(n).items():
            draft.path(name).write_bytes(data)
        return draft.publish()
def read(artifact):
    return {name: artifact.path(name).read_bytes() for name in artifact.outputs}
"""


def race(root: Path, *scripts: str) -> list[str]:
    """What each process said on stdout; none may fail or say anything on stderr."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", COMMON + textwrap.dedent(script), str(root), str(number)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number, script in enumerate(scripts)
    ]
    said = [process.communicate(timeout=60) for process in started]
    assert [err for _, err in said] == [""] * len(scripts)
    assert [process.returncode for process in started] == [0] * len(scripts)
    return [out for out, _ in said]


def test_many_processes_publish_the_same_keys_at_once(tmp_path: Path) -> None:
    publish = """
        with Store.open(root, locks=False) as store:
            for n in range(15):
                assert read(put(store, n)) == files(n)
                assert read(store.get(key_of(asked(n)))) == files(n)
            assert not store.failures
        """
    race(tmp_path, *[publish] * 3)
    store = Store.open(tmp_path)
    assert len(store.entries()) == 15
    health = store.verify()
    assert health.whole
    assert health.objects == 16
    assert not list((store.home / "quarantine").glob("*"))


def test_a_lock_makes_one_process_do_the_work(tmp_path: Path) -> None:
    work = """
        import time
        with Store.open(root) as store:
            key = key_of(asked(1))
            with store.lock(key):
                if store.get(key) is None:
                    time.sleep(0.3)
                    put(store, 1)
                    print("worked")
        """
    assert sorted(race(tmp_path, *[work] * 3)) == ["", "", "worked\n"]


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    key = key_of(preimage("extract", 1, {}, {}))
    script = """
        import os
        held = Store.open(root).lock(sys.argv[3] if len(sys.argv) > 3 else "%s")
        held.__enter__()
        os._exit(0)
        """
    race(tmp_path, script % key)
    with Store.open(tmp_path).lock(key, waiting=lambda: 1 / 0):
        pass


def test_collecting_everything_while_others_publish_harms_no_result(tmp_path: Path) -> None:
    """Without a grace at all: a miss is allowed at any time, an error or wrong bytes never."""
    publish = """
        import logging
        logging.disable()
        from dvcli.errors import MissingError
        with Store.open(root) as store:
            for i in range(40):
                n = random.randrange(4)
                try:
                    assert read(put(store, n)) == files(n)
                except (MissingError, FileNotFoundError) as gone:
                    assert "removed" in str(gone) or "objects" in str(gone), gone
                got = store.get(key_of(asked(n)))
                try:
                    assert got is None or read(got) == files(n)
                except (MissingError, FileNotFoundError):
                    pass
            assert not store.failures, store.failures
        """
    collect = """
        with Store.open(root) as store:
            for i in range(40):
                store.gc(limit_bytes=0, grace_s=0)
        """
    race(tmp_path, publish, publish, collect)
    store = Store.open(tmp_path)
    assert all(store.get(entry.key) is not None for entry in store.entries())


def test_collecting_with_a_grace_takes_nothing_from_those_who_publish(tmp_path: Path) -> None:
    publish = """
        with Store.open(root) as store:
            for i in range(40):
                n = random.randrange(4)
                assert read(put(store, n)) == files(n)
                assert read(store.get(key_of(asked(n)))) == files(n)
            assert not store.failures, store.failures
        """
    collect = """
        with Store.open(root) as store:
            for i in range(40):
                store.gc(limit_bytes=0, grace_s=60)
        """
    race(tmp_path, publish, publish, collect)
    assert Store.open(tmp_path).verify().whole
