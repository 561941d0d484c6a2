"""What the functions return: the recipe, its key, and the results as files and as numpy arrays.

Arrays are read from the cache when they are asked for, every byte verified, and are the caller's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from dvcli.api.workspace import Workspace
from dvcli.errors import UsageError
from dvcli.recipes import Depth, Extract, Invert, Render, Sample, Tune

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dvcli.store import Artifact

    Pixels: TypeAlias = NDArray[np.uint8]
    Numbers: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class _Made:
    """What one stage made. `model` is the base model as it was named, if the stage had one."""

    artifact: "Artifact"
    workspace: Workspace
    model: str | None = None

    @property
    def key(self) -> str:
        """What was asked, in 64 hex digits; `dvid show KEY` and `dvid cache show KEY` know it."""
        return self.artifact.key

    @property
    def paths(self) -> dict[str, Path]:
        """The files of the result by name, read-only, in the cache."""
        return {name: self.artifact.path(name) for name in self.artifact.outputs}

    def _frames(self, name: str) -> "Pixels":
        from dvcli.video import frames

        return frames.load(self.artifact.path(name))

    def _tensor(self, name: str) -> "Numbers":
        """A tensor that may be bf16 on the disk, which numpy has not, as float32."""
        from safetensors.torch import load_file

        (tensor,) = load_file(self.artifact.path(name)).values()
        found: Numbers = tensor.float().numpy()
        return found

    def _write(
        self, source: "Media", path: str | Path, *, fps: float, crf: int, overwrite: bool
    ) -> Path:
        """Render and put the file in its place, as `-o` of the command line does."""
        from dvcli.cli.groups import Delivery
        from dvcli.cli.output import check, place, suffix
        from dvcli.cli.provenance import provenance

        target = Path(path)
        to = Delivery(output=target)
        check(to)
        if target.is_dir() or not target.suffix:
            raise UsageError(
                f"`{target}` does not say the format", hint="a name such as `clip.mp4` does"
            )
        render = Render(source=source, suffix=suffix(to), fps=fps, crf=crf)
        story = provenance(render, self.model, own_depth=self._own_depth(source))
        made = self.workspace.realise(replace(render, provenance=story))
        media, store = made.path("media" + render.suffix), self.workspace.store
        if overwrite or not target.exists():
            place(media, target)
        elif store.digest_file(target) != store.digest_file(media):
            raise UsageError(
                f"`{target}` exists and is a different file", hint="`overwrite=True` replaces it"
            )
        return target

    def _own_depth(self, source: "Media") -> bool:
        """Whether the depth, if it was estimated, is by the base model's own estimator."""
        match source:
            case Sample():
                depth = source.inverted.tuned.depth
            case Invert():
                depth = source.tuned.depth
            case Depth():
                depth = source
            case Extract():
                depth = None
        if depth is None or depth.estimator is None:
            return True
        if self.model is None:
            return False
        own = self.workspace.checkpoint(self.model).components.get("depth_estimator")
        return own is not None and own.digest == depth.estimator


@dataclass(frozen=True, kw_only=True)
class _Shown(_Made):
    """What can be seen: frames, depth as grey levels (near = white), or a reconstruction."""

    recipe: "Media"

    def save(
        self,
        path: str | Path,
        *,
        fps: float = Render.fps,
        crf: int = Render.crf,
        overwrite: bool = False,
    ) -> Path:
        """The path, where a video, animation or strip is now, by its suffix, its recipe inside.

        Raises `UsageError` where another file is in the way, `StorageError` where none can be.
        """
        return self._write(self.recipe, path, fps=fps, crf=crf, overwrite=overwrite)


@dataclass(frozen=True, kw_only=True)
class Frames(_Shown):
    """The frames taken out of a clip."""

    recipe: Extract

    @property
    def frames(self) -> "Pixels":
        """uint8 RGB `[f H W 3]`."""
        return self._frames("frames")


@dataclass(frozen=True, kw_only=True)
class Depths(_Shown):
    """How near everything is in each frame."""

    recipe: Depth

    @property
    def disparity(self) -> "Numbers":
        """The raw maps, float32 `[f 1 a b]`, near = large, each frame with a scale of its own."""
        return self._tensor("disparity")


@dataclass(frozen=True, kw_only=True)
class Tuned(_Made):
    """A clip as learned: what tuning changed in the network, and the clip's latents.

    `paths["deltas"]` is a safetensors file of the changed tensors alone.
    """

    recipe: Tune

    @property
    def latents(self) -> "Numbers":
        """The clip's latents, float32 `[f c h w]`."""
        return self._tensor("latents")


@dataclass(frozen=True, kw_only=True)
class Inverted(_Shown):
    """The latent that a clip comes from, and how well it comes back."""

    recipe: Invert

    @property
    def psnr(self) -> float:
        """Of the reconstruction against the autoencoder's own, in dB."""
        return float(self.artifact.info["psnr"])

    @property
    def latents(self) -> "Numbers":
        """The latent to sample from, float32 `[f c h w]`."""
        return self._tensor("latents")

    @property
    def reconstruction(self) -> "Pixels":
        """The clip as its latent gives it back, uint8 RGB `[f H W 3]`."""
        return self._frames("reconstruction")


@dataclass(frozen=True, kw_only=True)
class Sampled(_Shown):
    """A new clip with the motion and the depth of the one it was made from."""

    recipe: Sample

    @property
    def frames(self) -> "Pixels":
        """uint8 RGB `[f H W 3]`."""
        return self._frames("frames")


@dataclass(frozen=True, kw_only=True)
class Figures:
    """The figures of one clip, named as `dvid eval --json` names them.

    `keys` are those of the measurements, by metric.
    """

    figures: Mapping[str, float]
    keys: Mapping[str, str]


Media: TypeAlias = Extract | Depth | Invert | Sample
