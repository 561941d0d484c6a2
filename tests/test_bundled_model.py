"""The weights that ship: stock classes load them, and they do what the card says."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionDepth2ImgPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from safetensors import safe_open
from transformers import (
    AutoImageProcessor,
    AutoModelForDepthEstimation,
    CLIPModel,
    CLIPProcessor,
    CLIPTextModel,
    CLIPTokenizer,
)

import dvcli.bundled
from dvcli.bundled.world.layout import held_out, lay
from dvcli.bundled.world.render import Pictures, render
from dvcli.bundled.world.words import STYLES, Scene, Thing, parse

BUNDLED = Path(dvcli.bundled.__file__).parent
TINY, TEXT_ONLY, CLIP = BUNDLED / "tiny", BUNDLED / "tiny-t2i", BUNDLED / "tiny-clip"
MIB = 2**20


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionDepth2ImgPipeline:
    got = StableDiffusionDepth2ImgPipeline.from_pretrained(TINY, torch_dtype=torch.float32)
    got.set_progress_bar_config(disable=True)
    return got


def shown(text: str, seed: int = 0) -> Pictures:
    return render(lay([parse(text)], [held_out(10)[seed]]))


def as_image(pictures: Pictures) -> Image.Image:
    return Image.fromarray(pictures.image[0].permute(1, 2, 0).numpy())


def made(pipeline: StableDiffusionDepth2ImgPipeline, text: str, truth: Pictures) -> torch.Tensor:
    """Pixels `[3, 64, 64]` in [0, 1] for a prompt on the truth's own exact depth."""
    got = pipeline(
        text,
        image=as_image(truth),
        depth_map=truth.depth[:, 0],
        strength=1.0,
        num_inference_steps=20,
        guidance_scale=5.0,
        generator=torch.Generator().manual_seed(1),
        output_type="pt",
    )
    pixels: torch.Tensor = got.images[0]
    return pixels


def weights() -> list[Path]:
    return [p for folder in (TINY, TEXT_ONLY, CLIP) for p in folder.rglob("*.safetensors")]


def test_no_file_is_over_sixteen_mebibytes() -> None:
    assert max(p.stat().st_size for p in weights()) < 16 * MIB


def test_all_files_together_are_under_thirty_two_mebibytes() -> None:
    every = [p for f in (TINY, TEXT_ONLY, CLIP) for p in f.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in every) < 32 * MIB


def test_weights_are_half_precision_on_disk() -> None:
    for path in weights():
        with safe_open(path, "pt") as held:
            kinds = {held.get_tensor(key).dtype for key in held.keys()}  # noqa: SIM118
        assert kinds <= {torch.float16, torch.int64}, path


def test_there_is_no_pickle_in_the_folders() -> None:
    found = {p.suffix for f in (TINY, TEXT_ONLY, CLIP) for p in f.rglob("*") if p.is_file()}
    assert not found & {".bin", ".pt", ".pth", ".ckpt", ".pkl"}


def test_the_denoiser_has_four_latent_channels_and_one_of_depth() -> None:
    unet = UNet2DConditionModel.from_pretrained(TINY, subfolder="unet")
    assert (unet.config.in_channels, unet.config.out_channels) == (5, 4)


def test_the_text_only_denoiser_has_no_depth_channel() -> None:
    unet = UNet2DConditionModel.from_pretrained(TEXT_ONLY, subfolder="unet")
    assert (unet.config.in_channels, unet.config.out_channels) == (4, 4)


def test_the_schedule_is_stable_diffusions() -> None:
    config = DDIMScheduler.from_pretrained(TINY, subfolder="scheduler").config
    assert (config.beta_start, config.beta_end) == (0.00085, 0.012)
    assert (config.beta_schedule, config.prediction_type) == ("scaled_linear", "epsilon")
    assert (config.steps_offset, config.clip_sample, config.set_alpha_to_one) == (1, False, False)


def test_the_two_bases_share_autoencoder_and_text_encoder() -> None:
    for part in ("vae/diffusion_pytorch_model", "text_encoder/model"):
        a, b = (f / f"{part}.safetensors" for f in (TINY, TEXT_ONLY))
        assert a.read_bytes() == b.read_bytes()


def test_names_of_processors_are_those_every_installation_knows() -> None:
    index = json.loads((TINY / "model_index.json").read_text())
    assert index["feature_extractor"] == ["transformers", "DPTImageProcessor"]
    config = json.loads((TINY / "feature_extractor/preprocessor_config.json").read_text())
    assert config["image_processor_type"] == "DPTImageProcessor"


def test_the_text_encoder_ends_where_the_tokenizer_does() -> None:
    words = CLIPTokenizer.from_pretrained(TINY, subfolder="tokenizer")
    text = CLIPTextModel.from_pretrained(TINY, subfolder="text_encoder")
    assert text.config.eos_token_id == words.eos_token_id
    assert text.config.max_position_embeddings == words.model_max_length


@pytest.mark.parametrize(("style", "floor"), zip(STYLES, (26.0, 23.5, 28.0), strict=True))
def test_the_autoencoder_gives_pictures_back(style: str, floor: float) -> None:
    vae = AutoencoderKL.from_pretrained(TINY, subfolder="vae", torch_dtype=torch.float32)
    seeds = held_out(12, start=5000)
    scenes = [
        Scene(things=(Thing(shape="ball", colour="red"),), place="grass", style=style)
        if i % 2
        else parse(f"a panda in front of a blue cube in a room, {style}")
        for i in range(12)
    ]
    x = render(lay(scenes, seeds)).image.float() / 127.5 - 1
    with torch.no_grad():
        got = vae.decode(vae.encode(x).latent_dist.mode()).sample.clamp(-1, 1)
    error = ((got - x) / 2).square().mean(dim=(1, 2, 3))
    assert float((-10 * error.log10()).mean()) > floor


def test_latents_are_nearly_white() -> None:
    vae = AutoencoderKL.from_pretrained(TINY, subfolder="vae", torch_dtype=torch.float32)
    seeds = held_out(32, start=6000)
    from dvcli.bundled.world.layout import draw

    x = render(lay([draw(s) for s in seeds], seeds)).image.float() / 127.5 - 1
    with torch.no_grad():
        z = vae.encode(x).latent_dist.mode() * vae.config.scaling_factor
    assert 0.7 < float(z.std()) < 1.4


def test_the_estimator_sees_depth() -> None:
    seeds = held_out(16, start=7000)
    scenes = [parse("a red ball in front of a blue cube on grass, photo")] * 16
    truth = render(lay(scenes, seeds))
    processor = AutoImageProcessor.from_pretrained(TINY / "feature_extractor")
    estimator = AutoModelForDepthEstimation.from_pretrained(
        TINY / "depth_estimator", torch_dtype=torch.float32
    )
    images = [Image.fromarray(i.permute(1, 2, 0).numpy()) for i in truth.image]
    with torch.no_grad():
        got = estimator(**processor(images=images, return_tensors="pt")).predicted_depth
    got = torch.nn.functional.interpolate(got[:, None], size=(64, 64), mode="bilinear")
    a, b = got.flatten(1), truth.depth.flatten(1)
    a, b = a - a.mean(dim=1, keepdim=True), b - b.mean(dim=1, keepdim=True)
    square = (a * b).sum(dim=1) ** 2 / (a.square().sum(dim=1) * b.square().sum(dim=1))
    assert float(square.mean()) > 0.90


@pytest.mark.parametrize(
    ("colour", "channel"), [("red", 0), ("blue", 2)], ids=["red stays red", "blue becomes blue"]
)
def test_a_colour_edit_gives_the_colour_asked_for(
    pipeline: StableDiffusionDepth2ImgPipeline, colour: str, channel: int
) -> None:
    truth = shown("a red ball on snow, photorealism style")
    pixels = made(pipeline, f"a {colour} ball on snow, photorealism style", truth)
    ball = pixels[:, truth.owner[0] == 1].mean(dim=1)
    others = [float(ball[i]) for i in range(3) if i != channel]
    assert float(ball[channel]) > max(others) + 0.1


def test_the_place_follows_the_prompt(pipeline: StableDiffusionDepth2ImgPipeline) -> None:
    truth = shown("a red ball on snow, photorealism style")
    bare = truth.owner[0] == 0
    light = made(pipeline, "a red ball on snow, photorealism style", truth)[:, bare].mean()
    dark = made(pipeline, "a red ball at night, photorealism style", truth)[:, bare].mean()
    assert float(light) > float(dark) + 0.3


def test_the_text_only_family_paints_what_is_asked() -> None:
    got = StableDiffusionPipeline.from_pretrained(TEXT_ONLY, torch_dtype=torch.float32)
    got.set_progress_bar_config(disable=True)
    means = [
        got(
            f"a red ball {place}, photorealism style",
            height=64,
            width=64,
            num_inference_steps=12,
            guidance_scale=5.0,
            generator=torch.Generator().manual_seed(0),
            output_type="pt",
        )
        .images[0]
        .mean()
        for place in ("on snow", "at night")
    ]
    assert float(means[0]) > float(means[1]) + 0.3


@pytest.fixture(scope="module")
def scores() -> torch.Tensor:
    """Similarity of a held-out picture to its caption (first) and to captions with one fault."""
    model = CLIPModel.from_pretrained(CLIP, torch_dtype=torch.float32)
    processor = CLIPProcessor.from_pretrained(CLIP)
    texts = [
        "a red ball in front of a blue cube on snow, photorealism style",
        "a blue ball in front of a red cube on snow, photorealism style",
        "a red ball in front of a blue cube on snow, impressionism style",
        "a red ball in front of a blue cube at night, photorealism style",
        "a green rabbit in front of a yellow ring on sand, animation style",
    ]
    image = as_image(shown(texts[0], seed=2))
    given = processor(text=texts, images=[image], return_tensors="pt", padding="max_length")
    with torch.no_grad():
        logits: torch.Tensor = model(**given).logits_per_image[0]
    return logits


@pytest.mark.parametrize(
    ("wrong", "what"), [(1, "colours"), (2, "style"), (3, "place"), (4, "everything")]
)
def test_clip_prefers_the_true_caption(scores: torch.Tensor, wrong: int, what: str) -> None:
    assert scores[0] > scores[wrong], what


def test_the_card_states_licence_and_figures() -> None:
    card = (TINY / "README.md").read_text()
    figures = json.loads((TINY / "metrics.json").read_text())
    assert "license: apache-2.0" in card
    assert f"{figures['vae psnr']['all']:,.4g}" in card
