"""What odd media do where the tests of `dvcli.video` leave something untold; see `docs/faults.md`.

These go through the command line where what a user is told is the point.
"""

import json
from pathlib import Path

import av
import numpy as np
import pytest
from media import count_clip, every_frame, make_clip, numbered, numbers_of, silence
from program import Dvid

from dvcli.errors import InputError
from dvcli.video.probe import probe


def refused(dvid: Dvid, clip: Path, *words: str) -> str:
    """What `dvid extract` says of a clip that it cannot use: two lines, exit 3."""
    said = dvid("extract", clip, "--frames", "8", "--size", "64", *words, code=3)
    assert said.out == ""
    assert len(said.err.splitlines()) == 2, said.err
    assert said.err.startswith("error: ")
    assert "\nhint: " in said.err
    return said.err


def test_a_palette_of_256_colours_decodes(tmp_path: Path) -> None:
    shades = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 4, axis=1)
    shades[:, 0] = 255  # alpha
    path = tmp_path / "x.mov"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "pal8"
        for number in range(5):
            frame = av.VideoFrame.from_ndarray((numbered(number)[..., 0].copy(), shades), "pal8")
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with av.open(str(path)) as container:
        assert container.streams.video[0].format.name == "pal8"
    assert numbers_of(every_frame(path).frames) == list(range(5))


def test_a_wide_gamut_is_brought_to_bt709_and_said(tmp_path: Path) -> None:
    tags = {"color_trc": 1, "color_primaries": 9, "colorspace": 9, "color_range": 1}
    green = np.zeros((64, 96, 3), np.uint8)
    green[:, 48:] = (60, 160, 60)
    clip = make_clip(
        tmp_path / "x.mkv",
        [green] * 2,
        codec="ffv1",
        pix_fmt="yuv444p",
        tags=tags,
        convert={"dst_colorspace": 9, "dst_color_range": 1},
    )
    picked = every_frame(clip)
    assert picked.notes == ("BT.2020 converted to BT.709",)
    red, middle, _ = (int(v) for v in picked.frames[0, 32, 80])
    assert middle > 160  # the same light takes more of the narrower gamut's green
    assert red < 60


def test_a_codec_without_a_decoder_is_refused_by_that_name(dvid: Dvid, tmp_path: Path) -> None:
    clip = count_clip(tmp_path / "x.avi", 10, codec="mpeg4")
    data = clip.read_bytes()
    assert data.count(b"FMP4") == 2
    clip.write_bytes(data.replace(b"FMP4", b"QQ7Z"))
    assert "uses a video codec that cannot be decoded here" in refused(dvid, clip)


def test_an_avi_that_claims_frames_it_has_not_is_damaged(dvid: Dvid, tmp_path: Path) -> None:
    clip = count_clip(tmp_path / "x.avi", 100, codec="mjpeg", pix_fmt="yuvj420p")
    data = clip.read_bytes()
    clip.write_bytes(data[: len(data) // 2])
    said = refused(dvid, clip)
    assert "is damaged: " in said
    assert " of 100 frames decode" in said
    assert "hint: `--tolerate-errors` uses those that do" in said


def test_a_damaged_clip_is_used_on_request_with_a_warning_of_how_much(
    dvid: Dvid, tmp_path: Path
) -> None:
    clip = count_clip(
        tmp_path / "x.mp4", 100, container={"movflags": "+faststart"}, options={"bf": "0"}
    )
    data = clip.read_bytes()
    clip.write_bytes(data[: len(data) * 3 // 4])
    refused(dvid, clip)
    made = dvid(
        "extract", clip, "--frames", "8", "--size", "64", "--tolerate-errors", "-o", "x.png"
    )
    assert made.lines == ["x.png"]


def test_a_live_recording_without_length_or_index_is_counted(tmp_path: Path) -> None:
    clip = count_clip(
        tmp_path / "x.webm",
        40,
        codec="libvpx",
        container={"live": "1"},
        options={"deadline": "realtime"},
    )
    with av.open(str(clip)) as container:
        assert not container.duration
        assert not container.streams.video[0].frames
    assert probe(clip).frames == 40
    assert numbers_of(every_frame(clip).frames) == list(range(40))


def test_a_bare_stream_of_pictures_is_counted_by_decoding(tmp_path: Path) -> None:
    clip = count_clip(tmp_path / "x.m1v", 40, codec="mpeg1video", format="mpeg1video")
    assert probe(clip).frames == 40


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("sound.m4a", "has no video, only audio"),
        ("empty.mp4", "is empty"),
        ("text.mp4", "cannot be read as a video"),
        ("random.mp4", "cannot be read as a video"),
        ("folder", "holds no images"),
        ("absent.mp4", "does not exist"),
        ("https://example.org/x.mp4", "is an address, not a file"),
        ("concat:a.mp4|b.mp4", "is an address, not a file"),
        ("few.mp4", "has 3 frames, fewer than the 8 asked for"),
        ("list.m3u8", "cannot be read as a video"),
        ("list.mp4", "cannot be read as a video"),
    ],
)
def test_what_cannot_be_used_is_exit_3_in_two_lines(name: str, told: str, dvid: Dvid) -> None:
    match name:
        case "sound.m4a":
            silence(Path(name))
        case "empty.mp4":
            Path(name).touch()
        case "text.mp4":
            Path(name).write_text("not a film\n" * 100)
        case "random.mp4":
            Path(name).write_bytes(np.random.default_rng(7).bytes(20_000))
        case "folder":
            Path(name).mkdir()
        case "few.mp4":
            count_clip(Path(name), 3)
        case "list.m3u8" | "list.mp4":
            count_clip(Path("inner.mp4"), 10)
            Path(name).write_text(f"#EXTM3U\n#EXTINF:1,\nfile://{Path('inner.mp4').absolute()}\n")
    said = refused(dvid, Path(name) if "://" not in name else name)  # type: ignore[arg-type]
    assert told in said


def test_a_stream_is_chosen_and_a_wrong_one_names_those_there(dvid: Dvid, tmp_path: Path) -> None:
    clip = count_clip(tmp_path / "x.mp4", 10)
    dvid("extract", clip, "--frames", "8", "--size", "64", "--stream", "0")
    assert "its video streams are: 0" in refused(dvid, clip, "--stream", "3")


def test_what_was_converted_is_kept_with_the_frames(dvid: Dvid, tmp_path: Path) -> None:
    clip = count_clip(tmp_path / "x.mp4", 10, rotation=90)
    (run,) = dvid("extract", clip, "--frames", "8", "--size", "64").lines
    key = json.loads(dvid("runs", "--json").lines[0])["keys"]["extract"]
    notes = json.loads(dvid("cache", "show", key).out)["info"]["notes"]
    assert any(note.startswith("rotated by") for note in notes), (run, notes)


def test_a_clip_of_one_stream_that_is_all_cover_art_has_no_video(tmp_path: Path) -> None:
    path = tmp_path / "x.m4a"
    with av.open(str(path), "w", format="mp4") as out:
        cover = out.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 96, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        frame = av.VideoFrame.from_ndarray(numbered(1), "rgb24").reformat(format="yuvj420p")
        frame.pts = 0
        out.mux(cover.encode(frame))
        out.mux(cover.encode(None))
    with pytest.raises(InputError, match="has no video"):
        probe(path)
