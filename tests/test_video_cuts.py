"""Cuts: found where one shot follows another, and not in one shot, however it moves."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from media import real_clips
from program import Dvid

from dvcli.cli.demo import CLIP
from dvcli.video.cuts import LEAST, cuts
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


def test_a_file_that_is_read_whole_is_not_warned_of(dvid: Dvid) -> None:
    for folder, colour in (("one", 20), ("other", 60)):
        Path(folder).mkdir()
        frames = np.concatenate([shot(colour, 5), shot(230, 3)])
        write(Path(folder, "fox.mp4"), frames, fps=8.0, metadata=None, crf=17)
    Path("prompts.csv").write_text("file,prompt\nfox.mp4,a fox\n")
    said = dvid("study", "make", "a=one", "b=other", "--prompts-file", "prompts.csv")
    assert "cut" not in said.err
