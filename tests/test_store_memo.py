"""Files are read once while they stay as they are, and every change is noticed."""

import os
import stat
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from dvcli.errors import InputError, Interrupted, MissingError
from dvcli.store import Store, disk


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "cache") as store:
        yield store


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"old")
    age(path)
    return path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The digest of every file that was really read."""
    done: list[str] = []
    digest = disk.digest

    def noted(file: object, *rest: object) -> str:
        done.append(digest(file, *rest))  # type: ignore[arg-type]
        return done[-1]

    monkeypatch.setattr(disk, "digest", noted)
    return done


def age(path: Path, seconds: float = 100) -> None:
    old = path.stat().st_mtime - seconds
    os.utime(path, (old, old))


OLD, NEW = sha256(b"old").hexdigest(), sha256(b"new").hexdigest()


def test_a_digest_is_that_of_the_content(store: Store, clip: Path) -> None:
    assert store.digest_file(clip) == OLD


def test_a_file_is_read_once(store: Store, clip: Path, reads: list[str]) -> None:
    digests = [store.digest_file(clip), store.digest_file(clip)]
    digests.append(Store.open(store.root).digest_file(clip))
    assert digests == [OLD] * 3
    assert reads == [OLD]


def test_a_file_keeps_its_digest_under_another_name(
    store: Store, clip: Path, reads: list[str]
) -> None:
    link = clip.with_name("link")
    link.symlink_to(clip)
    assert store.digest_file(clip) == store.digest_file(link) == OLD
    assert reads == [OLD]


def test_a_change_of_content_is_noticed(store: Store, clip: Path) -> None:
    store.digest_file(clip)
    clip.write_bytes(b"new")
    assert store.digest_file(clip) == NEW


def test_a_change_behind_the_old_time_is_noticed(store: Store, clip: Path) -> None:
    store.digest_file(clip)
    before = clip.stat()
    clip.write_bytes(b"new")
    os.utime(clip, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert store.digest_file(clip) == NEW


def test_another_file_moved_into_its_place_is_noticed(store: Store, clip: Path) -> None:
    store.digest_file(clip)
    before = clip.stat()
    other = clip.with_name("other")
    other.write_bytes(b"new")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(clip)
    assert store.digest_file(clip) == NEW


def test_a_file_changed_this_moment_is_not_yet_remembered(
    store: Store, clip: Path, reads: list[str]
) -> None:
    clip.write_bytes(b"new")
    store.digest_file(clip)
    store.digest_file(clip)
    assert reads == [NEW, NEW]


def test_a_memo_that_cannot_be_written_costs_nothing_but_time(
    store: Store, clip: Path, reads: list[str]
) -> None:
    (store.home / "memo").mkdir()
    assert store.digest_file(clip) == store.digest_file(clip) == OLD
    assert reads == [OLD]
    assert Store.open(store.root).digest_file(clip) == OLD


def test_a_memo_with_a_flipped_bit_tells_nothing_wrong(store: Store, clip: Path) -> None:
    store.digest_file(clip)
    memo = store.home / "memo"
    whole = memo.read_bytes()
    for place in range(len(whole)):
        data = bytearray(whole)
        data[place] ^= 1
        memo.write_bytes(data)
        assert Store.open(store.root).digest_file(clip) == OLD


def test_a_torn_line_spoils_no_other(store: Store, clip: Path, reads: list[str]) -> None:
    memo = store.home / "memo"
    memo.write_bytes(b"\n1 2 3 4 5 " + b"a" * 30)
    store.digest_file(clip)
    assert Store.open(store.root).digest_file(clip) == OLD
    assert reads == [OLD]


def test_a_long_memo_is_cut_to_its_newest_lines(
    store: Store, clip: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dvcli.store.memo._LARGE", 1000)
    monkeypatch.setattr("dvcli.store.memo._KEPT", 2)
    for n in range(20):
        other = clip.with_name(f"{n}")
        other.write_bytes(b"%d" % n)
        age(other)
        store.digest_file(other)
    store.digest_file(clip)
    reads.clear()
    assert Store.open(store.root).digest_file(clip) == OLD
    assert (store.home / "memo").stat().st_size < 400
    assert Store.open(store.root).digest_file(clip) == OLD
    assert reads == []


def test_a_memo_that_cannot_be_cut_still_serves(
    store: Store, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.digest_file(clip)
    monkeypatch.setattr("dvcli.store.memo._LARGE", 10)
    monkeypatch.setattr(Path, "write_bytes", refuse)
    assert Store.open(store.root).digest_file(clip) == OLD


def refuse(*_: object) -> int:
    raise OSError(30, "Read-only file system")


def test_a_missing_file_is_named(store: Store, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"there is no file `.*gone\.mp4`"):
        store.digest_file(tmp_path / "gone.mp4")


def test_a_folder_has_no_digest(store: Store, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Is a directory"):
        store.digest_file(tmp_path)


def test_a_pipe_is_refused_without_waiting_for_it(store: Store, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(InputError, match="is not a file"):
        store.digest_file(pipe)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert threading.active_count() >= 1


def test_a_file_that_is_still_being_written_is_refused(
    store: Store, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = disk.digest

    def meanwhile(file: object, *_: object) -> str:
        with clip.open("ab") as more:
            more.write(b"more")
        return digest(file)  # type: ignore[arg-type]

    monkeypatch.setattr(disk, "digest", meanwhile)
    with pytest.raises(InputError, match="changes while it is read"):
        store.digest_file(clip)


def test_a_file_that_changes_once_is_read_again(
    store: Store, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, changes = disk.digest, [b"new"]

    def meanwhile(file: object, *_: object) -> str:
        before = digest(file)  # type: ignore[arg-type]
        if changes:
            clip.write_bytes(changes.pop())
        return before

    monkeypatch.setattr(disk, "digest", meanwhile)
    assert store.digest_file(clip) == NEW


def test_a_stop_ends_the_hashing_of_a_long_file_within_a_few_mebibytes(
    store: Store, tmp_path: Path
) -> None:
    clip, calls = tmp_path / "long.mp4", []
    with clip.open("wb") as file:
        file.truncate(2**40)

    def stop() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise Interrupted(15, "stopped")

    store.memo.waiting = stop
    with pytest.raises(Interrupted):
        store.digest_file(clip)
    assert not store.memo.knows(clip)


def test_a_digest_is_the_same_however_often_it_looks_up(store: Store, clip: Path) -> None:
    data = bytes(range(256)) * 40_000
    clip.write_bytes(data)
    looks: list[int] = []
    store.memo.waiting = lambda: looks.append(1)
    assert store.digest_file(clip) == sha256(data).hexdigest()
    assert len(looks) == 3


def test_hashing_for_the_store_itself_is_not_broken_off(store: Store, clip: Path) -> None:
    """A result that is being published would be lost by it."""
    store.memo.waiting = lambda: pytest.fail("asked")
    assert store.memo.has(clip, OLD, 3)
