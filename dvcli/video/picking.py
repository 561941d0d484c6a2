"""From a path to the frames asked of it: video, animation or folder."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame
from jaxtyping import UInt8

from dvcli.errors import InputError
from dvcli.video.choice import Choice, afford, choose, keep
from dvcli.video.colour import ToBT709, to_rgb, upright
from dvcli.video.decode import (
    Astray,
    Damaged,
    Interlaced,
    Recounted,
    by_seeking,
    in_order,
    seekable,
)
from dvcli.video.framing import fit_to
from dvcli.video.opening import open_media
from dvcli.video.probe import ClipInfo, display_size
from dvcli.video.stills import (
    Pixels,
    animation_frames,
    animation_times,
    folder_frames,
    folder_times,
    is_still,
)
from dvcli.video.survey import Survey, survey
from dvcli.video.timeline import Timeline


@dataclass(frozen=True, kw_only=True)
class Taken:
    """Which frames were written, when they are shown, and what was done to them."""

    source: ClipInfo
    times: tuple[float, ...]
    indices: tuple[int, ...]
    notes: tuple[str, ...]


def describe(path: Path, stream: int | None) -> ClipInfo:
    """What the clip is. Raises `InputError`."""
    if path.is_dir():
        return folder_times(path)[1]
    return animation_times(path)[1] if is_still(path) else survey(path, stream).info


def open_clip(path: Path) -> None:
    """Raise `InputError` unless the file's first bytes are those of something to be read."""
    if not is_still(path):
        with open_media(path):
            pass


def pick(path: Path, choice: Choice, target: Path) -> Taken:
    """Write the chosen frames to `target` as uint8 `.npy` `[f H W 3]`. Raises `InputError`."""
    folder = path.is_dir()
    if not folder and not is_still(path):
        return _pick_video(survey(path, choice.stream), choice, target)
    if choice.stream:
        raise InputError(
            f"`{path}` has no video stream {choice.stream}", hint="leave out `--stream`"
        )
    times, info = folder_times(path) if folder else animation_times(path)
    chosen = choose(path, times, choice, info.duration_s)
    notes: dict[str, None] = {}
    source = (folder_frames if folder else animation_frames)(path, chosen, choice.background)
    afford(path, len(chosen), choice.size or (info.width, info.height))
    keep(target, len(chosen), _framed(source, choice, Fraction(1), notes))
    return Taken(
        source=info,
        times=tuple(times[i] for i in chosen),
        indices=tuple(chosen),
        notes=tuple(notes),
    )


def _pick_video(clip: Survey, choice: Choice, target: Path) -> Taken:
    """Seek where that is safe; else pass over the clip, anew if it turned out to be otherwise."""
    timeline, deinterlace, recounted = clip.timeline, False, False
    # A damaged stream is concealed differently by several threads.
    threads = 1 if choice.tolerate_errors else min(4, os.cpu_count() or 1)
    chosen = _chosen(clip, timeline, choice)
    notes: dict[str, None] = {}
    if seekable(timeline, chosen) and clip.claimed == timeline.count:
        try:
            _fill(clip, chosen, choice, target, notes, partial(by_seeking, clip, chosen, threads))
            return _taken(clip, timeline, chosen, notes)
        except Astray:
            pass
    while True:
        notes = {}
        passing = partial(
            in_order,
            clip,
            timeline,
            chosen,
            deinterlace=deinterlace,
            tolerate=choice.tolerate_errors,
            threads=threads,
        )
        try:
            _fill(clip, chosen, choice, target, notes, passing)
        except Interlaced:
            deinterlace = True
            continue
        except Damaged:
            if threads == 1:
                raise
            threads = 1  # several threads lose some frames around an error: count anew
            continue
        except Recounted as recount:
            if recounted:
                raise InputError(
                    f"`{clip.path}` decodes differently each time", hint="convert it first"
                ) from None
            recounted, timeline = True, recount.timeline
            chosen = _chosen(clip, timeline, choice)
            continue
        if deinterlace:
            notes["deinterlaced"] = None
        if clip.claimed > clip.timeline.count:
            notes[f"damaged: {timeline.count} of {clip.claimed} frames decode"] = None
        elif recounted:
            notes[f"{clip.timeline.count} packets hold {timeline.count} frames"] = None
        return _taken(clip, timeline, chosen, notes)


def _chosen(clip: Survey, timeline: Timeline, choice: Choice) -> list[int]:
    if clip.claimed > clip.timeline.count and not choice.tolerate_errors:
        # Too few frames is not what is wrong with this one: the pass counts what decodes.
        return [timeline.count - 1]
    chosen = choose(clip.path, timeline.times, choice, clip.info.duration_s)
    afford(clip.path, len(chosen), choice.size or (clip.info.width, clip.info.height))
    return chosen


def _taken(clip: Survey, timeline: Timeline, chosen: list[int], notes: dict[str, None]) -> Taken:
    info = clip.info
    if info.rotation:
        notes[f"rotated by {info.rotation}°"] = None
    if info.sar != 1:
        notes[f"pixels of {info.sar} made square: {info.width}×{info.height}"] = None
    if timeline.pts is None:
        notes["no usable time stamps: frames are spaced by their number"] = None
    return Taken(
        source=info,
        times=tuple(timeline.times[i] for i in chosen),
        indices=tuple(chosen),
        notes=tuple(notes),
    )


def _fill(
    clip: Survey,
    chosen: list[int],
    choice: Choice,
    target: Path,
    notes: dict[str, None],
    decode: Callable[[], Iterator[VideoFrame]],
) -> None:
    def upright_pixels() -> Iterator[tuple[Pixels, list[str]]]:
        hdr = ToBT709()
        for frame in decode():
            pixels, said = to_rgb(frame, choice.background, hdr)
            yield upright(pixels, frame), said

    sar = 1 / clip.info.sar if clip.info.rotation % 180 else clip.info.sar
    keep(target, len(chosen), _framed(upright_pixels(), choice, sar, notes))


def _framed(
    source: Iterator[tuple[Pixels, list[str]]],
    choice: Choice,
    sar: Fraction,
    notes: dict[str, None],
) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """Every frame at one size: the one asked for, else that of the first frame as shown."""
    size = choice.size
    stored: tuple[int, ...] | None = None
    for pixels, said in source:
        notes.update(dict.fromkeys(said))
        if stored is None:
            stored = pixels.shape
        elif stored != pixels.shape:
            notes["frames of several sizes, each brought to one"] = None
        if size is None:
            size = display_size(pixels.shape[1], pixels.shape[0], sar, 0)
        yield fit_to(pixels, sar=sar, size=size, fit=choice.fit, background=choice.background)
