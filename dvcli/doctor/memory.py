"""Memory: what tuning and sampling would need at that size, against what is free."""

from typing import Any

from dvcli.core import memory
from dvcli.core.recomputing import LEVELS, Level
from dvcli.doctor import Finding, Findings, Plans
from dvcli.errors import MEMORY_LEVERS
from dvcli.models import load
from dvcli.models.fingerprint import Checkpoint
from dvcli.runtime import Runtime
from dvcli.stages import preflight
from dvcli.stages.preflight import GIB, SLACK, available

TOKENS = 77


def fits(found: Checkpoint, size: tuple[int, int], plans: Plans) -> Findings:
    """Whether tuning and sampling at that (width, height) fit, with the numbers."""
    runtime = Runtime(device=plans.device, memory_limit=plans.memory_limit)
    free = available(runtime)
    latents = (found.latent_channels, size[1] // found.vae_factor, size[0] // found.vae_factor)
    what = f"{plans.frames} frames of {size[0]}×{size[1]} in {plans.dtype}"
    network = preflight.skeleton(found.components["unet"].folder, runtime.device)
    decoder = preflight.autoencoder(found.components["vae"].folder)
    yield _tuning(network, latents, free, what, plans)
    yield _sampling(network, decoder, latents, free, what, plans)


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
    calling = memory.sampling_bytes(
        network,
        frames=plans.frames,
        size=latents,
        tokens=TOKENS,
        dtype=load.DTYPES[plans.dtype],
    )
    chunk = min(Runtime().frame_chunk, plans.frames)
    decoding = preflight.decoding(network, decoder, frames=chunk, size=latents, dtype=plans.dtype)
    need = SLACK * max(calling, decoding)
    said = f"{what} takes {_size(need)} of {_size(free)} free"
    if need <= free:
        return Finding(name="memory to sample", said=said)
    return Finding(name="memory to sample", status="fail", said=said, fix=MEMORY_LEVERS)


def _size(count: float) -> str:
    return f"{count / GIB:.1f} GiB"
