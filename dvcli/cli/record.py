"""What a command leaves for the next one: the run, with its recipes and where things were."""

import logging
import time
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dvcli.cli.quoting import number
from dvcli.cli.session import Session, here
from dvcli.errors import MissingError, StorageError, UsageError
from dvcli.recipes import Depth, DType, Extract, Invert, Recipe, Tune

if TYPE_CHECKING:
    from dvcli.runs import Run


log = logging.getLogger(__name__)
WORDED = ("clip", "prompt", "dtype")  # told in words, not as options
NOUNS = {"extract": "extraction", "tune": "tuning", "invert": "inversion"}
ORDER = ("extract", "depth", "tune", "invert")


def remember(
    session: Session, recipe: Extract | Depth | Tune | Invert, run: "Run", *, key: str
) -> "Run":
    """The run as saved, with this recipe and all it hangs on; later stages stay that still fit.

    An inversion of a tuning that another command has replaced meanwhile changes nothing.
    `key` is that of the recipe's artifact, which need not be in the store.
    """
    from dvcli.stages import plan

    steps = {step.recipe.stage: step for step in plan([recipe], session.store)}
    made = {stage: step.recipe for stage, step in steps.items()}
    keys = {stage: step.key for stage, step in steps.items() if step.key is not None}
    keys[recipe.stage] = key

    def change(stored: "Run") -> "Run":
        if isinstance(recipe, Invert) and stored.recipes.get("tune", recipe.tuned) != recipe.tuned:
            session.note(f"the run `{stored.name}` was tuned anew meanwhile and stays so")
            return stored
        kept: dict[str, Recipe] = dict(made)
        for stage in ORDER:
            later = stored.recipes.get(stage)
            if stage not in kept and later is not None and _fits(later, kept):
                kept[stage] = later
        for stage in stored.recipes.keys() - kept.keys():
            was, now = (NOUNS.get(name, name) for name in (stage, recipe.stage))
            session.note(f"the {was} of the run `{stored.name}` was of another {now}")
        return replace(
            stored,
            model=run.model or stored.model,
            recipes={stage: kept[stage] for stage in ORDER if stage in kept},
            keys={**{stage: stored.keys[stage] for stage in kept if stage in stored.keys}, **keys},
            sources={**stored.sources, **run.sources, **session.sources.hints()},
            updated=time.time(),
        )

    saved = session.runs.update(run, change)
    if saved.name != run.name:
        log.warning("the name `%s` was taken meanwhile, so the run is `%s`", run.name, saved.name)
    return saved


def remember_if_possible(
    session: Session, recipe: Extract | Depth | Tune | Invert, run: "Run", *, key: str
) -> "Run":
    """The same before a file is written: a disk that takes no run is told of when the file is out.

    The run is as given then.
    """
    try:
        return remember(session, recipe, run, key=key)
    except StorageError as refused:
        session.store.failures.append(refused)
        return run


def _fits(recipe: Recipe, kept: Mapping[str, Recipe]) -> bool:
    """Whether what the recipe hangs on is what the run now has at those stages."""
    return all(kept.get(part.stage) == part for part in recipe.inputs.values())


def begin(session: Session, clip: Path, name: str | None, model: str | None) -> "Run":
    """The run for a clip: the one of that name, else the clip's own from this directory, else new.

    Raises `UsageError` where the name is that of another clip's run.
    """
    from dvcli.runs import Run, same_clip

    if name is not None:
        session.runs.check(name)
    chosen = name or session.runs.name_for(str(clip), cwd=here() or Path("/"))
    run = Run(name=chosen, cwd=str(here() or ""), clip=str(clip.resolve()), model=_lasting(model))
    if chosen not in session.runs.names():
        return run
    stored = session.runs.get(chosen)
    if not same_clip(stored, run):
        raise UsageError(
            f"the run `{chosen}` is of another clip, `{stored.clip}`",
            hint="`--run` with a new name, or `dvid runs --rm` first",
        )
    return replace(stored, model=run.model or stored.model)


def makes_way(run: "Run", recipe: Tune, keeping: str) -> str | None:
    """That the run holds another tuning, which this one takes the place of; None where it does not.

    `keeping` is how both are kept.
    """
    before = run.recipes.get("tune")
    if not isinstance(before, Tune) or before == recipe:
        return None
    told = _unlike(before, recipe)
    others, last = (told[:2], "other options") if len(told) > 3 else (told[:-1], told[-1])
    with_ = f"{', '.join(others)} and {last}" if others else last
    return (
        f"the run `{run.name}` has been tuned with {with_}: this tuning takes its place once it is"
        f" done; what was made stays in the cache, and {keeping} keeps both"
    )


def beside(session: Session, run: "Run", recipe: Tune) -> str | None:
    """That another directory's run is this very tuning, which this one does not become.

    None where there is none, or where this run is tuned so already.
    """
    twin = None if run.recipes.get("tune") == recipe else session.runs.twin(run, recipe)
    if twin is None:
        return None
    return (
        f"the run `{twin.name}` of the folder `{twin.cwd}` is this very tuning; each folder has a"
        f" last run of its own, so here it is `{run.name}`"
    )


def _unlike(before: Tune, now: Tune) -> list[str]:
    """What the tuning before was made with that is otherwise now, as it was asked for."""
    found = [f"the caption `{before.prompt}`"] if before.prompt != now.prompt else []
    if before.frames.clip != now.frames.clip:
        found.append("what the clip's file held then")
    pairs: tuple[tuple[Extract | Tune, Extract | Tune], ...] = (
        (before.frames, now.frames),
        (before, now),
    )
    for then, today in pairs:
        for field in fields(then):
            value = getattr(then, field.name)
            plain = isinstance(value, int | float | str | tuple) and field.name not in WORDED
            if plain and value != getattr(today, field.name):
                said = "x".join(map(str, value)) if isinstance(value, tuple) else value
                said = number(value) if isinstance(value, float) else said
                found.append(f"`--{field.name.replace('_', '-')} {said}`")
    found += ["another number format"] if before.dtype != now.dtype else []
    found += ["another model"] if before.base != now.base else []
    alike = before.depth is None or replace(before.depth, frames=now.frames) == now.depth
    if not alike and before.base == now.base:
        found.append("another depth")
    return found or ["other settings"]


def going_on(run: "Run", model: str) -> "Run":
    """The run, from now on on that model."""
    return replace(run, model=_lasting(model))


def _lasting(model: str | None) -> str | None:
    """The reference, a folder's as one that holds from any directory."""
    if model is None or not Path(model).expanduser().is_dir():
        return model
    return str(Path(model).expanduser().resolve())


def tuned(run: "Run") -> Tune:
    """The run's tuning; an error with the command that makes one where there is none."""
    recipe = run.recipes.get("tune")
    if not isinstance(recipe, Tune):
        raise MissingError(
            f"the run `{run.name}` has not been tuned",
            hint=f'`dvid tune --run {run.name} "what the clip shows"`',
        )
    return recipe


def inversion(run: "Run", dtype: DType) -> Invert:
    """The run's inversion, else the one that `dvid invert` would make of its tuning."""
    recipe = run.recipes.get("invert")
    if isinstance(recipe, Invert):
        return recipe
    from dvcli.cli.asked import configured, inverting_of

    return inverting_of({}, configured()).recipe(tuned(run), dtype)


def frames_of(run: "Run") -> Extract:
    """The run's frames."""
    recipe = run.recipes.get("extract")
    if not isinstance(recipe, Extract):
        raise UsageError(f"the run `{run.name}` has no frames", hint="`dvid tune CLIP CAPTION`")
    return recipe
