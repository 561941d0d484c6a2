"""`torch.compile` for the parts of the network that its time goes into."""

import torch
import torch._dynamo
from diffusers import UNet2DConditionModel
from diffusers.models.resnet import ResnetBlock2D

from dvcli.core.unet import video_blocks

VARIANTS = 64  # of a block: its level's sizes, with and without gradient or known text


def compile_network(unet: UNet2DConditionModel) -> None:
    """Let torch compile every transformer and residual block of an inflated network, in place.

    Block by block, since blocks of one shape share what is compiled, where the whole network at
    once takes many times as long. Nothing is compiled before the first call.
    """
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, VARIANTS)
    for _, block in video_blocks(unet):
        block.mixed = torch.compile(block.mixed)  # type: ignore[method-assign]
        block.compiled = True
    for module in unet.modules():
        if isinstance(module, ResnetBlock2D):
            module.compile()
            module.compiled = True
