"""Frames as a file to look at: mp4 and webm by PyAV, gif, webp, apng and a png strip by Pillow.

The same frames give the same bytes. What was asked for is embedded, see `dvcli.video.metadata`.
"""

import math
import os
import platform
import secrets
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.codec.context import Flags
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation
from av.video.stream import VideoStream
from jaxtyping import UInt8

from dvcli.errors import StorageError, UsageError
from dvcli.video import animate
from dvcli.video.metadata import KEY
from dvcli.video.opening import quieten

FORMATS = (".mp4", ".webm", ".gif", ".webp", ".apng", ".png")
# x264's AVX-512 kernels read bytes that nobody wrote: the same frames gave four files. Those
# of SSE2, which every x86-64 has, also give the same file whatever the machine's generation.
_X86 = platform.machine().lower() in ("x86_64", "amd64")
_KERNELS = {"x264-params": "asm=sse2"} if _X86 else {}
Frames = UInt8[np.ndarray, "f H W 3"]
_FLAGS = int(
    Interpolation.BICUBIC
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.ACCURATE_RND
    | Interpolation.BITEXACT
)


def write(path: Path, frames: Frames, *, fps: float, metadata: str | None, crf: int = 17) -> None:
    """Write uint8 RGB frames at a constant rate, in the format of the path's suffix.

    - mp4: H.264, 4:2:0, BT.709 limited range, tagged so. An odd width or height, which 4:2:0 H.264
      cannot hold, grows by one repeated edge pixel.
    - webm: VP9, likewise; odd sizes stay. `crf` is the quality of these two (0–51, 0–63; lower is
      better); the others are lossless but for a gif's 256 colours a frame.
    - gif: times in steps of 10 ms, rounded so that the whole keeps its length; viewers slow down
      frames under 20 ms, so that is the shortest.
    - webp, apng: every frame is there, also where neighbours are the same.
    - png: all frames side by side, eight to a row.

    The file appears whole or not at all. Raises `UsageError`, `StorageError`.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise UsageError(
            f"`{path}` cannot be written: `{suffix}` is not a known format",
            hint=f"use one of {' '.join(FORMATS)}",
        )
    if not (math.isfinite(fps) and 0 < fps <= 1000):
        raise UsageError(f"the frame rate is {fps:g}, which is not between 0 and 1000")
    if frames.ndim != 4 or not frames.size:
        raise UsageError(f"there are no frames to write to `{path}`")
    rate = Fraction(fps).limit_denominator(1001)
    # The suffix stays last: FFmpeg chooses the format by it.
    temporary = path.with_name(f".{path.stem[:100]}-{secrets.token_hex(4)}{suffix}")
    try:
        if suffix in (".mp4", ".webm"):
            _video(temporary, frames, rate, metadata, crf)
        elif suffix == ".png":
            animate.write_strip(temporary, frames, metadata)
        else:
            animate.write_animation(temporary, frames, rate, metadata)
        _publish(temporary, path)
    except OSError as error:
        raise StorageError(
            f"`{path}` could not be written: {error.strerror or error}",
            hint="is there room, and may you write in that folder?",
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def _publish(temporary: Path, path: Path) -> None:
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _video(path: Path, frames: Frames, rate: Fraction, metadata: str | None, crf: int) -> None:
    quieten()
    mp4 = path.suffix == ".mp4"
    options = {"fflags": "+bitexact"}
    if mp4:
        options["movflags"] = "+faststart+use_metadata_tags"
        frames = np.pad(
            frames,
            ((0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)),
            mode="edge",
        )
    try:
        with av.open(
            f"file:{path.absolute()}", "w", format=path.suffix[1:], options=options
        ) as out:
            if metadata is not None:
                out.metadata[KEY if mp4 else KEY.upper()] = metadata
            stream = out.add_stream("libx264" if mp4 else "libvpx-vp9", rate=rate)
            _configure(stream, frames, rate, crf, mp4)
            for number, pixels in enumerate(frames):
                out.mux(stream.encode(_picture(pixels, number, rate)))
            out.mux(stream.encode(None))
    except FFmpegError as error:
        if isinstance(error, OSError):
            raise
        raise StorageError(f"`{path.name}` could not be encoded: {error.strerror}") from None


def _configure(stream: VideoStream, frames: Frames, rate: Fraction, crf: int, mp4: bool) -> None:
    context = stream.codec_context
    context.width, context.height, context.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
    context.time_base = 1 / rate
    context.thread_count = 1  # the bytes depend on it
    context.flags |= Flags.bitexact
    context.color_range = ColorRange.MPEG
    context.colorspace = Colorspace.ITU709
    context.color_primaries = ColorPrimaries.BT709
    context.color_trc = ColorTrc.BT709
    if mp4:
        context.options = {"crf": str(crf), "preset": "medium", **_KERNELS}
    else:
        context.options = {"crf": str(crf), "b": "0", "deadline": "good", "cpu-used": "4"}


def _picture(pixels: UInt8[np.ndarray, "H W 3"], number: int, rate: Fraction) -> VideoFrame:
    """One frame in BT.709 limited range; FFmpeg's default for untagged RGB would be BT.601."""
    rgb = VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    picture = rgb.reformat(
        format="yuv420p",
        dst_colorspace=Colorspace.ITU709,
        dst_color_range=ColorRange.MPEG,
        interpolation=_FLAGS,
    )
    picture.colorspace = Colorspace.ITU709
    picture.color_range = ColorRange.MPEG
    picture.color_primaries = ColorPrimaries.BT709
    picture.color_trc = ColorTrc.BT709
    picture.pts, picture.duration, picture.time_base = number, 1, 1 / rate
    return picture
