"""A disk that refuses: the result is had all the same, and nothing half-written is to be seen."""

import errno
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dvcli.errors import InputError, StorageError
from dvcli.store import Artifact, Store
from dvcli.store.keys import preimage

FILES = {"frames": b"f" * 1000, "notes": b"[]"}
WRITES = (
    "mkdir",
    "rename",
    "replace",
    "unlink",
    "rmdir",
    "utime",
    "chmod",
    "link",
    "fsync",
    "write",
)


def asked(n: int = 0) -> dict[str, object]:
    return preimage("extract", 1, {"clip": "c" * 64}, {"n": n})


def put(store: Store, n: int = 0) -> Artifact:
    with store.draft(asked(n)) as draft:
        for name, data in FILES.items():
            draft.path(name).write_bytes(data)
        return draft.publish()


def contents(artifact: Artifact) -> dict[str, bytes]:
    return {name: artifact.path(name).read_bytes() for name in artifact.outputs}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def spare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's temporary folder, on another disk."""
    spare = tmp_path / "spare"
    spare.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(spare))
    return spare


class Disk:
    """Refuses writing calls under a root: the one with that number, or every one from it on."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.root, self.patch = str(root), patch
        self.calls = 0

    def refuse(self, number: int, *, first: int, ever: bool, only: tuple[str, ...]) -> None:
        self.calls = 0
        for name in only:
            self.patch.setattr(os, name, self._wrapped(getattr(os, name), number, first, ever))
        opened = os.open

        def open_(path: Any, flags: int, *rest: Any, **more: Any) -> int:
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and self._ours(path):
                self._count(number, first, ever)
            return opened(path, flags, *rest, **more)

        if "open" in only or ever:
            self.patch.setattr(os, "open", open_)

    def _wrapped(self, call: Callable[..., Any], number: int, first: int, ever: bool) -> Any:
        def wrapped(*args: Any, **more: Any) -> Any:
            places = args[:1] if call.__name__ in ("write", "fsync") else args[:2]
            if any(map(self._ours, places)):
                self._count(number, first, ever)
            return call(*args, **more)

        return wrapped

    def _ours(self, place: Any) -> bool:
        if isinstance(place, bool):
            return False
        if isinstance(place, int) and Path(f"/proc/self/fd/{place}").is_symlink():
            place = Path(f"/proc/self/fd/{place}").readlink()
        if not isinstance(place, str | os.PathLike):
            return False
        return str(place).startswith(self.root)

    def _count(self, number: int, first: int, ever: bool) -> None:
        self.calls += 1
        if self.calls == first or (ever and self.calls >= first):
            raise OSError(number, os.strerror(number))


@pytest.fixture
def disk(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    if not Path("/proc/self/fd").exists():
        pytest.skip("open files have no names here")
    with monkeypatch.context() as patch:
        yield Disk(root, patch)


@pytest.mark.parametrize("ever", [True, False], ids=["from then on", "once"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_wherever_the_disk_refuses_the_result_is_had_and_nothing_is_half_there(
    root: Path, spare: Path, disk: Disk, number: int, ever: bool
) -> None:
    """The refusing call goes through all those of a publication, one after the other."""
    refused = 0
    for first in range(1, 100):
        with Store.open(root / str(first)) as store:
            with disk.patch.context() as patch:
                faulty = Disk(root, patch)
                faulty.refuse(
                    number, first=first, ever=ever, only=("mkdir", "replace", "fsync", "write")
                )
                made = put(store, first)
            assert contents(made) == FILES
            assert store.get(made.key) == made
            later = Store.open(store.root)
            got = later.get(made.key)
            assert contents(made if got is None else got) == FILES
            assert got is not None or store.failures
            assert later.verify().whole
            refused += len(store.failures)
            assert [failure.exit_code for failure in store.failures] in ([], [6])
        assert list(spare.iterdir()) == []
        if faulty.calls < first:
            break
    assert first > 15
    assert refused >= 12
    assert store.failures == []


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_read_only_cache_serves_and_is_no_failure(
    root: Path, spare: Path, disk: Disk, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    with Store.open(root) as store:
        old = put(store, 1)
    caplog.set_level(logging.INFO, "dvcli")
    disk.refuse(number, first=1, ever=True, only=WRITES)
    with Store.open(root) as store:
        got = store.get(old.key)
        assert got is not None
        assert contents(got) == FILES
        with store.lock(old.key):
            new, newer = put(store, 2), put(store, 3)
        assert contents(new) == contents(newer) == FILES
        assert store.get(new.key) == new
        assert store.partial(new.key).save("a", lambda path: None) is False
        assert store.digest_file(new.path("frames")) == new.outputs["frames"].sha256
        assert store.failures == []
    noted = [text for text in caplog.messages if "is read-only" in text]
    assert noted == [f"the cache `{root}` is read-only: new results are not kept"]
    assert list(spare.iterdir()) == []


def test_a_damaged_read_only_cache_is_a_miss(root: Path, spare: Path, disk: Disk) -> None:
    with Store.open(root) as store:
        old = put(store)
        path = old.path("frames")
        path.chmod(0o644)
        path.write_bytes(b"g" * 1000)
    disk.refuse(errno.EROFS, first=1, ever=True, only=WRITES)
    with Store.open(root) as store:
        assert store.get(old.key) is None
        assert contents(put(store)) == FILES


def test_a_cache_that_cannot_be_made_serves_this_process(
    root: Path, spare: Path, disk: Disk
) -> None:
    disk.refuse(errno.EACCES, first=1, ever=True, only=WRITES)
    with Store.open(root) as store:
        made = put(store)
        assert store.get(made.key) == made
        assert store.failures == []
    assert not root.exists()


def test_what_is_kept_for_the_process_goes_with_the_store(
    root: Path, spare: Path, disk: Disk
) -> None:
    disk.refuse(errno.EROFS, first=1, ever=True, only=WRITES)
    with Store.open(root) as store:
        path = put(store).path("frames")
        assert path.is_relative_to(spare)
        assert path.stat().st_mode & 0o777 == 0o444
    assert not path.exists()


def test_a_disk_with_next_to_no_room_is_not_written_to(
    root: Path, spare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    usage = shutil.disk_usage(spare)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=1000))
    with Store.open(root) as store:
        with store.draft(asked()) as draft:
            assert draft.path("frames").is_relative_to(spare)
            draft.path("frames").write_bytes(b"x")
            made = draft.publish()
        assert contents(made) == {"frames": b"x"}
        assert [failure.exit_code for failure in store.failures] == [6]


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), Exception("i/o: os error 28")]
)
def test_a_disk_full_while_writing_is_a_storage_error(root: Path, error: Exception) -> None:
    with Store.open(root) as store:
        with pytest.raises(StorageError, match="no room left") as raised, store.draft(asked()) as d:
            fail(d.path("frames"), error)
        assert raised.value.exit_code == 6
        assert raised.value.__cause__ is error
        assert list((root / "v1/tmp").iterdir()) == []


def fail(path: Path, error: Exception) -> None:
    path.write_bytes(b"half")
    raise error


@pytest.mark.parametrize("error", [ValueError("a bug"), InputError("No space left on device")])
def test_another_error_while_writing_stays_what_it_is(root: Path, error: Exception) -> None:
    with Store.open(root) as store, pytest.raises(type(error)) as raised, store.draft(asked()):
        raise error
    assert raised.value is error


def test_an_output_written_to_a_full_disk_is_written_elsewhere(root: Path, spare: Path) -> None:
    places: list[Path] = []

    def write(path: Path) -> None:
        places.append(path)
        path.write_bytes(b"notes")
        if path.is_relative_to(root):
            raise OSError(errno.ENOSPC, "No space left on device")

    with Store.open(root) as store:
        with store.draft(asked()) as draft:
            draft.path("frames").write_bytes(b"frames")
            draft.write("notes", write)
            made = draft.publish()
        assert [path.is_relative_to(root) for path in places] == [True, False]
        assert not places[0].exists()
        assert contents(made) == {"frames": b"frames", "notes": b"notes"}
        assert len(store.failures) == 1
    assert list(spare.iterdir()) == []
    assert list((root / "v1/tmp").iterdir()) == []


def test_a_writer_that_fails_for_another_reason_is_not_tried_again(root: Path) -> None:
    calls: list[Path] = []

    def write(path: Path) -> None:
        calls.append(path)
        raise ValueError("a bug")

    with (
        Store.open(root) as store,
        pytest.raises(ValueError, match="a bug"),
        store.draft(asked()) as d,
    ):
        d.write("notes", write)
    assert len(calls) == 1


def test_a_disk_without_hard_links_keeps_the_result_too(
    root: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    with Store.open(root) as store:
        monkeypatch.setattr(Path, "hardlink_to", refuse)
        monkeypatch.setattr("dvcli.store.disk.write", full)
        made = put(store)
        assert contents(made) == FILES
        assert len(store.failures) == 1


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("verb", ["pin", "rm", "unpin"])
def test_keeping_house_on_a_read_only_cache_is_a_storage_error(
    root: Path, disk: Disk, verb: str
) -> None:
    with Store.open(root) as store:
        key = put(store).key
        if verb == "unpin":
            store.pin(key)
        disk.refuse(errno.EROFS, first=1, ever=True, only=WRITES)
        with pytest.raises(StorageError, match="Read-only file system"):
            getattr(store, verb)(key)


def test_a_file_system_without_fsync_of_folders_is_good_enough(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def picky(fd: int) -> None:
        if Path(f"/proc/self/fd/{fd}").is_dir():
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(fd)

    monkeypatch.setattr(os, "fsync", picky)
    with Store.open(root) as store:
        made = put(store)
        assert store.failures == []
    assert Store.open(root).get(made.key) == made


def test_a_fork_does_not_clear_away_what_its_parent_keeps(root: Path, spare: Path) -> None:
    with Store.open(temporary=True) as store:
        made = put(store)
        child = os.fork()
        if child == 0:
            store.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert contents(made) == FILES
