"""A recipe as JSON and back, exactly: what runs and provenance are written in."""

import json
import re
from dataclasses import fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from dvcli.errors import DvidError, StorageError
from dvcli.recipes import STAGES, Recipe

_DIGEST = re.compile(r"[0-9a-f]{64}")


def to_json(recipe: Recipe) -> dict[str, object]:
    """The recipe as JSON values, its stage and version among them; `from_json` gives it back."""
    written = _written(recipe)
    assert isinstance(written, dict)
    return written


def from_json(data: object) -> Recipe:
    """The recipe that `to_json` wrote. Raises `StorageError` for what it cannot have written."""
    try:
        recipe = read(Recipe, data, "the recipe")
    except (Unfit, DvidError) as unfit:
        raise StorageError(f"the recipe cannot be read: {unfit}") from None
    except RecursionError:
        raise StorageError("the recipe cannot be read: it is nested too deep") from None
    return recipe  # type: ignore[no-any-return]


class Unfit(Exception):
    """A value that no recipe of this version has in that place."""


def unfit(value: object, where: str) -> Unfit:
    return Unfit(f"{where} is {json.dumps(value)[:60]}")


def _written(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        own = {f.name: _written(getattr(value, f.name)) for f in fields(value)}
        kind = type(value)
        if kind in STAGES.values():
            return {"stage": kind.stage, "version": kind.version, **own}  # type: ignore[attr-defined]
        return own
    return list(value) if isinstance(value, tuple) else value


def read(hint: Any, value: object, where: str) -> Any:
    """The value as its annotation says. Raises `Unfit` where it is not of that kind."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return _read_one_of(parts, value, where)
    if is_dataclass(hint):
        return _read_fields(hint, value, where)  # type: ignore[arg-type]
    if origin is tuple and isinstance(value, list) and len(value) == len(parts):
        return tuple(read(part, item, where) for part, item in zip(parts, value, strict=True))
    if (origin is Literal and value in parts) or (isinstance(hint, type) and _is(hint, value)):
        return int(value) if hint is int else value  # type: ignore[call-overload]
    raise unfit(value, where)


def _is(kind: type, value: object) -> bool:
    if kind in (int, float) and isinstance(value, int | float) and not isinstance(value, bool):
        try:
            whole = float(value).is_integer()
        except OverflowError:  # an integer of hundreds of digits
            return False
        return kind is float or whole
    return isinstance(value, kind) and kind is not int


def _read_one_of(hints: tuple[Any, ...], value: object, where: str) -> Any:
    stage = value.get("stage") if isinstance(value, dict) else None
    if stage is not None:
        kinds = [hint for hint in hints if getattr(hint, "stage", None) == stage]
        if not kinds:
            raise Unfit(f"{where} is of the stage `{stage}`, which this version does not know")
        return read(kinds[0], value, where)
    for hint in hints:
        try:
            return read(hint, value, where)
        except Unfit:
            continue
    raise unfit(value, where)


def _read_fields(kind: type, value: object, where: str) -> Any:
    if not isinstance(value, dict):
        raise unfit(value, where)
    given = dict(value)
    if kind in STAGES.values():
        stage, version = given.pop("stage", None), given.pop("version", None)
        where = str(stage)
        if stage != kind.stage or type(version) is not int:  # type: ignore[attr-defined]
            raise Unfit(f"{where} is not a recipe of this stage")
        if version > kind.version:  # type: ignore[attr-defined]
            raise Unfit(f"`{stage}` is of version {version}, made by a newer dvid")
    hints = _hints(kind)
    unknown = sorted(given.keys() - hints.keys())
    if unknown:
        raise Unfit(f"`{where}` has the unknown field `{unknown[0]}`, perhaps of a newer dvid")
    try:
        made = kind(**{n: read(hints[n], part, f"`{where}.{n}`") for n, part in given.items()})
    except TypeError as missing:
        raise Unfit(str(missing)) from None
    # Digests are texts to Python; as a key's input one that is none would be an error of ours.
    for role, digest in getattr(made, "externals", {}).items():
        if not _DIGEST.fullmatch(digest):
            raise unfit(digest, f"`{where}`: the digest of its {role}")
    return made


@cache
def _hints(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {f.name: hints[f.name] for f in fields(kind)}
