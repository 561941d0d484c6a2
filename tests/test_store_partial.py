"""Checkpoints: the newest whole ones, whatever happened while they were written."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dvcli.store import Store

KEY = "4" * 64


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "cache") as store:
        yield store


def writes(data: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(data)

    return write


def intact(store: Store) -> list[tuple[str, bytes]]:
    return [(name, path.read_bytes()) for name, path in store.partial(KEY).intact()]


def save(store: Store, *names: str) -> None:
    for name in names:
        assert store.partial(KEY).save(name, writes(name.encode()))


def test_there_is_nothing_at_first(store: Store) -> None:
    assert store.partial(KEY).intact() == []


def test_the_newest_two_stay_newest_first(store: Store) -> None:
    save(store, "step-50", "step-100", "step-150")
    assert intact(store) == [("step-150", b"step-150"), ("step-100", b"step-100")]
    assert len(list((store.home / "partial" / KEY).iterdir())) == 4


def test_the_order_is_that_of_saving_even_if_the_clock_goes_back(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(store, "b")
    monkeypatch.setattr("time.time_ns", lambda: 5)
    save(store, "a")
    assert [name for name, _ in intact(store)] == ["a", "b"]


def test_saving_under_a_name_again_replaces_it(store: Store) -> None:
    save(store, "a", "b")
    store.partial(KEY).save("a", writes(b"new"))
    assert intact(store) == [("a", b"new"), ("b", b"b")]


@pytest.mark.parametrize("data", [b"", b"step-10", b"step-1000", b"Step-100"])
def test_a_damaged_checkpoint_is_passed_over(
    store: Store, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    save(store, "step-50", "step-100")
    path = store.home / "partial" / KEY / "step-100"
    path.chmod(0o644)
    path.write_bytes(data)
    assert intact(store) == [("step-50", b"step-50")]
    assert "is damaged and passed over" in caplog.text


@pytest.mark.parametrize(
    "side", [b"", b"[]", b"{}", b'{"check": 1}', b'{"order": 1, "sha256": "", "check": ""}']
)
def test_a_checkpoint_with_a_damaged_side_file_is_passed_over(store: Store, side: bytes) -> None:
    save(store, "step-50", "step-100")
    path = store.home / "partial" / KEY / "step-100.json"
    path.chmod(0o644)
    path.write_bytes(side)
    assert intact(store) == [("step-50", b"step-50")]


def test_a_checkpoint_whose_file_is_gone_is_passed_over(store: Store) -> None:
    save(store, "step-50", "step-100")
    (store.home / "partial" / KEY / "step-100").unlink()
    assert intact(store) == [("step-50", b"step-50")]


def test_a_kill_between_file_and_side_file_leaves_the_one_before(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    save(store, "step-50", "step-100")
    with monkeypatch.context() as patched:
        patched.setattr("dvcli.store.disk.write", die)
        with pytest.raises(Killed):
            store.partial(KEY).save("step-150", writes(b"x"))
    assert [name for name, _ in intact(store)] == ["step-100", "step-50"]
    save(store, "step-150")
    assert [name for name, _ in intact(store)] == ["step-150", "step-100"]


def test_a_writer_that_fails_is_heard_and_leaves_nothing(store: Store) -> None:
    def write(path: Path) -> None:
        path.write_bytes(b"half")
        raise RuntimeError("a bug")

    save(store, "step-50")
    with pytest.raises(RuntimeError, match="a bug"):
        store.partial(KEY).save("step-100", write)
    assert intact(store) == [("step-50", b"step-50")]
    assert list((store.home / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), Exception("I/O: os error 28")]
)
def test_a_full_disk_ends_nothing_and_is_noted_once(
    store: Store, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def write(path: Path) -> None:
        path.write_bytes(b"half")
        raise error

    save(store, "step-50")
    partial = store.partial(KEY)
    assert [partial.save("step-100", write), partial.save("step-150", write)] == [False, False]
    assert len(caplog.messages) == 1
    assert "no checkpoint can be kept" in caplog.messages[0]
    assert intact(store) == [("step-50", b"step-50")]
    assert store.failures == []


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden"])
def test_a_checkpoint_has_a_plain_name(store: Store, name: str) -> None:
    with pytest.raises(ValueError, match="not a name"):
        store.partial(KEY).save(name, writes(b""))


def test_nothing_is_left_after_clearing(store: Store) -> None:
    save(store, "a", "b")
    store.partial(KEY).clear()
    store.partial(KEY).clear()
    assert intact(store) == []
    assert not (store.home / "partial" / KEY).exists()
