"""The tiny random checkpoints are what they claim to be, by the stock libraries alone."""

from pathlib import Path

import pytest
import torch
from checkpoints import WORDS, write_clip, write_depth2img, write_estimator
from diffusers import StableDiffusionDepth2ImgPipeline, StableDiffusionPipeline
from PIL import Image
from transformers import AutoModelForDepthEstimation, AutoProcessor, CLIPModel


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_depth2img(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def pipe(base: Path) -> StableDiffusionDepth2ImgPipeline:
    pipe = StableDiffusionDepth2ImgPipeline.from_pretrained(base, use_safetensors=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_the_stock_pipeline_makes_a_picture_of_it(pipe: StableDiffusionDepth2ImgPipeline) -> None:
    image = Image.radial_gradient("L").resize((64, 48)).convert("RGB")
    made = pipe("a polar bear", image=image, num_inference_steps=3, output_type="np").images[0]
    assert made.shape == (48, 64, 3)
    assert made.std() > 0.05


def test_the_base_without_depth_is_a_text_to_image_pipeline(tmp_path: Path) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(write_depth2img(tmp_path, depth=False))
    assert pipe.unet.config.in_channels == 4


def test_the_same_seed_writes_the_same_bytes(base: Path, tmp_path: Path) -> None:
    torch.rand(3)  # the global generator's state must not matter
    assert contents(write_depth2img(tmp_path)) == contents(base)


def test_writing_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    write_clip(tmp_path)
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(1))


def test_another_seed_writes_other_weights(base: Path, tmp_path: Path) -> None:
    weights = "unet/diffusion_pytorch_model.safetensors"
    other = write_depth2img(tmp_path, seed=1)
    assert (other / weights).read_bytes() != (base / weights).read_bytes()


def test_the_tokenizer_knows_its_words(pipe: StableDiffusionDepth2ImgPipeline) -> None:
    ids = pipe.tokenizer(WORDS).input_ids[1:-1]
    assert pipe.tokenizer.decode(ids) == WORDS
    assert len(ids) < 1.5 * len(WORDS.split())


def test_any_text_comes_back_from_the_tokenizer(pipe: StableDiffusionDepth2ImgPipeline) -> None:
    every = "".join(chr(code) for code in range(33, 127) if chr(code) != "!")
    ids = pipe.tokenizer(every).input_ids
    assert pipe.tokenizer.unk_token_id not in ids[:-1]
    assert pipe.tokenizer.decode(ids[1:-1]).replace(" ", "") == every.lower()


def test_the_tokenizer_ends_and_pads_as_stable_diffusion_2_does(
    pipe: StableDiffusionDepth2ImgPipeline,
) -> None:
    kept = pipe.tokenizer
    assert (kept.model_max_length, kept.pad_token_id) == (77, 0)
    assert kept("a bear").input_ids[-1] == pipe.text_encoder.config.eos_token_id == len(kept) - 1


def test_the_scheduler_is_that_of_stable_diffusion_2_depth(
    pipe: StableDiffusionDepth2ImgPipeline,
) -> None:
    config = pipe.scheduler.config
    assert type(pipe.scheduler).__name__ == "PNDMScheduler"
    assert (config.beta_start, config.beta_end) == (0.00085, 0.012)
    assert (config.beta_schedule, config.num_train_timesteps) == ("scaled_linear", 1000)
    assert (config.steps_offset, config.set_alpha_to_one) == (1, False)
    assert (config.skip_prk_steps, config.clip_sample) == (True, False)


def test_the_unet_listens_to_every_input(pipe: StableDiffusionDepth2ImgPipeline) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 5, 8, 8, generator=generator)
    text = pipe.encode_prompt("a bear", "cpu", 1, False)[0]
    other_text = pipe.encode_prompt("a red car", "cpu", 1, False)[0]
    with torch.no_grad():
        eps = pipe.unet(x, 10, text).sample
        other_depth = torch.cat([x[:, :4], -x[:, 4:]], dim=1)
        for changed in (
            pipe.unet(x, 900, text).sample,
            pipe.unet(x, 10, other_text).sample,
            pipe.unet(other_depth, 10, text).sample,
        ):
            assert (changed - eps).std() > 0.02


def test_the_estimator_answers_with_varied_positive_values(tmp_path: Path) -> None:
    model = AutoModelForDepthEstimation.from_pretrained(write_estimator(tmp_path, seed=3))
    ramp = torch.linspace(-1, 1, 32).expand(1, 3, 32, 32)
    with torch.no_grad():
        depth = model(ramp).predicted_depth
    assert depth.shape == (1, 32, 32)
    assert depth.min() > 0
    assert depth.std() > 0.1


def test_the_clip_tells_pictures_and_words_apart(tmp_path: Path) -> None:
    folder = write_clip(tmp_path)
    model, processor = CLIPModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    ramp = Image.linear_gradient("L").convert("RGB")
    pair = [ramp, ramp.rotate(90)]
    ready = processor(text=["a bear", "sea"], images=pair, return_tensors="pt", padding=True)
    with torch.no_grad():
        found = model(**ready)
    assert torch.cosine_similarity(*found.image_embeds, dim=0) < 0.99
    assert torch.cosine_similarity(*found.text_embeds, dim=0) < 0.99
