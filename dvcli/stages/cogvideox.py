"""A clip of CogVideoX, brought to the count and the size of the run's frames."""

from dataclasses import asdict
from fractions import Fraction

import numpy as np

from dvcli.models import cogvideox
from dvcli.recipes import CogVideoX
from dvcli.stages import Work, inputs, preflight
from dvcli.video import frames as frame_file
from dvcli.video.framing import fit_to

STAGE = CogVideoX.stage


def build(recipe: CogVideoX, work: Work) -> None:
    """Write `frames`: uint8 RGB `[f H W 3]`.

    From the clip the size is undone as it was done, by squashing; frames from the text alone know
    no other shape than the model's, so they are cropped.
    """
    runtime = work.runtime
    clip = inputs.frames(work.inputs["clip"]) if "clip" in work.inputs else None
    folders = {name: runtime.locate(digest) for name, digest in asdict(recipe.model).items()}

    def load() -> object:
        free = preflight.available(runtime)
        placed = cogvideox.placing(folders, recipe.dtype, runtime.device, free)
        return cogvideox.pipeline(recipe.start, folders, recipe.dtype, runtime.device, placed)

    made = runtime.shelf.get(STAGE, (recipe.model, recipe.start, recipe.dtype), load)
    with runtime.progress.task(STAGE, recipe.ran) as task:

        def step() -> None:
            task.advance()
            runtime.stop.check(kept="the frames are kept")

        frames = cogvideox.generate(made, recipe, clip, step)
    size = recipe.frames.size
    assert size is not None
    kept = np.stack(
        [
            fit_to(
                frame,
                sar=Fraction(1),
                size=size,
                fit="crop" if clip is None else "squash",
                background=(0, 0, 0),
            )
            for frame in frames[:: recipe.stride]
        ]
    )
    work.out.write("frames", lambda path: frame_file.save(path, kept))
    work.out.info.update(frames=len(kept), size=list(size), made=len(frames))
