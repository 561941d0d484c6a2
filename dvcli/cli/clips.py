"""New clips on their way out: each made, put in its place, noted in its run and told."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dvcli.cli.groups import Delivery
from dvcli.cli.output import deliver
from dvcli.cli.prompts import Wish
from dvcli.cli.session import Session
from dvcli.recipes import CogVideoX, Sample

if TYPE_CHECKING:
    from dvcli.runs import Run


def hand_over(
    session: Session, recipe: Sample | CogVideoX, to: Delivery, *, run: "Run", words: str
) -> tuple[Path, str]:
    """Make one clip, put its file in its place and note it in the run; its path and key."""
    path, key = deliver(session, recipe, to, run=run, words=words)
    session.runs.add_sample(run.name, recipe, key=key, path=str(path.resolve()))
    return path, key


def hand_over_all(
    session: Session,
    recipes: Sequence[Sample | CogVideoX],
    wishes: Sequence[Wish],
    to: Delivery,
    *,
    run: "Run",
) -> None:
    """Make one clip after the other and tell of each as soon as its file is whole."""
    for wish, recipe in zip(wishes, recipes, strict=True):
        other = {} if isinstance(recipe, Sample) else {"method": recipe.method}
        random = recipe.random if isinstance(recipe, Sample) else True
        words = " ".join([*other.values(), wish.label])
        path, key = hand_over(session, recipe, to, run=run, words=words)
        session.result(
            str(path),
            path=str(path),
            run=run.name,
            key=key,
            **other,
            prompt=wish.prompt,
            negative=wish.negative,
            style=wish.style,
            seed=wish.seed if random else None,
        )
