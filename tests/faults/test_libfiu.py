"""libfiu makes the C library's calls fail at random: only clean errors, and nothing wrong.

Needs `fiu-run` and `libfiu` (on Debian: `apt-get install fiu-utils libfiu0`); with
`FAULTS_LIBFIU=1` their absence is a failure.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from faults import counts, goods

from dvcli.store import Store

OPERATIONS = 150
CHILD = """
import ctypes, json, os, random, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
import errno, logging, shutil, tempfile, filelock, rfc8785, hashlib
import importlib.metadata, encodings.ascii
from dvcli.errors import DvidError
from dvcli.store import Store, archive, draft, health, listing, locks, partial, parcel, sweep
from faults import goods

root, seed = Path(sys.argv[1]), int(sys.argv[2])
dice = random.Random(seed)
fiu = ctypes.CDLL("libfiu.so.0")
fiu.fiu_enable_random.argtypes = [
    ctypes.c_char_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_float
]
# Not close: what libfiu makes fail is not done, but on Linux a close that fails closes the file.
# Nor fread and fwrite, where libfiu itself divides by nought. What stderr gets is not the matter.
POINTS = [
    b"posix/io/" + point
    for point in (b"rw/read", b"rw/write", b"oc/open", b"sync/*", b"dir/*", b"stat/*")
]
logging.disable()
NUMBERS = (errno.EIO, errno.ENOSPC, errno.EMFILE, errno.EACCES, errno.ENOMEM)

def quiet(points):
    for point in points:
        fiu.fiu_disable(point)

clean = wrong = done = 0
said = []
with Store.open(root) as store:  # once, so that everything is loaded
    goods.put(store, 1000), store.verify(), store.gc(), store.entries()
    store.partial("a" * 64).save("x", lambda p: p.write_bytes(b"x"))
    store.lock("b" * 64).__enter__()
for _ in range(int(sys.argv[4])):
    n = dice.randrange(12)
    points = POINTS if dice.random() < 0.3 else [dice.choice(POINTS)]
    chance, number = dice.choice((0.01, 0.05, 0.2)), dice.choice(NUMBERS)
    for point in points:
        fiu.fiu_enable_random(point, 1, number, 0, chance)
    try:
        with Store.open(root) as store:
            match dice.randrange(6):
                case 0:
                    store.gc(limit_bytes=dice.choice((0, 1e6)), grace_s=0)
                case 1:
                    store.verify(repair=dice.random() < 0.5)
                case 2:
                    store.partial(goods.key(3)).save("s", lambda p: p.write_bytes(b"s" * 9999))
                case 3:
                    with store.lock(goods.key(n)):
                        got = store.get(goods.key(n))
                        if got is not None and goods.read(got) != goods.files(n):
                            wrong += 1
                case _:
                    if goods.read(goods.put(store, n)) != goods.files(n):
                        wrong += 1
        done += 1
    except (DvidError, OSError) as error:
        clean += 1
    except BaseException as error:
        import traceback
        quiet(points)
        said.append(traceback.format_exc())
    finally:
        quiet(points)
print(json.dumps({"done": done, "clean": clean, "wrong": wrong, "said": said}))
"""


@pytest.fixture(scope="module")
def injected() -> list[str]:
    """The words before a command that make its calls fail when it asks for it."""
    runner = shutil.which("fiu-run")
    if runner is None:
        reason = "libfiu is not installed (`apt-get install fiu-utils libfiu0`)"
        assert not os.environ.get("FAULTS_LIBFIU"), reason
        pytest.skip(reason)
    return [runner, "-x"]


@pytest.mark.parametrize("seed", range(counts.count("injections")))
def test_calls_that_fail_at_random_give_only_clean_errors(
    tmp_path: Path, injected: list[str], seed: int
) -> None:
    root = tmp_path / "cache"
    tests = str(Path(__file__).parent.parent)
    done = subprocess.run(
        [*injected, sys.executable, "-c", CHILD, root, str(seed), tests, str(OPERATIONS)],
        capture_output=True,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        timeout=100,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["said"] == []
    assert found["wrong"] == 0
    assert found["clean"] > 0, "nothing was injected"
    with Store.open(root) as store:
        goods.check(store, range(12))
        store.verify(repair=True)
        for n in range(12):
            goods.put(store, n)
        assert goods.check(store, range(12)) == 12
        assert store.verify().whole
        goods.sweep_away(store)
    counts.tally(
        "libfiu", operations=OPERATIONS, ended_well=found["done"], clean_errors=found["clean"]
    )
