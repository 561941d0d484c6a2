"""What a CogVideoX takes, told from its configs alone: sizes, numbers of frames, parts that fit."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dvcli.errors import InputError, UsageError
from dvcli.models.fingerprint import Checkpoint
from dvcli.recipes import VideoModel


@dataclass(frozen=True, kw_only=True)
class VideoShape:
    """The (width, height) and the number of frames a model was trained at; sides are multiples."""

    size: tuple[int, int]
    frames: int
    multiple: int
    fixed: bool

    def check(self, size: tuple[int, int]) -> None:
        """Raise `UsageError` for a size the model cannot take."""
        if self.fixed and size != self.size:
            raise UsageError(
                f"this model makes no other size than {_by(self.size)}",
                hint="leave `--model-size` out",
            )
        if any(side % self.multiple for side in size):
            near = tuple(max(round(side / self.multiple), 1) * self.multiple for side in size)
            raise UsageError(
                f"the size {_by(size)} is not one that this model takes, multiples of"
                f" {self.multiple}",
                hint=f"`--model-size {near[0]}x{near[1]}` is near it",
            )

    def stride(self, frames: int) -> int:
        """How many frames it can make for each step between so many, at its trained length."""
        return max(1, (self.frames - 1) // max(frames - 1, 1))


def shape_of(found: Checkpoint) -> VideoShape:
    """The shape of a checkpoint. Raises `InputError` where its parts do not fit together."""
    net = found.components["transformer"].config
    try:
        return _shape(found, net)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise InputError(
            f"the configs of `{found.reference}` are not those of a CogVideoX ({error})"
        ) from error


def _shape(found: Checkpoint, net: Mapping[str, Any]) -> VideoShape:
    text, vae = found.components["text_encoder"].config, found.components["vae"].config
    if int(text["d_model"]) != int(net["text_embed_dim"]):
        raise InputError(
            f"the transformer of `{found.reference}` reads text {net['text_embed_dim']} wide, its"
            f" text encoder writes {text['d_model']}"
        )
    if int(vae["latent_channels"]) != int(net["in_channels"]):
        raise InputError(
            f"the transformer of `{found.reference}` takes {net['in_channels']} channels, its VAE"
            f" makes {vae['latent_channels']}"
        )
    scheduler = found.components["scheduler"].config.get("_class_name")
    if scheduler not in ("CogVideoXDDIMScheduler", "CogVideoXDPMScheduler"):
        raise InputError(f"`{found.reference}` has a `{scheduler}`, which is none of CogVideoX")
    if net.get("patch_size_t") is not None:
        size = (1360, 768)  # CogVideoX 1.5 states 2400 × 2400, and means this
    else:
        size = (net["sample_width"] * found.vae_factor, net["sample_height"] * found.vae_factor)
    return VideoShape(
        size=size,
        frames=int(net["sample_frames"]),
        multiple=found.vae_factor * int(net["patch_size"]),
        fixed=bool(net.get("use_learned_positional_embeddings", False)),
    )


def video_model(found: Checkpoint) -> VideoModel:
    """The components by content."""
    digests = {name: part.digest for name, part in found.components.items()}
    return VideoModel(
        transformer=digests["transformer"],
        vae=digests["vae"],
        text_encoder=digests["text_encoder"],
        tokenizer=digests["tokenizer"],
        scheduler=digests["scheduler"],
    )


def whole(count: int, *, ratio: int, patched: bool) -> int:
    """The least number of frames, `count` or more, that comes out of the VAE as it went in.

    The VAE works on two latent frames at once, `2 ratio` frames, and the first of an odd number of
    latent frames holds one frame: `2 ratio · n + 1`. Where the transformer takes latent frames in
    pairs (`patched`) they have to be even in number: `2 ratio · n`.
    """
    chunk = 2 * ratio
    return -(-count // chunk) * chunk if patched else -(-(count - 1) // chunk) * chunk + 1


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"
