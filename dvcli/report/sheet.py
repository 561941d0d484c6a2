"""A contact sheet: one row of frames per clip, its name above it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageSequence

PAPER, INK, FAINT = (255, 255, 255), (24, 24, 24), (110, 110, 110)
MARGIN, GAP, TEXT = 24, 4, 15
WIDTH = 1400  # about what a screen shows at once


@dataclass(frozen=True, kw_only=True)
class Row:
    """One clip on the sheet: frames uint8 RGB `[f H W 3]`, a title and a fainter remark."""

    title: str
    remark: str
    frames: NDArray[np.uint8]


def contact_sheet(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows as one PNG; all frames are as wide, so that the longest row fills it."""
    most = max(len(row.frames) for row in rows)
    width = (WIDTH - 2 * MARGIN - GAP * (most - 1)) // most
    heights = [round(row.frames.shape[1] * width / row.frames.shape[2]) for row in rows]
    text = round(TEXT * 1.7)
    total = 2 * MARGIN + sum(heights) + len(rows) * (text + 2 * GAP)
    sheet = Image.new("RGB", (WIDTH, total), PAPER)
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(TEXT)
    y = MARGIN
    for row, height in zip(rows, heights, strict=True):
        pen.text((MARGIN, y), row.title, fill=INK, font=font)
        after = MARGIN + pen.textlength(row.title + "   ", font=font)
        pen.text((after, y), row.remark, fill=FAINT, font=font)
        y += text
        for place, frame in enumerate(row.frames):
            sheet.paste(scaled(frame, (width, height)), (MARGIN + place * (width + GAP), y))
        y += height + 2 * GAP
    sheet.save(path, format="PNG")


def decoded(path: Path) -> NDArray[np.uint8]:
    """The frames of an animated picture of our own writing, uint8 RGB `[f H W 3]`."""
    with Image.open(path) as picture:
        return np.stack([np.asarray(f.convert("RGB")) for f in ImageSequence.Iterator(picture)])


def scaled(frame: NDArray[np.uint8], size: tuple[int, int]) -> Image.Image:
    """The frame at that (width, height): smoothly, or in plain pixels when much larger."""
    larger = size[0] >= 2 * frame.shape[1]
    kind = Image.Resampling.NEAREST if larger else Image.Resampling.LANCZOS
    return Image.fromarray(frame).resize(size, kind)
