"""Evenly spaced frames out of a clip."""

from dvcli.recipes import Extract
from dvcli.stages import Work
from dvcli.video import frames as frame_file
from dvcli.video.read import read


def build(recipe: Extract, work: Work) -> None:
    """Write `frames`: uint8 RGB `[f H W 3]`; times and what was converted go into the info."""
    picked = read(
        work.runtime.locate(recipe.clip),
        frames=recipe.frames,
        size=recipe.size,
        fit=recipe.fit,
        start=recipe.start,
        end=recipe.end,
        stream=recipe.stream,
        background=recipe.background,
        tolerate_errors=recipe.tolerate_errors,
    )
    work.out.write("frames", lambda path: frame_file.save(path, picked.frames))
    count, height, width, _ = picked.frames.shape
    work.out.info.update(
        frames=count,
        size=[width, height],
        times=list(picked.times),
        notes=list(picked.notes),
    )
