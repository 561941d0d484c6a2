"""Bad input: its exit code, one clear line and a hint, before heavy work, nothing half-written."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from checkpoints import edit_json
from media import count_clip, silence
from program import Dvid

from dvcli import stages
from dvcli.devices import usable
from dvcli.recipes import Recipe

Prepare = Callable[[Path, Path], Path]


def text(folder: Path, clip: Path) -> Path:
    (folder / "x.mp4").write_text("no clip at all\n" * 40)
    return folder / "x.mp4"


def empty(folder: Path, clip: Path) -> Path:
    (folder / "x.mp4").touch()
    return folder / "x.mp4"


def truncated(folder: Path, clip: Path) -> Path:
    (folder / "x.mp4").write_bytes(clip.read_bytes()[:20_000])
    return folder / "x.mp4"


def ffconcat(folder: Path, clip: Path) -> Path:
    (folder / "x.mp4").write_text(f"ffconcat version 1.0\nfile {clip}\n")
    return folder / "x.mp4"


def playlist(folder: Path, clip: Path) -> Path:
    (folder / "x.m3u8").write_text(f"#EXTM3U\n#EXTINF:10,\nfile://{clip}\n#EXT-X-ENDLIST\n")
    return folder / "x.m3u8"


def audio(folder: Path, clip: Path) -> Path:
    return silence(folder / "x.m4a")


def huge(folder: Path, clip: Path) -> Path:
    header = b"P6\n100000 100000\n255\n"
    (folder / "x.ppm").write_bytes(header + b"\0" * 64)
    return folder / "x.ppm"


def missing(folder: Path, clip: Path) -> Path:
    return folder / "nothing.mp4"


def directory(folder: Path, clip: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any stage but extraction, which is what finds a bad clip, fails the test."""

    def refuse(recipe: Recipe, *rest: object) -> object:
        assert recipe.stage == "extract", f"{recipe.stage} was begun"
        return build(recipe, *rest)

    build = stages._build
    monkeypatch.setattr(stages, "_build", refuse)


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize(
    "prepare",
    [missing, directory, empty, text, audio, truncated, huge, ffconcat, playlist],
    ids=lambda prepare: prepare.__name__,
)
def test_a_clip_that_is_none_is_exit_3_in_two_lines(
    dvid: Dvid, base: Path, bikes: Path, tmp_path: Path, home: Path, prepare: Prepare
) -> None:
    clip = prepare(tmp_path, bikes)
    said = dvid("tune", clip, "a clip", "--model", base, "--size", "64", code=3)
    assert said.out == ""
    lines = said.err.splitlines()
    assert lines[0].startswith("error: ")
    assert len(lines) <= 2
    assert all(line.startswith("hint: ") for line in lines[1:])
    assert not list((home / "state").rglob("*.json"))
    assert not [p for p in (home / "cache" / "v1").glob("actions/*/*") if p.is_file()]


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["tune", "CLIP", "  ", "--model", "BASE"], 2, "the caption is empty"),
        (["tune", "CLIP", "a", "--model", "BASE", "--steps", "-1"], 2, "`--steps` is `-1`"),
        (["tune", "CLIP", "a", "--model", "BASE", "--lr", "nan"], 2, "`--lr` is `nan`"),
        (["tune", "CLIP", "a", "--model", "BASE", "--size", "100x64"], 2, "multiples of 16"),
        (
            ["tune", "CLIP", "a", "--model", "BASE", "--size", "big"],
            2,
            "`--size` is `big`, which is no size",
        ),
        (["tune", "CLIP", "a", "--model", "BASE", "--device", "tpu"], 2, "no device `tpu`"),
        (["tune", "CLIP", "a", "--model", "BASE", "--frames", "0"], 2, "`--frames` is `0`"),
        (["tune", "CLIP", "a", "--model", "BASE", "--end", "0"], 2, "`--end` is `0`"),
        (["tune", "CLIP", "a", "--model", "BASE", "--end", "inf"], 2, "`--end` is `inf`"),
        (["tune", "CLIP", "a\udcff", "--model", "BASE"], 2, "not valid text at character 2"),
        (["tune", "CLIP", "a", "--model", "BASE", "--run", "a/b"], 2, "cannot be the name"),
        (["tune", "CLIP", "a", "--model", "nobody/nothing", "--offline"], 4, "nobody/nothing"),
        (["tune", "CLIP", "a", "--model", "FOLDER"], 3, "model_index.json"),
        (["tune", "CLIP", "a", "--model", "BASE", "--memory-limit", "lots"], 2, "`lots` is no"),
        (["tune", "CLIP", "a", "--frames", "4000", "--model", "BASE"], 2, "`--frames` is `4000`"),
        (["tune"], 2, "tuning takes a clip and what it shows"),
        (["sample", "-p", "a fox"], 4, "there is no run yet"),
        (["sample", "nosuch", "-p", "a fox"], 4, "nosuch"),
        (["invert"], 4, "there is no run yet"),
        (["eval", "nosuch.mp4"], 4, "nosuch.mp4"),
    ],
)
def test_a_wrong_command_line_says_so_before_any_work(
    dvid: Dvid,
    base: Path,
    bikes: Path,
    tmp_path: Path,
    home: Path,
    arguments: list[str],
    code: int,
    line: str,
) -> None:
    places = {"CLIP": str(bikes), "BASE": str(base), "FOLDER": str(tmp_path)}
    said = dvid(*[places.get(word, word) for word in arguments], code=code)
    assert line in said.err.splitlines()[-2 if "hint:" in said.err else -1]
    assert said.out == ""
    assert not [p for p in (home / "cache" / "v1").glob("actions/*/*") if p.is_file()]


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["-p", "a", "--style", "cubims"], 2, "no style named `cubims`"),
        (["-p", "  "], 2, "the prompt is empty"),
        ([], 2, "no prompt"),
        (["-p", "a", "--guidance", "101"], 2, "`--guidance` is `101`"),
        (["-p", "a", "--guidance", "nan"], 2, "`--guidance` is `nan`"),
        (["-p", "a", "--eta", "2"], 2, "`--eta` is `2`"),
        (["-p", "a", "--steps", "7"], 2, "what is inverted in 3 steps is sampled in as many"),
        (["-p", "a", "--seed", "1", "--seed", "2"], 2, "nothing here is random"),
        (["-p", "a", "--depth-gamma", "0"], 2, "`--depth-gamma` is `0`"),
        (["-p", "a", "--depth-blend", "0.5"], 2, "a depth blend takes both"),
        (["-p", "a", "-o", "x.avi"], 2, "cannot write `.avi`"),
        (["-p", "a", "-p", "b", "-o", "x.mp4"], 2, "there are 2 results"),
        (["-f", "nosuch.txt"], 3, "nosuch.txt"),
        (["-f", "binary.txt"], 3, "UTF-8"),
        (["-f", "blank.txt"], 3, "has no prompt in it"),
    ],
)
def test_a_wrong_sample_says_so_before_any_work(
    dvid: Dvid, tuned: Path, arguments: list[str], code: int, line: str
) -> None:
    Path("binary.txt").write_bytes(b"\xff\xfe\x00\x01")
    Path("blank.txt").write_text("\n# nothing\n\n")
    said = dvid("sample", *arguments, code=code)
    assert line in said.err
    assert said.out == ""
    assert not Path("out").exists()


def test_too_few_frames_names_how_many_there_are(dvid: Dvid, base: Path, tmp_path: Path) -> None:
    clip = count_clip(tmp_path / "short.mp4", 5)
    said = dvid("tune", clip, "a", "--model", base, "--frames", "6", "--size", "64", code=3)
    assert "5" in said.err


def test_a_prompt_over_the_token_limit_is_a_warning_that_names_what_is_cut(
    dvid: Dvid, tuned: Path
) -> None:
    said = dvid("sample", "-p", "bear " * 80 + "submarine", "-o", "x.mp4")
    assert "warning: the text encoder does not see the end of the prompt" in said.err
    assert "submarine" in said.err
    assert Path("x.mp4").exists()


def test_too_little_memory_is_exit_5_before_tuning_and_names_the_levers(
    dvid: Dvid, base: Path, bikes: Path, home: Path
) -> None:
    options = ["--model", base, "--size", "64", "--frames", "3", "--memory-limit", "4M"]
    said = dvid("tune", bikes, "a", "--steps", "5", *options, code=5)
    assert "tuning needs about" in said.err
    for lever in ("--frames", "--size", "--memory low", "--dtype"):
        assert lever in said.err
    assert not list((home / "cache" / "v1" / "partial").glob("*/*"))


def test_too_little_memory_is_exit_5_before_sampling(dvid: Dvid, tuned: Path) -> None:
    assert "sampling needs about" in dvid("sample", "-p", "a", "--memory-limit", "1M", code=5).err


def test_running_out_of_memory_in_the_work_is_exit_5_and_keeps_what_was_done(
    dvid: Dvid, tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from dvcli.models import latents

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    with monkeypatch.context() as patch:
        patch.setattr(latents, "decode", full)
        assert "out of memory" in dvid("sample", "-p", "a", code=5).err
    again = dvid("sample", "-p", "a")
    assert "invert: cached" in again.err
    assert Path(again.lines[0]).exists()


def test_running_out_of_memory_in_tuning_keeps_the_last_whole_step(
    dvid: Dvid, base: Path, bikes: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from dvcli.core import tuning

    command = ["tune", bikes, "a", "--steps", "4", "--model", base]
    command += ["--frames", "2", "--size", "64"]
    calls, predict = [], tuning.predict

    def full_at_the_third_step(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return predict(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(tuning, "predict", full_at_the_third_step)
        dvid(*command, code=5)
    assert "tune: going on from step 2\n" in dvid(*command).err


def test_a_tuning_whose_newest_checkpoint_is_damaged_says_the_step_that_it_goes_on_from_once(
    dvid: Dvid, base: Path, bikes: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from dvcli.core import tuning

    command = ["tune", bikes, "a", "--steps", "4", "--model", base]
    command += ["--frames", "2", "--size", "64"]
    predict = tuning.predict

    def full_at_the(number: int) -> object:
        calls: list[int] = []

        def full(*arguments: object) -> object:
            calls.append(1)
            if len(calls) == number:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
            return predict(*arguments)

        return full

    for number in (3, 2):
        with monkeypatch.context() as patch:
            patch.setattr(tuning, "predict", full_at_the(number))
            dvid(*command, code=5)
    newest = max((home / "cache" / "v1" / "partial").glob("*/step-*.safetensors"))
    assert newest.name == "step-0000003.safetensors"
    newest.write_bytes(b"damaged")
    saved = {path: path.read_bytes() for path in newest.parent.iterdir()}
    err = dvid(*command).err
    assert err.count("going on from step") == 1
    assert "tune: going on from step 2\n" in err
    newest.parent.mkdir(exist_ok=True)
    for path, data in saved.items():
        path.write_bytes(data)
    assert "going on" not in dvid(*command, "-q", "--refresh").err


def test_deltas_of_another_base_are_refused_where_they_are_loaded(dvid: Dvid, tuned: Path) -> None:
    from dvcli.errors import InputError
    from dvcli.recipes import Base
    from dvcli.runs import Runs
    from dvcli.stages.network import read_deltas
    from dvcli.store import Store

    artifact = Store.open().get(Runs.open().get("bikes").keys["tune"])
    assert artifact is not None
    other = Base(
        **dict.fromkeys(("unet", "vae", "text_encoder", "tokenizer", "scheduler"), "0" * 64)
    )
    with pytest.raises(InputError, match="another base"):
        read_deltas(artifact, other)


def test_an_ambiguous_key_prefix_names_the_runs(
    dvid: Dvid, tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tuned / "state" / "runs"
    shutil.copy(runs / "bikes.json", runs / "twin.json")
    key = json.loads((runs / "bikes.json").read_text())["keys"]["tune"]
    said = dvid("invert", key[:8], code=2)
    assert "`bikes`" in said.err
    assert "`twin`" in said.err


def test_outside_a_terminal_no_run_of_this_directory_is_an_error_with_the_command_to_use(
    dvid: Dvid, tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DVID_RUN")
    monkeypatch.chdir(tmp_path)
    said = dvid("sample", "-p", "a", code=4)
    assert "hint: `dvid sample bikes" in said.err


def test_an_output_that_cannot_be_a_folder_is_exit_6_before_any_work(
    dvid: Dvid, tuned: Path, no_work: None
) -> None:
    Path("file").touch()
    said = dvid("sample", "-p", "a", "-o", "file/x.mp4", code=6)
    assert "cannot write to" in said.err


def test_a_different_file_is_never_overwritten_without_being_asked(dvid: Dvid, tuned: Path) -> None:
    Path("x.mp4").write_text("mine")
    said = dvid("sample", "-p", "a", "-o", "x.mp4", code=2)
    assert "exists and is a different file" in said.err
    assert Path("x.mp4").read_text() == "mine"
    dvid("sample", "-p", "a", "-o", "x.mp4", "--overwrite")
    assert Path("x.mp4").read_bytes() != b"mine"


def test_a_read_only_cache_is_read_and_the_result_still_arrives(
    dvid: Dvid, tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    from dvcli.store import disk

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    for name in ("place", "write", "folder"):
        monkeypatch.setattr(disk, name, refuse)
    said = dvid("sample", "-p", "a new one", "-o", "x.mp4")
    assert Path("x.mp4").exists()
    assert "tune: cached" in said.err


def test_a_full_cache_disk_is_exit_6_and_the_result_still_arrives(
    dvid: Dvid, tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    from dvcli.store import disk

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(disk, "place", full)
    said = dvid("sample", "-p", "a new one", "-o", "x.mp4", code=6)
    assert said.lines == ["x.mp4"]
    assert Path("x.mp4").exists()


def test_a_bug_is_exit_1_with_its_traceback_in_a_file(
    dvid: Dvid, tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvcli.cli import clips

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the unexpected")

    monkeypatch.setattr(clips, "deliver", broken)
    said = dvid("sample", "-p", "a", code=1)
    assert "a bug: RuntimeError: the unexpected" in said.err
    (log,) = (tuned / "state" / "logs").iterdir()
    assert str(log) in said.err
    assert "Traceback" in log.read_text()


def test_a_checkpoint_with_a_wrong_network_is_refused(
    dvid: Dvid, base: Path, bikes: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(base, tmp_path / "copy"))
    edit_json(copy / "unet" / "config.json", in_channels=9)
    assert "9 channels" in dvid("tune", bikes, "a", "--model", copy, code=3).err


@pytest.mark.skipif(usable("cuda"), reason="there is a card here")
@pytest.mark.parametrize("verb", ["tune", "batch"])
def test_a_device_that_torch_has_not_is_refused_before_the_frames_are_taken(
    dvid: Dvid, base: Path, bikes: Path, home: Path, verb: str
) -> None:
    words: list[str | Path] = [bikes, "a man", "--size", "64"]
    if verb == "batch":
        line = {"clip": str(bikes), "caption": "a man", "tune": {"size": 64}}
        Path("jobs.jsonl").write_text(json.dumps(line))
        words = ["jobs.jsonl"]
    said = dvid(verb, *words, "--model", base, "--device", "cuda", code=5)
    assert "torch cannot use the device `cuda`" in said.err
    assert not list((home / "cache").rglob("objects/*/*"))


@pytest.mark.parametrize("verb", ["extract", "tune", "invert"])
def test_a_run_is_not_printed_where_the_cache_took_nothing_of_it(
    dvid: Dvid, tuned: Path, base: Path, bikes: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("dvcli.store.publish.commit", full)
    before = sorted(dvid("runs").lines)
    few = ["--frames", "2", "--size", "64"]
    words: dict[str, list[str | Path]] = {
        "extract": [bikes, *few, "--run", "new"],
        "tune": [bikes, "a man", *few, "--steps", "1", "--model", base, "--run", "new"],
        "invert": ["bikes", "--steps", "2"],
    }
    said = dvid(verb, *words[verb], code=6)
    assert "could not store a result" in said.err
    assert said.out == ""
    assert sorted(dvid("runs").lines) == before


@pytest.mark.parametrize("named", ["/nope", "."])
def test_a_styles_file_that_was_named_and_is_not_there_is_an_error(
    dvid: Dvid, tuned: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    monkeypatch.setenv("DVID_STYLES", named)
    for words in (["styles"], ["sample", "-p", "a fox", "-s", "animation"]):
        said = dvid(*words, code=3)
        assert f"the styles file `{named}` cannot be read" in said.err
        assert "hint: `DVID_STYLES` names" in said.err
