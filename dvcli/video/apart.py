"""Decoding in a process of its own, with limits: a stranger's file may hang, crash or swell.

Nothing the child says is unpickled: it answers in JSON, and gives frames as a `.npy` file.
"""

import errno
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvcli.errors import InputError, StorageError
from dvcli.store import disk, workplace

SECONDS = 900.0  # of wall-clock time for one clip
# Bytes beyond what the decoder's libraries take themselves; no more than half of the machine's, but
# for a machine so small that half would not decode a 4K clip.
MEMORY = 6 * 2**30
LEAST = 2**30
_ROOM = 2**16  # with less free than this a decoder may have had no room for its answer
_CGROUP = Path("/sys/fs/cgroup/memory.max")
_LOG = logging.getLogger("dvcli.video")


@dataclass(frozen=True, kw_only=True)
class Reply:
    """The child's answer, and where it left frames if it was asked for any."""

    answer: dict[str, Any]
    frames: Path


def ask(task: Mapping[str, object], path: Path) -> Reply:
    """The answer to a task that gives no frames."""
    with asked(task, path) as reply:
        return reply


@contextmanager
def asked(task: Mapping[str, object], path: Path) -> Iterator[Reply]:
    """Run a task of `dvcli.video.child` on `path`; the frames last as long as the `with` block.

    However the child ends, what is raised is one `InputError` (or `StorageError` for a full disk).
    """
    room = workplace.temporary()
    try:
        verbose = _LOG.isEnabledFor(logging.DEBUG)
        memory = memory_limit()
        request = {
            **task,
            "memory": memory,
            "seconds": SECONDS,
            "verbose": verbose,
            "parent": os.getpid(),
        }
        try:
            (room / "request.json").write_text(json.dumps(request), encoding="utf-8")
        except OSError as refused:
            raise _no_room(room, refused.strerror or str(refused)) from refused
        status = _run(room, path, verbose)
        yield Reply(answer=_answer(room, path, status, memory), frames=room / "frames.npy")
    finally:
        disk.discard(room)


def memory_limit() -> int:
    """How many bytes a decoder may take: `MEMORY`, or half of what a smaller machine has."""
    return min(MEMORY, max(LEAST, machine_memory() // 2))


def machine_memory() -> int:
    """The bytes of memory of this machine, or of the container that it is; huge where unknown."""
    try:
        whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows; no limit is set there either
        whole = 2**62
    try:
        allowed = int(_CGROUP.read_text())
    except (OSError, ValueError):  # none, or `max`
        allowed = 2**62
    return min(whole, allowed)


def _run(room: Path, path: Path, verbose: bool) -> int:
    import dvcli

    home = str(Path(dvcli.__file__).parents[1])
    known = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(known),
        "OPENBLAS_NUM_THREADS": "1",  # each would reserve memory that the limit counts
        "OMP_NUM_THREADS": "1",
    }
    try:
        return subprocess.run(
            [sys.executable, "-P", "-m", "dvcli.video.child", str(room)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=None if verbose else subprocess.DEVNULL,
            env=environment,
            timeout=SECONDS,
            check=False,
            # ^C is for the parent, which then ends the child.
            process_group=0 if os.name == "posix" else None,
        ).returncode
    except subprocess.TimeoutExpired:
        raise InputError(
            f"reading `{path}` took longer than {SECONDS:g} s", hint="cut the clip shorter first"
        ) from None


def _answer(room: Path, path: Path, status: int, memory: int) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = json.loads((room / "answer.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        if shutil.disk_usage(room).free < _ROOM:
            raise _no_room(room, os.strerror(errno.ENOSPC)) from None
        answer = {"refusal": "crash"}
    match answer.get("refusal"):
        case None:
            return answer
        case "input":
            raise InputError(answer["message"], hint=answer["hint"])
        case "storage":
            raise StorageError(answer["message"], hint=workplace.TEMPORARY_HINT)
        case "memory":
            raise InputError(
                f"reading `{path}` needs more than {memory / 2**30:.3g} GiB of memory",
                hint="scale the clip down first",
            )
        case _:
            how = answer.get("message", _ending(status))
            error = InputError(
                f"reading `{path}` failed: {how}",
                hint="convert it first, for example to H.264 in .mp4",
            )
            if "traceback" in answer:
                error.add_note(answer["traceback"])
            raise error


def _no_room(room: Path, why: str) -> StorageError:
    return StorageError(
        f"`{room.parent}` takes no temporary files: {why}", hint=workplace.TEMPORARY_HINT
    )


def _ending(status: int) -> str:
    if status >= 0:
        return f"the decoder ended with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        return f"the decoder ended with signal {-status}"
    # The system's own answer to a lack of memory, which the decoder is the first to get.
    why = ", perhaps for lack of memory or time" if name == "SIGKILL" else ""
    return f"the decoder ended with {name}{why}"
