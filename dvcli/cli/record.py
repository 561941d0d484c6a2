"""What a command leaves for the next one: the run, with its recipes and where things were."""

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dvcli.cli.session import Session, here
from dvcli.errors import MissingError, UsageError
from dvcli.recipes import Depth, DType, Extract, Invert, Tune

if TYPE_CHECKING:
    from dvcli.runs import Run


def remember(session: Session, recipe: Extract | Depth | Tune | Invert, run: "Run") -> "Run":
    """Save the run with this recipe and all it hangs on; what hung on an older one is dropped."""
    from dvcli.stages import plan

    steps = {step.recipe.stage: step for step in plan(recipe, session.store)}
    saved = replace(
        run,
        recipes={stage: step.recipe for stage, step in steps.items()},
        keys={stage: step.key for stage, step in steps.items() if step.key is not None},
        sources={**run.sources, **session.sources.hints()},
        updated=time.time(),
    )
    session.runs.save(saved)
    return saved


def begin(session: Session, clip: Path, name: str | None, model: str | None) -> "Run":
    """A run for a clip: the one of that name, else the clip's own from this directory, else new."""
    if name is not None:
        session.runs.check(name)
    chosen = name or session.runs.name_for(str(clip), cwd=here())
    from dvcli.runs import Run

    return Run(name=chosen, cwd=str(here()), clip=str(clip.resolve()), model=_lasting(model))


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
    """The run's inversion, else the default one of its tuning."""
    recipe = run.recipes.get("invert")
    if isinstance(recipe, Invert):
        return recipe
    return Invert(tuned=tuned(run), dtype=dtype)


def frames_of(run: "Run") -> Extract:
    """The run's frames."""
    recipe = run.recipes.get("extract")
    if not isinstance(recipe, Extract):
        raise UsageError(f"the run `{run.name}` has no frames", hint="`dvid tune CLIP PROMPT`")
    return recipe
