"""The examples for clusters, run as they are; and the examples of the documentation, read."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dvcli.cli.jobs import read_jobs
from dvcli.cli.prompts import read_prompts

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


@pytest.fixture
def path(home: Path) -> Path:
    """A folder, first on the path, in which `dvid` is."""
    folder = home / "bin"
    folder.mkdir()
    dvid = folder / "dvid"
    dvid.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m dvcli "$@"\n')
    dvid.chmod(0o755)
    return folder


def run(
    words: list[str], path: Path, *, limit: float = 110, **env: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        env={**os.environ, "PATH": f"{path}{os.pathsep}{os.environ['PATH']}", **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=limit,
    )


def test_the_sbatch_script_is_bash() -> None:
    script = DOCS / "cluster" / "array.sbatch"
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    text = script.read_text()
    assert "#SBATCH --signal=B:" in text  # else the signal never reaches what `exec` put there


def test_an_array_of_tasks_does_every_job_once(tuned: Path, path: Path) -> None:
    shutil.copy(tuned / "state" / "runs" / "bikes.json", tuned / "state" / "runs" / "other.json")
    jobs = [{"run": run, "prompts": ["a fox"]} for run in ("bikes", "other")]
    Path("jobs.jsonl").write_text("".join(json.dumps(job) + "\n" for job in jobs))
    script = str(DOCS / "cluster" / "array.sbatch")
    for task in ("1", "2"):
        done = run(
            ["bash", script, "jobs.jsonl", "-q"],
            path,
            SLURM_ARRAY_TASK_ID=task,
            SLURM_ARRAY_TASK_COUNT="2",
        )
        assert done.returncode == 0, done.stderr
    lines = [Path(f"results/{task}-of-2.jsonl").read_text().splitlines() for task in (1, 2)]
    assert [json.loads(part[0])["run"] for part in lines] == ["bikes", "other"]
    assert [len(part) for part in lines] == [1, 1]


class Shown(str):
    """A value that is shown as Snakemake shows it: `:q` quotes it for the shell."""

    prompts: "Shown"

    def __format__(self, how: str) -> str:
        return shlex.quote(self) if how == "q" else str(self)


@pytest.fixture
def clip(bikes: Path) -> None:
    shutil.copy(bikes, "my clip.mp4")
    Path("clips.tsv").write_text("bear\tmy clip.mp4\ta man's bear\n")
    Path("prompts.txt").write_text("a fox --style animation\na cat\n")


OPTIONS = {
    "tune": "--steps 1 --frames 2 --size 64 -q",
    "invert": "--steps 2 -q",
    "sample": "-q",
}


@pytest.mark.usefixtures("clip")
def test_the_commands_of_the_snakefile_work(path: Path, base: Path) -> None:
    text = (DOCS / "cluster" / "Snakefile").read_text()
    rules = dict(re.findall(r"^rule (\w+):\n(.*?)(?=^rule |\Z)", text, re.M | re.S))
    commands = {
        name: "".join(re.findall(r'"(.*?)"\n', body.partition("shell:\n")[2]))
        for name, body in rules.items()
        if "shell:" in body
    }
    assert set(commands) == {"tune", "invert", "sample", "gather"}
    places = {"clip": Shown("bear"), "part": Shown("1")}
    wildcards = type("W", (), places)
    source = Shown("my clip.mp4")
    source.prompts = Shown("prompts.txt")
    for name, output in (
        ("tune", "tuned"),
        ("invert", "inverted"),
        ("sample", "bear.1.jsonl"),
    ):
        line = commands[name].format(
            input=source,
            output=Shown(output),
            wildcards=wildcards,
            params=type("P", (), {"caption": Shown("a man's bear")}),
            PARTS=2,
            TUNE=f"{OPTIONS['tune']} --model {base}",
            INVERT=OPTIONS["invert"],
            SAMPLE=OPTIONS["sample"],
        )
        done = run(["bash", "-euc", line], path)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    (made,) = map(json.loads, Path("bear.1.jsonl").read_text().splitlines())
    assert made["style"] == "animation"


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.skipif(shutil.which("snakemake") is None, reason="Snakemake is not installed")
@pytest.mark.usefixtures("clip")
def test_snakemake_runs_the_snakefile(path: Path, base: Path) -> None:
    words = ["snakemake", "--snakefile", str(DOCS / "cluster" / "Snakefile"), "--cores", "2"]
    words += ["--resources", "gpu=1", "--config", "clips=clips.tsv", "prompts=prompts.txt"]
    words += ["parts=2", f"tune={OPTIONS['tune']} --model {base}"]
    words += [f"{name}={OPTIONS[name]}" for name in ("invert", "sample")]
    done = run(words, path, limit=280)
    assert done.returncode == 0, done.stderr
    made = [json.loads(line) for line in Path("results/bear.jsonl").read_text().splitlines()]
    assert [one["style"] for one in made] == ["animation", None]
    assert "Nothing to be done" in run(words, path).stderr


def blocks(page: str, kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", (DOCS / page).read_text(), re.S)


def test_the_files_of_the_documentation_are_read(tuned: Path, bikes: Path) -> None:
    (prompts,) = blocks("batch.md", "text")
    Path("edits.txt").write_text(prompts)
    asked = read_prompts("edits.txt")
    assert [one.words for one in asked] == [
        "a red fox in the snow",
        "a red fox",
        "it's a robot on the moon",
        "a tiger",
    ]
    one, jobs, _ = blocks("batch.md", "json")
    Path("one.jsonl").write_text(one)
    assert read_prompts("one.jsonl")[0].switches.style == ("impressionism", "animation")
    Path("jobs.jsonl").write_text(jobs)
    found, bad = read_jobs("jobs.jsonl", model=None)
    assert ([len(job.wishes) for job in found], bad) == ([2, 5, 2], [])
