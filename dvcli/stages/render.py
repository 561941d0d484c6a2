"""A media file of frames, of depth as grey levels, or of a reconstruction."""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from dvcli.recipes import Depth, Invert, Render
from dvcli.stages import Work, inputs
from dvcli.store import Artifact
from dvcli.video.write import write


def build(recipe: Render, work: Work) -> None:
    """Write `media` in the recipe's format, with the provenance inside."""
    source = work.inputs["source"]
    if isinstance(recipe.source, Depth):
        frames = _grey(source)
    else:
        name = "reconstruction" if isinstance(recipe.source, Invert) else "frames"
        frames = inputs.frames(source, name)
    work.out.write(
        "media" + recipe.suffix,
        partial(write, frames=frames, fps=recipe.fps, metadata=recipe.provenance, crf=recipe.crf),
    )
    work.out.info.update(frames=len(frames))


def _grey(depth: Artifact) -> NDArray[np.uint8]:
    """Depth as it conditions the network, near = white, at the estimator's size."""
    # Here, because a render of frames need not wait for torch.
    from dvcli.core.depth import to_condition

    disparity = inputs.disparity(depth)
    d = to_condition(disparity, (disparity.shape[2], disparity.shape[3]), "clip")
    grey = np.rint((d[:, 0, :, :, None].numpy() + 1) * 127.5).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(grey, (*grey.shape[:3], 3)))
