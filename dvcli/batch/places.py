"""Where clips and models are, for a worker: hints, which are believed once they are checked."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from dvcli.errors import DvidError, MissingError
from dvcli.models.fingerprint import checkpoint
from dvcli.models.resolve import resolve
from dvcli.recipes import Digest
from dvcli.store import Store
from dvcli.video.digest import source_digest


class Places:
    """Content digest → path on this machine."""

    def __init__(self, store: Store, *, offline: bool) -> None:
        self._store, self._offline = store, offline
        self._known: dict[Digest, Path] = {}
        self._hints: dict[Digest, str] = {}
        self._models: dict[str, None] = {}

    def expect(self, hints: Mapping[Digest, str], models: tuple[str, ...]) -> None:
        """Take note of where things were."""
        self._hints.update(hints)
        self._models.update(dict.fromkeys(models))

    def locate(self, digest: Digest) -> Path:
        """Where the content with this digest is here; `MissingError` when it is nowhere."""
        if digest not in self._known and digest in self._hints:
            with suppress(DvidError):
                self._look_at(Path(self._hints[digest]))
        for model in self._models:
            if digest not in self._known:
                self._know(model, resolve(model, offline=self._offline))
        if digest in self._known:
            return self._known[digest]
        raise MissingError(
            f"`{self._hints.get(digest, digest[:12])}` is not on the machine of this worker",
            hint="clips and models lie on a shared disk, or a model has a Hub name",
        )

    def _look_at(self, place: Path) -> None:
        if (place.parent / "model_index.json").is_file():
            self._know(str(place.parent), place.parent)
        elif (place / "config.json").exists():
            self._know(str(place), place)
        elif place.exists():
            self._known[source_digest(place, self._store.digest_file)] = place

    def _know(self, name: str, folder: Path) -> None:
        for part in checkpoint(name, folder, self._store.digest_file).components.values():
            self._known[part.digest] = part.folder
