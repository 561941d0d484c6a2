"""The stages that make clips, as functions: each takes from the cache, else computes and keeps.

They ask for the same recipes as the commands of the same names, so both find each other's results.
A function that goes on from a result works in that result's workspace. Raises `DvidError`s: what is
wrong in one sentence, and in `hint` what helps.
"""

from pathlib import Path
from typing import TypeAlias

from dvcli import fast as quick
from dvcli.api.results import Depths, Frames, Inverted, Sampled, Tuned
from dvcli.api.workspace import Workspace, usual
from dvcli.errors import UsageError
from dvcli.recipes import (
    Controls,
    Depth,
    Extract,
    Fit,
    Invert,
    Normalise,
    Sample,
    TemporalTarget,
    Tune,
)

ClipPath: TypeAlias = str | Path


def extract(
    clip: ClipPath,
    *,
    frames: int | None = Extract.frames,
    size: int | tuple[int, int] | None = Extract.size,
    fit: Fit = Extract.fit,
    start: float = Extract.start,
    end: float | None = Extract.end,
    stream: int | None = Extract.stream,
    background: str = Extract.background,
    tolerate_errors: bool = Extract.tolerate_errors,
    workspace: Workspace | None = None,
) -> Frames:
    """Evenly spaced frames of a video, an animation or a folder of images, both ends included.

    `size` is (width, height), or the side of a square; None leaves the clip's own, and `frames`
    None takes all of them. `start` and `end` are seconds from the clip's first frame.
    """
    work = workspace or usual()
    recipe = Extract(
        clip=work.sources.file(Path(clip)),
        frames=frames,
        size=(size, size) if isinstance(size, int) else size,
        fit=fit,
        start=start,
        end=end,
        stream=stream,
        background=background,
        tolerate_errors=tolerate_errors,
    )
    return Frames(recipe=recipe, artifact=work.realise(recipe), workspace=work)


def depth(
    clip: ClipPath | Frames,
    *,
    model: str | Path = "sd2-depth",
    estimator: str | Path | None = None,
    given: str | Path | None = None,
    invert: bool = False,
    workspace: Workspace | None = None,
) -> Depths:
    """How near everything is in each frame of a clip, by the model's own estimator.

    `estimator` names another, `given` a depth video or a folder of depth images to read instead;
    `invert` is for maps in which far is bright. Of a path the usual frames are taken, in the size
    that the model is for; for others `extract` first.
    """
    work = workspace_of(clip, workspace)
    own = given is None and estimator is None
    taken = _frames(clip, work, model if own else None)
    if given is not None:
        if estimator is not None:
            raise UsageError("`given` and `estimator` are two sources of depth, take one")
        recipe = Depth(frames=taken.recipe, given=work.sources.file(Path(given)), invert=invert)
    else:
        digest = work.sources.estimator(str(model if estimator is None else estimator))
        recipe = Depth(frames=taken.recipe, estimator=digest, invert=invert)
    made = work.realise(recipe)
    return Depths(recipe=recipe, artifact=made, workspace=work, model=str(model) if own else None)


def tune(
    clip: ClipPath | Frames | Depths,
    prompt: str,
    *,
    model: str | Path = "sd2-depth",
    steps: int = Tune.steps,
    lr: float = Tune.lr,
    weight_decay: float = Tune.weight_decay,
    grad_clip: float = Tune.grad_clip,
    temporal_weight: float = Tune.temporal_weight,
    temporal_target: TemporalTarget = Tune.temporal_target,
    normalise: Normalise = Tune.normalise,
    seed: int = Tune.seed,
    workspace: Workspace | None = None,
) -> Tuned:
    """The model tuned to one clip, of which `prompt` says what it shows.

    Depth is estimated by the model, unless the clip comes as a result of `depth`; a model without
    depth does without. Of a path the usual frames are taken, in the size that the model is for.
    """
    from dvcli.cli.sources import base
    from dvcli.models.fingerprint import validate_size

    work = workspace_of(clip, workspace)
    found = work.checkpoint(model)
    frames = clip.recipe.frames if isinstance(clip, Depths) else _frames(clip, work, model).recipe
    if frames.size is not None:
        validate_size(found, frames.size)
    near: Depth | None = None
    if isinstance(clip, Depths):
        if not found.has_depth:
            raise UsageError(
                f"the model `{model}` takes no depth", hint="give the frames instead of their depth"
            )
        near = clip.recipe
    elif found.has_depth:
        near = Depth(frames=frames, estimator=work.sources.estimator(str(model)))
    recipe = Tune(
        frames=frames,
        depth=near,
        base=base(found),
        prompt=prompt,
        steps=steps,
        lr=lr,
        weight_decay=weight_decay,
        grad_clip=grad_clip,
        temporal_weight=temporal_weight,
        temporal_target=temporal_target,
        normalise=normalise,
        seed=seed,
        dtype=work.number_format,
    )
    work.warn_of_overflow(recipe.base.tokenizer, recipe)
    made = work.realise(recipe)
    return Tuned(recipe=recipe, artifact=made, workspace=work, model=str(model))


def invert(
    tuned: Tuned,
    *,
    steps: int = Invert.steps,
    refine: int = Invert.refine,
    prompt: str = Invert.prompt,
    trajectory: bool = Invert.trajectory,
) -> Inverted:
    """The latent that the clip comes from, on the tuned model; `psnr` says how well it comes back.

    `refine` repeats each step's estimate so many times; `trajectory` keeps every step's latent.
    """
    work = tuned.workspace
    recipe = Invert(
        tuned=tuned.recipe,
        steps=steps,
        refine=refine,
        prompt=prompt,
        trajectory=trajectory,
        dtype=work.number_format,
    )
    return Inverted(recipe=recipe, artifact=work.realise(recipe), workspace=work, model=tuned.model)


def sample(
    clip: Inverted | Tuned,
    prompt: str,
    *,
    style: str | None = None,
    negative: str = Sample.negative,
    guidance: float = Sample.guidance,
    guidance_from: float = Sample.guidance_from,
    guidance_until: float = Sample.guidance_until,
    reuse: int = Sample.reuse,
    fast: bool = False,
    strength: float = Sample.strength,
    eta: float = Sample.eta,
    from_noise: bool = False,
    seed: int = Sample.seed,
    controls: Controls | None = None,
    blend: Depths | None = None,
) -> Sampled:
    """A new clip of what the prompt says, with the motion and the depth of the old one.

    A tuned clip is inverted in the usual way first. `style` is the name of one; `controls` act on
    depth, and `blend` is the other clip's depth for `controls.blend`. Deep features of the network
    are computed every `reuse` steps. `fast` is a set of savings that change the result: an
    inversion in fewer steps, made at the first call, and for `guidance_until` and `reuse`, where
    they are left at their defaults, quicker ones.
    """
    from dvcli.styles import find_style

    work = clip.workspace
    if isinstance(clip, Inverted):
        start = clip.recipe
    else:
        start = Invert(tuned=clip.recipe, dtype=work.number_format)
    if fast:
        start = quick.matched(start)
        until = quick.GUIDANCE_UNTIL if guidance_until == Sample.guidance_until else guidance_until
        every = quick.REUSE if reuse == Sample.reuse else reuse
    else:
        until, every = guidance_until, reuse
    words, without = prompt.strip(), negative
    if words and style is not None:
        words, without = find_style(style).apply(words, without)
    recipe = Sample(
        inverted=start,
        prompt=words,
        negative=without,
        guidance=guidance,
        guidance_from=guidance_from,
        guidance_until=until,
        reuse=every,
        strength=strength,
        eta=eta,
        start="noise" if from_noise else "inverted",
        seed=seed,
        controls=controls or Controls(),
        blend=None if blend is None else blend.recipe,
        dtype=work.number_format,
    )
    work.warn_of_overflow(start.tuned.base.tokenizer, recipe)
    return Sampled(recipe=recipe, artifact=work.realise(recipe), workspace=work, model=clip.model)


def workspace_of(clip: object, asked: Workspace | None) -> Workspace:
    """The workspace of the result to go on from, else the one asked for, else the usual one."""
    if isinstance(clip, Frames | Depths | Sampled | Inverted):
        if asked is not None and asked is not clip.workspace:
            raise UsageError(
                "a result goes on in the workspace that it was made in",
                hint="leave `workspace` out, or begin with the clip's path",
            )
        return clip.workspace
    return asked or usual()


def _frames(clip: ClipPath | Frames, work: Workspace, model: str | Path | None) -> Frames:
    """The frames given, or the usual ones of a path, in the size that the model is for."""
    if isinstance(clip, Frames):
        return clip
    from dvcli.cli.sources import native_size

    size = Extract.size if model is None else native_size(work.checkpoint(model))
    return extract(clip, size=size, workspace=work)
