"""The folders of this user: what a variable names, else where this system puts such things."""

import os
from collections.abc import Callable
from pathlib import Path

from dvcli.errors import StorageError


def folder_of(variable: str, what: str, usual: Callable[[], Path]) -> Path:
    """The folder for `what`: absolute, and nothing is made.

    Raises `StorageError` where it would be in a home folder and there is none, as for a user of a
    container whom nobody has named: a folder called `~` in the working directory helps nobody.
    """
    named = os.environ.get(variable)
    try:
        found = Path(named).expanduser().absolute() if named else usual()
    except RuntimeError:
        found = Path()
    if not found.is_absolute():
        raise StorageError(
            f"there is no home folder to keep {what} in", hint=f"`{variable}` names a folder for it"
        )
    return found
