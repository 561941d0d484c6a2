"""Opening a stranger's media file: known formats, no second file, no decoder for giant pictures."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import av.logging
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream

from dvcli.errors import InputError

# No playlist, no `concat`, no `image2`, no device: a format here reads the one file it is given.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,apng,mpegts,mpeg,mpegvideo,mpeg1video,mpeg2video,"
    "ogg,flv,asf,rm,swf,h264,hevc,m4v,h263,vc1,vvc,obu,av1,ivf,dv,mxf,nut,yuv4mpegpipe,wtv,mjpeg"
)
PIXELS = 8192 * 4320
SIDE = 8192
_STILL = Disposition.attached_pic | Disposition.timed_thumbnails
_LIBVPX = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


@contextmanager
def open_media(path: Path) -> Iterator[InputContainer]:
    """The demuxer of a regular file; `InputError` when FFmpeg does not know what it is."""
    quieten()
    # `file:` pins the protocol: a name such as `concat:a|b` is then only a name.
    try:
        container = av.open(
            f"file:{path.absolute()}",
            mode="r",
            options={"format_whitelist": FORMATS, "protocol_whitelist": "file"},
            metadata_errors="surrogateescape",
        )
    except (FFmpegError, UnicodeDecodeError, ValueError) as error:
        if isinstance(error, MemoryError):
            raise
        raise InputError(
            f"`{path}` cannot be read as a video",
            hint="what is read are videos (.mp4, .mov, .webm, .mkv, .avi …), .gif, .webp, .apng and"
            " folders of images; a .mp4 that ends early has lost its index",
        ) from None
    with container:
        yield container


def video_stream(container: InputContainer, path: Path, wanted: int | None) -> VideoStream:
    """The stream to read: number `wanted`, else the largest that is not cover art."""
    streams = list(container.streams.video)
    if wanted is not None:
        streams = [stream for stream in streams if stream.index == wanted]
        if not streams:
            there = ", ".join(str(s.index) for s in container.streams.video) or "none"
            raise InputError(
                f"`{path}` has no video stream {wanted}", hint=f"its video streams are: {there}"
            )
    else:
        streams = [stream for stream in streams if not is_still(stream)]
    if not streams:
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
        raise InputError(
            f"`{path}` has no video, only {kinds}", hint="give a file with moving images"
        )
    decodable = [stream for stream in streams if has_decoder(stream)]
    if not decodable:
        raise InputError(
            f"`{path}` uses a video codec that cannot be decoded here",
            hint="convert it to H.264 first",
        )
    stream = min(
        decodable,
        key=lambda s: (-s.width * s.height, not s.disposition & Disposition.default, s.index),
    )
    check_size(path, stream.width, stream.height)
    return stream


def is_still(stream: VideoStream) -> bool:
    """Whether a stream is a picture beside the film: cover art, thumbnails."""
    return bool(stream.disposition & _STILL)


def has_decoder(stream: VideoStream) -> bool:
    """Whether this FFmpeg can decode the stream (there may be no codec context at all)."""
    context: object = stream.codec_context
    return context is not None


def check_size(path: Path, width: int, height: int) -> None:
    """Refuse pictures without area, or larger than 8192×4320, before anything decodes them."""
    if width <= 0 or height <= 0:
        raise InputError(
            f"`{path}` does not say how large its pictures are", hint="is it complete?"
        )
    if max(width, height) > SIDE or width * height > PIXELS:
        raise InputError(
            f"`{path}` is {width}×{height}, larger than the limit of 8192×4320",
            hint="scale it down first",
        )


def codec_name(stream: VideoStream) -> str:
    """The codec's name (`av1`), whichever decoder serves it (`libdav1d`)."""
    return stream.codec_context.codec.canonical_name


def alpha_decoder(stream: VideoStream) -> str | None:
    """The decoder that keeps a WebM clip's transparency, which FFmpeg's own VP8/VP9 drop."""
    tags = {key.lower(): value for key, value in stream.metadata.items()}
    return _LIBVPX.get(codec_name(stream)) if tags.get("alpha_mode") == "1" else None


def quieten() -> None:
    """Keep FFmpeg's own log off stderr, unless `dvcli.video` is being debugged."""
    if not logging.getLogger("dvcli.video").isEnabledFor(logging.DEBUG):
        av.logging.set_libav_level(av.logging.PANIC)
        av.logging.set_level(None)
