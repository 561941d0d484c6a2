"""What is published is what is got, and nothing else is to be seen."""

import hashlib
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvcli.errors import MissingError, StorageError
from dvcli.store import Artifact, Store
from dvcli.store.keys import key_of, preimage

FILES = {"frames": b"\x00\x01" * 500, "notes.json": b"{}", "empty": b""}


def asked(n: object = 0) -> dict[str, object]:
    return preimage("extract", 1, {"clip": "c" * 64}, {"n": n})


def put(store: Store, n: object = 0, files: dict[str, bytes] = FILES, **info: object) -> Artifact:
    with store.draft(asked(n)) as draft:
        for name, data in files.items():
            draft.path(name).write_bytes(data)
        draft.info.update(info)
        return draft.publish()


def tree(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def store(root: Path) -> Iterator[Store]:
    with Store.open(root) as store:
        yield store


def test_what_is_published_is_got_by_a_later_process(root: Path, store: Store) -> None:
    made = put(store, times=(0.5, 1), note="ü")
    got = Store.open(root).get(made.key)
    assert got == made
    assert got is not None
    assert got.key == key_of(asked())
    assert got.stage == "extract"
    assert got.info == {"times": [0.5, 1], "note": "ü"}
    assert {name: got.path(name).read_bytes() for name in got.outputs} == FILES
    assert got.size == sum(map(len, FILES.values()))


def test_the_digest_of_an_artifact_is_that_of_its_contents_alone(store: Store) -> None:
    one, other = put(store, 1, seconds=1), put(store, 2, seconds=2)
    assert one.key != other.key
    assert one.digest == other.digest
    assert put(store, 3, {"frames": b"else"}).digest != one.digest
    assert put(store, 4, {"renamed": b"x"}).digest != put(store, 5, {"other": b"x"}).digest


def test_the_digest_of_an_artifact_is_that_of_its_names_and_digests(store: Store) -> None:
    listed = ",".join(
        f'"{name}":"{hashlib.sha256(FILES[name]).hexdigest()}"' for name in sorted(FILES)
    )
    assert put(store).digest == hashlib.sha256(f"{{{listed}}}".encode()).hexdigest()


@given(st.dictionaries(st.sampled_from("abcdef"), st.binary(max_size=40), min_size=1))
def test_any_bytes_come_back(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    root = tmp_path_factory.mktemp("any")
    with Store.open(root) as store:
        key = put(store, 0, files).key
    got = Store.open(root).get(key)
    assert got is not None
    assert {name: got.path(name).read_bytes() for name in got.outputs} == files


def test_an_unknown_key_is_a_miss(store: Store) -> None:
    assert store.get("0" * 64) is None


def test_what_is_no_key_is_a_bug(store: Store) -> None:
    with pytest.raises(ValueError, match="is not a key"):
        store.get("../../etc/passwd")


def test_an_unknown_output_is_named_with_those_there_are(store: Store) -> None:
    with pytest.raises(MissingError, match=r"`deltas`, only `empty`, `frames`, `notes\.json`"):
        put(store).path("deltas")


@pytest.mark.parametrize("name", ["", "..", "a/b", ".lock", "ä", "x" * 101, "a\0"])
def test_an_output_has_a_plain_name(store: Store, name: str) -> None:
    with store.draft(asked()) as draft, pytest.raises(ValueError, match="not a name"):
        draft.path(name)


def test_published_files_are_read_only(store: Store) -> None:
    made = put(store)
    modes = {made.path(name).stat().st_mode & 0o777 for name in made.outputs}
    modes.add(store.record_path(made.key).stat().st_mode & 0o777)
    assert modes == {0o444}


def test_a_draft_that_is_not_published_leaves_nothing(root: Path, store: Store) -> None:
    with store.draft(asked()) as draft:
        draft.path("frames").write_bytes(b"half")
    with pytest.raises(ZeroDivisionError), store.draft(asked()) as draft:
        draft.path(f"frames{draft.path('half').write_bytes(b'half') / 0}")
    assert tree(root) == ["v1/CACHEDIR.TAG"]
    assert list((root / "v1/tmp").iterdir()) == []


def test_publishing_leaves_nothing_but_objects_record_and_memo(root: Path, store: Store) -> None:
    put(store)
    kinds = {Path(name).parts[1] for name in tree(root)}
    assert kinds == {"CACHEDIR.TAG", "objects", "actions", "memo"}
    assert list((root / "v1/tmp").iterdir()) == []


def test_a_draft_without_outputs_is_a_bug(store: Store) -> None:
    with store.draft(asked()) as draft, pytest.raises(ValueError, match="at least one output"):
        draft.publish()


def test_a_draft_is_published_once(store: Store) -> None:
    with store.draft(asked()) as draft:
        draft.path("a").write_bytes(b"")
        draft.publish()
        with pytest.raises(ValueError, match="once"):
            draft.publish()


def test_an_output_that_was_promised_and_not_written_is_a_bug(store: Store) -> None:
    with store.draft(asked()) as draft:
        draft.path("frames")
        with pytest.raises(FileNotFoundError):
            draft.publish()
    assert store.get(draft.key) is None


def test_facts_that_are_not_finite_are_kept_by_name(store: Store, root: Path) -> None:
    made = put(store, psnr=float("inf"), losses=[1.0, float("nan")])
    assert made.info == {"psnr": "inf", "losses": [1.0, "nan"]}
    assert Store.open(root).get(made.key) == made


def test_publishing_again_keeps_the_object_that_is_there(store: Store) -> None:
    made = put(store)
    inode = made.path("frames").stat().st_ino
    assert put(store).path("frames").stat().st_ino == inode


def test_publishing_again_replaces_a_damaged_object(store: Store, root: Path) -> None:
    path = put(store).path("frames")
    path.chmod(0o644)
    path.write_bytes(b"\xff" * 1000)
    put(store)
    assert path.read_bytes() == FILES["frames"]
    got = Store.open(root).get(key_of(asked()))
    assert got is not None


def test_publishing_other_bytes_under_a_key_replaces_the_answer(store: Store, root: Path) -> None:
    put(store)
    put(store, 0, {"frames": b"new"})
    got = Store.open(root).get(key_of(asked()))
    assert got is not None
    assert got.path("frames").read_bytes() == b"new"


def test_two_outputs_with_the_same_bytes_are_one_object(store: Store, root: Path) -> None:
    made = put(store, 0, {"a": b"same", "b": b"same"})
    assert made.path("a") == made.path("b")
    assert sum("objects" in name for name in tree(root)) == 1


def test_the_record_holds_the_whole_pre_image(store: Store) -> None:
    made = put(store)
    assert made.record["preimage"] == asked()
    assert key_of(made.record["preimage"]) == made.key


def test_bytes_are_on_the_disk_before_they_can_be_seen(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file is flushed under its temporary name, its folder after; the record comes last."""
    events: list[tuple[str, Path]] = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(fd: int) -> None:
        events.append(("flush", Path(f"/proc/self/fd/{fd}").readlink()))
        fsync(fd)

    def note_replace(source: Path, target: Path) -> None:
        events.extend([("move", Path(source)), ("to", Path(target))])
        replace(source, target)

    if not Path("/proc/self/fd").exists():
        pytest.skip("open files have no names here")
    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    made = put(store, 0, {"frames": b"x"})
    moves = [i for i, (what, _) in enumerate(events) if what == "move"]
    assert [events[i + 1][1] for i in moves] == [
        store.object_path(made.outputs["frames"].sha256),
        store.record_path(made.key),
    ]
    for i in moves:
        (_, source), (_, target) = events[i : i + 2]
        assert ("flush", source) in events[:i]
        assert events[i + 2] == ("flush", target.parent)


def test_a_hit_counts_as_a_use(store: Store) -> None:
    path = store.record_path(put(store).key)
    os.utime(path, (1, 1))
    store.get(path.stem)
    assert path.stat().st_mtime > 1


def test_a_hit_does_not_read_the_objects_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.open(root) as store:
        key = put(store).key

    def read_again(*_: object) -> str:
        raise AssertionError("read again")

    monkeypatch.setattr("dvcli.store.disk.digest", read_again)
    got = Store.open(root).get(key)
    assert got is not None
    assert got.path("frames").read_bytes() == FILES["frames"]


def test_a_file_of_an_artifact_that_is_taken_away_is_missed_with_a_hint(store: Store) -> None:
    made = put(store)
    made.path("frames").unlink()
    with pytest.raises(MissingError, match="damaged or removed") as raised:
        made.path("frames")
    assert raised.value.hint == "run the same command again, it builds what is missing"


def test_a_temporary_store_goes_when_it_is_closed(home: Path) -> None:
    with Store.open(temporary=True) as store:
        made = put(store)
        assert store.get(made.key) == made
        root = store.root
    assert not root.exists()
    assert list(home.rglob("*dvid*")) == []


def test_a_temporary_store_goes_with_its_process() -> None:
    script = "from dvcli.store import Store\nprint(Store.open(temporary=True).root)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip()
    assert not Path(done.stdout.strip()).exists()


def test_the_cache_folder_is_named_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVID_CACHE_DIR", str(tmp_path / "here"))
    assert Store.open().root == tmp_path / "here"


def test_the_cache_folder_is_the_users_else(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVID_CACHE_DIR", "")
    root = Store.open().root
    assert root.is_relative_to(home)
    assert root.name == "dvid"


def test_the_cache_is_marked_as_one(store: Store, root: Path) -> None:
    tag = (root / "v1/CACHEDIR.TAG").read_text()
    assert tag.startswith("Signature: 8a477f597d28d172789f06886806bc55\n")


def test_a_cache_folder_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(StorageError, match="is not a folder"):
        Store.open(file)


def test_a_record_of_a_later_format_is_a_miss_and_stays(store: Store) -> None:
    from dvcli.store import record

    made = put(store)
    path = store.record_path(made.key)
    path.chmod(0o644)
    later = record.seal({**{k: v for k, v in made.record.items() if k != "check"}, "schema": 2})
    path.write_bytes(later)
    assert store.get(made.key) is None
    assert path.read_bytes() == later


def test_importing_the_store_reaches_nothing_heavy() -> None:
    script = (
        "import sys, dvcli.store, dvcli.runs; dvcli.store.Store\n"
        "heavy = {'torch', 'numpy', 'av', 'PIL', 'filelock', 'platformdirs', 'rfc8785', 'shutil'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_an_unknown_name_of_the_store_is_no_attribute() -> None:
    import dvcli.store

    with pytest.raises(AttributeError, match="nothing"):
        dvcli.store.nothing


def test_a_key_is_locked_against_others(
    store: Store, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key, other = "1" * 64, "2" * 64

    class Enough(Exception):
        pass

    def waiting() -> None:
        raise Enough

    caplog.set_level(logging.INFO, "dvcli")
    with store.lock(key):
        with Store.open(root).lock(other):
            pass
        with pytest.raises(Enough), Store.open(root).lock(key, waiting=waiting):
            pass
        with Store.open(root, locks=False).lock(key):
            pass
    with Store.open(root).lock(key):
        pass
    assert caplog.messages == [f"another process works on {key[:12]}: waiting for it"]


@pytest.mark.parametrize("refusal", [OSError(38, "no locks"), NotImplementedError("no locks")])
def test_where_nothing_can_lock_work_goes_on(
    store: Store, monkeypatch: pytest.MonkeyPatch, refusal: Exception
) -> None:
    import filelock

    def refuse(*_: object, **__: object) -> None:
        raise refusal

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with store.lock("1" * 64):
        made = put(store)
    assert store.get(made.key) == made
