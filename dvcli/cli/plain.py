"""Plain values of the command line, read without loading pydantic.

Typer has pydantic read every option, and importing that takes longer than all else a cached command
does. A value that can be read in one way only is read here; whatever else stands there, a wrong
value with its error among it, is left to Typer.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer

from dvcli.errors import UsageError

INTEGER = re.compile(r"-?[0-9]{1,15}")
NUMBER = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?")


def read_plainly(command: Any) -> None:
    """From now on the command loads pydantic only where a value is not plain."""
    theirs = command.get_params

    def get_params(ctx: Any) -> list[Any]:
        found: list[Any] = theirs(ctx)  # those that were declared, and the one for help
        for param in found:
            reader = getattr(param, "get_runtime_param", None)
            if reader is not None and not isinstance(getattr(reader, "__self__", None), Reader):
                vars(param)["get_runtime_param"] = Reader(reader).itself
        return found

    vars(command)["get_params"] = get_params


class NotPlain(Exception):
    """Typer has to look at this value."""


class Reader:
    """Reads one parameter: itself where the value is plain, else as `theirs`, Typer's reader."""

    def __init__(self, theirs: Callable[[], Any]) -> None:
        self._theirs = theirs

    def itself(self) -> "Reader":
        """What Typer asks a parameter for."""
        return self

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value as the parameter's annotation has it; for a wrong one Typer's error or ours."""
        several = param.multiple or param.nargs == -1
        if value is None:
            return () if several else None
        kind, info = param.type_descriptor.annotation, param.type_descriptor.parameter_info
        try:
            if not several:
                return plain(value, kind, info)
            if get_origin(kind) is list and isinstance(value, list | tuple):
                return [plain(item, get_args(kind)[0], info) for item in value]
        except NotPlain:
            pass
        try:
            return self._theirs().coerce(value, param=param, ctx=ctx)
        except typer.BadParameter:
            for item in value if several and isinstance(value, list | tuple) else [value]:
                if said := refusal(item, get_args(kind)[0] if several else kind):
                    option = max(param.opts, key=len)
                    raise UsageError(f"`{option}` is `{str(item)[:40]}`, which is {said}") from None
            raise


def plain(value: Any, kind: Any, info: Any) -> Any:
    """The value as that kind, where it can mean one thing only; else `NotPlain`.

    `info` is what Typer knows of the option; one with a parser or bounds is never plain.
    """
    if info.parser is not None or info.min is not None or info.max is not None:
        raise NotPlain
    given = type(value)
    if kind is str and given is str:
        return value
    if kind is int and (given is int or (given is str and INTEGER.fullmatch(value))):
        return int(value)
    if kind is float and (given is float or (given is str and NUMBER.fullmatch(value))):
        return float(value)
    if get_origin(kind) is Literal and info.case_sensitive and value in get_args(kind):
        return value
    if kind is Path and given is str and not _refused(value, info):
        return Path(value)
    raise NotPlain


def refusal(value: Any, kind: Any) -> str | None:
    """What the value is not, as `no number`; None where that is not the trouble."""
    text = str(value).strip()
    if kind is int and not re.fullmatch(r"[-+]?[0-9_]+(\.0*)?", text):
        return "no whole number"
    if kind is float:
        try:
            float(text)
        except ValueError:
            return "no number"
    if get_origin(kind) is Literal and value not in get_args(kind):
        *others, last = map(str, get_args(kind))
        return f"neither {', '.join(others)} nor {last}" if others else f"not {last}"
    return None


def _refused(path: str, info: Any) -> bool:
    """Whether the option may refuse that path, or make another of it."""
    if info.exists or info.resolve_path or info.allow_dash or info.path_type or info.writable:
        return True
    if "\0" in path or not (info.file_okay and info.dir_okay):
        return True
    return Path(path).exists() and not os.access(path, os.R_OK)
