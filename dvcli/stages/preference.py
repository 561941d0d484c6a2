"""What people would choose: PickScore of a clip for its prompt."""

import torch

from dvcli.core.metrics import preference
from dvcli.models import clip, pick
from dvcli.recipes import Preference
from dvcli.stages import Work, figures


@torch.no_grad()
def build(recipe: Preference, work: Work) -> None:
    """Write `metrics`, JSON: `preference`, the mean over frames."""
    runtime = work.runtime
    frames = torch.from_numpy(figures.frames(work, "frames", recipe.frames))
    model = runtime.shelf.get(
        Preference.stage,
        ("pick", recipe.pick_model),
        lambda: clip.load(runtime.locate(recipe.pick_model), "fp32", runtime.device),
    )
    images = clip.image_embeddings(model, frames, runtime.frame_chunk)
    words = clip.text_embedding(model, recipe.prompt)
    figures.write(work, {"preference": preference(images, words, pick.scale(model))})
