"""`dvid config`: the value of every option where nothing is said of it, and what made it that."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dvcli.cli.misread import slip
from dvcli.cli.quoting import printable
from dvcli.cli.session import Console, here, verb
from dvcli.errors import UsageError

if TYPE_CHECKING:
    from dvcli.cli.config import Settings

config = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Show what is configured: `DVID_*`, dvid.toml, the user's file.",
    epilog="Example: dvid config show --origin",
)


@config.command("show")
@verb
def show(
    console: Console,
    verb: Annotated[
        list[str] | None,
        typer.Argument(metavar="[VERB]...", help="Only its options.", show_default="every verb"),
    ] = None,
    origin: Annotated[
        bool, typer.Option("--origin", help="Say where each value comes from.")
    ] = False,
) -> None:
    """List the value of every option that can be configured.

    Prints verb, option, value, and with --origin the variable, the file with its line, or
    `default`.

    Example: dvid config show sample --origin
    """
    from dvcli.cli.app import app
    from dvcli.cli.config import configurable, settings

    command = typer.main.get_command(app)
    found = settings(command, here(), os.environ)
    asked = " ".join(verb or [])
    options = configurable(command)
    chosen = [name for name in options if not asked or f"{name} ".startswith(f"{asked} ")]
    if not chosen:
        raise UsageError(
            f"there is no verb `{asked}`" + slip(asked, options),
            hint="`dvid --help` lists them",
        )
    for name in chosen:
        defaults = {param.name: param.default for param in _params(command, name.split())}
        for option, target in sorted(options[name].items()):
            _row(console, name, option, target.parameter, defaults, found, origin=origin)


def _row(
    console: Console,
    verb: str,
    option: str,
    parameter: str,
    defaults: dict[str, Any],
    found: "Settings",
    *,
    origin: bool,
) -> None:
    setting = found.get((verb, parameter))
    value = defaults[parameter] if setting is None else setting.value
    place = "default" if setting is None else setting.origin
    cells = [verb, option, spelled(value), *([place] if origin else [])]
    console.result(
        "\t".join(map(printable, cells)), verb=verb, option=option, value=value, origin=place
    )


def spelled(value: object) -> str:
    """A value as it would stand in an environment variable; nothing for none."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(map(spelled, value))
    return str(value)


def _params(command: Any, verb: Sequence[str]) -> list[Any]:
    for name in verb:
        command = command.commands[name]
    found: list[Any] = command.params
    return found


@config.command("path")
@verb
def path(console: Console) -> None:
    """List the files that are in force here.

    Prints the nearest dvid.toml upwards and the user's own file; with --json those that are not
    there, too.

    Example: dvid config path
    """
    from dvcli.cli.config import files, user_path

    found: list[tuple[Path, bool]] = [(place, True) for place in files(here())]
    if console.json and user_path() not in (place for place, _ in found):
        found.append((user_path(), False))
    for place, there in found:
        console.result(str(place), path=str(place), exists=there)
    if not found:
        console.note(
            f"no file is in force: yours would be `{user_path()}`, or dvid.toml up the tree"
        )
