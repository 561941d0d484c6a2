"""The one way in and the one way out: every outcome becomes an exit code and at most two lines."""

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import typer

from dvcli.cli.app import app
from dvcli.cli.quoting import printable
from dvcli.cli.session import ReaderGone
from dvcli.errors import MEMORY_LEVERS, DvidError, ResourceError

HELP = {"-h", "--help", "--version", "--show-completion", "--install-completion"}


def main(argv: Sequence[str]) -> int:
    """Run one command line and return its exit code; nothing a person can fix shows a traceback."""
    _open_closed_streams()
    try:
        command: Any = typer.main.get_command(app)
        configured = {} if HELP.intersection(argv) else _configured(command)
        command, words, rest, configured = _descend(command, list(argv), configured)
        code = command.main(
            rest, prog_name=" ".join(words), standalone_mode=False, default_map=configured
        )
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except typer.TyperException as error:  # the parser's own: unknown option, missing argument
        return _usage(error)
    except DvidError as error:
        say_error(error)
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        return 130
    except ReaderGone:
        # Python must not complain at exit about the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except Exception as error:  # noqa: BLE001  # a bug: kept whole in a file, one line shown
        return _bug(error)


def _open_closed_streams() -> None:
    """Give a process that was started with closed standard streams, as by `>&-`, the null device.

    Else the next file that is opened would become its standard output.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is not None:
            continue
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
        setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


def _descend(
    command: Any, argv: list[str], configured: dict[str, Any]
) -> tuple[Any, list[str], list[str], dict[str, Any]]:
    """(the verb's own command, its name in words, what is left of the line, its defaults).

    Called through its group, a verb would wait for Typer to load pydantic for the group's options
    before it shows as much as its help. Completion still starts from the top.
    """
    words = ["dvid"]
    while "_DVID_COMPLETE" not in os.environ and argv[:1] and argv[0] in _children(command):
        command = command.commands[argv[0]]
        configured = configured.get(argv[0], {})
        words.append(argv.pop(0))
    return command, words, argv, configured


def _children(command: Any) -> dict[str, Any]:
    return getattr(command, "commands", {})


def _configured(command: Any) -> dict[str, Any]:
    from dvcli.cli.config import defaults
    from dvcli.cli.session import here

    return defaults(command, here(), os.environ)


def say_error(error: DvidError) -> None:
    """The two lines of an error on stderr."""
    print(f"error: {printable(error.message)}", file=sys.stderr)  # noqa: T201
    if error.hint:
        print(f"hint: {printable(error.hint)}", file=sys.stderr)  # noqa: T201


def _usage(error: typer.TyperException) -> int:
    code = int(getattr(error, "exit_code", 2))
    message = str(error.format_message() if hasattr(error, "format_message") else error)
    if type(error).__name__ == "NoArgsIsHelpError":  # `dvid` alone: the help is the answer
        print(message)  # noqa: T201
        return 0
    context = getattr(error, "ctx", None)
    command = "dvid" if context is None else context.command_path
    lines = " ".join(message.split()).rstrip(".")
    say_error(
        DvidError(lines[:1].lower() + lines[1:], hint=f"`{command} --help` lists what it takes")
    )
    return code


def _bug(error: Exception) -> int:
    if _out_of_memory(error):
        raised = ResourceError(
            "out of memory; nothing finished is lost and checkpoints are kept",
            hint=MEMORY_LEVERS,
        )
        say_error(raised)
        return raised.exit_code
    text = "".join(traceback.format_exception(error))
    place = _log(text)
    if place is None:
        sys.stderr.write(text)
    where = f"the traceback is in `{place}`" if place else "the traceback stands above"
    say_error(
        DvidError(f"a bug: {type(error).__name__}: {error}", hint=f"{where}; please report it")
    )
    return 1


def _out_of_memory(error: Exception) -> bool:
    """torch raises a class of its own for a device, and a plain RuntimeError for the CPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _log(text: str) -> str | None:
    import time

    from dvcli.runs import state_dir

    try:
        folder = state_dir() / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
        path.write_text(text, encoding="utf-8")
    except OSError:
        return None
    return str(path)
