"""Cuts: found where one shot follows another, and not in one shot, however it moves."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from media import real_clips
from PIL import Image
from program import Dvid

from dvcli.bundled.world.clips import clip
from dvcli.cli.demo import CLIP
from dvcli.video.cuts import LEAST, cuts, unlike
from dvcli.video.read import read
from dvcli.video.write import write


def shot(colour: int, count: int) -> np.ndarray:
    """A bar that walks over a plane of that colour."""
    frames = np.full((count, 64, 96, 3), colour, np.uint8)
    for number in range(count):
        frames[number, :, 8 * number : 8 * number + 16] = (40, 200, 90)
    return frames


def chosen(path: Path, frames: int = 8) -> np.ndarray:
    return read(path, frames=frames, size=(64, 64), fit="crop").frames


@pytest.mark.parametrize("before", [1, 4, 7])
def test_the_frame_after_a_cut_is_named(before: int) -> None:
    assert cuts(np.concatenate([shot(20, before), shot(230, 8 - before)])) == [before]


@pytest.mark.parametrize("name", ["bigbuckbunny.mp4", "carphone_pristine.mp4"])
def test_a_real_clip_of_one_shot_has_no_cut(name: str) -> None:
    assert cuts(chosen(real_clips()[name])) == []


def test_the_demos_clip_has_no_cut() -> None:
    assert cuts(chosen(CLIP)) == []


def test_the_cuts_of_a_real_clip_are_found_where_a_shot_has_several_frames(bikes: Path) -> None:
    assert cuts(chosen(bikes, 24)) == [3, 7, 13, 18]  # after its pictures 29, 75, 136 and 186


def test_two_real_clips_behind_each_other_have_their_cut() -> None:
    one, other = (chosen(real_clips()[n]) for n in ("bigbuckbunny.mp4", "carphone_pristine.mp4"))
    assert cuts(np.concatenate([one[:5], other[:3]])) == [5]


@given(st.integers(0, 8), st.integers(0, 2**32 - 1))
def test_frames_that_all_differ_alike_or_not_at_all_have_no_cut(count: int, seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (count, 24, 32, 3), dtype=np.uint8)
    colours = np.arange(count, dtype=np.uint8)[:, None, None, None] * 31
    for frames in (noise, np.repeat(noise[:1], count, 0), np.zeros_like(noise) + colours):
        assert cuts(frames) == []


def test_too_few_frames_have_no_step_that_stands_out() -> None:
    frames = np.concatenate([shot(20, LEAST - 2), shot(230, 1)])
    assert cuts(frames) == []


def test_a_cut_between_the_frames_chosen_is_warned_of_with_the_times_that_avoid_it(
    dvid: Dvid,
) -> None:
    frames = np.concatenate([shot(20, 9), shot(230, 7)])
    write(Path("two.mp4"), frames, fps=8.0, metadata=None, crf=17)
    err = dvid("extract", "two.mp4", "--frames", "6", "--size", "64").err
    assert "warning: the clip seems to be cut between 0.75 s and 1.125 s:" in err
    for options in (["--end", "1"], ["--start", "1.2"]):
        said = dvid("extract", "two.mp4", "--frames", "6", "--size", "64", *options)
        assert "warning" not in said.err
    assert "warning" not in dvid("extract", "two.mp4", "-q", "--refresh", "--run", "x").err


def panned(picture: np.ndarray, overlap: float, frames: int = 8) -> np.ndarray:
    """A camera that pans over a picture; so much of each frame is in the next."""
    side = picture.shape[0]
    step = round(side * (1 - overlap))
    wide = Image.fromarray(picture).resize((side + step * (frames - 1), 2 * side))
    return np.stack(
        [np.asarray(wide)[side // 2 :][:side, n * step :][:, :side] for n in range(frames)]
    )


@pytest.mark.parametrize("count", [4, 6, 8, 10, 12, 16])
def test_the_frames_of_a_montage_are_hardly_alike_however_many_are_taken(
    count: int, bikes: Path
) -> None:
    assert unlike(chosen(bikes, count))


def test_frames_of_unlike_clips_are_hardly_alike() -> None:
    clips = [world(seed) for seed in range(6000, 6008)]
    assert unlike(np.stack([frames[number] for number, frames in enumerate(clips)]))


@pytest.mark.parametrize("count", [4, 5, 8, 12, 24])
@pytest.mark.parametrize("name", ["bigbuckbunny.mp4", "carphone_pristine.mp4"])
def test_a_real_clip_of_one_shot_is_alike(name: str, count: int) -> None:
    assert not unlike(chosen(real_clips()[name], count))


@pytest.mark.parametrize("shot", [(0.04, 1.1), (1.3, 2.9), (3.2, 5.3), (5.6, 7.3), (7.6, 9.9)])
def test_each_shot_of_a_montage_is_alike(shot: tuple[float, float], bikes: Path) -> None:
    start, end = shot
    for count in (4, 8):
        found = read(bikes, frames=count, size=(64, 64), fit="crop", start=start, end=end)
        assert not unlike(found.frames)


@pytest.mark.parametrize("overlap", [0.4, 0.6, 0.8])
@pytest.mark.parametrize("name", ["bikes.mp4", "bigbuckbunny.mp4", "carphone_pristine.mp4"])
def test_a_pan_is_alike_while_over_a_third_of_each_frame_is_in_the_next(
    name: str, overlap: float
) -> None:
    for picture in chosen(real_clips()[name])[[0, 2, 4]]:
        assert not unlike(panned(picture, overlap))


def test_things_that_jump_about_before_one_place_are_alike() -> None:
    for seed in range(5000, 5006):
        assert not unlike(world(seed)[[0, 5, 1, 7, 2, 6, 3, 4]])


def world(seed: int) -> np.ndarray:
    found: np.ndarray = clip(seed, 8).frames.permute(0, 2, 3, 1).contiguous().numpy()
    return found


def test_a_montage_is_warned_of_and_one_shot_of_it_is_not(dvid: Dvid, bikes: Path) -> None:
    said = dvid("extract", bikes, "--size", "64")
    assert "warning: the 8 frames chosen are hardly alike:" in said.err
    assert "`--start` and `--end` choose it" in said.err
    assert "warning" not in dvid("extract", bikes, "--size", "64", "--end", "1.1").err


def test_a_file_that_is_read_whole_is_not_warned_of(dvid: Dvid) -> None:
    for folder, colour in (("one", 20), ("other", 60)):
        Path(folder).mkdir()
        frames = np.concatenate([shot(colour, 5), shot(230, 3)])
        write(Path(folder, "fox.mp4"), frames, fps=8.0, metadata=None, crf=17)
    Path("prompts.csv").write_text("file,prompt\nfox.mp4,a fox\n")
    said = dvid("study", "make", "a=one", "b=other", "--prompts-file", "prompts.csv")
    assert "cut" not in said.err
