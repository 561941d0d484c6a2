"""Work in processes of their own, forked from this one so that hundreds of them cost little."""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from faults import counts


def begin(work: Callable[[], None]) -> int:
    """The id of a process that does the work, ends with 0, or with 1 and its traceback told."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        signal.alarm(counts.TIMEOUT)  # whatever hangs is ended, and so is a failed test
        work()
        code = 0
    except BaseException:  # noqa: BLE001  # told, and then the process ends
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def end(child: int) -> int:
    """How the process ended: 0, its exit code, or minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_after(child: int, seconds: float) -> int:
    """How the process ended, killed after that time unless it was quicker."""
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    return end(child)


def together(*works: Callable[[], None]) -> None:
    """All the works at once; an error of one is an error here."""
    assert [end(child) for child in [begin(work) for work in works]] == [0] * len(works)


def note(log: Path, line: str) -> None:
    """Add a line to a file that several processes write to."""
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(fd, line.encode() + b"\n")
    os.close(fd)
