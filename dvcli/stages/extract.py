"""Evenly spaced frames out of a clip."""

from dvcli.recipes import Extract
from dvcli.stages import Work
from dvcli.stages.choice import read_choice
from dvcli.video import frames as frame_file


def build(recipe: Extract, work: Work) -> None:
    """Write `frames`: uint8 RGB `[f H W 3]`; times and what was converted go into the info."""
    picked = read_choice(recipe, work.runtime.locate(recipe.clip))
    work.out.write("frames", lambda path: frame_file.save(path, picked.frames))
    count, height, width, _ = picked.frames.shape
    work.out.info.update(
        frames=count,
        size=[width, height],
        times=list(picked.times),
        notes=list(picked.notes),
    )
