"""From a recipe to its artifact: out of the store when it is there, built when it is not.

`realise` and `plan` know nothing of any stage but its name; the program's dynamic imports are here,
so that a cache hit reaches neither torch nor a media library.
"""

import importlib
import logging
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from dvcli.errors import InputError
from dvcli.recipes import Extract, Likeness, Motion, Recipe, Render
from dvcli.runtime import Runtime
from dvcli.store import Artifact, Draft, Partial, Store
from dvcli.store.keys import key_of, preimage

log = logging.getLogger(__name__)

# No network, so no device either.
OFF_DEVICE = (Extract.stage, Render.stage, Motion.stage, Likeness.stage)


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a stage is handed: its inputs by role, where to write, where to keep checkpoints."""

    inputs: Mapping[str, Artifact]
    out: Draft
    partial: Partial
    runtime: Runtime


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One stage of a plan. `key` is None where it hangs on a stage that has yet to run."""

    recipe: Recipe
    key: str | None
    hit: bool
    seconds: float | None


def request(recipe: Recipe, inputs: Mapping[str, Artifact]) -> dict[str, object]:
    """The pre-image of the recipe's key: stage, version, digests of what it reads, parameters."""
    digests = {role: part.digest_of(recipe.reads[role]) for role, part in inputs.items()}
    return preimage(
        recipe.stage, recipe.version, {**digests, **recipe.externals}, dict(recipe.params)
    )


def realise(recipe: Recipe, store: Store, runtime: Runtime, *, refresh: bool = False) -> Artifact:
    """The recipe's artifact, building what is missing on the way to it.

    With `refresh` the recipe itself is built again and stored, its inputs are not. Raises what the
    stages raise, and `Interrupted` when a stop was requested between two of them.
    """
    return _realise(recipe, store, runtime, refresh, {})


def _realise(
    recipe: Recipe, store: Store, runtime: Runtime, refresh: bool, seen: dict[Recipe, Artifact]
) -> Artifact:
    if recipe in seen:
        return seen[recipe]
    inputs = {
        role: _realise(part, store, runtime, False, seen) for role, part in recipe.inputs.items()
    }
    asked = request(recipe, inputs)
    key = key_of(asked)
    artifact = None if refresh else store.get(key)
    if artifact is None:
        with store.lock(key, waiting=_Waiting(recipe.stage, runtime)):
            # Another process may have published it while this one waited for the lock.
            artifact = None if refresh else store.get(key)
            if artifact is None:
                artifact = _build(recipe, inputs, asked, store, runtime)
                seen[recipe] = artifact
                return artifact
    runtime.progress.made(recipe.stage, key, seconds(artifact), cached=True)
    seen[recipe] = artifact
    return artifact


class _Waiting:
    """Called while another process has the lock: says so once, and stops where that is asked."""

    def __init__(self, stage: str, runtime: Runtime) -> None:
        self._stage, self._runtime = stage, runtime
        self._said = False

    def __call__(self) -> None:
        if not self._said:
            log.warning("another process is at the same `%s`; waiting for it", self._stage)
            self._said = True
        self._runtime.stop.check(kept="another process goes on with it")


def _build(
    recipe: Recipe,
    inputs: Mapping[str, Artifact],
    asked: dict[str, object],
    store: Store,
    runtime: Runtime,
) -> Artifact:
    runtime.stop.check(kept="everything finished so far is kept")
    _require_device(recipe, runtime)
    stage = importlib.import_module(f"dvcli.stages.{recipe.stage}")
    from dvcli.stages.outside import Outside

    outside = Outside(runtime, recipe.externals.values(), store.digest_file)
    kept = store.partial(key_of(asked), before=outside.require)
    guarded = replace(runtime, locate=outside.locate)
    with store.draft(asked) as out:
        begun = time.monotonic()
        try:
            stage.build(recipe, Work(inputs=inputs, out=out, partial=kept, runtime=guarded))
        except Exception:
            with suppress(InputError):
                outside.require()  # a model that was loaded for this may be taken for another
            raise
        took = time.monotonic() - begun
        outside.require()
        out.info["seconds"] = round(took, 3)
        artifact = out.publish()
    runtime.progress.made(recipe.stage, artifact.key, took, cached=False)
    kept.clear()
    return artifact


def require_device(recipes: Iterable[Recipe], store: Store, runtime: Runtime) -> None:
    """Raise `ResourceError` where a stage of the recipes is yet to run and torch has no device."""
    for step in plan(recipes, store):
        if not step.hit:
            _require_device(step.recipe, runtime)


def _require_device(recipe: Recipe, runtime: Runtime) -> None:
    if recipe.stage not in OFF_DEVICE:
        importlib.import_module("dvcli.stages.device").require(runtime.device)


def find(recipe: Recipe, store: Store) -> Artifact | None:
    """The recipe's artifact if it and all it hangs on are in the store, else None."""
    inputs: dict[str, Artifact] = {}
    for role, part in recipe.inputs.items():
        artifact = find(part, store)
        if artifact is None:
            return None
        inputs[role] = artifact
    return store.get(key_of(request(recipe, inputs)))


def plan(recipes: Iterable[Recipe], store: Store) -> list[Planned]:
    """Each stage that leads to the recipes, in order, and whether it is in the store already."""
    order: dict[Recipe, Planned] = {}
    found: dict[Recipe, Artifact] = {}
    for recipe in recipes:
        _plan(recipe, store, order, found)
    return list(order.values())


def missing(recipes: Iterable[Recipe], store: Store, *, again: bool = False) -> int:
    """How many stages have yet to run for all of the recipes; with `again` they run in any case."""
    wanted = list(recipes)
    steps = plan(wanted, store)
    return sum(not step.hit or (again and step.recipe in wanted) for step in steps)


def _plan(
    recipe: Recipe, store: Store, order: dict[Recipe, Planned], found: dict[Recipe, Artifact]
) -> None:
    if recipe in order:
        return
    for part in recipe.inputs.values():
        _plan(part, store, order, found)
    key: str | None = None
    artifact: Artifact | None = None
    if all(part in found for part in recipe.inputs.values()):
        inputs = {role: found[part] for role, part in recipe.inputs.items()}
        key = key_of(request(recipe, inputs))
        artifact = store.get(key)
    if artifact is not None:
        found[recipe] = artifact
    saved = None if artifact is None else seconds(artifact)
    order[recipe] = Planned(recipe=recipe, key=key, hit=artifact is not None, seconds=saved)


def seconds(artifact: Artifact) -> float:
    """How long the artifact took to make."""
    took = artifact.info.get("seconds")
    return float(took) if isinstance(took, int | float) else 0.0
