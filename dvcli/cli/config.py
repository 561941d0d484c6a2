"""Defaults from outside the command line: `DVID_*`, then `dvid.toml` up the tree, then the user's.

In a file an option is a key, at the top for every verb that has it or in a table named after one
verb (`steps = 200` under `[tune]`). In the environment it is `DVID_STEPS` or `DVID_TUNE_STEPS`.
"""

import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import typer

from dvcli.cli.options import NO_CONFIG, Reporting, Working
from dvcli.cli.plain import Reader
from dvcli.errors import UsageError, meant


class Option(NamedTuple):
    """The parameter that an option sets, whether it may be given several times, and its type.

    `check` raises what the command line would say of a value. `shared` options are those whose help
    is that of `dvid` itself.
    """

    parameter: str
    several: bool
    flag: bool
    check: Callable[[Any], object]
    shared: bool


class Setting(NamedTuple):
    """What a file or the environment says of one option of one verb; `origin` names the place."""

    verb: str
    parameter: str
    value: Any
    origin: str


Verbs: TypeAlias = Mapping[str, Mapping[str, Option]]  # verb → option as it is written
DefaultMap: TypeAlias = dict[str, Any]
Settings: TypeAlias = dict[tuple[str, str], Setting]

FILE = "dvid.toml"
# These mean something else in the environment, or are given afresh each time.
# What is about one command, or only checked, is no matter of configuration.
NEVER = {"run", "prompt", "prompts-file", "output", "rm", "base", "from", "depth", "depth-from"}
NEVER |= {"method", "refresh", "dry-run", "repair", "path", "help", "origin", "smoke"}
NEVER |= {"no-config"}
CHECKED = ("sample", "steps")
ELSEWHERE = {"DVID_RUN", "DVID_CACHE_DIR", "DVID_STATE_DIR", "DVID_STYLES", NO_CONFIG}


def defaults(command: Any, cwd: Path | None, env: Mapping[str, str]) -> DefaultMap:
    """The default of every option that is configured, as nested as the verbs are.

    `command` is the whole command tree. Raises `UsageError` for a key that no verb has.
    """
    found: DefaultMap = {}
    for setting in settings(command, cwd, env).values():
        inner = found
        for part in setting.verb.split():
            inner = inner.setdefault(part, {})
        inner[setting.parameter] = setting.value
    return found


def settings(
    command: Any, cwd: Path | None, env: Mapping[str, str]
) -> dict[tuple[str, str], Setting]:
    """What is configured, by verb and parameter: of several settings of one, the one that counts.

    Nothing where `DVID_NO_CONFIG` is set. Raises `UsageError` for a key that no verb has.
    """
    if env.get(NO_CONFIG):
        return {}
    verbs = dict(_options(command, ""))
    found: Settings = {}
    for path in reversed(files(cwd)):
        found |= _from_file(path, verbs)
    return found | _from_environment(env, verbs)


def files(cwd: Path | None) -> list[Path]:
    """The files that configure commands given there, the one that counts more first."""
    return [p for p in (_near(cwd), user_path()) if p is not None and p.is_file()]


def configurable(command: Any) -> Verbs:
    """Every option that can be configured, by verb, as it is written."""
    return dict(_options(command, ""))


def anything(cwd: Path | None, env: Mapping[str, str]) -> bool:
    """Whether there is a file or a variable that may configure an option."""
    if env.get(NO_CONFIG):
        return False
    variables = (name for name in env if name.startswith("DVID_"))
    return any(n not in ELSEWHERE for n in variables) or bool(_near(cwd)) or user_path().is_file()


@cache
def meddles(verb: str, cwd: Path | None, variables: tuple[tuple[str, str], ...]) -> bool:
    """Whether what is configured says something of what the verb makes, or cannot be read.

    How it computes is no part of that: a device, how much is told.
    """
    env = {name: value for name, value in variables if name != NO_CONFIG}
    if not anything(cwd, env):
        return False
    from dvcli.cli.app import app

    command = typer.main.get_command(app)
    try:
        found = settings(command, cwd, env)
    except UsageError:
        return True
    shared = {o.parameter for o in configurable(command).get(verb, {}).values() if o.shared}
    return any(of == verb and name not in shared for of, name in found)


def user_path() -> Path:
    """The user's own configuration file, whether or not it exists.

    Without a home folder for it that is the null device, which is no file.
    """
    import platformdirs

    try:
        return platformdirs.user_config_path("dvid") / "config.toml"
    except RuntimeError:
        return Path(os.devnull)


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
            max(p.opts, key=len).lstrip("-"): Option(
                p.name,
                bool(p.multiple),
                bool(p.is_flag),
                partial(_coerced, p),
                getattr(p, "rich_help_panel", None) in (Reporting, Working),
            )
            for p in command.params
            if p.param_type_name == "option"
        }
        yield (
            name,
            {o: t for o, t in written.items() if o not in NEVER and (name, o) != CHECKED},
        )


def _coerced(parameter: Any, value: object) -> object:
    """What the command line makes of the value; the error says what it does not take."""
    return Reader(parameter.get_runtime_param).coerce(value, parameter, None)


def _from_file(path: Path, verbs: Verbs) -> Settings:
    table, text = read_toml(path)
    found: Settings = {}
    shared = {key: value for key, value in table.items() if not isinstance(value, dict)}
    for key, value in shared.items():
        option = key.replace("_", "-")
        having = [verb for verb, options in verbs.items() if option in options]
        if not having:
            raise _unknown(key, at(path, text, "", key), "", verbs)
        for verb in having:
            _put(found, verb, option, verbs, value, at(path, text, "", key), f", `{key}`")
    for name, inner in table.items():
        if isinstance(inner, dict):
            _read_table(found, name, inner, path, text, verbs)
    return found


def read_toml(path: Path) -> tuple[dict[str, Any], str]:
    """What a TOML file holds, and its text. Raises `UsageError`, with the line where there is one.

    `tomllib` follows brackets as deep as they go, and has no error of its own for a number of
    thousands of digits.
    """
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-8")
        return tomllib.loads(text), text
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise UsageError(
            f"`{path}` is not UTF-8 text at line {line}", hint="save it as UTF-8, as TOML is"
        ) from error
    except RecursionError:
        raise UsageError(f"`{path}` cannot be read: its values are nested too deep") from None
    except ValueError as error:
        raise UsageError(
            f"`{path}` cannot be read: {error}",
            hint="in TOML a line is `name = value`, and a text stands in quotes",
        ) from error
    except OSError as error:
        raise UsageError(f"`{path}` cannot be read: {error}") from error


def at(path: Path, text: str, table: str, key: str) -> str:
    """The file, and the line of a key in one of its tables where it can be told."""
    here, wanted = "", f"{table} {key}".strip()
    for number, line in enumerate(text.splitlines(), 1):
        if opened := re.match(r"\s*\[+\s*(.+?)\s*\]+", line):
            here = name = _spaced(opened[1])
        elif assigned := re.match(r"\s*([\w\s.\"'-]+?)\s*=(.*)", line):
            name = f"{here} {_spaced(assigned[1])}".strip()
            if wanted.startswith(f"{name} ") and re.search(rf"\b{re.escape(key)}\b", assigned[2]):
                name = wanted  # in a table on one line
        else:
            continue
        if f"{name} ".startswith(f"{wanted} "):
            return f"`{path}` line {number}"
    return f"`{path}`"


def _spaced(dotted: str) -> str:
    """A key of TOML as a verb's name is written: `cache gc`."""
    return " ".join(part.strip(" \"'") for part in dotted.split("."))


def _read_table(
    found: Settings, name: str, table: Mapping[str, Any], path: Path, text: str, verbs: Verbs
) -> None:
    if name not in verbs and not any(verb.startswith(f"{name} ") for verb in verbs):
        raise _no_table(name, path, text, verbs)
    for key, value in table.items():
        if isinstance(value, dict):
            _read_table(found, f"{name} {key}", value, path, text, verbs)
            continue
        option = key.replace("_", "-")
        if option not in verbs.get(name, {}):
            raise _unknown(key, at(path, text, name, key), name, verbs)
        table_of = f", `{key}` in `[{_dotted(name)}]`"
        _put(found, name, option, verbs, value, at(path, text, name, key), table_of)


def _from_environment(env: Mapping[str, str], verbs: Verbs) -> Settings:
    found: Settings = {}
    known = set(ELSEWHERE)
    for verb, options in verbs.items():
        for option in options:
            for name in (option, f"{verb} {option}"):  # the verb's own comes last and wins
                variable = "DVID_" + name.upper().replace("-", "_").replace(" ", "_")
                known.add(variable)
                if value := env.get(variable):
                    _put(found, verb, option, verbs, value, f"`{variable}`")
    for variable in env:
        if variable.startswith("DVID_") and variable not in known:
            raise UsageError(
                f"`{variable}` in the environment is no setting" + meant(variable, known),
                hint=f"`unset {variable}` takes it away",
            )
    return found


def _put(
    found: Settings,
    verb: str,
    written: str,
    verbs: Verbs,
    value: object,
    place: str,
    key: str = "",
) -> None:
    """Note the value; `key` is what is said of it in a file, after the place."""
    option = verbs[verb][written]
    command = "dvid" if option.shared else f"dvid {verb}"
    hint = f"`{command} --help` says what `--{written}` takes"
    told = place + key
    values = value if isinstance(value, list) else [value]
    if isinstance(value, list) and not option.several:
        raise UsageError(f"{told}: `--{written}` takes one value, not a list", hint=hint)
    for one in values:
        if not isinstance(one, str | int | float) or (isinstance(one, bool) and not option.flag):
            shown = str(one).lower() if isinstance(one, bool) else str(one)[:40]
            wanted = "true or false" if option.flag else "a text or a number"
            raise UsageError(
                f"{told}: `--{written}` is `{shown}`, which is not {wanted}", hint=hint
            )
    given = values if option.several else value
    try:
        if not isinstance(given, bool):
            option.check(given)
    except UsageError as error:
        raise UsageError(f"{told}: {error.message}", hint=error.hint or hint) from error
    except typer.BadParameter as error:
        said = " ".join(str(error.message).replace("Value error, ", "").split()).rstrip(".")
        shown = str(value)[:40]
        raise UsageError(
            f"{told}: `--{written}` is `{shown}`: {said[:1].lower()}{said[1:]}", hint=hint
        ) from error
    origin = re.sub("^`(.*)` line ([0-9]+)$", r"\1:\2", place).strip("`")
    found[verb, option.parameter] = Setting(verb, option.parameter, given, origin)


def _unknown(key: str, place: str, verb: str, verbs: Verbs) -> UsageError:
    """That a key is none, at the top or, with a verb, in its table."""
    option = key.replace("_", "-")
    known = set(verbs.get(verb, {})) if verb else {o for own in verbs.values() for o in own}
    if option in NEVER or (verb, option) == CHECKED:
        return UsageError(
            f"`{key}` in {place} is about one command and cannot be configured",
            hint=f"give `--{option}` on the command line",
        )
    if not verb:
        inner = [f"[{_dotted(name)}]" for name in verbs if name == key]
        said = f", `{inner[0]}` begins a table" if inner else meant(option, known)
        hint = "`dvid config show` lists every option that can be configured"
        return UsageError(f"`{key}` in {place} is no option{said}", hint=hint)
    tables = [name for name in verbs if option in verbs[name]]
    near = meant(option, known)
    if not near and tables:
        near = f" of `dvid {verb}`, but of " + " and ".join(f"`[{_dotted(n)}]`" for n in tables[:3])
    hint = f"`dvid {verb} --help` lists its options"
    if verb not in verbs:
        inner = [f"[{_dotted(name)}]" for name in verbs if name.startswith(f"{verb} ")]
        hint = f"its commands have tables of their own: {', '.join(inner)}"
    return UsageError(f"`{_dotted(verb)}.{key}` in {place} is no option{near}", hint=hint)


def _no_table(name: str, path: Path, text: str, verbs: Verbs) -> UsageError:
    """That a table is none: its name is that of no command."""
    outer, _, last = name.rpartition(" ")
    words = [verb.split() for verb in verbs]
    known = {_dotted(" ".join(parts[:n])) for parts in words for n in range(1, len(parts) + 1)}
    near = meant(_dotted(name), known, cutoff=0.7)
    near = re.sub("`([^`]+)`", r"`[\1]`", near)
    return UsageError(
        f"`[{_dotted(name)}]` in {at(path, text, outer, last)} is no table{near}",
        hint="a table is named after a command, and `dvid --help` lists them",
    )


def _dotted(verb: str) -> str:
    """A verb's table as TOML writes it: `cache.gc`."""
    return verb.replace(" ", ".")


def blamed(
    error: UsageError, verb: str, argv: Sequence[str], cwd: Path | None, env: Mapping[str, str]
) -> UsageError:
    """The error, with the place where the wrong value stands, if it is configured and not typed."""
    wrong = re.match(r"`--([a-z-]+)` is `|the (width|height) is `", error.message)
    if wrong is None or not anything(cwd, env):
        return error
    option = wrong[1] or "size"
    if any(word.partition("=")[0] == f"--{option}" for word in argv):
        return error
    from dvcli.cli.app import app

    try:
        found = settings(typer.main.get_command(app), cwd, env)
    except UsageError:
        return error
    setting = found.get((verb, option.replace("-", "_")))
    if setting is None:
        return error
    hint = error.hint or f"`dvid {verb} --help` says what `--{option}` takes"
    place = re.sub("^(.*):([0-9]+)$", r"`\1` line \2", setting.origin)
    place = place if place != setting.origin else f"`{place}`"
    return UsageError(f"{place}: {error.message}", hint=hint)
