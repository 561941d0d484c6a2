"""GIF, WebP and APNG files put together frame by frame from what Pillow encodes.

Pillow's own `save_all` merges a frame into its predecessor when both are the same, and libwebp
does too: the clip would come back with fewer frames. So each frame is encoded alone, whole, and
the containers, which are simple, are written here.
"""

import struct
import zlib
from collections.abc import Iterator
from fractions import Fraction
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import GifImagePlugin, Image
from PIL.PngImagePlugin import PngInfo

from dvcli.video.metadata import GIF_MARK, KEY, to_xmp

Frames = UInt8[np.ndarray, "f H W 3"]
PER_ROW = 8


def write_animation(path: Path, frames: Frames, rate: Fraction, metadata: str | None) -> None:
    """Write `.gif`, `.webp` or `.apng`, endlessly looping."""
    images = [Image.fromarray(pixels) for pixels in frames]
    match path.suffix:
        case ".gif":
            parts = _gif(images, rate, metadata)
        case ".webp":
            parts = _webp(images, rate, metadata)
        case _:
            parts = _apng(images, rate, metadata)
    with path.open("wb") as file:
        file.writelines(parts)


def write_strip(path: Path, frames: Frames, metadata: str | None) -> None:
    """Write one PNG of all frames in reading order, eight to a row; missing places are black."""
    count, height, width, _ = frames.shape
    columns = min(count, PER_ROW)
    rows = -(-count // columns)
    sheet = np.zeros((rows * height, columns * width, 3), dtype=np.uint8)
    for number, pixels in enumerate(frames):
        top, left = number // columns * height, number % columns * width
        sheet[top : top + height, left : left + width] = pixels
    Image.fromarray(sheet).save(path, format="PNG", pnginfo=_png_text(metadata))


def durations(count: int, rate: Fraction, unit: Fraction, least: int) -> list[int]:
    """Each frame's length in whole units, rounded so that the sum stays within half a unit."""
    edges = [round(Fraction(number) / rate / unit) for number in range(count + 1)]
    return [max(b - a, least) for a, b in pairwise(edges)]


def _gif(images: list[Image.Image], rate: Fraction, metadata: str | None) -> Iterator[bytes]:
    comment = {"comment": GIF_MARK + metadata.encode()} if metadata is not None else {}
    lengths = durations(len(images), rate, Fraction(1, 100), 2)
    for number, (image, length) in enumerate(zip(images, lengths, strict=True)):
        palette = image.quantize(256, dither=Image.Dither.NONE)
        if number == 0:
            yield from GifImagePlugin.getheader(palette, info={"loop": 0, **comment})[0]
        yield from GifImagePlugin.getdata(
            palette, duration=length * 10, include_color_table=number > 0
        )
    yield b";"


def _webp(images: list[Image.Image], rate: Fraction, metadata: str | None) -> Iterator[bytes]:
    """https://developers.google.com/speed/webp/docs/riff_container: VP8X, ANIM, ANMF …, XMP."""
    width, height = images[0].size
    has_xmp, animated = 0x04 if metadata is not None else 0, 0x02
    chunks = [
        _riff(b"VP8X", bytes([animated | has_xmp, 0, 0, 0]) + _u24(width - 1) + _u24(height - 1)),
        _riff(b"ANIM", struct.pack("<IH", 0xFF000000, 0)),
    ]
    lengths = durations(len(images), rate, Fraction(1, 1000), 1)
    for image, length in zip(images, lengths, strict=True):
        still = BytesIO()
        image.save(still, format="WEBP", lossless=True, method=4, quality=70)
        place = _u24(0) + _u24(0) + _u24(width - 1) + _u24(height - 1)
        picture = still.getvalue()[12:]  # without `RIFF`, its length and `WEBP`
        chunks.append(_riff(b"ANMF", place + _u24(length) + b"\x02" + picture))  # 2: no blending
    if metadata is not None:
        chunks.append(_riff(b"XMP ", to_xmp(metadata)))
    body = b"WEBP" + b"".join(chunks)
    yield b"RIFF" + struct.pack("<I", len(body)) + body


def _apng(images: list[Image.Image], rate: Fraction, metadata: str | None) -> Iterator[bytes]:
    """https://www.w3.org/TR/png-3/#apng-frame-based-animation: acTL, then fcTL and data a frame."""
    delay = (1 / rate).limit_denominator(65535)
    width, height = images[0].size
    sequence = 0
    for number, image in enumerate(images):
        still = BytesIO()
        image.save(still, format="PNG", pnginfo=_png_text(metadata) if number == 0 else None)
        chunks = list(_png_chunks(still.getvalue()))
        if number == 0:
            yield b"\x89PNG\r\n\x1a\n"
            yield from (_png(kind, data) for kind, data in chunks if kind in (b"IHDR", b"iTXt"))
            yield _png(b"acTL", struct.pack(">II", len(images), 0))
        control = (sequence, width, height, 0, 0, delay.numerator, delay.denominator, 0, 0)
        yield _png(b"fcTL", struct.pack(">IIIIIHHBB", *control))
        sequence += 1
        for data in (data for kind, data in chunks if kind == b"IDAT"):
            if number == 0:
                yield _png(b"IDAT", data)
            else:
                yield _png(b"fdAT", struct.pack(">I", sequence) + data)
                sequence += 1
    yield _png(b"IEND", b"")


def _png_text(metadata: str | None) -> PngInfo:
    info = PngInfo()
    if metadata is not None:
        info.add_itxt(KEY, metadata)
    return info


def _png_chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        at += length + 12


def _png(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _riff(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def _u24(value: int) -> bytes:
    return value.to_bytes(3, "little")
