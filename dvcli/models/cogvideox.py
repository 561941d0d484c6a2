"""CogVideoX by diffusers' own pipelines, in the memory there is.

Yang et al., CogVideoX (arXiv 2408.06072). Nothing of the pipelines is changed: the same checkpoint,
frames, seed and settings give the pixels that they give when they are called directly.
"""

import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from safetensors import safe_open

from dvcli.errors import InputError, ResourceError, UsageError
from dvcli.models import latents, load
from dvcli.models.layout import require_weights
from dvcli.models.video_shape import whole
from dvcli.recipes import CogVideoX, DType

Placing = Literal["whole", "components", "layers"]
GIB = 2**30
SLACK = 1.25  # of the weights, for what is computed with them
log = logging.getLogger(__name__)


def placing(folders: Mapping[str, Path], dtype: DType, device: str, free: int) -> Placing:
    """How much of the model is on the device at once: all, one component, or one layer.

    `folders` are by the component's name. Raises `ResourceError` where not even the processor's
    memory, which holds what the device does not, is enough.
    """
    weighing = [numbers(folders[name], name) for name in ("transformer", "text_encoder", "vae")]
    item = load.DTYPES[dtype].itemsize
    total, largest = sum(weighing) * item * SLACK, max(weighing) * item * SLACK
    if total <= free:
        return "whole"
    if not device.startswith("cuda"):
        raise ResourceError(
            f"this CogVideoX needs about {total / GIB:.1f} GiB on `{device}`,"
            f" which has {free / GIB:.1f} GiB free",
            hint="`--dtype bf16` takes half of what fp32 takes",
        )
    return "components" if largest <= free else "layers"


def numbers(folder: Path, component: str) -> int:
    """How many numbers the component's weight files hold, by their headers."""
    found = 0
    for name in require_weights([p.name for p in folder.iterdir()], component, str(folder)).files:
        with safe_open(folder / name, framework="pt") as file:
            found += sum(math.prod(file.get_slice(key).get_shape()) for key in file.keys())  # noqa: SIM118
    return found


def pipeline(
    start: Literal["clip", "noise"],
    folders: Mapping[str, Path],
    dtype: DType,
    device: str,
    placed: Placing,
) -> Any:
    """diffusers' `CogVideoXVideoToVideoPipeline`, or for a start from noise `CogVideoXPipeline`."""
    home = device if placed == "whole" else "cpu"
    with load.quiet("transformers", "diffusers"):
        from diffusers import CogVideoXPipeline, CogVideoXVideoToVideoPipeline

        kind = CogVideoXPipeline if start == "noise" else CogVideoXVideoToVideoPipeline
        made = kind(
            tokenizer=load.t5_tokenizer(folders["tokenizer"]),
            text_encoder=load.t5_encoder(folders["text_encoder"], dtype, home),
            vae=load.video_vae(folders["vae"], dtype, home),
            transformer=load.video_transformer(folders["transformer"], dtype, home),
            scheduler=_scheduler(folders["scheduler"]),
        )
        made.set_progress_bar_config(disable=True)
        if placed == "components":
            made.enable_model_cpu_offload(device=device)
        elif placed == "layers":
            made.enable_sequential_cpu_offload(device=device)
    return made


def _scheduler(folder: Path) -> Any:
    """The checkpoint's own sampler."""
    from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler

    kinds = {kind.__name__: kind for kind in (CogVideoXDDIMScheduler, CogVideoXDPMScheduler)}
    config = load.scheduler_config(folder)
    named = config.pop("_class_name", None)
    if named not in kinds:
        raise InputError(f"`{folder}` is a `{named}`, which is none of CogVideoX")
    return kinds[named].from_config(config)


@torch.no_grad()
def generate(
    made: Any,
    recipe: CogVideoX,
    clip: UInt8[np.ndarray, "n H W 3"] | None,
    each_step: Callable[[], None],
) -> UInt8[np.ndarray, "m h w 3"]:
    """The model's own frames at its own size, `recipe.count` of them.

    `clip` is what it starts from, of any size, or None. The last frame is held until the number is
    one the VAE takes, and what comes out of those is cut off. `each_step` is called after each.
    """
    (made.vae.enable_tiling if recipe.tiling else made.vae.disable_tiling)()
    if recipe.tiling and clip is not None:
        _check_tiles(made.vae, recipe.size)
    _tell_overflow(made, recipe)
    net = made.transformer.config
    ratio = made.vae.config.temporal_compression_ratio
    count = whole(recipe.count, ratio=ratio, patched=clip is not None and _in_pairs(net))
    settings: dict[str, Any] = {"num_frames": count}
    if clip is not None:
        held = [*clip, *([clip[-1]] * (count - len(clip)))]
        settings = {"video": [Image.fromarray(f) for f in held], "strength": recipe.strength}

    def after(pipe: Any, index: int, step: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        each_step()
        return tensors

    frames = made(
        prompt=recipe.prompt,
        negative_prompt=recipe.negative,
        width=recipe.size[0],
        height=recipe.size[1],
        num_inference_steps=recipe.steps,
        guidance_scale=recipe.guidance,
        generator=torch.Generator().manual_seed(recipe.seed),
        max_sequence_length=net.max_text_seq_length,
        output_type="np",
        callback_on_step_end=after,
        **settings,
    ).frames[0]
    if len(frames) != count:
        raise InputError(
            f"this CogVideoX made {len(frames)} frames where {count} were asked for: its VAE folds"
            " time in another way than its config says"
        )
    return (frames[: recipe.count] * 255).round().astype(np.uint8)  # type: ignore[no-any-return]


def _check_tiles(vae: Any, size: tuple[int, int]) -> None:
    """Raise `UsageError` where the last tile would be too thin to be encoded."""
    smallest = latents.factor(vae.config)
    for side, tile, overlap in (
        (size[0], vae.tile_sample_min_width, vae.tile_overlap_factor_width),
        (size[1], vae.tile_sample_min_height, vae.tile_overlap_factor_height),
    ):
        step = int(tile * (1 - overlap))
        if (side - 1) % step + 1 < smallest:
            raise UsageError(
                f"the size {size[0]}×{size[1]} leaves a tile too thin for this VAE",
                hint="another `--model-size`, or no `--tiling`",
            )


def _in_pairs(net: Any) -> bool:
    """Whether the transformer takes latent frames two at a time, as CogVideoX 1.5 does."""
    return getattr(net, "patch_size_t", None) is not None


def _tell_overflow(made: Any, recipe: CogVideoX) -> None:
    limit = made.transformer.config.max_text_seq_length
    for text in (recipe.prompt, recipe.negative):
        if len(made.tokenizer(text).input_ids) > limit:
            log.warning("the text encoder sees only the first %d tokens of `%s`", limit, text)
