"""What `--dry-run` prints: each stage once, whether it is there, what it saves or would cost."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dvcli.cli.session import Session
from dvcli.recipes import Recipe, Sample

if TYPE_CHECKING:
    from dvcli.cli.prompts import Wish


@dataclass(frozen=True, kw_only=True)
class Part:
    """Recipes of a plan, and what is known of them: their run, and the wish that each fulfils."""

    recipes: Sequence[Recipe]
    run: str | None = None
    wishes: Mapping[Recipe, "Wish"] = field(default_factory=dict)


def show_plan(session: Session, parts: Iterable[Part]) -> None:
    """All that leads to the recipes as results, each once: stage, hit or miss, key, time.

    Behind them, where they are known, the run and the prompt and the style of a clip.
    """
    from dvcli.cli.progress import duration
    from dvcli.stages import Planned, plan
    from dvcli.stages.estimate import estimates

    steps: dict[Recipe, tuple[Planned, Part]] = {}
    for part in parts:
        for step in plan(part.recipes, session.store):
            steps.setdefault(step.recipe, (step, part))
    costs = estimates([step.recipe for step, _ in steps.values() if not step.hit], session.store)
    for recipe, (step, part) in steps.items():
        cost, wish = costs.get(recipe), part.wishes.get(recipe)
        if step.hit:
            time = f"saves {duration(step.seconds or 0)}"
        else:
            time = "?" if cost is None else f"about {duration(cost)}"
        session.row(
            recipe.stage,
            "hit" if step.hit else "miss",
            step.key or "-",
            time,
            part.run or "",
            wish.words if wish else "",
            (wish.style or "") if wish else "",
            stage=recipe.stage,
            hit=step.hit,
            key=step.key,
            seconds=step.seconds,
            estimate=cost,
            run=part.run,
            prompt=wish.prompt if wish else None,
            style=wish.style if wish else None,
            seed=wish.seed if wish and not _fixed(recipe) else None,
        )


def _fixed(recipe: Recipe) -> bool:
    return isinstance(recipe, Sample) and not recipe.random
