"""Memory: what tuning and sampling would need at that size, against what is free."""

from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from dvcli.core import memory, unet
from dvcli.core.recomputing import LEVELS, Level
from dvcli.doctor import Finding, Findings, Plans
from dvcli.errors import MEMORY_LEVERS
from dvcli.models import load
from dvcli.models.fingerprint import Checkpoint
from dvcli.recipes import Tune
from dvcli.runtime import Runtime
from dvcli.stages.preflight import GIB, SLACK, available

TOKENS = 77


def fits(found: Checkpoint, size: tuple[int, int], plans: Plans) -> Findings:
    """Whether tuning and sampling at that (width, height) fit, with the numbers."""
    runtime = Runtime(device=plans.device, memory_limit=plans.memory_limit)
    free = available(runtime)
    latents = (found.latent_channels, size[1] // found.vae_factor, size[0] // found.vae_factor)
    what = f"{plans.frames} frames of {size[0]}×{size[1]} in {plans.dtype}"
    network = _network(found)
    yield _tuning(network, latents, free, what, plans)
    yield _sampling(network, _decoder(found), latents, free, what, plans)


def _tuning(network: Any, latents: memory.Size, free: int, what: str, plans: Plans) -> Finding:
    def need(level: Level) -> float:
        return SLACK * memory.tuning_bytes(
            network,
            frames=plans.frames,
            size=latents,
            tokens=TOKENS,
            dtype=load.DTYPES[plans.dtype],
            level=level,
        )

    whole = need("none")
    said = f"{what} takes {_size(whole)} of {_size(free)} free"
    if whole <= free:
        return Finding(name="memory to tune", said=said)
    least = need(LEVELS[-1])
    if least <= free:
        return Finding(
            name="memory to tune",
            said=f"{what} takes {_size(whole)}, or {_size(least)} by computing twice, which it"
            f" does; {_size(free)} is free",
        )
    return Finding(
        name="memory to tune",
        status="fail",
        said=f"{what} takes {_size(least)} at least, {_size(free)} is free",
        fix=MEMORY_LEVERS,
    )


def _sampling(
    network: Any, decoder: Any, latents: memory.Size, free: int, what: str, plans: Plans
) -> Finding:
    dtype = load.DTYPES[plans.dtype]
    calling = memory.sampling_bytes(
        network, frames=plans.frames, size=latents, tokens=TOKENS, dtype=dtype
    )
    kept = sum(p.numel() for p in network.parameters()) * dtype.itemsize
    decoding = memory.decoding_bytes(
        decoder,
        frames=min(Runtime.frame_chunk, plans.frames),
        size=latents,
        dtype=load.vae_dtype(decoder.config, plans.dtype),
    )
    need = SLACK * max(calling, decoding + kept)
    said = f"{what} takes {_size(need)} of {_size(free)} free"
    if need <= free:
        return Finding(name="memory to sample", said=said)
    return Finding(name="memory to sample", status="fail", said=said, fix=MEMORY_LEVERS)


def _network(found: Checkpoint) -> Any:
    """The inflated network without any weights."""
    folder = found.components["unet"].folder
    config = UNet2DConditionModel.load_config(folder)
    with torch.device("meta"), load.telling(folder):
        network = UNet2DConditionModel.from_config(config)
        return unet.inflate(network, torch.Generator(), sees=Tune.attention, trained=Tune.train)


def _decoder(found: Checkpoint) -> Any:
    folder = found.components["vae"].folder
    with torch.device("meta"), load.telling(folder):
        return AutoencoderKL.from_config(AutoencoderKL.load_config(folder))


def _size(count: float) -> str:
    return f"{count / GIB:.1f} GiB"
