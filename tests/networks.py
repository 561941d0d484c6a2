"""Small U-Nets with random weights, for tests of what is done to a U-Net."""

from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from dvcli.core.unet import video_blocks

SHAPE: dict[str, Any] = {
    "sample_size": 8,
    "in_channels": 5,
    "out_channels": 4,
    "block_out_channels": (8, 16),
    "attention_head_dim": (1, 2),  # heads per level
    "layers_per_block": 1,
    "cross_attention_dim": 12,
    "norm_num_groups": 4,
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
}


def small(**changes: Any) -> UNet2DConditionModel:
    """A stock U-Net of two levels, always with the same weights."""
    torch.manual_seed(0)
    return UNet2DConditionModel(**(SHAPE | changes)).eval()


def awake(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """The inflated network with temporal layers that do something."""
    generator = torch.Generator().manual_seed(5)
    for _, block in video_blocks(unet):
        for parameter in block.attn_temp.to_out.parameters():
            nn.init.normal_(parameter, std=0.2, generator=generator)
    return unet


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
