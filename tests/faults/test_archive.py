"""Archives of artifacts: what goes out comes in, and of a harmed one nothing does."""

import gzip
import hashlib
import io
import json
import random
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from faults import counts, goods
from faults.watched import Failing, watched
from program import Dvid

from dvcli.errors import InputError, MissingError, StorageError, UsageError
from dvcli.store import Store, archive, record
from dvcli.store.archive import Member
from dvcli.store.parcel import Parcel

NUMBERS = range(4)
pytestmark = pytest.mark.usefixtures("unflushed")
Members = list[tuple[str, bytes]]


@pytest.fixture
def source(tmp_path: Path) -> Store:
    store = Store.open(tmp_path / "there")
    for n in NUMBERS:
        goods.put(store, n)
    return store


@pytest.fixture
def here(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "here" / "cache")


def pack(source: Store, target: Path, numbers: "range | list[int]" = NUMBERS) -> Path:
    archive.export(source, [goods.key(n) for n in numbers], {"bear": b"{}"}, "terms", target)
    return target


def unpack(store: Store, file: Path) -> list[str]:
    with Parcel(store, file) as parcel:
        return [part.fate for part in parcel.publish()]


def untouched(store: Store) -> bool:
    """Whether nothing is in the store, in its temporary folder, or beside it."""
    found = {p.relative_to(store.root.parent).as_posix() for p in store.root.parent.rglob("*")}
    return found <= {"cache", "cache/v1", "cache/v1/CACHEDIR.TAG", "cache/v1/tmp"}


@pytest.mark.parametrize("name", ["all.tar", "all.tar.gz", "all.tgz"])
def test_what_is_exported_is_imported_elsewhere(
    source: Store, here: Store, tmp_path: Path, name: str
) -> None:
    file = pack(source, tmp_path / name)
    with Parcel(here, file) as parcel:
        assert parcel.notice == "terms"
        assert dict(parcel.runs) == {"bear": b"{}"}
        assert here.entries() == []
        assert [part.fate for part in parcel.publish()] == ["new"] * len(NUMBERS)
    assert goods.check(here, NUMBERS) == len(NUMBERS)
    assert here.verify().whole
    assert unpack(here, file) == ["here"] * len(NUMBERS)
    assert list((here.home / "tmp").iterdir()) == []


@pytest.mark.parametrize("name", ["one.tar", "one.tar.gz"])
def test_the_same_artifacts_are_the_same_archive(source: Store, tmp_path: Path, name: str) -> None:
    one = pack(source, tmp_path / name).read_bytes()
    assert pack(source, tmp_path / f"other-{name}", [3, 2, 1, 0, 0]).read_bytes() == one
    with Store.open(tmp_path / "copy") as copy:
        unpack(copy, tmp_path / name)
        assert pack(copy, tmp_path / f"copy-{name}").read_bytes() == one


def test_a_store_that_has_a_part_takes_the_rest_and_heals(
    source: Store, here: Store, tmp_path: Path
) -> None:
    file = pack(source, tmp_path / "all.tar")
    goods.put(here, 1)
    path = goods.put(here, 3).path("frames")
    path.chmod(0o644)
    path.write_bytes(b"harm")
    with Parcel(here, file) as parcel:
        fates = {part.key: part.fate for part in parcel.publish()}
    assert [fates[goods.key(n)] for n in NUMBERS] == ["new", "here", "new", "new"]
    assert goods.check(here, NUMBERS) == len(NUMBERS)


def test_another_result_of_the_same_key_stays_unless_it_is_to_be_replaced(
    source: Store, here: Store, tmp_path: Path
) -> None:
    file = pack(source, tmp_path / "all.tar")
    with here.draft(goods.asked(2)) as draft:
        draft.path("frames").write_bytes(b"of another device")
        draft.publish()
    with Parcel(here, file) as parcel:
        assert sorted(part.fate for part in parcel.publish()) == ["kept", "new", "new", "new"]
        assert here.get(goods.key(2)).path("frames").read_bytes() == b"of another device"  # type: ignore[union-attr]
        fates = [part.fate for part in parcel.publish(overwrite=True)]
        assert sorted(fates) == ["here", "here", "here", "replaced"]
    assert goods.check(here, NUMBERS) == len(NUMBERS)


def test_a_truncated_archive_is_refused_wherever_it_ends(
    source: Store, here: Store, tmp_path: Path
) -> None:
    for name in ("all.tar", "all.tar.gz"):
        whole = pack(source, tmp_path / name, [1, 2]).read_bytes()
        dice = random.Random(counts.SEED)
        ends = [0, 1, 511, 512, len(whole) - 1024, len(whole) - 1]
        ends += [dice.randrange(len(whole)) for _ in range(counts.count("archives") // 2)]
        for end in ends:
            (tmp_path / name).write_bytes(whole[:end])
            with pytest.raises(InputError, match="nothing was imported"):
                unpack(here, tmp_path / name)
            assert untouched(here)
        counts.tally("archives", truncated=len(ends))


def test_a_harmed_archive_is_refused_or_means_the_same(source: Store, tmp_path: Path) -> None:
    """Zeros over padding change nothing; wrong bytes never come in."""
    whole = pack(source, tmp_path / "all.tar", [0, 1, 2]).read_bytes()
    dice = random.Random(counts.SEED)
    refused = changed = 0
    for turn in range(counts.count("archives")):
        data = bytearray(whole)
        for _ in range(dice.choice((1, 1, 1, 3, 50))):
            data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        if dice.random() < 0.2:
            start = dice.randrange(len(data))
            data[start : start + 512] = bytes(len(data[start : start + 512]))
        changed += bytes(data) != whole
        packed = bytes(data) if turn % 3 else gzip.compress(bytes(data), 1)
        (tmp_path / "harmed.tar").write_bytes(packed)
        with Store.open(tmp_path / str(turn) / "cache") as store:
            try:
                unpack(store, tmp_path / "harmed.tar")
            except InputError:
                refused += 1
                assert untouched(store)
            else:
                assert goods.check(store, [0, 1, 2]) == 3
            assert store.verify().whole
    assert refused == changed
    counts.tally("archives", harmed=counts.count("archives"), refused=refused)


# Archives that somebody made to do harm. Each starts from the members of a good one.


def members_of(file: Path) -> Members:
    with tarfile.open(file) as tar:
        return [(info.name, tar.extractfile(info).read()) for info in tar]  # type: ignore[union-attr]


def relisted(members: Members) -> Members:
    """With a manifest that tells of the members as they are."""
    rest = [(name, data) for name, data in members if name != archive.MANIFEST]
    told = [
        Member(name=name, size=len(data), sha256=hashlib.sha256(data).hexdigest())
        for name, data in rest
    ]
    return [(archive.MANIFEST, archive.manifest(told)), *rest]


def written(members: Members, change: Callable[[tarfile.TarInfo], None] | None = None) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            if change is not None:
                change(info)
            tar.addfile(info, io.BytesIO(data) if info.isreg() else None)
    return out.getvalue()


def renamed(members: Members, new: str) -> Members:
    return [(new if name.startswith("objects/") else name, data) for name, data in members]


def resealed(members: Members, change: Callable[[dict[str, object]], None]) -> Members:
    """With the first record changed and sealed again, as one who knows the format would."""
    found: Members = []
    for name, data in members:
        if name.startswith("actions/"):
            made = {k: v for k, v in json.loads(data).items() if k != "check"}
            change(made)
            data = record.seal(made)
        found.append((name, data))
    return relisted(found)


def set_output(**values: object) -> Callable[[dict[str, object]], None]:
    def change(made: dict[str, object]) -> None:
        outputs = made["outputs"]
        assert isinstance(outputs, dict)
        outputs["frames"] = {**outputs["frames"], **values}

    return change


def link(kind: bytes, target: str) -> Callable[[tarfile.TarInfo], None]:
    def change(info: tarfile.TarInfo) -> None:
        if info.name.startswith("objects/"):
            info.type, info.linkname, info.size = kind, target, 0

    return change


def extended(info: tarfile.TarInfo) -> None:
    if info.name.startswith("objects/"):
        info.type, info.size = tarfile.XHDTYPE, 2**40


def bomb(members: Members) -> bytes:
    """A gzip of a little that becomes 200 MB, behind members as they should be."""
    good = written(members)
    return gzip.compress(good.rstrip(b"\0") + bytes(200_000_000), 1)


def empty(value: bytes, count: int = 1000) -> bytes:
    """A manifest whose members are so many values that say nothing."""
    values = b",".join([value] * count)
    return b'{"format":"dvid archive","members":[%s],"schema":1}\n' % values


def many_runs() -> bytes:
    """A manifest of 65 runs of a megabyte each."""
    told = [Member(name=f"runs/{n}.json", size=2**20, sha256="0" * 64) for n in range(65)]
    return archive.manifest(told)


HOSTILE: dict[str, Callable[[Members], bytes]] = {
    "a name that climbs": lambda m: written(renamed(m, "../../../escaped")),
    "a listed name that climbs": lambda m: written(relisted(renamed(m, "objects/../../escaped"))),
    "an absolute name": lambda m: written(relisted(renamed(m, "/tmp/escaped"))),
    "a run that climbs": lambda m: written(relisted([*m, ("runs/../../x.json", b"{}")])),
    "a symlink": lambda m: written(m, link(tarfile.SYMTYPE, "/etc/passwd")),
    "a hard link": lambda m: written(m, link(tarfile.LNKTYPE, "actions")),
    "a device": lambda m: written(m, link(tarfile.CHRTYPE, "")),
    "a pipe": lambda m: written(m, link(tarfile.FIFOTYPE, "")),
    "a folder": lambda m: written(m, link(tarfile.DIRTYPE, "")),
    "an extended header of a terabyte": lambda m: written(m, extended),
    "a member twice": lambda m: written([*m, m[-1]]),
    "a listed member twice": lambda m: written(relisted([*m, m[-1]])),
    "an unlisted member": lambda m: written([*m, ("objects/" + "0" * 64, b"x")]),
    "a missing member": lambda m: written(m[:-1]),
    "a missing object": lambda m: written(relisted(m[:-1])),
    "an object nobody names": lambda m: written(
        relisted([*m, ("objects/" + hashlib.sha256(b"x").hexdigest(), b"x")])
    ),
    "members in another order": lambda m: written([m[0], *reversed(m[1:])]),
    "no manifest": lambda m: written(m[1:]),
    "an empty manifest": lambda m: written([(archive.MANIFEST, b""), *m[1:]]),
    "a manifest nested too deep": lambda m: written([(archive.MANIFEST, b"[" * 99_999), *m[1:]]),
    "a manifest of another format": lambda m: written(
        [(m[0][0], m[0][1].replace(b"dvid archive", b"other format")), *m[1:]]
    ),
    "a later format": lambda m: written(
        [(m[0][0], m[0][1].replace(b'"schema":1', b'"schema":2')), *m[1:]]
    ),
    "a size that is no number": lambda m: written(
        [(m[0][0], m[0][1].replace(b'"size":', b'"size":-')), *m[1:]]
    ),
    "a record of other bytes": lambda m: written(resealed(m, set_output(sha256="0" * 64))),
    "a record of another size": lambda m: written(resealed(m, set_output(size=5))),
    "a record that climbs": lambda m: written(resealed(m, set_output(sha256="../../../../x"))),
    "a record without outputs": lambda m: written(resealed(m, lambda r: r.update(outputs={}))),
    "a record without a stage": lambda m: written(resealed(m, lambda r: r.update(preimage={}))),
    "a record of another question": lambda m: written(
        resealed(m, lambda r: r.update(preimage={**r["preimage"], "version": 2}))  # type: ignore[dict-item]
    ),
    "a record of a later format": lambda m: written(resealed(m, lambda r: r.update(schema=2))),
    "a bomb": bomb,
    "a run of megabytes": lambda m: written(relisted([*m, ("runs/x.json", b" " * (2**20 + 1))])),
    "more runs than memory": lambda m: written([(archive.MANIFEST, many_runs()), *m[1:]]),
    "a manifest of empty objects": lambda m: written([(archive.MANIFEST, empty(b"{}")), *m[1:]]),
    "a manifest of empty lists": lambda m: written([(archive.MANIFEST, empty(b"[]")), *m[1:]]),
    "a manifest in another spelling": lambda m: written(
        [(m[0][0], m[0][1].replace(b'"size":', b'"size": ')), *m[1:]]
    ),
    "a manifest with a name that is no text": lambda m: written(
        [(m[0][0], m[0][1].replace(b'"name":"', b'"name":"\\ud')), *m[1:]]
    ),
    "members without a comma": lambda m: written(
        [(m[0][0], m[0][1].replace(b"},{", b"};{")), *m[1:]]
    ),
    "bytes behind its end": lambda m: written(m) + b"x",
    "nothing": lambda m: b"",
    "a tar of nothing": lambda m: written([]),
    "noise": lambda m: random.Random(0).randbytes(5000),
    "gzip of noise": lambda m: b"\x1f\x8b" + random.Random(0).randbytes(5000),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_archive_is_refused_and_nothing_of_it_is_anywhere(
    source: Store, here: Store, tmp_path: Path, what: str
) -> None:
    good = members_of(pack(source, tmp_path / "good.tar", [3]))
    file = tmp_path / "hostile.tar"
    file.write_bytes(HOSTILE[what](good))
    before = sorted(str(p) for p in tmp_path.rglob("*"))
    with pytest.raises(InputError, match="nothing was imported") as refused:
        unpack(here, file)
    assert refused.value.exit_code == 3
    assert sorted(str(p) for p in tmp_path.rglob("*") if "here/cache/v1/tmp" not in str(p)) == [
        path for path in before if "here/cache/v1/tmp" not in path
    ]
    assert untouched(here)


@pytest.mark.parametrize("what", ["runs", "empty objects", "empty lists", "members"])
def test_a_small_archive_takes_little_memory_whatever_it_unfolds_to(
    tmp_path: Path, what: str
) -> None:
    """Each of these once took a gigabyte and more."""
    file, data = tmp_path / "small.tar.gz", b" " * (16 * 2**20)
    members: Members
    if what == "runs":
        members = relisted([(f"runs/{n}.json", data) for n in range(2)])
    elif what == "members":
        told = [
            Member(name=f"actions/{n:064x}.json", size=1, sha256="0" * 64) for n in range(190_000)
        ]
        members = [(archive.MANIFEST, archive.manifest(told))]
    else:
        members = [(archive.MANIFEST, empty(b"{}" if "objects" in what else b"[]", 11 * 10**6))]
    with gzip.open(file, "wb", compresslevel=1) as out:
        for name, content in members:
            archive._add(out, name, len(content), io.BytesIO(content))
    program = (
        "import re, sys; from pathlib import Path; from dvcli.cli.main import main;"
        "code = main(['cache', 'import', sys.argv[1]]);"
        "print(code, re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])"
    )
    if not Path("/proc/self/status").exists():
        pytest.skip("the most memory of a process is read from Linux's `/proc`")
    said = subprocess.run(
        [sys.executable, "-c", program, str(file)], capture_output=True, text=True, timeout=100
    )
    code, most = map(int, said.stdout.split())
    assert code == 3, said.stderr
    assert file.stat().st_size < 2**20 * 3
    assert most < 300 * 1024  # KiB


def test_what_import_would_refuse_for_its_size_is_not_exported(
    source: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "ALL_LIMIT", 1000)
    with pytest.raises(UsageError, match="more than one archive holds"):
        pack(source, tmp_path / "all.tar")
    assert not (tmp_path / "all.tar").exists()


def test_an_archive_that_tar_has_written_anew_is_taken(
    source: Store, here: Store, tmp_path: Path
) -> None:
    good = members_of(pack(source, tmp_path / "good.tar"))
    (tmp_path / "anew.tar").write_bytes(written(good))
    assert unpack(here, tmp_path / "anew.tar") == ["new"] * len(NUMBERS)


def test_wherever_the_disk_refuses_an_import_it_is_all_or_nothing_of_each_artifact(
    source: Store, tmp_path: Path
) -> None:
    file = pack(source, tmp_path / "all.tar")
    first = 0
    while True:
        first += 1
        root = tmp_path / str(first)
        root.mkdir()
        failing = Failing(28, first, ever=first % 2 == 0)
        with watched(root, failing), suppress(StorageError), Store.open(root / "cache") as store:
            unpack(store, file)
        with Store.open(root / "cache") as store:
            assert store.verify().whole
            goods.check(store, NUMBERS)
            unpack(store, file)
            assert goods.check(store, NUMBERS) == len(NUMBERS)
        if failing.calls < first:
            break
    assert first > 50


def test_an_archive_with_no_room_for_it_is_refused_before_it_is_read(
    source: Store, here: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = pack(source, tmp_path / "all.tar")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=17 * 2**20))
    monkeypatch.setattr("dvcli.store.parcel._room", lambda _: 1000)
    with pytest.raises(StorageError, match="1000 are free"):
        unpack(here, file)
    assert untouched(here)


def test_what_is_damaged_is_not_exported(source: Store, tmp_path: Path) -> None:
    path = source.object_path(source.get(goods.key(3)).outputs["frames"].sha256)  # type: ignore[union-attr]
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    source.memo.vouch(path, path.name)
    with pytest.raises(StorageError, match="damaged, so nothing was exported"):
        pack(source, tmp_path / "all.tar")
    assert [p.name for p in tmp_path.iterdir()] == ["there"]
    with pytest.raises(MissingError, match="is not in the cache"):
        pack(source, tmp_path / "all.tar")


def test_another_file_in_the_way_of_an_archive_stays(source: Store, tmp_path: Path) -> None:
    file = tmp_path / "all.tar"
    file.write_text("mine")
    with pytest.raises(UsageError, match="different file"):
        pack(source, file)
    assert file.read_text() == "mine"
    with pytest.raises(UsageError, match="no name for an archive"):
        pack(source, tmp_path / "all.zip")
    archive.export(source, [goods.key(0)], {}, "", file, overwrite=True)
    assert tarfile.is_tarfile(file)


def test_a_run_goes_to_another_machine_and_sampling_goes_on_there(
    dvid: Dvid, tuned: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing up to the inversion is made again, and the clip is the same, byte for byte."""
    dvid("sample", "-p", "a fox", "-o", "there.mp4", "--no-metadata")
    right = Path("there.mp4").read_bytes()
    said = dvid("cache", "export", "bikes", "-o", str(tmp_path / "bikes.tar"))
    assert said.lines == [str(tmp_path / "bikes.tar")]
    assert str(tuned).encode() not in (tmp_path / "bikes.tar").read_bytes()
    monkeypatch.delenv("DVID_RUN")
    monkeypatch.setenv("DVID_CACHE_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("DVID_STATE_DIR", str(tmp_path / "state"))
    said = dvid("cache", "import", str(tmp_path / "bikes.tar"))
    stages = [line.split("\t")[0] for line in said.lines]
    assert (sorted(stages[:-1]), stages[-1]) == (["depth", "extract", "invert", "tune"], "run")
    plan = dvid("sample", "-p", "a fox", "-n", "--base", str(base)).lines
    assert [line.split("\t")[:2] for line in plan][:4] == [
        [stage, "hit"] for stage in ("extract", "depth", "tune", "invert")
    ]
    dvid("sample", "-p", "a fox", "-o", "here.mp4", "--no-metadata", "--base", str(base))
    assert Path("here.mp4").read_bytes() == right
    assert dvid("cache", "import", str(tmp_path / "bikes.tar")).lines[-1] == "run\tbikes\t\there"


def test_a_run_of_a_name_that_is_taken_comes_under_the_next(
    dvid: Dvid, tuned: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvcli.runs import Run, Runs

    dvid("cache", "export", "bikes", "-o", "bikes.tar.gz")
    monkeypatch.setenv("DVID_STATE_DIR", str(tmp_path / "state"))
    Runs.open().save(Run(name="bikes", cwd=str(Path.cwd())))
    for fate in ("new", "here"):
        said = dvid("cache", "import", "bikes.tar.gz")
        assert said.lines[-1] == f"run\tbikes-2\t\t{fate}"
        assert "a run named `bikes` is here already" in said.err
    found = Runs.open().get("bikes-2")
    assert (found.clip, found.cwd, found.sources) == ("bikes.mp4", str(Path.cwd()), {})


def test_the_command_says_what_it_cannot_export_or_import(
    dvid: Dvid, tuned: Path, tmp_path: Path
) -> None:
    assert "neither a run nor" in dvid("cache", "export", "nix", "-o", "x.tar", code=4).err
    assert "no name for an archive" in dvid("cache", "export", "-o", "x.zip", code=2).err
    assert "there is no file" in dvid("cache", "import", "x.tar", code=4).err
    Path("x.tar").write_text("x")
    assert "ends too early" in dvid("cache", "import", "x.tar", code=3).err
    key = next(line.split("\t")[0] for line in dvid("cache", "ls").lines if "invert" in line)
    assert dvid("cache", "export", key, "-o", "key.tar").lines == ["key.tar"]
    assert dvid("cache", "export", "-o", "all.tar").lines == ["all.tar"]
    dvid("cache", "rm", key)
    said = dvid("cache", "export", "bikes", "-o", "bikes.tar", code=4)
    assert "the invert of the run `bikes` is not in the cache any more" in said.err


def test_a_run_in_an_archive_that_is_none_brings_nothing(
    dvid: Dvid, home: Path, source: Store
) -> None:
    pack(source, Path("all.tar"))
    assert "cannot be read" in dvid("cache", "import", "all.tar", code=3).err
    assert dvid("cache", "ls").lines == []
    assert dvid("runs").lines == []


def test_an_empty_cache_has_nothing_to_export(dvid: Dvid, home: Path) -> None:
    assert "nothing to export" in dvid("cache", "export", "-o", "x.tar", code=4).err
