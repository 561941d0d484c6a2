"""The command lines that make a recipe again: every option off its default, every digit of it."""

import os
from dataclasses import dataclass, fields, replace

from dvcli import fast
from dvcli.cli.config import meddles
from dvcli.cli.quoting import command_line
from dvcli.cli.session import here
from dvcli.errors import InputError
from dvcli.recipes import (
    Agreement,
    CogVideoX,
    Controls,
    Depth,
    Eval,
    Extract,
    Invert,
    Likeness,
    Motion,
    Preference,
    Recipe,
    Render,
    Sample,
    Tune,
)


@dataclass(frozen=True, kw_only=True)
class Names:
    """What a recipe knows by content only, as a command names it.

    `estimator` is None where depth is the model's own, `run` where the run is the last one. The
    `other` ones are those of the clip whose depth is blended in.
    """

    clip: str = "CLIP"
    model: str = "MODEL"
    estimator: str | None = None
    given: str = "DEPTH"
    run: str | None = None
    other: str = "OTHER"
    other_clip: str = "OTHER-CLIP"
    other_given: str = "OTHER-DEPTH"
    other_estimator: str = "OTHER-ESTIMATOR"


def commands(recipe: Recipe, names: Names) -> list[str]:
    """The command lines that make the recipe, in order. Raises `InputError` where none does."""
    return [line(*step) for step in steps(recipe, names)]


Step = tuple[str, list[str], list[str]]  # verb, arguments, options


def steps(recipe: Recipe, names: Names) -> list[Step]:
    """The same before they are put into lines."""
    run = [] if names.run is None else [names.run]
    new = [] if names.run is None else ["--run", names.run]
    match recipe:
        case Extract():
            return [("extract", [names.clip], [*_framing(recipe), *new])]
        case Depth():
            if names.run is not None:  # which `depth` of a clip has no name for
                return [*steps(recipe.frames, names), ("depth", run, _depth(recipe, names))]
            options = [*_framing(recipe.frames), *_depth(recipe, names)]
            return [("depth", [names.clip], options)]
        case Tune():
            return _tune(recipe, names)
        case Invert():
            options = [*_changed(recipe, Invert, skip=("tuned", "dtype")), "--dtype", recipe.dtype]
            return [*steps(recipe.tuned, names), ("invert", run, options)]
        case Sample():
            return [
                *_blend(recipe, names),
                *steps(recipe.inverted, names),
                ("sample", run, _sample(recipe, names)),
            ]
        case CogVideoX():
            return [*steps(recipe.frames, names), ("sample", run, _cogvideox(recipe, names))]
        case Render():
            return steps(recipe.source, names)
        case Eval() | Motion() | Agreement() | Likeness() | Preference():
            raise InputError("figures are no clip, so no command makes one of them")


def _tune(recipe: Tune, names: Names) -> list[Step]:
    if (recipe.train, recipe.attention) != (Tune.train, Tune.attention):
        raise InputError("only `dvid bench` tunes another network than the method's")
    skip: tuple[str, ...] = ("frames", "depth", "base", "prompt", "dtype")
    options: list[str] = []
    told = (recipe.temporal_target, recipe.normalise) == (Tune.temporal_target, Tune.normalise)
    if recipe.depth is None and recipe.temporal_weight == 0 and told:
        options, skip = ["--method", "tune-a-video"], (*skip, "temporal_weight")
    options += _changed(recipe, Tune, skip=skip)
    options += ["--dtype", recipe.dtype, "--model", names.model]
    depth = recipe.depth
    if depth is not None and (depth.invert or (depth.given is None and names.estimator)):
        # Depth that `tune` alone would not make: `last` is then the run that `depth` made.
        run = names.run or "last"
        return [*steps(depth, names), ("tune", [recipe.prompt], ["--run", run, *options])]
    if names.run is not None:
        options += ["--run", names.run]
    if depth is not None and depth.given is not None:
        options = ["--depth", names.given, *options]
    return [("tune", [names.clip, recipe.prompt], [*_framing(recipe.frames), *options])]


def _is_fast(recipe: Sample) -> bool:
    """Whether it is what `--fast` gives from its inversion, which then is not made anew."""
    found = recipe.guidance_until, recipe.reuse
    inverted = recipe.inverted
    return found == (fast.GUIDANCE_UNTIL, fast.REUSE) and fast.matched(inverted) == inverted


def _sample(recipe: Sample, names: Names) -> list[str]:
    options = ["--prompt", recipe.prompt]
    if _is_fast(recipe):
        options.append("--fast")
        recipe = replace(recipe, guidance_until=Sample.guidance_until, reuse=Sample.reuse)
    if recipe.start == "noise":
        options.append("--from-noise")
    skip = ("inverted", "prompt", "start", "controls", "blend", "dtype")
    options += _changed(recipe, Sample, skip=skip)
    for field in fields(Controls):
        value = getattr(recipe.controls, field.name)
        if value != field.default:
            options += [f"--depth-{field.name}", spelled(value)]
    if recipe.blend is not None:
        options += ["--depth-from", names.other]
    return [*options, "--dtype", recipe.dtype]


def _cogvideox(recipe: CogVideoX, names: Names) -> list[str]:
    options = ["--method", recipe.method, "--prompt", recipe.prompt, "--base", names.model]
    if recipe.start == "noise":
        options.append("--from-noise")
    skip = ("frames", "model", "prompt", "start", "size", "stride", "dtype")
    options += _changed(recipe, CogVideoX, skip=skip)
    options += ["--model-size", "x".join(map(str, recipe.size)), "--stride", str(recipe.stride)]
    return [*options, "--dtype", recipe.dtype]


def _blend(recipe: Sample, names: Names) -> list[Step]:
    """How the depth of the other clip is made, as a run of its own."""
    if recipe.blend is None:
        return []
    mine, other = recipe.inverted.tuned.depth, recipe.blend
    same = mine is not None and mine.estimator == other.estimator
    theirs = replace(
        names,
        estimator=names.estimator if same else names.other_estimator,
        given=names.other_given,
        run=None,
    )
    return [
        ("extract", [names.other_clip], [*_framing(other.frames), "--run", names.other]),
        ("depth", [names.other], _depth(other, theirs)),
    ]


def _framing(recipe: Extract) -> list[str]:
    if recipe.frames is None or recipe.size is None:
        raise InputError("no command takes all frames of a clip in their own size")
    found = _changed(recipe, Extract, skip=("clip", "size"))
    return [*found, "--size", "x".join(map(str, recipe.size))]


def _depth(recipe: Depth, names: Names) -> list[str]:
    if recipe.given is not None:
        found = ["--from", names.given]
    elif names.estimator is not None:
        found = ["--estimator", names.estimator]
    else:
        found = ["--model", names.model]
    return [*found, "--invert-depth"] if recipe.invert else found


def _changed(recipe: Recipe, kind: type[Recipe], *, skip: tuple[str, ...]) -> list[str]:
    """The options of every field off its default; an option is spelled as its field."""
    options: list[str] = []
    for field in fields(kind):
        value = getattr(recipe, field.name)
        if field.name in skip or value == field.default:
            continue
        name = f"--{field.name.replace('_', '-')}"
        options += [name] if value is True else [name, spelled(value)]
    return options


def spelled(value: object) -> str:
    """A number with every digit that counts."""
    return repr(value) if isinstance(value, float) else str(value)


def line(verb: str, arguments: list[str], options: list[str]) -> str:
    """One command; where an argument could be taken for an option, all of them come after `--`.

    It leaves the configuration aside where that would change what comes.
    """
    if meddles(verb, here(), tuple(sorted(os.environ.items()))):
        options = [*options, "--no-config"]
    if any(argument.startswith("-") for argument in arguments):
        return command_line(["dvid", verb, *options, "--", *arguments])
    return command_line(["dvid", verb, *arguments, *options])
