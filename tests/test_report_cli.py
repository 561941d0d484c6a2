"""`dvid report`: what goes in, what comes out, and what is refused before any work."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import empty_home
from PIL import Image
from program import Dvid, copy_state
from test_report_page import outline

from dvcli.cli.main import main
from dvcli.runs import Runs
from dvcli.video.metadata import read_metadata
from dvcli.video.probe import probe
from dvcli.video.write import write

MOVING = ("mp4", "webm", "gif", "webp", "apng")


SAMPLE = ("sample", "bikes", "-p", "a fox", "-p", "a cat", "-s", "animation", "-q")


@pytest.fixture(scope="module")
def sampled_home(tmp_path_factory: pytest.TempPathFactory, tuned_home: Path) -> Path:
    """A home in which the tuned run has two prompts × two guidances; do not write."""
    home = tmp_path_factory.mktemp("sampled")
    with pytest.MonkeyPatch.context() as patch:
        empty_home(home, patch)
        copy_state(tuned_home, home)
        for guidance in ("2", "4"):
            assert main([*SAMPLE, "--guidance", guidance]) == 0
    return home


@pytest.fixture
def sampled(home: Path, sampled_home: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The clips of that run, in the order they were made; this test's own cache and runs."""
    copy_state(sampled_home, home)
    monkeypatch.setenv("DVID_RUN", "bikes")
    return [Path(made.path) for made in Runs.open().samples("bikes")]


@pytest.fixture
def own_files(dvid: Dvid, tuned: Path) -> list[Path]:
    """The same, made by this test, so that it may change the files."""
    return [
        Path(line).absolute()
        for guidance in ("2", "4")
        for line in dvid(*SAMPLE, "--guidance", guidance).lines
    ]


def stranger(name: str = "other system.mp4", count: int = 5) -> Path:
    frames = np.random.default_rng(count).integers(0, 256, (count, 48, 80, 3), np.uint8)
    write(Path(name), frames, fps=8, metadata=None)
    return Path(name)


def cards(path: Path) -> list[str]:
    found = outline(path.read_text())
    return [a["aria-label"] or "" for _, a in found.tags if a.get("role") == "img"]


GIVEN = ["source", "depth", "reconstruction"]


def test_the_page_of_a_run_has_what_is_given_and_every_clip(
    dvid: Dvid, sampled: list[Path]
) -> None:
    assert dvid("report", "-o", "x.html").lines == ["x.html"]
    assert cards(Path("x.html")) == [*GIVEN, "a fox", "a cat", "a fox", "a cat"]


def test_each_clip_has_the_commands_that_show_gives(dvid: Dvid, sampled: list[Path]) -> None:
    dvid("report", "-o", "x.html")
    text = outline(Path("x.html").read_text()).text
    assert text.count("--guidance 2.0 --dtype fp32") == 2
    (line,) = [x for x in dvid("show", sampled[0]).lines if x.startswith("dvid sample")]
    assert line in text


def test_without_an_output_it_goes_to_the_runs_folder(dvid: Dvid, sampled: list[Path]) -> None:
    assert dvid("report").lines == ["out/bikes/report.html"]


@pytest.mark.parametrize("kind", MOVING)
def test_a_grid_has_a_frame_for_each_of_the_clips_and_says_what_is_in_it(
    dvid: Dvid, sampled: list[Path], kind: str
) -> None:
    (path,) = map(Path, dvid("report", "-o", f"x.{kind}").lines)
    info = probe(path)
    assert info.frames == 3
    assert info.width > 500
    told = json.loads(read_metadata(path) or "")
    assert [one["recipe"]["guidance"] for one in told["report"]] == [2.0, 2.0, 4.0, 4.0]


def test_a_contact_sheet_has_a_row_a_clip(dvid: Dvid, sampled: list[Path]) -> None:
    dvid("report", "-o", "all.png", "--width", "600")
    dvid("report", "-o", "made.png", "--width", "600", "--no-source")
    with Image.open("all.png") as one, Image.open("made.png") as other:
        assert one.width == other.width == 600
        assert one.height > other.height * 1.5


def test_the_same_report_again_is_the_same_file_and_another_is_not_replaced(
    dvid: Dvid, sampled: list[Path]
) -> None:
    dvid("report", "-o", "x.html")
    before = Path("x.html").stat()
    dvid("report", "-o", "x.html")
    assert Path("x.html").stat().st_mtime_ns == before.st_mtime_ns
    said = dvid("report", "-o", "x.html", "--title", "other", code=2)
    assert "exists and is a different file" in said.err
    dvid("report", "-o", "x.html", "--title", "other", "--overwrite")
    assert "<h1>other</h1>" in Path("x.html").read_text()


@pytest.mark.parametrize("kind", ["html", "png", *MOVING])
def test_the_same_clips_give_the_same_bytes(dvid: Dvid, sampled: list[Path], kind: str) -> None:
    for name in "ab":
        dvid("report", "-o", f"{name}.{kind}")
    assert Path(f"a.{kind}").read_bytes() == Path(f"b.{kind}").read_bytes()


def test_json_tells_the_path_the_clips_and_the_size(dvid: Dvid, sampled: list[Path]) -> None:
    (line,) = dvid("report", "-o", "x.html", "--json").lines
    told = json.loads(line)
    assert told == {
        "schema": 1,
        "path": "x.html",
        "clips": 4,
        "bytes": Path("x.html").stat().st_size,
    }


def test_files_of_ours_bring_their_source_and_prompt(dvid: Dvid, sampled: list[Path]) -> None:
    dvid("report", *sampled[:2], "-o", "x.html")
    assert cards(Path("x.html")) == [*GIVEN, "a fox", "a cat"]
    text = outline(Path("x.html").read_text()).text
    assert "dvid sample again-" in text


def test_files_of_ours_are_shown_where_nothing_is_cached(
    dvid: Dvid, sampled: list[Path], home: Path
) -> None:
    shutil.rmtree(home / "cache")
    dvid("report", *sampled[:2], "-o", "x.html")
    assert cards(Path("x.html")) == ["a fox", "a cat"]


def test_anybodys_files_are_shown_by_their_names_beside_the_source_given(dvid: Dvid) -> None:
    one, two = stranger(), stranger("b.webp", 2)
    dvid("report", one, two, "--source", stranger("src.mp4", 3), "-o", "x.html")
    assert cards(Path("x.html")) == ["source", "other system", "b"]
    dvid("report", one, two, "--source", "src.mp4", "-o", "x.gif")
    assert probe(Path("x.gif")).frames == 5


def test_what_is_no_clip_is_refused_once_and_plainly(dvid: Dvid) -> None:
    Path("text.mp4").write_text("no film")
    err = dvid("report", stranger(), "text.mp4", "-o", "x.html", code=3).err
    assert err.startswith("error: `text.mp4`")
    assert err.count("text.mp4") == 1


def test_a_strangers_file_joins_the_run_it_is_named_with(dvid: Dvid, sampled: list[Path]) -> None:
    dvid("report", "bikes", stranger(), "-o", "x.html")
    assert cards(Path("x.html"))[-1] == "other system"
    assert Path("x.html").read_text().count("<section>") == 1


def test_a_folder_of_images_is_a_clip(dvid: Dvid) -> None:
    Path("frames").mkdir()
    for k in range(3):
        Image.new("RGB", (32, 32), (k * 80, 0, 0)).save(f"frames/{k}.png")
    dvid("report", "frames", "-o", "x.html")
    assert 'data-n="3"' in Path("x.html").read_text()


def test_a_clip_that_the_cache_has_lost_is_taken_from_its_file_or_left_out_with_a_warning(
    dvid: Dvid, own_files: list[Path], home: Path
) -> None:
    kept, gone = own_files[0], own_files[1]
    shutil.rmtree(home / "cache")
    gone.unlink()
    said = dvid("report", "-o", "x.html")
    assert gone.name in said.err
    assert "left out" in said.err
    assert kept.exists()
    assert cards(Path("x.html")) == ["source", "a fox", "a fox", "a cat"]


def test_a_file_that_is_another_clip_now_is_not_taken_for_the_runs_own(
    dvid: Dvid, own_files: list[Path], home: Path
) -> None:
    shutil.rmtree(home / "cache")
    shutil.copy(own_files[1], own_files[0])
    assert "left out" in dvid("report", "-o", "x.html").err
    assert cards(Path("x.html")) == ["source", "a cat", "a fox", "a cat"]


def figures(path: Path) -> list[dict[str, float]]:
    found = outline(path.read_text())
    return [json.loads(a["data-figures"] or "") for _, a in found.tags if "data-figures" in a]


def test_figures_that_eval_has_measured_are_shown_and_no_others_are_made(
    dvid: Dvid, sampled: list[Path], judge: Path
) -> None:
    said = dvid("report", "-o", "none.html")
    assert figures(Path("none.html")) == [{}] * 4
    assert "eval" not in said.err
    rows = dvid("eval", "--clip-model", judge, "--json").lines
    said = dvid("report", "-o", "x.html")
    assert "done in" not in said.err
    measured = {
        Path(row["clip"]).name: row["frame_consistency"]
        for row in map(json.loads, rows)
        if row.get("clip")
    }
    shown = [found["consistency"] for found in figures(Path("x.html"))]
    assert shown == pytest.approx([measured[path.name] for path in sampled], abs=1e-5)


def test_eval_measures_what_is_missing_and_dry_run_only_says_so(
    dvid: Dvid, sampled: list[Path], judge: Path
) -> None:
    options = ["--eval", "--clip-model", judge, "-o", "x.html"]
    plan = dvid("report", *options, "-n").lines
    assert any(line.startswith("eval\tmiss") for line in plan)
    assert not Path("x.html").exists()
    dvid("report", *options)
    assert all({"consistency", "alignment"} <= set(found) for found in figures(Path("x.html")))


def test_a_prompt_that_is_markup_is_shown_as_text(dvid: Dvid, tuned: Path) -> None:
    evil = "a fox</script><img src=x onerror=alert(1)>"
    dvid("sample", "-p", evil)
    dvid("report", "-o", "x.html")
    found = outline(Path("x.html").read_text())
    assert "img" not in [tag for tag, _ in found.tags]
    assert evil in found.text


def test_a_page_names_no_clip_by_what_only_this_machine_knows_in_a_grid(
    dvid: Dvid, sampled: list[Path], base: Path
) -> None:
    dvid("report", "-o", "x.webp")
    assert str(base) not in (read_metadata(Path("x.webp")) or "")


@pytest.mark.parametrize("kind", ["png", *MOVING])
def test_show_gives_the_commands_of_every_clip_in_a_grid_or_sheet(
    dvid: Dvid, sampled: list[Path], kind: str
) -> None:
    dvid("report", "-o", f"x.{kind}")
    lines = [x for x in dvid("show", f"x.{kind}").lines if x.startswith("dvid sample")]
    ran = [x for path in sampled for x in dvid("show", path).lines if x.startswith("dvid sample")]
    assert lines == ran
    *clips, report = map(json.loads, dvid("show", f"x.{kind}", "--json").lines)
    assert len(clips) == 4
    assert report["commands"] == [f"dvid report bikes -o x.{kind}"]


@pytest.mark.parametrize("name", ["x.png", "x.mp4", "x.html"])
def test_show_of_a_report_gives_each_command_once_and_last_the_reports_own(
    dvid: Dvid, sampled: list[Path], name: str
) -> None:
    options = ["--title", "two 'words'", "--width", "700"]
    dvid("report", "-o", name, *options)
    lines = dvid("show", name).lines
    assert len(set(lines)) == len(lines)
    verbs = [line.split()[1] for line in lines]
    assert verbs == ["tune", "invert", *["sample"] * 4, "report"]
    asked = ["--width", "700", "--title", "two 'words'"]
    assert shlex.split(lines[-1]) == ["dvid", "report", "bikes", *asked, "-o", name]


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_pasted_lines_of_a_grid_or_sheet_make_its_very_bytes_again(
    dvid: Dvid, sampled: list[Path], home: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    dvid("report", "-o", f"x.{kind}", "--no-source")
    before = Path(f"x.{kind}").read_bytes()
    lines = dvid("show", f"x.{kind}").lines
    shutil.rmtree(home / "state")
    monkeypatch.delenv("DVID_RUN")
    (home / "elsewhere").mkdir()
    monkeypatch.chdir(home / "elsewhere")
    for line in lines:
        dvid(*shlex.split(line)[1:])
    assert Path(f"x.{kind}").read_bytes() == before


def test_the_lines_of_a_report_that_shows_less_than_the_run_has_now_make_a_run_of_their_own(
    dvid: Dvid, sampled: list[Path]
) -> None:
    dvid("report", "-o", "x.png")
    dvid("sample", "-p", "one more")
    *_, last = dvid("show", "x.png").lines
    assert last.startswith("dvid report again-")


def test_what_a_strangers_report_says_of_its_look_is_no_other_option(
    dvid: Dvid, sampled: list[Path]
) -> None:
    dvid("report", "-o", "x.webp")
    story = json.loads(read_metadata(Path("x.webp")) or "")
    story["look"] = {"overwrite": True, "output": "y", "title": "-o y", "fps": "z", "crf": 3}
    frames = np.zeros((2, 8, 8, 3), np.uint8)
    write(Path("y.webp"), frames, fps=8, metadata=json.dumps(story))
    last = shlex.split(dvid("show", "y.webp").lines[-1])
    assert last == ["dvid", "report", "bikes", "--crf", "3", "--title=-o y", "-o", "y.webp"]


def last_words(dvid: Dvid, path: str) -> list[str]:
    """What a shell makes of the report's own line."""
    return shlex.split(dvid("show", path).lines[-1])


@pytest.mark.parametrize("kind", ["png", "webp", "html"])
def test_show_of_strangers_files_names_each_and_their_source(dvid: Dvid, kind: str) -> None:
    stranger("foreign.mp4"), stranger("source.mp4", 3)
    dvid("report", "foreign.mp4", "--source", "source.mp4", "-o", f"x.{kind}")
    (line,) = dvid("show", f"x.{kind}").lines
    assert line == f"dvid report foreign.mp4 --source source.mp4 -o x.{kind}"


def test_a_strangers_file_is_looked_for_beside_the_report_too(dvid: Dvid, home: Path) -> None:
    folder = home / "elsewhere"
    folder.mkdir()
    shutil.move(stranger("foreign.mp4"), folder)
    dvid("report", folder / "foreign.mp4", "-o", folder / "x.html")
    assert last_words(dvid, str(folder / "x.html"))[2] == str(folder / "foreign.mp4")


def test_another_file_of_a_strangers_name_is_not_taken_for_it(dvid: Dvid) -> None:
    stranger("foreign.mp4")
    dvid("report", "foreign.mp4", "-o", "x.png")
    stranger("foreign.mp4", 7)
    said = dvid("show", "x.png")
    assert said.lines == ["dvid report FILE -o x.png"]
    assert "`foreign.mp4` is nowhere here" in said.err


def test_a_strangers_file_without_an_ending_is_no_runs_name(
    dvid: Dvid, sampled: list[Path]
) -> None:
    frames = Path("frames")
    frames.mkdir()
    Image.new("RGB", (32, 32)).save(frames / "0.png")
    dvid("report", frames, "-o", "x.png")
    assert last_words(dvid, "x.png") == ["dvid", "report", "./frames", "-o", "x.png"]


def test_show_of_a_sheet_of_frames_and_depth_makes_and_shows_both(
    dvid: Dvid, tuned: Path, bikes: Path, base: Path
) -> None:
    framing = ["--frames", "3", "--size", "64"]
    dvid("extract", bikes, *framing, "-o", "e.mp4")
    dvid("depth", bikes, *framing, "--model", base, "-o", "d.mp4")
    dvid("report", "e.mp4", "d.mp4", "-o", "ed.png")
    extract, depth, report = map(shlex.split, dvid("show", "ed.png").lines)
    assert [extract[1], depth[1]] == ["extract", "depth"]
    assert (extract[-1], depth[-1]) == ("e.mp4", "d.mp4")
    assert report == ["dvid", "report", "e.mp4", "d.mp4", "-o", "ed.png"]


def test_show_of_a_sheet_of_a_run_without_clips_makes_that_run(dvid: Dvid, tuned: Path) -> None:
    dvid("report", "bikes", "-o", "x.png")
    lines = dvid("show", "x.png").lines
    assert [line.split()[1] for line in lines] == ["tune", "invert", "report"]
    assert lines[-1] == "dvid report bikes -o x.png"


@pytest.mark.parametrize("kind", ["png", "html"])
def test_pasted_lines_of_a_report_of_files_make_its_very_bytes_again(
    dvid: Dvid, own_files: list[Path], home: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    shutil.copy(own_files[0], "-x.mp4")
    stranger("foreign.mp4"), stranger("source.mp4", 3)
    files = ["foreign.mp4", "./-x.mp4", str(own_files[1])]
    dvid("report", *files, "--source", "source.mp4", "-o", f"b.{kind}")
    lines = dvid("show", f"b.{kind}").lines
    monkeypatch.delenv("DVID_RUN")
    elsewhere = home / "elsewhere"
    elsewhere.mkdir()
    for name in ("foreign.mp4", "source.mp4"):
        shutil.copy(name, elsewhere)
    before = Path(f"b.{kind}").read_bytes()
    monkeypatch.chdir(elsewhere)
    for line in lines:
        dvid(*shlex.split(line)[1:])
    assert Path(f"b.{kind}").read_bytes() == before


def test_files_of_one_name_are_written_apart(dvid: Dvid, own_files: list[Path]) -> None:
    for folder, path in zip("ab", own_files, strict=False):
        Path(folder).mkdir()
        shutil.copy(path, f"{folder}/x.mp4")
    dvid("report", "a/x.mp4", "b/x.mp4", "-o", "x.png")
    *_, first, second, report = map(shlex.split, dvid("show", "x.png").lines)
    assert first[-1] == report[2] == "x.mp4"
    assert second[-1] == report[3] == "2/x.mp4"


def test_a_judge_that_is_a_folder_is_a_word_to_replace(
    dvid: Dvid, sampled: list[Path], judge: Path
) -> None:
    dvid("report", "-o", "x.html", "--clip-model", judge)
    assert str(judge) not in Path("x.html").read_text()
    assert last_words(dvid, "x.html")[3:5] == ["--clip-model", "CLIP-MODEL"]


def test_the_rows_and_columns_of_a_grid_are_asked_for_again(
    dvid: Dvid, sampled: list[Path]
) -> None:
    asked = ["--rows", "guidance", "--columns", "prompt,style"]
    dvid("report", *asked, "-o", "x.webp")
    assert last_words(dvid, "x.webp") == ["dvid", "report", "bikes", *asked, "-o", "x.webp"]


def test_the_lines_of_a_page_leave_a_run_that_was_tuned_anew_as_it_is(
    dvid: Dvid, sampled: list[Path]
) -> None:
    dvid("report", "-o", "r.html")
    before = dvid("show", "r.html").lines
    assert "--run bikes" in before[0]
    dvid("tune", "--run", "bikes", "two men", "--steps", "1")
    lines = dvid("show", "r.html").lines
    assert "--run again-" in lines[0]
    assert lines[-1].startswith("dvid report again-")


def test_the_lines_of_a_page_of_a_file_name_the_clip_and_the_run(
    dvid: Dvid, sampled: list[Path], bikes: Path
) -> None:
    dvid("report", sampled[0], "-o", "f.html")
    tune, invert, sample, report = map(shlex.split, dvid("show", "f.html").lines)
    assert tune[:3] == ["dvid", "tune", str(bikes)]
    assert tune[tune.index("--run") + 1] == invert[2] == sample[2] == "bikes"
    assert sample[-2:] == ["--output", sampled[0].name]
    assert report == ["dvid", "report", sampled[0].name, "-o", "f.html"]


def test_the_commands_on_a_page_of_a_file_act_on_a_run_of_their_own(
    dvid: Dvid, sampled: list[Path]
) -> None:
    dvid("report", sampled[0], "-o", "f.html")
    found = outline(Path("f.html").read_text()).text.splitlines()
    runs = [shlex.split(line)[2] for line in found if line.startswith(("dvid inv", "dvid sam"))]
    assert len(runs) == 2
    assert all(run.startswith("again-") for run in runs)


@pytest.mark.parametrize("kind", ["html", "png"])
def test_a_report_says_no_folder_of_the_files_it_shows(
    dvid: Dvid, sampled: list[Path], home: Path, kind: str
) -> None:
    own, other = sampled[0].absolute(), stranger().absolute()
    dvid("report", own, other, "--source", other, "-o", f"f.{kind}")
    path = Path(f"f.{kind}")
    told = path.read_text() if kind == "html" else read_metadata(path) or ""
    assert own.name in told
    assert str(home) not in told
    assert str(own.parent) not in told


@pytest.mark.parametrize("kind", ["html", "png"])
def test_a_name_with_a_leading_dash_is_no_option_of_the_reports_line(dvid: Dvid, kind: str) -> None:
    stranger("-x.mp4")
    dvid("report", "-o", f"a.{kind}", "--", "-x.mp4")
    line = last_words(dvid, f"a.{kind}")
    assert line == ["dvid", "report", "-o", f"a.{kind}", "--", "-x.mp4"]
    dvid(*line[1:])


def test_a_report_whose_name_has_a_leading_dash_is_written_by_its_line(dvid: Dvid) -> None:
    dvid("report", stranger("x.mp4"), "-o", "./-a.png")
    line = shlex.split(dvid("show", "--", "-a.png").lines[-1])
    Path("-a.png").unlink()
    dvid(*line[1:])
    assert Path("-a.png").exists()


@pytest.mark.parametrize(
    "item",
    [
        {"file": "../x.mp4", "clip": "0" * 64},
        {"file": "..", "clip": "0" * 64},
        {"file": "", "clip": "0" * 64},
        {"file": "x.mp4", "clip": "--overwrite"},
        {"file": "x.mp4"},
        {"file": 3},
        {},
    ],
)
def test_a_page_whose_head_is_not_dvids_is_refused(dvid: Dvid, item: dict[str, object]) -> None:
    dvid("report", stranger("x.mp4"), "-o", "x.html")
    text = Path("x.html").read_text()
    story = json.dumps({"schema": 1, "report": [item], "look": {}}).replace('"', "&quot;")
    head = re.sub('(name="dvid-report" content=)"[^"]*"', lambda m: f'{m[1]}"{story}"', text)
    assert head != text
    Path("x.html").write_text(head)
    assert "cannot be read" in dvid("show", "x.html", code=3).err


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("dvid sample bear --prompt 'a fox; a cat'", 0),
        ("rm -rf x", 3),
        ("dvid runs; rm -rf x", 3),
        ("dvid sample -p &quot;$(rm -rf x)&quot;", 3),
        ("dvid runs `rm -rf x`", 3),
        ("dvid runs &gt; x", 3),
        ("dvid runs \x1b[2J", 3),
        ("dvid sample -p 'a", 3),
        ("dvid", 3),
    ],
)
def test_a_page_of_strangers_gives_no_line_but_commands_of_dvid(
    dvid: Dvid, command: str, code: int
) -> None:
    head = '<!doctype html><meta name="generator" content="dvid">'
    Path("x.html").write_text(f"{head}<code>{command}\n</code>")
    said = dvid("show", "x.html", code=code)
    assert said.lines == ([command] if code == 0 else [])


def test_a_report_that_shows_nothing_gives_no_line(dvid: Dvid) -> None:
    story = json.dumps({"schema": 1, "report": [], "look": {}})
    write(Path("x.webp"), np.zeros((2, 8, 8, 3), np.uint8), fps=8, metadata=story)
    assert "does not say what it shows" in dvid("show", "x.webp", code=3).err


@pytest.mark.parametrize("kind", ["png", *MOVING])
def test_show_gives_the_commands_of_a_sample_in_every_format(
    dvid: Dvid, sampled: list[Path], kind: str
) -> None:
    (path,) = dvid(
        "sample", "-p", "a fox", "-s", "animation", "--guidance", "2", "--format", kind
    ).lines
    assert path.endswith(kind)
    first = dvid("show", sampled[0]).lines
    suffix = "" if kind == "mp4" else f" --format {kind}"
    assert dvid("show", path).lines == [*first[:-1], first[-1] + suffix]


@pytest.mark.parametrize(
    "text", ['{"report": 3}', '{"report": [1], "schema": 1}', '{"report": [], "schema": 2}']
)
def test_a_strangers_report_is_refused(dvid: Dvid, text: str) -> None:
    write(Path("x.webp"), np.zeros((2, 8, 8, 3), np.uint8), fps=8, metadata=text)
    assert "cannot be read" in dvid("show", "x.webp", code=3).err


# Refusals


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["-o", "x.avi"], 2, "cannot write a report as `x.avi`"),
        (["-o", "x"], 2, "cannot write a report as `x`"),
        (["-o", "x.html", "--rows", "prompt"], 2, "rows and columns are those of a grid"),
        (["-o", "x.mp4", "--rows", "guidence"], 2, "did you mean `guidance`"),
        (["-o", "x.mp4", "--rows", "prompt", "--columns", "style"], 2, "differ in guidance"),
        (["-o", "x.mp4", "--fps", "0"], 2, "`--fps` is `0`"),
        (["-o", "x.mp4", "--width", "4"], 2, "`--width` is `4`"),
        (["-o", "x.mp4", "--width", "64"], 2, "do not fit into 64 pixels"),
        (["nothing.mp4", "-o", "x.html"], 4, "nothing.mp4"),
    ],
)
def test_what_makes_no_sense_is_refused_in_two_lines(
    dvid: Dvid, sampled: list[Path], arguments: list[str], code: int, said: str
) -> None:
    err = dvid("report", *arguments, code=code).err
    assert said in err
    assert not [path for path in Path().iterdir() if path.name.startswith("x")]


def test_a_link_that_leads_nowhere_is_in_the_reports_way(dvid: Dvid, sampled: list[Path]) -> None:
    Path("x.png").symlink_to("nowhere.png")
    said = dvid("report", "-o", "x.png", code=2)
    assert "`x.png` is a link that leads nowhere" in said.err
    assert Path("x.png").is_symlink()


def test_a_folder_in_the_place_of_the_report_is_refused(dvid: Dvid, tuned: Path) -> None:
    Path("x.html").mkdir()
    assert "is a folder" in dvid("report", "-o", "x.html", code=2).err


def test_a_report_needs_no_torch_where_all_is_cached(dvid: Dvid, sampled: list[Path]) -> None:
    dvid("report", "-o", "x.html")
    code = (
        "import sys; from dvcli.cli.main import main; main(['report', '-o', 'y.html', '-q']);"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    assert done.returncode == 0
    assert Path("y.html").exists()
