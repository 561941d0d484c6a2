"""Phase `export`: the trained members as folders that stock `from_pretrained` loads.

Each folder is made beside its place and then exchanged for the old one by renaming, so that nobody
ever sees half a model. Weights are fp16 safetensors.
"""

import json
import shutil
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionDepth2ImgPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from torch import nn
from transformers import (
    CLIPImageProcessor,
    CLIPModel,
    CLIPTextModel,
    CLIPTokenizer,
    DPTForDepthEstimation,
    DPTImageProcessor,
)

from dvcli.bundled.train.family import SIDE


def _half(module: nn.Module) -> nn.Module:
    return module.to(torch.float16).eval()


def _spell(folder: Path, words: CLIPTokenizer) -> None:
    """The vocabulary in the two files that older CLIP tokenizers read."""
    model = json.loads(words.backend_tokenizer.to_str())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False))
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")


def _name_processor(folder: Path, name: str) -> None:
    """Without torchvision a processor is saved under a name that other installations lack."""
    path = folder / "preprocessor_config.json"
    config = json.loads(path.read_text())
    config["image_processor_type"] = name
    path.write_text(json.dumps(config, indent=2) + "\n")


def _exchange(made: Path, place: Path) -> None:
    old = place.with_name(f".{place.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.rename(old)
    made.rename(place)
    shutil.rmtree(old, ignore_errors=True)


def _fresh(place: Path) -> Path:
    made = place.with_name(f".{place.name}.new")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    return made


def _seen_by_depth() -> DPTImageProcessor:
    return DPTImageProcessor(
        size={"height": SIDE, "width": SIDE},
        keep_aspect_ratio=False,
        ensure_multiple_of=1,
        resample=3,
        do_rescale=True,
        do_normalize=True,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )


def export_depth_family(
    place: Path,
    vae: AutoencoderKL,
    text: CLIPTextModel,
    words: CLIPTokenizer,
    unet: UNet2DConditionModel,
    scheduler: DDIMScheduler,
    estimator: DPTForDepthEstimation,
    extra: dict[str, str],
) -> None:
    """A `StableDiffusionDepth2ImgPipeline` folder at `place`; `extra` are further text files."""
    made = _fresh(place)
    pipeline = StableDiffusionDepth2ImgPipeline(
        vae=_half(vae),
        text_encoder=_half(text),
        tokenizer=words,
        unet=_half(unet),
        scheduler=scheduler,
        depth_estimator=_half(estimator),
        feature_extractor=_seen_by_depth(),
    )
    pipeline.save_pretrained(made, safe_serialization=True)
    _spell(made / "tokenizer", words)
    _name_processor(made / "feature_extractor", "DPTImageProcessor")
    _finish(made, extra)
    _exchange(made, place)


def export_text_family(
    place: Path,
    vae: AutoencoderKL,
    text: CLIPTextModel,
    words: CLIPTokenizer,
    unet: UNet2DConditionModel,
    scheduler: DDIMScheduler,
    extra: dict[str, str],
) -> None:
    """A `StableDiffusionPipeline` folder at `place`, the base without depth."""
    made = _fresh(place)
    pipeline = StableDiffusionPipeline(
        vae=_half(vae),
        text_encoder=_half(text),
        tokenizer=words,
        unet=_half(unet),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(made, safe_serialization=True)
    _spell(made / "tokenizer", words)
    _finish(made, extra)
    _exchange(made, place)


def export_clip(place: Path, model: CLIPModel, words: CLIPTokenizer, extra: dict[str, str]) -> None:
    """A `CLIPModel` folder with its tokenizer and image processor at `place`."""
    made = _fresh(place)
    model.to(torch.float16).eval()
    model.save_pretrained(made, safe_serialization=True)
    words.save_pretrained(made)
    _spell(made, words)
    processor = CLIPImageProcessor(
        size={"shortest_edge": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    processor.save_pretrained(made)
    _name_processor(made, "CLIPImageProcessor")
    _finish(made, extra)
    _exchange(made, place)


def export_judge(place: Path, judge: nn.Module) -> None:
    """The judge's weights at `place`, for `judging.shipped`."""
    made = _fresh(place)
    state = {name: part.contiguous() for name, part in _half(judge).state_dict().items()}
    save_file(state, made / "model.safetensors")
    _exchange(made, place)


def _finish(made: Path, extra: dict[str, str]) -> None:
    """Class names as every installation knows them, and the files that go beside the weights."""
    index = made / "model_index.json"
    if index.exists():
        about = json.loads(index.read_text())
        if about.get("feature_extractor", [None, None])[1] is not None:
            about["feature_extractor"] = ["transformers", "DPTImageProcessor"]
        about.pop("_name_or_path", None)
        index.write_text(json.dumps(about, indent=2) + "\n")
    for name, text in extra.items():
        (made / name).parent.mkdir(exist_ok=True)
        (made / name).write_text(text)
