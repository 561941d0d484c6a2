"""Exactly the right frames, in the right order, from every container and by every way to them."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from media import (
    count_clip,
    every_frame,
    images,
    make_clip,
    number_of,
    numbered,
    numbers_of,
    real_clips,
)

from dvcli.errors import InputError, UsageError
from dvcli.video import decode, picking
from dvcli.video.choice import Choice
from dvcli.video.probe import probe
from dvcli.video.read import read

FAST = {"deadline": "realtime", "cpu-used": "8"}
CONTAINERS: dict[str, dict[str, object]] = {
    "clip.mp4": {},
    "clip.mkv": {},
    "hevc.mp4": {"codec": "libx265", "options": {"x265-params": "log-level=none"}},
    "clip.webm": {"codec": "libvpx-vp9", "options": FAST},
    "altref.webm": {
        "codec": "libvpx",
        "options": {**FAST, "auto-alt-ref": "1", "lag-in-frames": "9"},
    },
    "clip.avi": {"codec": "mpeg4"},
    "h264.avi": {},
    "clip.ts": {"format": "mpegts"},
    "clip.mpg": {"codec": "mpeg2video", "format": "mpeg"},
    "clip.m1v": {"codec": "mpeg1video", "format": "mpeg1video"},
    "clip.flv": {},
    "clip.mov": {"codec": "prores_ks", "pix_fmt": "yuv422p10le"},
    "clip.wmv": {"codec": "wmv2", "format": "asf"},
    "clip.ogv": {"codec": "libvpx", "format": "ogg", "options": FAST},
    "clip.h264": {"format": "h264"},
    "rgb.mkv": {"codec": "ffv1", "pix_fmt": "bgr0"},
    "grey.mkv": {"codec": "ffv1", "pix_fmt": "gray"},
    "ten-bit-444.mkv": {"codec": "ffv1", "pix_fmt": "yuv444p10le"},
    "full.mjpeg": {"codec": "mjpeg", "pix_fmt": "yuvj420p", "format": "mjpeg"},
}


def every(path: Path) -> list[int]:
    return numbers_of(every_frame(path).frames)


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_gives_all_frames_in_order(name: str, tmp_path: Path) -> None:
    clip = count_clip(tmp_path / name, 31, **CONTAINERS[name])
    assert every(clip) == list(range(31))


@pytest.mark.parametrize("name", ["clip.mp4", "clip.webm", "h264.avi", "clip.mpg"])
def test_eight_frames_are_evenly_spaced_with_both_ends(name: str, tmp_path: Path) -> None:
    clip = count_clip(tmp_path / name, 60, **CONTAINERS[name])
    picked = read(clip, frames=8, size=(96, 64), fit="crop")
    expected = [0, 8, 17, 25, 34, 42, 51, 59]
    assert numbers_of(picked.frames) == expected
    assert list(picked.indices) == expected
    assert picked.times == pytest.approx([i / 25 for i in expected], abs=1e-3)


def test_a_varying_frame_rate_is_spaced_by_time(tmp_path: Path) -> None:
    stamps = [*range(0, 500, 10), *range(500, 5501, 500)]  # 50 in half a second, then two a second
    clip = count_clip(tmp_path / "x.mkv", len(stamps), stamps=stamps, tick=Fraction(1, 1000))
    picked = read(clip, frames=6, size=None, fit="crop")
    assert picked.times == pytest.approx([0, 1.0, 2.0, 3.5, 4.5, 5.5], abs=0.51)
    assert [stamps[n] / 1000 for n in numbers_of(picked.frames)] == pytest.approx(picked.times)
    assert numbers_of(picked.frames)[1] >= 50


def test_the_range_is_in_seconds_from_the_first_frame(tmp_path: Path) -> None:
    stamps = list(range(100, 150))  # the stream itself starts at 4 s
    clip = count_clip(tmp_path / "x.mkv", 50, stamps=stamps)
    picked = read(clip, frames=3, size=None, fit="crop", start=0.4, end=0.8)
    assert numbers_of(picked.frames) == [10, 15, 20]
    assert picked.times == pytest.approx((0.4, 0.6, 0.8))


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """900 frames, a key frame every 50, with B-frames."""
    return count_clip(
        tmp_path_factory.mktemp("long") / "long.mp4",
        900,
        options={"g": "50", "bf": "3", "preset": "veryfast", "sc_threshold": "0"},
    )


def choice(frames: "int | None") -> Choice:
    return Choice(
        frames=frames, size=None, fit="crop", start=0, end=None, stream=None,
        background=(0, 0, 0), tolerate_errors=False,
    )  # fmt: skip


def test_a_long_clip_is_read_by_seeking(
    long_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        pytest.fail("the clip was decoded in order")

    monkeypatch.setattr(picking, "in_order", refused)
    taken = picking.pick(long_clip, choice(8), tmp_path / "f.npy")
    assert numbers_of(np.load(tmp_path / "f.npy")) == list(taken.indices)


def test_seeking_and_one_pass_give_the_same_pixels(
    long_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sought = read(long_clip, frames=11, size=None, fit="crop")
    monkeypatch.setattr(decode, "LONG", 10_000)
    picking.pick(long_clip, choice(11), tmp_path / "f.npy")
    assert np.array_equal(sought.frames, np.load(tmp_path / "f.npy"))


def test_a_seek_that_lands_elsewhere_is_noticed_and_the_clip_read_in_order(
    long_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = decode.pictures
    calls = []

    def late(*arguments: object) -> object:
        frames = pictures(*arguments)  # type: ignore[arg-type]
        calls.append(1)
        if len(calls) == 2:
            next(frames)  # the second seek seems to land one frame late
        return frames

    monkeypatch.setattr(decode, "pictures", late)
    taken = picking.pick(long_clip, choice(8), tmp_path / "f.npy")
    assert len(calls) == 3
    assert numbers_of(np.load(tmp_path / "f.npy")) == list(taken.indices)


def test_a_count_that_was_wrong_is_corrected_in_a_second_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = count_clip(tmp_path / "x.mkv", 40)
    surveyed = picking.survey

    def overcounted(path: Path, stream: "int | None") -> object:
        found = surveyed(path, stream)
        line = decode.evenly(43, found.timeline.tick, 25)
        return type(found)(
            path=path, stream=found.stream, info=found.info, timeline=line, claimed=43
        )

    monkeypatch.setattr(picking, "survey", overcounted)
    taken = picking.pick(clip, choice(8), tmp_path / "f.npy")
    assert taken.indices == (0, 6, 11, 17, 22, 28, 33, 39)
    assert numbers_of(np.load(tmp_path / "f.npy")) == list(taken.indices)


def test_too_few_frames_are_refused_with_their_number(tmp_path: Path) -> None:
    clip = count_clip(tmp_path / "x.mp4", 5)
    with pytest.raises(InputError, match="has 5 frames, fewer than the 8 asked for") as refusal:
        read(clip, frames=8, size=(64, 64), fit="crop")
    assert refusal.value.hint == "`--frames 5` takes them all"


def test_a_start_after_the_end_of_the_clip_is_refused(tmp_path: Path) -> None:
    clip = count_clip(tmp_path / "x.mp4", 25)
    with pytest.raises(InputError, match="has no frame from 3 s") as refusal:
        read(clip, frames=1, size=None, fit="crop", start=3)
    assert refusal.value.hint == "it lasts 1.00 s"


def test_a_background_that_is_no_colour_is_a_usage_error(tmp_path: Path) -> None:
    clip = count_clip(tmp_path / "x.mp4", 2)
    with pytest.raises(UsageError, match="`#12345` is not a colour"):
        read(clip, frames=1, size=None, fit="pad", background="#12345")


@pytest.mark.parametrize("name", real_clips())
def test_a_real_clip_gives_eight_frames(name: str) -> None:
    picked = read(real_clips()[name], frames=8, size=(64, 48), fit="crop")
    count = {"bikes.mp4": 250, "bigbuckbunny.mp4": 132, "carphone_pristine.mp4": 120}[name]
    assert picked.frames.shape == (8, 48, 64, 3)
    assert picked.source.frames == count
    assert list(picked.indices) == np.round(np.linspace(0, count - 1, 8)).astype(int).tolist()


def test_probe_counts_and_times_what_is_there(tmp_path: Path) -> None:
    info = probe(count_clip(tmp_path / "x.mkv", 30, rate=Fraction(30000, 1001)))
    assert (info.kind, info.codec, info.frames) == ("video", "h264", 30)
    assert (info.width, info.height) == (96, 64)
    assert info.fps == pytest.approx(30000 / 1001)
    assert info.duration_s == pytest.approx(1.001, abs=2e-3)


def test_a_folder_is_read_in_the_order_people_count(tmp_path: Path) -> None:
    folder = images(tmp_path / "f", ["1.png", "2.PNG", "10.jpg", "frame 011.webp"])
    (folder / "notes.txt").write_text("not an image")
    (folder / ".hidden.png").write_text("nor this")
    picked = every_frame(folder)
    assert numbers_of(picked.frames) == [0, 1, 2, 3]
    assert (picked.source.kind, picked.source.frames) == ("folder", 4)


def test_images_of_several_sizes_come_out_as_one(tmp_path: Path) -> None:
    folder = images(tmp_path / "f", ["1.png", "2.png"], [(96, 64), (192, 128)])
    picked = every_frame(folder)
    assert picked.frames.shape == (2, 64, 96, 3)
    assert numbers_of(picked.frames) == [0, 1]


def test_sixteen_bit_grey_images_keep_their_levels(tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / "f"
    folder.mkdir()
    Image.fromarray(np.full((16, 16), 32896, np.uint16)).save(folder / "1.png")
    assert read(folder, frames=1, size=None, fit="crop").frames[0, 0, 0].tolist() == [128] * 3


def test_frame_numbers_survive_their_own_barcode() -> None:
    assert [number_of(numbered(n)) for n in (0, 1, 2047, 4095)] == [0, 1, 2047, 4095]


def test_the_same_clip_gives_the_same_pixels_twice(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "x.mp4", [numbered(i) for i in range(30)], options={"crf": "35"})
    first = read(clip, frames=8, size=(50, 50), fit="crop").frames
    assert np.array_equal(first, read(clip, frames=8, size=(50, 50), fit="crop").frames)
