"""CLIP embeddings are those of the stock model and processor."""

from pathlib import Path

import pytest
import torch
from checkpoints import write_clip
from PIL import Image
from torch import Tensor
from transformers import AutoProcessor, CLIPModel

from dvcli.models import clip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def loaded(folder: Path) -> clip.Clip:
    return clip.load(folder, "fp32", "cpu")


@pytest.fixture
def frames() -> Tensor:
    return torch.randint(0, 256, (5, 40, 56, 3), generator=torch.Generator().manual_seed(0)).byte()


def test_image_embeddings_are_the_stock_models(
    folder: Path, loaded: clip.Clip, frames: Tensor
) -> None:
    pictures = [Image.fromarray(frame.numpy()) for frame in frames]
    ready = AutoProcessor.from_pretrained(folder)(text=["a"], images=pictures, return_tensors="pt")
    with torch.no_grad():
        theirs = CLIPModel.from_pretrained(folder)(**ready).image_embeds
    ours = clip.image_embeddings(loaded, frames, chunk=2)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("prompt", ["a polar bear with her cubs", "", "bear " * 100])
def test_a_text_embedding_is_the_stock_models(
    prompt: str, folder: Path, loaded: clip.Clip, frames: Tensor
) -> None:
    ready = AutoProcessor.from_pretrained(folder)(
        text=[prompt],
        images=Image.new("RGB", (32, 32)),
        return_tensors="pt",
        truncation=True,
        max_length=77,
    )
    with torch.no_grad():
        theirs = CLIPModel.from_pretrained(folder)(**ready).text_embeds[0]
    torch.testing.assert_close(clip.text_embedding(loaded, prompt), theirs, rtol=0, atol=1e-5)


def test_embeddings_are_of_unit_length(loaded: clip.Clip, frames: Tensor) -> None:
    lengths = clip.image_embeddings(loaded, frames).norm(dim=-1)
    torch.testing.assert_close(lengths, torch.ones(5))
    torch.testing.assert_close(clip.text_embedding(loaded, "a bear").norm(), torch.tensor(1.0))
