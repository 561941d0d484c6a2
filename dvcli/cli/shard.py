"""`--shard i/n`: this command's part of a list of jobs that n commands share between them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

import typer

from dvcli.errors import UsageError

T = TypeVar("T")
LARGEST = 100_000

Option = Annotated[
    str | None,
    typer.Option("--shard", metavar="I/N", help="Do the I-th of N parts of the work, from 1/N."),
]


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Part `index` of `count`, counted from 1."""

    index: int = 1
    count: int = 1

    def of(self, jobs: Sequence[T]) -> list[T]:
        """Every `count`-th job from the `index`-th on: each job is in one shard and no other."""
        return list(jobs[self.index - 1 :: self.count])

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def parse(text: str | None) -> Shard:
    """The shard that is meant by `2/4`; the whole where nothing is."""
    if text is None:
        return Shard()
    match = re.fullmatch(r"\s*(\d{1,6})\s*/\s*(\d{1,6})\s*", text)
    if match is None:
        raise UsageError(f"`--shard {text}` is no part of a whole", hint="such as 1/4 to 4/4")
    index, count = int(match[1]), int(match[2])
    if not 1 <= count <= LARGEST:
        raise UsageError(f"`--shard {text}` is of {count} parts, not of 1 to {LARGEST}")
    if not 1 <= index <= count:
        zero = "`--shard $((i + 1))/n` where yours count from 0" if index == 0 else None
        raise UsageError(
            f"`--shard {text}` is none of the {count} parts, which count from 1/{count}",
            hint=zero or f"1/{count} to {count}/{count}; with Slurm, `--array=1-{count}`",
        )
    return Shard(index=index, count=count)
