"""What a stage reads from outside is what its key says, when it is read and until it is published.

A key is made of digests that were taken earlier, and a clip or a weight file may be replaced since.
So each input is compared with its digest when it is located, and looked at again before anything
that was made of it is kept. Networks on the CPU are read where they lie on the disk for as long as
they are used, so it is looked at even if it was read long ago.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from dvcli.errors import InputError, MissingError
from dvcli.models.fingerprint import DATA, SETTINGS, checkpoint, component
from dvcli.recipes import Digest
from dvcli.runtime import Look, Runtime
from dvcli.video.digest import IMAGE_SUFFIXES, source_digest

_MATTER = (*IMAGE_SUFFIXES, ".safetensors", ".safetensors.index.json")
_UNFIT = (InputError, MissingError, OSError)


class Outside:
    """The inputs of one stage that come from outside the store."""

    def __init__(
        self, runtime: Runtime, digests: Iterable[Digest], digest_file: Callable[[Path], Digest]
    ) -> None:
        self._runtime, self._digests, self._digest_file = runtime, list(digests), digest_file
        self._read: set[Digest] = set()  # since the last look

    def locate(self, digest: Digest) -> Path:
        """Where the content with this digest is now.

        Raises what the runtime's own `locate` does, and `InputError` where other content is there.
        """
        path = self._runtime.locate(digest)
        if digest not in self._read:
            now = look(path)
            if self._runtime.shelf.read.get(digest) != now:
                if not self._holds(path, digest):
                    raise self._changed(digest, path)
                self._runtime.shelf.read[digest] = now
            self._read.add(digest)
        return path

    def require(self) -> None:
        """Raise `InputError` unless every input that was read is as it was when it was read."""
        for digest in self._digests:
            before = self._runtime.shelf.read.get(digest)
            if before is None or look(before.path) == before:
                continue
            # What was put back may have been something else while it was read; what was read
            # before the last look may have got a new name or new rights.
            if digest in self._read or not self._holds(before.path, digest):
                raise self._changed(digest, before.path)
            self._runtime.shelf.read[digest] = look(before.path)
        self._read.clear()

    def _holds(self, path: Path, digest: Digest) -> bool:
        return any(found == digest for found in _contents(path, self._digest_file))

    def _changed(self, digest: Digest, path: Path) -> InputError:
        self._runtime.shelf.clear()  # what was loaded from it is not what it is taken for
        self._runtime.shelf.read.pop(digest, None)
        return InputError(
            f"`{path}` was changed while it was in use, so nothing that was made of it is kept",
            hint="run the same command again once nothing writes there",
        )


def look(path: Path) -> Look:
    """What the file system says of the file, or of each file in the folder that may matter."""
    files: list[tuple[object, ...]] = []
    with suppress(OSError):
        for file in _files(path):
            s = file.stat()
            seen = (s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns)
            files.append((file.name, *seen))
    return Look(path=path, files=tuple(files))


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    beside = [path.parent / "feature_extractor"] if path.name == "depth_estimator" else []
    for folder in (path, *filter(Path.is_dir, beside)):
        for file in sorted(folder.iterdir()):
            if file.name in (*SETTINGS, *DATA) or file.name.lower().endswith(_MATTER):
                yield file


def _contents(path: Path, digest_file: Callable[[Path], Digest]) -> Iterator[Digest]:
    """What is there by content, in each of the ways in which it may have got its name."""
    if path.is_dir():
        with suppress(*_UNFIT):
            if (path.parent / "model_index.json").is_file():
                yield component(path.name, path, path.parent.resolve(), digest_file).digest
        with suppress(*_UNFIT):
            if (path / "config.json").is_file():
                for part in checkpoint(str(path), path, digest_file).components.values():
                    yield part.digest
    with suppress(*_UNFIT):
        yield source_digest(path, digest_file)
