"""What was asked of a clip, and which of its frames that means."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from dvcli.errors import InputError
from dvcli.recipes import Fit
from dvcli.video.timeline import span, spread

BYTES = 4 * 2**30  # of frames that one read may give


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The arguments of `read`, checked; `background` is red, green, blue."""

    frames: int | None
    size: tuple[int, int] | None
    fit: Fit
    start: float
    end: float | None
    stream: int | None
    background: tuple[int, int, int]
    tolerate_errors: bool


def choose(path: Path, times: tuple[float, ...], choice: Choice, seconds: float) -> list[int]:
    """The indices to take, ascending; `InputError` naming how many there are when too few."""
    there = span(times, choice.start, choice.end)
    until = "" if choice.end is None else f" to {choice.end:g} s"
    ranged = choice.start > 0 or choice.end is not None
    if not there:
        raise InputError(
            f"`{path}` has no frame from {choice.start:g} s{until}",
            hint=f"it lasts {seconds:.2f} s",
        )
    if choice.frames is None:
        return list(there)
    if choice.frames > len(there):
        count = f"{len(there)} frame{'s' if len(there) != 1 else ''}"
        where = f" from {choice.start:g} s{until}" if ranged else ""
        raise InputError(
            f"`{path}` has {count}{where}, fewer than the {choice.frames} asked for",
            hint=f"`--frames {len(there)}` takes them all",
        )
    part = times[there.start : there.stop]
    return [there.start + index for index in spread(part, choice.frames)]


def afford(path: Path, count: int, size: tuple[int, int]) -> None:
    """Refuse what would not fit in memory: more than 4 GiB of frames."""
    if count * size[0] * size[1] * 3 > BYTES:
        raise InputError(
            f"{count} frames of {size[0]}×{size[1]} from `{path}` would take more than "
            f"{BYTES / 2**30:.0f} GiB",
            hint="ask for fewer frames with `--frames`, or a smaller `--size`",
        )


def keep(target: Path, count: int, frames: Iterator[UInt8[np.ndarray, "H W 3"]]) -> None:
    """Write `count` frames of one size to a `.npy` file as they arrive, so that none pile up."""
    with target.open("wb") as file:
        for number, frame in enumerate(frames):
            if number == 0:
                shape = (count, *frame.shape)
                header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(np.ascontiguousarray(frame).tobytes())
