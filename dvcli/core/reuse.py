"""Features of the network's deep levels kept for a few steps, as they change slowly.

Ma et al., DeepCache: Accelerating Diffusion Models for Free, 2023, with their uniform schedule and
the whole first level as the shallow part.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from diffusers import UNet2DConditionModel
from torch import Tensor

from dvcli.core.ddim import Clip, Denoiser


def reuse_features(unet: UNet2DConditionModel, denoise: Denoiser, every: int) -> Denoiser:
    """The denoiser, whose network computes its deep levels at each `every`-th call alone.

    In between the first level alone is computed, on what the deep ones gave last. `denoise` calls
    `unet` once a call, on clips of one size; each denoiser keeps features of its own. With `every`
    1, or a network of one level, it is `denoise` itself.
    """
    if every == 1 or len(unet.up_blocks) == 1:
        return denoise
    calls = 0
    kept: Tensor | None = None

    def shallow_in_between(x: Clip, t: int) -> Clip:
        nonlocal calls, kept
        anew = calls % every == 0 or kept is None
        calls += 1
        if not anew:
            assert kept is not None
            with _given(unet, kept):
                return denoise(x, t)
        with _watched(unet) as seen:
            out = denoise(x, t)
        (kept,) = seen
        return out

    return shallow_in_between


@contextmanager
def _watched(unet: UNet2DConditionModel) -> Iterator[list[Tensor]]:
    """What the deep levels give within this context."""
    seen: list[Tensor] = []

    def see(_module: Any, _arguments: Any, output: Tensor) -> None:
        seen.append(output)

    hook = unet.up_blocks[-2].register_forward_hook(see)
    try:
        yield seen
    finally:
        hook.remove()


@contextmanager
def _given(unet: UNet2DConditionModel, features: Tensor) -> Iterator[None]:
    """The deep levels give those features and compute nothing within this context."""

    def down(block: Any) -> Any:
        count = len(block.resnets) + (block.downsamplers is not None)
        # As many skip connections as are taken off the pile again; nobody looks at them.
        return lambda hidden_states, **_: (hidden_states, (hidden_states,) * count)

    def same(hidden_states: Tensor, *_: object, **__: object) -> Tensor:
        return hidden_states

    def last(**_: object) -> Tensor:
        return features

    replaced = [(block, down(block)) for block in unet.down_blocks[1:]]
    if unet.mid_block is not None:
        replaced.append((unet.mid_block, same))
    replaced += [(block, same) for block in unet.up_blocks[:-2]]
    replaced.append((unet.up_blocks[-2], last))
    try:
        for block, forward in replaced:
            block.forward = forward
        yield
    finally:
        for block, _ in replaced:
            block.__dict__.pop("forward", None)
