"""Does it fit? An estimate of peak memory against what the device has free, before heavy work."""

from pathlib import Path
from typing import Any, TypeAlias

import psutil
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from jaxtyping import Float
from torch import Tensor

from dvcli.core import memory, unet
from dvcli.errors import MEMORY_LEVERS, ResourceError
from dvcli.models import load
from dvcli.models.layout import read_json
from dvcli.recipes import Base, DType
from dvcli.runtime import Runtime

Latents: TypeAlias = Float[Tensor, "f c h w"]
Text: TypeAlias = Float[Tensor, "l d"]

CGROUP = Path("/sys/fs/cgroup")
GIB = 2**30
SLACK = 1.25  # kernels' workspaces and fragmentation, which the estimate leaves out


def recompute(base: Base, x0: Latents, text: Text, dtype: DType, runtime: Runtime) -> bool:
    """Whether tuning must recompute activations to fit; `ResourceError` when it cannot at all.

    `x0` and `text` are the latents and the prompt's embedding to tune on.
    """
    free = available(runtime)
    net = _skeleton(base, runtime)
    need = 0
    for checkpointed in {"on": (True,), "off": (False,), "auto": (False, True)}[
        runtime.checkpoint_grad
    ]:
        need = memory.tuning_bytes(
            net,
            frames=len(x0),
            size=(x0.shape[1], x0.shape[2], x0.shape[3]),
            tokens=len(text),
            dtype=load.DTYPES[dtype],
            checkpointed=checkpointed,
        )
        if need * SLACK <= free:
            return checkpointed
    raise _too_little("tuning", need, free, runtime)


def sample(base: Base, x0: Latents, text: Text, dtype: DType, runtime: Runtime) -> None:
    """Raise `ResourceError` when a call of the network, or decoding after it, would not fit.

    To be asked before either is loaded: their weights are part of what is needed.
    """
    free = available(runtime)
    size = (x0.shape[1], x0.shape[2], x0.shape[3])
    in_dtype = load.DTYPES[dtype]
    net, vae = _skeleton(base, runtime), _decoder(base, runtime)
    calling = memory.sampling_bytes(
        net, frames=len(x0), size=size, tokens=len(text), dtype=in_dtype
    )
    decoding = memory.decoding_bytes(
        vae,
        frames=min(runtime.frame_chunk, len(x0)),
        size=size,
        dtype=load.vae_dtype(read_json(runtime.locate(base.vae) / "config.json"), dtype),
    )
    # The network stays loaded while its result is decoded, for the next prompt.
    kept = sum(p.numel() for p in net.parameters()) * in_dtype.itemsize
    need = max(calling, decoding + kept)
    if need * SLACK > free:
        raise _too_little("sampling", need, free, runtime)


def available(runtime: Runtime) -> int:
    """Bytes that the device has free, or that the user says it has."""
    if runtime.memory_limit is not None:
        return runtime.memory_limit
    if runtime.device.startswith("cuda"):
        device = torch.device(runtime.device)
        # What torch has been given and does not use now is free for torch, not for the driver.
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    if runtime.device == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return min(int(psutil.virtual_memory().available), _cgroup_free())


def _cgroup_free() -> int:
    """What a container's own limit leaves, which the machine's free memory does not show."""
    try:
        limit = (CGROUP / "memory.max").read_text().strip()
        used = int((CGROUP / "memory.current").read_text())
    except (OSError, ValueError):
        return 2**62
    return 2**62 if limit == "max" else max(int(limit) - used, 0)


def _skeleton(base: Base, runtime: Runtime) -> Any:
    """The inflated network without any weights."""
    config = UNet2DConditionModel.load_config(runtime.locate(base.unet))
    with torch.device("meta"):
        return unet.inflate(UNet2DConditionModel.from_config(config), torch.Generator())


def _decoder(base: Base, runtime: Runtime) -> Any:
    config = AutoencoderKL.load_config(runtime.locate(base.vae))
    with torch.device("meta"):
        return AutoencoderKL.from_config(config)


def _too_little(doing: str, need: int, free: int, runtime: Runtime) -> ResourceError:
    return ResourceError(
        f"{doing} needs about {need * SLACK / GIB:.1f} GiB on `{runtime.device}`,"
        f" which has {free / GIB:.1f} GiB free",
        hint=MEMORY_LEVERS,
    )
