"""What is said when a command fails: two lines on stderr, and a file for what is a bug."""

import errno
import os
import sys
import time
import traceback
from collections.abc import Sequence

import typer

from dvcli.cli.misread import misread
from dvcli.cli.quoting import in_short, printable
from dvcli.errors import (
    MEMORY_LEVERS,
    DvidError,
    InputError,
    ResourceError,
    StorageError,
    UsageError,
)

REFUSED = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
NO_FOLDER = "No usable temporary directory"  # Python's words for a full disk, among others
ROOM = "`dvid cache gc` makes room; `DVID_CACHE_DIR` and `TMPDIR` name folders on other disks"


def say_error(error: DvidError, command: str = "dvid") -> int:
    """The error's exit code, once its two lines are on stderr."""
    hint = error.hint
    if hint is None and isinstance(error, UsageError):
        hint = f"`{command} --help` says what each option takes"
    for mark, text in (("error", in_short(error.message)), ("hint", hint)):
        if text:
            print(f"{mark}: {printable(text)}", file=sys.stderr)  # noqa: T201
    return error.exit_code


def say_misread(
    error: typer.TyperException, command: str = "dvid", argv: Sequence[str] = ()
) -> int:
    """The exit code for a line that Typer could not read; for no words at all, the help is said."""
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error.message)  # noqa: T201
        return 0
    return say_error(misread(error, command, argv))


def system_error(error: Exception) -> DvidError | None:
    """What a person can do about an error of the system; None where it is ours."""
    if _out_of_memory(error):
        return ResourceError(
            "out of memory; nothing finished is lost and checkpoints are kept", hint=MEMORY_LEVERS
        )
    if not isinstance(error, OSError):
        return None
    if error.errno == errno.ENAMETOOLONG:
        return InputError(f"the name `{str(error.filename)[:60]}…` is too long for a file")
    if NO_FOLDER in str(error):
        return StorageError(
            "no folder for temporary files can be written: full, or closed to you", hint=ROOM
        )
    if error.errno in REFUSED:
        where = f"`{error.filename}`" if error.filename else "a file or stream"
        hint = ROOM if error.errno in (errno.ENOSPC, errno.EDQUOT) else None
        return StorageError(f"{where} cannot be used: {error.strerror}", hint=hint)
    return None


def _out_of_memory(error: Exception) -> bool:
    """torch raises a class of its own for a device, and a plain RuntimeError for the CPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def say_bug(error: Exception) -> int:
    """Exit code 1, with the traceback in a file, or on stderr where no file can be written."""
    text = "".join(traceback.format_exception(error))
    place = _log(text)
    if place is None:
        sys.stderr.write(text)
    where = f"the traceback is in `{place}`" if place else "the traceback stands above"
    return say_error(
        DvidError(f"a bug: {type(error).__name__}: {error}", hint=f"{where}; please report it")
    )


def log_bug(error: Exception) -> str | None:
    """Where the traceback of a bug was kept that did not end the command."""
    return _log("".join(traceback.format_exception(error)))


def _log(text: str) -> str | None:
    from dvcli.runs import state_dir

    try:
        folder = state_dir() / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
        path.write_text(text, encoding="utf-8")
    except (OSError, DvidError):  # a disk that refuses, or no home folder at all
        return None
    return str(path)
