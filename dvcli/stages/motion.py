"""How the motion of a clip agrees with that of its source."""

from dvcli.core.motion import motion_fidelity
from dvcli.recipes import Motion
from dvcli.stages import Work, figures


def build(recipe: Motion, work: Work) -> None:
    """Write `metrics`, JSON: `motion_fidelity`, absent where the source has no motion."""
    source = figures.frames(work, "reference", recipe.reference)
    result = figures.frames(work, "frames", recipe.frames)
    figures.write(work, {"motion_fidelity": motion_fidelity(source, result)})
