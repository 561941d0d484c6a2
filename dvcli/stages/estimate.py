"""What a stage would cost, from what it cost before on the same model; torch-free."""

import statistics
from collections.abc import Mapping, Sequence

from dvcli.recipes import Recipe
from dvcli.store import Store, listing

LOOKED_AT = 5  # the newest of the earlier artifacts
OF_THE_CLIP = {"clip", "given"}  # inputs that say which clip, not which model


def estimates(recipes: Sequence[Recipe], store: Store) -> dict[Recipe, float | None]:
    """Seconds that building each recipe would take here; None where nothing like it was made.

    The median of the seconds a step of the newest earlier artifacts of that stage, of the same
    model and number format, times the recipe's steps. Other sizes and frames are not allowed for.
    """
    before: dict[str, list[tuple[float, Mapping[str, object]]]] = {}
    for made in sorted((made for _, made in listing.records(store)), key=_created):
        preimage, info = made["preimage"], made["info"]
        if isinstance(preimage, Mapping) and isinstance(info, Mapping):
            took = info.get("seconds")
            if isinstance(took, int | float):
                before.setdefault(str(preimage["stage"]), []).append((float(took), preimage))
    return {recipe: _estimate(recipe, before.get(recipe.stage, [])) for recipe in recipes}


def _created(made: Mapping[str, object]) -> float:
    then = made.get("created")
    return float(then) if isinstance(then, int | float) else 0.0


def _estimate(recipe: Recipe, before: Sequence[tuple[float, Mapping[str, object]]]) -> float | None:
    rates = [
        took / steps(preimage["params"])
        for took, preimage in before
        if _alike(recipe, preimage) and steps(preimage["params"])
    ]
    if not rates:
        return None
    return statistics.median(rates[-LOOKED_AT:]) * steps(recipe.params)


def _alike(recipe: Recipe, preimage: Mapping[str, object]) -> bool:
    """Whether it was made with the same model, in the same number format."""
    inputs, params = preimage["inputs"], preimage["params"]
    if not isinstance(inputs, Mapping) or not isinstance(params, Mapping):
        return False
    model = {role: digest for role, digest in recipe.externals.items() if role not in OF_THE_CLIP}
    same = all(inputs.get(role) == digest for role, digest in model.items())
    return same and params.get("dtype") == recipe.params.get("dtype")


def steps(params: object) -> float:
    """How often the network is called, by the parameters of a stage; 1 where it has no steps."""
    if not isinstance(params, Mapping):
        return 0.0

    def number(name: str, usual: float) -> float:
        value = params.get(name, usual)
        return float(value) if isinstance(value, int | float) else usual

    if "steps" not in params:
        return 1.0
    called = number("steps", 1) * number("strength", 1) * (1 + number("refine", 0))
    return called * (2 if number("guidance", 1) != 1 else 1)
