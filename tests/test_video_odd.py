"""What odd media do: one row of the table below for each kind, and what is shown for it.

| input | outcome | test |
|---|---|---|
| pixels that are not square | made square before cropping | `..._sample_aspect_ratio_...` |
| rotation by 90, 180, 270, mirrored | upright | `..._display_matrix_...` |
| PQ, HLG | converted to BT.709, and said | `..._hdr_...` |
| alpha: ProRes, VP9, VP8, APNG, GIF, WebP | laid over the background colour | `..._alpha_...` |
| BT.601, BT.709, limited, full, untagged | the right colours | `..._matrix_and_range_...` |
| interlaced | deinterlaced, and said | `test_interlaced_...` |
| only sound, empty, text, random, no images, cut index | one line, exit 3 | `..._is_no_clip_...` |
| cut mp4, mkv | refused with what decodes; `tolerate_errors` uses it | `test_a_cut_...` |
| damaged in the middle | refused; `tolerate_errors` leaves the damage out | `test_damage_...` |
| cover art | skipped | `test_cover_art_...` |
| several video streams | the largest, or the one asked for | `test_the_largest_...` |
| size change in mid-stream | every frame at one size | `test_a_size_change_...` |
| fewer frames than asked | exit 3 naming the number | in the tests of `read` |
| animated WebP, GIF, APNG | frames and times | `test_an_animation_...` |
| a folder of images | natural order | in the tests of `read` |
| URL, `concat:`, playlists | refused | in the hostile tests |
"""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media import count_clip, encode, every_frame, make_clip, numbered, numbers_of, silence
from PIL import Image

from dvcli.errors import InputError
from dvcli.video.probe import probe
from dvcli.video.read import read

PATCHES = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (128, 128, 128), (0, 0, 0)]
CORNERS = np.zeros((64, 96, 3), np.uint8)  # red top left, green top right, blue bottom left
CORNERS[:32, :48], CORNERS[:32, 48:], CORNERS[32:, :48] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
LOSSLESS = {"crf": "0", "preset": "ultrafast"}


def patches(width: int = 32, height: int = 48) -> np.ndarray:
    row = np.repeat(np.array(PATCHES, np.uint8), width, axis=0)
    return np.repeat(row[None], height, axis=0)


def seen(picture: np.ndarray) -> list[tuple[int, ...]]:
    """The colour in the middle of each patch."""
    width = picture.shape[1] // len(PATCHES)
    row = picture[picture.shape[0] // 2]
    return [tuple(int(v) for v in row[width // 2 + i * width]) for i in range(len(PATCHES))]


@pytest.mark.parametrize(("sar", "size"), [((2, 1), (192, 64)), ((1, 2), (96, 128))])
def test_a_sample_aspect_ratio_makes_pixels_square(
    sar: tuple[int, int], size: tuple[int, int], tmp_path: Path
) -> None:
    clip = count_clip(tmp_path / "x.mp4", 3, sar=Fraction(*sar))
    picked = every_frame(clip)
    assert picked.frames.shape[1:3] == size[::-1]
    assert (picked.source.width, picked.source.height) == size
    assert numbers_of(picked.frames) == [0, 1, 2]


def test_a_sample_aspect_ratio_counts_before_cropping(tmp_path: Path) -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:, 16:48] = 255  # at 2:1 this is a square in the middle of a picture twice as wide
    clip = make_clip(tmp_path / "x.mp4", [picture], sar=Fraction(2), options=LOSSLESS)
    frame = read(clip, frames=1, size=(64, 64), fit="crop").frames[0]
    assert frame[:, 2:-2].min() > 240  # not the black beside it


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_a_display_matrix_turns_and_mirrors_exactly(
    rotation: int, mirrored: bool, tmp_path: Path
) -> None:
    plain = every_frame(make_clip(tmp_path / "p.mp4", [CORNERS], options=LOSSLESS)).frames[0]
    clip = make_clip(
        tmp_path / "x.mp4", [CORNERS], rotation=rotation, mirrored=mirrored, options=LOSSLESS
    )
    picked = every_frame(clip)
    turned = np.rot90(plain, k=rotation // 90)
    expected = turned[:, ::-1] if mirrored else turned
    assert np.array_equal(picked.frames[0], expected)
    assert picked.frames.shape[1:3] == (picked.source.height, picked.source.width)


@pytest.mark.parametrize("matrix", [1, 5], ids=["BT.709", "BT.601"])
@pytest.mark.parametrize("limits", [1, 2], ids=["limited", "full"])
def test_the_matrix_and_range_of_the_stream_give_its_colours(
    matrix: int, limits: int, tmp_path: Path
) -> None:
    clip = make_clip(
        tmp_path / "x.mp4",
        [patches()] * 2,
        options=LOSSLESS,
        tags={"colorspace": matrix, "color_range": limits},
        convert={"dst_colorspace": matrix, "dst_color_range": limits},
    )
    picked = every_frame(clip)
    assert np.abs(np.array(seen(picked.frames[1])) - PATCHES).max() <= 3
    assert picked.notes == ()


@pytest.mark.parametrize(
    ("width", "matrix", "note"), [(32, 5, "BT.601"), (216, 1, "BT.709")], ids=["SD", "HD"]
)
def test_an_untagged_matrix_is_that_of_its_size(
    width: int, matrix: int, note: str, tmp_path: Path
) -> None:
    clip = make_clip(
        tmp_path / "x.mp4",
        [patches(width)],
        options=LOSSLESS,
        tags={"colorspace": 2, "color_range": 1},
        convert={"dst_colorspace": matrix, "dst_color_range": 1},
    )
    picked = every_frame(clip)
    assert np.abs(np.array(seen(picked.frames[0])) - PATCHES).max() <= 3
    assert picked.notes == (f"untagged colour read as {note}",)


def pq(nits: float) -> float:
    """SMPTE ST 2084, inverse EOTF."""
    y = (nits / 10000) ** 0.1593017578125
    return float(((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375)


def hlg(signal_nits: float) -> float:
    """ARIB STD-B67, the signal of a grey at these cd/m² on a display of 1000 cd/m²."""
    e = (signal_nits / 1000) ** (1 / 1.2)
    return float(
        np.sqrt(3 * e) if e <= 1 / 12 else 0.17883277 * np.log(12 * e - 0.28466892) + 0.55991073
    )


@pytest.mark.parametrize(
    ("transfer", "signal", "name"), [(16, pq, "PQ"), (18, hlg, "HLG")], ids=["PQ", "HLG"]
)
def test_hdr_becomes_bt709_with_diffuse_white_far_brighter_than_read_plainly(
    transfer: int, signal: Callable[[float], float], name: str, tmp_path: Path
) -> None:
    levels = np.array([64 + 876 * signal(nits) for nits in (0.01, 50, 203)]).round()
    luma = np.repeat(np.repeat(levels.astype(np.uint16)[None], 16, 0), 32, 1)
    tags = {"color_trc": transfer, "color_primaries": 9, "colorspace": 9, "color_range": 1}
    path = tmp_path / "x.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 16, "yuv420p10le"
        frame = av.VideoFrame(96, 16, "yuv420p10le")
        grey = np.full((8, 48), 512, np.uint16)
        for plane, values in zip(frame.planes, (luma, grey, grey), strict=True):
            rows = np.zeros((plane.height, plane.line_size // 2), np.uint16)
            rows[:, : values.shape[1]] = values
            plane.update(rows.tobytes())
        for tag, value in tags.items():
            setattr(stream.codec_context, tag, value)
            setattr(frame, tag, value)
        frame.pts = 0
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    picked = every_frame(path)
    black, middle, white = (picked.frames[0, 8, x].astype(int) for x in (16, 48, 80))
    assert picked.notes == (f"HDR ({name}) converted to BT.709",)
    assert black.max() <= 5
    assert np.ptp(middle) <= 3
    # PQ is absolute: 203 cd/m² is white, 50 what a BT.1886 display shows as a quarter of it; read
    # plainly they would be 111 and 146.
    if name == "PQ":
        assert middle.mean() == pytest.approx(255 * (50 / 203) ** (1 / 2.4), abs=3)
        assert white.mean() == pytest.approx(255, abs=3)
    else:
        assert middle.mean() < white.mean() < 255


ALPHA_CLIPS: dict[str, dict[str, object]] = {
    "prores.mov": {"codec": "prores_ks", "pix_fmt": "yuva444p10le"},
    "vp9.webm": {"codec": "libvpx-vp9", "pix_fmt": "yuva420p", "tag_metadata": {"alpha_mode": "1"}},
    "vp8.webm": {
        "codec": "libvpx",
        "pix_fmt": "yuva420p",
        "tag_metadata": {"alpha_mode": "1"},
        "options": {"auto-alt-ref": "0"},
    },
    "qtrle.mov": {"codec": "qtrle", "pix_fmt": "argb"},
}


def half_transparent() -> np.ndarray:
    """White; the left half is transparent."""
    picture = np.full((64, 96, 4), 255, np.uint8)
    picture[:, :48, 3] = 0
    return picture


@pytest.mark.parametrize("name", ALPHA_CLIPS)
def test_alpha_is_laid_over_the_background(name: str, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / name, [half_transparent()] * 3, **ALPHA_CLIPS[name])  # type: ignore[arg-type]
    picked = every_frame(clip, background="#2060a0")
    left, right = picked.frames[2, 32, 20].astype(int), picked.frames[2, 32, 76].astype(int)
    assert np.abs(left - (0x20, 0x60, 0xA0)).max() <= 4
    assert right.min() >= 250
    assert picked.source.alpha
    assert "transparency laid over the background colour" in picked.notes


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_alpha_of_an_animation_is_laid_over_the_background(suffix: str, tmp_path: Path) -> None:
    first = Image.fromarray(half_transparent())
    second = Image.fromarray(half_transparent()[:, ::-1])
    path = tmp_path / f"x.{suffix}"
    first.save(
        path, save_all=True, append_images=[second], duration=100, lossless=True, disposal=2
    ) if suffix != "webp" else first.save(
        path, save_all=True, append_images=[second], duration=100, lossless=True
    )
    frames = every_frame(path, background="#ff0000").frames
    assert [frames[i, 32, x].tolist() for i in (0, 1) for x in (20, 76)] == [
        [255, 0, 0],
        [255, 255, 255],
        [255, 255, 255],
        [255, 0, 0],
    ]


def combs(step: int) -> list[np.ndarray]:
    """A bar moving `step` pixels a field, two moments woven into each picture."""
    pictures = []
    for frame in range(12):
        picture = np.full((64, 128, 3), 40, np.uint8)
        for field in (0, 1):
            x = 8 + (2 * frame + field) * step
            picture[field::2, x : x + 24] = 220
        pictures.append(picture)
    return pictures


def combing(picture: np.ndarray) -> float:
    """How much more neighbouring rows differ than rows of one field."""
    grey = picture.mean(axis=2)
    return float(np.abs(grey[1:] - grey[:-1]).mean())


def test_interlaced_fields_are_taken_apart_and_all_frames_kept(tmp_path: Path) -> None:
    clip = make_clip(
        tmp_path / "x.mpg",
        combs(3),
        codec="mpeg2video",
        format="mpeg",
        options={"flags": "+ildct+ilme", "top": "1", "b": "4000000", "field_order": "tt"},
    )
    picked = every_frame(clip)
    assert "deinterlaced" in picked.notes
    assert picked.source.interlaced
    assert len(picked.frames) == 12
    assert combing(picked.frames[5]) < 0.2 * combing(combs(3)[5])


def junk(path: Path, name: str) -> Path:
    rng = np.random.default_rng(7)
    if name == "audio":
        return silence(path / "x.m4a")
    if name == "no images":
        (path / "folder").mkdir()
        (path / "folder" / "readme.txt").write_text("nothing here")
        return path / "folder"
    whole_clip = count_clip(path / "whole.mp4", 50)  # its index is at the end
    contents = {
        "empty": b"",
        "text": b"not a film\n" * 100,
        "random": rng.bytes(20_000),
        "cut index": whole_clip.read_bytes()[:-400],
        "cut image": b"\x89PNG\r\n\x1a\n" + rng.bytes(100),
    }
    target = path / ("x.png" if name == "cut image" else "x.mp4")
    target.write_bytes(contents[name])
    return target


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("audio", "has no video, only audio"),
        ("no images", "holds no images"),
        ("empty", "is empty"),
        ("text", "cannot be read as a video"),
        ("random", "cannot be read as a video"),
        ("cut index", "cannot be read as a video"),
        ("cut image", "cannot be read as an image"),
    ],
)
def test_what_is_no_clip_is_refused_in_one_line(name: str, message: str, tmp_path: Path) -> None:
    path = junk(tmp_path, name)
    for task in (lambda: read(path, frames=8, size=(64, 64), fit="crop"), lambda: probe(path)):
        with pytest.raises(InputError) as refusal:
            task()
        assert message in refusal.value.message
        assert str(path) in refusal.value.message
        assert "\n" not in refusal.value.message
        assert refusal.value.hint
        assert refusal.value.exit_code == 3


CUT: dict[str, dict[str, object]] = {
    "x.mp4": {"container": {"movflags": "+faststart"}},
    "x.mkv": {},
}


@pytest.mark.parametrize("name", CUT)
def test_a_cut_clip_is_refused_with_what_decodes_or_used_on_request(
    name: str, tmp_path: Path
) -> None:
    clip = count_clip(tmp_path / name, 200, options={"crf": "1", "g": "10", "bf": "0"}, **CUT[name])
    data = clip.read_bytes()
    clip.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"is damaged: \d+ of \d+ frames decode") as refusal:
        read(clip, frames=8, size=None, fit="crop")
    good, claimed = (int(word) for word in refusal.value.message.split() if word.isdigit())
    assert 60 <= good <= 140
    assert claimed == pytest.approx(200, abs=10)
    assert refusal.value.hint == "`--tolerate-errors` uses those that do"
    picked = read(clip, frames=8, size=None, fit="crop", tolerate_errors=True)
    assert numbers_of(picked.frames) == list(picked.indices)
    assert picked.indices[-1] == good - 1
    assert any(note.startswith("damaged") for note in picked.notes)


def test_damage_in_the_middle_is_refused_or_left_out_on_request(tmp_path: Path) -> None:
    clip = count_clip(tmp_path / "x.mov", 60, codec="png", pix_fmt="rgb24")
    data = bytearray(clip.read_bytes())
    marks = [i for i in range(len(data)) if data[i : i + 4] == b"\x89PNG"]
    for mark in marks[20:25]:
        data[mark : mark + 40] = b"\0" * 40
    clip.write_bytes(data)
    with pytest.raises(InputError, match="is damaged: 55 of 60 frames decode"):
        every_frame(clip)
    kept = numbers_of(every_frame(clip, tolerate_errors=True).frames)
    assert kept == [n for n in range(60) if not 20 <= n < 25]


def test_pictures_with_concealed_damage_count_as_damaged(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    pictures = []
    for number in range(20):
        picture = numbered(number)
        picture[32:] = rng.integers(0, 256, (32, 96, 3))  # so that a frame fills many bytes
        pictures.append(picture)
    clip = make_clip(tmp_path / "x.mkv", pictures, options={"crf": "5", "g": "1", "bf": "0"})
    with av.open(str(clip)) as container:
        packet = next(p for p in container.demux(video=0) if p.pts == 400)  # frame 10, in ms
        place, size = packet.pos, packet.size
    data = bytearray(clip.read_bytes())
    data[place + size // 2 : place + size // 2 + 400] = b"\xff" * 400
    clip.write_bytes(data)
    with pytest.raises(InputError, match="is damaged: 19 of 20 frames decode"):
        every_frame(clip)
    kept = numbers_of(every_frame(clip, tolerate_errors=True).frames)
    assert kept == [n for n in range(20) if n != 10]


def two_streams(path: Path, second: dict[str, object]) -> Path:
    """A small numbered stream 0 beside another video stream, both in one file."""
    with av.open(str(path), "w") as out:
        small = out.add_stream("libx264", rate=25)
        small.width, small.height, small.pix_fmt = 96, 64, "yuv420p"
        other = out.add_stream(str(second["codec"]), rate=25)
        other.width, other.height, other.pix_fmt = 192, 128, str(second["pix_fmt"])
        if second.get("cover"):
            other.disposition = av.stream.Disposition.attached_pic
        pictures = [numbered(i + 100, 192, 128) for i in range(int(str(second["count"])))]
        tick = Fraction(1, 25)
        encode(out, other, pictures, str(second["pix_fmt"]), None, tick)
        encode(out, small, [numbered(i) for i in range(10)], "yuv420p", None, tick)
    return path


def test_the_largest_of_several_streams_is_taken_or_the_one_asked_for(tmp_path: Path) -> None:
    clip = two_streams(tmp_path / "x.mkv", {"codec": "libx264", "pix_fmt": "yuv420p", "count": 10})
    assert numbers_of(every_frame(clip).frames) == list(range(100, 110))
    assert numbers_of(every_frame(clip, stream=0).frames) == list(range(10))
    assert [(s.index, s.width) for s in probe(clip).streams] == [(0, 96), (1, 192)]
    with pytest.raises(InputError, match="has no video stream 7") as refusal:
        every_frame(clip, stream=7)
    assert refusal.value.hint == "its video streams are: 0, 1"


def test_cover_art_is_not_the_clip(tmp_path: Path) -> None:
    clip = two_streams(
        tmp_path / "x.mp4", {"codec": "mjpeg", "pix_fmt": "yuvj420p", "count": 1, "cover": True}
    )
    assert numbers_of(every_frame(clip).frames) == list(range(10))


def test_a_size_change_in_mid_stream_gives_frames_of_one_size(tmp_path: Path) -> None:
    small = count_clip(tmp_path / "a.ts", 5, format="mpegts")
    large = tmp_path / "b.ts"
    make_clip(
        large,
        [numbered(i + 5, 192, 128) for i in range(5)],
        format="mpegts",
        stamps=list(range(5, 10)),
    )
    joined = tmp_path / "x.ts"
    joined.write_bytes(small.read_bytes() + large.read_bytes())
    picked = every_frame(joined)
    assert picked.frames.shape == (10, 64, 96, 3)
    assert numbers_of(picked.frames) == list(range(10))
    assert "frames of several sizes, each brought to one" in picked.notes


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_an_animation_gives_its_frames_at_their_times(suffix: str, tmp_path: Path) -> None:
    pictures = [Image.fromarray(numbered(i)) for i in range(6)]
    path = tmp_path / f"x.{suffix}"
    pictures[0].save(
        path,
        save_all=True,
        append_images=pictures[1:],
        duration=[100, 300, 50, 200, 100, 0],
        lossless=True,
    )
    picked = every_frame(path)
    assert numbers_of(picked.frames) == list(range(6))
    assert picked.times == pytest.approx((0, 0.1, 0.4, 0.45, 0.65, 0.75))
    assert picked.source.duration_s == pytest.approx(
        0.85
    )  # nothing lasts 0 ms: 100, as in browsers
    assert picked.source.kind == "animation"


def test_the_still_that_an_apng_hides_is_not_a_frame(tmp_path: Path) -> None:
    still, *pictures = [Image.fromarray(numbered(i)) for i in (99, 0, 1, 2)]
    path = tmp_path / "x.png"
    still.save(path, save_all=True, append_images=pictures, duration=100, default_image=True)
    assert numbers_of(every_frame(path).frames) == [0, 1, 2]
