"""How often each fault is tried: quick in every run of the tests, full with `FAULTS=full`.

    FAULTS=full pytest tests/faults                       the whole suite, hours
    FAULTS=full pytest tests/faults/test_media.py         one part of it
    FAULTS_SEED=7 pytest tests/faults                     other random faults than those of seed 0

What was done is printed at the end of the run, see `tally`.
"""

import os
from collections import Counter

FULL = os.environ.get("FAULTS") == "full"
SEED = int(os.environ.get("FAULTS_SEED", "0"))

# name: (quick, full)
COUNTS: dict[str, tuple[int, int]] = {
    "media": (500, 20_000),  # mutated clips
    "signals": (10, 200),  # tunings stopped by ^C or SIGTERM at a random moment
    "checkpoints": (10, 100),  # tunings killed, the newest checkpoint then damaged
    "intervals": (3, 24),  # steps after which a tuning is killed, for each interval
    "text": (300, 50_000),  # prompts, TOML, JSON lines and run files
    "leaks": (20, 200),  # samples in one process
    "kills": (100, 2_000),  # SIGKILL while publishing
    "processes": (8, 16),  # working at once on the same keys
    "operations": (80, 2_000),  # of each of them
    "damage": (60, 2_000),  # a type of artifact
    "record bytes": (60, 100_000),  # of each record; never more than it has
    "room": (40, 750),  # steps of 4 KiB of a disk that fills up
    "rooms of a sample": (3, 40),  # the same below a whole command
    "calls of a command": (3, 100_000),  # of tune → sample that fail; never more than there are
    "states": (2, 40),  # of the disk for each call before which the power is cut
    "injections": (4, 20),  # processes under libfiu
    "keys": (200, 10_000),  # recipes
    "shells": (20, 500),  # turns of two shells
    "archives": (50, 2_000),  # harmed archives
}

TIMEOUT = 7200 if FULL else 300  # seconds for one test

_done: dict[str, Counter[str]] = {}


def count(name: str) -> int:
    """How many of this fault to try in this run."""
    return COUNTS[name][FULL]


def tally(name: str, **figures: int) -> None:
    """Add to the totals that are printed at the end."""
    _done.setdefault(name, Counter()).update(figures)


def totals() -> list[str]:
    """One line for each fault that was tried."""
    lines = []
    for name, found in sorted(_done.items()):
        figures = (f"{number} {word.replace('_', ' ')}" for word, number in sorted(found.items()))
        lines.append(f"{name}: {', '.join(figures)}")
    return lines
