"""What is written comes back: colours, count, rate, provenance, and the same bytes each time."""

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from media import count_clip, every_frame, numbered, numbers_of

from dvcli.errors import InputError, StorageError, UsageError
from dvcli.video import write as writing
from dvcli.video.animate import durations
from dvcli.video.frames import load, save
from dvcli.video.framing import fit_to
from dvcli.video.metadata import find_metadata, from_xmp, read_metadata, to_xmp
from dvcli.video.read import read
from dvcli.video.write import FORMATS, write

PATCHES = np.array(
    [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (128, 128, 128)], np.uint8
)
MOVING = [suffix for suffix in FORMATS if suffix != ".png"]
TEXT = json.dumps(
    {"prompt": 'a tigress & <her> "cubs" – é', "control": "\r\n\t", "n": [1] * 30_000}
)


def patches() -> np.ndarray:
    row = np.repeat(PATCHES, 32, axis=0)
    return np.repeat(row[None], 48, axis=0)


def count(frames: int) -> np.ndarray:
    return np.stack([numbered(i) for i in range(frames)])


@pytest.mark.parametrize("suffix", MOVING)
def test_flat_colours_come_back(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    write(path, np.stack([patches()] * 3), fps=8, metadata=None)
    back = every_frame(path).frames[:, 24, 16::32].astype(int)
    tolerance = 2 if suffix in (".mp4", ".webm") else 0
    assert np.abs(back - PATCHES).max() <= tolerance


@pytest.mark.parametrize("suffix", MOVING)
def test_count_order_and_rate_come_back(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    write(path, count(9), fps=12.5, metadata=None)
    picked = every_frame(path)
    assert numbers_of(picked.frames) == list(range(9))
    assert picked.source.fps == 12.5
    assert picked.source.duration_s == pytest.approx(9 / 12.5)


@pytest.mark.parametrize("fps", [8.0, 24.0, 23.976, 30000 / 1001, 60.0])
def test_the_rate_of_an_mp4_is_exact(fps: float, tmp_path: Path) -> None:
    write(tmp_path / "x.mp4", count(5), fps=fps, metadata=None)
    assert every_frame(tmp_path / "x.mp4").source.fps == pytest.approx(fps, rel=1e-6)


@pytest.mark.parametrize("suffix", MOVING)
def test_a_frozen_clip_keeps_all_its_frames(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    write(path, np.stack([numbered(5)] * 6), fps=10, metadata=None)
    assert every_frame(path).source.frames == 6


@pytest.mark.parametrize("suffix", MOVING)
def test_one_frame_is_a_clip(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    write(path, count(1), fps=10, metadata=None)
    assert every_frame(path).source.frames == 1


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_same_frames_give_the_same_bytes(suffix: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (4, 48, 64, 3), dtype=np.uint8)
    found = set()
    for turn in range(2):
        write(tmp_path / f"{turn}{suffix}", frames, fps=8, metadata=TEXT)
        found.add((tmp_path / f"{turn}{suffix}").read_bytes())
    assert len(found) == 1


def test_the_bytes_of_an_mp4_do_not_depend_on_what_was_in_memory_before(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (4, 48, 64, 3), dtype=np.uint8)
    found, kept = set(), []
    for turn in range(40):
        rng = np.random.default_rng(turn)
        litter = [np.frombuffer(rng.bytes(n), np.uint8).copy() for n in rng.integers(99, 2**17, 99)]
        kept.append(litter.pop())
        del litter
        write(tmp_path / "x.mp4", frames, fps=8, metadata="x" * 50_000)
        found.add((tmp_path / "x.mp4").read_bytes())
    assert len(found) == 1


@pytest.mark.parametrize("suffix", FORMATS)
def test_provenance_comes_back_whole(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    write(path, count(3), fps=8, metadata=TEXT)
    assert find_metadata(path) == TEXT


def test_provenance_is_read_in_a_process_of_its_own(tmp_path: Path) -> None:
    write(tmp_path / "x.mp4", count(2), fps=8, metadata=TEXT)
    assert read_metadata(tmp_path / "x.mp4") == TEXT


@pytest.mark.parametrize("suffix", FORMATS)
def test_no_provenance_leaves_none(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    write(path, count(3), fps=8, metadata=None)
    assert find_metadata(path) is None
    assert b"dvid" not in path.read_bytes().lower()


def test_a_strangers_clip_and_a_folder_have_no_provenance(tmp_path: Path) -> None:
    assert read_metadata(count_clip(tmp_path / "x.mkv", 2, tag_metadata={"title": "x"})) is None
    write(tmp_path / "1.png", count(1), fps=1, metadata=TEXT)
    assert read_metadata(tmp_path) is None


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"])))
def test_any_text_passes_through_xmp(text: str) -> None:
    assert from_xmp(to_xmp(text)) == text


def test_an_mp4_says_its_colours_and_starts_fast(tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    write(path, count(3), fps=8, metadata=None)
    with av.open(str(path)) as clip:
        context = clip.streams.video[0].codec_context
        tags = [context.colorspace, context.color_primaries, context.color_trc, context.color_range]
        assert (clip.streams.video[0].codec_context.pix_fmt, tags) == ("yuv420p", [1, 1, 1, 1])
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize(
    ("suffix", "size"),
    [(".mp4", (34, 52)), (".webm", (33, 51)), (".gif", (33, 51)), (".webp", (33, 51))],
)
def test_odd_sizes_are_kept_or_grow_by_one_repeated_edge(
    suffix: str, size: tuple[int, int], tmp_path: Path
) -> None:
    frames = np.zeros((2, 51, 33, 3), np.uint8)
    frames[:, :, 20:] = 255
    write(tmp_path / f"x{suffix}", frames, fps=8, metadata=None)
    back = every_frame(tmp_path / f"x{suffix}").frames
    assert back.shape == (2, size[1], size[0], 3)
    assert back[:, :, -1].min() > 240


def test_a_png_is_all_frames_eight_to_a_row(tmp_path: Path) -> None:
    write(tmp_path / "x.png", count(11), fps=8, metadata=None)
    sheet = read(tmp_path / "x.png", frames=1, size=None, fit="crop").frames[0]
    assert sheet.shape == (128, 768, 3)
    tiles = [sheet[y : y + 64, x : x + 96] for y in (0, 64) for x in range(0, 768, 96)]
    assert numbers_of(np.stack(tiles))[:11] == list(range(11))


@given(st.integers(1, 200), st.floats(1, 50))
def test_rounded_durations_keep_the_length_of_the_whole(frames: int, fps: float) -> None:
    rate = Fraction(fps).limit_denominator(1001)
    total = sum(durations(frames, rate, Fraction(1, 100), 2))
    assert abs(total / 100 - frames / rate) <= 0.005


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing, "_publish", full)
    with pytest.raises(StorageError, match="could not be written: No space left on device"):
        write(path, count(2), fps=8, metadata=None)
    assert [p.name for p in tmp_path.iterdir()] == ["x.mp4"]
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_folder_that_is_not_there_is_a_storage_error(suffix: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="could not be written"):
        write(tmp_path / "no" / f"x{suffix}", count(2), fps=8, metadata=None)


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_a_usage_error(fps: float, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the frame rate is"):
        write(tmp_path / "x.mp4", count(2), fps=fps, metadata=None)


def test_an_unknown_suffix_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"`\.mkv` is not a known format"):
        write(tmp_path / "x.mkv", count(2), fps=8, metadata=None)


def test_frames_come_back_from_their_file_and_the_bytes_repeat(tmp_path: Path) -> None:
    frames = np.random.default_rng(1).integers(0, 256, (3, 8, 10, 3), dtype=np.uint8)
    save(tmp_path / "a", frames)
    save(tmp_path / "b", np.asfortranarray(frames))
    assert np.array_equal(load(tmp_path / "a"), frames)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert b"__metadata__" not in (tmp_path / "a").read_bytes()


def test_another_file_is_not_frames(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xff" * 100)
    with pytest.raises(InputError, match="is not a file of frames"):
        load(tmp_path / "x")


FITS = ("crop", "squash", "pad")


@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40),
    st.sampled_from(FITS), st.sampled_from([Fraction(1), Fraction(2), Fraction(8, 9)]),
)  # fmt: skip
def test_any_picture_fits_any_size_exactly(
    width: int, height: int, to_width: int, to_height: int, fit: str, sar: Fraction
) -> None:
    picture = np.full((height, width, 3), 200, np.uint8)
    size = (to_width, to_height)
    fitted = fit_to(picture, sar=sar, size=size, fit=fit, background=(200, 200, 200))  # type: ignore[arg-type]
    assert fitted.shape == (to_height, to_width, 3)
    assert (fitted == 200).all()


@pytest.mark.parametrize("fit", FITS)
def test_a_picture_of_the_right_size_is_untouched(fit: str) -> None:
    picture = np.random.default_rng(2).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    fitted = fit_to(picture, sar=Fraction(1), size=(30, 20), fit=fit, background=(0, 0, 0))  # type: ignore[arg-type]
    assert np.array_equal(fitted, picture)


def halves() -> np.ndarray:
    """80×40: a quarter black, half white, a quarter black."""
    picture = np.zeros((40, 80, 3), np.uint8)
    picture[:, 20:60] = 255
    return picture


def test_crop_keeps_the_middle() -> None:
    fitted = fit_to(halves(), sar=Fraction(1), size=(20, 20), fit="crop", background=(0, 0, 0))
    assert fitted[:, 2:-2].min() >= 253  # the filter sees a little of what was cropped


def test_squash_keeps_everything_distorted() -> None:
    fitted = fit_to(halves(), sar=Fraction(1), size=(40, 40), fit="squash", background=(9, 9, 9))
    assert fitted[:, :6].max() == 0
    assert fitted[:, 14:26].min() == 255


def test_pad_keeps_everything_undistorted_on_the_background() -> None:
    fitted = fit_to(halves(), sar=Fraction(1), size=(40, 40), fit="pad", background=(9, 8, 7))
    assert (fitted[:10] == (9, 8, 7)).all()
    assert (fitted[30:] == (9, 8, 7)).all()
    assert fitted[10:30, :6].max() == 0
    assert fitted[10:30, 14:26].min() == 255


def test_scaling_down_is_antialiased() -> None:
    fine = np.zeros((64, 64, 3), np.uint8)
    fine[:, ::2] = 255
    fitted = fit_to(fine, sar=Fraction(1), size=(16, 16), fit="crop", background=(0, 0, 0))
    assert np.abs(fitted[:, 2:-2].astype(int) - 128).max() <= 3
