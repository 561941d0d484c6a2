"""What may go, goes: the least recently used first. What must stay, stays."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvcli.errors import MissingError, StorageError, UsageError
from dvcli.store import Artifact, Store, disk, listing, locks, record, sweep
from dvcli.store.keys import preimage

HOUR, DAY = 3600.0, 86400.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "cache") as store:
        yield store


def put(store: Store, n: object, files: dict[str, bytes] | None = None, *, age: float = DAY) -> str:
    """The key of an artifact of 1000 bytes of its own that was made and used so long ago."""
    with store.draft(preimage("extract", 1, {"clip": "c" * 64}, {"n": n})) as draft:
        for name, data in (files or {"frames": repr(n).encode().ljust(1000)}).items():
            draft.path(name).write_bytes(data)
        made = draft.publish()
    use(store, made, age)
    return made.key


def use(store: Store, artifact: Artifact, age: float) -> None:
    for path in (store.record_path(artifact.key), *artifact.files.values()):
        set_age(path, age)


def set_age(path: Path, age: float) -> None:
    then = time.time() - age
    os.utime(path, (then, then))


def keys(store: Store) -> set[str]:
    return {entry.key for entry in store.entries()}


def objects(store: Store) -> int:
    return len(listing.object_sizes(store))


def test_nothing_goes_from_a_store_within_its_limit(store: Store) -> None:
    key = put(store, 1)
    swept = store.gc(limit_bytes=1000)
    assert (swept.removed, swept.kept, swept.freed, swept.after) == ((), 1, 0, 1000)
    assert keys(store) == {key}


def test_the_least_recently_used_go_until_the_limit_is_met(store: Store) -> None:
    old, mid, new = put(store, 1, age=3 * DAY), put(store, 2, age=2 * DAY), put(store, 3)
    swept = store.gc(limit_bytes=2000)
    assert [entry.key for entry in swept.removed] == [old]
    assert (swept.kept, swept.freed, swept.before, swept.after) == (2, 1000, 3000, 2000)
    assert keys(store) == {mid, new}
    assert objects(store) == 2


def test_a_use_saves_from_going(store: Store) -> None:
    old, new = put(store, 1, age=3 * DAY), put(store, 2, age=2 * DAY)
    set_age(store.record_path(old), DAY)
    store.gc(limit_bytes=1000)
    assert keys(store) == {old}
    assert new != old


@pytest.mark.parametrize("why", ["pinned", "reachable", "young"])
def test_what_must_stay_stays_even_over_the_limit(store: Store, why: str) -> None:
    kept, gone = put(store, 1, age=2 * DAY), put(store, 2)
    if why == "pinned":
        store.pin(kept)
    if why == "young":
        store.get(kept)
    roots = [kept] if why == "reachable" else []
    swept = store.gc(limit_bytes=0, roots=roots)
    assert [entry.key for entry in swept.removed] == [gone]
    assert swept.after == 1000 > swept.limit
    got = store.get(kept)
    assert got is not None
    assert got.path("frames").stat().st_size == 1000


def test_what_is_no_longer_pinned_may_go(store: Store) -> None:
    key = put(store, 1)
    assert store.pin(key[:8]) == store.unpin(key[:6]) == key
    store.gc(limit_bytes=0)
    assert keys(store) == set()


def test_an_object_stays_while_one_record_names_it(store: Store) -> None:
    files = {"shared": b"s" * 1000}
    put(store, 1, files, age=3 * DAY)
    young = put(store, 2, files, age=0)
    swept = store.gc(limit_bytes=0)
    assert len(swept.removed) == 1
    assert (swept.freed, swept.after) == (0, 1000)
    assert store.get(young) is not None


def test_a_dry_run_tells_the_same_and_removes_nothing(store: Store) -> None:
    put(store, 1, age=2 * DAY)
    put(store, 2)
    (store.home / "objects/ab").mkdir(exist_ok=True)
    orphan = store.object_path("ab" + "0" * 62)
    orphan.write_bytes(b"x" * 10)
    set_age(orphan, DAY)
    before = keys(store)
    planned = store.gc(limit_bytes=1000, dry_run=True)
    assert keys(store) == before
    assert orphan.exists()
    assert store.gc(limit_bytes=1000) == planned
    assert planned.freed == 1010


def test_an_orphan_goes_after_the_grace(store: Store) -> None:
    key = put(store, 1)
    store.record_path(key).unlink()
    path = next(listing.files(store.home / "objects"))
    set_age(path, HOUR / 2)
    assert store.gc().swept == 0
    set_age(path, HOUR * 2)
    swept = store.gc()
    assert (swept.swept, swept.freed, swept.removed) == (1, 1000, ())
    assert not path.exists()


def test_objects_of_records_of_a_later_format_stay(store: Store) -> None:
    key = put(store, 1)
    path = store.record_path(key)
    made = record.unseal(path.read_bytes(), key)
    path.unlink()
    path.write_bytes(record.seal({**made, "schema": 2}))
    set_age(path, DAY)
    assert store.gc(limit_bytes=0).freed == 0
    assert (path.exists(), objects(store)) == (True, 1)


def test_an_object_that_is_found_again_is_young_again(store: Store) -> None:
    files = {"frames": b"the same bytes"}
    store.record_path(put(store, "old", files)).unlink()
    with store.draft(preimage("extract", 1, {}, {})) as draft:
        draft.path("frames").write_bytes(files["frames"])
        made = draft.publish()
    store.record_path(made.key).unlink()
    assert store.gc(limit_bytes=0).swept == 0
    assert made.path("frames").read_bytes() == files["frames"]


def test_leftovers_of_killed_processes_go_after_the_grace(store: Store) -> None:
    put(store, 1, age=0)
    tmp, quarantine = store.home / "tmp", store.home / "quarantine"
    quarantine.mkdir()
    killed = tmp / "killed"
    killed.mkdir()
    (killed / ".lock").touch()
    (killed / "frames").write_bytes(b"x")
    places = [killed, tmp / "file", quarantine / "bad"]
    for place in places[1:]:
        place.write_bytes(b"x")
    assert store.gc().swept == 0
    for place in places:
        set_age(place, 2 * HOUR)
    assert store.gc().swept == 3
    assert not any(place.exists() for place in places)


def test_a_file_that_is_being_written_stays_even_without_a_grace(store: Store) -> None:
    path = store.home / "tmp" / "record"
    path.write_bytes(b"half")
    set_age(path, HOUR / 2)
    assert store.gc(limit_bytes=0, grace_s=0).swept == 0
    assert path.exists()


def test_a_draft_that_is_being_written_stays_however_long_it_takes(store: Store) -> None:
    with store.draft(preimage("tune", 1, {}, {})) as draft:
        path = draft.path("deltas")
        path.write_bytes(b"x")
        set_age(path, 30 * DAY)
        set_age(path.parent, 30 * DAY)
        assert Store.open(store.root).gc().swept == 0
        assert draft.publish().path("deltas").read_bytes() == b"x"


def test_a_draft_where_nothing_can_lock_goes_when_it_is_stale(store: Store) -> None:
    bare = Store.open(store.root, locks=False)
    with bare.draft(preimage("tune", 1, {}, {})) as draft:
        path = draft.path("deltas")
        path.write_bytes(b"x")
        set_age(path.parent, 6 * DAY)
        assert store.gc().swept == 0
        set_age(path.parent, 8 * DAY)
        assert store.gc().swept == 1
        assert not path.exists()


@pytest.mark.parametrize(
    ("age", "locked", "goes"),
    [(6 * DAY, False, False), (8 * DAY, False, True), (8 * DAY, True, False)],
)
def test_checkpoints_go_when_stale_and_nobody_works_on_them(
    store: Store, age: float, locked: bool, goes: bool
) -> None:
    key = "5" * 64
    store.partial(key).save("a", lambda path: path.write_bytes(b"x") and None)
    folder = store.home / "partial" / key
    for path in (*folder.iterdir(), folder):
        set_age(path, age)
    with store.lock(key if locked else "6" * 64):
        assert Store.open(store.root).gc().swept == int(goes)
    assert folder.exists() is not goes


def test_lock_files_that_nobody_holds_go_when_stale(store: Store) -> None:
    with store.lock("7" * 64):
        pass
    path = store.home / "locks" / f"{'7' * 64}.lock"
    path.touch()
    set_age(path, 8 * DAY)
    with store.lock("8" * 64):
        held = store.home / "locks" / f"{'8' * 64}.lock"
        set_age(held, 8 * DAY)
        Store.open(store.root).gc()
        assert (path.exists(), held.exists()) == (False, True)


def test_a_lock_that_cannot_be_tried_counts_as_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> None:
        raise OSError(38, "no locks")

    monkeypatch.setattr(locks, "take", refuse)
    (tmp_path / "lock").touch()
    assert locks.held(tmp_path / "lock")


# A publication in the midst of a collection


def meanwhile(monkeypatch: pytest.MonkeyPatch, when: str, act: Callable[[], object]) -> None:
    """`act` happens once, before or after the collection takes its first file away."""
    take, acted = sweep._take, []

    def interrupted(store: Store, path: Path, stuck: list[tuple[Path, str]]) -> Path | None:
        if when == "before" and not acted:
            acted.append(act())
        away = take(store, path, stuck)
        if when == "after" and not acted:
            acted.append(act())
        return away

    monkeypatch.setattr(sweep, "_take", interrupted)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("grace", [0.0, HOUR])
@pytest.mark.parametrize("cause", ["gc", "rm", "orphan"])
def test_a_publication_in_the_midst_of_a_collection_is_whole(
    store: Store, monkeypatch: pytest.MonkeyPatch, when: str, grace: float, cause: str
) -> None:
    files = {"frames": b"the same bytes"}
    old = put(store, "old", files, age=DAY)
    if cause == "orphan":
        store.record_path(old).unlink()
    new: list[str] = []
    other = Store.open(store.root)
    meanwhile(monkeypatch, when, lambda: new.append(put(other, "new", files, age=DAY)))
    if cause == "rm":
        store.rm(old)
    else:
        store.gc(limit_bytes=0, grace_s=grace)
    reader = Store.open(store.root)
    assert reader.verify().whole
    got = reader.get(new[0])
    assert got is not None
    assert got.path("frames").read_bytes() == b"the same bytes"
    assert reader.get(old) is None


def test_a_collection_in_the_midst_of_a_publication_takes_nothing_from_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sees an orphan that the publication has found, before the record that names it."""
    files = {"frames": b"the same bytes"}
    store.record_path(put(store, "old", files)).unlink()
    other, write = Store.open(store.root), disk.write
    swept: list[int] = []

    def interrupted(data: bytes, target: Path, tmp: Path) -> None:
        if not swept:
            swept.append(other.gc(limit_bytes=0, grace_s=0).freed)
        write(data, target, tmp)

    monkeypatch.setattr(disk, "write", interrupted)
    new = put(store, "new", files)
    assert swept == [len(files["frames"])]
    got = Store.open(store.root).get(new)
    assert got is not None
    assert got.path("frames").read_bytes() == b"the same bytes"


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_artifact_used_in_the_midst_of_a_collection_is_whole_or_missed(
    store: Store, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    key = put(store, 1)
    other = Store.open(store.root)
    got: list[Artifact | None] = []
    meanwhile(monkeypatch, when, lambda: got.append(other.get(key)))
    swept = store.gc(limit_bytes=0)
    if when == "before":
        assert got[0] is not None
        assert got[0].path("frames").stat().st_size == 1000
        assert swept.removed == ()
    else:
        assert got == [None]
        assert len(swept.removed) == 1


def test_an_object_that_is_away_for_a_moment_is_waited_for(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = put(store, 1)
    path = next(listing.files(store.home / "objects"))
    away = path.with_name("away")
    path.rename(away)
    monkeypatch.setattr("time.sleep", lambda _: away.rename(path))
    assert store.get(key) is not None


# Naming one artifact


def test_an_artifact_is_listed_with_what_is_known_of_it(store: Store) -> None:
    key, newer = put(store, 1, age=DAY), put(store, 2, age=HOUR)
    store.pin(key)
    first, second = store.entries()
    assert (first.key, first.pinned, second.key, second.pinned) == (newer, False, key, True)
    assert (second.stage, second.size, second.params) == ("extract", 1000, {"n": 1})
    assert second.used == pytest.approx(time.time() - DAY, abs=60)
    assert second.created == pytest.approx(time.time(), abs=60)
    assert list(second.outputs) == ["frames"]


def test_a_damaged_record_is_not_listed_and_does_not_hide_others(store: Store) -> None:
    key, bad = put(store, 1), put(store, 2)
    path = store.record_path(bad)
    path.chmod(0o644)
    path.write_bytes(b"{}")
    assert keys(store) == {key}
    with pytest.raises(StorageError, match="is not what was written"):
        store.show(bad)
    with pytest.raises(StorageError, match="was moved to quarantine"):
        store.rm(bad)
    assert not path.exists()


def test_a_record_is_shown_with_its_pre_image(store: Store) -> None:
    key = put(store, 1)
    shown = store.show(key[:10])
    assert shown["key"] == key
    assert shown["preimage"] == preimage("extract", 1, {"clip": "c" * 64}, {"n": 1})
    assert store.show(key.upper()) == shown


def test_removing_takes_the_artifact_and_what_only_it_needed(store: Store) -> None:
    one = put(store, 1, {"own": b"own", "shared": b"shared"})
    other = put(store, 2, {"shared": b"shared"})
    removed = store.rm(one[:12])
    assert removed.key == one
    assert keys(store) == {other}
    assert objects(store) == 1
    assert store.get(other) is not None


def test_a_pinned_artifact_is_not_removed(store: Store) -> None:
    key = put(store, 1)
    store.pin(key)
    with pytest.raises(UsageError, match="is pinned"):
        store.rm(key)
    assert keys(store) == {key}


def test_removing_what_another_removed_just_now_is_said(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = put(store, 1)
    meanwhile(monkeypatch, "before", lambda: store.record_path(key).unlink())
    with pytest.raises(StorageError, match="could not be removed"):
        store.rm(key)


def test_something_that_cannot_be_put_back_is_said(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sweep._give_back(store.home / "tmp" / "gone", store.home / "objects" / "x")
    assert "could not be put back" in caplog.text


@pytest.mark.parametrize("verb", ["show", "rm", "pin", "unpin"])
@pytest.mark.parametrize(
    ("prefix", "error", "says"),
    [
        ("abc", UsageError, "too short"),
        ("", UsageError, "too short"),
        ("zzzz", MissingError, "no .*artifact has a key that begins with `zzzz`"),
        ("../..", MissingError, "no .*artifact"),
        ("abcd", UsageError, "begins 7 keys: `abcd0+`, .* and 2 more"),
    ],
)
def test_a_prefix_has_to_mean_one_key(
    store: Store, verb: str, prefix: str, error: type[Exception], says: str
) -> None:
    for folder, suffix in (("actions/ab", ".json"), ("pins", "")):
        (store.home / folder).mkdir(parents=True)
        for n in range(7):
            (store.home / folder / f"abcd{n:060x}{suffix}").touch()
    with pytest.raises(error, match=says):
        getattr(store, verb)(prefix)


def test_an_empty_store_is_in_order(store: Store) -> None:
    assert store.entries() == []
    assert store.verify().whole
    assert store.gc(limit_bytes=0).removed == ()


@settings(max_examples=25, deadline=None)
@given(
    shape=st.lists(
        st.tuples(st.sets(st.integers(0, 4), min_size=1), st.booleans(), st.booleans()), max_size=5
    ),
    limit=st.integers(0, 1500),
)
def test_after_any_collection_the_store_is_whole_and_what_must_stay_is_there(
    tmp_path_factory: pytest.TempPathFactory,
    shape: list[tuple[set[int], bool, bool]],
    limit: int,
) -> None:
    with Store.open(tmp_path_factory.mktemp("any")) as store:
        must: set[str] = set()
        roots: set[str] = set()
        for n, (parts, pinned, reachable) in enumerate(shape):
            files = {f"part{part}": b"%d" % part * 100 for part in parts}
            key = put(store, n, files, age=DAY * (n + 1))
            if pinned:
                store.pin(key)
            if reachable:
                roots.add(key)
            if pinned or reachable:
                must.add(key)
        planned = store.gc(limit_bytes=limit, roots=roots, dry_run=True)
        assert store.gc(limit_bytes=limit, roots=roots) == planned
        left = keys(store)
        assert must <= left
        assert store.verify().whole
        assert sum(listing.object_sizes(store).values()) == planned.after
        assert planned.after <= limit or left == must


@pytest.mark.parametrize(
    "where", ["tmp", "quarantine", "partial", "locks", "partial/key", "objects/ab"]
)
def test_what_a_link_in_the_store_leads_to_is_never_collected(
    store: Store, tmp_path: Path, where: str
) -> None:
    victim = tmp_path / "victim"
    (victim / "folder").mkdir(parents=True)
    name = "ab" * 32
    for path in (victim / "old.txt", victim / name, victim / "folder" / "old.txt"):
        path.write_text("of somebody")
        set_age(path, 99 * DAY)
    set_age(victim / "folder", 99 * DAY)
    place = store.home / where
    if place.is_dir():
        place.rmdir()
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(victim)
    before = list(victim.rglob("*"))
    store.verify(repair=True)
    store.gc(limit_bytes=0, grace_s=0)
    assert set(before) <= set(victim.rglob("*"))


def refuse_to_move(monkeypatch: pytest.MonkeyPatch, *paths: Path) -> None:
    """As for files in a folder that only another user may write to."""
    real = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if self in paths:
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)


@pytest.mark.parametrize("what", ["record", "object"])
def test_one_file_that_cannot_be_removed_keeps_no_other(
    store: Store, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    numbers = {n: put(store, n, age=(9 - n) * DAY) for n in range(4)}
    theirs = store.record_path(numbers[1])
    if what == "object":
        theirs = store.get(numbers[1]).path("frames")  # type: ignore[union-attr]
        use(store, store.get(numbers[1]), 8 * DAY)  # type: ignore[arg-type]
    refuse_to_move(monkeypatch, theirs)
    swept = store.gc(limit_bytes=0, grace_s=0)
    assert (swept.stuck, swept.why) == ((theirs,), "Permission denied")
    kept = {numbers[1]} if what == "record" else set()
    assert keys(store) == kept
    assert {entry.key for entry in swept.removed} == set(numbers.values()) - kept
    assert (swept.freed, swept.after) == (3000, 1000)
    assert list((store.home / "tmp").iterdir()) == []
    assert all(store.get(key) is not None for key in kept)


def test_a_leftover_that_stays_is_told_of_and_not_counted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ours", "theirs"):
        (store.home / "tmp" / name).write_bytes(b"x")
        set_age(store.home / "tmp" / name, 9 * DAY)
    real = disk.discard
    monkeypatch.setattr(disk, "discard", lambda path: path.name == "theirs" or real(path))
    swept = store.gc()
    assert (swept.swept, swept.stuck) == (1, (store.home / "tmp" / "theirs",))


def test_an_artifact_that_cannot_be_removed_is_named_with_the_reason(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = put(store, 1)
    refuse_to_move(monkeypatch, store.record_path(key))
    with pytest.raises(StorageError, match="cannot be removed: Permission denied"):
        store.rm(key)
    assert store.get(key) is not None
