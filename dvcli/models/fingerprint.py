"""What a checkpoint is, by content: a digest per component, and the facts its configs state.

The same weights under another name, in another folder or from another repository have the same
digests; one changed byte of one file changes the digest of its component and of no other.
"""

import hashlib
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rfc8785

from dvcli.errors import InputError, UsageError
from dvcli.models.configs import read_json, significant
from dvcli.models.header import read_header, require_fitting, together
from dvcli.models.layout import (
    PIECES,
    PROCESSOR,
    components,
    processor_folder,
    require_weights,
    stem_of,
)
from dvcli.models.opening import inside, regular
from dvcli.models.settings import require_sensible, token_limit
from dvcli.models.shards import require_index
from dvcli.recipes import Digest

ADDED = "added_tokens.json"  # words and their numbers, every one of which counts
# Settings are compared as values, data files by their bytes. All else in a folder does not count.
SETTINGS = (
    "config.json",
    "scheduler_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    ADDED,
    *PROCESSOR,
)
DATA = ("vocab.json", "merges.txt", "tokenizer.json", PIECES)
LARGEST_DATA = 2**26  # bytes


@dataclass(frozen=True, kw_only=True)
class Component:
    """One part of a checkpoint: its folder now, and the SHA-256 of all that makes it."""

    name: str
    folder: Path
    weights: tuple[Path, ...]
    digest: Digest

    @property
    def config(self) -> dict[str, Any]:
        """The component's own settings."""
        file = "scheduler_config.json" if self.name == "scheduler" else "config.json"
        return read_json(self.folder / file)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A base model, a CogVideoX, or a single depth estimator or CLIP, by its components."""

    reference: str
    folder: Path
    components: Mapping[str, Component]

    @property
    def has_depth(self) -> bool:
        """Whether the U-Net takes a depth map beside the latents."""
        return int(self._unet["in_channels"]) == self.latent_channels + 1

    @property
    def latent_channels(self) -> int:
        return int(self.components["vae"].config.get("latent_channels", 4))

    @property
    def vae_factor(self) -> int:
        """How many pixels a latent is wide."""
        return _downsampling(self.components["vae"].config)

    @property
    def unet_factor(self) -> int:
        """How many latents the U-Net's coarsest level takes together along a side."""
        return _downsampling(self._unet)

    @property
    def cross_dim(self) -> int:
        """The width of a text token's embedding."""
        return int(self._unet["cross_attention_dim"])

    @property
    def prediction_type(self) -> str:
        """What the network predicts: `epsilon` or `v_prediction`."""
        return str(self.components["scheduler"].config.get("prediction_type", "epsilon"))

    @property
    def _unet(self) -> dict[str, Any]:
        return self.components["unet"].config


def checkpoint(
    reference: str,
    folder: Path,
    digest_file: Callable[[Path], Digest],
    *,
    only: Collection[str] | None = None,
) -> Checkpoint:
    """The checkpoint in a folder: by its parts, else one `clip` or `depth_estimator`.

    A base's depth estimator goes together with the `feature_extractor` beside it; it has the digest
    that the same two have in one folder. `only` leaves the other components unread. Raises
    `InputError` for anything that is not to be loaded.
    """
    root = folder.resolve()
    if (root / "model_index.json").is_file():
        parts = components(read_json(root / "model_index.json", root))
        names = [n for n in parts if n != "feature_extractor" and (root / n).is_dir()]
        places = {n: inside(root / n, root) for n in names if only is None or n in only}
    else:
        kind = read_json(root / "config.json", root).get("model_type")
        places = {"clip" if kind == "clip" else "depth_estimator": root}
    found = Checkpoint(
        reference=reference,
        folder=folder,
        components={
            name: component(name, place, root, digest_file) for name, place in places.items()
        },
    )
    if only is None and "unet" in places:
        _consistent(found)
    return found


def component(
    name: str, folder: Path, root: Path, digest_file: Callable[[Path], Digest]
) -> Component:
    """One component with its digest; `root` is the resolved folder of the whole checkpoint."""
    content: dict[str, object] = {}
    for file in (*SETTINGS, *DATA):
        place = folder / file
        if name == "depth_estimator" and file in PROCESSOR:
            place = processor_folder(folder) / file
        if not place.exists():
            continue
        # An estimator that is named by itself may lie in a checkpoint.
        whole = root if place.parent in (root, folder) else place.parent.parent.resolve()
        if file in DATA:
            content[file] = digest_file(_data(place, whole))
            continue
        settings = read_json(place, whole)
        require_sensible(file, settings, place)
        content[file] = canonical(settings, whole=file == ADDED)
    weights: tuple[Path, ...] = ()
    if stem_of(name) is not None:
        chosen = require_weights([path.name for path in folder.iterdir()], name, str(folder))
        weights = tuple(folder / file for file in chosen.files)
        held = [read_header(inside(path, root)) for path in weights]
        if chosen.index is not None:
            require_index(folder / chosen.index, root, dict(zip(chosen.files, held, strict=True)))
        config = read_json(folder / "config.json", root)
        require_fitting(config, together(held), folder / "config.json")
        # By their bytes in the Hub's cache too: the name of a file there says what it once was.
        content["weights"] = [digest_file(path) for path in weights]
    digest = hashlib.sha256(b"dvid-component-v1\0" + rfc8785.dumps(content))  # type: ignore[arg-type]
    return Component(name=name, folder=folder, weights=weights, digest=digest.hexdigest())


def canonical(value: object, *, whole: bool = False) -> object:
    """What is `significant` of a setting, or the `whole` of it, as canonical JSON can write it."""
    return _writable(value if whole else significant(value))


def _writable(value: object) -> object:
    if isinstance(value, Mapping):
        return {name: _writable(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_writable(inner) for inner in value]
    if isinstance(value, int) and abs(value) > 2**53 - 1:
        return str(value)  # "no limit" is written as 10^30 in tokenizer settings
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _data(path: Path, root: Path) -> Path:
    """The path of a vocabulary that can be read as a whole."""
    if regular(inside(path, root)).stat().st_size > LARGEST_DATA:
        raise InputError(f"`{path}` is larger than any vocabulary is")
    return path


def _downsampling(config: Mapping[str, Any]) -> int:
    return int(2 ** (len(config["block_out_channels"]) - 1))


def _consistent(found: Checkpoint) -> None:
    """Refuse parts that do not fit together, before anything heavy is loaded."""
    unet = found.components["unet"].config
    try:
        latent, taken = found.latent_channels, int(unet["in_channels"])
        text = found.components["text_encoder"].config
        text = text.get("text_config") or text
        width, positions = int(text["hidden_size"]), int(text.get("max_position_embeddings", 77))
        place = found.components["tokenizer"].folder / "tokenizer_config.json"
        longest = token_limit(read_json(place) if place.exists() else {})
        cross, _, _ = found.cross_dim, found.vae_factor, found.unet_factor
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise InputError(
            f"the configs of `{found.reference}` are not those of a Stable Diffusion ({error})"
        ) from error
    if taken not in (latent, latent + 1):
        raise InputError(
            f"the U-Net of `{found.reference}` takes {taken} channels, which is neither the"
            f" {latent} of a latent nor those and depth"
        )
    if width != cross:
        raise InputError(
            f"the U-Net of `{found.reference}` reads text {cross} wide, its text encoder writes"
            f" {width}"
        )
    if longest > positions:
        raise InputError(
            f"the tokenizer of `{found.reference}` gives {longest} tokens, its text encoder takes"
            f" {positions}"
        )
    if found.prediction_type not in ("epsilon", "v_prediction", "sample"):
        raise InputError(
            f"`{found.reference}` predicts `{found.prediction_type}`, which is not known here"
        )


def validate_size(found: Checkpoint, size: tuple[int, int]) -> None:
    """Refuse a (width, height) the networks cannot take, naming the nearest that they can."""
    step = found.vae_factor * found.unet_factor
    if all(side > 0 and side % step == 0 for side in size):
        return
    down = "×".join(str(max(side // step, 1) * step) for side in size)
    up = "×".join(str(max(-(-side // step), 1) * step) for side in size)
    near = f"`{down}`" if down == up else f"`{down}` or `{up}`"
    raise UsageError(
        f"the size {size[0]}×{size[1]} is not one that `{found.reference}` takes,"
        f" multiples of {step}",
        hint=f"the nearest are {near}" if down != up else f"the nearest is {near}",
    )
