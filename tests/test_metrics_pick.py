"""PickScore is that of its authors' program, on a random CLIP in the published format."""

import json
from pathlib import Path

import pytest
import torch
from checkpoints import write_clip
from media import every_frame, make_clip, numbered
from PIL import Image
from program import Dvid
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoProcessor

from dvcli.models import clip, pick

PROMPT = "a polar bear with her cubs"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a temperature of its own, as a trained model has."""
    folder = write_clip(tmp_path_factory.mktemp("pick"), seed=4)
    weights = load_file(folder / "model.safetensors")
    weights["logit_scale"] = torch.tensor(3.75)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def published(folder: Path, frames: list[Image.Image], prompt: str) -> float:
    """The mean over frames of what the model's card computes for one picture."""
    processor = AutoProcessor.from_pretrained(folder, backend="pil")
    model = AutoModel.from_pretrained(folder).eval()
    options = {"padding": True, "truncation": True, "max_length": 77, "return_tensors": "pt"}
    pictures = processor(images=frames, return_tensors="pt")
    words = processor(text=prompt, **options)
    with torch.no_grad():
        images = model.get_image_features(**pictures).pooler_output
        text = model.get_text_features(**words).pooler_output
        images = images / images.norm(dim=-1, keepdim=True)
        text = text / text.norm(dim=-1, keepdim=True)
        return float((model.logit_scale.exp() * (text @ images.T)[0]).mean())


def test_the_scale_is_the_models_temperature(folder: Path) -> None:
    found = pick.scale(clip.load(folder, "fp32", "cpu"))
    assert found == pytest.approx(torch.tensor(3.75).exp().item(), rel=1e-6)


@pytest.mark.parametrize("prompt", [PROMPT, "bear " * 100])
def test_the_score_of_a_clip_is_the_published_one(
    prompt: str, folder: Path, judge: Path, dvid: Dvid
) -> None:
    make_clip(Path("a.mp4"), [numbered(n * 300) for n in range(3)])
    options = ["-p", prompt, "--metrics", "preference", "--pick-model", folder, "--json"]
    (row,) = map(json.loads, dvid("eval", "a.mp4", *options).lines)
    frames = every_frame(Path("a.mp4")).frames
    expected = published(folder, [Image.fromarray(frame) for frame in frames], prompt)
    assert row["preference"] == pytest.approx(expected, abs=1e-3)
