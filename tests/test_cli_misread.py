"""What cannot be read of a command line is said in one plain sentence, with what was meant."""

import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
import typer
from program import Dvid, process

from dvcli.cli.app import app
from dvcli.runs import Run, Runs

RANGE = re.compile(r"(-?[0-9][0-9.e-]*) to ([0-9](?:[0-9.e]*[0-9])?)")
BEYOND = {"--weight-decay": 2, "--depth-near": -2, "--depth-far": -2}
TUNE = ["tune", "CLIP", "a man", "--model", "BASE"]


def said(dvid: Dvid, bikes: Path, base: Path, arguments: list[str], code: int = 2) -> list[str]:
    places = {"CLIP": str(bikes), "BASE": str(base)}
    answer = dvid(*[places.get(word, word) for word in arguments], code=code)
    assert answer.out == ""
    return answer.err.splitlines()


@pytest.mark.parametrize(
    ("option", "value", "wrong"),
    [
        ("--steps", "many", "no whole number"),
        ("--steps", "2.5", "no whole number"),
        ("--lr", "fast", "no number"),
        ("--lr", "1e", "no number"),
        ("--seed", "", "no whole number"),
        ("--fit", "stretch", "neither crop, squash nor pad"),
    ],
)
def test_what_is_no_number_or_choice_is_said_in_one_plain_sentence(
    dvid: Dvid, bikes: Path, base: Path, option: str, value: str, wrong: str
) -> None:
    lines = said(dvid, bikes, base, [*TUNE, option, value])
    assert lines[0] == f"error: `{option}` is `{value}`, which is {wrong}"
    assert lines[1].startswith("hint: `dvid tune --help`")


def test_one_wrong_value_of_several_is_the_one_that_is_named(dvid: Dvid) -> None:
    err = dvid("sample", "-p", "a", "--seed", "1", "--seed", "two", code=2).err
    assert err.startswith("error: `--seed` is `two`, which is no whole number\n")


@pytest.mark.parametrize(("option", "value"), [("--lr", "1e-4"), ("--steps", "1_0")])
def test_what_python_reads_as_a_number_is_one(
    dvid: Dvid, bikes: Path, base: Path, option: str, value: str
) -> None:
    assert dvid("tune", bikes, "a", "--model", base, "--size", "64", option, value, "-n").lines


@pytest.mark.parametrize("place", ["variable", "file"])
def test_a_wrong_value_that_is_configured_is_said_in_the_same_words(
    dvid: Dvid, bikes: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    if place == "variable":
        monkeypatch.setenv("DVID_TUNE_STEPS", "many")
    else:
        Path("dvid.toml").write_text('[tune]\nsteps = "many"\n')
    err = dvid("tune", bikes, "a man", code=2).err
    named = "`DVID_TUNE_STEPS`" if place == "variable" else "line 2, `steps` in `[tune]`"
    assert f"{named}: `--steps` is `many`, which is no whole number\n" in err
    assert "hint: `dvid tune --help` says what `--steps` takes" in err


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("frames = 5000", "`--frames` is `5000`, which is not between 1 and 512"),
        ("lr = 7", "`--lr` is `7`, which is not between 0 and 1"),
        ('fit = "stretch"', "`--fit` is `stretch`, which is neither crop, squash nor pad"),
        ("fit = true", "`--fit` is `true`, which is not a text or a number"),
        ('size = "abc"', "`--size` is `abc`, which is no size such as 512 or 768x432"),
        ("size = 4", "the width is `4`, which is not between 8 and 8192"),
    ],
)
def test_a_configured_value_that_is_not_allowed_is_told_its_place_and_what_is(
    dvid: Dvid, bikes: Path, base: Path, line: str, wrong: str
) -> None:
    Path("dvid.toml").write_text(f"[tune]\n{line}\n")
    err = dvid("tune", bikes, "a man", "--model", base, code=2).err
    assert "dvid.toml" in err.splitlines()[0]
    assert err.splitlines()[0].endswith(wrong)
    assert err.splitlines()[1].startswith("hint: `dvid tune --help`")


def test_a_wrong_value_that_was_typed_is_not_laid_to_a_file(
    dvid: Dvid, bikes: Path, base: Path
) -> None:
    Path("dvid.toml").write_text("[tune]\nframes = 4\n")
    err = dvid("tune", bikes, "a man", "--model", base, "--frames", "5000", code=2).err
    assert "dvid.toml" not in err


def test_a_wrong_value_of_what_every_command_has_points_at_the_help_that_tells_it(
    dvid: Dvid,
) -> None:
    Path("dvid.toml").write_text('attention = "much"\n')
    err = dvid("runs", code=2).err
    assert "line 1, `attention`: `--attention` is `much`, which is neither auto" in err
    assert "hint: `dvid --help` says what `--attention` takes" in err


@pytest.mark.parametrize(
    ("table", "meant"),
    [("[sampel]", "`[sample]`"), ("[cahe]", "`[cache]`"), ("[cache.gcc]", "`[cache.gc]`")],
)
def test_an_unknown_table_is_called_a_table_and_told_the_one_that_was_meant(
    dvid: Dvid, table: str, meant: str
) -> None:
    Path("dvid.toml").write_text(f"steps = 3\n\n{table}\nsteps = 3\n")
    lines = dvid("runs", code=2).err.splitlines()
    assert f"`{table}` in" in lines[0]
    assert lines[0].endswith(f"dvid.toml` line 3 is no table, did you mean {meant}?")
    assert lines[1] == "hint: a table is named after a command, and `dvid --help` lists them"


def test_what_cannot_be_configured_is_said_to_be_of_one_command(dvid: Dvid) -> None:
    Path("dvid.toml").write_text('[sample]\nprompt = "a fox"\n')
    err = dvid("runs", code=2).err
    assert "is about one command and cannot be configured" in err
    assert "hint: give `--prompt` on the command line" in err


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (["--step", "3"], "`--step`, did you mean `--steps`?"),
        (["--frame", "3"], "`--frame`, did you mean `--frames`?"),
        (["-frames", "3"], "`-frames`, did you mean `--frames`?"),
        (["--tempral-weight", "3"], "did you mean `--temporal-weight`?"),
        (["--nothing-like-it"], "`dvid tune` has no option `--nothing-like-it`"),
    ],
)
def test_a_misspelt_option_is_told_the_one_that_was_meant(
    dvid: Dvid, bikes: Path, base: Path, written: list[str], meant: str
) -> None:
    assert said(dvid, bikes, base, [*TUNE, *written])[0].endswith(meant)


def test_of_several_options_that_may_be_meant_the_nearest_comes_first(dvid: Dvid) -> None:
    err = dvid("sample", "-p", "a", "--guidance-fro", "1", code=2).err
    assert "did you mean `--guidance-from` or `--guidance`?" in err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["tunes"], "`dvid` has no command `tunes`, did you mean `tune`?"),
        (["config", "shwo"], "`dvid config` has no command `shwo`, did you mean `show`?"),
        (["nothing"], "`dvid` has no command `nothing`"),
        (["tune", "x.mp4", "a man", "--steps"], "`--steps` needs a value after it"),
        (["tune", "x.mp4", "--offline=yes"], "`--offline` takes no value"),
        (["extract"], "`dvid extract` needs CLIP"),
    ],
)
def test_other_slips_are_told_in_the_same_form(dvid: Dvid, words: list[str], line: str) -> None:
    lines = dvid(*words, code=2).err.splitlines()
    assert lines[0] == f"error: {line}"
    assert lines[1].startswith("hint: ")


def test_a_caption_without_quotes_is_told_of_quotes(dvid: Dvid) -> None:
    err = dvid("tune", "x.mp4", "a", "polar", "bear", code=2).err
    assert "no place for `polar bear`" in err
    assert "hint: quotes keep several words together" in err


def test_a_prompt_without_quotes_is_told_of_quotes(dvid: Dvid, tuned: Path) -> None:
    err = dvid("sample", "-p", "two", "robots", code=4).err
    assert "no run named `robots`" in err
    assert "quotes keep the words of a prompt together" in err


def test_a_file_that_looks_like_an_option_is_told_how_to_write_it(dvid: Dvid) -> None:
    Path("-clip.mp4").touch()
    err = dvid("tune", "-clip.mp4", "a bear", code=2).err
    assert "hint: the file of that name is `./-clip.mp4`" in err
    err = dvid("tune", "--", "-clip.mp4", "a bear", "--steps", "2", code=2).err
    assert "hint: after `--` nothing is an option" in err


def test_a_run_that_a_variable_names_wrongly_is_laid_to_the_variable(
    dvid: Dvid, tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVID_RUN", "nosuch")
    assert "error: `DVID_RUN`: no run named `nosuch`" in dvid("sample", "-p", "a fox", code=4).err
    assert "DVID_RUN" not in dvid("sample", "other", "-p", "a fox", code=4).err


def test_a_folder_in_the_place_of_prompts_is_called_one(dvid: Dvid, tuned: Path) -> None:
    Path("m").mkdir()
    assert "error: `m` is a folder, not a file\nhint: " in dvid("sample", "-f", "m", code=3).err


def test_the_end_of_a_very_long_prompt_is_told_in_short(dvid: Dvid, tuned: Path) -> None:
    err = dvid("sample", "-p", "wong " * 2000).err
    assert "the text encoder does not see the end of the prompt" in err
    assert max(map(len, err.splitlines())) < 1000


def test_a_run_whose_name_another_clip_takes_meanwhile_is_told_its_own(
    dvid: Dvid, bikes: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvcli.stages import extract

    build = extract.build

    def overtaken(*given: Any) -> None:
        now = time.time()
        Runs.open().save(Run(name="mine", cwd="/x", clip="/x/y.mp4", created=now, updated=now))
        build(*given)

    monkeypatch.setattr(extract, "build", overtaken)
    said = dvid("extract", bikes, "--size", "64", "--run", "mine")
    assert said.lines == ["mine-2"]
    assert "the name `mine` was taken meanwhile, so the run is `mine-2`" in said.err


def test_an_option_before_the_command_is_told_its_place(dvid: Dvid) -> None:
    err = dvid("--offline", "sample", code=2).err
    assert "hint: options come after the command: `dvid sample --offline`" in err


@pytest.mark.parametrize(
    ("text", "line", "named"),
    [
        ("tune.stpes = 1\n", 1, "tune.stpes"),
        ("# a\ntune = { lr = 1e-4, stpes = 1 }\n", 2, "tune.stpes"),
        ('guidance = 4\n[cache]\n"gc".limt = 1\n', 3, "cache.gc.limt"),
        ("[cache]\nfoo = 1\n", 2, "cache.foo"),
    ],
)
def test_an_unknown_key_is_told_its_line_however_it_is_written(
    dvid: Dvid, text: str, line: int, named: str
) -> None:
    Path("dvid.toml").write_text(text)
    assert (
        f"`{named}` in `{Path('dvid.toml').resolve()}` line {line} is no"
        in dvid("runs", code=2).err
    )


def test_a_table_of_a_group_is_told_those_of_its_commands(dvid: Dvid) -> None:
    Path("dvid.toml").write_text("[cache]\nfoo = 1\n")
    assert "hint: its commands have tables of their own: [cache.ls], " in dvid("runs", code=2).err


def test_a_configured_control_of_depth_that_is_not_allowed_is_told_its_place(
    dvid: Dvid, tuned: Path
) -> None:
    Path("dvid.toml").write_text("[sample]\ndepth-gain = 900\n")
    err = dvid("sample", "-p", "a fox", code=2).err
    assert "line 2: `--depth-gain` is `900`, which is not between -10 and 10" in err


@pytest.mark.parametrize("option", ["--json", "-q", "--no-config"])
def test_an_option_before_what_is_no_command_of_its_own_hides_nothing(
    dvid: Dvid, option: str
) -> None:
    assert "`dvid` has no command `nosuch`" in dvid(option, "nosuch", code=2).err
    assert dvid(option, "--help").out == dvid("--help").out
    assert dvid(option, "--version").out == dvid("--version").out
    assert dvid(option, "bench", "--help").out == dvid("bench", "--help").out


@pytest.mark.parametrize("options", [["--json"], ["-0"], ["-q"], ["-v"], ["-qv", "--null"]])
@pytest.mark.parametrize("command", [["runs"], ["cache", "ls"], ["show", "bikes"]])
def test_what_every_command_takes_may_stand_before_its_name(
    dvid: Dvid, tuned: Path, options: list[str], command: list[str]
) -> None:
    before, after = dvid(*options, *command), dvid(*command, *options)
    assert (before.out, before.err) == (after.out, after.err)
    assert before.out


def test_an_option_without_a_command_is_still_an_error(dvid: Dvid) -> None:
    assert "has no option `--json`" in dvid("--json", code=2).err


def test_quiet_hides_no_hint(dvid: Dvid) -> None:
    err = dvid("sample", "-p", "a fox", "-q", code=4).err
    assert err == "error: there is no run yet\nhint: `dvid tune CLIP CAPTION` makes one\n"


@pytest.mark.parametrize(
    ("option", "value", "least", "most"),
    [
        ("--size", "-1", "8", "8192"),
        ("--size", "100000", "8", "8192"),
        ("--size", "64x9000", "8", "8192"),
        ("--frames", "-1", "1", "512"),
        ("--frames", "4000", "1", "512"),
        ("--steps", "-1", "0", "1000000"),
        ("--lr", "-1", "0", "1"),
        ("--temporal-weight", "-1", "0", "1e+06"),
        ("--weight-decay", "2", "0", "1"),
        ("--grad-clip", "0", "1e-06", "1e+06"),
        ("--seed", "-1", "0", "4294967295"),
        ("--start", "-1", "0", "1e+06"),
    ],
)
def test_a_number_out_of_range_is_told_the_range(
    dvid: Dvid, bikes: Path, base: Path, option: str, value: str, least: str, most: str
) -> None:
    lines = said(dvid, bikes, base, [*TUNE, option, value])
    named = "the width" if option == "--size" and "x" not in value else f"`{option}`"
    if value == "64x9000":
        named, value = "the height", "9000"
    assert lines[0] == f"error: {named} is `{value}`, which is not between {least} and {most}"


@pytest.mark.parametrize("command", ["extract", "depth", "tune", "invert", "sample"])
def test_a_range_in_the_help_is_the_range_that_an_error_tells(
    dvid: Dvid, tuned: Path, bikes: Path, base: Path, command: str
) -> None:
    group: Any = typer.main.get_command(app)
    told = {max(p.opts, key=len): p.help or "" for p in group.commands[command].params}
    found = [(o, *m.groups()) for o, said in told.items() if (m := RANGE.search(said))]
    assert len(found) > 1
    own: dict[str, list[str | Path]] = {
        "extract": [bikes, "--model", base, "-o", "x.mp4"],
        "depth": [bikes, "--model", base, "-o", "x.mp4"],
        "tune": [bikes, "a man", "--model", base],
        "invert": ["bikes"],
        "sample": ["bikes", "-p", "a fox"],
    }
    for option, least, most in found:
        err = dvid(command, *own[command], f"{option}={BEYOND.get(option, -1)}", "-n", code=2).err
        bounds = re.search(r"not between (\S+) and (\S+)", err)
        assert bounds is not None, f"{option}: {err}"
        assert [float(bounds[1]), float(bounds[2])] == [float(least), float(most)], option


@pytest.mark.parametrize("size", ["-1", "100000"])
def test_doctor_knows_the_range_of_sizes_too(dvid: Dvid, size: str) -> None:
    err = dvid("doctor", "--model", "tiny", "--size", size, "--no-smoke", code=2).err
    assert "not between 8 and 8192" in err


def test_a_misspelt_model_is_told_the_short_name_that_was_meant(dvid: Dvid, bikes: Path) -> None:
    err = dvid("tune", bikes, "a man", "--model", "tinny", code=4).err
    assert "did you mean `tiny`?" in err
    assert "`--model tiny` is built in" in err


def test_a_misspelt_run_is_told_the_one_that_was_meant(dvid: Dvid, tuned: Path) -> None:
    err = dvid("sample", "bike", "-p", "a fox", code=4).err
    assert "no run named `bike`, did you mean `bikes`?" in err
    assert "did you mean" not in dvid("sample", "quite-another", "-p", "a fox", code=4).err


def test_a_text_in_the_place_of_a_clip_is_told_which_kinds_are_read(
    dvid: Dvid, tmp_path: Path
) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a clip\n")
    err = dvid("tune", text, "a man", "--model", "tiny", code=3).err
    for kind in (".mp4", ".webm", ".gif", "folders of images"):
        assert kind in err.splitlines()[-1]


def test_what_the_parser_says_reaches_a_real_process(tmp_path: Path) -> None:
    err = process("tune", "x.mp4", "a", "--step", "1", code=2, env=dict(os.environ)).err
    assert "did you mean `--steps`?" in err


def test_a_file_in_the_place_of_a_run_is_told_how_it_becomes_one(
    dvid: Dvid, tuned: Path, bikes: Path
) -> None:
    Path("other clip.mp4").write_bytes(bikes.read_bytes())
    err = dvid("sample", "other clip.mp4", "-p", "a fox", code=4).err
    assert "`dvid tune 'other clip.mp4' CAPTION` makes one of a clip" in err


@pytest.mark.parametrize("verb", ["report", "eval", "depth", "show"])
def test_a_file_that_is_not_there_is_told_so_where_a_run_could_stand(
    dvid: Dvid, tuned: Path, verb: str
) -> None:
    err = dvid(verb, "nosuch.mp4", code=4).err
    assert "no run named `nosuch.mp4`, nor is there such a file" in err


def test_an_argument_where_none_is_taken_is_not_told_of_quotes(dvid: Dvid) -> None:
    assert "quotes" not in dvid("cache", "ls", "nosuch", code=2).err


def test_a_misspelt_verb_of_config_is_told_the_one_that_was_meant(dvid: Dvid) -> None:
    assert "did you mean `sample`?" in dvid("config", "show", "smple", code=2).err


@pytest.mark.parametrize("line", ["nothing", '{"clip": "x.mp4",', "{'clip': 'x.mp4'}"])
def test_a_line_that_is_no_json_is_told_where_and_how_it_is_written(dvid: Dvid, line: str) -> None:
    Path("jobs.jsonl").write_text(line + "\n")
    lines = dvid("batch", "jobs.jsonl", code=3).err.splitlines()
    assert "line 1 of `jobs.jsonl`: it is no JSON from character" in lines[0]
    assert "double quotes" in lines[1]


def test_a_very_long_value_is_told_by_its_beginning_and_its_end(dvid: Dvid, tuned: Path) -> None:
    err = dvid("sample", "-p", "a", "--style", "x" * 5000 + "y", code=2).err
    line = next(line for line in err.splitlines() if line.startswith("error: "))
    assert 500 < len(line) < 600
    assert "…" in line
    assert "xy`" in line


def test_what_a_hint_says_to_type_is_whole(dvid: Dvid, tuned: Path) -> None:
    words = "a fox " * 300
    assert f"--prompt '{words}'" in dvid("sample", words, code=2).err
