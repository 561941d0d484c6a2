"""Measuring as a function: the figures that `dvid eval` gives, by the same recipes."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from dvcli.api.results import Depths, Figures, Frames, Inverted, Sampled
from dvcli.api.verbs import ClipPath, extract, workspace_of
from dvcli.api.workspace import Workspace
from dvcli.errors import UsageError
from dvcli.recipes import Depth, Extract

if TYPE_CHECKING:
    from dvcli.cli.judged import Row, Source


def evaluate(
    clip: Sampled | Inverted | Frames | ClipPath,
    prompt: str | None = None,
    *,
    source: Frames | Depths | ClipPath | None = None,
    clip_model: str | Path = "clip-vit-l14",
    workspace: Workspace | None = None,
) -> Figures:
    """How steady a clip is, how well it fits its prompt, and how it keeps motion and depth.

    A result of `sample` or `invert` is measured against its own prompt and source; for frames or a
    file both are said here. What cannot be measured without them is left out.
    """
    from dvcli.cli import measures
    from dvcli.cli.measures import Choice, Judges

    work = workspace_of(clip, workspace)
    if prompt is not None and not prompt.strip():
        raise UsageError("the prompt is empty", hint="say what the clip should show")
    row = _row(clip, prompt, source, work)
    judges = Judges(clip=work.sources.clip_model(str(clip_model)))
    wanted = measures.recipes([row], judges, Choice(asked=frozenset(), only=False))
    figures: dict[str, float] = {}
    keys: dict[str, str] = {}
    for measure, (recipe,) in wanted.items():
        if recipe is not None:
            artifact = work.realise(recipe)
            found = json.loads(artifact.path("metrics").read_text())
            figures |= {name: found[name] for name in measures.FIGURES[measure] if name in found}
            keys[measure] = artifact.key
    return Figures(figures=figures, keys=keys)


def _row(
    clip: Sampled | Inverted | Frames | ClipPath,
    prompt: str | None,
    source: Frames | Depths | ClipPath | None,
    work: Workspace,
) -> "Row":
    """What is measured, and against what, as `dvid eval` has it."""
    from dvcli.cli.judged import Row

    name = "the clip"
    if isinstance(clip, Sampled | Inverted):
        if prompt is not None or source is not None:
            raise UsageError("a result has its own prompt and source")
        inverted = clip.recipe.inverted if isinstance(clip, Sampled) else clip.recipe
        against = _source(inverted.tuned.frames, inverted.tuned.depth)
        if isinstance(clip, Sampled):
            words = clip.recipe.prompt
            return Row(name=name, frames=clip.recipe, prompt=words, role="sample", source=against)
        return Row(
            name=name,
            frames=inverted,
            prompt=inverted.tuned.prompt,
            role="reconstruction",
            source=against,
        )
    taken = (
        clip if isinstance(clip, Frames) else extract(clip, frames=None, size=None, workspace=work)
    )
    if source is None:
        return Row(name=name, frames=taken.recipe, prompt=prompt)
    return Row(name=name, frames=taken.recipe, prompt=prompt, source=_beside(taken, source, work))


def _source(frames: Extract, near: Depth | None) -> "Source":
    """What a clip is compared with: frames, and their depth where an estimator made it."""
    from dvcli.cli.judged import Source

    if near is None or near.estimator is None:
        return Source(name="its source", frames=frames)
    return Source(
        name="its source",
        frames=frames,
        depth=near,
        estimator=near.estimator,
        invert=near.invert,
    )


def _beside(taken: Frames, source: Frames | Depths | ClipPath, work: Workspace) -> "Source":
    """The source in as many frames as the clip has, and of their size."""
    if isinstance(source, Depths):
        found = _source(source.recipe.frames, source.recipe)
    elif isinstance(source, Frames):
        found = _source(source.recipe, None)
    else:
        found = _source(Extract(clip=work.sources.file(Path(source))), None)
    width, height = taken.artifact.info["size"]
    return found.sampled(int(taken.artifact.info["frames"]), (int(width), int(height)))
