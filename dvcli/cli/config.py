"""Defaults from outside the command line: `DVID_*`, then `dvid.toml` up the tree, then the user's.

In a file an option is a key, at the top for every verb that has it or in a table named after one
verb (`steps = 200` under `[tune]`). In the environment it is `DVID_STEPS` or `DVID_TUNE_STEPS`.
"""

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from dvcli.errors import UsageError


class Option(NamedTuple):
    """The parameter that an option sets, and whether it may be given several times."""

    parameter: str
    several: bool
    flag: bool


Verbs: TypeAlias = Mapping[str, Mapping[str, Option]]  # verb → option as it is written
DefaultMap: TypeAlias = dict[str, Any]

FILE = "dvid.toml"
# These mean something else in the environment, or are given afresh each time.
# What is about one command, or only checked, is no matter of configuration.
NEVER = {"run", "prompt", "prompts-file", "output", "rm", "base", "from", "depth", "depth-from"}
NEVER |= {"refresh", "dry-run", "repair", "path", "help"}
CHECKED = ("sample", "steps")
ELSEWHERE = {"DVID_RUN", "DVID_CACHE_DIR", "DVID_STATE_DIR", "DVID_STYLES", "DVID_CACHE_LIMIT"}


def defaults(command: Any, cwd: Path | None, env: Mapping[str, str]) -> DefaultMap:
    """The default of every option that is configured, as nested as the verbs are.

    `command` is the whole command tree. Raises `UsageError` for a key that no verb has.
    """
    found: DefaultMap = {}
    verbs = dict(_options(command, ""))
    for path in reversed([p for p in (_near(cwd), user_path()) if p is not None and p.is_file()]):
        _merge(found, _from_file(path, verbs))
    _merge(found, _from_environment(env, verbs))
    return found


def user_path() -> Path:
    """The user's own configuration file, whether or not it exists."""
    import platformdirs

    return platformdirs.user_config_path("dvid") / "config.toml"


def _near(cwd: Path | None) -> Path | None:
    if cwd is None:
        return None
    return next((f for d in (cwd, *cwd.parents) if (f := d / FILE).is_file()), None)


def _options(command: Any, name: str) -> Iterator[tuple[str, dict[str, Option]]]:
    """(verb, its options) for each verb, those of a group as `cache ls`."""
    for child, inner in getattr(command, "commands", {}).items():
        yield from _options(inner, f"{name} {child}".strip())
    if not hasattr(command, "commands"):
        written = {
            max(p.opts, key=len).lstrip("-"): Option(p.name, bool(p.multiple), bool(p.is_flag))
            for p in command.params
            if p.param_type_name == "option"
        }
        yield (
            name,
            {o: t for o, t in written.items() if o not in NEVER and (name, o) != CHECKED},
        )


def _from_file(path: Path, verbs: Verbs) -> DefaultMap:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"`{path}` cannot be read: {error}") from error
    found: DefaultMap = {}
    shared = {key: value for key, value in table.items() if not isinstance(value, dict)}
    for key, value in shared.items():
        option = key.replace("_", "-")
        having = [verb for verb, options in verbs.items() if option in options]
        if not having:
            raise _unknown(key, path, {o for options in verbs.values() for o in options})
        for verb in having:
            _put(found, verb, verbs[verb][option], value)
    for name, inner in table.items():
        if isinstance(inner, dict):
            _read_table(found, name, inner, path, verbs)
    return found


def _read_table(
    found: DefaultMap, name: str, table: Mapping[str, Any], path: Path, verbs: Verbs
) -> None:
    if name not in verbs and not any(verb.startswith(f"{name} ") for verb in verbs):
        raise _unknown(name, path, {verb.split()[0] for verb in verbs})
    for key, value in table.items():
        if isinstance(value, dict):
            _read_table(found, f"{name} {key}", value, path, verbs)
            continue
        option = key.replace("_", "-")
        if option not in verbs.get(name, {}):
            raise _unknown(f"{name}.{key}", path, set(verbs.get(name, {})))
        _put(found, name, verbs[name][option], value)


def _from_environment(env: Mapping[str, str], verbs: Verbs) -> DefaultMap:
    found: DefaultMap = {}
    known = set(ELSEWHERE)
    for verb, options in verbs.items():
        for option, target in options.items():
            for name in (option, f"{verb} {option}"):  # the verb's own comes last and wins
                variable = "DVID_" + name.upper().replace("-", "_").replace(" ", "_")
                known.add(variable)
                if value := env.get(variable):
                    _put(found, verb, target, value)
    for variable in env:
        if variable.startswith("DVID_") and variable not in known:
            near = difflib.get_close_matches(variable, known, n=1)
            raise UsageError(
                f"`{variable}` in the environment is no setting"
                + (f", did you mean `{near[0]}`?" if near else ""),
                hint=f"`unset {variable}` takes it away",
            )
    return found


def _put(found: DefaultMap, verb: str, option: Option, value: object) -> None:
    for part in verb.split():
        found = found.setdefault(part, {})
    if isinstance(value, bool) and not option.flag:
        raise UsageError(f"`{option.parameter}` cannot be configured as {str(value).lower()}")
    one = option.several and not isinstance(value, list)
    found[option.parameter] = [value] if one else value


def _merge(into: DefaultMap, other: DefaultMap) -> None:
    for name, value in other.items():
        if isinstance(value, dict):
            _merge(into.setdefault(name, {}), value)
        else:
            into[name] = value


def _unknown(key: str, path: Path, known: set[str]) -> UsageError:
    last = key.rpartition(".")[2]
    near = difflib.get_close_matches(last.replace("_", "-"), known, n=1)
    return UsageError(
        f"`{key}` in `{path}` is no option" + (f", did you mean `{near[0]}`?" if near else ""),
        hint="the options are those of the verbs' `--help`",
    )
