"""The command `dvid`: Typer verbs that parse, make recipes, have them realised and print paths."""

import atexit
import os
import signal
import sys
from contextlib import suppress


def entry() -> None:
    """The console script."""
    # A thread that spins for one whose core another program has holds up both for its whole slice.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    code = 0

    def leave() -> None:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                with suppress(OSError):
                    stream.flush()
        if code > 128:
            end_by(code - 128)

    atexit.register(leave)  # the first that is registered is called last: all else is cleaned up
    try:
        from dvcli.cli.main import main

        code = main(sys.argv[1:])
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


def end_by(number: int) -> None:
    """End this process by that signal, which a shell's loop ends with, as not by an exit code.

    Where the system does not let it, as in the first process of a container, it returns.
    """
    if os.name == "posix":
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
