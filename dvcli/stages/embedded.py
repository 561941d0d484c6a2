"""Frames as a CLIP model sees them: the model, loaded, and an embedding of each frame."""

import torch
from jaxtyping import Float
from torch import Tensor

from dvcli.models import clip
from dvcli.recipes import Digest, Eval, Preference
from dvcli.stages import Work, figures


@torch.no_grad()
def embedded(
    work: Work, recipe: Eval | Preference, checkpoint: Digest
) -> tuple[clip.Clip, Float[Tensor, "f d"]]:
    """The model of that checkpoint, which stays loaded, and the frames' unit embeddings."""
    runtime = work.runtime
    frames = torch.from_numpy(figures.frames(work, "frames", recipe.frames))
    model = runtime.shelf.get(
        recipe.stage,
        ("clip", checkpoint),
        lambda: clip.load(runtime.locate(checkpoint), "fp32", runtime.device),
    )
    return model, clip.image_embeddings(model, frames, runtime.frame_chunk)
