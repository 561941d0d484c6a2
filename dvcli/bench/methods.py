"""What is compared: each method is a name and the recipe fields in which it leaves the defaults."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_type_hints

from dvcli import fast, recipe_json
from dvcli.errors import InputError, UsageError, meant
from dvcli.recipes import Controls, Invert, Sample, Scalar, Tune

REFERENCE = "ours"
BaseKind = Literal["depth", "plain"]
ClipKind = Literal["made", "source", "truth"]
Changes = Mapping[str, Scalar]
Part = TypeVar("Part", Tune, Invert, Sample, Controls)

# The fields that belong to the case and not to the method.
GIVEN = {"frames", "depth", "base", "prompt", "tuned", "inverted", "blend", "controls", "dtype"}


@dataclass(frozen=True, kw_only=True)
class Method:
    """One row of the table. `base` is the kind of checkpoint it needs: with depth or without.

    `clip` is what is measured: a clip that the method makes, or for comparison the source as it
    is, or the edit truly rendered.
    """

    name: str
    says: str
    group: str = "own"
    base: BaseKind = "depth"
    clip: ClipKind = "made"
    tune: Changes = field(default_factory=dict)
    scale: Mapping[str, float] = field(default_factory=dict)
    invert: Changes = field(default_factory=dict)
    sample: Changes = field(default_factory=dict)
    controls: Changes = field(default_factory=dict)

    def tuned(self, recipe: Tune) -> Tune:
        """That tuning as this method does it; `scale` multiplies what the bench was asked for."""
        return _changed(recipe, {**_scaled(recipe, self.scale), **self.tune})

    def inverted(self, recipe: Invert) -> Invert:
        """That inversion as this method does it."""
        return _changed(recipe, self.invert)

    def sampled(self, recipe: Sample) -> Sample:
        """That sample as this method makes it."""
        found = _changed(recipe, self.sample)
        return replace(found, controls=_changed(found.controls, self.controls))


def _scaled(recipe: Tune, factors: Mapping[str, float]) -> Changes:
    """The fields of the recipe that have a factor, multiplied; whole numbers stay whole."""
    found: dict[str, Scalar] = {}
    for name, factor in factors.items():
        value = getattr(recipe, name)
        found[name] = round(value * factor) if isinstance(value, int) else value * factor
    return found


def _changed(recipe: Part, changes: Changes) -> Part:
    return replace(recipe, **changes)  # type: ignore[arg-type]


def shipped() -> dict[str, Method]:
    """Every method that comes with dvid, by name."""
    found = read(Path(__file__).with_name("methods.toml"))
    return found | {method.name: method for method in quick()}


def quick() -> list[Method]:
    """What `--fast` does, together and each thing alone."""
    steps: Changes = {"steps": fast.STEPS}
    guidance: Changes = {"guidance_until": fast.GUIDANCE_UNTIL}
    features: Changes = {"reuse": fast.REUSE}
    return [
        Method(
            name="fast-all",
            says="all that `--fast` does",
            group="fast",
            invert=steps,
            sample={**guidance, **features},
        ),
        Method(
            name="fast-steps",
            says=f"{fast.STEPS} steps of inversion and sampling",
            group="fast",
            invert=steps,
        ),
        Method(
            name="fast-guidance",
            says=f"guidance in the first {fast.GUIDANCE_UNTIL:.0%} of the steps",
            group="fast",
            sample=guidance,
        ),
        Method(
            name="fast-reuse",
            says=f"deep features computed every {fast.REUSE} steps",
            group="fast",
            sample=features,
        ),
    ]


def read(path: Path) -> dict[str, Method]:
    """The methods of a TOML file. Raises `InputError` that names the file and the entry."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"cannot read the methods in `{path}`: {error}") from None
    return {name: _method(name, entry, path) for name, entry in table.items()}


PARTS: dict[str, type] = {"tune": Tune, "invert": Invert, "sample": Sample, "controls": Controls}


def _method(name: str, entry: object, path: Path) -> Method:
    if not isinstance(entry, dict):
        raise InputError(f"`{name}` in `{path}` is no table")
    known = {f.name for f in fields(Method)} - {"name"}
    for key in entry.keys() - known:
        raise _unknown(key, known, f"`{name}` in `{path}`")
    if not isinstance(entry.get("says"), str):
        raise InputError(f"`{name}` in `{path}` does not say what it is", hint='says = "…"')
    if entry.get("base", "depth") not in get_args(BaseKind):
        raise InputError(f"`{name}.base` in `{path}` is neither depth nor plain")
    if entry.get("clip", "made") not in get_args(ClipKind):
        raise InputError(f"`{name}.clip` in `{path}` is none of {', '.join(get_args(ClipKind))}")
    for part, kind in PARTS.items():
        hints = get_type_hints(kind)
        allowed = {f.name: hints[f.name] for f in fields(kind) if f.name not in GIVEN}
        _check(entry.get(part, {}), allowed, f"`{name}.{part}` in `{path}`")
    _check(entry.get("scale", {}), {"steps": float, "lr": float}, f"`{name}.scale` in `{path}`")
    return Method(name=name, **entry)


def _check(changes: object, allowed: Mapping[str, Any], where: str) -> None:
    if not isinstance(changes, dict):
        raise InputError(f"{where} is no table")
    for key, value in changes.items():
        if key not in allowed:
            raise _unknown(key, set(allowed), where)
        try:
            recipe_json.read(allowed[key], value, f"`{key}`")
        except recipe_json.Unfit as unfit:
            raise InputError(f"{where}: {unfit}") from None


def _unknown(key: str, known: set[str], where: str) -> InputError:
    return InputError(f"{where} has the unknown entry `{key}`" + meant(key, known))


def chosen(names: list[str], known: Mapping[str, Method]) -> list[Method]:
    """The methods of these names and groups (`all` is every one), the reference first."""
    groups = {method.group for method in known.values()}
    found: dict[str, Method] = {}
    for name in [REFERENCE, *names]:
        if name in known:
            found[name] = known[name]
        elif name in groups or name == "all":
            found |= {m.name: m for m in known.values() if name in (m.group, "all")}
        else:
            raise UsageError(
                f"no method or group named `{name}`" + meant(name, [*known, *groups, "all"]),
                hint=f"groups: {', '.join(sorted(groups))}, all",
            )
    return list(found.values())
