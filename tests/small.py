"""`dvid` as the pages have it, on the built-in models and in few steps; a program of its own too.

A page names the models of the Hub and the steps that a user wants. Here the built-in models stand
in for those of the Hub, and steps are few; nothing else of a command is changed.
"""

import os
import re
import sys
from pathlib import Path
from typing import Any

STEPS = re.compile(r"(--steps[ =]|\bsteps=)(\d+)")
NAMED = re.compile(r"\bout/[\w./-]+-[0-9a-f]{8}\.\w+")
CONFIG = """\
frames = 2
[tune]
steps = 1
[invert]
steps = 2
"""


def stand_in(cogvideox: str) -> list[tuple[Any, str, object]]:
    """(where, name, value) of everything that is put in the place of something large."""
    from dvcli.api import verbs
    from dvcli.cli import demo
    from dvcli.models import resolve
    from dvcli.recipes import CogVideoX, Invert

    bundled = resolve.BUNDLED
    aliases = {
        "sd2-depth": str(bundled / "tiny"),
        "sd2-base": str(bundled / "tiny-t2i"),
        "sd1": str(bundled / "tiny-t2i"),
        "clip-vit-l14": str(bundled / "tiny-clip"),
        "cogvideox-2b": cogvideox,
    }
    found: list[tuple[Any, str, object]] = [
        (resolve.ALIASES, name, place) for name, place in aliases.items()
    ]
    for kind in (Invert, CogVideoX):
        found.append((kind.__init__.__kwdefaults__, "steps", 2))  # type: ignore[misc]
    found += [(verbs.tune.__kwdefaults__, "steps", 1), (verbs.invert.__kwdefaults__, "steps", 2)]
    return [*found, (vars(demo), "TUNING_STEPS", 1), (vars(demo), "STEPS", 2)]


def fewer(text: str) -> str:
    """The text with no number of steps over 2."""
    return STEPS.sub(lambda match: match[1] + str(min(int(match[2]), 2)), text)


def as_named_here(text: str, folder: Path) -> str:
    """The text with results named as in this folder: a key on a page is only an example."""

    def named(match: re.Match[str]) -> str:
        path = Path(match[0])
        pattern = f"{path.stem[:-8]}*{path.suffix}"
        found = sorted((folder / path.parent).glob(pattern))
        return str(found[0].relative_to(folder)) if found else match[0]

    return NAMED.sub(named, text)


def main() -> int:
    for place, name, value in stand_in(os.environ.pop("STAND_IN_COGVIDEOX")):
        place[name] = value
    from dvcli.cli.main import main as dvid

    return dvid([fewer(word) for word in sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
