"""Figures for one clip: how steady its frames are, and how well they fit the prompt."""

import torch

from dvcli.core import metrics
from dvcli.models import clip
from dvcli.recipes import Eval
from dvcli.stages import Work, figures
from dvcli.stages.embedded import embedded


@torch.no_grad()
def build(recipe: Eval, work: Work) -> None:
    """Write `metrics`, JSON: `frame_consistency` and `frame_consistency_consecutive` of more than
    one frame, `textual_alignment` with a prompt, all × 100.
    """
    model, images = embedded(work, recipe, recipe.clip_model)
    found: dict[str, float] = {}
    if len(images) > 1:
        every, consecutive = metrics.frame_consistency(images)
        found |= {"frame_consistency": every, "frame_consistency_consecutive": consecutive}
    if recipe.prompt is not None:
        words = clip.text_embedding(model, recipe.prompt)
        found["textual_alignment"] = metrics.textual_alignment(images, words)
    figures.write(work, found)
