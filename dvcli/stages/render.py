"""A media file of frames, of depth as grey levels, or of a reconstruction."""

from functools import partial

import numpy as np
import torch
from safetensors.torch import load_file

from dvcli.core.depth import to_condition
from dvcli.recipes import Depth, Invert, Render
from dvcli.stages import Work
from dvcli.video import frames as frame_file
from dvcli.video.write import write


def build(recipe: Render, work: Work) -> None:
    """Write `media` in the recipe's format, with the provenance inside."""
    source = work.inputs["source"]
    if isinstance(recipe.source, Depth):
        disparity = load_file(source.path("disparity"))["disparity"]
        size = (disparity.shape[2], disparity.shape[3])
        grey = (to_condition(disparity, size, "clip") + 1) * 127.5
        frames = grey.round().to(torch.uint8)[:, 0, :, :, None].expand(-1, -1, -1, 3).numpy()
        frames = np.ascontiguousarray(frames)
    else:
        name = "reconstruction" if isinstance(recipe.source, Invert) else "frames"
        frames = frame_file.load(source.path(name))
    work.out.write(
        "media" + recipe.suffix,
        partial(write, frames=frames, fps=recipe.fps, metadata=recipe.provenance, crf=recipe.crf),
    )
    work.out.info.update(frames=len(frames))
