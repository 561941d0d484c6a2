"""What a clip is: all of it demuxed, one picture decoded, nothing believed that a header says."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

from av.codec.context import CodecContext
from av.container import InputContainer
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import ColorTrc
from av.video.stream import VideoStream

from dvcli.errors import InputError
from dvcli.video.opening import (
    PIXELS,
    alpha_decoder,
    check_size,
    codec_name,
    has_decoder,
    open_media,
    video_stream,
)
from dvcli.video.probe import ClipInfo, StreamInfo, display_size
from dvcli.video.timeline import Packet, Timeline, from_packets

_MOV = "mov,mp4,m4a,3gp,3g2,mj2"
# PyAV has no packet for a stream that turns up after the file was opened, and says so like this.
UNREADABLE = (FFmpegError, IndexError)
_TIMED = ("matroska,webm", "flv", "asf")  # their headers carry a duration written at the end


@dataclass(frozen=True, kw_only=True)
class Survey:
    """A clip's description, the line of its frames, and how many frames its container claims.

    `claimed` exceeds `timeline.count` only when the file ends before its own index says it does.
    """

    path: Path
    stream: int
    info: ClipInfo
    timeline: Timeline
    claimed: int


def survey(path: Path, wanted: int | None) -> Survey:
    """Demux the clip once and decode its first picture. Raises `InputError`."""
    with open_media(path) as container:
        stream = video_stream(container, path, wanted)
        packets, hidden, seconds, whole = _demux(container, stream)
        if not packets:
            raise InputError(f"`{path}` holds no frames", hint="is it complete?")
        rate = float(stream.average_rate or stream.guessed_rate or 25)
        timeline = from_packets(packets, stream.time_base or Fraction(1, 1000), rate)
        fps = _fps(timeline, rate)
        claimed = _claimed(container, stream, timeline.count, hidden, seconds, whole)
        sar = stream.sample_aspect_ratio or Fraction(1)
        sar = sar if Fraction(1, 10) <= sar <= 10 else Fraction(1)
        streams = tuple(_listed(container))
        name, codec = container.format.name, codec_name(stream)
        transparent = alpha_decoder(stream) is not None
        index = stream.index
    first = first_picture(path, index)
    rotation = round(first.rotation / 90) * 90 % 360
    width, height = display_size(first.width, first.height, sar, rotation)
    last = max(packets, key=lambda p: p.pts or 0).duration
    info = ClipInfo(
        kind="video",
        container=name,
        codec=codec,
        width=width,
        height=height,
        rotation=rotation,
        sar=sar,
        frames=timeline.count,
        duration_s=timeline.times[-1] + (float(last * timeline.tick) if last > 0 else 1 / fps),
        fps=fps,
        color_trc=_trc(first),
        alpha=transparent or any(c.is_alpha for c in first.format.components),
        interlaced=first.interlaced_frame,
        streams=streams,
    )
    return Survey(path=path, stream=index, info=info, timeline=timeline, claimed=claimed)


def first_picture(path: Path, index: int) -> VideoFrame:
    """The first picture that decodes; `InputError` when none does."""
    with open_media(path) as container:
        stream = container.streams[index]
        assert isinstance(stream, VideoStream)
        damage = Damage()
        for frame in pictures(container, stream, damage, threads=1):
            check_size(path, frame.width, frame.height)
            return frame
    raise InputError(f"no frame of `{path}` can be decoded", hint="is it complete?")


@dataclass
class Damage:
    """How many errors the decoder or demuxer met so far."""

    errors: int = 0


def pictures(
    container: InputContainer, stream: VideoStream, damage: Damage, threads: int
) -> Iterator[VideoFrame]:
    """Every picture from where the container stands, in presentation order; errors are counted."""
    decoder: VideoCodecContext = stream.codec_context
    better = alpha_decoder(stream)
    if better is not None:
        decoder = cast(VideoCodecContext, CodecContext.create(better, "r"))
    if not decoder.is_open:
        # A decoder pads to whole blocks before it counts, hence the eighth on top.
        decoder.options = {"max_pixels": str(PIXELS * 9 // 8)}
        decoder.thread_count = threads
        decoder.thread_type = "AUTO"
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            break
        except UNREADABLE as error:
            _unless_out_of_memory(error)
            damage.errors += 1
            break
        if packet.size == 0:  # a decoder would take an empty packet for the end of the stream
            continue
        try:
            frames = decoder.decode(packet)
        except FFmpegError as error:
            _unless_out_of_memory(error)
            damage.errors += 1
            continue
        yield from frames
    try:
        yield from decoder.decode(None)
    except FFmpegError as error:
        _unless_out_of_memory(error)
        damage.errors += 1


def _unless_out_of_memory(error: Exception) -> None:
    if isinstance(error, MemoryError):
        raise error


def _demux(container: InputContainer, stream: VideoStream) -> tuple[list[Packet], int, float, bool]:
    """The stream's packets, and how many more an edit list hides; the last second that any stream
    reaches; and whether the file could be read to its end.
    """
    packets: list[Packet] = []
    hidden = 0
    end = 0.0
    demuxed = container.demux()
    while True:
        try:
            packet = next(demuxed)
        except StopIteration:
            return packets, hidden, end, True
        except UNREADABLE as error:
            _unless_out_of_memory(error)
            return packets, hidden, end, False
        stamp = packet.pts if packet.pts is not None else packet.dts
        if packet.size == 0:
            continue
        if stamp is not None and packet.time_base is not None:
            end = max(end, float((stamp + (packet.duration or 0)) * packet.time_base))
        if packet.stream_index != stream.index:
            continue
        if packet.is_discard:
            hidden += 1
        else:
            packets.append(
                Packet(
                    pts=packet.pts,
                    dts=packet.dts,
                    key=packet.is_keyframe,
                    duration=packet.duration or 0,
                )
            )


def _claimed(
    container: InputContainer,
    stream: VideoStream,
    count: int,
    hidden: int,
    end: float,
    whole: bool,
) -> int:
    """How many frames the container's index or header says there are, if that is to be believed.

    Of mp4 the index is read, after edit lists have shortened it; the others' frame counts are off
    by a few in sound files, so only a gap of a twentieth and a second counts as a missing end.
    """
    if container.format.name == _MOV:
        return max(count, len(stream.index_entries) - hidden)
    if container.format.name in _TIMED and container.duration:
        start = (container.start_time or 0) / 1e6
        seconds = container.duration / 1e6  # from 0, not from the first frame
        if seconds > max(end * 1.05, end + 1):
            return max(count + 1, round(count * (seconds - start) / max(end - start, 1e-3)))
    if container.format.name == "avi" and stream.frames > count * 1.05 + 2:
        return stream.frames
    return count if whole else count + 1


def _fps(timeline: Timeline, rate: float) -> float:
    """The mean frame rate; the container's own figure where both agree to half a percent."""
    if timeline.pts is None or timeline.count < 2 or timeline.times[-1] <= 0:
        return rate
    measured = (timeline.count - 1) / timeline.times[-1]
    return rate if abs(measured - rate) <= 0.005 * rate else measured


def _listed(container: InputContainer) -> Iterator[StreamInfo]:
    for stream in container.streams.video:
        if has_decoder(stream):
            yield StreamInfo(
                index=stream.index,
                codec=codec_name(stream),
                width=stream.width,
                height=stream.height,
            )


def _trc(frame: VideoFrame) -> str | None:
    try:
        found = ColorTrc(frame.color_trc)
    except ValueError:
        return None
    return None if found == ColorTrc.UNSPECIFIED else found.name.lower()
