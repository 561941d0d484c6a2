"""A help page that fits a screen: an option a line, those that every command has by name only."""

import textwrap
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from dvcli.cli.options import Reporting, Working
from dvcli.cli.quoting import number

SHARED = {
    Reporting: "Every command, before or after its name",
    Working: "Every command that computes, after its name",
}
LEFT = 30  # columns for what is typed


def fit(command: Any, words: list[str]) -> None:
    """From now on the command's help page is written so; that of `dvid` itself tells the rest."""
    whole = len(words) == 1
    vars(command)["format_options"] = partial(_format, command, whole)


def _format(command: Any, whole: bool, ctx: Any, formatter: Any) -> None:
    params = [param for param in command.get_params(ctx) if not getattr(param, "hidden", False)]
    arguments = [param for param in params if param.param_type_name == "argument"]
    panels: dict[str, list[Any]] = {}
    for param in params:
        if param.param_type_name == "option":
            panels.setdefault(getattr(param, "rich_help_panel", None) or "Options", []).append(
                param
            )
    _section(formatter, "Arguments", arguments, ctx)
    for panel, options in panels.items():
        if panel not in SHARED:
            _section(formatter, panel, options, ctx)
    if children := getattr(command, "commands", {}):
        with formatter.section("Commands"):
            formatter.write_dl([(n, c.get_short_help_str(200)) for n, c in children.items()])
    if whole:
        for panel, title in SHARED.items():
            _section(formatter, title, shared()[panel], ctx)
    names = [_typed(p, valued=False) for panel in SHARED for p in panels.get(panel, [])]
    if names:
        formatter.write_paragraph()
        text = "As `dvid --help` tells: " + ", ".join(names)
        for line in textwrap.wrap(text, formatter.width, break_on_hyphens=False):
            formatter.write(line + "\n")


def _section(formatter: Any, title: str, params: Iterable[Any], ctx: Any) -> None:
    rows = [(_typed(param), _told(param, ctx)) for param in params]
    if rows:
        with formatter.section(title):
            formatter.write_dl(rows, col_max=LEFT)


def _typed(param: Any, *, valued: bool = True) -> str:
    """The argument or option as it is typed, with what it takes."""
    if param.param_type_name == "argument":
        return str(param.metavar or param.name.upper())
    names = (", " if valued else "/").join(sorted(param.opts, key=len))
    if param.secondary_opts:
        names += "/" + param.secondary_opts[0]
    if param.is_flag or param.count or not valued:
        return names
    return f"{names} {_value(param)}"


def _value(param: Any) -> str:
    kind = param.type_descriptor
    if param.metavar:
        return str(param.metavar)
    if kind.is_choice and kind.choices is not None:
        return "|".join(map(str, kind.choices))
    return "N" if _is_number(param) else "TEXT"


def _is_number(param: Any) -> bool:
    return any(kind in str(param.type_descriptor.annotation) for kind in ("int", "float"))


def _told(param: Any, ctx: Any) -> str:
    """What it is, with its default where that says something."""
    told = param.help or ""
    named = param.show_default if isinstance(param.show_default, str) else None
    default = param.default
    if named:
        return f"{told} [{named}]"
    flag = getattr(param, "is_flag", False) or getattr(param, "count", False)
    if default is None or flag or default in ("", ()) or callable(default):
        return str(told)
    return f"{told} [{number(default)}]" if isinstance(default, float) else f"{told} [{default}]"


def shared() -> Mapping[str, list[Any]]:
    """The options of every command that works, by panel."""
    import typer

    from dvcli.cli.session import Session, verb

    def nothing(session: Session) -> None:
        return

    app = typer.Typer(add_completion=False)
    app.command("nothing")(verb(nothing))
    found: dict[str, list[Any]] = {panel: [] for panel in SHARED}
    for param in typer.main.get_command(app).params:
        panel = getattr(param, "rich_help_panel", None)
        if panel in found:
            found[panel].append(param)
    return found
