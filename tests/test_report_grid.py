"""The pictures of a report: where clips and words go, how clips of other shapes are shown."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from media import number_of, numbered
from PIL import Image

from dvcli.errors import UsageError
from dvcli.recipes import Base, Controls, Depth, Extract, Invert, Sample, Tune
from dvcli.report import places
from dvcli.report.facts import NO_STYLE, changed, facts, values, varying, without_style
from dvcli.report.footage import Footage, reduced, thinned
from dvcli.report.grid import GAP, LARGEST, MARGIN, PAPER, Band, grid
from dvcli.report.lettering import SPACE, draw, font_for, length, wrapped
from dvcli.report.reels import Reel, Shot
from dvcli.report.sheet import Row, contact_sheet
from dvcli.styles import Style
from dvcli.video import frames as frame_file

ZERO = "0" * 64
BASE = Base(unet=ZERO, vae=ZERO, text_encoder=ZERO, tokenizer=ZERO, scheduler=ZERO)


def clip(first: int, count: int = 3, width: int = 96, height: int = 64) -> np.ndarray:
    return np.stack([numbered(first + k, width, height) for k in range(count)])


def inverted(**tuning: object) -> Invert:
    frames = Extract(clip=ZERO)
    depth = Depth(frames=frames, estimator=ZERO)
    tuned = Tune(frames=frames, depth=depth, base=BASE, prompt="caption", **tuning)  # type: ignore[arg-type]
    return Invert(tuned=tuned)


# Facts


def test_a_style_is_taken_out_of_the_prompt_again() -> None:
    sample = Sample(inverted=inverted(), prompt="a fox, animation style", guidance=4)
    assert changed(sample) == {"prompt": "a fox", "style": "animation", "guidance": "4"}


def test_a_style_with_negative_words_is_one_only_with_both() -> None:
    styles = {"oil": Style(name="oil", prompt="oil paint", negative="photo")}
    assert without_style("a fox, oil paint", "grey, photo", styles) == ("a fox", "grey", "oil")
    assert without_style("a fox, oil paint", "grey", styles)[2] is None
    assert without_style("oil paint", "photo", styles)[2] is None


@given(words=st.text(min_size=1).filter(str.strip), negative=st.text())
def test_applying_a_style_and_taking_it_out_is_the_identity(words: str, negative: str) -> None:
    style = Style(name="oil", prompt="oil paint", negative="photo")
    words, negative = words.strip(), negative.strip()
    made = style.apply(words, negative)
    assert without_style(*made, {"oil": style}) == (words, negative, "oil")


def test_every_knob_off_its_default_is_said() -> None:
    sample = Sample(
        inverted=inverted(steps=60),
        prompt="a fox",
        eta=0.5,
        seed=7,
        controls=Controls(gain=0.5),
    )
    said = changed(sample)
    assert (said["eta"], said["seed"], said["depth gain"]) == ("0.5", "7", "0.5")
    assert said["tuning steps"] == "60"
    assert said["style"] == NO_STYLE
    assert not {"depth bias", "caption", "strength", "method"} & set(said)


def test_a_seed_that_changes_nothing_is_no_fact() -> None:
    assert "seed" not in facts(Sample(inverted=inverted(), prompt="a fox"))


def test_numbers_are_in_order_and_words_as_they_come() -> None:
    clips = [{"guidance": g, "prompt": p} for g, p in (("12.5", "b"), ("4", "a"))]
    assert values(clips, "guidance") == ["4", "12.5"]
    assert values(clips, "prompt") == ["b", "a"]
    assert varying([*clips, {"guidance": "4", "prompt": "b"}]) == ["prompt", "guidance"]


# The grid


def tile_at(picture: np.ndarray, column: int, top: int, size: tuple[int, int]) -> np.ndarray:
    left = MARGIN + column * (size[0] + GAP)
    return picture[top : top + size[1], left : left + size[0]]


def test_clips_stand_in_their_columns_frame_by_frame() -> None:
    pictures = grid([Band(tiles=[clip(10), clip(20)])], width=2 * 96 + GAP + 2 * MARGIN)
    for moment, column in product(range(3), range(2)):
        tile = tile_at(pictures[moment], column, MARGIN, (96, 64))
        np.testing.assert_array_equal(tile, numbered(10 * (column + 1) + moment))


def test_a_shorter_clip_is_spread_over_the_longest() -> None:
    pictures = grid([Band(tiles=[clip(0, 6), clip(50, 3), clip(90, 1)])], width=3 * 104 + 32 - 8)
    assert len(pictures) == 6
    seen = [
        [number_of(tile_at(picture, column, MARGIN, (96, 64))) for column in range(3)]
        for picture in pictures
    ]
    assert seen == [[k, 50 + k // 2, 90] for k in range(6)]


def test_a_clip_of_another_shape_is_shown_whole() -> None:
    pictures = grid([Band(tiles=[clip(5), clip(6, height=32)])], width=2 * 96 + GAP + 2 * MARGIN)
    assert number_of(tile_at(pictures[0], 1, MARGIN, (96, 32))) == 6
    below = tile_at(pictures[0], 1, MARGIN + 33, (96, 30))
    assert (below == PAPER).all()


def test_small_clips_are_enlarged_in_whole_pixels() -> None:
    pictures = grid(
        [Band(tiles=[np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)])]
    )
    tile = pictures[0, MARGIN : MARGIN + 256, MARGIN : MARGIN + 256]
    blocks = tile.reshape(64, 4, 64, 4, 3)
    assert (blocks == blocks[:, :1, :, :1]).all()


@settings(max_examples=25, deadline=None)
@given(
    label=st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), max_size=80),
    heading=st.lists(st.text("abcdefg", min_size=1, max_size=30), max_size=30).map(" ".join),
    columns=st.integers(1, 8),
)
def test_words_never_leave_their_place(label: str, heading: str, columns: int) -> None:
    white = np.full((1, 64, 64, 3), 255, np.uint8)
    band = Band(heading=heading, labels=[label] * columns, tiles=[white] * columns)
    (picture,) = grid([band])
    inked = (picture != PAPER).any(axis=2) & (picture != 255).any(axis=2)
    edge = MARGIN - 2  # a letter may lean over its line's end by a pixel or two
    assert not inked[:, :edge].any()
    assert not inked[:, -edge:].any()
    assert not inked[-MARGIN:].any()


def test_labels_do_not_run_into_each_other() -> None:
    white = np.full((1, 64, 64, 3), 255, np.uint8)
    band = Band(labels=["W" * 200] * 3, tiles=[white] * 3)
    (picture,) = grid([band])
    tile = (picture.shape[1] - 2 * MARGIN - 2 * GAP) // 3
    between = picture[:, MARGIN + tile + 2 : MARGIN + tile + GAP - 2]
    assert (between == PAPER).all()


def test_a_grid_that_no_decoder_takes_is_refused() -> None:
    tiles = [np.zeros((1, 64, 64, 3), np.uint8)] * 90
    with pytest.raises(UsageError, match="more than 8192"):
        grid([Band(tiles=tiles)])
    with pytest.raises(UsageError, match="do not fit into 400 pixels"):
        grid([Band(tiles=tiles)], width=400)
    assert LARGEST == 8192


def test_the_same_clips_give_the_same_picture() -> None:
    band = Band(heading="häß · 中", labels=["a"], tiles=[clip(1)])
    np.testing.assert_array_equal(grid([band], title="t"), grid([band], title="t"))


# Words


@given(
    words=st.lists(st.text("abcxyzW", min_size=1, max_size=60), max_size=12),
    lines=st.integers(1, 4),
)
def test_wrapped_lines_fit_and_say_where_they_were_cut(words: list[str], lines: int) -> None:
    font = font_for("", 15)
    text = " ".join(words)
    found = wrapped(text, font, 120, lines)
    assert len(found) <= lines
    assert all(font.getlength(line) <= 120 for line in found)
    said = "".join(found).replace(" ", "")
    whole = text.replace(" ", "")
    assert said == whole or (said.endswith("...") and whole.startswith(said[:-3]))


@pytest.mark.parametrize("text", ["café", "Ωμέγα", "žluťoučký"])
def test_letters_beyond_ascii_get_a_font_that_has_them(text: str) -> None:
    font = font_for(text, 16)
    if font == font_for("a", 16):
        pytest.skip("no font of this system has them")
    missing = bytes(font.getmask("\uffff"))
    assert all(bytes(font.getmask(letter)) != missing for letter in text)


# Places


@pytest.fixture
def media(tmp_path: Path) -> Footage:
    frame_file.save(tmp_path / "x", clip(0, 2))
    return Footage(path=tmp_path / "x", kept=True)


def reel(media: Footage, told: list[dict[str, str]], name: str = "bears") -> Reel:
    shots = [Shot(title=one.get("prompt", "file"), footage=media, facts=one) for one in told]
    given = [Shot(title=role, role=role, footage=media) for role in ("source", "depth")]
    return Reel(name=name, given=given, shots=shots)


def cube(
    prompts: str = "ab", styles: str = "xy", guidances: tuple[str, ...] = ("12", "4")
) -> list[dict[str, str]]:
    return [
        {"prompt": p, "style": s, "guidance": g} for g, s, p in product(guidances, styles, prompts)
    ]


def shape(bands: list[Band]) -> list[tuple[str, int, tuple[str, ...]]]:
    return [(band.heading, len(band.tiles), tuple(band.labels)) for band in bands]


def test_prompts_are_rows_and_the_rest_columns_after_source_and_depth(media: Footage) -> None:
    bands = places.as_bands([reel(media, cube())])
    heads = ("x\nguidance 4", "x\nguidance 12", "y\nguidance 4", "y\nguidance 12")
    assert shape(bands) == [("a", 6, ("source", "depth", *heads)), ("b", 6, ())]


def test_rows_and_columns_can_be_chosen_and_the_source_left_out(media: Footage) -> None:
    bands = places.as_bands(
        [reel(media, cube())], rows=["guidance"], columns=["style", "prompt"], source=False
    )
    assert shape(bands) == [
        ("guidance 4", 4, ("x\na", "x\nb", "y\na", "y\nb")),
        ("guidance 12", 4, ()),
    ]


def test_the_side_that_is_not_chosen_takes_what_is_left(media: Footage) -> None:
    bands = places.as_bands([reel(media, cube())], rows=["style"], source=False)
    assert [len(band.tiles) for band in bands] == [4, 4]


def test_two_clips_in_one_place_are_refused_with_the_fact_that_parts_them(media: Footage) -> None:
    with pytest.raises(UsageError, match="they differ in guidance"):
        places.as_bands([reel(media, cube())], rows=["prompt"], columns=["style"])


def test_a_fact_that_no_clip_has_is_refused_with_the_nearest(media: Footage) -> None:
    with pytest.raises(UsageError, match="did you mean `guidance`"):
        places.as_bands([reel(media, cube())], rows=["guidence"])


def test_clips_that_differ_in_one_thing_flow(media: Footage) -> None:
    told = cube(prompts="abcdefgh", styles="x", guidances=("4",))
    bands = places.as_bands([reel(media, told)])
    labels = [label for band in bands for label in band.labels]
    assert labels == ["source", "depth", *"abcdefgh"]
    assert len(bands) == 3


def test_a_place_without_a_clip_stays_empty(media: Footage) -> None:
    bands = places.as_bands([reel(media, cube()[:-1])])
    assert [[tile is None for tile in band.tiles] for band in bands] == [
        [False] * 6,
        [False] * 4 + [True, False],
    ]


def test_clips_of_which_only_the_file_is_known_come_below(media: Footage) -> None:
    bands = places.as_bands([reel(media, [*cube(), {"file": "other.mp4"}])])
    assert [band.heading for band in bands] == ["a", "b", ""]
    assert bands[-1].labels == ["other.mp4"]


def test_runs_are_told_apart(media: Footage) -> None:
    both = [reel(media, cube("a", "x", ("4",)), name) for name in ("bears", "cats")]
    bands = places.as_bands(both)
    labels = [label for band in bands for label in band.labels]
    assert labels == ["source", "depth", "bears", "source", "depth", "cats"]


def test_a_run_without_clips_shows_what_is_given(media: Footage) -> None:
    assert shape(places.as_bands([reel(media, [])])) == [("bears", 2, ("source", "depth"))]


# Footage and the sheet


def test_footage_is_thinned_evenly_with_both_ends() -> None:
    assert [number_of(frame) for frame in thinned(clip(0, 9), 3)] == [0, 4, 8]


def test_footage_keeps_its_shape_when_it_is_reduced() -> None:
    assert reduced(clip(0, 2), 48).shape == (2, 32, 48, 3)
    assert reduced(clip(0, 2), 200).shape == (2, 64, 96, 3)


def test_a_long_title_is_wrapped_within_the_sheet(tmp_path: Path) -> None:
    rows = [Row(title="W" * 400, remark="i" * 4000, frames=np.full((2, 8, 8, 3), 255, np.uint8))]
    contact_sheet(tmp_path / "x.png", rows, width=400, title="t " * 300)
    with Image.open(tmp_path / "x.png") as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    inked = (pixels != PAPER).any(axis=2) & (pixels != 255).any(axis=2)
    assert inked.any()
    assert not inked[:, :23].any()
    assert not inked[:, -23:].any()


def test_a_sheet_of_long_clips_shows_some_of_their_frames(tmp_path: Path) -> None:
    contact_sheet(tmp_path / "x.png", [Row(title="a", remark="", frames=clip(0, 100))])
    with Image.open(tmp_path / "x.png") as sheet:
        assert sheet.width == 1400


def test_words_are_parted_by_a_gap_that_can_be_seen() -> None:
    font = font_for("near is", 20)
    assert length("a b", font) - 2 * length("a", font) >= SPACE * 20 - 1
    image = Image.new("RGB", (80, 30), (255, 255, 255))
    draw(image, (0, 0), ["ll ll"], font, (0, 0, 0))
    dark = (np.asarray(image).min(axis=(0, 2)) < 128).nonzero()[0]
    assert np.diff(dark).max() >= SPACE * 20
