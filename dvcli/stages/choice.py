"""How a clip, or the depth video that goes with it, is read: the frames that a recipe chooses."""

from pathlib import Path

from dvcli.recipes import Extract
from dvcli.video.read import Picked, read


def read_choice(choice: Extract, path: Path) -> Picked:
    """The frames of the file or folder that the recipe chooses, framed as it says."""
    return read(
        path,
        frames=choice.frames,
        size=choice.size,
        fit=choice.fit,
        start=choice.start,
        end=choice.end,
        stream=choice.stream,
        background=choice.background,
        tolerate_errors=choice.tolerate_errors,
    )
