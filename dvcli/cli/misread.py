"""What could not be read of a command line, in plain words: what stands there, and what was meant.

Typer raises one class for each way to be wrong; they are told apart by name, as Typer keeps them to
itself.
"""

import os
import re
from collections.abc import Sequence
from functools import partial
from typing import Any

import typer

from dvcli.cli.quoting import command_line
from dvcli.errors import UsageError, meant

# Only what a slip of the hand makes of a word, not any other word.
slip = partial(meant, most=3, cutoff=0.75)


def misread(error: typer.TyperException, command: str, argv: Sequence[str] = ()) -> UsageError:
    """The error as a usage error of ours; `command` is what is at work, as `dvid tune`."""
    context: Any = getattr(error, "ctx", None)
    command = command if context is None else context.command_path
    hint = f"`{command} --help` lists what it takes"
    match type(error).__name__:
        case "NoSuchOption":
            return _no_option(str(getattr(error, "option_name", "")), context, command, argv)
        case "BadOptionUsage":
            return _valueless(error, hint)
        case "MissingParameter":
            return UsageError(f"`{command}` needs {_named(error)}", hint=hint)
        case "BadParameter" if getattr(error, "param", None) is not None:
            return UsageError(f"{_named(error)} cannot be read: {_plain(error)}", hint=hint)
    if extra := re.search(r"unexpected extra argument\S* \((.*)\)", str(error), re.DOTALL):
        own = [] if context is None else context.command.params
        takes = any(param.param_type_name == "argument" for param in own)
        quotes = 'quotes keep several words together, as in "a polar bear"'
        said = f"`{command}` has no place for `{extra[1]}`"
        if "--" in argv and any(word.startswith("-") for word in extra[1].split()):
            quotes = "after `--` nothing is an option: options come before it"
        return UsageError(said, hint=quotes if takes else hint)
    if unknown := re.match(r"No such command '(.*?)'", str(error)):
        known = getattr(getattr(context, "command", None), "commands", {})
        said = f"`{command}` has no command `{unknown[1]}`" + slip(unknown[1], known)
        return UsageError(said, hint=hint)
    return UsageError(_plain(error), hint=hint)


def _no_option(written: str, context: Any, command: str, argv: Sequence[str]) -> UsageError:
    verbs = getattr(getattr(context, "command", None), "commands", {})
    if verb := next((word for word in argv if word in verbs), None):
        # A group has no options for its verbs to take over: `dvid -q sample`.
        return UsageError(
            f"`{command}` itself has no option `{written}`",
            hint=f"options come after the command: `{command} {verb} {written}`",
        )
    # `-frames 4` is read letter by letter; the whole word says more.
    whole = next((word for word in argv if re.match(rf"{re.escape(written)}\w", word)), written)
    own = [] if context is None else context.command.get_params(context)
    known = [name for param in own for name in (*param.opts, *param.secondary_opts)]
    long = [name for name in known if name.startswith("--")]
    near = slip(f"--{whole.lstrip('-')}", long)
    hint = f"`{command} --help` lists what it takes"
    if os.path.lexists(whole):
        hint = f"the file of that name is `{command_line([f'./{whole}'])}`"
    return UsageError(f"`{command}` has no option `{whole}`{near}", hint=hint)


def _valueless(error: typer.TyperException, hint: str) -> UsageError:
    name = getattr(error, "option_name", "")
    if "takes no value" in str(error) or "does not take a value" in str(error):
        return UsageError(f"`{name}` takes no value", hint="it is on where it stands")
    return UsageError(f"`{name}` needs a value after it", hint=hint)


def _named(error: typer.TyperException) -> str:
    """The option as it is typed, or the argument by its metavar."""
    param: Any = getattr(error, "param", None)
    if param is None:
        return "an argument"
    if param.param_type_name == "option":
        return f"`{max(param.opts, key=len)}`"
    return str(param.metavar or param.name.upper())


def _plain(error: typer.TyperException) -> str:
    """Typer's own words in our form: one sentence, no capital, no full stop."""
    message = getattr(error, "message", "") or str(error)
    line = " ".join(str(message).replace("Value error, ", "").split()).rstrip(".")
    return line[:1].lower() + line[1:]
