"""Harm to every type of artifact, to records and to the memo: a miss that heals, never served."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from faults import counts
from program import Dvid

from dvcli.recipes import STAGES
from dvcli.store import Artifact, Store
from dvcli.store.keys import preimage

pytestmark = pytest.mark.usefixtures("unflushed")
Harm = Callable[[bytearray, random.Random], None]


def flip(data: bytearray, dice: random.Random) -> None:
    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)


def truncate(data: bytearray, dice: random.Random) -> None:
    del data[dice.randrange(len(data)) :]


def zero_run(data: bytearray, dice: random.Random) -> None:
    start = dice.randrange(len(data))
    length = dice.randrange(1, 5000)
    data[start : start + length] = bytes(len(data[start : start + length]))


def append(data: bytearray, dice: random.Random) -> None:
    data.extend(dice.randbytes(dice.randrange(1, 100)))


def empty(data: bytearray, dice: random.Random) -> None:
    data.clear()


def swap(data: bytearray, dice: random.Random) -> None:
    a, b = dice.randrange(len(data)), dice.randrange(len(data))
    data[a], data[b] = data[b], data[a]


HARMS: list[Harm] = [flip, truncate, zero_run, append, empty, swap]


@pytest.fixture(scope="module")
def full_home(tmp_path_factory: pytest.TempPathFactory, tuned_home: Path) -> Path:
    """A home with one artifact of every type; do not write."""
    from conftest import empty_home

    from dvcli.cli.main import main

    home = tmp_path_factory.mktemp("full")
    with pytest.MonkeyPatch.context() as patch:
        empty_home(home, patch)
        for name in ("cache", "state"):
            shutil.copytree(tuned_home / name, home / name)
        assert main(["sample", "bikes", "-p", "a fox", "-q", "-o", str(home / "fox.mp4")]) == 0
    with Store.open(home / "cache") as store:
        for stage in STAGES.keys() - {entry.stage for entry in store.entries()}:
            # Figures, or what a large model makes: their bytes are as good as any to be harmed.
            with store.draft(preimage(stage, 1, {}, {})) as draft:
                draft.path("figures.json").write_bytes(b'{"mean": 0.94, "pairs": [0.9, 0.98]}')
                draft.path("frames").write_bytes(random.Random(stage).randbytes(3000))
                draft.publish()
    return home


@pytest.fixture
def store(full_home: Path, tmp_path: Path) -> Store:
    shutil.copytree(full_home / "cache", tmp_path / "cache")
    return Store.open(tmp_path / "cache")


def harmed(path: Path, whole: bytes, dice: random.Random) -> bool:
    """Whether the file is another one now; half the time under its old modification time."""
    data = bytearray(whole)
    dice.choice(HARMS)(data, dice)
    before = path.stat()
    path.chmod(0o644)
    with path.open("r+b") as file:  # in place: the inode stays
        file.truncate(0)
        file.write(data)
    if dice.random() < 0.5:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    return bytes(data) != whole


def publish(store: Store, like: Artifact, files: dict[str, bytes]) -> Artifact:
    with store.draft(like.record["preimage"]) as draft:
        for name, data in files.items():
            draft.path(name).write_bytes(data)
        return draft.publish()


@pytest.mark.parametrize("stage", STAGES)
def test_a_harmed_artifact_of_any_type_is_a_miss_that_heals(store: Store, stage: str) -> None:
    key = next(entry.key for entry in store.entries() if entry.stage == stage)
    whole = store.get(key)
    assert whole is not None
    files = {name: whole.path(name).read_bytes() for name in whole.outputs}
    dice = random.Random(f"{counts.SEED} {stage}")
    served = 0
    for _ in range(counts.count("damage")):
        name = dice.choice(sorted(n for n in files if files[n]))
        other = harmed(store.object_path(whole.outputs[name].sha256), files[name], dice)
        got = Store.open(store.root).get(key)
        assert (got is None) == other
        if got is None:
            got = publish(store, whole, files)
        served += 1
        assert {n: got.path(n).read_bytes() for n in got.outputs} == files
    assert store.verify().whole
    counts.tally("damage", mutations=served)


@pytest.mark.parametrize("stage", STAGES)
def test_a_harmed_record_of_any_type_is_a_miss_that_heals(store: Store, stage: str) -> None:
    key = next(entry.key for entry in store.entries() if entry.stage == stage)
    artifact = store.get(key)
    assert artifact is not None
    path = store.record_path(key)
    whole = path.read_bytes()
    dice = random.Random(f"{counts.SEED} record {stage}")
    places = list(range(len(whole)))
    if counts.count("record bytes") < len(places):
        places = sorted(dice.sample(places, counts.count("record bytes")))
    for place in places:
        data = bytearray(whole)
        data[place] ^= dice.randrange(1, 256)
        write(path, bytes(data))
        assert store.get(key) is None
        write(path, whole)
    for harm in HARMS:
        data = bytearray(whole)
        harm(data, dice)
        write(path, bytes(data))
        assert (store.get(key) is None) == (bytes(data) != whole)
        write(path, whole)
    assert store.get(key) == artifact
    counts.tally("damage", record_mutations=len(places) + len(HARMS))


def write(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def test_a_harmed_memo_only_costs_reading_again(store: Store) -> None:
    """With one object harmed as well: no line of the memo, whatever is in it, makes it a hit."""
    entries = store.entries()
    for entry in entries:
        store.get(entry.key)
    memo, bad = store.home / "memo", next(iter(entries[0].outputs.values())).sha256
    path, remembered = store.object_path(bad), memo.read_bytes()
    records = {
        store.record_path(entry.key): store.record_path(entry.key).read_bytes() for entry in entries
    }
    data = bytearray(path.read_bytes())
    flip(data, random.Random(1))
    dice = random.Random(counts.SEED)
    for _ in range(counts.count("damage") // 3):
        write(path, bytes(data))
        lines = bytearray(remembered)
        dice.choice(HARMS)(lines, dice)
        memo.write_bytes(lines)
        with Store.open(store.root) as reader:
            assert [d.path for d in reader.verify().damaged if d.path not in records] == [path]
            for entry in entries:
                has_bad = bad in {output.sha256 for output in entry.outputs.values()}
                assert (reader.get(entry.key) is None) == has_bad
        for place, whole in records.items():
            write(place, whole)


def test_what_the_memo_cannot_see_is_seen_by_verify(store: Store) -> None:
    """Bytes that change below the file system leave size, times and inode: a hit believes them."""
    entry = next(e for e in store.entries() if e.stage == "tune")
    path = store.object_path(entry.outputs["deltas"].sha256) if "deltas" in entry.outputs else None
    path = path or store.object_path(next(iter(entry.outputs.values())).sha256)
    data = bytearray(path.read_bytes())
    flip(data, random.Random(2))
    path.chmod(0o644)
    path.write_bytes(data)
    store.memo.vouch(path, path.name)  # as if nothing had told of it
    assert store.get(entry.key) is not None
    assert [d.problem for d in store.verify().damaged if d.path == path] == ["has other bytes"]
    assert all(d.repaired for d in store.verify(repair=True).damaged)
    assert store.get(entry.key) is None


def test_a_command_heals_what_was_harmed_whatever_it_was(
    dvid: Dvid, home: Path, full_home: Path
) -> None:
    """Each object in turn is harmed, and the same command gives the same file."""
    for name in ("cache", "state"):
        shutil.copytree(full_home / name, home / name)
    again = ["sample", "bikes", "-p", "a fox", "-o"]
    (home / "work" / "fox.mp4").write_bytes((full_home / "fox.mp4").read_bytes())
    first = (full_home / "fox.mp4").read_bytes()
    dice = random.Random(counts.SEED)
    objects = sorted((home / "cache" / "v1" / "objects").glob("*/*"))
    for path in objects if counts.FULL else dice.sample(objects, 3):
        harmed(path, path.read_bytes(), dice)
        Path("fox.mp4").unlink()
        dvid(*again, "fox.mp4")
        assert Path("fox.mp4").read_bytes() == first
    assert dvid("cache", "verify", "--repair").code == 0
    assert "0 damaged" in dvid("cache", "verify").err


def test_a_repair_says_what_has_to_be_made_again_and_the_command_that_does(
    dvid: Dvid, tuned: Path
) -> None:
    with Store.open() as store:
        lost = next(entry for entry in store.entries() if entry.stage == "invert")
        path = store.object_path(next(iter(lost.outputs.values())).sha256)
    harmed(path, path.read_bytes(), random.Random(counts.SEED))
    again = "of the run `bikes` is made again by the next `dvid sample bikes`"
    said = dvid("cache", "verify", code=8)
    assert f"the invert artifact {lost.key[:12]} {again}" in said.err
    assert "hint: `dvid cache verify --repair` sets it aside" in said.err
    said = dvid("cache", "verify", "--repair")
    assert again in said.err
    assert len(said.lines) == 2
    assert dvid("cache", "verify").lines == []
    dvid("sample", "bikes", "-p", "a fox")
    assert lost.key[:12] in dvid("cache", "ls").out
    (tuned / "cache" / "v1" / "quarantine" / f"0-{path.name}").write_bytes(path.read_bytes())
    path.unlink()
    assert "back from quarantine" in dvid("cache", "verify", "--repair").out
