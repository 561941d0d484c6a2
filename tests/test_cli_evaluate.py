"""`dvid eval`: rows, subsets, sources, prompts files, means and gates."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import write_clip, write_estimator
from media import images, make_clip, numbered
from program import Dvid, Said, copy_state

from dvcli.cli.judged import Role, Row
from dvcli.cli.measures import Gates, check
from dvcli.errors import CheckError
from dvcli.recipes import Extract
from dvcli.runs import Runs

FIGURES = {"frame_consistency", "frame_consistency_consecutive", "textual_alignment"}


def moving(dx: float, frames: int = 3, side: int = 64) -> list[np.ndarray]:
    """Pictures of a texture that slides by so many pixels a frame."""
    y, x = np.mgrid[:side, :side].astype(np.float64)
    found = []
    for i in range(frames):
        wave = np.sin((x - dx * i) / 5) * np.cos(y / 6)
        found.append(np.repeat((128 + 90 * wave)[..., None], 3, axis=2).astype(np.uint8))
    return found


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`source.mp4` that moves, `same.mp4` that moves alike, `frozen.mp4`, `one.mp4`."""
    folder = tmp_path_factory.mktemp("clips")
    exact: dict[str, Any] = {"options": {"crf": "4"}}
    make_clip(folder / "source.mp4", moving(2.0), **exact)
    make_clip(folder / "same.mp4", [255 - picture for picture in moving(2.0)], **exact)
    make_clip(folder / "frozen.mp4", moving(2.0)[:1] * 3, **exact)
    make_clip(folder / "one.mp4", moving(2.0)[:1], **exact)
    make_clip(folder / "long.mp4", moving(2.0, frames=5), **exact)
    return folder


@pytest.fixture(scope="module")
def estimator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_estimator(tmp_path_factory.mktemp("estimator"), seed=3)


@pytest.fixture(scope="module")
def sampled_home(
    tmp_path_factory: pytest.TempPathFactory, tuned_home: Path, judge: Path
) -> tuple[Path, list[str]]:
    """The tuned home with two samples made and judged; do not write."""
    from conftest import empty_home
    from program import main

    home = tmp_path_factory.mktemp("sampled")
    with pytest.MonkeyPatch.context() as patch:
        empty_home(home, patch)
        copy_state(tuned_home, home)
        patch.setenv("DVID_RUN", "bikes")
        assert main(["sample", "-p", "a fox", "-p", "a cat", "-q"]) == 0
        assert main(["eval", "--clip-model", str(judge), "-q"]) == 0
    return home, sorted(str(p) for p in (home / "work" / "out" / "bikes").iterdir())


@pytest.fixture
def sampled(
    home: Path, sampled_home: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> Path:
    copy_state(sampled_home[0], home)
    monkeypatch.setenv("DVID_RUN", "bikes")
    return home


def rows(said: Said) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said.lines]


def by_role(said: Said) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows(said):
        found.setdefault(row["role"], []).append(row)
    return found


def test_a_run_has_its_source_its_reconstruction_its_samples_and_their_mean(
    dvid: Dvid, sampled: Path, judge: Path
) -> None:
    found = by_role(dvid("eval", "--clip-model", judge, "--json"))
    assert {role: len(those) for role, those in found.items()} == {
        "source": 1,
        "reconstruction": 1,
        "sample": 2,
        "mean": 1,
    }
    (source,), (back,) = found["source"], found["reconstruction"]
    assert source["motion_fidelity"] == pytest.approx(100)
    assert source["depth_agreement"] == pytest.approx(100)
    assert "psnr" not in source
    assert {"psnr", "ssim", "gmsd"} <= back.keys()
    assert not any("psnr" in row for row in found["sample"])


def test_the_mean_is_over_the_samples(dvid: Dvid, sampled: Path, judge: Path) -> None:
    found = by_role(dvid("eval", "--clip-model", judge, "--json"))
    (mean,), samples = found["mean"], found["sample"]
    assert mean["count"] == 2
    for name in FIGURES | {"motion_fidelity", "depth_agreement"}:
        assert mean[name] == pytest.approx(sum(row[name] for row in samples) / 2)


def test_the_psnr_of_the_reconstruction_is_to_the_source(dvid: Dvid, sampled: Path) -> None:
    from dvcli.core.metrics import psnr
    from dvcli.recipes import Invert
    from dvcli.stages import find
    from dvcli.store import Store
    from dvcli.video import frames as frame_file

    (row,) = by_role(dvid("eval", "--metrics", "likeness", "--json"))["reconstruction"]
    run, store = Runs.open().get("bikes"), Store.open()
    kinds = {Extract: ("extract", "frames"), Invert: ("invert", "reconstruction")}
    import torch

    frames = []
    for stage, name in kinds.values():
        artifact = find(run.recipes[stage], store)
        assert artifact is not None
        frames.append(torch.from_numpy(frame_file.load(artifact.path(name))).float())
    assert row["psnr"] == pytest.approx(psnr(*frames, 255.0), abs=1e-6)


def test_likeness_of_samples_is_measured_when_asked_for(dvid: Dvid, sampled: Path) -> None:
    found = by_role(dvid("eval", "--metrics", "likeness", "--json"))
    assert all("psnr" in row for row in found["sample"] + found["reconstruction"])
    assert not any("psnr" in row for row in found["source"])


def test_again_is_all_hits(dvid: Dvid, sampled: Path, judge: Path) -> None:
    said = dvid("eval", "--clip-model", judge)
    assert "done in" not in said.err
    assert said.err.count("cached") == 4


def test_of_seventeen_figures_a_pipe_hears_a_line_for_each_kind(
    dvid: Dvid, sampled: Path, judge: Path
) -> None:
    lines = dvid("eval", "--clip-model", judge).err.splitlines()
    assert lines[0] == "measure 0/17"
    kinds = [line.partition(":")[0] for line in lines if not line.startswith("measure ")]
    assert kinds == ["eval", "motion", "agreement", "likeness"]


def test_again_imports_nothing_heavy(sampled: Path, judge: Path) -> None:
    code = (
        "import sys\nfrom dvcli.cli.main import main\n"
        f"assert main(['eval', '--clip-model', {str(judge)!r}, '-q']) == 0\n"
        "print({'torch', 'cv2', 'numpy', 'av', 'transformers'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100
    )
    assert done.stderr.strip().splitlines()[-1] == "set()"


def test_a_metric_asked_for_leaves_the_others_where_they_are(
    dvid: Dvid, sampled: Path, judge: Path
) -> None:
    said = dvid("eval", "--clip-model", judge, "--metrics", "preference", "--pick-model", judge)
    assert "preference: done" in said.err
    assert not any(f"{stage}: done" in said.err for stage in ("eval", "motion", "agreement"))


@pytest.mark.parametrize(
    ("metrics", "columns"),
    [
        ("motion", ["motion_fidelity"]),
        ("depth,motion", ["motion_fidelity", "depth_agreement", "depth_agreement_in_rows"]),
        ("likeness", ["psnr", "ssim", "gmsd"]),
    ],
)
def test_metrics_chooses_and_needs_no_clip_model(
    metrics: str, columns: list[str], dvid: Dvid, sampled: Path
) -> None:
    said = dvid("eval", "--metrics", metrics, "--clip-model", "nosuch/model")
    assert said.lines[0].split("\t") == ["clip", *columns, "prompt"]


def test_alignment_alone_leaves_consistency_out(dvid: Dvid, clips: Path, judge: Path) -> None:
    options = ["--metrics", "alignment", "-p", "a man", "--clip-model", judge, "--json"]
    (row,) = rows(dvid("eval", clips / "source.mp4", *options))
    assert "textual_alignment" in row
    assert "frame_consistency" not in row


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--metrics", "beauty"], 2, "no metric `beauty`"),
        (["--metrics", "motion"], 2, "compares with a source"),
        (["--metrics", "likeness"], 2, "compares with a source"),
        (["--metrics", "depth", "--source", "source.mp4"], 2, "needs a depth estimator"),
        (["--metrics", "alignment"], 2, "needs a prompt"),
        (["--metrics", "motion", "--min-alignment", "20"], 2, "leaves out"),
        (["--metrics", "motion", "--min-motion", "nan"], 2, "not between"),
        (["--min-motion", "10"], 2, "compares with a source"),
        (["--source", "nosuch"], 4, "nosuch"),
        (["-p", " "], 2, "empty"),
        (["--metrics", "consistency", "--clip-model", "no/such"], 4, "--metrics motion,depth"),
    ],
)
def test_what_cannot_be_had_is_refused_before_work(
    arguments: list[str], code: int, says: str, dvid: Dvid, clips: Path
) -> None:
    shutil.copytree(clips, ".", dirs_exist_ok=True)
    said = dvid("eval", "frozen.mp4", *arguments, code=code)
    assert says in said.err
    assert said.out == ""
    assert "done in" not in said.err


def test_files_are_compared_with_a_source(dvid: Dvid, clips: Path, estimator: Path) -> None:
    options = ["--source", clips / "source.mp4", "--metrics", "motion,likeness,depth"]
    files = [clips / name for name in ("source.mp4", "same.mp4", "frozen.mp4")]
    itself, same, frozen, _ = rows(
        dvid("eval", *files, *options, "--estimator", estimator, "--json")
    )
    assert itself["motion_fidelity"] == pytest.approx(100)
    assert (itself["psnr"], itself["ssim"]) == pytest.approx((100, 1))
    assert itself["depth_agreement"] == pytest.approx(100)
    assert same["motion_fidelity"] > 90
    assert same["psnr"] < 20
    assert frozen["motion_fidelity"] == 0
    assert frozen["source"] == str(clips / "source.mp4")


def test_the_source_is_sampled_as_the_result_is(dvid: Dvid, clips: Path) -> None:
    """Five frames of the source, of which three are those of a clip twice as fast."""
    make_clip(Path("fast.mp4"), moving(4.0), options={"crf": "4"})
    options = ["--source", clips / "long.mp4", "--metrics", "motion", "--json"]
    (row,) = rows(dvid("eval", "fast.mp4", *options))
    assert row["motion_fidelity"] > 95


def test_a_source_of_another_size_is_brought_to_the_results(dvid: Dvid, clips: Path) -> None:
    make_clip(Path("large.mp4"), moving(4.0, side=128), options={"crf": "4"})
    options = ["--source", clips / "source.mp4", "--metrics", "likeness", "--json"]
    (row,) = rows(dvid("eval", "large.mp4", *options))
    assert {"psnr", "ssim", "gmsd"} <= row.keys()


def test_a_source_with_fewer_frames_cannot_be_compared(dvid: Dvid, clips: Path) -> None:
    options = ["--source", clips / "source.mp4", "--metrics", "motion"]
    said = dvid("eval", clips / "long.mp4", *options, code=3)
    assert "has 5 frames of 64×64 and cannot be compared with" in said.err
    assert said.out == ""


def test_a_run_is_a_source_with_its_own_estimator(
    dvid: Dvid, sampled: Path, sampled_home: tuple[Path, list[str]]
) -> None:
    _, files = sampled_home
    as_files = rows(
        dvid("eval", *files, "--source", "bikes", "--metrics", "motion,depth", "--json")
    )
    as_samples = by_role(dvid("eval", "--metrics", "motion,depth", "--json"))["sample"]
    by_name = {Path(row["clip"]).name: row for row in as_samples}
    for row in as_files[:-1]:
        own = by_name[Path(row["clip"]).name]
        assert row["motion_fidelity"] == pytest.approx(own["motion_fidelity"], abs=15)
        assert row["depth_agreement"] == pytest.approx(own["depth_agreement"], abs=15)


def test_depth_that_was_given_is_compared_by_the_models_own_estimator(
    dvid: Dvid, base: Path, bikes: Path
) -> None:
    options = ["--model", base, "--frames", "3", "--size", "64", "--steps", "0"]
    dvid("tune", bikes, "a man", "--depth", bikes, *options, "-q")
    (row,) = rows(dvid("eval", "--metrics", "depth", "--json"))
    assert -100 <= row["depth_agreement"] < 99.9


def test_an_inverted_estimator_is_inverted_here_too(
    dvid: Dvid, bikes: Path, estimator: Path
) -> None:
    options = ["--estimator", estimator, "--frames", "3", "--size", "64", "--invert-depth"]
    dvid("depth", bikes, *options, "-q")
    (row,) = rows(dvid("eval", "bikes", "--metrics", "depth", "--json"))
    assert row["depth_agreement"] == pytest.approx(100)


def test_a_clip_of_one_frame_lacks_what_compares_frames(
    dvid: Dvid, clips: Path, judge: Path
) -> None:
    options = ["--source", clips / "source.mp4", "--clip-model", judge, "-p", "a man", "--json"]
    said = dvid("eval", clips / "one.mp4", *options)
    (row,) = rows(said)
    assert row.keys() & (FIGURES | {"motion_fidelity"}) == {"textual_alignment"}
    assert "has no frame consistency: it has one frame" in said.err
    assert "has no motion fidelity" in said.err


def test_a_still_source_leaves_the_cell_empty(dvid: Dvid, clips: Path) -> None:
    options = ["--source", clips / "frozen.mp4", "--metrics", "motion"]
    said = dvid("eval", clips / "source.mp4", *options)
    assert said.lines[1].split("\t")[1] == ""


@pytest.mark.parametrize("what", ["--min-motion", "--min-psnr"])
def test_a_gate_that_is_met_says_nothing(what: str, dvid: Dvid, clips: Path) -> None:
    options = ["--source", clips / "source.mp4", "--metrics", "motion,likeness", what, "99"]
    dvid("eval", clips / "source.mp4", *options)


def test_a_gate_names_every_row_that_fails_after_all_output(dvid: Dvid, clips: Path) -> None:
    files = [clips / name for name in ("frozen.mp4", "source.mp4", "same.mp4")]
    options = ["--source", clips / "source.mp4", "--metrics", "motion,likeness"]
    gates = ["--min-motion", "50", "--min-psnr", "30"]
    said = dvid("eval", *files, *options, *gates, "-q", code=8)
    assert len(said.lines) == 5
    first = said.err.splitlines()[0]
    assert first.startswith("error: 3 of 6 checks failed")
    assert first.count("frozen.mp4") == 2
    assert first.count("same.mp4") == 1
    assert "`--min-motion 50`" in first


def test_a_figure_that_is_not_there_fails_its_gate(dvid: Dvid, clips: Path) -> None:
    options = ["--source", clips / "frozen.mp4", "--metrics", "motion", "--min-motion", "-100"]
    said = dvid("eval", clips / "source.mp4", *options, code=8)
    assert "has no motion fidelity for `--min-motion`" in said.err


@pytest.mark.parametrize(
    ("role", "figure", "fails"),
    [
        ("source", "motion_fidelity", False),
        ("reconstruction", "motion_fidelity", False),
        ("reconstruction", "psnr", True),
        ("sample", "motion_fidelity", True),
        ("file", "psnr", True),
    ],
)
def test_gates_look_at_results_and_for_likeness_at_the_reconstruction(
    role: Role, figure: str, fails: bool
) -> None:
    row = Row(name="a", frames=Extract(clip="0" * 64), prompt=None, role=role)
    gates = Gates(min_motion=50) if figure == "motion_fidelity" else Gates(min_psnr=50)
    if not fails:
        check(gates, [row], [{figure: 1.0}])
        return
    with pytest.raises(CheckError, match="1 of 1 checks failed: `a` has 1 of"):
        check(gates, [row], [{figure: 1.0}])
    check(gates, [row], [{figure: 50.0}])


def test_a_gate_without_a_clip_to_look_at_is_refused(dvid: Dvid, tuned: Path, judge: Path) -> None:
    said = dvid("eval", "--clip-model", judge, "--min-motion", "5", code=2)
    assert "`--min-motion` has no clip to look at" in said.err


def test_a_gate_on_psnr_looks_at_the_reconstruction(dvid: Dvid, tuned: Path) -> None:
    said = dvid("eval", "--metrics", "likeness", "--min-psnr", "99", code=8)
    assert "bikes (reconstruction)" in said.err


def listed(folder: Path, name: str, entries: list[dict[str, str]]) -> Path:
    path = folder / name
    if name.endswith(".jsonl"):
        path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
        return path
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, sorted({k for entry in entries for k in entry}))
        writer.writeheader()
        writer.writerows(entries)
    return path


@pytest.mark.parametrize("name", ["prompts.csv", "prompts.jsonl"])
def test_a_prompts_file_says_what_each_file_shows(
    name: str, dvid: Dvid, clips: Path, judge: Path, tmp_path: Path
) -> None:
    entries = [
        {"file": "same.mp4", "prompt": "a red, round ball", "source": str(clips / "source.mp4")},
        {"file": "frozen.mp4", "prompt": "a bear"},
    ]
    listing = listed(tmp_path, name, entries)
    options = ["--prompts-file", listing, "--clip-model", judge, "--json"]
    same, frozen, mean = rows(dvid("eval", clips, *options))
    assert (same["prompt"], frozen["prompt"]) == ("a red, round ball", "a bear")
    assert same["motion_fidelity"] > 90
    assert "motion_fidelity" not in frozen
    assert mean["motion_fidelity"] == same["motion_fidelity"]


def test_without_a_folder_files_lie_beside_their_list(dvid: Dvid, clips: Path, judge: Path) -> None:
    shutil.copy(clips / "same.mp4", "same.mp4")
    listing = listed(Path(), "p.csv", [{"file": "same.mp4", "prompt": "a man"}])
    (row,) = rows(dvid("eval", "--prompts-file", listing, "--clip-model", judge, "--json"))
    assert row["clip"] == "same.mp4"


def test_one_list_serves_the_results_of_several_methods(dvid: Dvid, clips: Path) -> None:
    for method, made in (("ours", "same.mp4"), ("theirs", "frozen.mp4")):
        Path(method).mkdir()
        shutil.copy(clips / made, Path(method) / "a.mp4")
    listing = listed(Path(), "p.csv", [{"file": "a.mp4", "prompt": "a man"}])
    options = ["--prompts-file", listing, "--source", clips / "source.mp4", "--metrics", "motion"]
    ours, theirs = rows(dvid("eval", "ours", "theirs", *options, "--json"))
    assert (ours["clip"], theirs["clip"]) == ("ours/a.mp4", "theirs/a.mp4")
    assert ours["motion_fidelity"] > theirs["motion_fidelity"]


def test_a_file_that_is_named_twice_counts_once_in_the_mean(dvid: Dvid, clips: Path) -> None:
    same, frozen = clips / "same.mp4", clips / "frozen.mp4"
    options = ["--source", clips / "source.mp4", "--metrics", "motion", "--json"]
    assert rows(dvid("eval", same, frozen, same, *options)) == rows(
        dvid("eval", same, frozen, *options)
    )


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("p.csv", "file,prompt\nnosuch.mp4,a man\n", "line 2 of `p.csv` names `nosuch.mp4`"),
        ("p.csv", "file,prompt\n,a man\n", "line 2 of `p.csv` has no file"),
        ("p.csv", "file,prompt\na.mp4,\n", "line 2 of `p.csv` has no prompt"),
        ("p.csv", "clip,words\na.mp4,x\n", "no `file` and `prompt`"),
        ("p.csv", "", "no rows"),
        ("p.csv", "file,prompt,source\na.mp4,x,gone.mp4\n", "the source `gone.mp4`"),
        ("p.jsonl", '{"file": "a.mp4", "prompt": "x"}\n{"file"\n', "line 2 of `p.jsonl`"),
        ("p.jsonl", "[1]\n", "no JSON object"),
        ("p.xlsx", "PK", "saved as `.csv`"),
        ("p.csv", "file,prompt\na.mp4," + "x" * 20_001 + "\n", "line 2 of `p.csv` is no row"),
    ],
)
def test_a_bad_prompts_file_is_refused(
    name: str, text: str, says: str, dvid: Dvid, clips: Path
) -> None:
    shutil.copy(clips / "same.mp4", "a.mp4")
    Path(name).write_text(text)
    assert says in dvid("eval", "--prompts-file", name, code=3).err


def test_a_prompt_and_a_prompts_file_contradict(dvid: Dvid) -> None:
    Path("p.csv").write_text("file,prompt\n")
    said = dvid("eval", "--prompts-file", "p.csv", "-p", "a man", code=2)
    assert "both say" in said.err


HEADER = (
    "Video name,Our GT caption,Style Change Caption,Object Change Caption,"
    "Background Change Caption,Multiple Changes Caption"
)


def benchmark(clips: Path) -> Path:
    """Captions, results and clips as LOVEU-TGVE 2023 lays them out, for two videos."""
    listing = Path("LOVEU-TGVE_2023_data.csv")
    listing.write_text(
        f"{HEADER}\nDAVIS Videos:,,,,,\n"
        "stunt,a man,a man in oil,a bear,a man at sea,a bear at sea\n"
        "gold-fish,fish,fish in ink,,,\n"
    )
    for video, edits in (("stunt", ("style", "object", "background", "multiple")),):
        for edit in edits:
            (Path("team") / "DAVIS_480p" / video).mkdir(parents=True, exist_ok=True)
            images(Path("team") / "DAVIS_480p" / video / edit, ["00000.png", "00001.png"])
    (Path("team") / "DAVIS_480p" / "gold-fish").mkdir()
    shutil.copy(clips / "same.mp4", "team/DAVIS_480p/gold-fish/style.mp4")
    (Path("data") / "DAVIS_480p" / "480p_frames").mkdir(parents=True)
    images(Path("data/DAVIS_480p/480p_frames/stunt"), ["00000.png", "00001.png"])
    shutil.copy(clips / "source.mp4", "data/DAVIS_480p/gold-fish.mp4")
    return listing


def test_the_benchmarks_layout_is_read(dvid: Dvid, clips: Path, judge: Path) -> None:
    listing = benchmark(clips)
    options = ["--prompts-file", listing, "--source", "data", "--clip-model", judge, "--json"]
    found = rows(dvid("eval", "team", *options, "--metrics", "alignment,motion"))
    assert [(row["clip"], row["prompt"]) for row in found[:-1]] == [
        ("team/DAVIS_480p/stunt/style", "a man in oil"),
        ("team/DAVIS_480p/stunt/object", "a bear"),
        ("team/DAVIS_480p/stunt/background", "a man at sea"),
        ("team/DAVIS_480p/stunt/multiple", "a bear at sea"),
        ("team/DAVIS_480p/gold-fish/style.mp4", "fish in ink"),
    ]
    assert found[4]["source"] == "data/DAVIS_480p/gold-fish.mp4"
    assert found[4]["motion_fidelity"] > 90
    assert found[-1]["clip"] == "mean of 5"


def test_results_by_edit_and_then_video_are_found_too(dvid: Dvid, clips: Path, judge: Path) -> None:
    Path("p.csv").write_text(f"{HEADER}\ngold-fish,fish,fish in ink,,,\n")
    Path("team/style").mkdir(parents=True)
    shutil.copy(clips / "same.mp4", "team/style/gold-fish.mp4")
    options = ["--prompts-file", "p.csv", "--clip-model", judge, "--json"]
    (row,) = rows(dvid("eval", "team", *options))
    assert row["clip"] == "team/style/gold-fish.mp4"


def test_each_folder_of_results_has_a_mean_of_its_own(dvid: Dvid, clips: Path) -> None:
    lines = [{"file": f"{n}.mp4", "prompt": "a man", "source": "clip.mp4"} for n in "ab"]
    Path("p.jsonl").write_text("\n".join(map(json.dumps, lines)))
    shutil.copy(clips / "source.mp4", "clip.mp4")
    for folder, made in (("ours", "same.mp4"), ("theirs", "frozen.mp4")):
        Path(folder).mkdir()
        for name in "ab":
            shutil.copy(clips / made, f"{folder}/{name}.mp4")
    options = ["--prompts-file", "p.jsonl", "--metrics", "motion", "--json"]
    *_, first, second = rows(dvid("eval", "ours", "theirs", *options))
    assert (first["clip"], first["of"], first["count"]) == ("mean of 2: ours", "ours", 2)
    assert (second["clip"], second["of"]) == ("mean of 2: theirs", "theirs")
    assert first["motion_fidelity"] > 90 > 10 > second["motion_fidelity"]


def test_a_missing_result_of_the_benchmark_is_named(dvid: Dvid, clips: Path) -> None:
    listing = benchmark(clips)
    shutil.rmtree("team/DAVIS_480p/stunt/object")
    said = dvid("eval", "team", "--prompts-file", listing, code=3)
    assert "has no `stunt/object`" in said.err


def test_a_missing_clip_of_the_benchmark_is_named(dvid: Dvid, clips: Path) -> None:
    listing = benchmark(clips)
    Path("data/DAVIS_480p/gold-fish.mp4").unlink()
    said = dvid("eval", "team", "--prompts-file", listing, "--source", "data", code=3)
    assert "`data` has no clip `gold-fish`" in said.err


def test_preference_is_absent_until_its_model_is_named(
    dvid: Dvid, clips: Path, judge: Path, tmp_path: Path
) -> None:
    options = ["-p", "a man", "--clip-model", judge, "--json"]
    (without,) = rows(dvid("eval", clips / "same.mp4", *options))
    assert "preference" not in without
    pick = write_clip(tmp_path / "pick", seed=5)
    (row,) = rows(dvid("eval", clips / "same.mp4", *options, "--pick-model", pick))
    assert "preference" in row
    said = dvid("eval", clips / "same.mp4", *options, "--metrics", "preference", code=4)
    assert "PickScore" in said.err


def test_a_dry_run_plans_every_metric_and_computes_none(
    dvid: Dvid, sampled: Path, judge: Path
) -> None:
    plan = rows(dvid("eval", "--clip-model", judge, "--json", "-n"))
    assert {"eval", "motion", "agreement", "likeness"} <= {step["stage"] for step in plan}
    assert all(step["hit"] for step in plan)


def test_a_dry_run_of_files_says_what_waits(dvid: Dvid, clips: Path) -> None:
    options = ["--source", clips / "source.mp4", "--metrics", "motion", "-n"]
    said = dvid("eval", clips / "same.mp4", *options)
    assert "is planned once it has been read" in said.err
    assert "done in" not in said.err


def test_nothing_printed_is_not_finite(dvid: Dvid, judge: Path, estimator: Path) -> None:
    make_clip(Path("black.mp4"), [np.zeros((64, 64, 3), np.uint8)] * 3)
    make_clip(Path("grey.mp4"), [numbered(9) // 255 * 0 + 90] * 3)
    options = ["--source", "black.mp4", "--clip-model", judge, "--estimator", estimator]
    said = dvid("eval", "black.mp4", "grey.mp4", *options, "-p", "a man", "--json")
    assert not {"NaN", "Infinity", "-Infinity"} & set(said.out.replace(",", " ").split())


def test_the_table_keeps_its_numbers_whole(dvid: Dvid, sampled: Path, judge: Path) -> None:
    import io

    from dvcli.cli import scores

    class Screen(io.StringIO):
        stdout = property(lambda self: self)

    screen = Screen()
    clip = Extract(clip="0" * 64)
    shown = [
        Row(name="a (source)", frames=clip, prompt="a man", role="source"),
        Row(name="a (reconstruction)", frames=clip, prompt="a man", role="reconstruction"),
        Row(name="x/a-very-long-name-of-a-result.mp4", frames=clip, prompt="a bear at sea"),
    ]
    names = ["frame_consistency", "textual_alignment", "motion_fidelity", "psnr"]
    figures = [
        {"frame_consistency": 95.5, "motion_fidelity": 100.0},
        {"psnr": 31.25},
        {"frame_consistency": 91.234, "textual_alignment": 28.5, "motion_fidelity": -12.5},
    ]
    scores.draw(screen, shown, names, figures)  # type: ignore[arg-type]
    text = screen.getvalue()
    assert all(n in text for n in ("95.50", "91.23", "-12.50", "100.00"))
    assert "a (reconstruction): PSNR 31.25, against the source" in text
    assert "the most an edit can have in motion, in consistency and alignment for comparison" in (
        " ".join(text.split())
    )
    assert "higher is better: consistency frames alike;" in text
    assert "mean" not in text


@pytest.mark.parametrize(("width", "tables"), [(40, 10), (80, 3), (88, 2), (200, 1)])
def test_a_table_wider_than_the_screen_goes_on_below_with_every_number_whole(
    monkeypatch: pytest.MonkeyPatch, width: int, tables: int
) -> None:
    import io

    from dvcli.cli import scores

    class Screen(io.StringIO):
        stdout = property(lambda self: self)

    monkeypatch.setenv("COLUMNS", str(width))
    screen, clip = Screen(), Extract(clip="0" * 64)
    names = ["x/a-red-bike-75ce0697.mp4", "x/a-very-long-name-of-a-man-on-a-bike-in-the-snow.mp4"]
    shown = [Row(name=name, frames=clip, prompt="a man on a bike") for name in names]
    columns = list(scores.HEADINGS)
    figures = [{c: at + place / 10 + 0.01 for place, c in enumerate(columns)} for at in (100, 200)]
    scores.draw(screen, shown, columns, figures)  # type: ignore[arg-type]
    lines = screen.getvalue().splitlines()
    cells = [line.split() for line in lines]
    tables_only = screen.getvalue().partition("higher is better")[0]
    for column, heading in scores.HEADINGS.items():
        assert tables_only.count(f" {heading}") == 1
        for found in figures:
            assert sum(scores.cell(found, column) in row for row in cells) == 1
    assert max(map(len, lines)) <= width
    assert sum(row[:1] == ["clip"] for row in cells) == tables
    headed = [line for line in lines if " clip " in line]
    assert width < 80 or all(
        ("depth" in line) == ("in rows" in line) and ("PSNR" in line) == ("GMSD" in line)
        for line in headed
    )


def test_samples_are_named_as_sample_printed_them(
    dvid: Dvid, sampled: Path, judge: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("eval", "--clip-model", judge, "--metrics", "consistency", "--json")
    monkeypatch.chdir(Path(Runs.open().samples("bikes")[0].path).parents[2])
    found = [row["clip"] for row in rows(dvid(*words)) if row["role"] == "sample"]
    assert found
    assert all(name.startswith("out/bikes/") and Path(name).exists() for name in found)
    monkeypatch.chdir("out/bikes/..")
    assert all(Path(row["clip"]).exists() for row in rows(dvid(*words)) if row["role"] == "sample")


def test_a_file_that_is_no_video_is_refused_before_a_judge_is_looked_for(dvid: Dvid) -> None:
    Path("notes.txt").write_text("no video\n" * 40)
    said = dvid("eval", "notes.txt", "--clip-model", "nobody/nothing", code=3)
    assert "notes.txt" in said.err.splitlines()[0]
