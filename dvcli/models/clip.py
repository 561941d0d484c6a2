"""CLIP embeddings of frames and of a prompt, for the metrics."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from dvcli.errors import InputError
from dvcli.models.load import DTYPES, image_processor, quiet, tokenizer, transformer
from dvcli.recipes import DType


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A CLIP with the two things that prepare its inputs."""

    model: Any
    processor: Any
    tokenizer: Any


def load(folder: Path, dtype: DType, device: str) -> Clip:
    """The CLIP of a folder in the transformers format."""
    with quiet("transformers"):
        from transformers import CLIPModel

        model = transformer(CLIPModel, folder, "clip", DTYPES[dtype], device)
        processor = image_processor(folder, model.config)
    return Clip(model=model, processor=processor, tokenizer=tokenizer(folder))


@torch.no_grad()
def image_embeddings(
    clip: Clip, frames: UInt8[Tensor, "f H W 3"], chunk: int = 8
) -> Float[Tensor, "f d"]:
    """One unit vector per frame, float32 on the CPU; frames are resized as the processor does."""
    parts = []
    for few in torch.split(frames.cpu(), chunk):
        images = [Image.fromarray(frame.numpy()) for frame in few]
        pixels = clip.processor(images=images, return_tensors="pt").pixel_values
        pixels = pixels.to(clip.model.device, clip.model.dtype)
        parts.append(_unit(clip.model.get_image_features(pixel_values=pixels)))
    return torch.cat(parts)


@torch.no_grad()
def text_embedding(clip: Clip, prompt: str) -> Float[Tensor, "d"]:
    """The prompt's unit vector, float32 on the CPU; what is beyond 77 tokens is cut."""
    limit = clip.model.config.text_config.max_position_embeddings
    found = clip.tokenizer(prompt, truncation=True, max_length=limit, return_tensors="pt")
    known = clip.model.config.text_config.vocab_size
    if int(found.input_ids.max()) >= known:
        raise InputError(f"the CLIP's tokenizer has words beyond the {known} that its model knows")
    found = found.to(clip.model.device)
    features = clip.model.get_text_features(
        input_ids=found.input_ids, attention_mask=found.attention_mask
    )
    return _unit(features)[0]


def _unit(features: Any) -> Float[Tensor, "n d"]:
    """Of unit length. transformers 5 answers with an output object, earlier ones with a tensor."""
    vectors: Tensor = features if isinstance(features, Tensor) else features.pooler_output
    unit = torch.nn.functional.normalize(vectors.float(), dim=-1).cpu()
    if not unit.isfinite().all():
        raise InputError("the CLIP answers with an embedding that is not finite")
    return unit
