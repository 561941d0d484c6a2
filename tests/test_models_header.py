"""Configs of real models fit the weights they come with; what they could never make is refused."""

from pathlib import Path
from typing import Any

import pytest

from dvcli.errors import InputError
from dvcli.models.header import Header, require_fitting

CLIP_H = {
    "text_config": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "max_position_embeddings": 77,
        "num_hidden_layers": 24,
        "projection_dim": 1024,
        "vocab_size": 49408,
    },
    "vision_config": {
        "hidden_size": 1280,
        "image_size": 224,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "patch_size": 14,
        "projection_dim": 1024,
    },
    "projection_dim": 1024,
}
T5_XXL = {
    "d_ff": 10240,
    "d_kv": 64,
    "d_model": 4096,
    "num_decoder_layers": 24,
    "num_heads": 64,
    "num_layers": 24,
    "vocab_size": 32128,
}
# The settings of the first level are DPT's defaults, which nothing reads beside a backbone.
DPT_DINOV2_SMALL = {
    "backbone_config": {
        "hidden_size": 384,
        "image_size": 518,
        "num_hidden_layers": 12,
        "patch_size": 14,
        "stage_names": ["stem", *[f"stage{n}" for n in range(1, 13)]],
    },
    "backbone_out_indices": [2, 5, 8, 11],
    "hidden_size": 768,
    "image_size": 384,
    "intermediate_size": 3072,
    "neck_hidden_sizes": [48, 96, 192, 384],
    "num_hidden_layers": 12,
    "patch_size": 16,
}
ZOE = {
    "backbone_config": {
        "hidden_size": 1024,
        "image_size": 384,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "patch_size": 16,
        "stage_names": ["stem", *[f"stage{n}" for n in range(1, 25)]],
        "vocab_size": 8192,  # of BEiT's own training
    },
    "bottleneck_features": 256,
    "neck_hidden_sizes": [256, 512, 1024, 1024],
    "num_patch_transformer_layers": 4,
}
COGVIDEOX_15 = {
    "attention_head_dim": 64,
    "in_channels": 16,
    "num_attention_heads": 48,
    "num_layers": 42,
    "patch_size": 2,
    "sample_frames": 81,
    "sample_height": 300,
    "sample_width": 300,
    "text_embed_dim": 4096,
}
SD2_DEPTH = {
    "attention_head_dim": [5, 10, 20, 20],
    "block_out_channels": [320, 640, 1280, 1280],
    "cross_attention_dim": 1024,
    "in_channels": 5,
    "layers_per_block": 2,
    "sample_size": 32,
}
# As counted in diffusers' and transformers' own networks with these settings.
REAL: dict[str, tuple[dict[str, Any], int, int, int]] = {
    "CLIP H": (CLIP_H, 910, 986_109_441, 49_408),
    "T5 XXL": (T5_XXL, 220, 4_893_906_944, 32_128),
    "DPT of a small DINOv2": (DPT_DINOV2_SMALL, 295, 36_611_617, 1_536),
    "ZoeDepth": (ZOE, 553, 333_277_250, 4_096),
    "CogVideoX 1.5": (COGVIDEOX_15, 1024, 5_570_676_352, 18_432),
    "Stable Diffusion 2 depth": (SD2_DEPTH, 686, 865_913_604, 10_240),
}


def held(tensors: int, numbers: int, widest: int) -> Header:
    return Header(
        names=tuple(f"t{number}" for number in range(tensors)), numbers=numbers, widest=widest
    )


@pytest.mark.parametrize("name", REAL)
def test_a_real_models_config_fits_its_weights(name: str) -> None:
    config, *of = REAL[name]
    require_fitting(config, held(*of), Path("config.json"))


@pytest.mark.parametrize(
    "config",
    [
        {"num_hidden_layers": 24, "hidden_size": 40_000, "intermediate_size": 40_000},
        {"vocab_size": 10**5, "hidden_size": 10**4},
        {"num_layers": 24, "d_model": 10**5, "d_ff": 10**5},
        {"num_layers": 4, "d_model": 4096, "num_heads": 10**4, "d_kv": 64},
        {"image_size": 60_000, "patch_size": 1, "hidden_size": 32},
        {"sample_width": 10**4, "sample_height": 10**4, "sample_frames": 81},
        {"num_layers": 2, "num_attention_heads": 10**3, "attention_head_dim": 10**3},
        {"layers_per_block": 200, "transformer_layers_per_block": [200, 1], "x": [1, 2]},
        {"inner": {"backbone_config": {"num_hidden_layers": 5_000}}},
        {"anything": [1] * 5_000},
    ],
    ids=range(10),
)
def test_settings_that_only_together_are_too_much_are_refused(config: dict[str, Any]) -> None:
    of = held(50_000, 10**6, 10**6)
    with pytest.raises(InputError, match=r"asks for more than its weights hold: `\w"):
        require_fitting(config, of, Path("config.json"))
