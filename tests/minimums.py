"""The lowest versions that dvid allows, as a constraints file for pip.

    python tests/minimums.py > minimums.txt && pip install -c minimums.txt ".[dev]" && pytest

Each lower bound of `pyproject.toml` becomes an exact pin, so that a run of the tests tells whether
the bound is true. What is pinned is what dvid names itself; what those packages need is free.
`--free NAME` leaves one out, such as a torch that an index does not have for this machine.
"""

import re
import sys
import tomllib
from pathlib import Path

BOUND = re.compile(r"([A-Za-z0-9_.-]+)(?:\[[^]]*\])?\s*>=\s*([0-9][0-9A-Za-z.]*)")


def minimums(pyproject: str, free: "set[str] | None" = None) -> list[str]:
    """`name==version` for each requirement with a lower bound, in the order of the file."""
    project = tomllib.loads(pyproject)["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    found = []
    for requirement in needed:
        bound = BOUND.match(requirement)
        if bound is None:
            raise SystemExit(f"`{requirement}` has no lower bound")
        if bound[1] not in (free or set()):
            found.append(f"{bound[1]}=={bound[2]}")
    return found


if __name__ == "__main__":
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    left = {
        name for flag, name in zip(sys.argv[1:], sys.argv[2:], strict=False) if flag == "--free"
    }
    print("\n".join(minimums(text, left)))
