"""Artifacts as one file, to be carried to another store: a plain tar, or one in gzip.

The first member, `manifest.json`, lists the others in their order with size and SHA-256: a
`NOTICE.txt` for the reader, `runs/<name>.json`, `actions/<key>.json` and `objects/<sha256>`. All
are regular files without owner or date, so the same content is the same bytes. `Parcel` reads it.
"""

import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeAlias

from dvcli.errors import MissingError, StorageError, UsageError
from dvcli.store import disk, keys, record

if TYPE_CHECKING:
    from dvcli.store.store import Store

FORMAT, SCHEMA = "dvid archive", 1
MANIFEST, NOTICE = "manifest.json", "NOTICE.txt"
BLOCK = tarfile.BLOCKSIZE
Stream: TypeAlias = IO[bytes] | gzip.GzipFile
# What is held in memory while an archive is read: much more than anybody's runs and records take,
# and far less than a small file can be made to unfold to. Bytes of one, by its folder, and of all.
MANIFEST_LIMIT = 32 * 2**20
LIMITS = {"runs": 2**20, "actions": 4 * 2**20, "": 4 * 2**20}
ALL_LIMIT = 64 * 2**20
_GZIP = (".tar.gz", ".tgz")
_CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One file of an archive; `size` in bytes."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Packed:
    """What an archive came to: how many artifacts and files, and the bytes of the archive."""

    artifacts: int
    objects: int
    bytes: int


def check_name(target: Path) -> None:
    """Refuse, before any work, a target that does not say which kind of file it is to be."""
    if not target.name.lower().endswith((".tar", *_GZIP)):
        raise UsageError(
            f"`{target}` is no name for an archive", hint="it ends in `.tar`, `.tar.gz` or `.tgz`"
        )


def export(
    store: "Store",
    wanted: Sequence[str],
    runs: Mapping[str, bytes],
    notice: str,
    target: Path,
    *,
    overwrite: bool = False,
) -> Packed:
    """Write the artifacts of those keys, the run files and the notice to `target`, whole or not.

    Every byte is hashed on its way. Raises `MissingError` for a key that is not in the store,
    `StorageError` where the disk refuses or an object turns out damaged, and `UsageError` where
    another file is in the way.
    """
    check_name(target)
    small = {NOTICE: notice.encode()}
    small |= {f"runs/{name}.json": data for name, data in sorted(runs.items())}
    objects: dict[str, int] = {}
    for key in sorted(set(wanted)):
        artifact = store.get(key)
        if artifact is None:
            raise MissingError(
                f"the artifact {key[:12]} is not in the cache", hint="`dvid cache ls` lists them"
            )
        small[f"actions/{key}.json"] = record.seal(artifact.record)
        objects |= {output.sha256: output.size for output in artifact.outputs.values()}
    members = [
        Member(name=name, size=len(data), sha256=hashlib.sha256(data).hexdigest())
        for name, data in small.items()
    ]
    members += [
        Member(name=f"objects/{sha256}", size=objects[sha256], sha256=sha256)
        for sha256 in sorted(objects)
    ]
    head = manifest(members)
    if len(head) > MANIFEST_LIMIT or excess(members) is not None:
        raise UsageError(
            f"{len(members)} files are more than one archive holds",
            hint="export runs one by one, or with `dvid cache push`",
        )
    with _whole(target, overwrite) as out:
        _add(out, MANIFEST, len(head), io.BytesIO(head))
        for member in members:
            if member.name in small:
                _add(out, member.name, member.size, io.BytesIO(small[member.name]))
            else:
                _add_object(out, store, member)
        out.write(b"\0" * 2 * BLOCK)
    return Packed(artifacts=len(set(wanted)), objects=len(objects), bytes=target.stat().st_size)


def manifest(members: Sequence[Member]) -> bytes:
    """The first member: what the others are, in their order."""
    listed = [{"name": m.name, "size": m.size, "sha256": m.sha256} for m in members]
    return keys.canonical({"format": FORMAT, "schema": SCHEMA, "members": listed}) + b"\n"


def excess(members: Sequence[Member]) -> str | None:
    """What is too large among all that is no object; None where nothing is."""
    total = 0
    for member in members:
        folder = member.name.rpartition("/")[0]
        if folder == "objects":
            continue
        total += member.size
        if member.size > LIMITS[folder]:
            return f"`{member.name}` is larger than it can be"
        if total > ALL_LIMIT:
            return "its runs and records are more than one archive holds"
    return None


def header(name: str, size: int) -> bytes:
    """The 512 bytes before a regular file: no owner, no date, read-only."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o444
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict")


def _add(out: Stream, name: str, size: int, source: IO[bytes]) -> str:
    """SHA-256 of the member that was written."""
    out.write(header(name, size))
    digest, rest = hashlib.sha256(), size
    while rest and (chunk := source.read(min(rest, _CHUNK))):
        out.write(chunk)
        digest.update(chunk)
        rest -= len(chunk)
    out.write(b"\0" * (-size % BLOCK))
    return digest.hexdigest() if not rest else "cut off"


def _add_object(out: Stream, store: "Store", member: Member) -> None:
    path = store.object_path(member.sha256)
    try:
        with path.open("rb") as source:
            found = _add(out, member.name, member.size, source)
    except FileNotFoundError:
        found = "gone"
    if found != member.sha256:
        store.quarantine(path)
        raise StorageError(
            f"the object {member.sha256[:12]} is damaged, so nothing was exported",
            hint="`dvid cache verify --repair` says what has to be made again",
        )


@contextmanager
def _whole(target: Path, overwrite: bool) -> Iterator[Stream]:
    """A file that takes the target's place when all of it is on the disk."""
    import tempfile

    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=".dvid-", suffix=".tar")
        temporary = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            if target.name.lower().endswith(_GZIP):
                # Neither name nor date in its header, so that the bytes stay the same.
                with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
                    yield packed
            else:
                yield file
            file.flush()
            os.fsync(file.fileno())
        if os.path.lexists(target) and not overwrite:
            _same_or_refuse(temporary, target)
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(target)
        disk.sync(target.parent)
    except OSError as refused:
        raise StorageError(
            f"`{target}` cannot be written: {refused.strerror or refused}",
            hint="`-o` names another place",
        ) from refused
    finally:
        if temporary is not None:
            disk.discard(temporary)


def _same_or_refuse(made: Path, target: Path) -> None:
    if target.is_file():
        with made.open("rb") as new, target.open("rb") as old:
            if disk.digest(new) == disk.digest(old):
                return
    raise UsageError(
        f"`{target}` exists and is a different file",
        hint="`--overwrite` replaces it, `-o` names another",
    )
