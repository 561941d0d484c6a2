"""What a user who is new here is told where it would else be a surprise."""

import json
import tomllib
from pathlib import Path

import pytest
from pages import blocks, pages
from program import Dvid

from dvcli.cli.cache import size
from dvcli.cli.output import LONGEST, slug
from dvcli.cli.prompts import gather
from dvcli.cli.quoting import number
from dvcli.errors import ResourceError

pytestmark = pytest.mark.usefixtures("there")
FEW = ["--steps", "1", "--frames", "3", "--size", "64"]
TAKEN = "the run `bikes` has been tuned with "


@pytest.fixture
def there(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the directory from which the run of `tuned` was made, so that its clip means that run."""
    if "tuned" in request.fixturenames:
        monkeypatch.chdir(request.getfixturevalue("tuned_home") / "work")


def test_tuning_the_same_clip_otherwise_says_what_the_run_holds_once_and_before_the_work(
    dvid: Dvid, tuned: Path, base: Path, bikes: Path
) -> None:
    err = dvid("tune", bikes, "two men", "--model", base, *FEW).err
    (line,) = [line for line in err.splitlines() if line.startswith(TAKEN)]
    assert err.index(line) < min(err.index("depth: "), err.index("tune 0/1"))
    assert "`a man` and `--steps 2`" in line
    assert "stays in the cache" in line
    assert "`--run NAME` keeps both" in line


def test_a_tuning_that_fails_was_only_said_to_take_anothers_place_once_done(
    dvid: Dvid, tuned: Path, base: Path, bikes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dvcli.stages.tune.build", refuse)
    kept = dvid("runs", "--json").out
    err = dvid("tune", bikes, "two men", "--model", base, *FEW, code=5).err
    assert "takes its place once it is done" in err
    assert dvid("runs", "--json").out == kept


def refuse(*_: object) -> None:
    raise ResourceError("no room")


def test_another_number_format_is_told_in_words(
    dvid: Dvid, tuned: Path, base: Path, bikes: Path
) -> None:
    same: list[str | Path] = ["--steps", "2", "--frames", "3", "--size", "64", "--model", base]
    err = dvid("tune", bikes, "a man", *same, "--dtype", "bf16", "-n").err
    assert f"{TAKEN}another number format:" in err


def test_much_that_is_otherwise_is_told_in_short(
    dvid: Dvid, tuned: Path, base: Path, bikes: Path
) -> None:
    err = dvid("tune", bikes, "two men", "--model", base, "--lr", "1e-4", "--size", "96", "-n").err
    assert f"{TAKEN}the caption `a man`, `--frames 3` and other options: this tuning" in err


def test_both_tunings_are_kept_where_the_second_gets_a_name(
    dvid: Dvid, tuned: Path, base: Path, bikes: Path
) -> None:
    said = dvid("tune", bikes, "two men", "--model", base, *FEW, "--run", "men")
    assert said.lines == ["men"]
    assert TAKEN not in said.err
    listed = [line.split("\t")[0] for line in dvid("runs").lines]
    assert listed == ["men", "bikes"]


def test_the_same_tuning_from_another_folder_is_told_which_run_it_is_and_why_it_is_not_that_one(
    dvid: Dvid, tuned: Path, base: Path, bikes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Path.cwd()
    monkeypatch.delenv("DVID_RUN")
    (tuned / "elsewhere").mkdir()
    monkeypatch.chdir(tuned / "elsewhere")
    same: list[str | Path] = ["--steps", "2", "--frames", "3", "--size", "64", "--model", base]
    said = dvid("tune", bikes, "a man", *same)
    assert said.lines == ["bikes-2"]
    assert f"the run `bikes` of the folder `{first}` is this very tuning" in said.err
    assert "each folder has a last run of its own, so here it is `bikes-2`" in said.err
    assert "this very tuning" not in dvid("tune", bikes, "a man", *same).err
    dvid("invert", "--steps", "2")
    monkeypatch.chdir(first)
    assert json.loads(dvid("sample", "-p", "a fox", "--json").out)["run"] == "bikes"


@pytest.mark.parametrize("command", ["tune", "sample", "invert"])
def test_help_says_that_the_last_run_is_that_of_the_folder(dvid: Dvid, command: str) -> None:
    shown = " ".join(dvid(command, "--help").out.split())
    assert ("last run of the folder" if command == "tune" else "this folder's last") in shown


def test_the_same_tuning_again_takes_nothings_place(
    dvid: Dvid, tuned: Path, base: Path, bikes: Path
) -> None:
    same: list[str | Path] = ["--steps", "2", "--frames", "3", "--size", "64"]
    assert TAKEN not in dvid("tune", bikes, "a man", "--model", base, *same).err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--frames", "2"], "`--frames 3`"),
        (["--size", "96x64"], "`--size 64x64`"),
        (["--lr", "1e-4"], "`--lr 1e-5`"),
        (["--fit", "pad"], "`--fit crop`"),
    ],
)
def test_what_a_tuning_is_told_apart_by_is_named_as_an_option(
    dvid: Dvid, tuned: Path, base: Path, bikes: Path, options: list[str], told: str
) -> None:
    same: list[str | Path] = ["--steps", "2", "--frames", "3", "--size", "64", "--model", base]
    err = dvid("tune", bikes, "a man", *same, *options, "-n").err
    assert f"{TAKEN}{told}:" in err


def test_another_model_is_what_a_tuning_is_told_apart_by(
    dvid: Dvid, tuned: Path, bikes: Path
) -> None:
    same: list[str | Path] = ["--steps", "2", "--frames", "3", "--size", "64"]
    err = dvid("tune", bikes, "a man", *same, "--model", "tiny", "-n").err
    assert f"{TAKEN}another model:" in err


def test_a_batch_says_which_runs_it_tunes_otherwise(
    dvid: Dvid, tuned: Path, base: Path, bikes: Path
) -> None:
    tuning = f'"tune": {{"model": "{base}", "steps": 1, "frames": 3, "size": "64"}}'
    jobs = tuned / "jobs.jsonl"
    jobs.write_text(f'{{"clip": "{bikes}", "caption": "two men", {tuning}}}\n')
    for words in (["-n"], []):
        err = dvid("batch", jobs, *words).err
        assert err.count("`a man` and `--steps 2`: this tuning takes its place once it is") == 1
        assert '`"run": "NAME"` keeps both' in err


@pytest.mark.parametrize(
    ("options", "noted"),
    [
        ([], True),
        (["-q"], False),
        (["--lr", "1e-5"], False),
        (["--steps", "0"], False),
    ],
)
def test_the_built_in_model_at_the_rate_of_large_ones_is_told_its_own(
    dvid: Dvid, bikes: Path, options: list[str], noted: bool
) -> None:
    err = dvid("tune", bikes, "a man", "--model", "tiny", "--frames", "3", "-n", *options).err
    assert ("`--lr 1e-5`, which suits" in err and "`--lr 3e-4` suits it" in err) is noted


@pytest.mark.parametrize("wrong", ["no clip", "too few frames"])
def test_nothing_is_said_of_a_rate_before_an_error_about_the_clip(
    dvid: Dvid, bikes: Path, wrong: str
) -> None:
    Path("none.mp4").write_text("no clip at all\n" * 40)
    clip = "none.mp4" if wrong == "no clip" else bikes
    err = dvid("tune", clip, "a man", "--model", "tiny", "--frames", "300", code=3).err
    assert err.startswith("error: ")
    assert "--lr" not in err


@pytest.mark.parametrize(
    ("value", "typed"), [(3e-4, "3e-4"), (1e-5, "1e-5"), (0.5, "0.5"), (12.0, "12"), (1e6, "1e6")]
)
def test_a_number_is_told_as_it_is_typed(value: float, typed: str) -> None:
    assert number(value) == typed
    assert float(typed) == value


def test_the_rate_is_told_as_the_help_has_it(dvid: Dvid) -> None:
    shown = dvid("tune", "--help").out
    assert "[1e-5]" in shown
    assert "--lr 3e-4" in shown


def test_another_model_is_told_of_no_rate(dvid: Dvid, base: Path, bikes: Path) -> None:
    err = dvid("tune", bikes, "a man", "--model", base, "--frames", "3", "--size", "64", "-n").err
    assert "--lr" not in err


def test_one_frame_is_tuned_on_with_a_warning_that_names_the_least_for_motion(
    dvid: Dvid, tuned: Path, base: Path, bikes: Path
) -> None:
    one: list[str | Path] = [
        "--steps",
        "1",
        "--frames",
        "1",
        "--size",
        "64",
        "--run",
        "still",
        "--model",
        base,
    ]
    said = dvid("tune", bikes, "a man", *one)
    assert "warning: one frame has no motion to learn" in said.err
    assert "`--frames 2` or more" in said.err
    assert said.lines == ["still"]


def test_two_frames_are_no_reason_for_a_warning(dvid: Dvid, base: Path, bikes: Path) -> None:
    two: list[str | Path] = ["--steps", "1", "--frames", "2", "--size", "64", "--model", base]
    assert "warning" not in dvid("tune", bikes, "a man", *two, "-n").err


def test_tuning_without_a_caption_is_told_the_whole_command(dvid: Dvid, bikes: Path) -> None:
    err = dvid("tune", "my clip.mp4", code=2).err
    assert "hint: `dvid tune 'my clip.mp4' \"what the clip shows\"`" in err


def test_a_caption_before_its_clip_is_told_the_line_that_was_meant(dvid: Dvid, bikes: Path) -> None:
    err = dvid("tune", "a man on a bike", bikes, code=2).err
    assert f"hint: `dvid tune {bikes} 'a man on a bike'`" in err


def test_a_file_in_latin_1_is_told_what_makes_it_utf_8(dvid: Dvid, tuned: Path) -> None:
    Path("my prompts.txt").write_bytes("ein Bär".encode("latin-1"))
    err = dvid("sample", "-f", "my prompts.txt", code=3).err
    assert "hint: `iconv -f latin1 -t utf-8 'my prompts.txt'`" in err


def test_an_archive_that_is_not_there_is_told_what_writes_one(dvid: Dvid) -> None:
    assert "hint: `dvid cache export`" in dvid("cache", "import", "missing.tar", code=4).err


def test_the_cache_says_how_much_it_holds_and_what_keeps_it_large(dvid: Dvid, tuned: Path) -> None:
    assert f"4 artifacts, {_total(dvid)} in `{tuned / 'cache'}`" in dvid("cache", "ls").err
    assert "`--grace 0` lets go of" in dvid("cache", "gc", "--limit", "1K").err
    assert "last hour" not in dvid("cache", "gc", "--limit", "1K", "--grace", "0").err


def _total(dvid: Dvid) -> str:
    rows = map(json.loads, dvid("cache", "ls", "--json").lines)
    return size(sum(row["size"] for row in rows))


def test_a_new_file_of_a_clip_that_is_there_is_not_said_to_be_cached(
    dvid: Dvid, tuned: Path
) -> None:
    dvid("sample", "-p", "a fox")
    said = dvid("sample", "-p", "a fox", "-o", "new.mp4")
    assert "sample: cached" in said.err
    assert "render" not in said.err


def test_no_run_is_said_on_stderr_and_nothing_on_stdout(dvid: Dvid) -> None:
    said = dvid("runs")
    assert said.out == ""
    assert said.err == "there is no run yet; `dvid tune CLIP CAPTION` makes one\n"
    assert dvid("runs", "--json").out == ""
    assert dvid("runs", "-q").err == ""


@pytest.mark.parametrize("command", [["eval"], ["report", "--eval"]])
def test_where_the_judge_is_not_at_hand_the_built_in_one_is_named_and_not_taken(
    dvid: Dvid, tuned: Path, command: list[str]
) -> None:
    said = dvid(*command, "--offline", code=4)
    assert said.out == ""
    assert "`--clip-model tiny`" in said.err.splitlines()[-1]


def test_an_unknown_judge_of_preference_is_not_answered_with_another(
    dvid: Dvid, tuned: Path
) -> None:
    err = dvid("eval", "--metrics", "preference", "--offline", code=4).err
    assert "`--pick-model PATH`" in err
    assert "tiny" not in err


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("[wood", "a style is [NAME]"),
        ('wood = "x"', "write [wood]"),
        ('[wood]\npromt = "x"', "a style is [NAME]"),
        ("[wood]\nprompt = 3", 'prompt = "…"'),
        ('[wood]\nnegative = "x"', 'prompt = "…" under [wood]'),
        (b"[wood]\nprompt = '\xff'", "UTF-8"),
    ],
)
def test_a_broken_styles_file_is_told_how_it_is_written(
    dvid: Dvid, home: Path, text: str | bytes, hint: str
) -> None:
    path = home / "config" / "dvid" / "styles.toml"
    path.parent.mkdir(parents=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    lines = dvid("styles", code=3).err.splitlines()
    assert str(path) in lines[0]
    assert lines[1].startswith("hint: ")
    assert hint in lines[1]


@pytest.mark.parametrize("command", ["styles", "sample"])
def test_help_says_that_there_are_styles_of_ones_own(dvid: Dvid, command: str) -> None:
    shown = " ".join(dvid(command, "--help").out.split())
    assert "--path" in shown if command == "styles" else "`dvid styles`, yours too" in shown


def test_the_help_of_tune_calls_what_the_clip_shows_a_caption(dvid: Dvid) -> None:
    shown = dvid("tune", "--help").out
    assert "CAPTION" in shown
    assert "PROMPT" not in shown


def test_file_names_of_one_command_differ_in_the_words_that_prompts_differ_in() -> None:
    prompts = ["a red ball rolls past a blue cube", "a red ball rolls past a green cube"]
    labels = [
        slug(wish.label)
        for wish in gather(prompts, None, styles=["animation"], negative="", seeds=[0])
    ]
    assert labels == [
        "a-red-ball-rolls-past-a-blue-cube-animation",
        "a-red-ball-rolls-past-a-green-cube-animation",
    ]


@pytest.mark.parametrize("differing", ["first", "last"])
def test_long_prompts_are_told_apart_by_their_first_and_their_last_words(differing: str) -> None:
    middle = "with her cubs on the wide and white and windy ice of the far and frozen north"
    pair = [
        f"a {a} bear {middle} in a {b}"
        for a, b in (
            [("polar", "storm"), ("brown", "storm")]
            if differing == "first"
            else [("polar", "storm"), ("polar", "calm")]
        )
    ]
    names = [slug(words) for words in pair]
    assert names[0] != names[1]
    assert all(len(name) <= LONGEST for name in names)
    assert all(
        set(name.split("-")) <= set(words.split()) for name, words in zip(names, pair, strict=True)
    )


def test_a_prompt_is_named_the_same_whatever_else_is_asked_for() -> None:
    alone, beside = (
        gather(prompts, None, styles=[], negative="", seeds=[0])[0].label
        for prompts in (["a red fox"], ["a red fox", "a red fox cub"])
    )
    assert slug(alone) == slug(beside)


def test_the_configuration_that_the_first_edit_shows_is_one(dvid: Dvid) -> None:
    (page,) = [page for page in pages() if page.name == "first-edit.md"]
    (shown,) = [block.text for block in blocks(page) if block.language == "toml"]
    assert tomllib.loads(shown) == {"model": "tiny", "lr": 3e-4, "guidance": 4}
    Path("dvid.toml").write_text(shown)
    rows = [line.split("\t") for line in dvid("config", "show").lines]
    assert ["tune", "lr", "0.0003"] in [row[:3] for row in rows]
    assert ["sample", "guidance", "4"] in [row[:3] for row in rows]


def test_a_prompt_without_its_option_is_told_of_it(dvid: Dvid, tuned: Path) -> None:
    err = dvid("sample", "two dancing men", code=2).err
    assert "hint: `dvid sample --prompt 'two dancing men'`" in err
