"""What tuning, inversion and sampling share: the loaded network, its text, its depth condition.

Every model goes over the runtime's shelf, so that many prompts cost one load.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dvcli.core import compiling, ddim, depth, graphs, unet
from dvcli.errors import InputError
from dvcli.models import latents, load, text
from dvcli.recipes import Base, Controls, Digest, DType, Normalise, Tune
from dvcli.runtime import Runtime
from dvcli.stages import attention, finite, inputs, preflight
from dvcli.store import Artifact, Draft

log = logging.getLogger(__name__)


def untuned(recipe: Tune, dtype: DType, runtime: Runtime) -> Any:
    """The checkpoint's U-Net, inflated; its temporal layers, of the recipe's seed, do nothing yet.

    It sees and trains what the recipe says.
    """
    attend = attention.chosen(runtime, load.DTYPES[dtype])
    over_time = attention.over_time(runtime, load.DTYPES[dtype], attend)
    network = load.unet(runtime.locate(recipe.base.unet), dtype, runtime.device)
    unet.inflate(
        network,
        torch.Generator().manual_seed(recipe.seed),
        sees=recipe.attention,
        trained=recipe.train,
    )
    unet.use_attention(network, attend, over_time)
    if runtime.compile:
        if runtime.device.startswith("cuda"):
            log.info("the network is compiled, so no CUDA graphs are recorded")
        compiling.compile_network(network)
    return network


def tuned(
    recipe: Tune,
    artifact: Artifact,
    x0: Float[Tensor, "f c h w"],
    text: Float[Tensor, "l d"],
    dtype: DType,
    stage: str,
    runtime: Runtime,
) -> Any:
    """The U-Net with the deltas of a tuning, to be called on latents like `x0` under texts so long.

    Raises `InputError` when the deltas belong to another base and `ResourceError` when it would
    not fit. That is asked once a load: with the networks loaded less is free and less is needed.
    """

    def make() -> Any:
        deltas = read_deltas(artifact, recipe.base)
        preflight.sample(recipe, x0, text, dtype, runtime)
        network = untuned(recipe, dtype, runtime)
        unet.load_deltas(network, deltas)
        return network.requires_grad_(False).eval()

    return runtime.shelf.get(stage, _unet_on_shelf(recipe, artifact, dtype), make)


def loaded(recipe: Tune, artifact: Artifact, dtype: DType, runtime: Runtime) -> bool:
    """Whether the network of that tuning is loaded already."""
    return runtime.shelf.holds(_unet_on_shelf(recipe, artifact, dtype))


def recorder(runtime: Runtime) -> graphs.Recorder | None:
    """What records calls of the network to replay them, where that is to be had and memory allows.

    A recording keeps the memory that it ran in.
    """
    if runtime.memory == "low" or runtime.compile:
        return None
    return graphs.recorder(torch.device(runtime.device))


def embedding(
    base: Base,
    prompt: str,
    dtype: DType,
    stage: str,
    runtime: Runtime,
    role: Literal["prompt", "negative prompt"] = "prompt",
) -> Float[Tensor, "l d"]:
    """The prompt's text embedding, as the checkpoint's own pipeline makes it.

    The last one of each role is kept, as the negative prompt is that of all prompts.
    """
    return runtime.shelf.get(
        stage,
        (role, prompt, *_text_on_shelf(base, dtype)),
        lambda: _embedded(base, prompt, dtype, stage, runtime),
    )


def _embedded(
    base: Base, prompt: str, dtype: DType, stage: str, runtime: Runtime
) -> Float[Tensor, "l d"]:
    tokenizer, encoder = runtime.shelf.get(
        stage,
        _text_on_shelf(base, dtype),
        lambda: (
            load.tokenizer(runtime.locate(base.tokenizer)),
            load.text_encoder(runtime.locate(base.text_encoder), dtype, runtime.device),
        ),
    )
    return finite.require("the prompt's embedding", text.embed(tokenizer, encoder, prompt))


def autoencoder(base: Base, dtype: DType, stage: str, runtime: Runtime) -> Any:
    """The checkpoint's VAE."""
    return runtime.shelf.get(
        stage,
        _vae_on_shelf(base, dtype),
        lambda: load.vae(runtime.locate(base.vae), dtype, runtime.device),
    )


def drop_text_encoder(base: Base, dtype: DType, runtime: Runtime) -> None:
    """Free the memory of the tokenizer and the text encoder."""
    runtime.shelf.drop(_text_on_shelf(base, dtype))


def drop_autoencoder(base: Base, dtype: DType, runtime: Runtime) -> None:
    """Free the memory of the VAE."""
    runtime.shelf.drop(_vae_on_shelf(base, dtype))


def spare(base: Base, dtype: DType, runtime: Runtime) -> None:
    """Free the memory of whatever but the network a prompt needed, where memory is short."""
    if runtime.memory == "low":
        drop_text_encoder(base, dtype, runtime)
        drop_autoencoder(base, dtype, runtime)


def _unet_on_shelf(recipe: Tune, artifact: Artifact, dtype: DType) -> tuple[str, ...]:
    return ("unet", recipe.base.unet, dtype, artifact.digest)


def _text_on_shelf(base: Base, dtype: DType) -> tuple[str, ...]:
    return ("text", base.tokenizer, base.text_encoder, dtype)


def _vae_on_shelf(base: Base, dtype: DType) -> tuple[str, ...]:
    return ("vae", base.vae, dtype)


def schedule(base: Base, steps: int, runtime: Runtime) -> ddim.Schedule:
    """The checkpoint's own noise schedule at that many steps."""
    return ddim.schedule(load.scheduler_config(runtime.locate(base.scheduler)), steps)


def clip_latents(
    artifact: Artifact, recipe: Tune, stage: str, runtime: Runtime
) -> Float[Tensor, "f c h w"]:
    """The clip as a tuning encoded it, in float32 on the device of the work.

    Raises `InputError` unless they are latents of this base for the frames that were asked for.
    """
    vae = runtime.shelf.get(
        stage,
        ("the VAE's settings", recipe.base.vae),
        lambda: preflight.autoencoder(runtime.locate(recipe.base.vae)).config,
    )
    smaller = latents.factor(vae)
    width, height = recipe.frames.size or (None, None)
    shape = (
        recipe.frames.frames,
        vae.latent_channels,
        None if height is None else height // smaller,
        None if width is None else width // smaller,
    )
    return inputs.tensor(artifact, "latents", shape).to(runtime.device)


def read_latents(artifact: Artifact, like: Float[Tensor, "f c h w"]) -> Float[Tensor, "f c h w"]:
    """The latents at the end of an inversion of a clip with such latents, on their device."""
    return inputs.tensor(artifact, "latents", tuple(like.shape)).to(like.device)


def read_trajectory(
    artifact: Artifact, like: Float[Tensor, "f c h w"], steps: int
) -> Float[Tensor, "n f c h w"]:
    """The latents before each step of an inversion and after its last."""
    return inputs.tensor(artifact, "trajectory", (steps + 1, *like.shape)).to(like.device)


def write_latents(out: Draft, x: Float[Tensor, "f c h w"]) -> None:
    """Write `latents` into an artifact."""
    out.write("latents", partial(save_file, {"latents": x.detach().float().cpu().contiguous()}))


def condition(
    artifact: Artifact | None,
    like: Float[Tensor, "f c h w"],
    normalise: Normalise,
    controls: Controls | None = None,
    other: Artifact | None = None,
) -> Float[Tensor, "f 1 h w"] | None:
    """The depth condition for latents of that shape; None for a base without depth."""
    if artifact is None:
        return None
    size = (like.shape[2], like.shape[3])
    blend = None if other is None else inputs.disparity(other, like.shape[0])
    return depth.to_condition(
        inputs.disparity(artifact, like.shape[0]),
        size,
        normalise,
        Controls() if controls is None else controls,
        blend,
    ).to(like.device)


def write_deltas(out: Draft, tensors: Mapping[str, Tensor], base: Base) -> None:
    """Write `deltas`, the trained tensors, with the identity of the base they belong to."""
    whole = {name: tensor.detach().float().cpu().contiguous() for name, tensor in tensors.items()}
    note = {"dvid": json.dumps({"base": asdict(base)}, sort_keys=True)}
    out.write("deltas", lambda path: save_file(whole, path, metadata=note))


def read_deltas(artifact: Artifact, base: Base) -> dict[str, Tensor]:
    """The trained tensors of a tuning, if it was trained on this base's U-Net."""
    trained_on = _trained_on(artifact)
    if trained_on != base.unet:
        raise InputError(
            f"these deltas were tuned on another base, U-Net {str(trained_on)[:12]}"
            f" and not {base.unet[:12]}",
            hint="`dvid tune` the clip on this base",
        )
    found = inputs.tensors(artifact, "deltas")
    for name, tensor in found.items():
        inputs.require_numbers(artifact, "deltas", name, tensor)
    return found


def _trained_on(artifact: Artifact) -> Digest | None:
    try:
        with safe_open(artifact.path("deltas"), framework="pt") as file:
            note = json.loads((file.metadata() or {}).get("dvid", "{}"))
        found: Digest | None = note.get("base", {}).get("unet")
    except (SafetensorError, OSError, ValueError, AttributeError) as error:
        raise inputs.unfit_for(
            artifact, "deltas", f"it does not say what it was tuned on ({error})"
        ) from error
    return found
