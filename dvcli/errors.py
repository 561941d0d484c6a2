"""Everything that can go wrong and that a person can put right, each with its exit code.

An error of this file is shown as two lines: the message, and `hint:` with the command that helps.
Anything else that is raised is a bug and keeps its traceback.
"""

from collections.abc import Iterable
from typing import ClassVar

MEMORY_LEVERS = (
    "`--dtype bf16` takes less; so do, chosen when the clip is tuned, fewer `--frames`,"
    " a smaller `--size` and `--memory low`"
)


class DvidError(Exception):
    """A condition the user can act on; `message` says what is wrong with which value."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(DvidError):
    """The command line asks for something that makes no sense, or that several runs could be."""

    exit_code = 2


class InputError(DvidError):
    """A file or text that was given is not acceptable."""

    exit_code = 3


class MissingError(DvidError):
    """Something needed is absent: a model, an artifact, a run, a clip."""

    exit_code = 4


class ResourceError(DvidError):
    """Not enough memory, or no such device."""

    exit_code = 5


class StorageError(DvidError):
    """The cache, the state directory or the output could not be written."""

    exit_code = 6


class BatchError(DvidError):
    """A batch ran to its end with failures."""

    exit_code = 7


class CheckError(DvidError):
    """A check that was asked for said no."""

    exit_code = 8


class Interrupted(DvidError):
    """A signal asked the work to stop; it stopped at the end of a step with its state saved."""

    def __init__(self, signal: int, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.signal = signal
        self.exit_code = 128 + signal  # type: ignore[misc]  # the one code known only at run time


def meant(written: str, known: Iterable[str], *, most: int = 1, cutoff: float = 0.6) -> str:
    """`, did you mean …?` with those most like what is written, nearest first; empty for none."""
    from difflib import get_close_matches

    near = get_close_matches(written, list(known), n=most, cutoff=cutoff)
    if not near:
        return ""
    *others, last = [f"`{name}`" for name in near]
    return f", did you mean {', '.join(others) + ' or ' if others else ''}{last}?"
