"""How much memory a tuning step or a network call will take, found without allocating any of it."""

import math
import weakref
from collections.abc import Iterable
from typing import Any, TypeAlias

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dvcli.core.recomputing import Level, checkpoint_gradients, checkpointed
from dvcli.core.unet import VideoBlock, delta_parameters, predict

# Numbers that a layer keeps for each that comes in, at most.
BLOCK, WORDS, RESIDUAL = 64, 4, 12
Size: TypeAlias = tuple[int, int, int]  # channels, height, width; of latents without the depth


class Watch(TorchDispatchMode):
    """Counts the bytes of the storages that operations make, and their peak while it is on."""

    def __init__(self, held: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self.peak = 0
        self.alive: set[int] = set()
        for tensor in held:
            self.count(tensor.untyped_storage())

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self.count(leaf.untyped_storage())
        return out

    def count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self.alive:
            self.alive.add(key)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self.forget, key, size)

    def forget(self, key: int, size: int) -> None:
        self.alive.discard(key)
        self.now -= size


class TuningStep(nn.Module):
    """Forward and backward as one call, so that recomputation sees the fake parameters too."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, x: Tensor, text: Tensor, depth: Tensor | None) -> None:
        predict(self.unet, x, 1, text, depth).square().mean().backward()  # type: ignore[no-untyped-call]


class SamplingStep(nn.Module):
    """One call of the network, no gradient."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.unet = unet

    @torch.no_grad()
    def forward(self, x: Tensor, text: Tensor, depth: Tensor | None) -> None:
        predict(self.unet, x, 1, text, depth)


class EncodingStep(nn.Module):
    """One encoding of frames, in the dtype of the weights."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, frames: Tensor) -> None:
        self.vae.encode(frames.to(next(self.vae.parameters()).dtype)).latent_dist.mode()


class DecodingStep(nn.Module):
    """One decoding of latents, in the dtype of the weights."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, latents: Tensor) -> None:
        self.vae.decode(latents.to(next(self.vae.parameters()).dtype))


def tuning_bytes(
    unet: UNet2DConditionModel,
    *,
    frames: int,
    size: Size,
    tokens: int,
    dtype: torch.dtype,
    level: Level,
    offload: bool = False,
) -> int:
    """Peak bytes of tuning an inflated network, on whatever device it is (`meta` too).

    Weights in `dtype`, the trained ones in float32 with two moments each unless those are kept
    elsewhere, and the highest point of activations and gradients in a forward and backward pass on
    fake tensors, at that level of recomputation. Workspaces of kernels and the fragmentation of an
    allocator come on top.
    """
    before = checkpointed(unet)
    checkpoint_gradients(unet, level)
    try:
        each = 0 if offload else 8
        moments = sum(each * p.numel() for p in delta_parameters(unet).values())
        return moments + peak(TuningStep(unet), frames, size, tokens, dtype)
    finally:
        checkpoint_gradients(unet, before)


def bound(unet: UNet2DConditionModel, *, frames: int, size: Size, tokens: int) -> int:
    """More bytes than tuning or calling an inflated network takes at any level, found at once.

    As if every weight were trained and every block kept all that it computes: two to four times
    the estimate, which takes a second to find.
    """
    down, up = list(unet.down_blocks), list(unet.up_blocks)
    middle = [] if unet.mid_block is None else [unet.mid_block]
    last = len(down) - 1
    parts = [*enumerate(down), *((last, part) for part in middle)]
    parts += [(last - place, part) for place, part in enumerate(up)]
    held: int = 0
    for level, part in parts:
        # As many rows and columns as a level of odd size rounds up to.
        pixels = frames * math.prod(-(-side // 2**level) for side in size[1:])
        for module in part.modules():
            if isinstance(module, VideoBlock):
                width = module.attn1.query_dim
                held += pixels * (BLOCK * width + WORDS * module.attn2.heads * tokens)
            elif isinstance(module, ResnetBlock2D):
                held += pixels * RESIDUAL * (module.in_channels + module.out_channels)
    weights: int = sum(p.numel() for p in unet.parameters())
    return 4 * held + 16 * weights


def sampling_bytes(
    unet: UNet2DConditionModel, *, frames: int, size: Size, tokens: int, dtype: torch.dtype
) -> int:
    """Peak bytes of one call of an inflated network without gradient, weights included."""
    return peak(SamplingStep(unet), frames, size, tokens, dtype)


def decoding_bytes(vae: AutoencoderKL, *, frames: int, size: Size, dtype: torch.dtype) -> int:
    """Peak bytes of decoding that many latents at once without gradient, weights included."""
    return _passing(DecodingStep(vae), (frames, *size), dtype)


def encoding_bytes(vae: AutoencoderKL, *, frames: int, size: Size, dtype: torch.dtype) -> int:
    """Peak bytes of encoding that many frames at once without gradient, weights included.

    `size` is that of the frames: three channels, and their height and width in pixels.
    """
    return _passing(EncodingStep(vae), (frames, *size), dtype)


def _passing(step: nn.Module, shape: tuple[int, ...], dtype: torch.dtype) -> int:
    """The highest point of one step on an input of that shape, its weights included."""
    with FakeTensorMode():
        weights = {n: torch.empty(p.shape, dtype=dtype) for n, p in step.named_parameters()}
        watch = Watch(weights.values())
        with watch, torch.no_grad():
            functional_call(step, weights, torch.empty(shape))
    return watch.peak


def peak(
    step: "TuningStep | SamplingStep", frames: int, size: Size, tokens: int, dtype: torch.dtype
) -> int:
    """The highest point of one step, its weights included."""
    unet, (channels, height, width) = step.unet, size
    trained = {f"unet.{name}" for name in delta_parameters(unet)}
    conditioned = unet.conv_in.in_channels > channels
    with FakeTensorMode():
        weights = {
            name: torch.empty(
                p.shape,
                dtype=torch.float32 if name in trained else dtype,
                requires_grad=name in trained,
            )
            for name, p in step.named_parameters()
        }
        x = torch.empty(frames, channels, height, width)
        depth = torch.empty(frames, 1, height, width) if conditioned else None
        text = torch.empty(tokens, unet.config.cross_attention_dim)
        watch = Watch(weights.values())
        with watch:
            functional_call(step, weights, (x, text, depth))
    return watch.peak
