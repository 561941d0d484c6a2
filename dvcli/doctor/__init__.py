"""Whether all that `dvid` stands on is in order here, one finding a line; nothing changes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from dvcli.recipes import DType
from dvcli.runtime import Attention

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one look found: `fix` says what to do about a `warn` or a `fail`."""

    name: str
    said: str
    status: Status = "ok"
    fix: str | None = None


Findings = Iterator[Finding]


@dataclass(frozen=True, kw_only=True)
class Plans:
    """What somebody means to do here: on which model, at which size, how.

    `size` is (width, height), None for the model's own; `memory_limit` in bytes.
    """

    model: str
    size: tuple[int, int] | None
    frames: int
    device: str
    dtype: DType
    attention: Attention
    memory_limit: int | None
