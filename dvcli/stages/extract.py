"""Evenly spaced frames out of a clip."""

import logging

from dvcli.recipes import Extract
from dvcli.stages import Work
from dvcli.stages.choice import read_choice
from dvcli.video import frames as frame_file
from dvcli.video.cuts import cuts, unlike

log = logging.getLogger(__name__)


def build(recipe: Extract, work: Work) -> None:
    """Write `frames`: uint8 RGB `[f H W 3]`; times and what was converted go into the info.

    Warns of cuts among frames that were chosen, and of frames of many shots; whole files, which
    others may have made, are read as they are.
    """
    picked = read_choice(recipe, work.runtime.locate(recipe.clip))
    work.out.write("frames", lambda path: frame_file.save(path, picked.frames))
    count, height, width, _ = picked.frames.shape
    work.out.info.update(
        frames=count,
        size=[width, height],
        times=list(picked.times),
        notes=list(picked.notes),
    )
    found = [] if recipe.frames is None else cuts(picked.frames)
    if found:
        last, first = picked.times[found[0] - 1], picked.times[found[0]]
        more = f" and at {len(found) - 1} more places" if len(found) > 1 else ""
        log.warning(
            "the clip seems to be cut between %.4g s and %.4g s%s: one shot is learnt best,"
            " `--start` and `--end` choose it",
            *(last, first, more),
        )
    elif recipe.frames is not None and unlike(picked.frames):
        log.warning(
            "the %d frames chosen are hardly alike: one shot is learnt best, `--start` and `--end`"
            " choose it",
            count,
        )
