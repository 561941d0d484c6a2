"""The one way in and the one way out: every outcome becomes an exit code and at most two lines."""

import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer

from dvcli.cli.failure import say_bug, say_error, say_misread, system_error
from dvcli.cli.helping import fit
from dvcli.cli.options import NO_CONFIG
from dvcli.cli.plain import read_plainly
from dvcli.cli.session import ReaderGone
from dvcli.cli.verbs import VERBS, command_line, contents
from dvcli.errors import DvidError, UsageError

EVERYWHERE = re.compile(
    "--json|--null|--quiet|--verbose|--no-config|-[0qv]+"
)  # what every command takes
HELP = {"-h", "--help", "--version", "--show-completion", "--install-completion"}


def main(argv: Sequence[str]) -> int:
    """Run one command line and return its exit code; nothing a person can fix shows a traceback."""
    _open_closed_streams()
    with _configuration(argv):
        return _answer(argv)


@contextmanager
def _configuration(argv: Sequence[str]) -> Iterator[None]:
    """Nothing but the command line configures where it says `--no-config`, here and in children."""
    own = argv[: argv.index("--")] if "--" in argv else argv
    if "--no-config" not in own or NO_CONFIG in os.environ:
        yield
        return
    os.environ[NO_CONFIG] = "1"
    try:
        yield
    finally:
        os.environ.pop(NO_CONFIG, None)


def _answer(argv: Sequence[str]) -> int:
    words = ["dvid"]
    try:
        if shell := os.environ.get("_DVID_COMPLETE"):
            from dvcli.cli.complete import complete

            return complete(shell, argv, os.environ)
        return _run(argv, words)
    except typer.TyperException as error:  # the parser's own: unknown option, missing argument
        return say_misread(error, " ".join(words), argv)
    except DvidError as error:
        return say_error(_blamed(error, words, argv), " ".join(words))
    except (typer.Abort, KeyboardInterrupt):
        return 130
    except ReaderGone:
        # Python must not complain at exit about the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except Exception as error:  # noqa: BLE001  # a bug: kept whole in a file, one line shown
        known = system_error(error)
        return say_bug(error) if known is None else say_error(known, " ".join(words))


def _run(argv: Sequence[str], words: list[str]) -> int:
    """Answer one command line; `words` become the name of the command that is meant."""
    before, argv = _before(argv)
    command, configured = _command_line(argv)
    command, words[:], rest, configured = _descend(command, argv, configured)
    if not _children(command):
        rest = [*before, *rest]
    read_plainly(command)
    fit(command, words)
    code = command.main(
        rest,
        prog_name=" ".join(words),
        standalone_mode=False,
        default_map=configured,
        help_option_names=["-h", "--help"],
    )
    sys.stdout.flush()
    return code if isinstance(code, int) else 0


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


def _before(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """(options of every command that stand before the command's name, the line without them)."""
    count = 0
    while count < len(argv) and EVERYWHERE.fullmatch(argv[count]):
        count += 1
    if count == len(argv):
        return [], list(argv)
    return list(argv[:count]), list(argv[count:])


def _blamed(error: DvidError, words: Sequence[str], argv: Sequence[str]) -> DvidError:
    """The error, naming the place where a wrong value is configured."""
    from dvcli.cli.config import blamed
    from dvcli.cli.session import here

    if not isinstance(error, UsageError) or len(words) < 2:
        return error
    return blamed(error, " ".join(words[1:]), argv, here(), os.environ)


def _descend(
    command: Any, argv: list[str], configured: dict[str, Any]
) -> tuple[Any, list[str], list[str], dict[str, Any]]:
    """(the verb's own command, its name in words, what is left of the line, its defaults).

    Called through its group, a verb would wait for Typer to load pydantic for the group's options
    before it shows as much as its help.
    """
    words = ["dvid"]
    while argv[:1] and argv[0] in _children(command):
        command = command.commands[argv[0]]
        configured = configured.get(argv[0], {})
        words.append(argv.pop(0))
    return command, words, argv, configured


def _children(command: Any) -> dict[str, Any]:
    return getattr(command, "commands", {})


def _command_line(argv: Sequence[str]) -> tuple[Any, dict[str, Any]]:
    """(the command, what is configured); of its verbs only the one named, where that will do."""
    from dvcli.cli.config import anything, defaults
    from dvcli.cli.session import here

    if not argv or argv[0] in HELP:
        return typer.main.get_command(contents()), {}
    configured = not HELP.intersection(argv) and anything(here(), os.environ)
    one = argv[:1] if argv and argv[0] in VERBS else VERBS
    command: Any = typer.main.get_command(command_line(VERBS if configured else one))
    try:
        return command, defaults(command, here(), os.environ) if configured else {}
    except UsageError:
        if list(argv[:1]) != ["doctor"]:  # which tells what is wrong among all else
            raise
        return command, {}
