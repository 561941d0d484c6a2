"""Words on a picture: a font that has the letters, lines that fit the width."""

import unicodedata
from collections.abc import Sequence
from functools import cache

from PIL import Image, ImageDraw, ImageFont
from PIL.ImageFont import FreeTypeFont

LEADING = 1.3
SPACE = 0.27  # of the font's size: the least that parts two words; Pillow's own font has 0.19
# The font that Pillow brings has ASCII and little else. These are looked for on the system when a
# text has other letters; the one with the fewest gaps is taken.
SYSTEM = (
    "DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "Arial.ttf",
    "segoeui.ttf", "Arial Unicode.ttf", "NotoSansCJK-Regular.ttc", "NotoSansJP-Regular.otf",
    "wqy-zenhei.ttc", "DroidSansFallback.ttf", "msyh.ttc", "YuGothM.ttc", "malgun.ttf",
    "PingFang.ttc", "Hiragino Sans GB.ttc", "AppleSDGothicNeo.ttc", "NotoSansArabic-Regular.ttf",
    "NotoSansHebrew-Regular.ttf", "NotoSansDevanagari-Regular.ttf", "Symbola.ttf",
)  # fmt: skip


def font_for(text: str, size: int) -> FreeTypeFont:
    """A font of that size that has the letters of the text, as far as this system has one."""
    letters = "".join(sorted({c for c in text if not c.isspace()}))
    if letters.isascii():
        return _own(size)
    candidates = [_own(size), *filter(None, (_system(name, size) for name in SYSTEM))]
    return min(candidates, key=lambda font: _gaps(font, letters))


def plain(text: str) -> str:
    """The text on one line, without what acts rather than shows."""
    words = " ".join(unicodedata.normalize("NFC", text).split())
    return "".join("?" if unicodedata.category(c) in ("Cc", "Cs") else c for c in words)


def wrapped(text: str, font: FreeTypeFont, width: int, most: int) -> list[str]:
    """The text in at most so many lines of at most that many pixels; a cut one ends in `...`.

    A line break in the text is kept. A word that is wider than a line is broken where it must be.
    """
    enough = (most + 1) * width  # characters: none is narrower than a pixel
    parts = text[:enough].split("\n")
    lines = [line for part in parts for line in _lines(plain(part), font, width)]
    if len(lines) <= most:
        return lines
    last = " ".join(lines[most - 1 : most + 1])
    return [*lines[: most - 1], last[: _fitting(last, font, width, "...")].rstrip() + "..."]


def draw(
    image: Image.Image,
    at: tuple[int, int],
    lines: Sequence[str],
    font: FreeTypeFont,
    colour: tuple[int, int, int],
) -> None:
    """Write the lines from that top left corner down."""
    pen = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        x, y = float(at[0]), at[1] + number * leading(font)
        for word in line.split(" "):
            pen.text((x, y), word, fill=colour, font=font)
            x += font.getlength(word) + _space(font)


def length(text: str, font: FreeTypeFont) -> float:
    """Pixels that `draw` takes for the text on one line."""
    words = text.split(" ")
    return sum(map(font.getlength, words)) + (len(words) - 1) * _space(font)


def leading(font: FreeTypeFont) -> int:
    """Pixels from one line to the next."""
    return round(font.size * LEADING)


def _lines(text: str, font: FreeTypeFont, width: int) -> list[str]:
    lines, line = [], ""
    for word in text.split(" "):
        longer = f"{line} {word}".strip()
        if length(longer, font) <= width:
            line = longer
            continue
        if line:
            lines.append(line)
        while font.getlength(word) > width and len(word) > 1:
            fits = max(1, _fitting(word, font, width))
            lines.append(word[:fits])
            word = word[fits:]
        line = word
    return [*lines, line] if line else lines


def _fitting(text: str, font: FreeTypeFont, width: int, end: str = "") -> int:
    """How many characters of the text, with that end, fit."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        fits = length(text[:middle].rstrip() + end, font) <= width
        low, high = (middle, high) if fits else (low, middle - 1)
    return low


def _space(font: FreeTypeFont) -> float:
    return max(font.getlength(" "), SPACE * font.size)


@cache
def _own(size: int) -> FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, FreeTypeFont)  # a Pillow without FreeType has no fonts to scale
    # Raqm, where a Pillow has it, sets this font's spaces too narrow to be seen.
    return font.font_variant(layout_engine=ImageFont.Layout.BASIC)


@cache
def _system(name: str, size: int) -> FreeTypeFont | None:
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None


def _gaps(font: FreeTypeFont, letters: str) -> int:
    """How many of the letters it shows as the box of a missing one."""
    missing = bytes(font.getmask("\uffff"))
    return sum(bytes(font.getmask(letter)) == missing for letter in letters)
