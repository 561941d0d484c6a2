"""What a verb's options are where no command line of its own gives them: from a job, or configured.

They are read by the verb's own parser, so that they mean the same here.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import typer

from dvcli.cli.config import DefaultMap, anything, defaults
from dvcli.cli.plain import read_plainly
from dvcli.cli.session import here
from dvcli.cli.verbs import VERBS, command_line
from dvcli.errors import InputError, UsageError, meant
from dvcli.recipes import DType, Invert, Tune


@dataclass(frozen=True, kw_only=True)
class Inverting:
    """What is said of inversion; `asked` is whether a job said anything."""

    steps: int
    refine: int
    prompt: str
    trajectory: bool
    asked: bool = False

    def recipe(self, tuned: Tune, dtype: DType) -> Invert:
        """The inversion on that tuning."""
        return Invert(
            tuned=tuned,
            steps=self.steps,
            refine=self.refine,
            prompt=self.prompt,
            trajectory=self.trajectory,
            dtype=dtype,
        )


def inverting_of(table: Mapping[str, object], configured: DefaultMap) -> Inverting:
    """The inversion that the table asks for, and what is configured of what it leaves open."""
    own = tuple(f.name for f in fields(Inverting) if f.name != "asked")
    values = options("invert", table, own, configured)
    return Inverting(asked=bool(table), **{name: values[name] for name in own})


def options(
    verb: str, table: Mapping[str, object], known: Sequence[str], configured: DefaultMap
) -> dict[str, Any]:
    """The verb's parameters as they are with these options on its command line."""
    line: list[str] = []
    for written, value in table.items():
        name = written.replace("-", "_")
        if name not in known:
            raise InputError(
                f"`{verb}` of a job has no option `{written[:40]}`" + meant(name, known),
                hint=f"`dvid {verb} --help` says what each takes",
            )
        option = f"--{name.replace('_', '-')}"
        if value is True:
            line.append(option)
        elif isinstance(value, str | int | float) and not isinstance(value, bool):
            line.append(f"{option}={value}")
        elif value is not None and value is not False:
            raise InputError(f"`{verb}.{written}` is {value!r:.40}, which is no value of an option")
    try:
        context = _command(verb).make_context(verb, line, default_map=configured.get(verb))
    except typer.TyperException as error:
        said = " ".join(str(error.format_message()).replace("Value error, ", "").split())
        raise UsageError(f"{verb}: {said[:1].lower()}{said[1:].rstrip('.')}") from None
    params: dict[str, Any] = context.params
    return params


@cache
def _command(verb: str) -> Any:
    group: Any = typer.main.get_command(command_line([verb]))
    command = group.commands[verb]
    read_plainly(command)
    return command


def configured() -> DefaultMap:
    """What files and the environment say of every verb, read from here."""
    if not anything(here(), os.environ):
        return {}
    return defaults(typer.main.get_command(command_line(VERBS)), here(), os.environ)
