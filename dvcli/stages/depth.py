"""Disparity of every frame: estimated by a model, or read from the user's own depth video."""

from functools import partial

import torch
from safetensors.torch import save_file

from dvcli.models import load
from dvcli.models.disparity import estimate
from dvcli.recipes import Depth
from dvcli.stages import Work, inputs
from dvcli.stages.choice import read_choice


def build(recipe: Depth, work: Work) -> None:
    """Write `disparity`: float32 `[f 1 a b]`, near = large, raw."""
    disparity = (_estimated if recipe.given is None else _given)(recipe, work)
    if recipe.invert:
        disparity = -disparity
    work.out.write("disparity", partial(save_file, {"disparity": disparity.contiguous()}))
    work.out.info.update(frames=len(disparity), size=[disparity.shape[3], disparity.shape[2]])


def _estimated(recipe: Depth, work: Work) -> torch.Tensor:
    assert recipe.estimator is not None
    runtime, estimator = work.runtime, recipe.estimator
    frames = torch.from_numpy(inputs.frames(work.inputs["frames"], choice=recipe.frames))
    # Always in float32: half precision is coarser than the steps between neighbouring depths.
    processor, model = runtime.shelf.get(
        Depth.stage,
        ("estimator", estimator),
        lambda: load.depth_estimator(runtime.locate(estimator), "fp32", runtime.device),
    )
    with load.telling(runtime.locate(estimator)):
        return estimate(processor, model, frames, runtime.frame_chunk)


def _given(recipe: Depth, work: Work) -> torch.Tensor:
    """The user's depth video, chosen and framed exactly as the clip was, as grey levels."""
    assert recipe.given is not None
    picked = read_choice(recipe.choice, work.runtime.locate(recipe.given))
    grey = torch.from_numpy(picked.frames).float().mean(dim=-1)
    return grey[:, None]
