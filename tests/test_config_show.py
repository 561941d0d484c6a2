"""`dvid config` and what comes before what: variable, dvid.toml, the user's file, default."""

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from program import Dvid

from dvcli.runs import Runs

OPTIONS = [  # verb, option, and values of it: default, user's file, dvid.toml, variable
    ("tune", "steps", ["500", "1", "2", "3"]),
    ("tune", "lr", ["1e-05", "0.1", "0.2", "0.3"]),
    ("tune", "temporal-target", ["source", "zero", "source", "zero"]),
    ("sample", "guidance", ["7.5", "1.5", "2.5", "3.5"]),
    ("sample", "style", ["", "animation", "impressionism", "photorealism"]),
    ("sample", "overwrite", ["false", "true", "false", "true"]),
    ("extract", "size", ["", "64", "128", "256x128"]),
    ("cache gc", "limit", ["50G", "1G", "2G", "3G"]),
    ("bench quality", "frames", ["8", "4", "5", "6"]),
]


def written(verb: str, option: str, value: str) -> str:
    """The value in a table of TOML."""
    numbers = value.replace(".", "").replace("e-", "").isdigit() and option not in ("size",)
    plain = numbers or value in ("true", "false")
    text = value if plain else json.dumps(value)
    return f"[{verb.replace(' ', '.')}]\n{option} = {text}\n"


def row(dvid: Dvid, verb: str, option: str) -> list[str]:
    """Value and origin as `config show` has them."""
    lines = [line.split("\t") for line in dvid("config", "show", *verb.split(), "--origin").lines]
    (found,) = [cells[2:] for cells in lines if cells[:2] == [verb, option]]
    return found


@pytest.mark.parametrize(
    ("verb", "option", "values"), OPTIONS, ids=[" ".join(o[:2]) for o in OPTIONS]
)
def test_each_place_comes_before_the_next_and_is_named(
    dvid: Dvid,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
    option: str,
    values: list[str],
) -> None:
    default, user, near, variable = values
    assert row(dvid, verb, option) == [default, "default"]
    own = home / "config" / "dvid" / "config.toml"
    own.parent.mkdir(parents=True)
    own.write_text(written(verb, option, user))
    assert row(dvid, verb, option) == [user, f"{own}:2"]
    Path("dvid.toml").write_text("# mine\n\n" + written(verb, option, near))
    Path("deep/er").mkdir(parents=True)
    nearest = Path("dvid.toml").resolve()
    monkeypatch.chdir("deep/er")
    assert row(dvid, verb, option) == [near, f"{nearest}:4"]
    name = f"DVID_{verb}_{option}".upper().replace(" ", "_").replace("-", "_")
    monkeypatch.setenv(name, variable)
    assert row(dvid, verb, option) == [variable, name]


def test_what_is_shown_is_what_a_verb_goes_by(dvid: Dvid, tuned: Path) -> None:
    Path("dvid.toml").write_text("[sample]\nformat = 'gif'\nguidance = 3\n")
    path = dvid("sample", "-p", "a cat").lines[0]
    assert path.endswith(".gif")
    assert "--guidance 3.0" in dvid("show", path).lines[-1]
    flagged = dvid("sample", "-p", "a cat", "--format", "webp", "--guidance", "4").lines[0]
    assert flagged.endswith(".webp")
    assert "--guidance 4.0" in dvid("show", flagged).lines[-1]


def test_a_key_at_the_top_goes_for_every_verb_that_has_it(dvid: Dvid) -> None:
    Path("dvid.toml").write_text("crf = 20\n[extract]\ncrf = 25\n")
    here = Path("dvid.toml").resolve()
    assert row(dvid, "sample", "crf") == ["20", f"{here}:1"]
    assert row(dvid, "extract", "crf") == ["25", f"{here}:3"]


def test_a_variable_of_one_verb_comes_before_that_of_all(
    dvid: Dvid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVID_TUNE_STEPS", "7")
    monkeypatch.setenv("DVID_STEPS", "9")
    assert row(dvid, "tune", "steps") == ["7", "DVID_TUNE_STEPS"]
    assert row(dvid, "invert", "steps") == ["9", "DVID_STEPS"]


def test_without_origin_there_are_three_cells_and_no_place(dvid: Dvid) -> None:
    Path("dvid.toml").write_text("crf = 20\n")
    assert "sample\tcrf\t20" in dvid("config", "show", "sample").lines


def test_several_values_stand_in_one_cell(dvid: Dvid) -> None:
    Path("dvid.toml").write_text("[sample]\nstyle = ['animation', 'impressionism']\n")
    assert row(dvid, "sample", "style")[0] == "animation,impressionism"


def test_json_keeps_types_and_says_where(dvid: Dvid) -> None:
    Path("dvid.toml").write_text("[sample]\nguidance = 3\noverwrite = true\n")
    found = {
        one["option"]: one
        for one in map(json.loads, dvid("config", "show", "sample", "--json").lines)
    }
    assert found["guidance"]["schema"] == 1
    assert (found["overwrite"]["value"], found["seed"]["value"]) == (True, None)
    assert found["overwrite"]["origin"].endswith("dvid.toml:3")
    assert found["eta"]["origin"] == "default"


def test_all_verbs_are_listed_where_none_is_named(dvid: Dvid) -> None:
    listed = {line.split("\t")[0] for line in dvid("config", "show").lines}
    assert {"tune", "sample", "cache gc", "bench quality", "doctor"} <= listed


def test_a_group_names_all_its_verbs(dvid: Dvid) -> None:
    listed = {line.split("\t")[0] for line in dvid("config", "show", "cache").lines}
    assert "cache gc" in listed
    assert all(verb.startswith("cache ") for verb in listed)


def test_what_cannot_be_configured_is_not_listed(dvid: Dvid) -> None:
    options = {line.split("\t")[1] for line in dvid("config", "show", "sample").lines}
    assert not {"prompt", "output", "run", "dry-run"} & options


def test_an_unknown_verb_is_a_usage_error(dvid: Dvid) -> None:
    assert "`smaple`" in dvid("config", "show", "smaple", code=2).err


@pytest.mark.parametrize("text", ["stpes = 3\n", "[tune]\nstpes = 3\n", "[tune]\nSteps = 3\n"])
def test_an_unknown_key_is_an_error_with_a_suggestion_and_its_place(dvid: Dvid, text: str) -> None:
    Path("dvid.toml").write_text(text)
    said = dvid("config", "show", code=2).err
    assert f"line {text.count(chr(10))}" in said
    assert "did you mean `steps`?" in said


def test_the_files_in_force_are_listed_the_nearer_first(
    dvid: Dvid, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = home / "config" / "dvid" / "config.toml"
    (missing,) = map(json.loads, dvid("config", "path", "--json").lines)
    assert (missing["path"], missing["exists"]) == (str(own), False)
    assert dvid("config", "path").out == ""
    own.parent.mkdir(parents=True)
    own.touch()
    Path("dvid.toml").touch()
    assert dvid("config", "path").lines == [str(Path("dvid.toml").resolve()), str(own)]


def not_inverted() -> None:
    """As if the run had been tuned and no more."""
    runs = Runs.open()
    run = runs.get("bikes")
    recipes = {stage: recipe for stage, recipe in run.recipes.items() if stage != "invert"}
    runs.save(replace(run, recipes=recipes))


def test_no_config_leaves_files_and_variables_aside(
    dvid: Dvid, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("dvid.toml").write_text("[tune]\nsteps = 3\n")
    monkeypatch.setenv("DVID_TUNE_LR", "0.5")
    told = [
        dvid("config", "show", "tune", "--origin"),
        dvid("config", "show", "tune", "--no-config"),
    ]
    assert "tune\tsteps\t3\t" in told[0].out
    assert "tune\tlr\t0.5\t" in told[0].out
    assert "tune\tsteps\t500" in told[1].out
    assert "tune\tlr\t1e-05" in told[1].out
    Path("dvid.toml").write_text("[tune]\nstpes = 3\n")
    assert dvid("runs", code=2).err
    dvid("--no-config", "runs")
    assert dvid("runs", "--", "--no-config", code=2).err


def test_the_lines_of_a_file_give_its_bytes_whatever_is_configured_there(
    dvid: Dvid, tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (made,) = dvid("sample", "-p", "a cat", "--guidance", "4").lines
    bytes_before, runs = Path(made).read_bytes(), sorted(Runs.open().names())
    kept = Path(made).rename("kept.mp4")
    assert "--no-config" not in dvid("show", kept).out
    Path("dvid.toml").write_text('[tune]\nseed = 5\n[sample]\nstyle = "animation"\nfast = true\n')
    monkeypatch.setenv("DVID_GUIDANCE", "2")
    for line in dvid("show", kept).lines:
        dvid(*shlex.split(line)[1:])
    assert Path(made).read_bytes() == bytes_before
    assert sorted(Runs.open().names()) == runs


@pytest.mark.parametrize("place", ["file", "environment", "nowhere"])
@pytest.mark.parametrize("command", [["sample", "-p", "a fox"], ["batch", "jobs.jsonl"]])
def test_sample_inverts_as_invert_would(
    dvid: Dvid, tuned: Path, monkeypatch: pytest.MonkeyPatch, place: str, command: list[str]
) -> None:
    not_inverted()
    Path("jobs.jsonl").write_text('{"run": "bikes", "prompts": ["a fox"]}')
    if place == "file":
        Path("dvid.toml").write_text("[invert]\nsteps = 20\nrefine = 1\n")
    elif place == "environment":
        monkeypatch.setenv("DVID_INVERT_STEPS", "20")
    wanted = json.loads(dvid("invert", "-n", "--json").lines[-1])
    steps = map(json.loads, dvid(*command, "-n", "--json").lines)
    assert [step["key"] for step in steps if step["stage"] == "invert"] == [wanted["key"]]


def test_the_inversion_of_a_run_counts_more_than_what_is_configured(
    dvid: Dvid, tuned: Path
) -> None:
    Path("dvid.toml").write_text("[invert]\nsteps = 20\n")
    steps = map(json.loads, dvid("sample", "-p", "a fox", "-n", "--json").lines)
    assert {step["stage"]: step["hit"] for step in steps}["invert"]
