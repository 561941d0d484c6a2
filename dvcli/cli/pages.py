"""The commands that a page of `dvid report` or `dvid demo` carries, out of its text."""

import re
from html import unescape
from pathlib import Path

from dvcli.errors import InputError

SUFFIXES = (".html", ".htm")
OURS = '<meta name="generator" content="dvid">'
COMMAND = re.compile(r"<code>([^<]*)\n</code>")


def on_page(path: Path) -> list[str] | None:
    """The commands on the page, each once and in order; None for a file that is no page at all.

    Raises `InputError` for a page that is not one of dvid's, or has no command on it.
    """
    if path.suffix.lower() not in SUFFIXES:
        return None
    text = path.read_text(encoding="utf-8", errors="replace")
    found = [unescape(command) for command in COMMAND.findall(text)]
    if OURS not in text or not found:
        raise InputError(
            f"`{path}` is no page of `dvid report` or `dvid demo`",
            hint="`dvid show RUN` knows runs",
        )
    return list(dict.fromkeys(found))
