"""Running `dvid` in tests: in this process, or as a real one; and a tuned run to start from."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from dvcli.cli.main import main


@dataclass(frozen=True)
class Said:
    """What one command line answered."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class Dvid:
    """`dvid(*arguments)` in this process; what it prints is read from descriptors."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def __call__(self, *arguments: str | Path, code: int = 0) -> Said:
        self._capture.readouterr()
        got = main([str(argument) for argument in arguments])
        out, err = self._capture.readouterr()
        assert got == code, f"exit {got}, not {code}\n{out}\n{err}"
        return Said(got, out, err)


def process(
    *arguments: str | Path,
    code: int = 0,
    stdin: str | None = None,
    env: dict[str, str] | None = None,
) -> Said:
    """`dvid` as a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "dvcli", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **(env or {})},
        timeout=100,
    )
    said = f"{done.stdout}\n{done.stderr}"
    assert done.returncode == code, f"exit {done.returncode}, not {code}\n{said}"
    return Said(done.returncode, done.stdout, done.stderr)


def copy_state(source: Path, home: Path) -> None:
    """Give this home the cache and the runs of another."""
    for name in ("cache", "state"):
        shutil.copytree(source / name, home / name, dirs_exist_ok=True)
