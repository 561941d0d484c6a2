"""The process that touches strangers' bytes: `python -m dvcli.video.child FOLDER`.

It reads `request.json` in that folder and leaves `answer.json` there, and `frames.npy`.
"""

import contextlib
import errno
import json
import logging
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dvcli.errors import InputError
from dvcli.video.choice import BYTES, Choice
from dvcli.video.metadata import find_metadata
from dvcli.video.picking import describe, open_clip, pick
from dvcli.video.probe import info_to

FILE = BYTES + 2**20  # the largest file: the frames of one read, and the header before them
_PR_SET_PDEATHSIG = 1


def main(room: Path) -> None:
    """Answer one request; every failure becomes part of the answer."""
    request = json.loads((room / "request.json").read_text(encoding="utf-8"))
    limit(
        memory=int(request["memory"]),
        seconds=float(request["seconds"]),
        parent=int(request["parent"]),
    )
    if request["verbose"]:
        logging.getLogger("dvcli.video").setLevel(logging.DEBUG)
    try:
        answer = serve(request, room / "frames.npy")
    except InputError as error:
        answer = {"refusal": "input", "message": error.message, "hint": error.hint}
    except MemoryError:
        answer = {"refusal": "memory"}
    except Exception as error:  # noqa: BLE001  # a hostile file may raise anything
        answer = _other(error)
        (room / "frames.npy").unlink(missing_ok=True)  # it may have taken the room for the answer
    (room / "answer.json").write_text(json.dumps(answer), encoding="utf-8")


def _other(error: Exception) -> dict[str, Any]:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return {"refusal": "storage", "message": f"frames could not be kept: {error.strerror}"}
    first = (str(error).splitlines() or [""])[0]
    said = f"{type(error).__name__}: {first}" if first else type(error).__name__
    return {"refusal": "other", "message": said, "traceback": traceback.format_exc()}


def serve(request: Mapping[str, Any], frames: Path) -> dict[str, Any]:
    """The answer to a request: a description, metadata, or the frames picked."""
    path = Path(request["path"])
    match request["task"]:
        case "probe":
            return {"info": info_to(describe(path, None))}
        case "open":
            open_clip(path)
            return {}
        case "metadata":
            return {"metadata": find_metadata(path)}
        case task:
            assert task == "read"
            wanted = request["choice"]
            size = tuple(wanted["size"]) if wanted["size"] else None
            choice = Choice(**{**wanted, "size": size, "background": tuple(wanted["background"])})
            picked = pick(path, choice, frames)
            return {
                "info": info_to(picked.source),
                "times": picked.times,
                "indices": picked.indices,
                "notes": picked.notes,
            }


def limit(*, memory: int, seconds: float, parent: int) -> None:
    """Bound this process: address space beyond what it has now, processor time, files, no core.

    It ends with `parent`, and is the first to go where the machine runs out of memory.
    """
    _end_with(parent)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    try:
        import resource
    except ImportError:  # Windows has no such limits; the parent's clock still holds
        return
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        cpu = int(seconds * (os.cpu_count() or 1)) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
        resource.setrlimit(resource.RLIMIT_FSIZE, (FILE, FILE))
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        bound = pages * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (bound, bound))


def _end_with(parent: int) -> None:
    """Have Linux kill this process when its parent dies, by a second ^C or a SIGKILL, say."""
    if sys.platform != "linux":
        return
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it died before that was asked
        os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
