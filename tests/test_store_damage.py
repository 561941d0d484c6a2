"""Damage means making it again: never an exception, never wrong bytes."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvcli.errors import MissingError
from dvcli.store import Artifact, Store, record
from dvcli.store.keys import preimage

FILES = {"frames": bytes(range(256)) * 2, "notes": b"[1, 2]"}


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def remove(path: Path) -> None:
    path.unlink()


def fold(path: Path) -> None:
    path.unlink()
    path.mkdir()


def zero(path: Path) -> None:
    path.write_bytes(b"\0" * path.stat().st_size)


HARMS = [flip, truncate, append, empty, fold, zero]


def put(store: Store, n: int = 0, files: dict[str, bytes] = FILES) -> Artifact:
    with store.draft(preimage("extract", 1, {"clip": "c" * 64}, {"n": n})) as draft:
        for name, data in files.items():
            draft.path(name).write_bytes(data)
        return draft.publish()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "cache") as store:
        yield store


def quarantined(store: Store) -> int:
    folder = store.home / "quarantine"
    return len(list(folder.iterdir())) if folder.exists() else 0


@pytest.mark.parametrize("fresh", [True, False], ids=["later process", "same process"])
@pytest.mark.parametrize("harm", [*HARMS, remove])
@pytest.mark.parametrize("name", sorted(FILES))
def test_a_damaged_object_is_a_miss_and_then_made_again(
    store: Store,
    name: str,
    harm: Callable[[Path], None],
    fresh: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = put(store)
    path = made.path(name)
    path.chmod(0o644)
    harm(path)
    reader = Store.open(store.root) if fresh else store
    assert reader.get(made.key) is None
    assert "damaged or missing; it is made again" in caplog.text
    assert not path.exists()
    assert quarantined(store) == (1 if harm is remove else 2)
    again = put(reader)
    got = Store.open(store.root).get(made.key)
    assert got is not None
    assert got.digest == again.digest == made.digest
    assert {n: got.path(n).read_bytes() for n in got.outputs} == FILES


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_record_is_a_miss_and_then_made_again(
    store: Store, harm: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    made = put(store)
    path = store.record_path(made.key)
    path.chmod(0o644)
    harm(path)
    assert store.get(made.key) is None
    assert "it is made again" in caplog.text
    assert quarantined(store) == 1
    put(store)
    got = store.get(made.key)
    assert got is not None
    assert got.digest == made.digest


def test_a_flip_of_any_bit_of_a_record_is_noticed(store: Store) -> None:
    made = put(store)
    whole = store.record_path(made.key).read_bytes()
    assert record.unseal(whole, made.key)["key"] == made.key
    for place in range(len(whole)):
        for bit in range(8):
            data = bytearray(whole)
            data[place] ^= 1 << bit
            with pytest.raises(record.Damaged):
                record.unseal(bytes(data), made.key)


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_whatever_lies_in_place_of_a_record_is_only_damaged(data: bytes) -> None:
    with pytest.raises(record.Damaged):
        record.unseal(data, "0" * 64)


@pytest.mark.parametrize("data", [b"[" * 100_000, b"NaN", b'{"a":NaN}', b"9" * 5000, b"null"])
def test_hostile_json_in_place_of_a_record_is_only_damaged(data: bytes) -> None:
    with pytest.raises(record.Damaged):
        record.unseal(data, "0" * 64)


def test_the_record_of_another_key_does_not_answer(store: Store) -> None:
    one, other = put(store, 1), put(store, 2, {"frames": b"other"})
    path = store.record_path(one.key)
    path.unlink()
    path.write_bytes(store.record_path(other.key).read_bytes())
    assert store.get(one.key) is None
    assert store.get(other.key) is not None


def test_a_change_that_hides_behind_the_old_time_is_noticed(store: Store) -> None:
    path = put(store).path("frames")
    before = path.stat()
    path.chmod(0o644)
    flip(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert Store.open(store.root).get(store.entries()[0].key) is None


def test_damage_while_an_artifact_is_in_hand_is_no_wrong_bytes(store: Store) -> None:
    made = put(store)
    path = made.path("frames")
    path.chmod(0o644)
    flip(path)
    with pytest.raises(MissingError):
        made.path("frames")


@pytest.mark.parametrize("place", ["actions", "objects", "quarantine", "tmp", "locks", "partial"])
def test_a_folder_of_the_store_that_is_a_file_is_no_exception(store: Store, place: str) -> None:
    """The result is had, stored or not."""
    import shutil

    made = put(store)
    shutil.rmtree(store.home / place, ignore_errors=True)
    (store.home / place).write_bytes(b"")
    path = made.path("notes") if place != "objects" else None
    if path is not None and place == "quarantine":
        path.chmod(0o644)
        flip(path)
    reader = Store.open(store.root)
    with reader.lock(made.key):
        got = reader.get(made.key)
        if got is None:
            got = put(reader)
    assert {n: got.path(n).read_bytes() for n in got.outputs} == FILES
    assert reader.partial(made.key).intact() == []
    assert reader.entries() is not None


def test_leftovers_of_a_killed_process_are_never_an_answer(store: Store) -> None:
    made = put(store)
    data = made.path("frames").read_bytes()
    tmp = store.home / "tmp" / "killed"
    tmp.mkdir()
    (tmp / "frames").write_bytes(data[:100])
    (store.home / "tmp" / f"0123-{made.key}.json").write_bytes(b"{}")
    assert store.get(made.key) == made
    assert store.verify().whole


@pytest.mark.parametrize("step", ["objects", "record"])
def test_a_process_killed_while_publishing_leaves_no_half_artifact(
    store: Store, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    class Killed(BaseException):
        pass

    replace, seen = Path.replace, []

    def die(source: Path, target: Path) -> Path:
        seen.append(target)
        if len(seen) == (2 if step == "objects" else 3):
            raise Killed
        return replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", die)
        with pytest.raises(Killed):
            put(store)
    reader = Store.open(store.root)
    assert reader.entries() == []
    assert reader.verify().whole
    assert {n: put(reader).path(n).read_bytes() for n in FILES} == FILES


def test_an_unreadable_object_is_a_miss_with_a_warning(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = put(store)

    def refuse(*_: object) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("dvcli.store.memo.Memo.has", refuse)
    assert store.get(made.key) is None
    assert "cannot be read: Permission denied" in caplog.text
    assert quarantined(store) == 0
    with pytest.raises(MissingError):
        made.path("frames")


def test_verify_finds_what_is_damaged_even_where_a_hit_would_not_look(store: Store) -> None:
    made = put(store)
    path = made.path("frames")
    flip_behind_the_memo(store, path)
    assert store.get(made.key) is not None
    read: list[int] = []
    health = store.verify(seen=read.append)
    assert not health.whole
    assert {(d.path, d.repaired) for d in health.damaged} == {
        (path, False),
        (store.record_path(made.key), False),
    }
    assert (health.records, health.objects, health.bytes) == (1, 2, 518)
    assert sorted(read) == [6, 512]
    assert quarantined(store) == 0


def flip_behind_the_memo(store: Store, path: Path) -> None:
    sha256 = path.name
    path.chmod(0o644)
    flip(path)
    store.memo.vouch(path, sha256)


def test_repair_clears_away_what_is_damaged_and_nothing_else(store: Store) -> None:
    whole, made = put(store, 1, {"notes": FILES["notes"]}), put(store, 2)
    flip_behind_the_memo(store, made.path("frames"))
    health = store.verify(repair=True)
    assert [d.repaired for d in health.damaged] == [True, True]
    assert store.verify().whole
    assert store.get(made.key) is None
    assert store.get(whole.key) == whole


def test_verify_finds_records_that_are_damaged_or_not_their_own(store: Store) -> None:
    one, other, late = put(store, 1), put(store, 2), put(store, 3)
    altered = store.record_path(one.key)
    altered.chmod(0o644)
    altered.write_bytes(altered.read_bytes().replace(b'"extract"', b'"extracT"'))
    forged = {k: v for k, v in other.record.items() if k != "check"}
    forge(store, other.key, {**forged, "preimage": {**forged["preimage"], "version": 9}})
    forge(store, late.key, {**forged, "schema": 2})
    assert {(d.path.stem, d.problem) for d in store.verify().damaged} == {
        (one.key, "is not what was written"),
        (other.key, "does not have the key of its own pre-image"),
    }


def forge(store: Store, key: str, body: dict[str, object]) -> None:
    path = store.record_path(key)
    path.unlink()
    path.write_bytes(record.seal(body))


def test_verify_reads_on_past_what_cannot_be_read(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = put(store)
    sizes = [path.stat().st_size for path in made.files.values()]
    path = made.path("frames")
    path.unlink()
    path.mkdir()
    problems = {d.path: d.problem for d in store.verify().damaged}
    assert problems[path] == "cannot be read: Is a directory"
    assert problems[store.record_path(made.key)] == "names `frames`, which is damaged or missing"
    assert sizes == [512, 6]


def test_a_folder_in_place_of_a_record_gives_way_to_it(store: Store) -> None:
    made = put(store)
    path = store.record_path(made.key)
    path.unlink()
    path.mkdir()
    assert put(store) == store.get(made.key)
    assert path.is_file()


def set_aside(store: Store, path: Path) -> None:
    assert store.quarantine(path) is None


def test_a_repair_puts_back_what_a_record_needs_and_is_whole_after_all(store: Store) -> None:
    made, other = put(store, 1), put(store, 2, {"frames": b"needed by nobody"})
    path = made.path("frames")
    set_aside(store, path)
    set_aside(store, other.path("frames"))
    set_aside(store, store.record_path(other.key))
    (store.home / "quarantine" / "0-note").write_bytes(b"x" * 512)
    lone = Store.open(store.root).verify(repair=True)
    assert set(lone.restored) == {path, other.files["frames"], store.record_path(other.key)}
    assert (lone.damaged, lone.lost) == ((), ())
    assert store.get(made.key) == made
    assert store.get(other.key) == other
    assert [p.name for p in (store.home / "quarantine").iterdir()] == ["0-note"]
    assert path.stat().st_mode & 0o777 == 0o444


def test_a_repair_brings_an_object_under_a_wrong_name_home(store: Store) -> None:
    made, other = put(store, 1, {"a": b"one" * 9}), put(store, 2, {"a": b"two" * 9})
    wrong = made.path("a")
    other.path("a").replace(wrong)
    health = store.verify(repair=True)
    assert health.restored == (other.files["a"],)
    assert {damage.path for damage in health.damaged} == {wrong, store.record_path(made.key)}
    assert [(lost.key, lost.stage) for lost in health.lost] == [(made.key, "extract")]
    assert store.get(other.key) == other


def test_a_record_in_quarantine_stays_there_while_its_objects_are_gone(store: Store) -> None:
    made = put(store)
    set_aside(store, store.record_path(made.key))
    made.path("notes").unlink()
    assert store.verify(repair=True).restored == ()
    assert store.get(made.key) is None
    publish_again = put(store)
    assert store.get(made.key) == publish_again


def test_a_damaged_record_is_told_as_lost_without_its_stage(store: Store) -> None:
    made = put(store)
    path = store.record_path(made.key)
    path.chmod(0o644)
    flip(path)
    assert [(lost.key, lost.stage) for lost in store.verify().lost] == [(made.key, None)]


def test_a_repair_of_a_store_that_refuses_says_so(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = put(store)
    flip_behind_the_memo(store, made.path("frames"))

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refuse)
        assert [d.repaired for d in store.verify(repair=True).damaged] == [False, False]
    set_aside(store, made.files["notes"])
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", refuse)
        assert store.verify(repair=True).restored == ()


def test_checkpoints_that_nobody_could_go_on_from_are_found_and_set_aside(store: Store) -> None:
    busy, idle = "1" * 64, "2" * 64
    for key in (busy, idle):
        for name in ("a", "b"):
            store.partial(key).save(name, lambda path: path.write_bytes(b"step" * 9) and None)
        flip_in_place(store.home / "partial" / key / "b")
    (store.home / "partial" / "a file").write_bytes(b"x")
    with Store.open(store.root).lock(busy):
        assert {d.path for d in store.verify().damaged} == {
            store.home / "partial" / idle / "b",
            store.home / "partial" / idle / "b.json",
        }
        assert all(damage.repaired for damage in store.verify(repair=True).damaged)
    assert [name for name, _ in store.partial(idle).intact()] == ["a"]
    assert store.partial(idle).damaged() == []
    assert len(store.partial(busy).damaged()) == 2


def flip_in_place(path: Path) -> None:
    path.chmod(0o644)
    flip(path)


MISSHAPEN: list[Callable[[dict[str, object]], object]] = [
    lambda body: body.pop("outputs"),
    lambda body: body.update(outputs={}),
    lambda body: body.update(outputs={"frames": 1}),
    lambda body: body.update(outputs={"frames": {"sha256": "../../../../x", "size": 1}}),
    lambda body: body.update(outputs={"frames": {"sha256": "0" * 64, "size": -1}}),
    lambda body: body.update(outputs={"frames": {"sha256": "0" * 64, "size": True}}),
    lambda body: body.update(outputs={"../x": {"sha256": "0" * 64, "size": 1}}),
    lambda body: body.update(preimage=[]),
    lambda body: body.update(preimage={"stage": 1}),
    lambda body: body.update(preimage={"stage": "x", "params": {}, "inputs": []}),
    lambda body: body.update(info=None),
    lambda body: body.update(created="now"),
    lambda body: body.update(created=True),
]


@pytest.mark.parametrize("change", MISSHAPEN)
def test_a_record_that_was_sealed_over_nonsense_is_damage(
    store: Store, change: Callable[[dict[str, object]], object]
) -> None:
    made = put(store)
    body = {k: v for k, v in made.record.items() if k != "check"}
    change(body)
    forge(store, made.key, body)
    assert store.entries() == []
    assert [d.problem for d in store.verify().damaged] == ["is not a record"]
    assert store.get(made.key) is None
    assert put(store).digest == made.digest
