"""The two lines that must always work, and what of them is reused when something changes."""

import json
import shutil
import sys
from pathlib import Path

import av
import pytest
from checkpoints import write_depth2img
from media import real_clips
from program import Dvid, Said, process

from dvcli.video.metadata import read_metadata

TINY = ("--frames", "3", "--size", "64")


def plan(said: Said) -> dict[str, bool]:
    """stage → hit, of a `--dry-run --json`."""
    return {step["stage"]: step["hit"] for step in map(json.loads, said.lines)}


@pytest.mark.parametrize("name", ["bikes.mp4", "bigbuckbunny.mp4", "carphone_pristine.mp4"])
def test_tune_then_sample_of_a_real_clip_prints_one_playable_file(
    dvid: Dvid, base: Path, name: str
) -> None:
    clip = real_clips()[name]
    run = dvid("tune", clip, "a clip", "--steps", "5", "--model", base, "--size", "64")
    assert run.lines == [clip.stem]
    dvid("invert", "--steps", "2")
    said = dvid("sample", "-p", "a tigress with her cubs", "--style", "impressionism")
    assert len(said.lines) == 1
    path = Path(said.lines[0])
    with av.open(path) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [frame.shape for frame in frames] == [(64, 64, 3)] * 8
    told = json.loads(read_metadata(path) or "{}")
    assert told["recipe"]["stage"] == "sample"
    tune = told["recipe"]["inverted"]["tuned"]
    assert (tune["prompt"], tune["steps"], tune["frames"]["stage"]) == ("a clip", 5, "extract")


def test_the_same_sample_again_is_a_hit_with_the_same_path_and_imports_no_torch(
    dvid: Dvid, tuned: Path
) -> None:
    first = dvid("sample", "-p", "a tiger", "-s", "animation")
    program = (
        "import sys; from dvcli.cli.main import main; code = main(sys.argv[1:]);"
        "heavy = {'torch', 'diffusers', 'transformers', 'av', 'numpy', 'PIL'} & set(sys.modules);"
        "sys.stderr.write(f'heavy: {sorted(heavy)}'); sys.exit(code)"
    )
    import subprocess

    again = subprocess.run(
        [sys.executable, "-c", program, "sample", "-p", "a tiger", "-s", "animation"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert again.stdout == first.out
    assert again.stderr.endswith("heavy: []")


def test_a_second_prompt_runs_neither_tuning_nor_inversion_again(dvid: Dvid, tuned: Path) -> None:
    hits = plan(dvid("sample", "-p", "something else", "-n", "--json"))
    assert hits == {"extract": True, "depth": True, "tune": True, "invert": True, "sample": False}


def test_the_chain_has_the_same_keys_with_a_fresh_home_another_directory_and_a_renamed_clip(
    dvid: Dvid,
    base: Path,
    bikes: Path,
    tuned_home: Path,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = json.loads((tuned_home / "state" / "runs" / "bikes.json").read_text())
    elsewhere = tmp_path / "ein anderer Ort 🎞"
    elsewhere.mkdir()
    renamed = shutil.copy(bikes, elsewhere / "renamed.mov.mp4")
    moved = shutil.copytree(base, elsewhere / "weights")
    monkeypatch.chdir(elsewhere)
    dvid("tune", renamed, "a man", "--model", moved, "--steps", "2", *TINY)
    dvid("invert", "--steps", "3")
    (run,) = map(json.loads, dvid("runs", "--json").lines)
    assert run["run"] == "renamed.mov"
    assert run["keys"] == kept["keys"]


def without_index(clip: Path, folder: Path) -> Path:
    """The same frames in another container file: other bytes."""
    path = folder / "remuxed.mkv"
    with av.open(str(clip)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return path


def changed_weights(base: Path, folder: Path, component: str) -> Path:
    """The checkpoint with one weight of one component changed."""
    from safetensors.torch import load_file, save_file

    copy = Path(shutil.copytree(base, folder / f"other-{component}"))
    (file,) = (copy / component).glob("*.safetensors")
    tensors = load_file(file)
    name = sorted(n for n, t in tensors.items() if t.is_floating_point())[0]
    tensors[name] = tensors[name] + 0.01
    save_file(tensors, file, metadata={"format": "pt"})
    return copy


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ("nothing", set()),
        ("λ", {"tune"}),
        ("the prompt", {"tune"}),
        ("another seed", {"tune"}),
        ("the clip's container", {"extract"}),
        ("the number of frames", {"extract", "depth", "tune"}),
        ("a weight of the U-Net", {"tune"}),
        ("a weight of the VAE", {"tune"}),
        ("a weight of the depth estimator", {"depth", "tune"}),
        ("the folder's name", set()),
        ("the device and the attention", set()),
        ("recomputed activations", set()),
    ],
)
def test_a_change_misses_exactly_the_stages_it_reaches(
    dvid: Dvid, tuned: Path, base: Path, bikes: Path, tmp_path: Path, change: str, missed: set[str]
) -> None:
    clip, prompt, model, more = bikes, "a man", base, [*TINY]
    match change:
        case "λ":
            more += ["--temporal-weight", "0.7"]
        case "the prompt":
            prompt = "a woman"
        case "another seed":
            more += ["--seed", "7"]
        case "the clip's container":
            clip = without_index(bikes, tmp_path)
        case "the number of frames":
            more += ["--frames", "4"]
        case "the folder's name":
            model = Path(shutil.copytree(base, tmp_path / "renamed"))
        case "the device and the attention":
            more += ["--device", "cpu", "--attention", "sdpa"]
        case "recomputed activations":
            more += ["--checkpoint-grad", "on"]
        case _ if change.startswith("a weight"):
            part = {"U-Net": "unet", "VAE": "vae"}.get(change.rpartition(" ")[2], "depth_estimator")
            model = changed_weights(base, tmp_path, part)
    said = dvid("tune", clip, prompt, "--model", model, "--steps", "2", *more, "-n", "--json")
    found = plan(said)
    if change == "the clip's container":
        # What hangs on the frames cannot be known before they are; extracting shows that it hits.
        dvid("extract", clip, *TINY, "--run", "remuxed")
        found = {"extract": False} | {
            stage: hit
            for stage, hit in plan(
                dvid("tune", clip, prompt, "--model", model, "--steps", "2", *more, "-n", "--json")
            ).items()
            if stage != "extract"
        }
    assert {stage for stage, hit in found.items() if not hit} == missed


@pytest.mark.parametrize(
    ("change", "hit"),
    [
        ([], True),
        (["--guidance", "7"], False),
        (["--negative", "blue"], False),
        (["--style", "mine"], False),
        (["--depth-gain", "0.5"], False),
        (["--depth-gain", "1.0"], True),
        (["--seed", "4"], True),
        (["--eta", "0.5"], False),
        (["--format", "gif"], True),
        (["--fps", "12"], True),
    ],
)
def test_a_sample_hits_unless_what_makes_its_pixels_changed(
    dvid: Dvid, tuned: Path, change: list[str], hit: bool
) -> None:
    styles = tuned / "config" / "dvid" / "styles.toml"
    styles.parent.mkdir(parents=True)
    styles.write_text('[mine]\nprompt = "in my style"\n')
    dvid("sample", "-p", "a fox")
    assert plan(dvid("sample", "-p", "a fox", *change, "-n", "--json"))["sample"] is hit


def test_the_words_of_a_style_are_in_the_key_and_its_name_is_not(dvid: Dvid, tuned: Path) -> None:
    styles = tuned / "config" / "dvid" / "styles.toml"
    styles.parent.mkdir(parents=True)
    styles.write_text('[mine]\nprompt = "in oil"\n[twin]\nprompt = "in oil"\n')
    dvid("sample", "-p", "a fox", "-s", "mine")
    assert plan(dvid("sample", "-p", "a fox", "-s", "twin", "-n", "--json"))["sample"]
    styles.write_text('[mine]\nprompt = "in chalk"\n')
    assert not plan(dvid("sample", "-p", "a fox", "-s", "mine", "-n", "--json"))["sample"]


def test_refresh_builds_the_sample_again_and_gives_the_same_bytes(dvid: Dvid, tuned: Path) -> None:
    path = Path(dvid("sample", "-p", "a fox").lines[0])
    before = path.read_bytes()
    said = dvid("sample", "-p", "a fox", "--refresh")
    assert "sample: done" in said.err
    assert "tune: cached" in said.err
    assert path.read_bytes() == before


def test_no_cache_leaves_the_cache_as_it_was(
    dvid: Dvid, base: Path, bikes: Path, home: Path
) -> None:
    dvid("extract", bikes, *TINY, "--no-cache", "-o", "frames.png")
    assert Path("frames.png").exists()
    assert not list((home / "cache").rglob("objects/*/*"))


def test_weights_that_have_moved_are_found_again_with_model(
    dvid: Dvid, tuned: Path, bikes: Path, tmp_path: Path, base: Path
) -> None:
    moved = write_depth2img(tmp_path / "first")
    dvid("tune", bikes, "a man", "--model", moved, "--steps", "0", *TINY, "--run", "moving")
    shutil.move(moved, tmp_path / "second")
    lost = dvid("invert", "moving", "--steps", "2", code=4)
    assert "hint:" in lost.err
    dvid("invert", "moving", "--steps", "2", "--base", tmp_path / "second")


def test_a_run_refuses_another_base_than_the_one_it_was_tuned_on(
    dvid: Dvid, tuned: Path, base: Path, tmp_path: Path
) -> None:
    other = changed_weights(base, tmp_path, "unet")
    said = dvid("invert", "--steps", "4", "--base", other, code=3)
    assert "is not the base that the run `bikes` was tuned on" in said.err


def test_a_process_of_its_own_goes_the_same_way(tuned: Path) -> None:
    said = process("sample", "-p", "a lion", "--format", "gif")
    assert Path(said.lines[0]).read_bytes().startswith(b"GIF8")
