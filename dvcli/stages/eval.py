"""Figures for one clip: how steady its frames are, and how well they fit the prompt."""

import json
from functools import partial
from pathlib import Path

import torch

from dvcli.core import metrics
from dvcli.models import clip
from dvcli.recipes import Eval
from dvcli.stages import Work
from dvcli.video import frames as frame_file


@torch.no_grad()
def build(recipe: Eval, work: Work) -> None:
    """Write `metrics`, JSON: `frame_consistency` and `frame_consistency_consecutive` of more than
    one frame, `textual_alignment` with a prompt, all × 100.
    """
    runtime = work.runtime
    frames = torch.from_numpy(frame_file.load(work.inputs["frames"].path("frames")))
    model = runtime.shelf.get(
        Eval.stage,
        ("clip", recipe.clip_model),
        lambda: clip.load(runtime.locate(recipe.clip_model), "fp32", runtime.device),
    )
    images = clip.image_embeddings(model, frames, runtime.frame_chunk)
    figures: dict[str, float] = {}
    if len(images) > 1:
        every, consecutive = metrics.frame_consistency(images)
        figures |= {"frame_consistency": every, "frame_consistency_consecutive": consecutive}
    if recipe.prompt is not None:
        words = clip.text_embedding(model, recipe.prompt)
        figures["textual_alignment"] = metrics.textual_alignment(images, words)
    text = json.dumps(figures, sort_keys=True)
    work.out.write("metrics", partial(_write, text=text))


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
