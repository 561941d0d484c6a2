"""What people would choose: PickScore of a clip for its prompt."""

import torch

from dvcli.core.metrics import preference
from dvcli.models import clip, pick
from dvcli.recipes import Preference
from dvcli.stages import Work, figures
from dvcli.stages.embedded import embedded


@torch.no_grad()
def build(recipe: Preference, work: Work) -> None:
    """Write `metrics`, JSON: `preference`, the mean over frames."""
    model, images = embedded(work, recipe, recipe.pick_model)
    words = clip.text_embedding(model, recipe.prompt)
    figures.write(work, {"preference": preference(images, words, pick.scale(model))})
