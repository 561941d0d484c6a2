"""Processes for the price of a fork: libraries are loaded once, each task has a child of its own.

A real process has its own memory limit, takes its own signals and dies alone; what it need not have
is five seconds of imports. `Nursery` starts one such parent with a program text that defines
`serve(words) -> int`; each call forks it, and the child ends with what `serve` returns.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dvcli

_LOOP = """
import json, os, sys
def _answer(line):
    sys.stdout.write(json.dumps(line) + "\\n"); sys.stdout.flush()
_answer("ready")
for line in sys.stdin:
    task = json.loads(line)
    _pid = os.fork()
    if _pid == 0:
        os.setpgid(0, 0)
        os.close(0); os.open(os.devnull, os.O_RDONLY)
        out = os.open(task["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(out, 1); os.dup2(out, 2)
        os.chdir(task["cwd"])
        os.environ.update(task["env"])
        code = 99
        try:
            code = serve(task["words"])
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 1
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            sys.stdout.flush(); sys.stderr.flush()
            os._exit(code)
    _answer(_pid)
    _, status = os.waitpid(_pid, 0)
    _answer(os.waitstatus_to_exitcode(status))
"""


@dataclass(frozen=True)
class Ended:
    """How a child ended: its status, or minus the signal; `hung` when it had to be killed."""

    status: int
    seconds: float
    said: str
    hung: bool


class Child:
    """A child at work, and what it has said so far."""

    def __init__(self, nursery: "Nursery", pid: int, log: Path) -> None:
        self._nursery, self.pid, self._log = nursery, pid, log
        self._begun = time.monotonic()

    def said(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def kill(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self, seconds: float) -> Ended:
        """Its end, by SIGKILL if it takes longer than that."""
        status = self._nursery.answer(seconds)
        hung = status is None
        if hung:
            self.kill(signal.SIGKILL)
            status = self._nursery.answer(10)
        assert isinstance(status, int), "the nursery itself has gone"
        return Ended(status, time.monotonic() - self._begun, self.said(), hung)


class Nursery:
    """One warm parent process; use it as a context. `program` defines `serve(words)`."""

    def __init__(self, program: str, folder: Path) -> None:
        home = str(Path(dvcli.__file__).parents[1])
        self._folder, self._number, self._rest = folder, 0, b""
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", program + _LOOP],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={
                **os.environ,
                "PYTHONPATH": home,
                "OMP_NUM_THREADS": "1",
                "OPENBLAS_NUM_THREADS": "1",
            },
        )
        assert self.answer(120) == "ready"

    def __enter__(self) -> "Nursery":
        return self

    def __exit__(self, *error: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def start(self, words: "list[str]", *, env: "dict[str, str] | None" = None) -> Child:
        """A fork that runs `serve(words)` in the working directory of now."""
        self._number += 1
        log = self._folder / f"said-{self._number}"
        log.unlink(missing_ok=True)
        task = {"words": words, "log": str(log), "cwd": str(Path.cwd()), "env": env or {}}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(task).encode() + b"\n")
        self._process.stdin.flush()
        pid = self.answer(30)
        assert isinstance(pid, int)
        return Child(self, pid, log)

    def run(self, words: "list[str]", seconds: float, **settings: dict[str, str]) -> Ended:
        ended = self.start(words, **settings).wait(seconds)
        (self._folder / f"said-{self._number}").unlink(missing_ok=True)
        return ended

    def answer(self, seconds: float) -> object:
        """The next thing the parent says; None when it takes longer than that."""
        import select

        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        until = time.monotonic() + seconds
        while b"\n" not in self._rest:
            if not select.select([descriptor], [], [], max(until - time.monotonic(), 0))[0]:
                return None
            more = os.read(descriptor, 65536)
            if not more:
                return None
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)


def environment() -> Iterator[tuple[str, str]]:
    """What a child must be told of the home that the test has: it was forked from before."""
    for name, value in os.environ.items():
        if name.startswith(("DVID_", "XDG_")) or name in ("HOME", "NO_COLOR", "TMPDIR"):
            yield name, value
