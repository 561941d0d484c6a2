"""`dvid batch`: jobs read and refused, clips × prompts in one process, failures, shards."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from program import Dvid, Said, process

from dvcli.recipes import Recipe
from dvcli.runtime import Shelf
from dvcli.stages.sample import SHELF

TUNE = {"steps": 1, "frames": 2, "size": 64}
INVERT = {"steps": 2}


def job(clip: str, *prompts: object, **more: object) -> dict[str, object]:
    found = {"clip": clip, "caption": "a man", "tune": TUNE, "invert": INVERT}
    return {**found, "prompts": list(prompts), **more}


def write(*jobs: object, name: str = "jobs.jsonl") -> str:
    lines = [line if isinstance(line, str) else json.dumps(line) for line in jobs]
    Path(name).write_text("\n".join(lines) + "\n")
    return name


def told(said: Said) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said.lines]


@pytest.fixture
def clips(bikes: Path) -> Path:
    """A folder with a clip and another of the same name in a folder of it."""
    folder = Path("clips")
    (folder / "b").mkdir(parents=True)
    shutil.copy(bikes, folder / "bikes.mp4")
    shutil.copy(bikes.with_name("carphone_pristine.mp4"), folder / "b" / "bikes.mp4")
    return folder


def test_clips_times_prompts_are_the_same_as_by_hand(
    clips: Path, base: Path, dvid: Dvid, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = write(
        "",
        job(
            "bikes.mp4", "a fox", {"prompt": "a bear", "style": "animation", "guidance": 2}, id="x"
        ),
        job("b/bikes.mp4", "a fox", sample={"strength": 0.5}),
        job("b/bikes.mp4", "a cat"),
        name="clips/jobs.jsonl",
    )
    made = told(dvid("batch", jobs, "--model", base, "-q"))
    assert [(one["job"], one["status"], one["run"]) for one in made] == [
        (2, "ok", "bikes"),
        (2, "ok", "bikes"),
        (3, "ok", "bikes-2"),
        (4, "ok", "bikes-2"),
    ]
    assert [one["id"] for one in made] == ["x", "x", None, None]
    assert {one["schema"] for one in made} == {1}
    assert all(Path(one["path"]).stat().st_size for one in made)

    monkeypatch.setenv("DVID_CACHE_DIR", str(home / "other-cache"))
    monkeypatch.setenv("DVID_STATE_DIR", str(home / "other-state"))
    small = ["--model", base, "--steps", "1", "--frames", "2", "--size", "64", "-q"]
    dvid("tune", "clips/bikes.mp4", "a man", *small)
    dvid("invert", "--steps", "2", "-q")
    options = ["-o", "by-hand", "--json", "-q"]
    (first,) = told(dvid("sample", "-p", "a fox", *options))
    (second,) = told(dvid("sample", "-p", "a bear", "-s", "animation", "--guidance", "2", *options))
    dvid("tune", "clips/b/bikes.mp4", "a man", *small)
    dvid("invert", "--steps", "2", "-q")
    (third,) = told(dvid("sample", "-p", "a fox", "--strength", "0.5", *options))
    (fourth,) = told(dvid("sample", "-p", "a cat", *options))
    for mine, theirs in zip(made, (first, second, third, fourth), strict=True):
        assert Path(mine["path"]).read_bytes() == Path(theirs["path"]).read_bytes()
        assert mine["key"] == theirs["key"]


def test_a_second_time_nothing_is_made_and_no_torch_is_loaded(
    clips: Path, base: Path, dvid: Dvid
) -> None:
    jobs = write(job("clips/bikes.mp4", "a fox"))
    first = told(dvid("batch", jobs, "--model", base, "-q"))
    script = (
        "import sys; from dvcli.cli.main import main; code = main(sys.argv[1:]);"
        "print(code, 'torch' in sys.modules or 'av' in sys.modules, file=sys.stderr)"
    )
    again = subprocess.run(
        [sys.executable, "-c", script, "batch", jobs, "--model", str(base), "-q"],
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    (one,) = map(json.loads, again.stdout.splitlines())
    assert again.stderr.splitlines()[-1] == "0 False"
    assert {**one, "seconds": 0} == {**first[0], "seconds": 0}


def test_the_results_of_a_run_go_on_from_it(tuned: Path, dvid: Dvid) -> None:
    Path("p.txt").write_text("a cat --style animation\n")
    jobs = write({"run": "bikes", "prompts": "a fox", "prompts_file": "p.txt"})
    made = told(dvid("batch", jobs, "-q"))
    assert [(one["prompt"], one["style"]) for one in made] == [
        ("a fox", None),
        ("a cat, animation style", "animation"),
    ]
    assert dvid("sample", "-p", "a fox", "-q").lines == [made[0]["path"]]


def test_the_network_of_one_clip_serves_its_inversion_and_all_its_prompts(
    clips: Path, base: Path, dvid: Dvid, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvcli.models import load

    loads: list[str] = []
    for name in ("unet", "vae", "text_encoder", "depth_estimator"):
        real = getattr(load, name, None)
        if real is None:
            continue

        def counted(*args: object, name: str = name, real: Any = real) -> object:
            loads.append(name)
            return real(*args)

        monkeypatch.setattr(load, name, counted)
    jobs = write(
        job("clips/bikes.mp4", "a fox", "a bear"), job("clips/b/bikes.mp4", "a fox", "a cat")
    )
    dvid("batch", jobs, "--model", base, "-q")
    # Of each clip once to tune and once for all that follows.
    assert loads.count("unet") == 4
    assert loads.count("vae") == 4
    assert loads.count("text_encoder") == 4


def test_the_shelf_keeps_one_of_a_kind() -> None:
    shelf, made = Shelf(), list[object]()

    def make() -> object:
        made.append(object())
        return made[-1]

    first = shelf.get("invert", ("unet", 1), make)
    assert shelf.get(SHELF, ("unet", 1), make) is first
    assert shelf.get(SHELF, ("text", 1), make) is not first
    second = shelf.get(SHELF, ("unet", 2), make)
    assert shelf.get("invert", ("unet", 2), make) is second
    assert shelf.get(SHELF, ("unet", 1), make) is not first
    kept = shelf.get(SHELF, ("unet", 1), make)
    shelf.get("tune", ("vae", 1), make)
    assert shelf.get(SHELF, ("unet", 1), make) is not kept
    shelf.clear()
    assert len(made) == 6


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("{", 3, "no JSON"),
        ("[]", 3, "no JSON object"),
        ({"clip": "bikes.mp4"}, 3, "what does the clip show"),
        ({"prompts": ["a fox"]}, 3, "neither a clip nor a run"),
        ({"run": "nobody", "prompts": ["a fox"]}, 4, "no run named `nobody`"),
        ({"run": "bikes", "caption": "a man"}, 3, "tuned already"),
        (job("gone.mp4", "a fox"), 3, "gone.mp4"),
        (job("text.mp4", "a fox"), 3, "text.mp4"),
        (job("bikes.mp4", "a fox", tune={"stepz": 3}), 3, "did you mean `steps`"),
        (job("bikes.mp4", "a fox", tune={"steps": "many"}), 3, "steps"),
        (job("bikes.mp4", "a fox", tune={"steps": -1}), 3, "`--steps` is `-1`"),
        (job("bikes.mp4", "a fox", tune={"steps": [1]}), 3, "no value of an option"),
        (job("bikes.mp4", "a fox", tune={"run": "x"}), 3, "no option `run`"),
        (job("bikes.mp4", "a fox", invert={"steps": 0}), 3, "`--steps` is `0`"),
        (job("bikes.mp4", "a fox", sample={"guidence": 3}), 3, "did you mean `guidance`"),
        (job("bikes.mp4", "a fox", sample={"guidance": 300}), 3, "`--guidance` is `300`"),
        (job("bikes.mp4", {"prompt": "a fox", "style": "impresionism"}), 3, "`impressionism`"),
        (job("bikes.mp4", ""), 3, "prompt is empty"),
        (job("bikes.mp4", 3), 3, "`prompts` has 3"),
        (job("bikes.mp4", "a fox", style="animation"), 3, 'did you mean `style` in "sample"'),
        (job("bikes.mp4", "a fox", promts=["a"]), 3, "did you mean `prompts`"),
        (job("bikes.mp4", "a fox", prompts_file="gone.txt"), 3, "gone.txt"),
        (job("bikes.mp4", "a fox", tune={"size": 63}), 3, "63"),
        (job("bikes.mp4", "a fox", run="last"), 3, "cannot be the name of a run"),
    ],
)
def test_a_bad_job_is_refused_before_work_with_its_line(
    line: object, code: int, says: str, tuned: Path, bikes: Path, base: Path, dvid: Dvid
) -> None:
    shutil.copy(bikes, "bikes.mp4")
    Path("text.mp4").write_text("this is no clip")
    before = sorted((tuned / "cache").rglob("*.json"))
    said = dvid("batch", write(job("bikes.mp4", "a bear"), line), "--model", base, code=code)
    error, hint = said.err.splitlines()[-2:] if "hint:" in said.err else (said.err, "")
    assert "line 2 of `jobs.jsonl`" in error
    assert says in error + hint
    assert said.out == ""
    assert sorted((tuned / "cache").rglob("*.json")) == before


def test_every_bad_line_is_counted_in_one_error(tuned: Path, dvid: Dvid) -> None:
    said = dvid("batch", write({"run": "bikes", "prompts": "a"}, "{", "[", "nothing"), code=3)
    assert re.search(
        r"error: line 2 .*\(2 more lines are wrong as well, line 3 the next\)", said.err
    )


def test_lines_that_cannot_be_read_and_clips_that_are_not_there_are_counted_together(
    tuned: Path, dvid: Dvid
) -> None:
    said = dvid("batch", write(job("gone.mp4", "a fox"), "[1, 2]", job("bikes.mp4")), code=3)
    assert re.search(
        r"line 1 .*gone.mp4.*\(2 more lines are wrong as well, line 2 the next\)", said.err
    )


def test_a_line_that_is_no_object_is_shown_a_job(dvid: Dvid) -> None:
    assert 'such as {"clip": "bear.mp4", "caption"' in dvid("batch", write("[1, 2]"), code=3).err


def test_jobs_and_results_are_counted_while_they_are_at_work(
    clips: Path, base: Path, dvid: Dvid
) -> None:
    jobs = write(job("clips/bikes.mp4", "a fox", "a cat"), job("clips/b/bikes.mp4", "a fox"))
    said = dvid("batch", jobs, "--model", base).err.splitlines()
    counted = [
        (line.split()[0], line.partition(", ")[2]) for line in said if re.match(r"\w+ 0/", line)
    ]
    stages = ("depth", "tune", "invert", "sample")
    found = [one for one in counted if one[0] in stages]
    way = [[(stage, f"job {n} of 2") for stage in ("tune", "invert")] for n in (1, 2)]
    results = [("sample", f"result {n} of 3") for n in (1, 2, 3)]
    assert [one for one in found if one[0] != "depth"] == [
        *way[0],
        *results[:2],
        *way[1],
        *results[2:],
    ]
    assert {told for stage, told in found if stage == "depth"} <= {"job 1 of 2", "job 2 of 2"}
    assert [line for line in said if "clip 1 of" in line or "stage " in line] == []


def test_jobs_that_tune_one_clip_in_two_ways_are_told_that_they_share_its_run(
    clips: Path, base: Path, dvid: Dvid
) -> None:
    other = {**TUNE, "steps": 2}
    ways = [job("clips/bikes.mp4", "a fox"), job("clips/bikes.mp4", "a cat", tune=other)]
    said = dvid("batch", write(*ways), "--model", base, "-n")
    assert "the jobs of lines 1 and 2 tune the clip of the run `bikes` in 2 ways" in said.err
    apart = dvid("batch", write(ways[0], {**ways[1], "run": "b"}), "--model", base, "-n")
    assert "2 ways" not in apart.err


def test_nothing_in_the_file_is_an_error(dvid: Dvid) -> None:
    assert "has no job in it" in dvid("batch", write(""), code=3).err
    assert "no file `gone.jsonl`" in dvid("batch", "gone.jsonl", code=3).err


def test_two_clips_cannot_be_one_run(clips: Path, base: Path, dvid: Dvid) -> None:
    both = [job(f"clips/{name}", "a fox", run="mine") for name in ("bikes.mp4", "b/bikes.mp4")]
    said = dvid("batch", write(*both), "--model", base, code=3)
    assert "two clips of this batch are to be the run `mine`" in said.err


@pytest.fixture
def breaking(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Prompts in this list make their sample fail."""
    from dvcli.stages import sample

    bad: list[str] = []
    real = sample.build

    def build(recipe: Any, work: Any) -> None:
        if recipe.prompt in bad:
            raise RuntimeError("can't allocate memory for it")
        real(recipe, work)

    monkeypatch.setattr(sample, "build", build)
    return bad


def test_a_failure_is_a_line_and_the_others_go_on(
    tuned: Path, dvid: Dvid, breaking: list[str]
) -> None:
    breaking.append("a bear")
    jobs = write({"run": "bikes", "prompts": ["a fox", "a bear", "a cat"]})
    said = dvid("batch", jobs, code=7)
    made = told(said)
    assert [one["status"] for one in made] == ["ok", "failed", "ok"]
    assert made[1]["path"] is None
    assert made[1]["code"] == 5
    assert "out of memory" in made[1]["error"]
    assert "error: 1 of 3 results failed" in said.err
    breaking.clear()
    assert [one["status"] for one in told(dvid("batch", jobs, "-q"))] == ["ok"] * 3


def test_a_bug_is_a_failure_too_and_its_traceback_is_kept(
    tuned: Path, dvid: Dvid, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvcli.stages import sample

    def build(recipe: Recipe, work: object) -> None:
        raise KeyError("oops")

    monkeypatch.setattr(sample, "build", build)
    (one,) = told(dvid("batch", write({"run": "bikes", "prompts": "a fox"}), "-q", code=7))
    assert (one["code"], one["error"]) == (1, "a bug: KeyError: 'oops'")
    (log,) = (tuned / "state" / "logs").iterdir()
    assert "oops" in log.read_text()


def test_a_clip_that_cannot_be_tuned_fails_all_its_results_and_no_other(
    clips: Path, base: Path, dvid: Dvid, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvcli.stages import tune

    real = tune.build

    def build(recipe: Any, work: Any) -> None:
        if recipe.prompt == "a ball":
            raise MemoryError
        real(recipe, work)

    monkeypatch.setattr(tune, "build", build)
    jobs = write(
        job("clips/bikes.mp4", "a fox", "a cat", caption="a ball"),
        job("clips/b/bikes.mp4", "a fox"),
    )
    made = told(dvid("batch", jobs, "--model", base, "-q", code=7))
    assert [(one["job"], one["status"]) for one in made] == [
        (1, "failed"),
        (1, "failed"),
        (2, "ok"),
    ]


def test_fail_fast_stops_at_the_first_failure(tuned: Path, dvid: Dvid, breaking: list[str]) -> None:
    breaking.append("a bear")
    jobs = write({"run": "bikes", "prompts": ["a fox", "a bear", "a cat"]})
    said = dvid("batch", jobs, "--fail-fast", code=7)
    assert [one["status"] for one in told(said)] == ["ok", "failed"]
    assert "and 1 were not begun" in said.err


def test_a_file_in_the_way_fails_only_its_result(tuned: Path, dvid: Dvid) -> None:
    jobs = write({"run": "bikes", "prompts": ["a fox", "a cat"]})
    paths = [one["path"] for one in told(dvid("batch", jobs, "-q"))]
    Path(paths[0]).write_text("mine")
    made = told(dvid("batch", jobs, "-q", code=7))
    assert [one["status"] for one in made] == ["failed", "ok"]
    assert Path(paths[0]).read_text() == "mine"


def test_a_dry_run_shows_each_stage_of_each_clip_once(
    tuned: Path, clips: Path, base: Path, dvid: Dvid
) -> None:
    jobs = write({"run": "bikes", "prompts": ["a fox", "a cat"]}, job("clips/b/bikes.mp4", "a fox"))
    said = dvid("batch", jobs, "--model", base, "-n")
    rows = [line.split("\t") for line in said.lines]
    stages = ["extract", "depth", "tune", "invert", "sample", "sample"]
    assert [row[0] for row in rows] == [*stages, *stages[:-1]]
    assert [row[1] for row in rows] == ["hit"] * 4 + ["miss"] * 7
    assert [row[4] for row in rows] == ["bikes"] * 6 + ["bikes-2"] * 5
    assert [row[5] for row in rows if row[0] == "sample"] == ["a fox", "a cat", "a fox"]
    assert not Path("out").exists()


def test_shards_share_the_clips_and_each_clip_is_whole_in_one(
    tuned: Path, clips: Path, base: Path, dvid: Dvid
) -> None:
    jobs = write(
        {"run": "bikes", "prompts": ["a fox", "a cat"]},
        job("clips/bikes.mp4"),
        job("clips/b/bikes.mp4", run="b"),
        {"run": "bikes", "prompts": ["a bear"]},
    )
    parts = [
        told(dvid("batch", jobs, "--model", base, "--shard", f"{i}/2", "-n", "--json"))
        for i in (1, 2)
    ]
    runs = [{row["run"] for row in part} for part in parts]
    assert runs == [{"bikes", "b"}, {"bikes-2"}]
    assert sum(row["stage"] == "sample" for row in parts[0]) == 3
    said = dvid("batch", jobs, "--model", base, "--shard", "4/4")
    assert (said.out, "no job in it" in said.err) == ("", True)


def test_configured_options_of_the_verbs_hold_for_jobs(
    clips: Path, base: Path, dvid: Dvid, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("dvid.toml").write_text(
        f'[tune]\nsteps = 1\nframes = 2\nsize = "64"\nmodel = "{base}"\n[sample]\nguidance = 2\n'
    )
    monkeypatch.setenv("DVID_INVERT_STEPS", "3")
    jobs = write({"clip": "clips/bikes.mp4", "caption": "a man", "prompts": ["a fox"]})
    (one,) = told(dvid("batch", jobs, "-q"))
    shown = dvid("show", one["path"]).out
    assert "--frames 2" in shown
    assert re.search(r"dvid invert .*--steps 3", shown)
    assert "--guidance 2.0" in shown


def test_refresh_makes_the_results_anew_once_and_nothing_before_them(
    tuned: Path, dvid: Dvid, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvcli.stages import sample

    built: list[str] = []
    real = sample.build

    def build(recipe: Any, work: Any) -> None:
        built.append(recipe.prompt)
        real(recipe, work)

    monkeypatch.setattr(sample, "build", build)
    jobs = write({"run": "bikes", "prompts": ["a fox"]})
    dvid("batch", jobs)
    said = dvid("batch", jobs, "--refresh")
    assert built == ["a fox"] * 2
    assert "invert: done" not in said.err


def test_no_cache_is_refused(dvid: Dvid) -> None:
    jobs = write(job("bikes.mp4", "a fox"))
    assert "would throw the batch away" in dvid("batch", jobs, "--no-cache", code=2).err


@pytest.mark.parametrize(
    "options", [["--workers", "2"], ["--engine", "ray", "--worker-cache", "x"]]
)
def test_options_of_workers_are_refused_where_there_are_none(
    options: list[str], dvid: Dvid
) -> None:
    assert dvid("batch", "jobs.jsonl", *options, code=2).out == ""


def test_a_stop_keeps_what_is_done_and_the_same_command_goes_on(
    clips: Path, base: Path, dvid: Dvid
) -> None:
    jobs = write(
        job("clips/bikes.mp4", "a fox"),
        job("clips/b/bikes.mp4", "a fox", tune={**TUNE, "steps": 100_000}),
    )
    running = subprocess.Popen(
        [sys.executable, "-m", "dvcli", "batch", jobs, "--model", str(base)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ},
    )
    assert running.stdout is not None
    assert running.stderr is not None
    first = json.loads(running.stdout.readline())
    for line in running.stderr:
        if line.startswith("tune 0/100000"):
            break
    time.sleep(1)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == -signal.SIGINT
    assert "is kept" in err
    assert first["status"] == "ok"
    write(job("clips/bikes.mp4", "a fox"))
    (again,) = told(dvid("batch", jobs, "--model", base))
    assert again["path"] == first["path"]
    assert again["seconds"] < first["seconds"] + 1


def test_jobs_come_from_standard_input(tuned: Path) -> None:
    said = process("batch", "-", "-n", stdin=json.dumps({"run": "bikes", "prompts": ["a fox"]}))
    assert said.lines[-1].startswith("sample\tmiss\t")
    assert said.lines[-1].endswith("\tbikes\ta fox")


def test_the_reader_may_leave(tuned: Path) -> None:
    write({"run": "bikes", "prompts": ["a fox", "a cat"]})
    script = f"{sys.executable} -m dvcli batch jobs.jsonl -q | head -1"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=100)
    assert (done.stdout.count("\n"), done.stderr) == (1, "")
