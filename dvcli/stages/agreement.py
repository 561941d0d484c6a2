"""How the depth of a clip, estimated anew, agrees with the depth of its source."""

import torch

from dvcli.core.metrics import depth_agreement
from dvcli.models import load
from dvcli.models.disparity import estimate
from dvcli.recipes import Agreement
from dvcli.stages import Work, figures, inputs


@torch.no_grad()
def build(recipe: Agreement, work: Work) -> None:
    """Write `metrics`, JSON: `depth_agreement` and `depth_agreement_in_rows`.

    Each is absent where a depth is constant, or within its rows.
    """
    runtime, estimator = work.runtime, recipe.estimator
    frames = torch.from_numpy(figures.frames(work, "frames", recipe.frames))
    # In float32 as the source's depth was estimated.
    processor, model = runtime.shelf.get(
        Agreement.stage,
        ("estimator", estimator),
        lambda: load.depth_estimator(runtime.locate(estimator), "fp32", runtime.device),
    )
    result = estimate(processor, model, frames, runtime.frame_chunk)
    source = inputs.disparity(work.inputs["reference"], len(frames))
    whole, in_rows = depth_agreement(source, -result if recipe.invert else result)
    figures.write(work, {"depth_agreement": whole, "depth_agreement_in_rows": in_rows})
