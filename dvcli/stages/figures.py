"""What the metrics share: the frames they look at, and the figures they leave."""

import json
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from jaxtyping import UInt8
from numpy import ndarray

from dvcli.recipes import Judged, shown
from dvcli.stages import Work, finite, inputs


def frames(work: Work, role: str, recipe: Judged) -> UInt8[ndarray, "f H W 3"]:
    """The frames to be judged that came in that role."""
    (name,) = shown(recipe)
    return inputs.frames(work.inputs[role], name)


def write(work: Work, figures: Mapping[str, float | None]) -> None:
    """Write `metrics`, a JSON object; a figure that is None is left out, one not finite refused."""
    kept = {name: value for name, value in figures.items() if value is not None}
    for name, value in kept.items():
        if not math.isfinite(value):
            raise finite.broken(f"the figure `{name}`")
    text = json.dumps(kept, sort_keys=True, allow_nan=False)
    work.out.write("metrics", partial(_text, text=text))


def _text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
