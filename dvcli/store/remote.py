"""Artifacts in a folder somewhere else, through fsspec: `file://`, `s3://`, `gs://` and the like.

The folder is laid out as a store is, `v1/objects/ab/<sha256>` and `v1/actions/ab/<key>.json`, with
`v1/runs/<name>.json` beside. Objects go there first and the record last, so whoever sees a record
finds its objects. Nothing that comes back is believed: a record has to have the key of its own
pre-image, and an object the size and SHA-256 that the record states.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dvcli.errors import InputError, MissingError, StorageError
from dvcli.store import publish, record, workplace
from dvcli.store.record import Artifact, Output

if TYPE_CHECKING:
    from dvcli.store.store import Store

_CHUNK = 1 << 20
_SMALL = 16 * 2**20  # bytes of a record or a run; more is none
# There a file appears whole or not at all, and moving one would copy it.
_WHOLE = {"s3", "s3a", "gs", "gcs", "abfs", "az", "adl", "memory", "oss", "hf"}
_NEEDED = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs"}


class Spoilt(Exception):
    """What lies there is not what a store wrote."""


class Remote:
    """The artifacts in one remote folder. Raises `StorageError` for whatever it is refused."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._fs, root = _opened(url)
        self._home = f"{root.rstrip('/')}/v1"

    def has(self, key: str) -> bool:
        """Whether the record of that key is there."""
        with self._asking():
            return bool(self._fs.exists(self._record(key)))

    def push(self, artifact: Artifact, *, again: bool = False) -> bool:
        """Whether the artifact is new there; it and all its bytes are there now.

        With `again` everything is written anew, as where it was found spoilt.
        """
        key = artifact.key
        with self._asking():
            if self._fs.exists(self._record(key)) and not again:
                return False
            for name, output in artifact.outputs.items():
                target = self._object(output.sha256)
                if again or not self._is_there(target, output.size):
                    self._send(artifact.path(name), target)
            self._write(record.seal(artifact.record), self._record(key))
        return True

    def pull(self, store: "Store", key: str) -> Artifact | None:
        """The artifact of that key, now in the store, every byte of it checked; None if not there.

        Raises `Spoilt` where what is there is damaged, and then the store is as it was.
        """
        with self._asking():
            data = self._read(self._record(key))
            if data is None:
                return None
            try:
                made = record.unseal(data, key)
                record.own_key(made)
            except (record.Damaged, record.Foreign) as problem:
                raise Spoilt(f"the record {key[:12]} {problem}") from None
            self._take(store, made)
        return store.get(key)

    def runs(self) -> list[str]:
        """The names of the runs there."""
        with self._asking():
            try:
                found = self._fs.ls(f"{self._home}/runs", detail=False)
            except FileNotFoundError:
                return []
        names = [str(path).rstrip("/").rpartition("/")[2] for path in found]
        return sorted(name.removesuffix(".json") for name in names if name.endswith(".json"))

    def run(self, name: str) -> bytes | None:
        """The run file of that name, if there is one."""
        with self._asking():
            return self._read(self._run(name))

    def put_run(self, name: str, data: bytes) -> None:
        """The run file is there now, in the place of one of that name."""
        with self._asking():
            self._write(data, self._run(name))

    # Where things are

    def _object(self, sha256: str) -> str:
        return f"{self._home}/objects/{sha256[:2]}/{sha256}"

    def _record(self, key: str) -> str:
        return f"{self._home}/actions/{key[:2]}/{key}.json"

    def _run(self, name: str) -> str:
        if "/" in name or "\\" in name or name in ("", ".", ".."):
            raise InputError(f"{name[:80]!r} cannot be the name of a run")
        return f"{self._home}/runs/{name}.json"

    # Bytes there and back

    def _take(self, store: "Store", made: Mapping[str, object]) -> None:
        place = workplace.within(store, "pull")
        if not place.in_store:
            workplace.end(place)
            raise StorageError(
                f"the cache `{store.root}` cannot take what is pulled",
                hint="`DVID_CACHE_DIR` names another folder",
            )
        try:
            staged = []
            for output in record.outputs_of(made).values():
                path = place.folder / output.sha256
                if not store.holds(output) and not path.exists():
                    self._fetch(output, path)
                staged.append((path, output))
            publish.commit(store, made, staged)
        finally:
            workplace.end(place)

    def _fetch(self, output: Output, path: Path) -> None:
        """The object's bytes, checked while they come."""
        digest, rest = hashlib.sha256(), output.size
        try:
            with self._fs.open(self._object(output.sha256), "rb") as source, path.open("xb") as out:
                while chunk := source.read(min(_CHUNK, rest + 1)):
                    digest.update(chunk)
                    rest -= len(chunk)
                    if rest < 0:
                        break
                    out.write(chunk)
        except FileNotFoundError:
            raise Spoilt(f"the object {output.sha256[:12]} is missing") from None
        if rest or digest.hexdigest() != output.sha256:
            raise Spoilt(f"the object {output.sha256[:12]} has other bytes")

    def _is_there(self, target: str, size: int) -> bool:
        try:
            return bool(self._fs.info(target)["size"] == size)
        except FileNotFoundError:
            return False

    def _read(self, path: str) -> bytes | None:
        try:
            with self._fs.open(path, "rb") as source:
                data: bytes = source.read(_SMALL + 1)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        if len(data) > _SMALL:
            raise Spoilt(f"`{path}` is larger than it can be")
        return data

    def _send(self, path: Path, target: str) -> None:
        def write(out: Any) -> None:
            with path.open("rb") as source:
                while chunk := source.read(_CHUNK):
                    out.write(chunk)

        self._whole(write, target)

    def _write(self, data: bytes, target: str) -> None:
        self._whole(lambda out: out.write(data), target)

    def _whole(self, write: Callable[[Any], object], target: str) -> None:
        """A file that is seen there when all of it is."""
        protocol = self._fs.protocol
        protocols = {protocol} if isinstance(protocol, str) else set(protocol)
        self._fs.makedirs(target.rpartition("/")[0], exist_ok=True)
        if protocols & _WHOLE:
            with self._fs.open(target, "wb") as out:
                write(out)
            return
        passing = f"{target}.{os.urandom(6).hex()}.tmp"
        try:
            with self._fs.open(passing, "wb") as out:
                write(out)
            self._fs.mv(passing, target)
        except BaseException:
            if self._fs.exists(passing):
                self._fs.rm_file(passing)
            raise

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Whatever the file system raises is the storage's refusal: each has errors of its own."""
        try:
            yield
        except (Spoilt, StorageError, MissingError, InputError):
            raise
        except Exception as refused:
            said = str(refused).strip().splitlines() or [type(refused).__name__]
            raise StorageError(
                f"`{self.url}` cannot be used: {said[0][:200]}",
                hint="is it spelled right, are the credentials set, may you write there?",
            ) from refused


def _opened(url: str) -> tuple[Any, str]:
    """(the file system, the folder in it) of a URL."""
    import fsspec

    protocol, colon, _ = url.partition("://")
    if not colon:
        raise InputError(f"`{url}` is no URL", hint="such as file:///shared/dvid or s3://bucket/it")
    try:
        fs, root = fsspec.core.url_to_fs(url)
    except ImportError as missing:
        name = _NEEDED.get(protocol, "its package of fsspec")
        raise MissingError(
            f"`{protocol}://` takes a package that is not installed: {name}",
            hint=f"`pip install {name}`" if protocol in _NEEDED else str(missing),
        ) from None
    except ValueError:
        raise InputError(
            f"`{protocol}://` is no file system that is known here",
            hint="file, s3, gs and what else fsspec knows",
        ) from None
    return fs, str(root)
