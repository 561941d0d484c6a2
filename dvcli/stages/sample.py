"""A new clip: DDIM from the inverted latent under an edited prompt, with guidance and depth."""

import math
from collections.abc import Callable

import torch

from dvcli.core import ddim, reuse, unet
from dvcli.core import depth as depth_map
from dvcli.models import latents
from dvcli.recipes import DType, Invert, Sample, Tune
from dvcli.runtime import Runtime
from dvcli.stages import Work, finite, network, preflight
from dvcli.store import Artifact
from dvcli.video import frames as frame_file

# An inversion loads the same models, so what it left is taken over.
SHELF = Invert.stage


@torch.no_grad()
def build(recipe: Sample, work: Work) -> None:
    """Write `frames`: uint8 RGB `[f H W 3]`."""
    runtime = work.runtime
    base = recipe.inverted.tuned.base
    noise = torch.Generator().manual_seed(recipe.seed)
    clip = network.clip_latents(work.inputs["tuned"], recipe.inverted.tuned, SHELF, runtime)
    plan = network.schedule(base, recipe.inverted.steps, runtime)
    passed = _passed(recipe, work, clip, plan, noise)
    denoise = _denoiser(recipe, work, clip, plan)
    steps = ddim.sample_last(
        denoise, passed, plan, recipe.strength, eta=recipe.eta, generator=noise
    )
    x = clip
    with runtime.progress.task("sample", math.ceil(recipe.strength * len(plan))) as task:
        watch = finite.Watch("sampling", math.ceil(recipe.strength * len(plan)))
        for step in steps:
            watch.look(step)
            x = step
            task.advance()
            runtime.stop.check(kept="the inversion is kept")
    del denoise, steps  # and with them the memory of a recording
    vae = network.autoencoder(base, recipe.dtype, SHELF, runtime)
    frames = latents.decode(vae, x, runtime.frame_chunk)
    network.spare(base, recipe.dtype, runtime)
    work.out.write("frames", lambda path: frame_file.save(path, frames.cpu().numpy()))
    count, height, width, _ = frames.shape
    work.out.info.update(frames=count, size=[width, height])


def _passed(
    recipe: Sample,
    work: Work,
    clip: torch.Tensor,
    plan: ddim.Schedule,
    generator: torch.Generator,
) -> Callable[[int], torch.Tensor]:
    """The clip's latent before each step: from the inversion, or the clip with so much noise."""
    if recipe.midway:
        way = network.read_trajectory(work.inputs["inverted"], clip, len(plan))
        return lambda k: way[len(plan) - k]
    if recipe.start == "inverted":
        last = network.read_latents(work.inputs["inverted"], clip)
        return lambda k: last
    noise = torch.randn(clip.shape, generator=generator).to(clip.device)
    if recipe.strength == 1:
        return lambda k: noise
    alphas = (*plan.alphas, 1.0)
    return lambda k: ddim.add_noise(clip, noise, alphas[k])


def _denoiser(recipe: Sample, work: Work, clip: torch.Tensor, plan: ddim.Schedule) -> ddim.Denoiser:
    """Guidance over the edited prompt and the negative one; both see depth while it acts."""
    runtime, tuned = work.runtime, recipe.inverted.tuned
    depth = network.condition(
        work.inputs.get("depth"), clip, tuned.normalise, recipe.controls, work.inputs.get("blend")
    )
    words = [
        network.embedding(tuned.base, recipe.prompt, recipe.dtype, SHELF, runtime),
        network.embedding(
            tuned.base, recipe.negative, recipe.dtype, SHELF, runtime, "negative prompt"
        ),
    ]
    network.spare(tuned.base, recipe.dtype, runtime)
    # Each prompt keeps features of its own, so with those the two go in turn.
    together = (
        recipe.guided
        and recipe.reuse == 1
        and _side_by_side(tuned, work.inputs["tuned"], clip, words[0], recipe.dtype, runtime)
    )
    net = network.tuned(tuned, work.inputs["tuned"], clip, words[0], recipe.dtype, SHELF, runtime)
    # A recorded call replays all levels of the network, so one that skips some is not recorded.
    by = network.recorder(runtime) if recipe.reuse == 1 else None

    def bound(text: torch.Tensor, seen: torch.Tensor | None) -> ddim.Denoiser:
        whole = unet.bind(net, text, seen, schedule=plan, by=by)
        return reuse.reuse_features(net, whole, recipe.reuse)

    def under(seen: torch.Tensor | None) -> tuple[ddim.Denoiser, ddim.PairDenoiser]:
        """The prompt alone, and both prompts."""
        cond = bound(words[0], seen)
        if together:
            return cond, unet.bind_pair(net, words[0], words[1], seen, plan, by=by)
        return cond, ddim.in_turn(cond, bound(words[1], seen))

    cond, both = under(depth)
    active = recipe.controls.active
    if depth is not None and active < 1:
        blind = under(torch.zeros_like(depth))
        cond = depth_map.fade_depth(cond, blind[0], plan, active)
        both = depth_map.fade_depth(both, blind[1], plan, active)
    return ddim.guide_within(
        cond,
        both,
        recipe.guidance,
        plan,
        start=recipe.guidance_from,
        until=recipe.guidance_until,
    )


def _side_by_side(
    tuned: Tune,
    artifact: Artifact,
    clip: torch.Tensor,
    text: torch.Tensor,
    dtype: DType,
    runtime: Runtime,
) -> bool:
    """Whether both prompts go through the network in one batch; asked once."""
    held = network.loaded(tuned, artifact, dtype, runtime)
    return runtime.shelf.get(
        SHELF,
        ("side by side", tuned.base.unet, dtype, clip.shape),
        lambda: preflight.side_by_side(tuned, clip, text, dtype, runtime, held),
    )
