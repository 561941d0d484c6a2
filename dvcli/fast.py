"""The fast set: what `--fast` stands for, and what the benchmark's group `fast` measures.

It changes results. Nothing else knows these values: a recipe holds them as plain fields, as if each
had been asked for by itself.
"""

from dataclasses import replace

from dvcli.recipes import Invert

STEPS = 10  # of inversion and sampling, which have to be as many
GUIDANCE_UNTIL = 0.6  # share of the steps after which guidance rests, and with it half the calls
REUSE = 2  # deep features of the network are computed every so many steps


def matched(own: Invert, steps: int | None = None) -> Invert:
    """The inversion to sample from in so many steps, by default the set's, in place of `own`.

    It is `own` itself where that has as many, or fewer than the set's.
    """
    wanted = min(STEPS, own.steps) if steps is None else steps
    return own if wanted == own.steps else replace(own, steps=wanted, trajectory=False)
