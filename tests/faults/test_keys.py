"""Keys of random recipes: what is written comes back, and each field alone moves the key or not.

The fields are read from the recipes themselves. A field that is new moves the key, or this fails
until `UNMOVED` says under which condition it has nothing to act on.
"""

import json
import random
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from faults import counts

from dvcli.errors import UsageError
from dvcli.recipe_json import from_json, to_json
from dvcli.recipes import STAGES, Depth, Recipe, Sample, Tune
from dvcli.store.keys import canonical, key_of, preimage

TEXTS = (
    "a bear",
    "é가",
    unicodedata.normalize("NFD", "é가"),
    "A  Bear",
    "🐻‍❄️ und Junge",
    "x" * 300,
    '"\\\n',
    "0",
    "1e5",
)

# (stage, field): when the field has nothing to act on, so that it must leave the key as it is.
UNMOVED: dict[tuple[str, str], Callable[[Any], bool]] = {
    **{
        ("tune", field.name): lambda made: made.steps == 0
        for field in fields(Tune)
        if field.name not in ("frames", "depth", "base", "steps", "dtype")
    },
    ("tune", "normalise"): lambda made: made.steps == 0 or made.depth is None,
    ("tune", "temporal_target"): lambda made: made.steps == 0 or made.temporal_weight == 0,
    ("sample", "guidance_from"): lambda made: made.guidance == 1,
    ("sample", "guidance_until"): lambda made: made.guidance == 1,
    ("render", "crf"): lambda made: made.suffix not in (".mp4", ".webm"),
    ("render", "fps"): lambda made: made.suffix == ".png",
}
# Whole numbers by the name of their field, where not every one of them is accepted.
WHOLE: dict[str, tuple[int, ...]] = {
    "frames": (1, 2, 8, 16),
    "stride": (1, 2, 3),
    "refine": (0, 1, 2),
    "crf": (0, 17, 51),
    "steps": (0, 1, 2, 50, 1000),
}


def digest(dice: random.Random) -> str:
    return dice.randbytes(32).hex()


# Fields that make sense only together, or with another one; `test_recipes` has them.
TOGETHER = {(Sample, "blend"), (Sample, "controls"), (Depth, "estimator"), (Depth, "given")}


class Nonsense(Exception):
    """No recipe was found that its own checks accept."""


def some(kind: Any, dice: random.Random, name: str = "") -> Any:
    """A value of that annotation, within what recipes accept by name."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        part = dice.choice(parts)
        return some(part, dice, name)
    if origin is Literal:
        return dice.choice(parts)
    if origin is tuple:
        return tuple(some(part, dice, name) for part in parts)
    if is_dataclass(kind):
        return recipe(kind, dice)
    if kind is NoneType:
        return None
    if kind is bool:
        return dice.random() < 0.5
    if kind is int:
        return dice.choice(WHOLE.get(name, (dice.randrange(8, 99), dice.randrange(8, 99))))
    if kind is float:
        return dice.choice((0.0, 1.0, 0.5, 2.5, dice.random(), round(dice.random(), 2), 1e-3))
    assert kind is str, kind
    return _text(name, dice)


def _text(name: str, dice: random.Random) -> str:
    if name in ("prompt", "negative", "provenance", "anchor"):
        return dice.choice(TEXTS)
    if name == "suffix":
        return dice.choice((".mp4", ".webm", ".gif", ".png", ".webp"))
    if name == "background":
        return dice.choice(("#000000", "#ffffff", "#12abef"))
    return digest(dice)


def recipe(kind: Any, dice: random.Random) -> Any:
    """A random instance of the dataclass that it accepts itself."""
    hints = get_type_hints(kind)
    for _ in range(300):
        chosen = {
            field.name: some(hints[field.name], dice, field.name)
            for field in fields(kind)
            if (kind, field.name) not in TOGETHER
        }
        if kind is Depth:
            chosen[dice.choice(("estimator", "given"))] = digest(dice)
        with suppress(UsageError):
            return kind(**chosen)
    raise Nonsense(f"no {kind.__name__} that is accepted in 300 tries")


def key(made: Recipe) -> str:
    """The recipe's key; the content of an input is stood for by what was asked for it."""
    return key_of(asked(made))


def asked(made: Recipe) -> dict[str, object]:
    digests = {}
    for role, part in made.inputs.items():
        text = canonical([list(made.reads[role]), key(part)])
        digests[role] = key_of({"input": text.decode()})
    params = dict(made.params)
    return preimage(made.stage, made.version, {**digests, **made.externals}, params)


@pytest.mark.parametrize("stage", STAGES)
def test_a_recipe_comes_back_from_json_with_its_key(stage: str) -> None:
    dice = random.Random(f"{counts.SEED} {stage}")
    for _ in range(counts.count("keys") // len(STAGES) + 1):
        made = recipe(STAGES[stage], dice)
        back = from_json(json.loads(json.dumps(to_json(made))))
        assert back == made
        assert key(back) == key(made)
        assert key_of(json.loads(canonical(asked(made)))) == key(made)
        counts.tally("keys", round_trips=1)


@pytest.mark.parametrize("stage", STAGES)
def test_each_field_alone_moves_the_key_unless_it_has_nothing_to_act_on(stage: str) -> None:
    dice = random.Random(f"{counts.SEED} fields of {stage}")
    kind: Any = STAGES[stage]
    hints = get_type_hints(kind)
    tried: set[str] = set()
    for _ in range(counts.count("keys") // len(STAGES) + 1):
        made = recipe(kind, dice)
        for field in fields(kind):
            value = some(hints[field.name], dice, field.name)
            try:
                other = replace(made, **{field.name: value})
            except UsageError:
                continue
            if _same(other, made):
                assert key(other) == key(made)
                continue
            tried.add(field.name)
            idle = UNMOVED.get((stage, field.name), lambda _: False)(made)
            if stage == "cogvideox" and field.name == "frames" and made.start == "noise":
                idle = (value.frames, value.size) == (made.frames.frames, made.frames.size)
            assert (key(other) == key(made)) == idle, (stage, field.name, made, value)
            counts.tally("keys", fields_changed=1)
    never = {f.name for f in fields(kind)} - tried - {name for k, name in TOGETHER if k is kind}
    assert never == set()


def _same(one: Recipe, other: Recipe) -> bool:
    """Whether they are one recipe but for the spelling of a text."""

    def plain(made: Recipe) -> str:
        text = json.dumps(to_json(made), sort_keys=True, ensure_ascii=False)
        return unicodedata.normalize("NFC", text)

    return one == other or plain(one) == plain(other)


def test_no_two_recipes_have_one_key_unless_they_ask_for_the_same() -> None:
    dice = random.Random(f"{counts.SEED} all")
    seen: dict[str, bytes] = {}
    for _ in range(counts.count("keys")):
        made = recipe(STAGES[dice.choice(sorted(STAGES))], dice)
        assert seen.setdefault(key(made), canonical(asked(made))) == canonical(asked(made))
    assert len(seen) > counts.count("keys") // 2
