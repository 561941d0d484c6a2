"""Short cuts of real clips in some thirty containers and codecs, and ways of damaging them."""

import random
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from media import real_clips
from PIL import Image

from dvcli.video.write import write

FRAMES = 12
SIZE = (128, 96)  # one of the few that H.263 has
SOUND = "sound"

# file name: (encoder, pixel format, settings of the container, settings of the encoder)
KINDS: dict[str, tuple[str, str, dict[str, str], dict[str, str]]] = {
    "h264.mp4": ("libx264", "yuv420p", {}, {"g": "5"}),
    "fast.mp4": ("libx264", "yuv420p", {"movflags": "+faststart"}, {"bf": "0"}),
    "fragments.mp4": (
        "libx265",
        "yuv420p",
        {"movflags": "frag_keyframe+empty_moov"},
        {"x265-params": "log-level=none"},
    ),
    "av1.mp4": ("libsvtav1", "yuv420p", {}, {"preset": "12"}),
    "prores.mov": ("prores_ks", "yuva444p10le", {}, {}),
    "qtrle.mov": ("qtrle", "argb", {}, {}),
    "png.mov": ("png", "rgb24", {}, {}),
    "h263.3gp": ("h263", "yuv420p", {}, {}),
    "h264.mkv": ("libx264", "yuv420p", {}, {}),
    "ffv1.mkv": ("ffv1", "yuv420p10le", {}, {}),
    "vp9.webm": ("libvpx-vp9", "yuv420p", {}, {"cpu-used": "8", "deadline": "realtime"}),
    "vp8.webm": ("libvpx", "yuva420p", {}, {"auto-alt-ref": "0", "deadline": "realtime"}),
    "mpeg4.avi": ("mpeg4", "yuv420p", {}, {}),
    "mjpeg.avi": ("mjpeg", "yuvj420p", {}, {}),
    "huffyuv.avi": ("huffyuv", "yuv422p", {}, {}),
    "raw.avi": ("rawvideo", "yuv420p", {}, {}),
    "h264.ts": ("libx264", "yuv420p", {}, {}),
    "mpeg2.mpg": ("mpeg2video", "yuv420p", {}, {"flags": "+ildct+ilme"}),
    "flv1.flv": ("flv", "yuv420p", {}, {}),
    "wmv2.asf": ("wmv2", "yuv420p", {}, {}),
    "vp8.ogg": ("libvpx", "yuv420p", {}, {"deadline": "realtime"}),
    "mpeg2.mxf": ("mpeg2video", "yuv422p", {}, {}),
    "snow.nut": ("ffvhuff", "yuv420p", {}, {}),
    "raw.y4m": ("wrapped_avframe", "yuv420p", {}, {}),
    "rv20.rm": ("rv20", "yuv420p", {}, {}),
    "flv1.swf": ("flv", "yuv420p", {}, {}),
    "vp9.ivf": ("libvpx-vp9", "yuv420p", {}, {"cpu-used": "8", "deadline": "realtime"}),
    "bare.h264": ("libx264", "yuv420p", {}, {}),
    "bare.m4v": ("mpeg4", "yuv420p", {}, {}),
    "mpeg2.wtv": ("mpeg2video", "yuv420p", {}, {}),
}
OURS = ("x.gif", "x.webp", "x.apng", "x.avif", "x.png")  # through Pillow
NAMES = (*KINDS, *OURS)
WITH_SOUND = {
    "h264.mp4": "aac",
    "h264.mkv": "aac",
    "h264.ts": "mp2",
    "mpeg4.avi": "mp2",
    "flv1.flv": "aac",
}
FORMATS = {"wmv2.asf": "asf", "vp8.ogg": "ogg", "bare.m4v": "m4v", "flv1.swf": "swf"}
WAYS = ("flip 1", "flip 100", "truncate", "hole", "duplicate", "header")


def cut(number: int) -> np.ndarray:
    """uint8 RGB `[12 96 128 3]`: the first frames of one of the three real clips."""
    clips = sorted(real_clips().values())
    with av.open(str(clips[number % len(clips)])) as source:
        frames = []
        for frame in source.decode(video=0):
            frames.append(frame.to_ndarray(width=SIZE[0], height=SIZE[1], format="rgb24"))
            if len(frames) == FRAMES:
                break
    return np.stack(frames)


def make(folder: Path, name: str) -> Path:
    """The clip of that name in the folder."""
    path = folder / name
    number = NAMES.index(name)
    frames = cut(number)
    if name == "x.avif":
        images = [Image.fromarray(frame) for frame in frames]
        images[0].save(path, save_all=True, append_images=images[1:], duration=40, speed=10)
        return path
    if name in OURS:
        write(path, frames, fps=25, metadata='{"made": "for a test"}')
        return path
    codec, pix_fmt, container, options = KINDS[name]
    with av.open(str(path), "w", format=FORMATS.get(name), options=container) as out:
        out.metadata["title"] = "a cut"
        stream = out.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = *SIZE, pix_fmt
        stream.codec_context.thread_count = 1
        sound = (
            out.add_stream(WITH_SOUND[name], rate=44100, layout="mono")
            if name in WITH_SOUND
            else None
        )
        for index, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if sound is not None:
            quiet = av.AudioFrame(
                format=sound.format.name,
                layout="mono",
                samples=1152 if WITH_SOUND[name] == "mp2" else 1024,
            )
            for plane in quiet.planes:
                plane.update(bytes(plane.buffer_size))
            quiet.sample_rate, quiet.pts = 44100, 0
            out.mux(sound.encode(quiet))
            out.mux(sound.encode(None))
    return path


def damage(data: bytes, way: str, rng: random.Random) -> bytes:
    """The bytes of a file after one kind of damage."""
    spoilt = bytearray(data)
    match way:
        case "flip 1" | "flip 100":
            for _ in range(1 if way == "flip 1" else 100):
                spoilt[rng.randrange(len(spoilt))] ^= 1 << rng.randrange(8)
        case "truncate":
            del spoilt[rng.randrange(1, len(spoilt)) :]
        case "hole":
            start = rng.randrange(len(spoilt))
            length = min(rng.randrange(1, max(len(spoilt) // 4, 2)), len(spoilt) - start)
            spoilt[start : start + length] = bytes(length)
        case "duplicate":
            start = rng.randrange(len(spoilt))
            piece = spoilt[start : start + rng.randrange(1, max(len(spoilt) // 4, 2))]
            place = rng.randrange(len(spoilt))
            spoilt[place:place] = piece
        case _:
            assert way == "header"
            for _ in range(rng.randrange(1, 9)):
                spoilt[rng.randrange(min(len(spoilt), 512))] = rng.choice(
                    (0, 0x7F, 0x80, 0xFF, rng.randrange(256))
                )
    return bytes(spoilt)
