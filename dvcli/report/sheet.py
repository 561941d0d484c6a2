"""A contact sheet: one row of frames per clip, its name above it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dvcli.errors import UsageError
from dvcli.report.footage import decoded, thinned
from dvcli.report.grid import FAINT, INK, LARGEST, PAPER, SMALLEST, resized
from dvcli.report.lettering import draw, font_for, leading, wrapped
from dvcli.video.animate import write_strip

__all__ = ["Row", "contact_sheet", "decoded"]
MARGIN, GAP, TEXT = 24, 4, 16
WIDTH = 1400  # about what a screen shows at once
MOST = 16  # frames of a row; of a longer clip so many are shown, evenly spaced


@dataclass(frozen=True, kw_only=True)
class Row:
    """One clip on the sheet: frames uint8 RGB `[f H W 3]`, a title and a fainter remark."""

    title: str
    remark: str
    frames: NDArray[np.uint8]


def contact_sheet(
    path: Path,
    rows: Sequence[Row],
    *,
    title: str = "",
    width: int = WIDTH,
    metadata: str | None = None,
) -> None:
    """Write the rows as one PNG; all frames are as wide, so that the longest row fills it.

    Raises `UsageError` where the sheet would be too large or its frames too small.
    """
    frames = [thinned(row.frames, MOST) for row in rows]
    most = max(map(len, frames))
    across = (width - 2 * MARGIN - GAP * (most - 1)) // most
    if across < SMALLEST:
        raise UsageError(
            f"{most} frames beside each other do not fit into {width} pixels",
            hint=f"`--width {most * (3 * SMALLEST + GAP) + 2 * MARGIN}` or more",
        )
    heights = [max(1, round(part.shape[1] * across / part.shape[2])) for part in frames]
    text = width - 2 * MARGIN
    titles = [_lines(row.title, text, 2) for row in rows]
    remarks = [_lines(row.remark, text, 2) for row in rows]
    head = _lines(title, text, 2, TEXT + 7)
    y = MARGIN
    line = leading(font_for("", TEXT))
    top = len(head) * leading(font_for("", TEXT + 7)) + (2 * GAP if head else 0)
    words = sum(len(lines) for lines in (*titles, *remarks)) * line
    total = 2 * MARGIN + top + sum(heights) + words + len(rows) * 5 * GAP
    if total > 4 * LARGEST:
        raise UsageError(
            f"the sheet would be {total} pixels high", hint="fewer clips, or `-o report.html`"
        )
    sheet = Image.new("RGB", (width, total), PAPER)
    draw(sheet, (MARGIN, y), head, font_for(title, TEXT + 7), INK)
    y += top
    for row, part, height, above, below in zip(rows, frames, heights, titles, remarks, strict=True):
        draw(sheet, (MARGIN, y), above, font_for(row.title, TEXT), INK)
        y += len(above) * line
        draw(sheet, (MARGIN, y), below, font_for(row.remark, TEXT), FAINT)
        y += len(below) * line + GAP
        for place, frame in enumerate(part):
            sheet.paste(resized(frame, (across, height)), (MARGIN + place * (across + GAP), y))
        y += height + 4 * GAP
    write_strip(path, np.asarray(sheet)[None], metadata)


def _lines(words: str, width: int, most: int, size: int = TEXT) -> list[str]:
    return wrapped(words, font_for(words, size), width, most)
