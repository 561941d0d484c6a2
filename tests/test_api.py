"""`from dvcli import …`: the stages as functions, which ask for what the commands ask for."""

import inspect
import json
import logging
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from program import Dvid, copy_state

import dvcli
from dvcli import Controls, Inverted, Sampled, Tuned, Workspace
from dvcli.api.workspace import usual
from dvcli.errors import InputError, MissingError, UsageError
from dvcli.recipes import Depth, Extract, Invert, Sample, Tune

WORDS = "a woman"


@pytest.fixture
def work(home: Path) -> Workspace:
    """A workspace on this test's own cache."""
    return Workspace(cache=home / "cache")


@pytest.fixture(scope="module")
def made_home(
    tmp_path_factory: pytest.TempPathFactory, base: Path, bikes: Path
) -> tuple[Path, dict[str, str]]:
    """A cache that the functions filled, and the keys they gave; do not write."""
    folder = tmp_path_factory.mktemp("made")
    work = Workspace(cache=folder / "cache")
    taken = dvcli.extract(bikes, frames=3, size=64, workspace=work)
    tuned = dvcli.tune(taken, "a man", model=base, steps=2)
    inverted = dvcli.invert(tuned, steps=3)
    edit = dvcli.sample(inverted, WORDS, controls=Controls(gain=0.5))
    near = dvcli.depth(taken, model=base)
    (folder / "state").mkdir()
    return folder, {
        "extract": taken.key,
        "depth": near.key,
        "tune": tuned.key,
        "invert": inverted.key,
        "sample": edit.key,
    }


@pytest.fixture
def chain(
    home: Path, work: Workspace, made_home: tuple[Path, dict[str, str]], base: Path, bikes: Path
) -> tuple[Tuned, Inverted, Sampled]:
    """Tuned, inverted and sampled clip out of this test's own copy of that cache."""
    copy_state(made_home[0], home)
    taken = dvcli.extract(bikes, frames=3, size=64, workspace=work)
    tuned = dvcli.tune(taken, "a man", model=base, steps=2)
    inverted = dvcli.invert(tuned, steps=3)
    return tuned, inverted, dvcli.sample(inverted, WORDS, controls=Controls(gain=0.5))


def test_importing_the_package_loads_nothing_of_it() -> None:
    code = "import sys, dvcli; print(*(n for n in sys.modules if n.partition('.')[0] in "
    code += "('dvcli', 'numpy', 'torch', 'typer')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["dvcli"]


def test_asking_for_a_function_loads_no_torch() -> None:
    code = "import sys; from dvcli import *; print('tune' in dir(), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


def test_every_name_is_there_and_no_other() -> None:
    assert all(getattr(dvcli, name).__doc__ for name in dvcli.__all__)
    assert set(dvcli.__all__) <= set(dir(dvcli))
    assert set(dvcli.__all__) == set(dvcli._HOMES)
    with pytest.raises(AttributeError, match="tuned_clip"):
        _ = dvcli.tuned_clip  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("function", "recipe", "elsewhere"),
    [
        (dvcli.extract, Extract, set()),
        (dvcli.depth, Depth, {"frames"}),
        (dvcli.tune, Tune, {"frames", "depth", "base", "dtype", "train", "attention"}),
        (dvcli.invert, Invert, {"tuned", "dtype"}),
        (dvcli.sample, Sample, {"inverted", "start", "dtype"}),
    ],
)
def test_every_option_of_a_recipe_is_an_argument_with_the_same_default(
    function: object, recipe: type, elsewhere: set[str]
) -> None:
    arguments = inspect.signature(function).parameters  # type: ignore[arg-type]
    for field in fields(recipe):
        if field.name not in elsewhere:
            assert field.name in arguments
            default = arguments[field.name].default
            given = default is not inspect.Parameter.empty and default is not None
            assert not given or default == field.default


def test_every_argument_arrives_in_the_recipe(
    bikes: Path, base: Path, work: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Workspace, "realise", lambda self, recipe: recipe)  # nothing is made
    monkeypatch.setattr(Workspace, "warn_of_overflow", lambda *_: None)
    framing = {"frames": 3, "size": 64, "fit": "pad", "start": 0.5, "end": 2.0}
    framing |= {"stream": 0, "background": "#ffffff", "tolerate_errors": True}
    taken = dvcli.extract(bikes, **framing, workspace=work)  # type: ignore[arg-type]
    near = dvcli.depth(taken, model=base, invert=True)
    learning = {"steps": 7, "lr": 1e-3, "weight_decay": 0.5, "grad_clip": 2.0, "seed": 9}
    learning |= {"temporal_weight": 0.3, "temporal_target": "zero", "normalise": "frame"}
    tuned = dvcli.tune(near, "a man", model=base, **learning)  # type: ignore[arg-type]
    backwards = {"steps": 5, "refine": 2, "prompt": "a bike", "trajectory": True}
    inverted = dvcli.invert(tuned, **backwards)  # type: ignore[arg-type]
    asked = {"negative": "snow", "guidance": 3.0, "guidance_from": 0.1, "guidance_until": 0.9}
    asked["reuse"] = 3
    asked |= {"strength": 0.5, "eta": 0.2, "seed": 4, "controls": Controls(blend=0.5)}
    made = dvcli.sample(inverted, WORDS, from_noise=True, blend=near, **asked)  # type: ignore[arg-type]
    found = [(taken, framing | {"size": (64, 64)}), (tuned, learning), (inverted, backwards)]
    for result, values in [*found, (made, asked | {"start": "noise", "blend": near.recipe})]:
        assert {name: getattr(result.recipe, name) for name in values} == values
    assert tuned.recipe.depth == near.recipe
    assert near.recipe.invert


def test_the_command_line_finds_what_the_functions_made(
    made_home: tuple[Path, dict[str, str]], home: Path, base: Path, bikes: Path, dvid: Dvid
) -> None:
    copy_state(made_home[0], home)
    options = ["--model", base, "--frames", "3", "--size", "64"]
    dvid("tune", bikes, "a man", "--steps", "2", *options)
    said = [json.loads(dvid("invert", "--steps", "3", "--json").out)["key"]]
    plan = dvid("sample", "-p", WORDS, "--depth-gain", "0.5", "-n", "--json").lines
    steps = {step["stage"]: step for step in map(json.loads, plan)}
    assert all(step["hit"] for step in steps.values())
    assert {stage: step["key"] for stage, step in steps.items()} == made_home[1]
    assert said == [made_home[1]["invert"]]


def test_the_functions_find_what_the_command_line_made(
    tuned: Path, bikes: Path, base: Path, work: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dvcli.stages._build", None)  # whatever is built now is an error
    kept = json.loads((tuned / "state" / "runs" / "bikes.json").read_text())["keys"]
    taken = dvcli.extract(bikes, frames=3, size=64, workspace=work)
    learned = dvcli.tune(taken, "a man", model=base, steps=2)
    found = dvcli.invert(learned, steps=3)
    near = dvcli.depth(taken, model=base)
    assert (taken.key, near.key) == (kept["extract"], kept["depth"])
    assert (learned.key, found.key) == (kept["tune"], kept["invert"])


def test_a_saved_clip_is_the_file_that_the_command_writes(
    chain: tuple[Tuned, Inverted, Sampled], base: Path, bikes: Path, dvid: Dvid, home: Path
) -> None:
    options = ["--model", base, "--frames", "3", "--size", "64"]
    dvid("tune", bikes, "a man", "--steps", "2", *options)
    dvid("invert", "--steps", "3")
    dvid("sample", "-p", WORDS, "--depth-gain", "0.5", "-o", "theirs.webp")
    ours = chain[2].save("ours.webp")
    assert ours.read_bytes() == Path("theirs.webp").read_bytes()


def test_the_figures_are_those_of_the_command(
    chain: tuple[Tuned, Inverted, Sampled], base: Path, bikes: Path, judge: Path, dvid: Dvid
) -> None:
    options = ["--model", base, "--frames", "3", "--size", "64"]
    dvid("tune", bikes, "a man", "--steps", "2", *options)
    dvid("invert", "--steps", "3")
    dvid("sample", "-p", WORDS, "--depth-gain", "0.5")
    rows = [json.loads(line) for line in dvid("eval", "--clip-model", judge, "--json").lines]
    theirs = {row.get("role"): row for row in rows}
    for role, clip in (("reconstruction", chain[1]), ("sample", chain[2])):
        ours = dvcli.evaluate(clip, clip_model=judge)
        assert {"frame_consistency", "textual_alignment", "motion_fidelity"} <= set(ours.figures)
        assert {name: theirs[role][name] for name in ours.figures} == dict(ours.figures)


def test_a_file_is_measured_against_a_source_and_a_prompt(
    chain: tuple[Tuned, Inverted, Sampled], judge: Path, bikes: Path, work: Workspace, dvid: Dvid
) -> None:
    clip = chain[2].save("clip.webp")
    ours = dvcli.evaluate(clip, "a man", source=bikes, clip_model=judge, workspace=work)
    (theirs,) = dvid(
        "eval", clip, "-p", "a man", "--source", bikes, "--clip-model", judge, "--json"
    ).lines[:1]
    found = json.loads(theirs)
    assert ours.figures == {name: found[name] for name in ours.figures}
    assert set(ours.keys) == {"consistency", "alignment", "motion"}


def test_results_are_arrays_of_the_shapes_that_are_promised(
    chain: tuple[Tuned, Inverted, Sampled], base: Path, bikes: Path, work: Workspace
) -> None:
    tuned, inverted, edit = chain
    taken = dvcli.extract(bikes, frames=3, size=64, workspace=work)
    near = dvcli.depth(taken, model=base)
    for pixels in (taken.frames, edit.frames, inverted.reconstruction):
        assert (pixels.shape, pixels.dtype) == ((3, 64, 64, 3), np.uint8)
    for numbers in (tuned.latents, inverted.latents, near.disparity):
        assert len(numbers) == 3
        assert numbers.dtype == np.float32
    assert near.disparity.shape[1] == 1
    assert inverted.psnr == inverted.artifact.info["psnr"]
    assert all(path.is_file() for path in edit.paths.values())


def test_the_same_call_gives_the_same_key_and_reads_the_cache(
    chain: tuple[Tuned, Inverted, Sampled], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dvcli.stages._build", None)
    again = dvcli.sample(chain[1], f" {WORDS} ", controls=Controls(gain=0.5), seed=7)
    assert again.key == chain[2].key


def test_a_style_is_that_of_the_command(chain: tuple[Tuned, Inverted, Sampled]) -> None:
    edit = dvcli.sample(chain[1], WORDS, style="animation")
    assert edit.recipe.prompt == f"{WORDS}, animation style"


def test_depth_of_ones_own_is_what_tuning_stands_on(
    bikes: Path, base: Path, work: Workspace
) -> None:
    near = dvcli.depth(
        dvcli.extract(bikes, frames=2, size=64, workspace=work), given=bikes, invert=True
    )
    tuned = dvcli.tune(near, "a man", model=base, steps=0)
    assert tuned.recipe.depth == near.recipe
    assert tuned.recipe.depth.invert


def test_a_path_is_taken_in_the_models_own_size(bikes: Path, base: Path, work: Workspace) -> None:
    near = dvcli.depth(bikes, model=base, workspace=work)
    assert near.recipe.frames.frames == Extract.frames
    assert near.recipe.frames.size == (64, 64)


def test_another_file_is_not_overwritten_unasked(chain: tuple[Tuned, Inverted, Sampled]) -> None:
    Path("clip.webp").write_bytes(b"mine")
    with pytest.raises(UsageError, match="exists and is a different file") as error:
        chain[2].save("clip.webp")
    assert "overwrite=True" in str(error.value.hint)
    assert Path("clip.webp").read_bytes() == b"mine"
    assert chain[2].save("clip.webp", overwrite=True).read_bytes() != b"mine"
    assert chain[2].save("clip.webp") == Path("clip.webp")


def test_a_name_without_a_format_is_refused(chain: tuple[Tuned, Inverted, Sampled]) -> None:
    with pytest.raises(UsageError, match="does not say the format"):
        chain[2].save("clip")
    with pytest.raises(UsageError, match="cannot write"):
        chain[2].save("clip.avi")


def test_errors_are_those_of_the_command_line(bikes: Path, base: Path, work: Workspace) -> None:
    with pytest.raises(InputError, match=r"`nowhere\.mp4` does not exist"):
        dvcli.extract("nowhere.mp4", workspace=work)
    with pytest.raises(MissingError, match="no folder") as error:
        dvcli.depth(bikes, model="./nowhere", workspace=work)
    assert error.value.hint
    with pytest.raises(UsageError, match="the caption is empty"):
        dvcli.tune(bikes, " ", model=base, workspace=work)
    taken = dvcli.extract(bikes, frames=2, size=40, workspace=work)
    with pytest.raises(UsageError, match="size 40×40"):
        dvcli.tune(taken, "a man", model=base)
    with pytest.raises(UsageError, match="no device"):
        Workspace(device="gpu")


def test_a_result_goes_on_in_its_own_workspace(bikes: Path, work: Workspace, home: Path) -> None:
    taken = dvcli.extract(bikes, frames=2, size=16, workspace=work)
    with pytest.raises(UsageError, match="the workspace that it was made in"):
        dvcli.tune(taken, "a man", workspace=Workspace(cache=home / "other"))


def test_without_a_workspace_it_is_the_cache_of_the_command_line(
    bikes: Path, home: Path, dvid: Dvid
) -> None:
    usual.cache_clear()
    taken = dvcli.extract(bikes, frames=2, size=16)
    usual.cache_clear()
    assert taken.workspace.store.root == home / "cache"
    dvid("extract", bikes, "--frames", "2", "--size", "16", "-n", "--json")
    plan = json.loads(
        dvid("extract", bikes, "--frames", "2", "--size", "16", "-n", "--json").lines[-1]
    )
    assert (plan["hit"], plan["key"]) == (True, taken.key)


def test_words_that_the_model_will_not_see_are_named(
    chain: tuple[Tuned, Inverted, Sampled], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "dvcli"):
        dvcli.sample(chain[1], " ".join(["a man"] * 60), from_noise=True)
    assert "does not see the end of the prompt" in caplog.text
