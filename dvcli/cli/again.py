"""What a file's recipe is called on this machine, so that the commands that make it again can run.

A file says no path and no name of the machine that made it. The runs that are kept here may know
where its clip and its model are; a clip is believed only while it still has the digest.
"""

import json
import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from dvcli.cli.commands import Names
from dvcli.cli.session import Console
from dvcli.errors import DvidError, StorageError
from dvcli.recipe_json import to_json
from dvcli.recipes import CogVideoX, Depth, Extract, Invert, Recipe, Sample, Tune
from dvcli.runs import Run, name_for

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Here:
    """What this machine remembers: its runs, the newest first, and every name that is taken."""

    console: Console
    runs: Sequence[Run] = ()
    taken: Sequence[str] = ()

    @classmethod
    def of(cls, console: Console) -> "Here":
        """The runs of this machine; none, with a warning, where they cannot be read."""
        try:
            return cls(console=console, runs=console.runs.all(), taken=console.runs.names())
        except StorageError as unread:
            log.warning("%s; so no run is known here", unread.message)
            return cls(console=console)

    def shows(self, run: Run, clips: Collection[Recipe]) -> bool:
        """Whether these and no others were sampled in the run."""
        try:
            return {made.recipe for made in self.console.runs.samples(run.name)} == set(clips)
        except StorageError:
            return False

    def holds(self, place: Path, digest: str) -> bool:
        """Whether a clip or a depth of that content lies there now."""
        from dvcli.video.digest import source_digest

        try:
            return source_digest(place, self.console.store.digest_file) == digest
        except (DvidError, OSError, ValueError):
            return False

    def places(self, digest: str) -> Iterator[Path]:
        """Where a clip or a depth of that content was, as far as runs remember."""
        yield from dict.fromkeys(
            Path(run.sources[digest]) for run in self.runs if digest in run.sources
        )


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
    here: Here,
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
    digest = made.frames.clip
    fit: Iterator[Run] = (run for run in here.runs if made.of(run))
    if whole:
        clips = [one for one in recipes if isinstance(one, Sample | CogVideoX)]
        fit = (run for run in fit if here.shows(run, clips))
    found = _own(here, fit, digest)
    clip = _place(here, digest) if found is None else found[1]
    begun = recipes if whole else _before(made)
    names = replace(
        names,
        clip=names.clip if clip is None else str(clip),
        run=_fresh(here, begun) if found is None else found[0].name,
    )
    if model is None and (base := _base(here.runs, recipes[0], made)) is not None:
        names = replace(names, model=base)
    names = _with_depth(here, names, made, own_depth=own_depth)
    blend = next((one.blend for one in recipes if isinstance(one, Sample) and one.blend), None)
    return names if blend is None else _with_other(here, names, blend)


def alone(recipe: Recipe) -> str | None:
    """What a run is called in which only that recipe is made; the same on every machine."""
    made = chain([recipe])
    return None if made is None else _hashed(_before(made))


def _before(made: Chain) -> Sequence[Recipe]:
    return made.inversions or ((made.frames,) if made.tune is None else (made.tune,))


def _own(here: Here, fit: Iterator[Run], digest: str) -> tuple[Run, Path] | None:
    """The first of the runs whose own clip still has that content, and where it lies."""
    for run in fit:
        if run.clip is None:
            continue
        place = Path(run.cwd or "/", run.clip).resolve()
        if here.holds(place, digest):
            return run, place
    return None


def _fresh(here: Here, recipes: Sequence[Recipe]) -> str:
    """A name for a run of these that nobody else has, the same each time it is asked for."""
    return name_for(_hashed(recipes), here.taken)


def _hashed(recipes: Sequence[Recipe]) -> str:
    text = json.dumps([to_json(recipe) for recipe in recipes], sort_keys=True)
    return f"again-{sha256(text.encode()).hexdigest()[:8]}"


def _place(here: Here, digest: str) -> Path | None:
    """Where a clip or a depth of that content lies now, as far as runs remember."""
    return next((place for place in here.places(digest) if here.holds(place, digest)), None)


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


def _with_depth(here: Here, names: Names, made: Chain, *, own_depth: bool) -> Names:
    depth = made.depth
    if depth is None:
        return names
    if depth.given is not None:
        place = _place(here, depth.given)
        return names if place is None else replace(names, given=str(place))
    if own_depth or depth.estimator is None:
        return names
    return replace(names, estimator=_folder(here.runs, depth.estimator) or names.estimator)


def _with_other(here: Here, names: Names, blend: Depth) -> Names:
    """The same with the other clip's depth: the run here that has it, else a new one."""
    fit = (run for run in here.runs if run.recipes.get("depth") == blend)
    found = _own(here, fit, blend.frames.clip)
    clip = _place(here, blend.frames.clip) if found is None else found[1]
    given = None if blend.given is None else _place(here, blend.given)
    estimator = None if blend.estimator is None else _folder(here.runs, blend.estimator)
    return replace(
        names,
        other=_fresh(here, [blend]) if found is None else found[0].name,
        other_clip=names.other_clip if clip is None else str(clip),
        other_given=names.other_given if given is None else str(given),
        other_estimator=estimator or names.other_estimator,
    )
