"""What a run remembers: nothing that still holds is forgotten, nothing of another clip slips in."""

import json
import multiprocessing
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from program import Dvid

from dvcli.runs import Run, Runs

TINY = ("--frames", "3", "--size", "64")


def stages(dvid: Dvid, name: str = "bikes") -> list[str]:
    """The stages that the run has."""
    found = {run["run"]: run["stages"] for run in map(json.loads, dvid("runs", "--json").lines)}
    return list(found[name])


WHOLE = ["extract", "depth", "tune", "invert"]


@pytest.mark.parametrize(
    "command",
    [
        ["depth", "-o", "d.png"],
        ["tune", "CLIP", "a man", "--model", "BASE", "--steps", "2", *TINY],
        ["extract", "CLIP", *TINY],
        ["sample", "-p", "a fox"],
    ],
    ids=lambda command: command[0],
)
def test_a_command_that_changes_nothing_forgets_nothing(
    dvid: Dvid, tuned: Path, bikes: Path, base: Path, command: list[str]
) -> None:
    made_here(tuned)
    before = json.loads(dvid("runs", "--json").out)
    dvid(*[{"CLIP": str(bikes), "BASE": str(base)}.get(word, word) for word in command])
    after = json.loads(dvid("runs", "--json").out)
    assert stages(dvid) == WHOLE
    assert after["keys"] == before["keys"]


def made_here(home: Path) -> None:
    """As if the run had been made from this directory."""
    runs = Runs.open()
    runs.save(replace(runs.get("bikes"), cwd=str(Path.cwd())))


def test_another_tuning_drops_the_inversion_of_the_old_one_and_says_so(
    dvid: Dvid, tuned: Path, bikes: Path, base: Path
) -> None:
    made_here(tuned)
    said = dvid("tune", bikes, "a man", "--model", base, "--steps", "1", *TINY)
    assert said.lines == ["bikes"]
    assert "the inversion of the run `bikes` was of another tuning" in said.err
    assert stages(dvid) == WHOLE[:3]


@pytest.mark.parametrize(
    "command",
    [["extract", "--frames", "2"], ["extract", "--size", "32"], ["depth", "--frames", "2"]],
    ids=" ".join,
)
def test_other_frames_written_to_a_file_leave_a_tuned_run_as_it_is(
    dvid: Dvid, tuned: Path, bikes: Path, base: Path, command: list[str]
) -> None:
    made_here(tuned)
    before = dvid("runs", "--json").out
    model = ["--model", str(base)] if command[0] == "depth" else []
    verb, *framing = command
    said = dvid(verb, bikes, *framing, *model, "-o", "f.png")
    assert Path("f.png").exists()
    assert "the run `bikes` stays with the frames it was tuned on" in said.err
    assert dvid("runs", "--json").out == before


def test_other_frames_are_not_put_into_a_tuned_run(dvid: Dvid, tuned: Path, bikes: Path) -> None:
    made_here(tuned)
    said = dvid("extract", bikes, "--frames", "2", code=2)
    assert "the run `bikes` was tuned on other frames" in said.err
    assert "--run NAME" in said.err
    assert stages(dvid) == WHOLE
    assert dvid("extract", bikes, "--frames", "2", "--run", "two").lines == ["two"]


def test_extract_and_depth_of_a_tuned_clip_give_what_it_was_tuned_on(
    dvid: Dvid, tuned: Path, bikes: Path
) -> None:
    made_here(tuned)
    Path("dvid.toml").write_text('size = "128"\nframes = 2\n')
    kept = json.loads(dvid("runs", "--json").out)["keys"]
    for verb in ("extract", "depth"):
        (*_, last) = map(json.loads, dvid(verb, bikes, "-n", "--json").lines)
        assert (last["hit"], last["key"]) == (True, kept[verb])


def test_a_written_depth_of_another_source_leaves_a_tuned_run_as_it_is(
    dvid: Dvid, tuned: Path, bikes: Path
) -> None:
    made_here(tuned)
    before = dvid("runs", "--json").out
    said = dvid("depth", "bikes", "--from", bikes, "-o", "d.png")
    assert "the run `bikes` stays with the depth it was tuned on" in said.err
    assert dvid("runs", "--json").out == before
    dvid("depth", "bikes", "--from", bikes)
    assert stages(dvid) == WHOLE[:2]


def test_extract_takes_the_size_of_the_configured_model_as_tune_does(
    dvid: Dvid, bikes: Path
) -> None:
    Path("dvid.toml").write_text('model = "tiny"\n')
    (asked,) = map(json.loads, dvid("extract", bikes, "-n", "--json").lines)
    plan = [json.loads(line) for line in dvid("tune", bikes, "a man", "-n", "--json").lines]
    assert asked["key"] == plan[0]["key"]


def test_extract_then_tune_by_run_then_sample_goes_through(
    dvid: Dvid, base: Path, bikes: Path
) -> None:
    dvid("extract", bikes, *TINY, "--run", "r")
    dvid("tune", "--run", "r", "a man", "--model", base, "--steps", "1")
    dvid("invert", "r", "--steps", "2")
    assert Path(dvid("sample", "r", "-p", "a fox").lines[0]).exists()
    assert str(base) in dvid("show", "r").lines[0]


def test_another_clip_cannot_take_a_run_by_its_name(
    dvid: Dvid, tuned: Path, bikes: Path, base: Path, tmp_path: Path
) -> None:
    other = shutil.copy(bikes, tmp_path / "other.mp4")
    said = dvid("tune", other, "x", "--model", base, *TINY, "--run", "bikes", code=2)
    assert "the run `bikes` is of another clip" in said.err
    assert stages(dvid) == WHOLE


def test_a_forgotten_prompt_is_not_made_of_the_clips_name(
    dvid: Dvid, tuned: Path, bikes: Path
) -> None:
    said = dvid("tune", bikes, "--run", "bikes", code=2)
    assert "tuning takes a clip and what it shows" in said.err


def test_frames_of_a_run_cannot_be_chosen_again_even_by_the_default_value(
    dvid: Dvid, tuned: Path
) -> None:
    said = dvid("tune", "--run", "bikes", "x", "--frames", "8", code=2)
    assert "are chosen already" in said.err


def test_a_configured_size_leaves_the_frames_of_a_run_alone(dvid: Dvid, tuned: Path) -> None:
    Path("dvid.toml").write_text('size = "128"\n')
    plan = [json.loads(line) for line in dvid("depth", "-n", "--json").lines]
    assert all(step["hit"] for step in plan)


def test_a_configured_model_and_steps_leave_sampling_alone(dvid: Dvid, tuned: Path) -> None:
    Path("dvid.toml").write_text('model = "nobody/nothing"\nsteps = 7\n')
    assert dvid("sample", "-p", "a fox").lines


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [("DVID_STYLE", "animation", "style"), ("DVID_SEED", "3", "seed")],
)
def test_an_option_that_may_be_repeated_takes_one_value_from_the_environment(
    dvid: Dvid,
    tuned: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    expected: str,
) -> None:
    monkeypatch.setenv(name, value)
    (made,) = map(json.loads, dvid("sample", "-p", "a fox", "--eta", "0.1", "--json").lines)
    assert str(made[expected]) == value


def test_two_runs_named_at_once_are_a_usage_error(dvid: Dvid, tuned: Path) -> None:
    assert "two runs are named" in dvid("sample", "bikes", "--run", "x", "-p", "a", code=2).err


def test_the_hint_without_a_run_names_the_command_that_was_meant(
    dvid: Dvid, tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DVID_RUN")
    monkeypatch.chdir(tmp_path)
    assert "hint: `dvid invert bikes`" in dvid("invert", code=4).err


def test_a_wrong_value_is_refused_before_a_model_is_looked_for(dvid: Dvid, bikes: Path) -> None:
    said = dvid("tune", bikes, "x", "--model", "nobody/nothing", "--lr", "7", code=2)
    assert "`--lr` is `7`" in said.err


def test_a_clip_that_is_none_is_refused_before_a_model_is_fetched(
    dvid: Dvid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvcli.cli import sources
    from dvcli.errors import MissingError

    def resolve(reference: str, *, offline: bool = False, kind: str = "base") -> Path:
        assert offline, "the model was fetched"
        raise MissingError("not here")

    monkeypatch.setattr(sources, "resolve", resolve)
    (tmp_path / "x.mp4").write_text("no clip at all\n" * 40)
    dvid("tune", tmp_path / "x.mp4", "x", "--model", "org/name", code=3)


def test_a_dry_run_fetches_no_model(
    dvid: Dvid, bikes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvcli.cli import sources
    from dvcli.errors import MissingError

    def resolve(reference: str, *, offline: bool = False, kind: str = "base") -> Path:
        assert offline, "the model was fetched"
        raise MissingError("not here")

    monkeypatch.setattr(sources, "resolve", resolve)
    dvid("tune", bikes, "x", "--model", "org/name", "-n", code=4)


def save_one(folder: Path, clip: str) -> str:
    runs = Runs(folder)
    run = Run(name=runs.name_for(clip, cwd=folder), cwd=str(folder), clip=clip)
    barrier.wait()
    return runs.update(run, lambda stored: stored).name


barrier = multiprocessing.get_context("fork").Barrier(4)


@pytest.mark.skipif(os.name == "nt", reason="forks")
def test_clips_of_one_name_tuned_at_once_get_a_run_each(tmp_path: Path) -> None:
    clips = [f"/{folder}/clip.mp4" for folder in "abcd"]
    with multiprocessing.get_context("fork").Pool(4) as pool:
        names = pool.starmap(save_one, [(tmp_path, clip) for clip in clips])
    assert len(set(names)) == 4
    assert sorted(run.clip or "" for run in Runs(tmp_path).all()) == clips


def test_a_tuning_that_came_meanwhile_is_not_undone_by_an_inversion_of_the_old_one(
    dvid: Dvid, tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvcli.cli.session import Session

    realise = Session.realise

    def retuned_meanwhile(session: Session, recipe: object) -> object:
        found = realise(session, recipe)  # type: ignore[arg-type]
        runs = Runs.open()
        run = runs.get("bikes")
        newer = replace(run.recipes["tune"], prompt="newer")  # type: ignore[type-var]
        runs.save(replace(run, recipes={**run.recipes, "tune": newer}))  # type: ignore[dict-item]
        return found

    monkeypatch.setattr(Session, "realise", retuned_meanwhile)
    said = dvid("invert", "--steps", "2")
    assert "was tuned anew meanwhile" in said.err
    assert Runs.open().get("bikes").recipes["tune"].prompt == "newer"  # type: ignore[union-attr]


def test_a_run_with_a_name_of_its_own_is_left_alone_by_commands_that_do_not_name_it(
    dvid: Dvid, bikes: Path
) -> None:
    assert dvid("extract", bikes, *TINY, "--run", "mine").lines == ["mine"]
    assert dvid("extract", bikes, *TINY, "--frames", "2").lines == ["bikes"]
    assert dvid("extract", bikes, *TINY, "--frames", "2").lines == ["bikes"]
    assert {run.name for run in Runs.open().all()} == {"mine", "bikes"}


@pytest.mark.parametrize("variable", ["DVID_STATE_DIR", "DVID_CACHE_DIR"])
def test_where_nothing_can_be_kept_tuning_is_refused_before_any_work(
    dvid: Dvid, base: Path, bikes: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    Path("file").touch()
    monkeypatch.setenv(variable, str(Path("file").resolve() / "below"))
    said = dvid("tune", bikes, "x", "--model", base, "--steps", "1", *TINY, code=6)
    assert "done in" not in said.err


def test_no_cache_refuses_what_would_only_be_kept_there(
    dvid: Dvid, base: Path, bikes: Path
) -> None:
    said = dvid("tune", bikes, "x", "--model", base, "--no-cache", code=2)
    assert "would throw the tuning away" in said.err


def test_a_run_made_in_a_deleted_directory_is_nobodys_default(
    dvid: Dvid, bikes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert dvid("extract", bikes, *TINY).lines == ["bikes"]
    monkeypatch.chdir(tmp_path)
    dvid("sample", "-p", "x", "-n", code=4)


def test_a_mistyped_variable_is_an_error_with_a_suggestion(
    dvid: Dvid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVID_SAMPEL_GUIDANCE", "3")
    assert "did you mean `DVID_SAMPLE_GUIDANCE`?" in dvid("runs", code=2).err


@pytest.mark.parametrize("line", ['rm = ["bikes"]', 'run = "x"', "steps = true"])
def test_what_is_about_one_command_cannot_be_configured(dvid: Dvid, tuned: Path, line: str) -> None:
    Path("dvid.toml").write_text(line + "\n")
    dvid("runs", code=2)
    Path("dvid.toml").unlink()
    assert stages(dvid) == WHOLE


def test_the_run_that_is_meant_is_marked_and_named_where_none_was(
    dvid: Dvid, tuned: Path, bikes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_here(tuned)
    dvid("extract", bikes, *TINY, "--run", "other")
    Path("in").mkdir()
    monkeypatch.chdir("in")
    monkeypatch.delenv("DVID_RUN")
    lines = [line.split("\t") for line in dvid("runs").lines]
    assert [(line[0], line[5:]) for line in lines] == [("other", ["last"]), ("bikes", [])]
    assert [one["last"] for one in map(json.loads, dvid("runs", "--json").lines)] == [True, False]
    assert "going on with the run `other`" in dvid("depth", "-n", "--offline", code=4).err
    assert "going on" not in dvid("depth", "bikes", "-n").err
    monkeypatch.chdir("/")
    assert [len(line.split("\t")) for line in dvid("runs").lines] == [5, 5]


def test_a_name_that_would_break_the_line_is_escaped(
    dvid: Dvid, bikes: Path, tmp_path: Path
) -> None:
    clip = shutil.copy(bikes, tmp_path / "a\tb\nc.mp4")
    dvid("extract", clip, *TINY)
    (line,) = dvid("runs").lines
    cells = line.split("\t")
    assert cells[4].endswith("a\\tb\\nc.mp4")
    assert cells[5:] == ["last"]


def test_an_empty_clip_name_is_not_the_working_directory(dvid: Dvid, base: Path) -> None:
    assert "name is empty" in dvid("tune", "", "x", "--model", base, code=2).err
