"""An archive from elsewhere: read once, checked whole, and only then to be seen in the store.

Nothing in it is believed. Each member has to be the one that the manifest names next, a regular
file of the size and SHA-256 it states; the names are compared, never used as paths. Records have to
have the key of their own pre-image, and objects to be what a record names.
"""

import gzip
import hashlib
import json
import re
import tarfile
import zlib
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from dvcli.errors import InputError, MissingError, StorageError
from dvcli.store import archive, disk, publish, record, workplace
from dvcli.store.archive import BLOCK, Member, Stream
from dvcli.store.record import Output

if TYPE_CHECKING:
    from dvcli.store.store import Store

# A manifest is read as the one spelling that `archive.manifest` gives: any other JSON may unfold to
# twenty times its size in memory.
_BEGIN = re.compile(rb'\{"format":"([^"\\]{1,80})","members":\[')
_MEMBER = re.compile(
    rb'\{"name":("(?:[^"\\]|\\.){1,1000}"),"sha256":"([0-9a-f]{64})","size":([0-9]{1,18})\}'
)
_END = re.compile(rb'\],"schema":([0-9]{1,9})\}\n\Z')
_PADDING_LIMIT = 2**20  # after the last member, for archives that another program wrote anew
_CHUNK = 1 << 20
Fate = Literal["new", "here", "kept", "replaced"]


@dataclass(frozen=True, kw_only=True)
class Arrived:
    """What became of one artifact; `size` in bytes.

    `here`: the store had it. `kept`: the store has another result under this key, which stays;
    `replaced`: it had, and gave way.
    """

    key: str
    stage: str
    size: int
    fate: Fate


class Refused(Exception):
    """Why a file is no intact archive."""


@dataclass
class _Content:
    notice: str = ""
    runs: dict[str, bytes] = field(default_factory=dict)
    records: dict[str, bytes] = field(default_factory=dict)  # whole and of that key
    objects: dict[str, int] = field(default_factory=dict)


class Parcel:
    """An archive that has been checked from end to end; a context, which removes what it staged.

    `runs` and `notice` are what came beside the artifacts. Entering raises `MissingError`,
    `InputError` for whatever is no intact archive of this format, and `StorageError` where the
    store cannot take it; in all of these cases the store is as it was.
    """

    def __init__(self, store: "Store", file: Path) -> None:
        self._store, self._file = store, file
        self._content = _Content()

    def __enter__(self) -> "Parcel":
        self._place = _staging(self._store)
        try:
            self._read()
        except BaseException:
            workplace.end(self._place)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        workplace.end(self._place)

    @property
    def runs(self) -> Mapping[str, bytes]:
        """The run files by name, as they were written."""
        return self._content.runs

    @property
    def notice(self) -> str:
        """The text for the reader."""
        return self._content.notice

    def publish(self, *, overwrite: bool = False) -> list[Arrived]:
        """What became of each artifact, all of them in the store now.

        Where the store has another result under a key it stays, unless `overwrite`.
        """
        return [
            self._publish(_record(data, key), overwrite)
            for key, data in self._content.records.items()
        ]

    def _publish(self, made: Mapping[str, object], overwrite: bool) -> Arrived:
        key, outputs = str(made["key"]), record.outputs_of(made)
        here = self._store.get(key)
        fate: Fate = "new"
        if here is not None:
            fate = "here" if here.outputs == outputs else "replaced" if overwrite else "kept"
        if fate in ("new", "replaced"):
            staged = [(self._place.folder / o.sha256, o) for o in outputs.values()]
            try:
                publish.commit(self._store, made, staged)
            except OSError as refused:
                raise _unstored(self._store, refused) from refused
            if self._store.get(key) is None:
                raise StorageError(
                    f"the artifact {key[:12]} was removed while it came in",
                    hint="the same command again brings in what is missing",
                )
        size = sum(output.size for output in outputs.values())
        return Arrived(key=key, stage=record.stage_of(made), size=size, fate=fate)

    def _read(self) -> None:
        try:
            with self._file.open("rb") as raw:
                packed = raw.read(2) == b"\x1f\x8b"
                raw.seek(0)
                source: Stream = gzip.GzipFile(fileobj=raw, mode="rb") if packed else raw
                self._unpack(source)
        except (FileNotFoundError, NotADirectoryError):
            raise MissingError(
                f"there is no file `{self._file}`", hint="`dvid cache export` writes one"
            ) from None
        except (Refused, EOFError, zlib.error, gzip.BadGzipFile) as reason:
            raise InputError(
                f"`{self._file}` is no intact archive, so nothing was imported: {reason}",
                hint="`dvid cache export` writes one; was it copied whole?",
            ) from None
        except OSError as refused:
            if disk.is_full(refused):
                raise _unstored(self._store, refused) from refused
            raise InputError(f"`{self._file}` cannot be read: {refused.strerror}") from refused

    def _unpack(self, source: Stream) -> None:
        members = _manifest(_small(source, archive.MANIFEST, None))
        if (reason := archive.excess(members)) is not None:
            raise Refused(reason)
        need = sum(m.size for m in members if m.name.startswith("objects/"))
        room = _room(self._place.folder)
        if need > room:
            raise _unstored(self._store, f"it takes {need} bytes and {room} are free")
        for member in members:
            self._take(source, member)
        rest = _exactly(source, 2 * BLOCK) + source.read(_PADDING_LIMIT)
        if rest.strip(b"\0") or source.read(1):
            raise Refused("something follows its last member")
        self._check()

    def _take(self, source: Stream, member: Member) -> None:
        content = self._content
        folder, _, name = member.name.rpartition("/")
        if folder == "objects":
            _next(source, member.name, member.size)
            self._stage(source, member)
            content.objects[name] = member.size
            return
        data = _small(source, member.name, member)
        if folder == "actions":
            key = name.removesuffix(".json")
            _record(data, key)
            content.records[key] = data
        elif folder == "runs":
            content.runs[name.removesuffix(".json")] = data
        else:
            content.notice = data.decode(errors="replace")

    def _stage(self, source: Stream, member: Member) -> None:
        """The object lies in the folder of this parcel, unless the store has it."""
        held = self._store.holds(Output(sha256=member.sha256, size=member.size))
        digest, rest = hashlib.sha256(), member.size
        with nullcontext() if held else (self._place.folder / member.sha256).open("xb") as out:
            while rest:
                chunk = _exactly(source, min(rest, _CHUNK))
                digest.update(chunk)
                rest -= len(chunk)
                if out is not None:
                    out.write(chunk)
        _padding(source, member)
        if digest.hexdigest() != member.sha256:
            raise Refused(f"`{member.name}` has other bytes than its manifest says")

    def _check(self) -> None:
        named: dict[str, int] = {}
        for key, data in self._content.records.items():
            for name, output in record.outputs_of(_record(data, key)).items():
                if self._content.objects.get(output.sha256) != output.size:
                    raise Refused(f"`{name}` of the artifact {key[:12]} is not in it")
                named[output.sha256] = output.size
        if self._content.objects.keys() - named.keys():
            raise Refused("it has an object that no artifact names")


def _staging(store: "Store") -> workplace.Workplace:
    before = len(store.failures)
    place = workplace.within(store, "import")
    if place.in_store:
        return place
    workplace.end(place)
    if store.failures[before:]:
        raise store.failures.pop()
    raise StorageError(
        f"the cache `{store.root}` is read-only, so nothing can be imported",
        hint="`DVID_CACHE_DIR` names another folder",
    )


def _unstored(store: "Store", reason: OSError | str) -> StorageError:
    said = reason if isinstance(reason, str) else reason.strerror or str(reason)
    return StorageError(
        f"the cache `{store.root}` cannot take the archive: {said}",
        hint="`dvid cache gc` makes room, `DVID_CACHE_DIR` names another folder",
    )


def _room(folder: Path) -> int:
    import shutil

    return shutil.disk_usage(folder).free


def _manifest(data: bytes) -> list[Member]:
    """The members to come. Every name is one of four forms, and none comes twice."""
    begin, end = _BEGIN.match(data), _END.search(data, max(len(data) - 32, 0))
    if begin is None or end is None:
        raise Refused("its manifest cannot be read")
    form, schema = begin[1].decode(errors="replace"), int(end[1])
    if form != archive.FORMAT:
        raise Refused(f"its manifest is of `{form}`")
    if schema != archive.SCHEMA:
        raise Refused(f"its format is {schema}, this version reads {archive.SCHEMA}")
    members: list[Member] = []
    place = begin.end()
    while place < end.start():
        found = _MEMBER.match(data, place + bool(members), end.start())
        if found is None or (members and data[place : place + 1] != b","):
            raise Refused("its manifest cannot be read")
        members.append(_told(found))
        place = found.end()
    for member in members:
        if not _lawful(member):
            raise Refused(f"its manifest names {str(member.name)[:80]!r}")
    if len({member.name for member in members}) != len(members):
        raise Refused("its manifest names something twice")
    return members


def _told(found: re.Match[bytes]) -> Member:
    try:
        name = json.loads(found[1])
    except ValueError:
        raise Refused("its manifest cannot be read") from None
    return Member(name=name, size=int(found[3]), sha256=found[2].decode())


def _lawful(member: Member) -> bool:
    folder, _, name = member.name.rpartition("/")
    match folder:
        case "objects":
            return record.is_digest(name) and name == member.sha256
        case "actions":
            return name.endswith(".json") and record.is_digest(name.removesuffix(".json"))
        case "runs":
            return name.endswith(".json") and "\0" not in name
        case "":
            return name == archive.NOTICE
    return False


def _record(data: bytes, key: str) -> dict[str, object]:
    try:
        made = record.unseal(data, key)
        record.own_key(made)
    except (record.Damaged, record.Foreign) as problem:
        raise Refused(f"the record {key[:12]} {problem}") from None
    return made


def _small(source: Stream, name: str, member: Member | None) -> bytes:
    """The bytes of the member that comes next, checked if the manifest has told of it."""
    size = _next(source, name, None if member is None else member.size)
    if member is None and size > archive.MANIFEST_LIMIT:
        raise Refused(f"`{name}` is larger than it can be")
    data = _exactly(source, size)
    _padding(source, Member(name=name, size=size, sha256=""))
    if member is not None and hashlib.sha256(data).hexdigest() != member.sha256:
        raise Refused(f"`{name}` has other bytes than its manifest says")
    return data


def _next(source: Stream, name: str, size: int | None) -> int:
    """The size of the member that comes next, which is the regular file of that name and size."""
    try:
        # Only this one header is parsed, so no extension of tar can make anybody read or follow it.
        found = tarfile.TarInfo.frombuf(_exactly(source, BLOCK), "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        raise Refused(f"`{name}` is not where it belongs") from None
    if found.name != name:
        raise Refused(f"it has {found.name[:80]!r} where `{name}` belongs")
    if found.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        raise Refused(f"`{name}` is not a regular file")
    if found.size < 0 or (size is not None and found.size != size):
        raise Refused(f"`{name}` has another size than its manifest says")
    return found.size


def _padding(source: Stream, member: Member) -> None:
    if any(_exactly(source, -member.size % BLOCK)):
        raise Refused(f"something follows the end of `{member.name}`")


def _exactly(source: Stream, count: int) -> bytes:
    data = source.read(count)
    while len(data) < count:
        more = source.read(count - len(data))
        if not more:
            raise Refused("it ends too early")
        data += more
    return data
