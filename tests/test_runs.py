"""A run is found by name, by order, by key, or by where it was made; and comes back as it was."""

import errno
import json
import os
import unicodedata
from dataclasses import fields, is_dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvcli import recipes as r
from dvcli.errors import DvidError, MissingError, StorageError, UsageError
from dvcli.recipe_json import from_json, to_json
from dvcli.runs import Made, Run, Runs, name_for, state_dir

DIGESTS = st.integers().map(lambda n: sha256(b"%d" % n).hexdigest())
TEXTS = st.text(min_size=1).filter(str.strip)
UNIT = st.floats(0, 1) | st.integers(0, 1)
EXTRACTS = st.builds(
    r.Extract,
    clip=DIGESTS,
    frames=st.none() | st.integers(1, 512),
    size=st.none() | st.tuples(st.integers(8, 8192), st.integers(8, 8192)),
    fit=st.sampled_from(["crop", "squash", "pad"]),
    start=st.floats(0, 10) | st.integers(0, 10),
    end=st.none() | st.floats(11, 20),
    stream=st.none() | st.integers(0, 5),
    background=st.text(),
    tolerate_errors=st.booleans(),
)
DEPTHS = st.builds(
    r.Depth, frames=EXTRACTS, estimator=DIGESTS, given=st.none(), invert=st.booleans()
) | st.builds(r.Depth, frames=EXTRACTS, estimator=st.none(), given=DIGESTS)
TUNES = st.builds(
    r.Tune,
    frames=EXTRACTS,
    depth=st.none() | DEPTHS,
    base=st.builds(
        r.Base,
        unet=DIGESTS,
        vae=DIGESTS,
        text_encoder=DIGESTS,
        tokenizer=DIGESTS,
        scheduler=DIGESTS,
    ),
    prompt=TEXTS,
    steps=st.integers(0, 1000),
    lr=UNIT,
    temporal_weight=UNIT,
    temporal_target=st.sampled_from(["zero", "source"]),
    normalise=st.sampled_from(["clip", "frame"]),
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from(["fp32", "bf16", "fp16"]),
)
INVERTS = st.builds(
    r.Invert, tuned=TUNES, steps=st.integers(1, 99), prompt=st.text(), trajectory=st.booleans()
)
SAMPLES = st.builds(
    r.Sample,
    inverted=INVERTS,
    prompt=TEXTS,
    negative=st.text(),
    guidance=st.floats(0, 100),
    eta=UNIT,
    start=st.sampled_from(["inverted", "noise"]),
    seed=st.integers(0, 2**32 - 1),
)
EVALS = st.builds(
    r.Eval, frames=EXTRACTS | SAMPLES, clip_model=DIGESTS, prompt=st.none() | st.text()
)
RECIPES = st.one_of(EXTRACTS, DEPTHS, TUNES, INVERTS, SAMPLES, EVALS)

EXTRACT = r.Extract(clip="c" * 64)
TUNE = r.Tune(
    frames=EXTRACT,
    depth=r.Depth(frames=EXTRACT, estimator="e" * 64),
    base=r.Base(
        unet="1" * 64, vae="2" * 64, text_encoder="3" * 64, tokenizer="4" * 64, scheduler="5" * 64
    ),
    prompt="a polar bear",
)
SAMPLE = r.Sample(
    inverted=r.Invert(tuned=TUNE),
    prompt="a tigress",
    controls=r.Controls(gain=1.5, blend=0.5),
    blend=r.Depth(frames=replace(EXTRACT, size=None), given="d" * 64),
)


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs.open(tmp_path / "state")


def run(name: str, **more: Any) -> Run:
    whole = {"cwd": "/nowhere", "created": 1.0, "updated": 1.0, **more}
    return Run(name=name, **whole)


def exactly(value: object) -> object:
    """The value with the type of every part, for `1 == 1.0 == True`."""
    if is_dataclass(value) and not isinstance(value, type):
        return type(value), [exactly(getattr(value, field.name)) for field in fields(value)]
    if isinstance(value, tuple):
        return tuple(map(exactly, value))
    return type(value), value


# Recipes as JSON


@given(RECIPES)
def test_a_recipe_comes_back_exactly(recipe: r.Recipe) -> None:
    back = from_json(json.loads(json.dumps(to_json(recipe))))
    assert exactly(back) == exactly(recipe)


@pytest.mark.parametrize("recipe", [SAMPLE, r.Render(source=SAMPLE, fps=12, provenance="ü")])
def test_controls_blend_and_rendering_come_back_exactly(recipe: r.Recipe) -> None:
    assert exactly(from_json(json.loads(json.dumps(to_json(recipe))))) == exactly(recipe)


def test_a_recipe_says_its_stage_and_version() -> None:
    written = to_json(TUNE)
    assert (written["stage"], written["version"]) == ("tune", 1)
    assert written["frames"] == {"stage": "extract", "version": 1, **plain(EXTRACT)}


def plain(recipe: r.Extract) -> dict[str, object]:
    return {f.name: getattr(recipe, f.name) for f in fields(recipe)} | {"size": [512, 512]}


def test_a_field_that_an_earlier_dvid_did_not_write_has_its_default() -> None:
    written = to_json(EXTRACT)
    del written["tolerate_errors"]
    assert from_json(written) == EXTRACT


def altered(path: tuple[str, ...], value: object) -> dict[str, object]:
    written = json.loads(json.dumps(to_json(SAMPLE)))
    part = written
    for name in path[:-1]:
        part = part[name]
    if value is ...:
        del part[path[-1]]
    else:
        part[path[-1]] = value
    return written  # type: ignore[no-any-return]


FRAMES = ("inverted", "tuned", "frames")


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("stage",), "upscale", "`upscale`, which this version does not know"),
        (("stage",), None, "the recipe is {"),
        (("version",), 2, "`sample` is of version 2, made by a newer dvid"),
        (("version",), "1", "is not a recipe of this stage"),
        (("version",), True, "is not a recipe of this stage"),
        (("sharpness",), 1, "unknown field `sharpness`"),
        (("prompt",), 5, "`sample.prompt` is 5"),
        (("prompt",), None, "`sample.prompt` is null"),
        (("prompt",), "", "the prompt is empty"),
        (("prompt",), ..., "prompt"),
        (("guidance",), "12", '`sample.guidance` is "12"'),
        (("guidance",), True, "`sample.guidance` is true"),
        (("seed",), 0.5, "`sample.seed` is 0.5"),
        (("seed",), float("inf"), "`sample.seed` is Infinity"),
        (("start",), "middle", '`sample.start` is "middle"'),
        (("controls", "gain"), 1e9, "--depth-gain"),
        (("controls", "twist"), 1, "unknown field `twist`"),
        (("controls",), [], r"`sample.controls` is \[\]"),
        (("inverted",), to_json(EXTRACT), "is not a recipe of this stage"),
        (("blend",), to_json(EXTRACT), "the stage `extract`"),
        ((*FRAMES, "size"), [512], r"`extract.size` is \[512\]"),
        ((*FRAMES, "size"), [512, "512"], "`extract.size`"),
        ((*FRAMES, "frames"), {}, "`extract.frames` is {}"),
        ((*FRAMES, "tolerate_errors"), 1, "`extract.tolerate_errors` is 1"),
        ((*FRAMES, "version"), 9, "`extract` is of version 9"),
    ],
)
def test_what_no_recipe_of_this_version_has_is_said(
    path: tuple[str, ...], value: object, says: str
) -> None:
    with pytest.raises(StorageError, match=says):
        from_json(altered(path, value))


@pytest.mark.parametrize("data", [None, [], "sample", {}, 7])
def test_what_is_no_recipe_is_said(data: object) -> None:
    with pytest.raises(StorageError, match="the recipe cannot be read"):
        from_json(data)


# Keeping runs


def test_a_run_comes_back_as_it_was(runs: Runs) -> None:
    whole = run(
        "bären",
        clip="../clips/bär.mp4",
        model="tiny",
        recipes={"extract": EXTRACT, "tune": TUNE},
        keys={"extract": "a" * 64, "tune": "b" * 64},
        sources={"c" * 64: "/clips/bär.mp4"},
        created=1.25,
        updated=2.5,
    )
    path = runs.save(whole)
    assert runs.get("bären") == whole
    assert [p.name for p in runs.folder.iterdir()] == [path.name] == ["bären.json"]


def test_a_run_that_is_saved_again_is_replaced(runs: Runs) -> None:
    runs.save(run("a"))
    runs.save(run("a", model="tiny"))
    assert [found.model for found in runs.all()] == ["tiny"]


def test_runs_are_listed_by_their_last_use(runs: Runs) -> None:
    for name, created, updated in (("a", 1, 9), ("b", 2, 3), ("c", 3, 5)):
        runs.save(run(name, created=created, updated=updated))
    assert [found.name for found in runs.all()] == ["a", "c", "b"]


def test_without_a_folder_there_are_no_runs(runs: Runs) -> None:
    assert (runs.all(), runs.names(), runs.roots()) == ([], [], set())
    assert not runs.folder.exists()


def test_runs_that_cannot_be_read_are_not_taken_for_none(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they keep would be collected else."""
    runs.save(run("a"))

    def refuse(path: Path, *rest: str) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", refuse)
        with pytest.raises(StorageError, match=r"a\.json` cannot be read: Input/output error"):
            runs.roots()
    monkeypatch.setattr(Path, "iterdir", refuse)
    for listing in (runs.names, runs.all, runs.roots):
        with pytest.raises(StorageError, match=f"`{runs.folder}` cannot be read: Input/output"):
            listing()


def test_a_damaged_file_hides_no_other_run(runs: Runs, caplog: pytest.LogCaptureFixture) -> None:
    runs.save(run("good"))
    bad = runs.folder / "bad.json"
    bad.write_text("{")
    (runs.folder / "notes.txt").write_text("x")
    (runs.folder / ".0123.tmp").write_text("x")
    (runs.folder / ".hidden.json").write_text("x")
    assert [found.name for found in runs.all()] == ["good"]
    assert caplog.messages == [f"the run file `{bad}` cannot be read: it is not the JSON of a run"]
    with pytest.raises(StorageError, match=r"bad\.json") as raised:
        runs.resolve("bad", cwd=runs.folder, env={}, terminal=False)
    assert raised.value.hint is not None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": 2}, "its format is 2, perhaps of a newer dvid"),
        ({"cwd": 5}, "cwd is 5"),
        ({"cwd": ...}, "it has no 'cwd'"),
        ({"updated": "now"}, "updated is"),
        ({"keys": {"tune": 5}}, "`tune` is 5"),
        ({"keys": []}, "not the JSON of a run"),
        ({"recipes": {"tune": {"stage": "dream", "version": 1}}}, "`dream`, which this version"),
        ({"recipes": {"extract": {**to_json(EXTRACT), "frames": 0}}}, "--frames"),
    ],
)
def test_a_file_that_is_no_run_says_what_is_wrong(
    runs: Runs, change: dict[str, Any], says: str
) -> None:
    path = runs.save(run("a"))
    data = {**json.loads(path.read_text()), **change}
    path.write_text(json.dumps({k: v for k, v in data.items() if v is not ...}))
    with pytest.raises(StorageError, match=says):
        runs.get("a")


@given(st.binary(max_size=50))
def test_whatever_is_in_a_file_it_is_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    runs = Runs(tmp_path_factory.mktemp("runs"))
    (runs.folder / "a.json").write_bytes(data)
    with pytest.raises(StorageError, match="cannot be read"):
        runs.get("a")


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/b", "../a", ".a", "-a", "a b", "a\0", "last", "LAST", "con", "x" * 81],
)
def test_a_name_that_is_no_safe_file_name_is_refused(runs: Runs, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name of a run"):
        runs.save(run(name))
    assert runs.names() == []


def test_a_run_that_is_removed_is_gone_with_its_samples(runs: Runs) -> None:
    runs.save(run("a"))
    runs.add_sample("a", SAMPLE, key="f" * 64, path="/out/a.mp4")
    runs.rm("a")
    assert list(runs.folder.iterdir()) == []
    with pytest.raises(MissingError, match="no run named `a`"):
        runs.rm("a")
    with pytest.raises(MissingError, match="no run named `a`"):
        runs.get("a")


def test_a_renamed_run_takes_everything_along(runs: Runs) -> None:
    runs.save(run("a", model="tiny"))
    runs.add_sample("a", SAMPLE, key="f" * 64, path="/out/a.mp4")
    assert runs.rename("a", "b") == run("b", model="tiny") == runs.get("b")
    assert runs.names() == ["b"]
    assert len(runs.samples("b")) == 1
    assert runs.rename("b", "b").name == "b"
    assert runs.rename("b", "B").name == "B"
    assert runs.names() == ["B"]


def test_a_run_is_not_renamed_onto_another(runs: Runs) -> None:
    runs.save(run("a", model="one"))
    runs.save(run("B", model="two"))
    with pytest.raises(UsageError, match="there is a run named `b` already"):
        runs.rename("a", "b")
    with pytest.raises(UsageError, match="cannot be the name"):
        runs.rename("a", "../b")
    with pytest.raises(MissingError, match="no run named `gone`"):
        runs.rename("gone", "c")
    assert {found.model for found in runs.all()} == {"one", "two"}


def test_samples_are_remembered_in_order_the_last_of_each_file(runs: Runs) -> None:
    runs.save(run("a"))
    assert runs.samples("a") == []
    lion, bear = (replace(SAMPLE, prompt=prompt) for prompt in ("a lion", "a bear"))
    for recipe, key, path in ((SAMPLE, "1", "x"), (lion, "2", "y"), (bear, "3", "x")):
        runs.add_sample("a", recipe, key=key * 64, path=path)
    assert runs.samples("a") == [
        Made(recipe=lion, key="2" * 64, path="y"),
        Made(recipe=bear, key="3" * 64, path="x"),
    ]


def test_samples_asked_for_again_keep_their_order(runs: Runs) -> None:
    runs.save(run("a"))
    prompts = [replace(SAMPLE, prompt=prompt) for prompt in ("a lion", "a bear", "a fox")]
    for recipe in (*prompts, prompts[2], prompts[0]):
        runs.add_sample("a", recipe, key="1" * 64, path=recipe.prompt)
    assert [made.recipe for made in runs.samples("a")] == prompts


def test_a_sample_in_two_files_is_one_by_the_file_that_is_there(runs: Runs, tmp_path: Path) -> None:
    runs.save(run("a"))
    first, second = tmp_path / "first.mp4", tmp_path / "second.mp4"
    for path in (first, second):
        path.touch()
        runs.add_sample("a", SAMPLE, key="1" * 64, path=str(path))
    for kept in (first, second):
        assert [made.path for made in runs.samples("a")] == [str(kept)]
        kept.unlink()
    assert len(runs.samples("a")) == 1


def test_a_damaged_line_hides_no_other_sample(runs: Runs, caplog: pytest.LogCaptureFixture) -> None:
    runs.save(run("a"))
    runs.add_sample("a", SAMPLE, key="1" * 64, path="x")
    log = runs.folder / "a.samples.jsonl"
    with log.open("a") as file:
        file.write('[]\n{"key": 1}\n{"key": "cut off')
    runs.add_sample("a", replace(SAMPLE, prompt="a lion"), key="2" * 64, path="y")
    assert [made.key[0] for made in runs.samples("a")] == ["1", "2"]
    assert len(caplog.messages) == 3


def test_what_a_run_stands_for_is_a_root_and_its_samples_are_not(runs: Runs) -> None:
    runs.save(run("a", keys={"extract": "a" * 64, "tune": "b" * 64}))
    runs.add_sample("a", SAMPLE, key="f" * 64, path="x")
    (runs.folder / "damaged.json").write_text('{"keys": {"tune": "%s", "inv' % ("9" * 64))
    assert {"a" * 64, "b" * 64, "9" * 64} <= runs.roots()
    assert "f" * 64 not in runs.roots()


def test_a_failed_write_leaves_the_run_that_was_there(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.save(run("a", model="old"))

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(StorageError, match="No space left on device") as raised:
            runs.save(run("a", model="new"))
    assert raised.value.exit_code == 6
    assert runs.get("a").model == "old"
    assert len(list(runs.folder.iterdir())) == 1


@pytest.mark.parametrize("verb", ["save", "get", "rm", "rename", "samples", "add_sample"])
def test_a_state_folder_that_refuses_is_a_storage_error(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    runs.save(run("a"))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    acts = {
        "save": lambda: runs.save(run("a")),
        "get": lambda: runs.get("a"),
        "rm": lambda: runs.rm("a"),
        "rename": lambda: runs.rename("a", "b"),
        "samples": lambda: runs.samples("a"),
        "add_sample": lambda: runs.add_sample("a", SAMPLE, key="1" * 64, path="x"),
    }
    with monkeypatch.context() as patch:
        if verb in ("get", "samples"):
            patch.setattr(Path, "read_bytes", refuse)
        for call in ("replace", "unlink", "open"):
            patch.setattr(os, call, refuse)
        patch.setattr(Path, "open", refuse)
        with pytest.raises(StorageError, match="Permission denied"):
            acts[verb]()
    assert runs.get("a") == run("a")


def test_the_state_folder_is_named_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVID_STATE_DIR", str(tmp_path))
    assert Runs.open().folder == tmp_path / "runs"


def test_the_state_folder_is_the_users_else(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVID_STATE_DIR", "")
    assert state_dir().is_relative_to(home)
    assert state_dir().name == "dvid"


def test_a_run_that_goes_while_runs_are_listed_is_passed_over(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.save(run("a"))
    monkeypatch.setattr(Runs, "names", lambda _: ["a", "gone"])
    assert [found.name for found in runs.all()] == ["a"]
    assert runs.roots() == set()


# Names


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("bears", "bears"),
        ("Eisbär 2024 (final)", "Eisbär-2024-final"),
        ("北極熊", "北極熊"),
        (unicodedata.normalize("NFD", "bär"), "bär"),
        ("हिन्दी", "हिन्दी"),
        ("..", "clip"),
        ("", "clip"),
        ("...hidden", "hidden"),
        ("--help", "help"),
        ("a/b\\c:d", "a-b-c-d"),
        ("a\0\n\x1b[31mb", "a-31mb"),
        ("last", "last-clip"),
        ("last~2", "last-2"),
        ("CON", "CON-clip"),
        ("nul.tar", "nul-clip"),
        ("🐻", "clip"),
        ("a\udcff", "a"),
        ("x" * 200, "x" * 80),
        ("ä" * 200, "ä" * 40),
    ],
)
def test_a_name_is_the_stem_made_safe(stem: str, name: str) -> None:
    assert name_for(stem, ()) == name


@given(st.text(), st.lists(st.text(max_size=5)), st.integers(0, 12))
def test_any_name_is_safe_free_and_can_be_kept(stem: str, taken: list[str], again: int) -> None:
    used = list(taken)
    for _ in range(again):
        used.append(name_for(stem, used))
    name = name_for(stem, used)
    assert name.casefold() not in {other.casefold() for other in used}
    assert 0 < len(name.encode()) <= 80
    assert "/" not in name
    assert name[0] not in ".-"
    assert name == unicodedata.normalize("NFC", name) == name_for(name, ())


def test_the_next_clip_of_that_name_has_a_number(runs: Runs) -> None:
    assert name_for("bears", ["bears"]) == "bears-2"
    assert name_for("bears", ["Bears", "bears-2"]) == "bears-3"
    assert name_for("x" * 200, ["x" * 80]) == "x" * 78 + "-2"


def test_a_clip_keeps_its_name_where_it_was_used_before(runs: Runs, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    runs.save(run("bears", clip="bears.mp4", cwd=str(here)))
    assert runs.name_for("bears.mp4", cwd=here) == "bears"
    assert runs.name_for(str(here / "bears.mp4"), cwd=here) == "bears"
    assert runs.name_for("../here/bears.mp4", cwd=here) == "bears"
    assert runs.name_for("bears.mp4", cwd=there) == "bears-2"
    assert runs.name_for(str(here / "bears.mp4"), cwd=there) == "bears-2"
    assert runs.name_for("other/bears.mov", cwd=here) == "bears-2"


def test_a_damaged_file_keeps_its_name_taken(runs: Runs, tmp_path: Path) -> None:
    runs.folder.mkdir(parents=True)
    (runs.folder / "bears.json").write_text("{")
    assert runs.name_for("bears.mp4", cwd=tmp_path) == "bears-2"


def test_a_twin_is_of_another_directory(runs: Runs, tmp_path: Path) -> None:
    recipe = EXTRACT
    for name, where in (("mine", "here"), ("mine-2", "here"), ("theirs", "there")):
        (tmp_path / where).mkdir(exist_ok=True)
        runs.save(run(name, cwd=str(tmp_path / where), recipes={"extract": recipe}))
    own = runs.get("mine")
    assert runs.twin(own, recipe) == runs.get("theirs")
    runs.rm("theirs")
    assert runs.twin(own, recipe) is None


def test_what_lies_in_the_place_of_the_folder_of_runs_is_not_taken_for_none(runs: Runs) -> None:
    runs.folder.parent.mkdir(parents=True)
    runs.folder.symlink_to("gone")  # a disk that is not mounted
    with pytest.raises(StorageError):
        runs.names()
    runs.folder.unlink()
    runs.folder.touch()
    with pytest.raises(StorageError):
        runs.roots()


@pytest.mark.parametrize("text", ["{", '{"schema": 99}'])
def test_a_file_that_can_no_longer_be_read_is_not_written_over(runs: Runs, text: str) -> None:
    begun = run("bears")
    runs.save(begun)
    (runs.folder / "bears.json").write_text(text)
    saved = runs.update(begun, lambda stored: replace(stored, model="tiny"))
    assert (runs.folder / "bears.json").read_text() == text
    assert saved.name == "bears-2"
    assert runs.get("bears-2").model == "tiny"


# Which run is meant


@pytest.fixture
def several(runs: Runs, tmp_path: Path) -> Runs:
    """From the newest: `home` in `~`, `cafe` in `~/other`, `new` and `old` in `~/work`."""
    for name, cwd, updated, key in (
        ("old", "work", 1, "ab11" + "0" * 60),
        ("new", "work", 2, "ab22" + "0" * 60),
        ("cafe", "other", 3, "cafe" + "0" * 60),
        ("home", "", 4, "cafe" + "1" * 60),
    ):
        (tmp_path / cwd / "deep").mkdir(parents=True, exist_ok=True)
        runs.save(run(name, cwd=str(tmp_path / cwd), updated=updated, keys={"extract": key}))
    return runs


@pytest.mark.parametrize(
    ("ref", "env", "where", "terminal", "found"),
    [
        ("old", {}, "", False, "old"),
        ("old", {"DVID_RUN": "new"}, "", False, "old"),
        ("last", {}, "work", False, "home"),
        ("last~0", {}, "work", False, "home"),
        ("last~3", {}, "work", False, "old"),
        ("ab11", {}, "", False, "old"),
        ("AB22" + "0" * 60, {}, "", False, "new"),
        ("cafe", {}, "", False, "cafe"),
        ("cafe1", {}, "", False, "home"),
        (None, {"DVID_RUN": "old"}, "work", True, "old"),
        (None, {"DVID_RUN": "last~1"}, "work", True, "cafe"),
        (None, {"DVID_RUN": ""}, "work", False, "new"),
        ("", {}, "work", False, "new"),
        (None, {}, "work", False, "new"),
        (None, {}, "work/deep", False, "new"),
        (None, {}, "work/not/there", False, "new"),
        (None, {}, "other", True, "cafe"),
        (None, {}, "", False, "home"),
        (None, {}, "elsewhere", False, "home"),
    ],
)
def test_the_run_that_is_meant(
    several: Runs,
    tmp_path: Path,
    ref: str,
    env: dict[str, str],
    where: str,
    terminal: bool,
    found: str,
) -> None:
    resolved, note = several.resolve(ref, cwd=tmp_path / where, env=env, terminal=terminal)
    named = ref or env.get("DVID_RUN")
    assert (resolved.name, note) == (found, None if named else f"going on with the run `{found}`")


def test_a_directory_reached_by_a_link_is_the_same_directory(several: Runs, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "work")
    found, _ = several.resolve(None, cwd=tmp_path / "link", env={}, terminal=False)
    assert found.name == "new"


def test_on_a_terminal_the_last_run_anywhere_is_taken_and_told(
    several: Runs, tmp_path: Path
) -> None:
    found, note = several.resolve(None, cwd=Path("/"), env={}, terminal=True)
    assert found.name == "home"
    assert note == f"no run was made from here, going on with `home` of `{tmp_path}`"


@pytest.mark.parametrize(
    ("ref", "error", "says", "hint"),
    [
        (None, MissingError, "no run was made from `/`", "`dvid sample home`"),
        ("gone", MissingError, "no run named `gone`", "`dvid runs` lists them"),
        ("last~4", MissingError, "no run `last~4`, only 4 in all", "`dvid runs` lists them"),
        ("ab1", MissingError, "no run named `ab1`", "`dvid runs` lists them"),
        ("../runs/old", MissingError, "no run named", "`dvid runs` lists them"),
        ("c", MissingError, "no run named `c`", "`dvid runs` lists them"),
        ("ffff", MissingError, "no run named `ffff`", "`dvid runs` lists them"),
    ],
)
def test_no_run_that_could_be_meant_is_an_error_with_a_way_on(
    several: Runs, ref: str | None, error: type[DvidError], says: str, hint: str
) -> None:
    with pytest.raises(error, match=says) as raised:
        several.resolve(ref, cwd=Path("/"), env={}, terminal=False)
    assert hint in str(raised.value.hint)


def test_the_hint_names_the_command_that_was_typed(several: Runs) -> None:
    with pytest.raises(MissingError) as raised:
        several.resolve(None, cwd=Path("/"), env={}, terminal=False, verb="invert")
    assert raised.value.hint == "`dvid invert home` takes the last one made anywhere"


def test_a_prefix_of_two_runs_is_an_error_that_names_them(several: Runs) -> None:
    several.save(run("twin", keys={"tune": "ab11" + "2" * 60}))
    with pytest.raises(UsageError, match="`ab11` begins a key of `old`, `twin`"):
        several.resolve("ab11", cwd=Path("/"), env={}, terminal=True)


def test_two_keys_of_one_run_are_no_ambiguity(several: Runs) -> None:
    several.save(run("one", keys={"tune": "dead" + "1" * 60, "depth": "dead" + "2" * 60}))
    assert several.resolve("dead", cwd=Path("/"), env={}, terminal=True)[0].name == "one"


@pytest.mark.parametrize("terminal", [True, False])
def test_without_any_run_the_way_to_make_one_is_told(runs: Runs, terminal: bool) -> None:
    with pytest.raises(MissingError, match="there is no run yet") as raised:
        runs.resolve(None, cwd=Path("/"), env={}, terminal=terminal)
    assert raised.value.hint == "`dvid tune CLIP CAPTION` makes one"
