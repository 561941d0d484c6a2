"""Does it fit? An estimate of peak memory against what the device has free, before heavy work."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import psutil
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from jaxtyping import Float
from torch import Tensor

from dvcli.core import memory, unet
from dvcli.core.recomputing import LEVELS, Level
from dvcli.errors import MEMORY_LEVERS, ResourceError
from dvcli.models import latents, load
from dvcli.recipes import DType, Seen, Trained, Tune
from dvcli.runtime import Runtime

Latents: TypeAlias = Float[Tensor, "f c h w"]
Text: TypeAlias = Float[Tensor, "l d"]

CGROUP = Path("/sys/fs/cgroup")
GIB = 2**30
SLACK = 1.25  # kernels' workspaces and fragmentation, which the estimate leaves out


@dataclass(frozen=True, kw_only=True)
class Saving:
    """What tuning does to need less memory: what it computes twice, what it keeps elsewhere."""

    level: Level = "none"
    offload: bool = False


def encode(recipe: Tune, frames: tuple[int, int, int], runtime: Runtime) -> Latents:
    """The latents that frames so many, so high and so wide become, on `meta`: their shape alone.

    Raises `ResourceError` when encoding them would not fit.
    """
    count, height, width = frames
    vae = autoencoder(runtime.locate(recipe.base.vae))
    free, chunk = available(runtime), min(runtime.frame_chunk, count)
    need = memory.encoding_bytes(
        vae,
        frames=chunk,
        size=(vae.config.in_channels, height, width),
        dtype=load.vae_dtype(vae.config, recipe.dtype),
    )
    if need * SLACK > free:
        raise _too_little("encoding the frames", need, free, runtime)
    smaller = latents.factor(vae.config)
    channels: int = vae.config.latent_channels
    return torch.empty(count, channels, height // smaller, width // smaller, device="meta")


def recompute(recipe: Tune, x0: Latents, text: Text, runtime: Runtime) -> Saving:
    """The fastest way of tuning that fits; `ResourceError` when none does.

    `x0` and `text` are the latents and the prompt's embedding to tune on, or tensors of their
    shapes.
    """
    free = available(runtime)
    net = _network(recipe, runtime)
    size, ways = _size(x0), _ways(runtime)
    if _ample(net, len(x0), size, len(text), free):
        return ways[0]
    need = 0
    for saving in ways:
        need = memory.tuning_bytes(
            net,
            frames=len(x0),
            size=size,
            tokens=len(text),
            dtype=load.DTYPES[recipe.dtype],
            level=saving.level,
            offload=saving.offload,
        )
        if need * SLACK <= free:
            return saving
    raise _too_little("tuning", need, free, runtime)


def _ways(runtime: Runtime) -> list[Saving]:
    """The ways of tuning that may be taken, from the fastest to the smallest."""
    elsewhere = runtime.device != "cpu"  # there the optimiser's state is on the CPU anyway
    asked = "on" if runtime.memory == "low" else runtime.checkpoint_grad
    if asked == "auto":
        kept = [Saving(level=level) for level in LEVELS]
        return [*kept, Saving(level="all", offload=True)] if elsewhere else kept
    only: dict[str, Level] = {"off": "none", "feed-forward": "feed-forward", "blocks": "blocks"}
    return [Saving(level=only.get(asked, "all"), offload=runtime.memory == "low" and elsewhere)]


def side_by_side(
    recipe: Tune, x0: Latents, text: Text, dtype: DType, runtime: Runtime, held: bool = False
) -> bool:
    """Whether guidance runs both prompts in one batch: on a GPU with the memory for it.

    Off a GPU it never does: there it gains little, and what happens to be free would round a clip's
    last digits one way or the other. `held` says that the network is loaded, so that its weights
    are not among what is free.
    """
    if not runtime.device.startswith("cuda") or runtime.memory == "low":
        return False
    net, free = _network(recipe, runtime), available(runtime)
    if held and runtime.memory_limit is None:
        free += _weights(net, dtype)
    frames, size = 2 * len(x0), _size(x0)
    if _ample(net, frames, size, len(text), free):
        return True
    need = memory.sampling_bytes(
        net, frames=frames, size=size, tokens=len(text), dtype=load.DTYPES[dtype]
    )
    return need * SLACK <= free


def sample(recipe: Tune, x0: Latents, text: Text, dtype: DType, runtime: Runtime) -> None:
    """Raise `ResourceError` when a call of the network, or decoding after it, would not fit.

    To be asked before either is loaded: their weights are part of what is needed.
    """
    free, size = available(runtime), _size(x0)
    net, vae = _network(recipe, runtime), autoencoder(runtime.locate(recipe.base.vae))
    chunk = min(runtime.frame_chunk, len(x0))
    spent = decoding(net, vae, frames=chunk, size=size, dtype=dtype)
    if not _ample(net, len(x0), size, len(text), free):
        calling = memory.sampling_bytes(
            net, frames=len(x0), size=size, tokens=len(text), dtype=load.DTYPES[dtype]
        )
        spent = max(spent, calling)
    if spent * SLACK > free:
        raise _too_little("sampling", spent, free, runtime)


def decoding(net: Any, vae: Any, *, frames: int, size: memory.Size, dtype: DType) -> int:
    """Peak bytes of decoding so many frames at once, the network held for the next prompt."""
    in_dtype = load.vae_dtype(vae.config, dtype)
    return _weights(net, dtype) + memory.decoding_bytes(
        vae, frames=frames, size=size, dtype=in_dtype
    )


def _weights(net: Any, dtype: DType) -> int:
    count: int = sum(p.numel() for p in net.parameters())
    return count * load.DTYPES[dtype].itemsize


def _ample(net: Any, frames: int, size: memory.Size, tokens: int, free: int) -> bool:
    """Whether so much is free that nobody need work out how much less would do."""
    return memory.bound(net, frames=frames, size=size, tokens=tokens) * SLACK <= free


def _size(x0: Latents) -> memory.Size:
    return (x0.shape[1], x0.shape[2], x0.shape[3])


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


def _network(recipe: Tune, runtime: Runtime) -> Any:
    folder = runtime.locate(recipe.base.unet)
    return skeleton(folder, runtime.device, sees=recipe.attention, trained=recipe.train)


def skeleton(
    folder: Path, device: str, *, sees: Seen = Tune.attention, trained: Trained = Tune.train
) -> Any:
    """The inflated network of a U-Net's folder without any weights, to reckon for that device."""
    config = UNet2DConditionModel.load_config(folder)
    with torch.device("meta"), load.telling(folder):
        net = UNet2DConditionModel.from_config(config)
        unet.inflate(net, torch.Generator(), sees=sees, trained=trained)
    if device != "cpu":
        unet.reckon_off_cpu(net)
    return net


def autoencoder(folder: Path) -> Any:
    """The autoencoder of a folder without any weights."""
    config = AutoencoderKL.load_config(folder)
    with torch.device("meta"), load.telling(folder):
        return AutoencoderKL.from_config(config)


def _too_little(doing: str, need: int, free: int, runtime: Runtime) -> ResourceError:
    return ResourceError(
        f"{doing} needs about {need * SLACK / GIB:.1f} GiB on `{runtime.device}`,"
        f" which has {free / GIB:.1f} GiB free",
        hint=MEMORY_LEVERS,
    )
