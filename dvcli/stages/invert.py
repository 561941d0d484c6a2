"""DDIM inversion of the clip on the tuned network, with a report of how well it gives it back."""

import logging
from functools import partial

import torch
from safetensors.torch import save_file

from dvcli.core import ddim, metrics, unet
from dvcli.models import latents
from dvcli.recipes import Invert
from dvcli.stages import Work, finite, network
from dvcli.video import frames as frame_file

STAGE = Invert.stage
POOR = 20.0  # dB, against the VAE's own reconstruction: below, the motion suffers, too
log = logging.getLogger(__name__)


@torch.no_grad()
def build(recipe: Invert, work: Work) -> None:
    """Write `latents` (x_T) and `reconstruction`, frames sampled back with the same conditions.

    With `trajectory` every step's latents too. The info carries the reconstruction's `psnr` in dB.
    """
    runtime = work.runtime
    base = recipe.tuned.base
    x0 = network.clip_latents(work.inputs["tuned"], recipe.tuned, STAGE, runtime)
    plan = network.schedule(base, recipe.steps, runtime)
    depth = network.condition(work.inputs.get("depth"), x0, recipe.tuned.normalise)
    text = network.embedding(base, recipe.prompt, recipe.dtype, STAGE, runtime)
    network.spare(base, recipe.dtype, runtime)
    net = network.tuned(recipe.tuned, work.inputs["tuned"], x0, text, recipe.dtype, STAGE, runtime)
    denoise = unet.bind(net, text, depth, schedule=plan, by=network.recorder(runtime))

    path = [x0]
    with runtime.progress.task("invert", recipe.steps) as task:
        watch = finite.Watch("inversion", recipe.steps)
        for x in ddim.invert(denoise, x0, plan, refine=recipe.refine):
            watch.look(x)
            path.append(x)
            task.advance()
            runtime.stop.check(kept="the tuning is kept")
    network.write_latents(work.out, path[-1])
    if recipe.trajectory:
        whole = torch.stack([x.detach().float().cpu() for x in path])
        work.out.write("trajectory", partial(save_file, {"trajectory": whole}))

    back = path[-1]
    with runtime.progress.task("reconstruct", recipe.steps) as task:
        watch = finite.Watch("the reconstruction", recipe.steps)
        for x in ddim.sample(denoise, path[-1], plan):
            watch.look(x)
            back = x
            task.advance()
            runtime.stop.check(kept="the tuning is kept")
    del denoise  # and with it the memory of a recording
    vae = network.autoencoder(base, recipe.dtype, STAGE, runtime)
    chunk = runtime.frame_chunk
    ours, best = latents.decode(vae, back, chunk), latents.decode(vae, x0, chunk)
    network.spare(base, recipe.dtype, runtime)
    work.out.write("reconstruction", lambda path: frame_file.save(path, ours.numpy()))
    psnr = metrics.psnr(ours.float(), best.float(), peak=255.0)
    work.out.info.update(psnr=round(psnr, 3), steps=recipe.steps)
    if psnr < POOR:
        log.warning(
            "the inversion gives the clip back at only %.1f dB; `--refine` of `dvid invert`, once"
            " or once more, brings it closer, and so do more `--steps`",
            psnr,
        )
