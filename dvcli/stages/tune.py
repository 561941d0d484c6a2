"""One-shot tuning of the attention's query projections and temporal layers on one clip."""

import time
from contextlib import suppress

import torch
from diffusers import UNet2DConditionModel
from jaxtyping import Float, UInt8
from safetensors.torch import load_file, save_file
from torch import Tensor

from dvcli.core import optimising, tuning, unet
from dvcli.core.recomputing import checkpoint_gradients
from dvcli.errors import DvidError
from dvcli.models import latents
from dvcli.recipes import Tune
from dvcli.runtime import Runtime
from dvcli.stages import Work, inputs, network, preflight
from dvcli.store import Partial

STAGE = Tune.stage
TOLD = 0.5  # seconds between two looks at the loss where looking waits for the device


def build(recipe: Tune, work: Work) -> None:
    """Write `latents` (the clip, encoded once) and `deltas` (the trained tensors, none untuned).

    Goes on from the newest intact checkpoint of an earlier, interrupted run of the same recipe.
    """
    runtime = work.runtime
    frames = torch.from_numpy(inputs.frames(work.inputs["frames"], choice=recipe.frames))
    like = preflight.encode(recipe, (frames.shape[0], frames.shape[1], frames.shape[2]), runtime)
    if recipe.steps == 0:
        network.write_latents(work.out, _encode(recipe, frames, runtime))
        network.write_deltas(work.out, {}, recipe.base)
        return
    seen = torch.empty(like.shape, device=runtime.device)
    depth = network.condition(work.inputs.get("depth"), seen, recipe.normalise)
    text = network.embedding(recipe.base, recipe.prompt, recipe.dtype, STAGE, runtime)
    network.drop_text_encoder(recipe.base, recipe.dtype, runtime)
    saving = preflight.recompute(recipe, like, text, runtime)
    x0 = _encode(recipe, frames, runtime)
    network.write_latents(work.out, x0)
    net = network.untuned(recipe, recipe.dtype, runtime)
    checkpoint_gradients(net, saving.level)
    _train(recipe, work, net, x0, depth, text, offload=saving.offload)
    network.write_deltas(work.out, unet.deltas(net), recipe.base)


def _encode(
    recipe: Tune, frames: UInt8[Tensor, "f H W 3"], runtime: Runtime
) -> Float[Tensor, "f c h w"]:
    vae = network.autoencoder(recipe.base, recipe.dtype, STAGE, runtime)
    x0 = latents.encode(vae, frames, runtime.frame_chunk)
    network.drop_autoencoder(recipe.base, recipe.dtype, runtime)
    return x0


def _train(
    recipe: Tune,
    work: Work,
    net: UNet2DConditionModel,
    x0: torch.Tensor,
    depth: torch.Tensor | None,
    text: torch.Tensor,
    *,
    offload: bool,
) -> None:
    """Train in place, from the newest intact checkpoint, keeping one every so often."""
    start, done = _resume(work.partial)
    steps = tuning.train(
        net,
        x0,
        depth,
        text,
        network.schedule(recipe.base, 1, work.runtime),
        steps=recipe.steps,
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        grad_clip=recipe.grad_clip,
        temporal_weight=recipe.temporal_weight,
        temporal_target=recipe.temporal_target,
        seed=recipe.seed,
        start=start,
        offload=offload,
        by=network.recorder(work.runtime),
    )
    last: tuning.Step | None = None
    saved, told, shown = time.monotonic(), -TOLD, 0.0
    every = TOLD if tuning.asynchronous(x0.device) else 0.0
    try:
        with work.runtime.progress.task("tune", recipe.steps, done) as task:
            for last in steps:
                if time.monotonic() - told >= every:
                    shown, told = last.loss, time.monotonic()
                task.advance(loss=shown)
                if last.index == recipe.steps:
                    break
                if work.runtime.stop.signal is not None:
                    _keep(work.partial, last)
                    work.runtime.stop.check(kept=f"step {last.index} of {recipe.steps} is kept")
                if time.monotonic() - saved >= work.runtime.checkpoint_seconds:
                    _keep(work.partial, last)
                    saved = time.monotonic()
    except DvidError:
        raise
    except Exception:
        # Out of memory, say: the tensors are those of the last whole step, but for an update that
        # broke off in its middle.
        if last is not None:
            with suppress(tuning.Torn):
                _keep(work.partial, last)
        raise
    work.out.info.update(steps=recipe.steps, last_loss=None if last is None else last.loss)


def _keep(partial: Partial, step: tuning.Step) -> None:
    state = step.state()
    partial.save(f"step-{step.index:07d}.safetensors", lambda path: save_file(state, path))


def _resume(partial: Partial) -> tuple[optimising.State | None, int]:
    """The newest intact state and its step, or nothing."""
    for _, path in partial.intact():
        state = load_file(path)
        return state, int(state["step"])
    return None, 0
