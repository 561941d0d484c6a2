"""Disparity of frames, near = large, by a pretrained depth estimator.

What estimators answer is of two kinds: disparity (DPT, MiDaS, Depth Anything, Depth Pro), which is
kept as it is, and metric distance, which is turned into 1 / distance. It is distance when the
model's config says `depth_estimation_type: metric` or when its family knows nothing else.
"""

from typing import Any

import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from dvcli.errors import InputError

DISTANCE_MODELS = ("zoedepth", "glpn")
NEAREST = 1e-3  # metres; nothing is nearer, and 1 / distance stays finite


def is_distance(config: Any) -> bool:
    """Whether a model with this config answers with metric distance, far = large."""
    kind = getattr(config, "depth_estimation_type", None)
    return kind == "metric" or config.model_type in DISTANCE_MODELS


@torch.no_grad()
def estimate(
    processor: Any, model: Any, frames: UInt8[Tensor, "f H W 3"], chunk: int = 4
) -> Float[Tensor, "f 1 a b"]:
    """The raw map of each frame by itself, float32 on the CPU, at the estimator's own output size.

    Raises `InputError` when the model answers with anything that is not finite.
    """
    # Zoe reflects the frame's borders outward, and its answer would be that of a larger picture.
    padding = {"do_pad": False} if model.config.model_type == "zoedepth" else {}
    parts = []
    for few in torch.split(frames.cpu(), chunk):
        images = [Image.fromarray(frame.numpy()) for frame in few]
        pixels = processor(images=images, return_tensors="pt", **padding).pixel_values
        parts.append(model(pixels.to(model.device, model.dtype)).predicted_depth.float().cpu())
    raw = torch.cat(parts).reshape(len(frames), 1, *parts[0].shape[-2:])
    if not raw.isfinite().all():
        raise InputError("the depth estimator answers with values that are not finite")
    return 1 / raw.clamp(min=NEAREST) if is_distance(model.config) else raw
