"""Memory for time in the backward pass: how much of the network is computed twice."""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args

import torch
import torch.utils.checkpoint
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts
from diffusers import Transformer2DModel, UNet2DConditionModel

# From the fastest to the smallest. `blocks` are the transformer blocks; `all` has the residual
# blocks of the three upper levels too. Those below hold a sixty-fourth and take as long.
Level: TypeAlias = Literal["none", "feed-forward", "blocks", "all"]
UPPER = 4
MANY_KEYS = 512
KEPT = {
    getattr(torch.ops.aten, name).default
    for name in (
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_cudnn_attention",
    )
}
LEVELS: tuple[Level, ...] = get_args(Level)


def checkpoint_gradients(unet: UNet2DConditionModel, level: Level) -> None:
    """Let an inflated network recompute that much in the backward pass, and keep the rest."""
    unet.disable_gradient_checkpointing()
    if level == "all":
        unet.enable_gradient_checkpointing(recomputed)
        below = [*unet.down_blocks[UPPER:], *unet.up_blocks[:-UPPER]]
        if len(unet.down_blocks) > UPPER and unet.mid_block is not None:
            below.append(unet.mid_block)
        for block in below:
            block.gradient_checkpointing = False
    for module in unet.modules():
        if isinstance(module, Transformer2DModel) and level == "blocks":
            module._gradient_checkpointing_func = recomputed
            module.gradient_checkpointing = True
        if hasattr(module, "ff_recomputed"):
            module.ff_recomputed = level == "feed-forward"


def checkpointed(unet: UNet2DConditionModel) -> Level:
    """How much of the network is recomputed now."""
    if any(getattr(module, "ff_recomputed", False) for module in unet.modules()):
        return "feed-forward"
    here = [m for m in unet.modules() if getattr(m, "gradient_checkpointing", False)]
    if not here:
        return "none"
    return "blocks" if all(isinstance(m, Transformer2DModel) for m in here) else "all"


def recomputed(work: Callable[..., Any], *args: object) -> Any:
    """What the work gives, computed again when the backward pass needs its inside.

    Non-reentrant: the reentrant kind gives no gradient to a block whose input needs none, which is
    every trainable tensor of the down blocks here.
    """
    return torch.utils.checkpoint.checkpoint(
        work, *args, use_reentrant=False, preserve_rng_state=False, context_fn=_keeping
    )


def _keeping() -> Any:
    return create_selective_checkpoint_contexts(_policy)


def _policy(_context: Any, operation: Any, *args: Any, **_: Any) -> CheckpointPolicy:
    """Attention to many keys is kept: it takes longest to compute for what it takes to hold."""
    many = operation in KEPT and args[1].shape[-2] >= MANY_KEYS
    return CheckpointPolicy.MUST_SAVE if many else CheckpointPolicy.PREFER_RECOMPUTE
