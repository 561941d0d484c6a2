"""The members of the family, untrained: stock diffusers and transformers classes, tiny configs."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from tokenizers import pre_tokenizers
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    DPTConfig,
    DPTForDepthEstimation,
)

SIDE = 64
LATENT = 16
TOKENS = 32
WIDTH = 128  # of the text embeddings
MERGES = Path(__file__).with_name("merges.txt")
_BOS, _EOS = "<|startoftext|>", "<|endoftext|>"


def tokenizer() -> CLIPTokenizer:
    """A CLIP tokenizer in which every word of the world is one token and any text is readable.

    Its merges were learnt once, from the world's words, and are kept: `BpeTrainer` breaks ties by
    chance, so that learning them again would number some words otherwise in every process.
    """
    lines = MERGES.read_text(encoding="utf-8").splitlines()
    merges = [(first, second) for first, second in (line.split() for line in lines)]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = letters + [f"{letter}</w>" for letter in letters] + [a + b for a, b in merges]
    names = [*dict.fromkeys(names), _BOS, _EOS]
    return CLIPTokenizer(
        vocab={name: i for i, name in enumerate(names)}, merges=merges, model_max_length=TOKENS
    )


def _text_config(words: CLIPTokenizer, layers: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=TOKENS,
        projection_dim=WIDTH,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )


def text_encoder(words: CLIPTokenizer) -> CLIPTextModel:
    """The text tower: 3 layers, 128 wide."""
    return CLIPTextModel(_text_config(words, layers=3))


def unet(in_channels: int) -> UNet2DConditionModel:
    """The denoiser; 5 channels in with depth, 4 without."""
    return UNet2DConditionModel(
        sample_size=LATENT,
        in_channels=in_channels,
        out_channels=4,
        block_out_channels=(64, 128),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=(2, 4),  # diffusers reads these as numbers of heads
        use_linear_projection=True,
        norm_num_groups=16,
    )


def vae() -> AutoencoderKL:
    """The autoencoder: 64 px to 16×16×4 latents."""
    return AutoencoderKL(
        sample_size=SIDE,
        block_out_channels=(16, 32, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )


def depth_estimator() -> DPTForDepthEstimation:
    """The MiDaS-like estimator: 64 px in and out, inverse depth up to scale and shift."""
    return DPTForDepthEstimation(
        DPTConfig(
            image_size=SIDE,
            patch_size=8,
            hidden_size=96,
            num_hidden_layers=4,
            num_attention_heads=4,
            intermediate_size=256,
            backbone_out_indices=[0, 1, 2, 3],
            neck_hidden_sizes=[24, 32, 48, 64],
            reassemble_factors=[2, 1, 0.5, 0.25],
            fusion_hidden_size=32,
            is_hybrid=False,
            use_batch_norm_in_fusion_residual=False,
            use_auxiliary_head=False,
        )
    )


def clip(words: CLIPTokenizer) -> CLIPModel:
    """The judge of `dvid eval`: text and picture towers of 128, projection 128."""
    vision = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=3 * WIDTH,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=SIDE,
        patch_size=8,
        projection_dim=WIDTH,
    )
    text = _text_config(words, layers=3)
    return CLIPModel(
        CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=WIDTH)
    )


def scheduler() -> DDIMScheduler:
    """The noise schedule of Stable Diffusion 2."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="epsilon",
        clip_sample=False,
        steps_offset=1,
        set_alpha_to_one=False,
        timestep_spacing="leading",
    )


def encode(words: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
    """Token ids `[n, TOKENS]`, padded as the stock pipelines pad."""
    ids: torch.Tensor = words(
        texts, padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt"
    ).input_ids
    return ids
