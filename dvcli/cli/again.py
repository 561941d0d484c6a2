"""What a file's recipe is called on this machine, so that the commands that make it again can run.

A file says no path and no name of the machine that made it. The runs that are kept here may know
where its clip and its model are; a clip is believed only while it still has the digest.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from dvcli.cli.commands import Names
from dvcli.cli.session import Console
from dvcli.errors import DvidError
from dvcli.recipe_json import to_json
from dvcli.recipes import CogVideoX, Depth, Extract, Invert, Recipe, Sample, Tune
from dvcli.runs import Run, name_for


@dataclass(frozen=True, kw_only=True)
class Chain:
    """What clips were made from: their frames, and of a tuned run its tuning and its inversions."""

    frames: Extract
    depth: Depth | None = None
    tune: Tune | None = None
    inversions: tuple[Invert, ...] = ()

    def of(self, run: Run) -> bool:
        """Whether the run is of these, so that making them again changes nothing of it."""
        if run.recipes.get("extract") != self.frames:
            return False
        if self.tune is None:
            return True
        if run.recipes.get("tune") != self.tune:
            return False
        return not self.inversions or run.recipes.get("invert") in (None, *self.inversions)


def chain(recipes: Sequence[Recipe]) -> Chain | None:
    """What the recipes, all of one tuning, were made from; None for what is no clip of a run."""
    inversions = dict.fromkeys(one for recipe in recipes if (one := _inversion(recipe)))
    first = recipes[0]
    tune = first if isinstance(first, Tune) else None
    if inversions:
        tune = next(iter(inversions)).tuned
    if tune is not None:
        return Chain(frames=tune.frames, depth=tune.depth, tune=tune, inversions=tuple(inversions))
    if isinstance(first, Depth):
        return Chain(frames=first.frames, depth=first)
    if isinstance(first, CogVideoX):
        return Chain(frames=first.frames)
    return Chain(frames=first) if isinstance(first, Extract) else None


def _inversion(recipe: Recipe) -> Invert | None:
    if isinstance(recipe, Invert):
        return recipe
    return recipe.inverted if isinstance(recipe, Sample) else None


def named(
    console: Console,
    recipes: Sequence[Recipe],
    *,
    model: str | None,
    own_depth: bool = True,
    whole: bool = False,
) -> Names:
    """What commands call the inputs of the recipes, and the run that they are made in.

    That is the run here that they were made in where making them again leaves it as it is, else a
    new one. With `whole` its clips are these and no others, as a report shows all of them.
    """
    names = Names(model=model or Names.model, estimator=None if own_depth else "ESTIMATOR")
    made = chain(recipes)
    if made is None:
        return names
    runs = console.runs.all()
    clip = _place(console, runs, made.frames.clip)
    found = None
    if clip is not None:
        names = replace(names, clip=str(clip))
        fit = (run for run in runs if made.of(run) and _lies(run, clip))
        if whole:
            fit = (run for run in fit if _samples(console, run) == set(recipes))
        found = next(fit, None)
    name = _fresh(console, recipes if whole else _before(made)) if found is None else found.name
    names = replace(names, run=name)
    if model is None and (base := _base(runs, recipes[0], made)) is not None:
        names = replace(names, model=base)
    names = _with_depth(console, runs, names, made, own_depth=own_depth)
    blend = next((one.blend for one in recipes if isinstance(one, Sample) and one.blend), None)
    return names if blend is None else _with_other(console, runs, names, blend)


def _before(made: Chain) -> Sequence[Recipe]:
    return made.inversions or ((made.frames,) if made.tune is None else (made.tune,))


def _samples(console: Console, run: Run) -> set[Recipe]:
    return {made.recipe for made in console.runs.samples(run.name)}


def _lies(run: Run, clip: Path) -> bool:
    return run.clip is not None and Path(run.cwd or "/", run.clip).resolve() == clip.resolve()


def _fresh(console: Console, recipes: Sequence[Recipe]) -> str:
    """A name for a run of these that nobody else has, the same each time it is asked for."""
    text = json.dumps([to_json(recipe) for recipe in recipes], sort_keys=True)
    name = f"again-{sha256(text.encode()).hexdigest()[:8]}"
    return name_for(name, console.runs.names())


def _place(console: Console, runs: Sequence[Run], digest: str) -> Path | None:
    """Where a clip or a depth of that content lies now, as far as runs remember."""
    from dvcli.video.digest import source_digest

    for hint in dict.fromkeys(run.sources[digest] for run in runs if digest in run.sources):
        try:
            if source_digest(Path(hint), console.store.digest_file) == digest:
                return Path(hint)
        except (DvidError, OSError):
            continue
    return None


def _base(runs: Sequence[Run], recipe: Recipe, made: Chain) -> str | None:
    """How a run here names the model, a folder only while it is there."""
    from dvcli.cli.provenance import is_public

    if isinstance(recipe, CogVideoX):
        return _folder(runs, recipe.model.transformer)
    if made.tune is None:
        depth = made.depth
        return None if depth is None or depth.estimator is None else _folder(runs, depth.estimator)
    for run in runs:
        tune = run.recipes.get("tune")
        if not isinstance(tune, Tune) or tune.base != made.tune.base or run.model is None:
            continue
        if is_public(run.model) or Path(run.model).is_dir():
            return run.model
    return _folder(runs, made.tune.base.unet)


def _folder(runs: Sequence[Run], digest: str) -> str | None:
    """The folder of the checkpoint that a component of that content is in."""
    hints = (Path(run.sources[digest]) for run in runs if digest in run.sources)
    found = next((place for place in hints if place.is_dir()), None)
    if found is None:
        return None
    whole = (found.parent / "model_index.json").is_file()
    return str(found.parent if whole else found)


def _with_depth(
    console: Console, runs: Sequence[Run], names: Names, made: Chain, *, own_depth: bool
) -> Names:
    depth = made.depth
    if depth is None:
        return names
    if depth.given is not None:
        place = _place(console, runs, depth.given)
        return names if place is None else replace(names, given=str(place))
    if own_depth or depth.estimator is None:
        return names
    return replace(names, estimator=_folder(runs, depth.estimator) or names.estimator)


def _with_other(console: Console, runs: Sequence[Run], names: Names, blend: Depth) -> Names:
    """The same with the other clip's depth: the run here that has it, else a new one."""
    clip = _place(console, runs, blend.frames.clip)
    given = None if blend.given is None else _place(console, runs, blend.given)
    estimator = None if blend.estimator is None else _folder(runs, blend.estimator)
    found = None
    if clip is not None:
        fit = (run for run in runs if run.recipes.get("depth") == blend and _lies(run, clip))
        found = next(fit, None)
    return replace(
        names,
        other=_fresh(console, [blend]) if found is None else found.name,
        other_clip=names.other_clip if clip is None else str(clip),
        other_given=names.other_given if given is None else str(given),
        other_estimator=estimator or names.other_estimator,
    )
