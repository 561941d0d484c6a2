"""Where results go: refusals before work, names that last, and streams that are closed."""

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from program import Dvid

from dvcli import stages
from dvcli.recipes import Recipe

TINY = ("--frames", "3", "--size", "64")


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stages that are built, in order."""
    found: list[str] = []
    build = stages._build

    def noted(recipe: Recipe, *rest: object) -> object:
        found.append(recipe.stage)
        return build(recipe, *rest)

    monkeypatch.setattr(stages, "_build", noted)
    return found


@pytest.mark.parametrize("options", [[], ["--no-cache"]])
def test_a_file_in_the_way_is_refused_before_sampling(
    dvid: Dvid, tuned: Path, built: list[str], options: list[str]
) -> None:
    Path("x.mp4").write_text("mine")
    said = dvid("sample", "-p", "a fox", "-o", "x.mp4", *options, code=2)
    assert "`x.mp4` exists" in said.err
    assert "sample" not in built
    assert Path("x.mp4").read_text() == "mine"


def test_a_file_in_the_way_of_a_cached_sample_is_refused_too(dvid: Dvid, tuned: Path) -> None:
    dvid("sample", "-p", "a fox")
    Path("x.mp4").write_text("mine")
    dvid("sample", "-p", "a fox", "-o", "x.mp4", code=2)
    assert Path("x.mp4").read_text() == "mine"


def test_extract_into_a_folder_writes_the_one_file_that_its_help_speaks_of(
    dvid: Dvid, bikes: Path
) -> None:
    Path("frames").mkdir()
    for option, kind in (([], ".mp4"), (["--format", "png"], ".png")):
        (path,) = dvid("extract", bikes, *TINY, "-o", "frames", *option).lines
        assert Path(path).parent == Path("frames")
        assert Path(path).suffix == kind
    assert len(list(Path("frames").iterdir())) == 2
    page = " ".join(dvid("extract", "--help").out.split())
    assert "one file of all frames: a video, or as .png one sheet" in page
    assert "-o, --output PATH A file, or a folder." in page


def test_a_pattern_of_file_names_is_refused_before_work(dvid: Dvid, bikes: Path) -> None:
    Path("frames").mkdir()
    said = dvid("extract", bikes, *TINY, "-o", "frames/%03d.png", code=2)
    assert said.err.startswith("error: `frames/%03d.png` is a pattern for many files")
    assert "one sheet" in said.err
    assert not list(Path("frames").iterdir())


@pytest.mark.parametrize("target", ["nowhere.mp4", "x.mp4"], ids=["dangling", "looping"])
def test_a_link_that_leads_nowhere_is_in_the_way_too(
    dvid: Dvid, tuned: Path, built: list[str], target: str
) -> None:
    Path("x.mp4").symlink_to(target)
    for _ in range(2):  # before it is made, and of what is in the cache
        said = dvid("sample", "-p", "a fox", "-o", "x.mp4", code=2)
        assert "`x.mp4` is a link that leads nowhere" in said.err
        assert "sample" not in built
        assert Path("x.mp4").is_symlink()
        dvid("sample", "-p", "a fox", "-o", "y.mp4")
        built.clear()
    dvid("sample", "-p", "a fox", "-o", "x.mp4", "--overwrite")
    assert Path("x.mp4").read_bytes() == Path("y.mp4").read_bytes()
    assert not Path("x.mp4").is_symlink()


def test_a_link_that_leads_nowhere_is_in_the_way_of_an_archive(dvid: Dvid, tuned: Path) -> None:
    Path("x.tar").symlink_to("nowhere.tar")
    assert "exists and is a different file" in dvid("cache", "export", "-o", "x.tar", code=2).err
    assert Path("x.tar").is_symlink()


def test_another_clip_of_ours_is_in_the_way_before_sampling(
    dvid: Dvid, tuned: Path, built: list[str]
) -> None:
    dvid("sample", "-p", "a fox", "-o", "x.mp4")
    built.clear()
    dvid("sample", "-p", "a bear", "-o", "x.mp4", code=2)
    assert "sample" not in built


def test_the_same_command_again_is_no_conflict_even_without_the_cache(
    dvid: Dvid, tuned: Path
) -> None:
    command = ["sample", "-p", "a fox", "-o", "x.mp4"]
    dvid(*command)
    before = Path("x.mp4").read_bytes()
    dvid("cache", "gc", "--limit", "1", "--grace", "0")
    assert dvid(*command).lines == ["x.mp4"]
    assert Path("x.mp4").read_bytes() == before


def test_a_format_that_is_not_the_files_is_a_usage_error(dvid: Dvid, tuned: Path) -> None:
    said = dvid("sample", "-p", "a fox", "-o", "x.mp4", "--format", "gif", code=2)
    assert "`x.mp4` is no `gif` file" in said.err
    dvid("sample", "-p", "a fox", "-o", "x.GIF", "--format", ".gif")
    assert Path("x.GIF").read_bytes().startswith(b"GIF8")


def another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    version = metadata.version
    monkeypatch.setattr(metadata, "version", lambda n: "99.0" if n == "dvid" else version(n))


def test_another_version_of_dvid_names_the_same_file_and_leaves_it(
    dvid: Dvid, tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = dvid("sample", "-p", "a fox").lines[0]
    before = Path(path).read_bytes()
    another_version(monkeypatch)
    again = dvid("sample", "-p", "a fox")
    assert again.lines == [path]
    assert f"kept `{path}`" in again.err
    assert Path(path).read_bytes() == before
    dvid("sample", "-p", "a fox", "--overwrite")
    assert Path(path).read_bytes() != before


def test_a_model_under_another_name_names_the_same_file(
    dvid: Dvid, tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = dvid("sample", "-p", "a fox").lines[0]
    file = tuned / "state" / "runs" / "bikes.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model": "org/name"}))
    assert dvid("sample", "-p", "a fox").lines == [path]
    assert len(list(Path("out/bikes").iterdir())) == 1


@pytest.mark.parametrize(
    "options", [["--fps", "9"], ["--crf", "9"], ["--no-metadata"], ["--guidance", "3"]]
)
def test_whatever_changes_the_file_changes_its_name(
    dvid: Dvid, tuned: Path, options: list[str]
) -> None:
    first = dvid("sample", "-p", "a fox").lines
    assert dvid("sample", "-p", "a fox", *options).lines != first


def test_a_file_of_that_name_that_was_changed_is_not_taken_for_the_result(
    dvid: Dvid, tuned: Path
) -> None:
    path = Path(dvid("sample", "-p", "a fox").lines[0])
    path.write_bytes(path.read_bytes() + b"more")
    dvid("sample", "-p", "a fox", code=2)


@pytest.mark.parametrize("verb", ["extract", "depth"])
def test_refresh_with_an_output_builds_once(
    dvid: Dvid, base: Path, bikes: Path, built: list[str], verb: str
) -> None:
    model = ["--model", base] if verb == "depth" else []
    command = [verb, bikes, *TINY, *model, "-o", "x.png"]
    dvid(*command)
    built.clear()
    dvid(*command, "--refresh")
    assert built == [verb, "render"]


@pytest.mark.parametrize("stream", [0, 1, 2])
def test_a_closed_standard_stream_is_no_bug(dvid: Dvid, tuned: Path, stream: int) -> None:
    script = f'exec {stream}>&-; exec "$@"'
    done = subprocess.run(
        ["bash", "-c", script, "-", sys.executable, "-m", "dvcli", "runs"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("bikes") or stream == 1


@pytest.mark.parametrize("prompt", ["", "  "])
def test_an_empty_prompt_to_judge_by_is_a_usage_error(dvid: Dvid, bikes: Path, prompt: str) -> None:
    assert "the prompt is empty" in dvid("eval", bikes, "--prompt", prompt, code=2).err


def test_eval_takes_a_run_before_a_folder_of_its_name(dvid: Dvid, tuned: Path, judge: Path) -> None:
    Path("bikes").mkdir()
    said = dvid("eval", "bikes", "--clip-model", judge, "--json")
    assert json.loads(said.lines[0])["clip"] == "bikes (source)"
    assert "no images" in dvid("eval", "./bikes", "--clip-model", judge, code=3).err


def test_the_levers_against_too_little_memory_are_ones_that_sampling_has(
    dvid: Dvid, tuned: Path
) -> None:
    hint = dvid("sample", "-p", "a", "--memory-limit", "1M", code=5).err.splitlines()[-1]
    assert "when the clip is tuned, fewer `--frames`" in hint


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc here")
@pytest.mark.parametrize("verb", ["sample", "extract"])
def test_a_folder_that_cannot_be_made_is_refused_before_work(
    dvid: Dvid, tuned: Path, bikes: Path, built: list[str], verb: str
) -> None:
    words = ["-p", "a fox"] if verb == "sample" else [str(bikes), "--frames", "2", "--run", "new"]
    said = dvid(verb, *words, "-o", "/proc/nowhere/x.mp4", code=6)
    assert "cannot write to `/proc`" in said.err
    assert built == []
