"""The chosen pictures of a video: by seeking where that is proven safe, else in one pass."""

from bisect import bisect_right
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise

import av.filter
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from dvcli.errors import InputError
from dvcli.video.opening import check_size, open_media
from dvcli.video.survey import Damage, Survey, pictures
from dvcli.video.timeline import Timeline, evenly, from_stamps

LONG = 600  # packets; shorter clips are decoded whole
KEYS = 4


class Astray(Exception):
    """Seeking did not land where the timeline says; decode in order instead."""


class Interlaced(Exception):
    """A picture of two fields turned up in a pass without a deinterlacer."""


class Damaged(InputError):
    """Not all of a clip decodes; raised by a pass that was not told to tolerate it."""


class Recounted(Exception):
    """Other frames came out than the packets announced."""

    def __init__(self, timeline: Timeline) -> None:
        super().__init__()
        self.timeline = timeline


def seekable(timeline: Timeline, chosen: list[int]) -> bool:
    """Whether seeking may be tried, and saves at least a third of the decoding."""
    if timeline.pts is None or timeline.count <= LONG or len(timeline.keys) < KEYS:
        return False
    last: dict[int, int] = {}
    for index in chosen:
        last[bisect_right(timeline.keys, timeline.pts[index])] = index
    if 0 in last:
        return False
    work = sum(
        index - bisect_right(timeline.pts, timeline.keys[key - 1]) + 2
        for key, index in last.items()
    )
    return work * 3 <= timeline.count * 2


def by_seeking(clip: Survey, chosen: list[int], threads: int) -> Iterator[VideoFrame]:
    """The chosen pictures, each decoded from the key frame at or before it.

    The first picture after a seek must carry that key frame's stamp, and the picked one its own;
    anything else raises `Astray`.
    """
    timeline = clip.timeline
    assert timeline.pts is not None
    damage = Damage()
    with open_media(clip.path) as container:
        stream = container.streams[clip.stream]
        assert isinstance(stream, VideoStream)
        standing: int | None = None
        coming: Iterator[VideoFrame] = iter(())
        for index in chosen:
            target = timeline.pts[index]
            key = timeline.keys[bisect_right(timeline.keys, target) - 1]
            frame: VideoFrame | None = None
            if key != standing:
                try:
                    container.seek(key, stream=stream, backward=True)
                except FFmpegError:
                    raise Astray from None
                coming = pictures(container, stream, damage, threads)
                frame = next(coming, None)
                if frame is None or frame.pts != key:
                    raise Astray
                standing = key
            while frame is None or (frame.pts is not None and frame.pts < target):
                frame = next(coming, None)
                if frame is None:
                    raise Astray
            if frame.pts != target or frame.interlaced_frame or frame.is_corrupt or damage.errors:
                raise Astray
            check_size(clip.path, frame.width, frame.height)
            yield frame


def in_order(
    clip: Survey,
    timeline: Timeline,
    chosen: list[int],
    *,
    deinterlace: bool,
    tolerate: bool,
    threads: int,
) -> Iterator[VideoFrame]:
    """The chosen pictures from one pass over the clip, which also checks the timeline.

    Raises `Interlaced`, `Recounted`, or `Damaged` for a clip that is not all there.
    A tolerant pass leaves damaged pictures out.
    """
    damage = Damage()
    wanted = set(chosen)
    stamps: list[int | None] = []
    corrupt: set[int] = set()
    with open_media(clip.path) as container:
        stream = container.streams[clip.stream]
        assert isinstance(stream, VideoStream)

        def sound() -> Iterator[VideoFrame]:
            for frame in pictures(container, stream, damage, threads):
                check_size(clip.path, frame.width, frame.height)
                if frame.interlaced_frame and not deinterlace:
                    raise Interlaced
                if frame.is_corrupt:
                    if tolerate:
                        continue
                    corrupt.add(len(stamps))
                stamps.append(frame.pts)
                yield frame

        passing = sound()
        for index, frame in enumerate(bwdif(passing) if deinterlace else passing):
            if index in wanted:
                yield frame
            if index == chosen[-1] and _as_announced(clip, timeline, stamps) and not damage.errors:
                return  # what comes after the range asked for need not be decoded
    broken = wanted & corrupt
    if not tolerate and (damage.errors or clip.claimed > clip.timeline.count or broken):
        whole = max(clip.claimed, clip.timeline.count)
        raise Damaged(
            f"`{clip.path}` is damaged: {len(stamps) - len(corrupt)} of {whole} frames decode",
            hint="`--tolerate-errors` uses those that do",
        )
    if not stamps:
        raise InputError(f"no frame of `{clip.path}` can be decoded", hint="is it complete?")
    if len(stamps) != timeline.count or (timeline.pts and tuple(stamps) != timeline.pts):
        raise Recounted(_recount(stamps, timeline, clip.info.fps))


def _as_announced(clip: Survey, timeline: Timeline, stamps: list[int | None]) -> bool:
    """Whether the pictures so far carry the stamps expected, in a clip that is all there."""
    if timeline.pts is None or clip.claimed > clip.timeline.count:
        return False
    return tuple(stamps) == timeline.pts[: len(stamps)] and len(stamps) < timeline.count


def _recount(stamps: list[int | None], timeline: Timeline, fps: float) -> Timeline:
    """The timeline of what did come out: its own stamps if they only ever rise."""
    known = [stamp for stamp in stamps if stamp is not None]
    rising = all(a < b for a, b in pairwise(known))
    if timeline.pts is not None and len(known) == len(stamps) and rising:
        return from_stamps(known, timeline.tick)
    return evenly(len(stamps), timeline.tick, fps)


def bwdif(frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
    """As many frames as come in, those marked as interlaced made whole by FFmpeg's `bwdif`."""
    graph: av.filter.Graph | None = None
    shape: tuple[int, int, str] | None = None
    for frame in frames:
        if graph is None or shape != (frame.width, frame.height, frame.format.name):
            if graph is not None:
                graph.vpush(None)
                yield from _drain(graph)
            shape = (frame.width, frame.height, frame.format.name)
            graph = _bwdif_graph(frame)
        graph.vpush(frame)
        yield from _drain(graph)
    if graph is not None:
        graph.vpush(None)
        yield from _drain(graph)


def _bwdif_graph(frame: VideoFrame) -> av.filter.Graph:
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width,
        height=frame.height,
        format=frame.format,
        time_base=frame.time_base or Fraction(1, 25),
    )
    filtering = graph.add("bwdif", "mode=send_frame:deint=interlaced")
    graph.link_nodes(source, filtering, graph.add("buffersink")).configure()
    return graph


def _drain(graph: av.filter.Graph) -> Iterator[VideoFrame]:
    while True:
        try:
            yield graph.vpull()
        except (BlockingIOError, EOFError):
            return
