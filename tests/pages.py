"""The pages of the documentation: their fenced blocks, and what is said of each."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"\s*(`{3,})(\w*)\s*")
NOTE = re.compile(r"\s*<!-- (not run|file): (.+) -->\s*")


@dataclass(frozen=True)
class Block:
    """A fenced block; `line` is that of its first line of text, counted from 1.

    `unrun` says why it cannot run in a test, `file` which file holds its text.
    """

    page: str
    line: int
    language: str
    text: str
    unrun: str | None = None
    file: str | None = None


def pages() -> list[Path]:
    """README.md and every page beside this folder that nobody generated."""
    docs = sorted((ROOT / "docs").rglob("*.md"))
    return [ROOT / "README.md", *(page for page in docs if page.name != "cli.md")]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> Iterator[Block]:
    """The page's fenced blocks in order."""
    lines = page.read_text(encoding="utf-8").splitlines()
    note: re.Match[str] | None = None
    number = 0
    while number < len(lines):
        if found := NOTE.fullmatch(lines[number]):
            note = found
        elif fence := FENCE.fullmatch(lines[number]):
            begun = number + 1
            while lines[(number := number + 1)].strip() != fence[1]:
                pass
            said = {} if note is None else {note[1]: note[2]}
            yield Block(
                page=name_of(page),
                line=begun + 1,
                language=fence[2],
                text="\n".join(lines[begun:number]) + "\n",
                unrun=said.get("not run"),
                file=said.get("file"),
            )
            note = None
        elif lines[number].strip():
            note = None
        number += 1
