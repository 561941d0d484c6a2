"""A remote folder: push and pull, what is verified on the way back, a batch through one."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from program import Dvid

from dvcli.errors import InputError, MissingError, StorageError
from dvcli.store import Store
from dvcli.store.keys import preimage
from dvcli.store.record import Artifact, seal
from dvcli.store.remote import Remote, Spoilt


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "one")


@pytest.fixture
def other(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "two")


@pytest.fixture(params=["file", "memory"])
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Remote:
    if request.param == "file":
        return Remote(f"file://{tmp_path}/remote")
    import fsspec

    fsspec.filesystem("memory").store.clear()
    return Remote("memory://remote")


def artifact(store: Store, text: str = "bytes") -> Artifact:
    with store.draft(preimage("tune", 1, {}, {"text": text})) as out:
        out.write("deltas", lambda path: path.write_text(text))
        out.write("latents", lambda path: path.write_text("shared"))
        return out.publish()


def test_what_is_pushed_comes_back_the_same(store: Store, other: Store, remote: Remote) -> None:
    made = artifact(store)
    assert (remote.has(made.key), remote.push(made), remote.has(made.key)) == (False, True, True)
    assert not remote.push(made)
    back = remote.pull(other, made.key)
    assert back is not None
    assert back.record == made.record
    assert back.path("deltas").read_text() == "bytes"
    assert other.verify().whole


def test_what_is_not_there_is_none(other: Store, remote: Remote) -> None:
    assert remote.pull(other, "0" * 64) is None
    assert (remote.runs(), remote.run("bear")) == ([], None)


def test_nothing_but_whole_files_lies_there(store: Store, tmp_path: Path) -> None:
    made = artifact(store)
    Remote(f"file://{tmp_path}/remote").push(made)
    lying = sorted(path.name for path in (tmp_path / "remote").rglob("*") if path.is_file())
    assert lying == sorted([f"{made.key}.json", *(o.sha256 for o in made.outputs.values())])


@pytest.mark.parametrize(
    "damage", ["flip", "cut", "grow", "remove", "record", "other key", "forged"]
)
def test_damage_is_found_and_leaves_the_store_as_it_was(
    damage: str, store: Store, other: Store, tmp_path: Path
) -> None:
    remote, made = Remote(f"file://{tmp_path}/remote"), artifact(store)
    remote.push(made)
    sha256 = made.outputs["deltas"].sha256
    path = tmp_path / "remote" / "v1" / "objects" / sha256[:2] / sha256
    record = tmp_path / "remote" / "v1" / "actions" / made.key[:2] / f"{made.key}.json"
    key = made.key
    match damage:
        case "flip":
            path.write_text("bytez")
        case "cut":
            path.write_text("byte")
        case "grow":
            path.write_text("bytes and more")
        case "remove":
            path.unlink()
        case "record":
            record.write_bytes(record.read_bytes().replace(b'"size":5', b'"size":6'))
        case "forged":  # sealed again, but the key is not that of what it now says was asked
            told: Any = {**made.record, "preimage": {**made.record["preimage"], "params": {}}}
            record.write_bytes(seal(told))
        case _:
            key = "f" * 64
            target = record.parents[1] / "ff" / f"{key}.json"
            target.parent.mkdir()
            shutil.copy(record, target)
    with pytest.raises(Spoilt):
        remote.pull(other, key)
    assert other.entries() == []
    assert not [path for path in (other.home / "tmp").iterdir() if "pull" in path.name]


def test_what_was_spoilt_is_sent_anew(store: Store, other: Store, tmp_path: Path) -> None:
    remote, made = Remote(f"file://{tmp_path}/remote"), artifact(store)
    remote.push(made)
    sha256 = made.outputs["deltas"].sha256
    (tmp_path / "remote" / "v1" / "objects" / sha256[:2] / sha256).write_text("bytez")
    assert remote.push(made, again=True)
    assert remote.pull(other, made.key) is not None


def test_a_push_that_breaks_off_leaves_no_record(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote, made = Remote(f"file://{tmp_path}/remote"), artifact(store)
    fs = remote._fs
    moves = iter([True, False])
    real = fs.mv

    def mv(*arguments: Any, **options: Any) -> None:
        if not next(moves):
            raise OSError(28, "No space left on device")
        real(*arguments, **options)

    monkeypatch.setattr(fs, "mv", mv)
    with pytest.raises(StorageError, match="No space left"):
        remote.push(made)
    assert not remote.has(made.key)
    assert not list((tmp_path / "remote").rglob("*.tmp"))


@pytest.mark.parametrize(
    ("url", "error"),
    [("/a/folder", InputError), ("nothing://x", InputError), ("s3://bucket/x", MissingError)],
)
def test_a_url_that_cannot_be_opened_says_why(url: str, error: type[Exception]) -> None:
    if url.startswith("s3"):
        pytest.importorskip("fsspec")
        try:
            import s3fs  # noqa: F401

            pytest.skip("s3fs is installed")
        except ImportError:
            pass
    with pytest.raises(error):
        Remote(url)


def test_a_run_goes_over_a_remote_folder_to_another_machine(
    tuned: Path, dvid: Dvid, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"file://{tmp_path}/there"
    said = dvid("cache", "push", url, "bikes")
    assert [line.split("\t")[0] for line in said.lines] == [
        "extract",
        "depth",
        "tune",
        "invert",
        "run",
    ]
    assert {line.split("\t")[3] for line in dvid("cache", "push", url, "bikes").lines[:-1]} == {
        "there"
    }
    monkeypatch.setenv("DVID_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("DVID_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("DVID_RUN")
    said = dvid("cache", "pull", url)
    assert said.lines[-1].split("\t") == ["run", "bikes", "", "new"]
    assert "invert: cached" in dvid("sample", "bikes", "-p", "a fox", "--base", base).err
    assert "no run named `nobody`" in dvid("cache", "pull", url, "nobody", code=4).err


def test_another_run_of_the_same_name_is_not_replaced_there(
    tuned: Path, dvid: Dvid, tmp_path: Path
) -> None:
    url = f"file://{tmp_path}/there"
    dvid("cache", "push", url, "bikes", "-q")
    dvid("invert", "--steps", "2", "-q")
    assert "another run named `bikes`" in dvid("cache", "push", url, "bikes", code=2).err
    dvid("cache", "push", url, "bikes", "--overwrite", "-q")


def test_damage_there_is_told_by_pull(tuned: Path, dvid: Dvid, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/there"
    dvid("cache", "push", url, "bikes", "-q")
    large = max((tmp_path / "there" / "v1" / "objects").rglob("*"), key=lambda p: p.stat().st_size)
    large.chmod(0o644)
    large.write_bytes(large.read_bytes()[:-1] + b"!")
    shutil.rmtree(tuned / "cache")
    assert "has other bytes" in dvid("cache", "pull", url, code=3).err


def test_a_batch_fetches_what_it_needs_and_sends_what_it_made(
    tuned: Path, dvid: Dvid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"file://{tmp_path}/there"
    Path("jobs.jsonl").write_text(json.dumps({"run": "bikes", "prompts": ["a fox"]}))
    (first,) = dvid("batch", "jobs.jsonl", "--remote", url, "-q").lines
    assert len(list((tmp_path / "there" / "v1" / "actions").rglob("*.json"))) == 5
    monkeypatch.setenv("DVID_CACHE_DIR", str(tmp_path / "cache"))
    said = dvid("batch", "jobs.jsonl", "--remote", url)
    assert "done" not in said.err.replace("render: done", "")
    assert json.loads(said.lines[0])["path"] == json.loads(first)["path"]


def test_a_batch_makes_again_what_is_damaged_there_and_mends_it(
    tuned: Path, dvid: Dvid, tmp_path: Path
) -> None:
    url = f"file://{tmp_path}/there"
    Path("jobs.jsonl").write_text(json.dumps({"run": "bikes", "prompts": ["a fox"]}))
    dvid("batch", "jobs.jsonl", "--remote", url, "-q")
    (sample,) = [e for e in Store.open().entries() if e.stage == "sample"]
    sha256 = sample.outputs["frames"].sha256
    path = tmp_path / "there" / "v1" / "objects" / sha256[:2] / sha256
    whole = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(whole[:-1])
    dvid("cache", "rm", sample.key, "-q")
    said = dvid("batch", "jobs.jsonl", "--remote", url)
    assert "made again" in said.err
    assert path.read_bytes() == whole
