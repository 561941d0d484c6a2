"""Folders of small clips as several methods would leave them, for studies."""

from pathlib import Path

import numpy as np

from dvcli.cli.provenance import provenance
from dvcli.recipes import Base, Depth, Extract, Invert, Recipe, Render, Sample, Tune
from dvcli.video.write import write

ZERO = "0" * 64


def film(
    path: Path,
    shade: int,
    *,
    frames: int = 4,
    size: tuple[int, int] = (32, 24),
    fps: float = 8,
    recipe: Recipe | None = None,
) -> Path:
    """A clip of one colour with a bar that walks; with a recipe it says how it was made."""
    width, height = size
    pixels = np.full((frames, height, width, 3), shade, np.uint8)
    for number in range(frames):
        pixels[number, :, number * width // frames :][:, : width // frames] = 255 - shade
    path.parent.mkdir(parents=True, exist_ok=True)
    told = None
    if recipe is not None:
        assert isinstance(recipe, Sample | Depth)
        told = provenance(Render(source=recipe, suffix=path.suffix, fps=fps), None, own_depth=True)
    write(path, pixels, fps=fps, metadata=told)
    return path


def sample(prompt: str, *, clip: str = ZERO, seed: int = 0, tuning: int = 10) -> Sample:
    """A sample from noise of that clip, prompt and seed; `tuning` tells methods apart."""
    frames = Extract(clip=clip)
    base = Base(unet=ZERO, vae=ZERO, text_encoder=ZERO, tokenizer=ZERO, scheduler=ZERO)
    tuned = Tune(frames=frames, depth=None, base=base, prompt="a ball", steps=tuning)
    return Sample(inverted=Invert(tuned=tuned), prompt=prompt, start="noise", seed=seed)


def two_methods(names: tuple[str, ...] = ("fox", "cat", "owl")) -> tuple[str, ...]:
    """The words of `study make` for `alpha` and `beta`, whose clips and prompts file it writes."""
    for place, name in enumerate(names):
        film(Path("one", f"{name}.mp4"), 30 + 10 * place)
        film(Path("two", f"{name}.mp4"), 150 + 10 * place)
    lines = [f"{name}.mp4,a {name} in the snow" for name in names]
    Path("prompts.csv").write_text("\n".join(["file,prompt", *lines]) + "\n")
    return ("alpha=one", "beta=two", "--prompts-file", "prompts.csv")
