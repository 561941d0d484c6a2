"""Clips beside each other in one moving picture, with labels: bands of tiles under their words.

All tiles are one width; a clip of another shape is shown whole. The picture has as many frames as
the longest clip, over which every other spreads its own evenly, so all begin and end together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFont import FreeTypeFont

from dvcli.errors import UsageError
from dvcli.report.lettering import draw, font_for, leading, wrapped

PAPER, INK, FAINT = (250, 250, 248), (27, 27, 29), (98, 98, 95)
MARGIN, GAP = 16, 8
LINES = 3  # of a heading or a label; what does not fit ends in `...`
NARROW = 320  # pixels that a heading is given even where there is one small clip
WIDE = 1920  # pixels that the automatic width stays within, where tiles remain large enough
LEAST, NATURAL, MOST = 128, 256, 512  # pixels of an automatic tile
SMALLEST = 24  # pixels of a tile that anything can be seen in
LARGEST = 8192  # pixels that every decoder takes


Frames: TypeAlias = NDArray[np.uint8]  # [f H W 3]
Colour: TypeAlias = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Band:
    """Clips beside each other, uint8 RGB `[f H W 3]`, under a heading; None leaves a place empty.

    Each of the `labels` stands above its clip.
    """

    heading: str = ""
    labels: Sequence[str] = ()
    tiles: Sequence[Frames | None]


@dataclass(frozen=True, kw_only=True)
class Words:
    """Lines of text with their top left corner."""

    x: int
    y: int
    lines: Sequence[str]
    font: FreeTypeFont
    colour: Colour

    @property
    def height(self) -> int:
        return len(self.lines) * leading(self.font)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where everything goes: size in pixels, words, and clips by their top left corner."""

    width: int
    height: int
    tile: int
    words: Sequence[Words]
    clips: Sequence[tuple[int, int, Frames]]


def grid(bands: Sequence[Band], *, title: str = "", width: int | None = None) -> Frames:
    """The whole picture, uint8 RGB `[f H W 3]`, as many frames as the longest clip has.

    `width` is that of the picture in pixels; without it tiles have a size at which they can be
    judged. Tiles of at least twice their clip's size repeat its pixels, others are resampled.
    Raises `UsageError` where the picture would be too large or its tiles too small.
    """
    plan = _layout(bands, title, width)
    if max(plan.width, plan.height) > LARGEST:
        raise UsageError(
            f"the grid would be {plan.width}×{plan.height} pixels, more than {LARGEST}",
            hint="a smaller `--width`, fewer clips, or a page: `-o report.html`",
        )
    # Even, because that is what H.264 can hold without a repeated edge.
    sheet = Image.new("RGB", (plan.width + plan.width % 2, plan.height + plan.height % 2), PAPER)
    for words in plan.words:
        draw(sheet, (words.x, words.y), words.lines, words.font, words.colour)
    length = max(len(frames) for _, _, frames in plan.clips)
    pictures = np.repeat(np.asarray(sheet)[None], length, axis=0)
    for x, y, frames in plan.clips:
        size = (plan.tile, _height(frames, plan.tile))
        scaled = [np.asarray(resized(frame, size)) for frame in frames]
        for moment in range(length):
            shown = scaled[moment * len(scaled) // length]
            pictures[moment, y : y + size[1], x : x + size[0]] = shown
    return pictures


def _layout(bands: Sequence[Band], title: str, width: int | None) -> Layout:
    columns = max(len(band.tiles) for band in bands)
    natural = max(int(tile.shape[2]) for band in bands for tile in band.tiles if tile is not None)
    tile = _tile_width(natural, columns, width)
    total = width or max(columns * tile + (columns - 1) * GAP + 2 * MARGIN, NARROW)
    size = 18 if tile >= 180 else 15
    words: list[Words] = []
    clips: list[tuple[int, int, Frames]] = []

    def put(text: str, x: int, y: int, room: int, points: int, colour: Colour) -> int:
        font = font_for(text, points)
        lines = wrapped(text, font, room, LINES)
        words.append(Words(x=x, y=y, lines=lines, font=font, colour=colour))
        return words[-1].height

    y = MARGIN
    if title:
        y += put(title, MARGIN, y, total - 2 * MARGIN, size + 5, INK) + GAP
    for number, band in enumerate(bands):
        y += 2 * GAP if number and band.heading else 0
        if band.heading:
            y += put(band.heading, MARGIN, y, total - 2 * MARGIN, size, INK) + GAP // 2
        places = [MARGIN + place * (tile + GAP) for place in range(columns)]
        labels = [
            put(label, x, y, tile, size - 1, FAINT)
            for x, label in zip(places, band.labels, strict=False)
            if label
        ]
        y += max(labels) + 3 if labels else 0
        shown = [(x, t) for x, t in zip(places, band.tiles, strict=False) if t is not None]
        clips += [(x, y, frames) for x, frames in shown]
        y += max((_height(frames, tile) for _, frames in shown), default=0) + GAP
    return Layout(width=total, height=y - GAP + MARGIN, tile=tile, words=words, clips=clips)


def resized(frame: NDArray[np.uint8], size: tuple[int, int]) -> Image.Image:
    """The frame at that (width, height): smoothly, or in plain pixels when much larger."""
    larger = size[0] >= 2 * frame.shape[1]
    kind = Image.Resampling.NEAREST if larger else Image.Resampling.LANCZOS
    return Image.fromarray(frame).resize(size, kind)


def _tile_width(natural: int, columns: int, width: int | None) -> int:
    """Pixels of a tile; a whole multiple of the clip's own width where that is much smaller."""
    asked = WIDE if width is None else width
    room = (asked - 2 * MARGIN - GAP * (columns - 1)) // columns
    if width is not None:
        if room < SMALLEST:
            raise UsageError(
                f"{columns} clips beside each other do not fit into {width} pixels",
                hint=f"`--width {columns * (LEAST + GAP) + 2 * MARGIN}`, or fewer columns",
            )
        return room
    tile = min(max(room, LEAST), max(NATURAL, min(natural, MOST)))
    return tile // natural * natural if tile >= 2 * natural else tile


def _height(frames: Frames, across: int) -> int:
    _, height, width, _ = frames.shape
    return max(1, round(int(height) * across / int(width)))
