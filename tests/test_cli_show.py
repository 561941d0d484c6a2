"""`show`: its commands make the same thing again whatever was asked for; strangers' files."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from checkpoints import write_depth2img
from program import Dvid

from dvcli.cli.provenance import provenance
from dvcli.cli.quoting import hidden
from dvcli.recipes import Extract, Render
from dvcli.runs import Runs
from dvcli.video.metadata import read_metadata
from dvcli.video.write import write

TINY = ("--frames", "3", "--size", "64")
TUNED = ("--steps", "1", *TINY)


def words(line: str) -> list[str]:
    """What a shell makes of the line."""
    done = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, text=True, check=True
    )
    return done.stdout.split("\0")[:-1]


def replay(dvid: Dvid, home: Path, lines: list[str], names: Mapping[str, Path]) -> str:
    """What the last line prints where no run is known and all that the lines lead to is a hit."""
    shutil.rmtree(home / "state")
    printed = ""
    for line in lines:
        first, *rest = (str(names.get(word, word)) for word in words(line))
        assert first == "dvid"
        before, bare, after = rest, [], []
        if "--" in rest:
            at = rest.index("--")
            before, bare, after = rest[:at], ["--"], rest[at + 1 :]
        plan = dvid(*before, "-n", "--json", *bare, *after).lines
        missed = [step["stage"] for step in map(json.loads, plan) if not step["hit"]]
        assert not missed, f"{line} builds {missed}"
        said = dvid(*rest)
        assert "done in" not in said.err.replace("render: done in", ""), line
        printed = said.out.rstrip("\n")
    return printed


@pytest.mark.parametrize(
    ("tune", "invert"),
    [
        (["--lr", "0.00012345678", "--weight-decay", "0.1234567891"], []),
        (["--grad-clip", "123456.78"], ["--refine", "1"]),
        (["--temporal-weight", "0.3", "--temporal-target", "zero"], ["--prompt", "-a 'man'"]),
        (["--normalise", "frame", "--seed", "7", "--dtype", "bf16"], ["--dtype", "bf16"]),
        (["--start", "1.23456789", "--end", "5.1", "--fit", "pad"], ["--trajectory"]),
        (["--background", "#102030", "--fit", "pad", "--tolerate-errors"], []),
    ],
)
def test_show_of_a_run_gives_every_option_that_is_not_the_default(
    dvid: Dvid, home: Path, base: Path, bikes: Path, tune: list[str], invert: list[str]
) -> None:
    dvid("tune", bikes, "a man", "--model", base, *TUNED, *tune)
    dvid("invert", "--steps", "1", *invert)
    replay(dvid, home, dvid("show").lines, {})


@pytest.mark.parametrize("prompt", ["-x --steps 9", "--", 'it\'s "a" $man, `two`', "one\ntwo\x1b"])
def test_show_of_a_run_gives_every_prompt(
    dvid: Dvid, home: Path, base: Path, bikes: Path, prompt: str
) -> None:
    dvid("tune", "--model", base, "--steps", "0", *TINY, "--", bikes, prompt)
    replay(dvid, home, dvid("show").lines, {})


@pytest.mark.parametrize(
    "options",
    [
        ["--guidance", "7.123456789", "--negative", "-blue, 'grey'"],
        ["--style", "impressionism", "--negative", "blue"],
        ["--eta", "0.123456789", "--seed", "4000000000"],
        ["--from-noise", "--seed", "5", "--dtype", "bf16"],
        ["--depth-gain", "-0.123456789", "--depth-bias", "0.1", "--depth-gamma", "1.7"],
        ["--depth-near", "0.9", "--depth-far", "-0.8", "--depth-smooth", "0.7"],
        ["--depth-active", "0.6", "--fps", "12.5", "--crf", "3", "--format", "webm"],
        ["--fps", "5", "--format", "gif"],
    ],
)
def test_show_of_a_sample_gives_every_option_that_is_not_the_default(
    dvid: Dvid,
    tuned: Path,
    base: Path,
    bikes: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
) -> None:
    path = dvid("sample", "-p", "--a fox, 'two'", *options).lines[0]
    lines = dvid("show", path).lines
    monkeypatch.delenv("DVID_RUN")
    again = replay(dvid, tuned, lines, {"CLIP": bikes, "MODEL": base})
    assert again[-13:] == path[-13:]  # a style's name is not part of what it made


def test_show_always_says_the_number_format(dvid: Dvid, tuned: Path) -> None:
    path = dvid("sample", "-p", "a fox").lines[0]
    assert all("--dtype fp32" in line for line in dvid("show", path).lines)


@pytest.mark.parametrize("inverted", [[], ["--invert-depth"]])
def test_show_keeps_a_given_depth_and_its_direction(
    dvid: Dvid, home: Path, base: Path, bikes: Path, inverted: list[str]
) -> None:
    dvid("depth", bikes, *TINY, "--from", bikes, *inverted)
    dvid("tune", "--run", "bikes", "a man", "--steps", "1", "--model", base)
    dvid("invert", "--steps", "1")
    path = dvid("sample", "-p", "a fox").lines[0]
    ran, made = dvid("show").lines, dvid("show", path).lines
    assert ("depth" in [line.split()[1] for line in ran]) == bool(inverted)
    replay(dvid, home, ran, {})
    names = {"CLIP": bikes, "MODEL": base, "DEPTH": bikes}
    assert replay(dvid, home, made, names) == path


def test_show_keeps_an_estimator_that_is_not_the_models_own(
    dvid: Dvid, home: Path, base: Path, bikes: Path, tmp_path: Path
) -> None:
    other = write_depth2img(tmp_path / "other", seed=1)
    dvid("depth", bikes, *TINY, "--estimator", other, "--invert-depth")
    alone = dvid("show").lines
    assert "--estimator" in alone[-1]
    dvid("tune", "--run", "bikes", "a man", "--steps", "1", "--model", base)
    dvid("invert", "--steps", "1")
    path = dvid("sample", "-p", "a fox").lines[0]
    ran, made = dvid("show").lines, dvid("show", path).lines
    replay(dvid, home, ran, {})
    assert "--run bikes" in made[2]
    names = {"CLIP": bikes, "MODEL": base, "ESTIMATOR": other}
    assert replay(dvid, home, made, names) == path
    replay(dvid, home, alone, {})


def test_show_tells_another_estimator_from_the_model_that_the_run_began_with(
    dvid: Dvid, home: Path, base: Path, bikes: Path, tmp_path: Path
) -> None:
    other = write_depth2img(tmp_path / "other", seed=1)
    dvid("depth", bikes, *TINY, "--model", base)
    own = dvid("show").lines
    assert "--model" in own[-1]
    dvid("depth", "bikes", "--estimator", other)
    lines = dvid("show").lines
    replay(dvid, home, lines, {})
    replay(dvid, home, own, {})


def test_show_of_the_models_own_depth_upside_down_makes_it_before_tuning(
    dvid: Dvid, home: Path, base: Path, bikes: Path
) -> None:
    dvid("depth", bikes, *TINY, "--model", base, "--invert-depth")
    dvid("tune", "--run", "bikes", "a man", "--steps", "1")
    lines = dvid("show").lines
    assert [line.split()[1] for line in lines] == ["extract", "depth", "tune"]
    replay(dvid, home, lines, {})


def test_show_of_a_blend_makes_the_other_depth_first(
    dvid: Dvid, tuned: Path, base: Path, bikes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    framing = ["--frames", "3", "--size", "64", "--start", "5"]
    dvid("extract", bikes, *framing, "--run", "other")
    dvid("depth", "other", "--model", base)
    options = ["--depth-from", "other", "--depth-blend", "0.25"]
    path = dvid("sample", "bikes", "-p", "a fox", *options).lines[0]
    lines = dvid("show", path).lines
    assert [line.split()[1] for line in lines] == ["extract", "depth", "tune", "invert", "sample"]
    monkeypatch.delenv("DVID_RUN")
    (other,) = [shutil.copy(bikes, tuned / "other.mp4")]
    names = {"CLIP": bikes, "MODEL": base, "OTHER-CLIP": Path(other)}
    assert replay(dvid, tuned, lines, names) == path


@pytest.mark.parametrize("verb", ["extract", "depth"])
def test_show_of_frames_and_of_depth_writes_that_file_again(
    dvid: Dvid, home: Path, base: Path, bikes: Path, verb: str
) -> None:
    model = ["--model", base] if verb == "depth" else []
    (path,) = dvid(verb, bikes, *TINY, *model, "-o", "x.webp", "--fps", "3").lines
    lines = dvid("show", path).lines
    before = Path(path).read_bytes()
    Path(path).unlink()
    assert replay(dvid, home, lines, {"CLIP": bikes, "MODEL": base}) == path
    assert Path(path).read_bytes() == before


def test_show_of_a_file_names_the_clip_the_model_and_the_run_that_are_known_here(
    dvid: Dvid, tuned: Path, base: Path, bikes: Path
) -> None:
    path = dvid("sample", "-p", "a fox").lines[0]
    tune, invert, sample = map(words, dvid("show", path).lines)
    assert tune[:4] == ["dvid", "tune", str(bikes), "a man"]
    assert tune[tune.index("--model") + 1] == str(base)
    assert tune[tune.index("--run") + 1] == "bikes"
    assert (invert[:3], sample[:3]) == (["dvid", "invert", "bikes"], ["dvid", "sample", "bikes"])


def test_lines_pasted_in_another_folder_make_the_file_again_and_not_of_that_folders_run(
    dvid: Dvid, tuned: Path, base: Path, bikes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(dvid("sample", "-p", "a fox").lines[0]).resolve()
    monkeypatch.delenv("DVID_RUN")
    monkeypatch.chdir(tuned)
    dvid("extract", bikes, *TINY, "--run", "another")
    for line in dvid("show", path).lines:
        again = dvid(*words(line)[1:]).lines[-1]
    assert Path(again).resolve() != path
    assert Path(again).read_bytes() == path.read_bytes()


def test_a_clip_that_is_another_now_is_not_named(
    dvid: Dvid, home: Path, base: Path, bikes: Path
) -> None:
    shutil.copy(bikes, "clip.mp4")
    dvid("tune", "clip.mp4", "a man", "--model", base, *TUNED)
    dvid("invert", "--steps", "1")
    path = dvid("sample", "-p", "a fox").lines[0]
    assert "/clip.mp4" in dvid("show", path).lines[0]
    with Path("clip.mp4").open("ab") as file:
        file.write(b"more")
    lines = [words(line) for line in dvid("show", path).lines]
    assert lines[0][2] == "CLIP"
    name = lines[0][lines[0].index("--run") + 1]
    assert name.startswith("again-")
    assert [line[2] for line in lines[1:]] == [name, name]


@pytest.mark.parametrize("since", ["tuned", "inverted"])
def test_a_run_that_is_otherwise_now_is_left_as_it_is_by_the_lines_of_an_older_file(
    dvid: Dvid, tuned: Path, base: Path, bikes: Path, since: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(dvid("sample", "-p", "a fox").lines[0])
    before = path.read_bytes()
    monkeypatch.chdir(tuned / "work")
    if since == "tuned":
        dvid("tune", "--run", "bikes", "two men", "--steps", "1")
    else:
        dvid("invert", "bikes", "--steps", "2")
    kept = Runs.open().get("bikes")
    for line in dvid("show", path).lines:
        again = dvid(*words(line)[1:]).lines[-1]
    assert again.startswith("out/again-")
    assert Path(again).read_bytes() == before
    assert Runs.open().get("bikes") == kept


def test_a_file_of_nobodys_run_has_placeholders_and_a_run_of_its_own(
    dvid: Dvid, tuned: Path, home: Path
) -> None:
    path = dvid("sample", "-p", "a fox").lines[0]
    shutil.rmtree(home / "state")
    said = dvid("show", path)
    tune, invert, sample = map(words, said.lines)
    assert "CLIP" in tune
    assert "MODEL" in tune
    for word in ("CLIP", "MODEL"):
        assert said.err.count(f"what `{word}` stands for is not known here") == 1
    assert invert[2] == sample[2] == tune[tune.index("--run") + 1]


def test_a_file_never_names_the_folder_of_its_model(dvid: Dvid, tuned: Path, base: Path) -> None:
    path = Path(dvid("sample", "-p", "a fox").lines[0])
    text = read_metadata(path) or ""
    assert json.loads(text)["model"] is None
    assert base.name not in text


def in_folder(dvid: Dvid, folder: Path, bikes: Path, base: Path, *options: str) -> Path:
    """A tuning of a copy of the clip in that folder, and the copy."""
    folder.mkdir()
    clip = Path(shutil.copy(bikes, folder / "bikes.mp4"))
    dvid("tune", clip, "a man", "--model", base, *TUNED, *options)
    return clip


def test_a_file_names_its_own_run_where_a_newer_one_has_the_same_clip_elsewhere(
    dvid: Dvid, home: Path, base: Path, bikes: Path
) -> None:
    clip = in_folder(dvid, home / "w", bikes, base, "--run", "mine")
    dvid("invert", "mine", "--steps", "1")
    path = dvid("sample", "mine", "-p", "a fox").lines[0]
    in_folder(dvid, home / "s", bikes, base, "--run", "theirs", "--seed", "3")
    tune, invert, _ = map(words, dvid("show", path).lines)
    assert tune[2] == str(clip)
    assert tune[tune.index("--run") + 1] == invert[2] == "mine"


def test_a_run_whose_clip_is_another_now_is_not_named_with_a_copy_from_elsewhere(
    dvid: Dvid, home: Path, base: Path, bikes: Path
) -> None:
    clip = in_folder(dvid, home / "w", bikes, base, "--run", "mine")
    dvid("invert", "mine", "--steps", "1")
    path = dvid("sample", "mine", "-p", "a fox").lines[0]
    copied = in_folder(dvid, home / "s", bikes, base, "--run", "theirs", "--seed", "3")
    with clip.open("ab") as file:
        file.write(b"more")
    tune = words(dvid("show", path).lines[0])
    assert tune[2] == str(copied)
    assert tune[tune.index("--run") + 1].startswith("again-")


def test_a_folder_of_the_model_that_is_gone_is_not_named(
    dvid: Dvid, home: Path, base: Path, bikes: Path
) -> None:
    moved = Path(shutil.copytree(base, home / "model"))
    dvid("tune", bikes, "a man", "--model", moved, *TUNED)
    dvid("invert", "--steps", "1")
    path = dvid("sample", "-p", "a fox").lines[0]
    assert str(moved) in words(dvid("show", path).lines[0])
    shutil.rmtree(moved)
    tune = words(dvid("show", path).lines[0])
    assert tune[tune.index("--model") + 1] == "MODEL"


def test_the_run_of_a_files_lines_never_has_a_name_that_is_taken(
    dvid: Dvid, tuned: Path, bikes: Path
) -> None:
    path = dvid("sample", "-p", "a fox").lines[0]
    dvid("tune", "--run", "bikes", "two men", "--steps", "1")
    first = words(dvid("show", path).lines[0])
    name = first[first.index("--run") + 1]
    dvid("extract", bikes, "--frames", "2", "--size", "64", "--run", name)
    second = words(dvid("show", path).lines[0])
    assert second[second.index("--run") + 1] == f"{name}-2"


def test_the_run_of_a_blend_whose_depth_is_otherwise_now_is_not_named(
    dvid: Dvid, tuned: Path, base: Path, bikes: Path
) -> None:
    dvid("extract", bikes, *TINY, "--start", "5", "--run", "other")
    dvid("depth", "other", "--model", base)
    blend = ["--depth-from", "other", "--depth-blend", "0.25"]
    path = dvid("sample", "bikes", "-p", "a fox", *blend).lines[0]
    assert words(dvid("show", path).lines[0])[-1] == "other"
    dvid("depth", "other", "--model", base, "--invert-depth")
    assert words(dvid("show", path).lines[0])[-1].startswith("again-")


@pytest.mark.parametrize("kind", ["mp4", "png"])
def test_a_folder_of_runs_that_cannot_be_read_is_a_warning_and_no_run_is_named(
    dvid: Dvid, tuned: Path, kind: str
) -> None:
    path = Path(dvid("sample", "-p", "a fox").lines[0])
    if kind == "png":
        dvid("report", path, "-o", "x.png")
        path = Path("x.png")
    runs = tuned / "state" / "runs"
    shutil.rmtree(runs)
    runs.symlink_to("runs")
    said = dvid("show", path)
    assert said.err.count("no run is known here") == 1
    assert "CLIP" in words(said.lines[0])


# Files of strangers

STRANGE = provenance(Render(source=Extract(clip="0" * 64)), "org/name", own_depth=True)


def strange(text: str) -> Path:
    """A clip that says that of itself."""
    path = Path("strange.webp")
    frames = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    write(path, frames, fps=8, metadata=text)
    return path


def changed(**fields: object) -> str:
    return json.dumps({**json.loads(STRANGE), **fields})


def in_recipe(**fields: object) -> str:
    return changed(recipe={**json.loads(STRANGE)["recipe"], **fields})


def test_a_strangers_file_that_is_one_of_ours_is_shown() -> None:
    assert json.loads(STRANGE)["recipe"]["stage"] == "extract"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("[" * 100_000, id="deep JSON"),
        pytest.param('{"recipe":' * 5000 + "1" + "}" * 5000, id="deep recipe"),
        pytest.param(in_recipe(frames=10**400), id="a huge integer"),
        pytest.param(in_recipe(start=10**400), id="a huge time"),
        pytest.param(in_recipe(frames=None), id="every frame"),
        pytest.param(in_recipe(version=99), id="a newer stage"),
        pytest.param(in_recipe(stage="dream"), id="a newer dvid's stage"),
        pytest.param(in_recipe(background="\ud800"), id="half a character"),
        pytest.param(changed(schema=2), id="a newer format"),
        pytest.param(changed(model={"a": 1}), id="a model that is no text"),
        pytest.param(changed(fps="8"), id="a rate that is no number"),
        pytest.param(changed(recipe=[1]), id="no recipe"),
        pytest.param("[1]", id="a list"),
        pytest.param('"recipe"', id="a text"),
        pytest.param("made with love", id="another program's comment"),
    ],
)
def test_a_strangers_file_is_exit_3_for_show_and_is_judged_without_its_prompt(
    dvid: Dvid, judge: Path, text: str
) -> None:
    path = strange(text)
    said = dvid("show", path, code=3)
    assert len(said.err.splitlines()) <= 2
    (row,) = map(json.loads, dvid("eval", path, "--clip-model", judge, "--json").lines)
    assert row["prompt"] is None
    assert row["frame_consistency"] is not None


def test_eval_warns_of_a_newer_dvids_provenance(dvid: Dvid, judge: Path) -> None:
    said = dvid("eval", strange(in_recipe(version=99)), "--clip-model", judge)
    assert "warning: the provenance in `strange.webp` cannot be read" in said.err


@pytest.mark.parametrize("field", ["model", "background"])
def test_nothing_in_a_strangers_file_acts_on_the_terminal(dvid: Dvid, field: str) -> None:
    evil = "\x1b[2J\x9b31m\nrm -rf\u202e"
    text = (
        in_recipe(background=evil)
        if field == "background"
        else json.dumps({**json.loads(depth_provenance()), "model": evil})
    )
    (line,) = dvid("show", strange(text)).lines
    assert not any(map(hidden, line))
    assert evil in words(line)


def depth_provenance() -> str:
    from dvcli.recipes import Depth

    depth = Depth(frames=Extract(clip="0" * 64), estimator="1" * 64)
    return provenance(Render(source=depth), None, own_depth=True)


def test_nothing_in_a_strangers_file_acts_in_an_error(dvid: Dvid) -> None:
    said = dvid("show", strange(in_recipe(fit="\x1b[2J\x9b\u202e")), code=3)
    assert not any(map(hidden, said.err.replace("\n", "")))


@pytest.mark.parametrize("terminal", [False, True])
def test_nothing_in_a_strangers_prompt_acts_in_the_figures(
    dvid: Dvid, tuned: Path, judge: Path, terminal: bool
) -> None:
    import io

    from dvcli.cli import scores
    from dvcli.cli.judged import Row

    path = Path(dvid("sample", "-p", "a fox\x1b[31m [/x]\u202e").lines[0])
    if not terminal:
        said = dvid("eval", path, "--clip-model", judge)
        assert "\\x1b[31m [/x]\\u202e" in said.out
        assert not any(map(hidden, said.out.replace("\n", "").replace("\t", "")))
        return

    class Screen(io.StringIO):
        stdout = property(lambda self: self)

    row = Row(name="[/b]\x1b.mp4", frames=Extract(clip="0" * 64), prompt="[/x]\x1b[31m")
    screen = Screen()
    scores.draw(screen, [row], [], [{}])  # type: ignore[arg-type]
    assert "\x1b" not in screen.getvalue()
    assert "[/x]" in screen.getvalue()


def test_show_of_a_name_too_long_for_any_file_is_no_bug(dvid: Dvid) -> None:
    assert dvid("show", "x" * 5000, code=4).err.startswith("error: ")
