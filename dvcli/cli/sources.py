"""What came from outside, by content: clips, depth videos and checkpoints, and where they are now.

Recipes know inputs only by digest. A command that names a file or a model makes it known here; a
command that goes on from a run brings the run's hints, which are checked before they are believed.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

from dvcli.cli.groups import FULL_SIZE
from dvcli.errors import DvidError, InputError, MissingError
from dvcli.models.fingerprint import Checkpoint, checkpoint
from dvcli.models.resolve import resolve
from dvcli.recipes import Base, Digest, Tune
from dvcli.runs import Run
from dvcli.store import Store
from dvcli.video.digest import source_digest

LONG = 2**30  # bytes; a larger file is opened before all of it is read for its digest


class Sources:
    """Content digest ↔ path for this command."""

    def __init__(self, store: Store, *, offline: bool) -> None:
        self._store, self._offline = store, offline
        self._known: dict[Digest, Path] = {}
        self._hints: dict[Digest, str] = {}
        self._models: list[str] = []

    def file(self, path: Path) -> Digest:
        """The digest of a clip, a depth video or a folder of images."""
        if _size(path) > LONG and not self._store.memo.knows(path):
            from dvcli.video.probe import require_media

            require_media(path)
        digest = source_digest(path, self._store.digest_file)
        self._known[digest] = path.resolve()
        return digest

    def model(
        self, reference: str, *, before_fetching: Callable[[], None] | None = None
    ) -> Checkpoint:
        """The checkpoint that the reference names, its components known from here on.

        `before_fetching` is called where it is not on this machine yet; what it raises ends that.
        """
        if before_fetching is not None and not self._offline:
            try:
                resolve(reference, offline=True)
            except MissingError:
                before_fetching()
        folder = resolve(reference, offline=self._offline)
        found = checkpoint(reference, folder, self._store.digest_file)
        self._know(found)
        return found

    def video_model(self, reference: str) -> Checkpoint:
        """The CogVideoX checkpoint that the reference names, known from here on."""
        folder = resolve(reference, offline=self._offline, kind="cogvideox")
        found = checkpoint(reference, folder, self._store.digest_file)
        self._know(found)
        return found

    def estimator(self, reference: str) -> Digest:
        """The digest of a depth estimator, or of a base model's own."""
        return self._single(reference, "depth", "depth_estimator")

    def clip_model(self, reference: str) -> Digest:
        """The digest of a CLIP."""
        return self._single(reference, "clip", "clip")

    def _single(self, reference: str, kind: Literal["depth", "clip"], part: str) -> Digest:
        folder = resolve(reference, offline=self._offline, kind=kind)
        found = checkpoint(reference, folder, self._store.digest_file, only=(part,))
        if part not in found.components:
            raise InputError(
                f"`{reference}` has no {part.replace('_', ' ')}",
                hint="`--estimator` or `--from` gives depth in another way"
                if kind == "depth"
                else None,
            )
        self._know(found)
        return found.components[part].digest

    def _know(self, found: Checkpoint) -> None:
        for component in found.components.values():
            self._known[component.digest] = component.folder

    def expect(self, run: Run, *, model: str | None = None) -> None:
        """Take over where the run's inputs were; `model` says where its base model is instead."""
        self._hints.update(run.sources)
        if model is not None:
            found = {part.digest for part in self.model(model).components.values()}
            tuned = run.recipes.get("tune")
            if isinstance(tuned, Tune) and not set(tuned.externals.values()) <= found:
                raise InputError(
                    f"`{model}` is not the base that the run `{run.name}` was tuned on",
                    hint="`--base` takes the same weights at another place; `dvid tune` again"
                    " makes a run on others",
                )
        elif run.model is not None:
            self._models.append(run.model)

    def hints(self) -> Mapping[Digest, str]:
        """Where everything known so far is, for a run to remember."""
        return {digest: str(path) for digest, path in self._known.items()}

    def locate(self, digest: Digest) -> Path:
        """Where the content with this digest is now; `MissingError` when it is nowhere."""
        if digest in self._known:
            return self._known[digest]
        hint = self._hints.get(digest)
        if hint is not None:
            self._look_at(Path(hint))
        if digest in self._known:
            return self._known[digest]
        for reference in self._models:
            if digest in {part.digest for part in self.model(reference).components.values()}:
                return self._known[digest]
        gone = f"`{hint}`" if hint else f"the file with SHA-256 {digest[:12]}"
        raise MissingError(
            f"{gone} is gone or has changed since this run was made",
            hint="put it back, or `dvid tune` the clip again; `--base` says where a moved model is",
        )

    def _look_at(self, place: Path) -> None:
        """Make known what lies there today, whether it is a file, images or a model."""
        with suppress(DvidError):
            if (place.parent / "model_index.json").is_file():
                self._know(checkpoint(str(place.parent), place.parent, self._store.digest_file))
            elif (place / "config.json").exists():
                self._know(checkpoint(str(place), place, self._store.digest_file))
            elif place.exists():
                self.file(place)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except (OSError, ValueError):
        return 0


def base(found: Checkpoint) -> Base:
    """The components of a checkpoint that a network's output depends on."""
    digests = {name: part.digest for name, part in found.components.items()}
    try:
        return Base(
            unet=digests["unet"],
            vae=digests["vae"],
            text_encoder=digests["text_encoder"],
            tokenizer=digests["tokenizer"],
            scheduler=digests["scheduler"],
        )
    except KeyError as error:
        raise InputError(
            f"the checkpoint `{found.reference}` has no {error.args[0]}",
            hint="`--model` takes a folder in the diffusers format",
        ) from error


def native_size(found: Checkpoint) -> tuple[int, int]:
    """The (width, height) a checkpoint is for where none is asked for.

    Its U-Net's `sample_size` times the VAE's factor; but Stable Diffusion 2 depth says 256 there
    and was trained at 512, so nothing between those two is taken at its word.
    """
    sides = found.components["unet"].config.get("sample_size") or 64
    width, height = (sides[1], sides[0]) if isinstance(sides, list) else (sides, sides)
    size = (int(width) * found.vae_factor, int(height) * found.vae_factor)
    return size if max(size) < 256 or min(size) > 512 else FULL_SIZE
