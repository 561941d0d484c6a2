"""Text, latents and disparity are those of diffusers' own pipeline on the same checkpoint."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import edit_json, write_depth2img, write_estimator, write_tokenizer
from diffusers import StableDiffusionDepth2ImgPipeline
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from transformers import AutoModelForDepthEstimation, CLIPTokenizer

from dvcli.errors import InputError
from dvcli.models import disparity, latents, load, text, tokens

PROMPTS = [
    "",
    "a Polar  bear!! with 42 cubs, 's photo-style é 北極 🐻",
    "bear " * 75,
    "bear " * 76,
    "a tigress with her cubs walking on snow, " * 20,
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_depth2img(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def pipe(base: Path) -> StableDiffusionDepth2ImgPipeline:
    return StableDiffusionDepth2ImgPipeline.from_pretrained(base, use_safetensors=True)


@pytest.fixture(scope="module")
def vae(base: Path) -> Any:
    return load.vae(base / "vae", "fp32", "cpu")


@pytest.fixture(scope="module")
def tokenizer(base: Path) -> Any:
    return load.tokenizer(base / "tokenizer")


@pytest.fixture
def frames() -> Tensor:
    y, x, f = np.mgrid[0:48, 0:64, 0:3].astype(np.float64)
    planes = [np.sin(x / 9 + f), np.cos(y / 7 - f), np.sin((x + y) / 5)]
    pixels = np.stack(planes, axis=-1) * 127 + 128
    return torch.from_numpy(pixels.transpose(2, 0, 1, 3).astype(np.uint8).copy())


def pictures(frames: Tensor) -> list[Image.Image]:
    return [Image.fromarray(frame.numpy()) for frame in frames]


# text


@pytest.mark.parametrize("prompt", PROMPTS)
def test_an_embedding_is_the_pipelines_own(
    prompt: str, base: Path, pipe: StableDiffusionDepth2ImgPipeline, tokenizer: Any
) -> None:
    encoder = load.text_encoder(base / "text_encoder", "fp32", "cpu")
    theirs, _ = pipe.encode_prompt(prompt, "cpu", 1, False)
    ours = text.embed(tokenizer, encoder, prompt)
    assert ours.shape == (77, 32)
    assert torch.equal(ours, theirs[0])


def test_an_encoder_that_asks_for_a_mask_gets_one(tokenizer: Any, tmp_path: Path) -> None:
    base = write_depth2img(tmp_path)
    plain = text.embed(tokenizer, load.text_encoder(base / "text_encoder", "fp32", "cpu"), "a bear")
    edit_json(base / "text_encoder" / "config.json", use_attention_mask=True)
    pipe = StableDiffusionDepth2ImgPipeline.from_pretrained(base)
    theirs, _ = pipe.encode_prompt("a bear", "cpu", 1, False)
    ours = text.embed(tokenizer, load.text_encoder(base / "text_encoder", "fp32", "cpu"), "a bear")
    assert torch.equal(ours, theirs[0])
    assert not torch.equal(ours, plain)


def test_the_words_beyond_the_limit_are_named_as_they_were_written(base: Path) -> None:
    prompt = "Bear " * 74 + "A  Tigress, Walking"
    assert tokens.overflow(base / "tokenizer", prompt) == "Tigress, Walking"


def test_a_word_cut_in_its_middle_is_named_whole(base: Path) -> None:
    prompt = "bear " * 74 + "XYZ sea"  # three tokens, of which one would fit
    assert tokens.overflow(base / "tokenizer", prompt) == "XYZ sea"


def test_a_prompt_that_just_fits_overflows_nothing(base: Path) -> None:
    assert tokens.overflow(base / "tokenizer", "bear " * 75) is None
    assert tokens.overflow(base / "tokenizer", "bear " * 76) == "bear"


def marked(folder: Path, prompt: str) -> list[int]:
    """Our tokens of the prompt between the marks of its start and end."""
    ours = tokens.tokenizer(folder)
    start, end = (ours.token_to_id(mark) for mark in (tokens.START, tokens.END))
    return [start, *ours.encode(prompt, add_special_tokens=False).ids, end]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_what_overflows_is_what_transformers_leaves_out(
    prompt: str, base: Path, tokenizer: Any
) -> None:
    cut = tokens.overflow(base / "tokenizer", prompt)
    whole, kept = (tokenizer(prompt, truncation=on).input_ids for on in (False, True))
    assert (cut is None) == (whole == kept)
    if cut is not None:
        before = prompt[: prompt.rindex(cut)]
        assert len(tokenizer(before).input_ids) <= len(kept)
        assert len(tokenizer(before + cut.split()[0]).input_ids) > len(kept)


@given(prompt=st.text(max_size=40))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_tokens_are_those_of_transformers(prompt: str, base: Path, tokenizer: Any) -> None:
    assert marked(base / "tokenizer", prompt) == tokenizer(prompt).input_ids


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_tokenizer_in_one_file_gives_the_same(
    prompt: str, base: Path, tokenizer: Any, tmp_path: Path
) -> None:
    CLIPTokenizer.from_pretrained(base / "tokenizer").save_pretrained(tmp_path)
    assert not (tmp_path / "vocab.json").exists()
    assert marked(tmp_path, prompt) == tokenizer(prompt).input_ids


def test_the_padding_mark_is_read_out_of_a_prompt_as_transformers_reads_it(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, pad="!")
    with (tmp_path / "merges.txt").open("a") as merges:
        merges.write("! !</w>\n")
    words = json.loads((tmp_path / "vocab.json").read_text())
    edit_json(tmp_path / "vocab.json", **{"!!</w>": len(words)})
    theirs = load.tokenizer(tmp_path)("wow!! ??").input_ids
    assert marked(tmp_path, "wow!! ??") == theirs
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        edit_json(tmp_path / file, pad_token="<|endoftext|>")
    assert len(marked(tmp_path, "wow!! ??")) == len(theirs) - 1


# latents


def test_latents_are_the_mode_of_the_pipelines_posterior(
    frames: Tensor, vae: Any, pipe: StableDiffusionDepth2ImgPipeline
) -> None:
    with torch.no_grad():
        ready = pipe.image_processor.preprocess(pictures(frames))
        theirs = pipe.vae.encode(ready).latent_dist.mode() * pipe.vae.config.scaling_factor
    ours = latents.encode(vae, frames, chunk=8)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_decoding_gives_the_pipelines_own_pixels(
    frames: Tensor, vae: Any, pipe: StableDiffusionDepth2ImgPipeline
) -> None:
    z = latents.encode(vae, frames, chunk=8)
    with torch.no_grad():
        image = pipe.vae.decode(z / pipe.vae.config.scaling_factor).sample
    theirs = np.stack([np.asarray(picture) for picture in pipe.image_processor.postprocess(image)])
    assert np.array_equal(latents.decode(vae, z, chunk=8).numpy(), theirs)


def test_chunks_change_nothing(frames: Tensor, vae: Any) -> None:
    z = latents.encode(vae, frames, chunk=8)
    torch.testing.assert_close(latents.encode(vae, frames, chunk=2), z, rtol=0, atol=1e-5)
    whole, parts = (latents.decode(vae, z, chunk=n).int() for n in (8, 1))
    assert (whole - parts).abs().max() <= 1


def test_a_shift_moves_the_latents_and_decoding_moves_them_back(
    frames: Tensor, vae: Any, tmp_path: Path
) -> None:
    folder = write_depth2img(tmp_path) / "vae"
    edit_json(folder / "config.json", shift_factor=0.5)
    shifted = load.vae(folder, "fp32", "cpu")
    z, moved = latents.encode(vae, frames, chunk=8), latents.encode(shifted, frames, chunk=8)
    torch.testing.assert_close(moved, z - 0.5 * 0.18215, rtol=0, atol=1e-6)
    apart = latents.decode(shifted, moved, 8).int() - latents.decode(vae, z, 8).int()
    assert apart.abs().max() <= 1


@pytest.mark.parametrize(("upcast", "expected"), [(True, torch.float32), (False, torch.float16)])
def test_half_precision_is_kept_from_a_vae_that_overflows_in_it(
    upcast: bool, expected: torch.dtype, tmp_path: Path
) -> None:
    folder = write_depth2img(tmp_path) / "vae"
    edit_json(folder / "config.json", force_upcast=upcast)
    assert load.vae(folder, "fp16", "cpu").dtype == expected


def test_a_bfloat16_vae_still_gives_float32_latents(frames: Tensor, base: Path, vae: Any) -> None:
    z = latents.encode(load.vae(base / "vae", "bf16", "cpu"), frames, chunk=8)
    assert z.dtype == torch.float32
    assert (z - latents.encode(vae, frames, chunk=8)).abs().mean() < 0.05


# disparity


def test_disparity_is_what_the_pipeline_conditions_on(
    frames: Tensor, base: Path, pipe: StableDiffusionDepth2ImgPipeline
) -> None:
    processor, model = load.depth_estimator(base / "depth_estimator", "fp32", "cpu")
    raw = disparity.estimate(processor, model, frames)
    assert raw.shape == (3, 1, 32, 32)
    size = (frames.shape[1] // 8, frames.shape[2] // 8)
    small = torch.nn.functional.interpolate(raw, size=size, mode="bicubic", align_corners=False)
    low, high = small.amin((1, 2, 3), keepdim=True), small.amax((1, 2, 3), keepdim=True)
    theirs = pipe.prepare_depth_map(pictures(frames), None, 3, False, torch.float32, pipe.device)
    torch.testing.assert_close(2 * (small - low) / (high - low) - 1, theirs, rtol=0, atol=1e-5)


def test_disparity_is_of_each_frame_by_itself(frames: Tensor, base: Path) -> None:
    processor, model = load.depth_estimator(base / "depth_estimator", "fp32", "cpu")
    whole = disparity.estimate(processor, model, frames, chunk=3)
    alone = disparity.estimate(processor, model, frames[1:2], chunk=1)
    torch.testing.assert_close(whole[1:2], alone, rtol=1e-5, atol=1e-5)


def test_metric_distance_is_turned_into_disparity(frames: Tensor, tmp_path: Path) -> None:
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    inner = Dinov2Config(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(
        backbone_config=inner,
        reassemble_hidden_size=16,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=8,
        depth_estimation_type="metric",
        max_depth=20,
    )
    torch.manual_seed(0)
    DepthAnythingForDepthEstimation(config).save_pretrained(tmp_path)
    write_estimator(tmp_path / "other", processor=tmp_path)
    edit_json(tmp_path / "preprocessor_config.json", size={"height": 28, "width": 28})
    processor, model = load.depth_estimator(tmp_path, "fp32", "cpu")
    with torch.no_grad():
        ready = processor(images=pictures(frames), return_tensors="pt").pixel_values
        metres = AutoModelForDepthEstimation.from_pretrained(tmp_path)(ready).predicted_depth
    raw = disparity.estimate(processor, model, frames)
    torch.testing.assert_close(raw[:, 0], 1 / metres)
    assert raw.shape == (3, 1, 28, 28)


def test_zoe_is_asked_without_the_border_it_would_add(frames: Tensor) -> None:
    from types import SimpleNamespace

    from transformers import ZoeDepthConfig, ZoeDepthImageProcessorPil

    class Zoe:
        config = ZoeDepthConfig()
        device, dtype = torch.device("cpu"), torch.float32

        def __call__(self, pixels: Tensor) -> SimpleNamespace:
            return SimpleNamespace(predicted_depth=pixels[:, 0].exp())

    processor = ZoeDepthImageProcessorPil(size={"height": 48, "width": 64}, ensure_multiple_of=16)
    bare = processor(images=pictures(frames), do_pad=False, return_tensors="pt").pixel_values
    raw = disparity.estimate(processor, Zoe(), frames)
    torch.testing.assert_close(raw, 1 / bare[:, :1].exp())
    assert processor.do_pad


def test_an_estimator_that_answers_nan_is_refused(frames: Tensor, base: Path) -> None:
    processor, model = load.depth_estimator(base / "depth_estimator", "fp32", "cpu")
    model.head.head[4].bias.fill_(float("inf"))
    with pytest.raises(InputError, match="not finite"):
        disparity.estimate(processor, model, frames)
