"""Memory for time in the backward pass: how much of the network is computed twice."""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args

import torch
import torch.utils.checkpoint
from diffusers import Transformer2DModel, UNet2DConditionModel
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

# From the fastest to the smallest. `blocks` are the transformer blocks; `all` has the residual
# convolution blocks too.
Level: TypeAlias = Literal["none", "feed-forward", "blocks", "all"]
LEVELS: tuple[Level, ...] = get_args(Level)

MANY_KEYS = 512
ATTENTION = {
    getattr(torch.ops.aten, f"_scaled_dot_product_{name}").default
    for name in (
        "flash_attention_for_cpu",
        "flash_attention",
        "efficient_attention",
        "cudnn_attention",
    )
}


def checkpoint_gradients(unet: UNet2DConditionModel, level: Level) -> None:
    """Let an inflated network recompute that much in the backward pass, and keep the rest."""
    unet.disable_gradient_checkpointing()
    if level == "all":
        unet.enable_gradient_checkpointing(recomputed)
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

    But attention to many keys, which takes long for what its result holds, is kept; not in compiled
    work, whose operations torch cannot tell apart from outside. Non-reentrant: the reentrant kind
    gives no gradient to a block whose input needs none, which is every trainable tensor of the down
    blocks here.
    """
    if torch.compiler.is_compiling() or getattr(work, "compiled", False):
        return torch.utils.checkpoint.checkpoint(
            work, *args, use_reentrant=False, preserve_rng_state=False
        )
    return torch.utils.checkpoint.checkpoint(
        work, *args, use_reentrant=False, preserve_rng_state=False, context_fn=_keeping_attention
    )


def _keeping_attention() -> Any:
    return create_selective_checkpoint_contexts(_policy)  # type: ignore[no-untyped-call]


def _policy(_context: Any, operation: Any, *args: Any, **_: Any) -> CheckpointPolicy:
    if operation in ATTENTION and args[1].shape[-2] >= MANY_KEYS:
        return CheckpointPolicy.MUST_SAVE
    return CheckpointPolicy.PREFER_RECOMPUTE
