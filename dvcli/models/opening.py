"""A checkpoint's files opened with care: inside its folder, regular, and never more than is meant.

A stranger's folder can hold a pipe that nobody writes to, a link to a device without an end, or one
to a file of the user's own. Free of torch.
"""

import os
import stat
from pathlib import Path
from typing import BinaryIO

from dvcli.errors import InputError


def inside(path: Path, root: Path) -> Path:
    """The path, unless a link leads it out of the checkpoint at `root`, which is resolved.

    In the layout of the Hub's cache the files of a snapshot are links into `blobs` beside it.
    """
    try:
        target = path.resolve()
    except (OSError, RuntimeError) as error:  # links in a circle
        raise InputError(f"`{path}` is a link that leads nowhere") from error
    blobs = root.parent.parent / "blobs" if root.parent.name == "snapshots" else None
    if not target.is_relative_to(root) and target.parent != blobs:
        raise InputError(
            f"`{path}` is a link that leaves the checkpoint's folder",
            hint="put a copy of the file in its place",
        )
    return path


def regular(path: Path) -> Path:
    """The path of a regular file; raises `InputError` for anything else, `OSError` for nothing."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise _no_file(path)
    return path


def opened(path: Path) -> BinaryIO:
    """A regular file, opened for reading. Raises as `regular` does, and never waits."""
    # Without O_NONBLOCK a pipe that took the file's place just now would hang here.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file = os.fdopen(os.open(regular(path), flags | getattr(os, "O_CLOEXEC", 0)), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise _no_file(path)
    return file


def content(path: Path, most: int) -> bytes | None:
    """What is in a regular file; None where that is more than `most` bytes, whatever its size says.

    Raises as `opened` does.
    """
    with opened(path) as file:
        if os.fstat(file.fileno()).st_size > most:
            return None
        found = file.read(most + 1)
    return found if len(found) <= most else None


def _no_file(path: Path) -> InputError:
    return InputError(
        f"`{path}` is no regular file",
        hint="a checkpoint is made of files only; fetch it again",
    )
