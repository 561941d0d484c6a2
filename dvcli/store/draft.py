"""From files that a stage wrote to a published artifact: objects first, then the record."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from dvcli.errors import DvidError, StorageError
from dvcli.store import disk, keys, publish, record, workplace
from dvcli.store.record import Artifact, Output

if TYPE_CHECKING:
    from dvcli.store.store import Store


class Draft:
    """An artifact in the making: a folder of files that nobody sees until `publish`.

    Used as a context; what was not published when it ends is removed. The folder lies in the
    store's `tmp/`, or in the system's temporary folder where the store cannot be written.
    """

    def __init__(self, store: "Store", preimage: Mapping[str, object]) -> None:
        self.key = keys.key_of(preimage)
        self.info: dict[str, object] = {}
        self._store = store
        self._preimage = preimage
        self._paths: dict[str, Path] = {}
        self._published: Artifact | None = None

    def __enter__(self) -> "Draft":
        self._place = workplace.within(self._store, self.key[:12])
        return self

    def path(self, name: str) -> Path:
        """Where to write the output of that name."""
        path = self._place.folder / record.output_name(name)
        self._paths[name] = path
        return path

    def write(self, name: str, write: Callable[[Path], None]) -> None:
        """`write` is called with the path to write the output to; if the disk is full, once more.

        The second time the path is elsewhere. So a result outlives a full cache disk if there is
        room in the system's temporary folder.
        """
        try:
            write(self.path(name))
        except Exception as error:
            if not (self._place.in_store and disk.is_full(error)):
                raise
            disk.discard(self._paths[name])
            self._store.refused(error)
            self._place = workplace.elsewhere(self._store, self._place)
            write(self.path(name))

    def publish(self) -> Artifact:
        """The artifact, in the store from now on.

        Where the store cannot take it, the artifact lives until the store is closed; a failure
        that is more than a read-only cache is noted in `store.failures`.
        """
        if self._published is not None or not self._paths:
            raise ValueError("a draft is published once, with at least one output")
        outputs = {name: _measure(path) for name, path in self._paths.items()}
        made = record.compose(
            self._preimage,
            outputs,
            record.plain_info(self.info),
            created=time.time(),
            made_by=_version(),
        )
        kept = self._place.in_store and self._commit(made, outputs)
        self._published = (
            self._store.artifact(made) if kept else self._store.adopt(made, self._loose(outputs))
        )
        if not kept:
            self._store.keep(self._place)
        return self._published

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._store.leave(self._place)
        if error is not None and not isinstance(error, DvidError) and disk.is_full(error):
            raise StorageError(
                f"no room left to write to `{self._place.folder.parent}`",
                hint="`dvid cache gc` makes room, `DVID_CACHE_DIR` names another folder",
            ) from error

    def _commit(self, made: Mapping[str, object], outputs: Mapping[str, Output]) -> bool:
        try:
            publish.commit(
                self._store, made, [(self._paths[name], output) for name, output in outputs.items()]
            )
        except OSError as error:
            self._store.refused(error)
            return False
        return True

    def _loose(self, outputs: Mapping[str, Output]) -> dict[str, Path]:
        """The files where they are now, those that became objects by a second name if possible."""
        files: dict[str, Path] = {}
        for name, path in self._paths.items():
            files[name] = path
            if not path.exists():
                published = self._store.object_path(outputs[name].sha256)
                try:
                    path.hardlink_to(published)
                except OSError:
                    files[name] = published
            files[name].chmod(0o444)
        return files


def _measure(path: Path) -> Output:
    with path.open("rb") as file:
        return Output(sha256=disk.digest(file), size=path.stat().st_size)


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("dvid")
    except metadata.PackageNotFoundError:
        return "unknown"
