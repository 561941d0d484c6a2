"""How like its reference a clip is, pixel by pixel."""

import torch

from dvcli.core.likeness import likeness
from dvcli.recipes import Likeness
from dvcli.stages import Work, figures


def build(recipe: Likeness, work: Work) -> None:
    """Write `metrics`, JSON: `psnr` in dB, and `ssim` and `gmsd` of frames large enough."""
    clip, reference = (
        torch.from_numpy(figures.frames(work, role, part))
        for role, part in (("frames", recipe.frames), ("reference", recipe.reference))
    )
    figures.write(work, likeness(clip, reference))
