"""Tiny random checkpoints in the real diffusers and transformers folder formats.

They load with the stock `from_pretrained`, cost some tens of milliseconds a step, and are the same
bytes for the same seed. Sizes are multiples of 16 pixels (VAE factor 8, U-Net factor 2). In a test:

    from checkpoints import write_depth2img

    @pytest.fixture(scope="session")
    def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
        return write_depth2img(tmp_path_factory.mktemp("base"))

    def test_the_unet_takes_depth(base: Path) -> None:
        assert UNet2DConditionModel.from_pretrained(base / "unet").config.in_channels == 5

The folder given is filled and returned. Never write into a session's checkpoint: copy it first.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

WORDS = (
    "a an the of with her his and in on is photo animation impressionism style painting polar bear "
    "bears cub cubs tiger tigress man woman walking running red green blue ball car road snow sea"
)


def write_depth2img(
    folder: Path,
    *,
    seed: int = 0,
    prediction: Literal["epsilon", "v_prediction"] = "epsilon",
    depth: bool = True,
    widths: Sequence[int] = (32, 64),
    heads: Sequence[int] = (2, 4),
    cross_dim: int = 32,
) -> Path:
    """A `StableDiffusionDepth2ImgPipeline` folder; without depth a `StableDiffusionPipeline` one.

    The U-Net has one level with and one without attention, a list of heads per level and linear
    projections; the VAE has 4 levels and 4 latent channels; the text encoder holds 77 tokens.
    """
    from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = UNet2DConditionModel(
            sample_size=8,
            in_channels=5 if depth else 4,
            out_channels=4,
            down_block_types=("CrossAttnDownBlock2D", *["DownBlock2D"] * (len(widths) - 1)),
            up_block_types=(*["UpBlock2D"] * (len(widths) - 1), "CrossAttnUpBlock2D"),
            block_out_channels=tuple(widths),
            layers_per_block=1,
            attention_head_dim=list(heads),  # the field's historical name: it counts heads
            cross_attention_dim=cross_dim,
            use_linear_projection=True,
            norm_num_groups=8,
        )
        unet.save_pretrained(folder / "unet")
        vae = AutoencoderKL(
            down_block_types=["DownEncoderBlock2D"] * 4,
            up_block_types=["UpDecoderBlock2D"] * 4,
            block_out_channels=(8, 8, 8, 16),
            layers_per_block=1,
            latent_channels=4,
            norm_num_groups=4,
            sample_size=64,
            scaling_factor=0.18215,
        )
        # Random initialisation hardly lets the image through: latents and pixels need variance.
        spread(vae.encoder.conv_in, 4)
        spread(vae.quant_conv, 20)
        spread(vae.decoder.conv_in, 2)
        spread(vae.decoder.conv_out, 2)
        vae.save_pretrained(folder / "vae")
        vocabulary = write_tokenizer(folder / "tokenizer")
        text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=vocabulary,
                hidden_size=cross_dim,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=2,
                max_position_embeddings=77,
                hidden_act="gelu",
                bos_token_id=vocabulary - 2,
                eos_token_id=vocabulary - 1,
                pad_token_id=0,
                initializer_factor=8.0,
            )
        )
        text.save_pretrained(folder / "text_encoder")
        if depth:
            write_estimator(folder / "depth_estimator", processor=folder / "feature_extractor")
    PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        num_train_timesteps=1000,
        prediction_type=prediction,
        set_alpha_to_one=False,
        skip_prk_steps=True,
        steps_offset=1,
    ).save_pretrained(folder / "scheduler")
    # PNDM has no such option, yet the real folder carries it for the samplers that have.
    edit_json(folder / "scheduler" / "scheduler_config.json", clip_sample=False)
    parts = {
        "scheduler": ["diffusers", "PNDMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    if depth:
        kind = "StableDiffusionDepth2ImgPipeline"
        parts["depth_estimator"] = ["transformers", "DPTForDepthEstimation"]
        parts["feature_extractor"] = ["transformers", "DPTImageProcessor"]
    else:
        kind = "StableDiffusionPipeline"
        parts["feature_extractor"] = parts["safety_checker"] = [None, None]  # type: ignore[list-item]
    write_json(
        folder / "model_index.json",
        {"_class_name": kind, "_diffusers_version": "0.10.0.dev0"}
        | ({} if depth else {"requires_safety_checker": False})
        | parts,
    )
    return folder


def write_estimator(
    folder: Path, *, processor: Path | None = None, seed: int | None = None
) -> Path:
    """A DPT depth estimator that answers 32×32 with 32×32 positive values, and its processor.

    Without `processor` the processor's file lies in the folder itself, as in `Intel/dpt-large`.
    """
    from transformers import DPTConfig, DPTForDepthEstimation

    with torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.manual_seed(seed)
        model = DPTForDepthEstimation(
            DPTConfig(
                hidden_size=16,
                num_hidden_layers=4,
                num_attention_heads=2,
                intermediate_size=32,
                image_size=32,
                patch_size=16,
                backbone_out_indices=[0, 1, 2, 3],
                neck_hidden_sizes=[8, 8, 8, 8],
                fusion_hidden_size=16,
                initializer_range=0.15,
            )
        )
        # The head ends in ReLU layers, which a random start may silence.
        with torch.no_grad():
            for layer in model.head.head:
                if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                    layer.bias.fill_(1.0)
            last = model.head.head[4]
            assert isinstance(last, nn.Conv2d)
            last.weight.abs_()
        model.save_pretrained(folder)
    write_json(
        (processor or folder) / "preprocessor_config.json",
        {
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "ensure_multiple_of": 1,
            "image_mean": [0.5, 0.5, 0.5],
            "image_processor_type": "DPTImageProcessor",
            "image_std": [0.5, 0.5, 0.5],
            "keep_aspect_ratio": False,
            "resample": 2,
            "rescale_factor": 1 / 255,
            "size": {"height": 32, "width": 32},
        },
    )
    return folder


def write_clip(folder: Path, *, seed: int = 0) -> Path:
    """A `CLIPModel` folder with its tokenizer and image processor, as `openai/clip-vit-*` has."""
    from transformers import CLIPConfig, CLIPModel

    vocabulary = write_tokenizer(folder, pad="<|endoftext|>")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tower = {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "initializer_factor": 4.0,
        }
        CLIPModel(
            CLIPConfig(
                projection_dim=16,
                text_config=tower
                | {
                    "vocab_size": vocabulary,
                    "max_position_embeddings": 77,
                    "bos_token_id": vocabulary - 2,
                    "eos_token_id": vocabulary - 1,
                    "pad_token_id": vocabulary - 1,
                },
                vision_config=tower | {"image_size": 32, "patch_size": 8},
            )
        ).save_pretrained(folder)
    write_json(
        folder / "preprocessor_config.json",
        {
            "crop_size": 32,
            "do_center_crop": True,
            "do_normalize": True,
            "do_resize": True,
            "feature_extractor_type": "CLIPFeatureExtractor",
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711],
            "resample": 3,
            "size": 32,
        },
    )
    return folder


def write_cogvideox(
    folder: Path, *, seed: int = 0, sampler: str = "CogVideoXDDIMScheduler", pairs: bool = False
) -> Path:
    """A `CogVideoXPipeline` folder: 9 frames of 48×32, text of 16 tokens.

    With `pairs` the transformer takes latent frames two at a time, as CogVideoX 1.5 does.
    """
    from diffusers import AutoencoderKLCogVideoX, CogVideoXTransformer3DModel
    from transformers import T5Config, T5EncoderModel

    vocabulary = write_t5_tokenizer(folder / "tokenizer")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        CogVideoXTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=16,  # the positions in time and space share 32 = 8 + 24
            in_channels=4,
            out_channels=4,
            time_embed_dim=8,
            text_embed_dim=32,
            num_layers=1,
            sample_width=6,
            sample_height=4,
            sample_frames=9,
            patch_size=2,
            patch_size_t=2 if pairs else None,
            use_rotary_positional_embeddings=pairs,
            temporal_compression_ratio=4,
            max_text_seq_length=16,
        ).save_pretrained(folder / "transformer")
        vae = AutoencoderKLCogVideoX(
            down_block_types=("CogVideoXDownBlock3D",) * 4,
            up_block_types=("CogVideoXUpBlock3D",) * 4,
            block_out_channels=(8, 8, 8, 8),
            latent_channels=4,
            layers_per_block=1,
            norm_num_groups=2,
            temporal_compression_ratio=4,
            sample_height=96,  # a tile is half of it, and no smaller one goes through the VAE
            sample_width=96,
        )
        spread(vae.encoder.conv_out.conv, 4)
        spread(vae.decoder.conv_out.conv, 2)
        vae.save_pretrained(folder / "vae")
        T5EncoderModel(
            T5Config(
                vocab_size=vocabulary,
                d_model=32,
                d_kv=16,
                d_ff=64,
                num_layers=2,
                num_heads=2,
                feed_forward_proj="gated-gelu",
                initializer_factor=2.0,
            )
        ).save_pretrained(folder / "text_encoder")
    write_json(
        folder / "scheduler" / "scheduler_config.json",
        {
            "_class_name": sampler,
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "beta_schedule": "scaled_linear",
            "clip_sample": False,
            "num_train_timesteps": 1000,
            "prediction_type": "v_prediction",
            "rescale_betas_zero_snr": True,
            "set_alpha_to_one": True,
            "snr_shift_scale": 3.0,
            "steps_offset": 0,
            "timestep_spacing": "trailing",
        },
    )
    write_json(
        folder / "model_index.json",
        {
            "_class_name": "CogVideoXPipeline",
            "_diffusers_version": "0.30.0.dev0",
            "scheduler": ["diffusers", sampler],
            "text_encoder": ["transformers", "T5EncoderModel"],
            "tokenizer": ["transformers", "T5Tokenizer"],
            "transformer": ["diffusers", "CogVideoXTransformer3DModel"],
            "vae": ["diffusers", "AutoencoderKLCogVideoX"],
        },
    )
    return folder


def write_t5_tokenizer(folder: Path) -> int:
    """A T5 tokenizer of single letters and `WORDS`; its vocabulary's size."""
    from transformers import T5Tokenizer

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    pieces = ["<pad>", "</s>", "<unk>", "▁", *letters]
    vocabulary = [(piece, -8.0) for piece in pieces]
    vocabulary += [(f"▁{word}", -2.0) for word in dict.fromkeys(WORDS.split()) if len(word) > 1]
    T5Tokenizer(vocab=vocabulary, extra_ids=0).save_pretrained(folder)
    return len(vocabulary)


def write_tokenizer(folder: Path, *, pad: str = "!") -> int:
    """A CLIP tokenizer that can encode any text; its vocabulary's size, the last id being the end.

    All 256 bytes, each also as a word's end, then the merges that build `WORDS` left to right.
    Stable Diffusion 2 pads with `!`, token 0.
    """
    letters = bytes_as_letters()
    vocabulary = letters + [f"{letter}</w>" for letter in letters]
    merges: list[str] = []
    for word in WORDS.split():
        left, *rest = [*word[:-1], f"{word[-1]}</w>"]
        for right in rest:
            if (pair := f"{left} {right}") not in merges:
                merges.append(pair)
            left += right
            if left not in vocabulary:
                vocabulary.append(left)
    vocabulary += ["<|startoftext|>", "<|endoftext|>"]
    ids = {token: number for number, token in enumerate(vocabulary)}
    write_json(folder / "vocab.json", ids)
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    special = {
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "pad_token": pad,
        "unk_token": "<|endoftext|>",
    }
    write_json(folder / "special_tokens_map.json", special)
    write_json(
        folder / "tokenizer_config.json",
        special
        | {
            "add_prefix_space": False,
            "do_lower_case": True,
            "errors": "replace",
            "model_max_length": 77,
            "tokenizer_class": "CLIPTokenizer",
        },
    )
    return len(ids)


def bytes_as_letters() -> list[str]:
    """A visible character for each of the 256 bytes, in the order of CLIP's own vocabulary."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return [chr(b) for b in visible] + [chr(256 + n) for n in range(len(hidden))]


def spread(layer: nn.Module, factor: float) -> None:
    with torch.no_grad():
        for tensor in layer.parameters():
            tensor.mul_(factor)


def write_json(path: Path, value: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def edit_json(path: Path, **values: object) -> None:
    """Set the top-level entries of a JSON file; `None` removes one."""
    known = json.loads(path.read_text()) | values
    removed = {name for name, value in values.items() if value is None}
    write_json(path, {name: value for name, value in known.items() if name not in removed})
