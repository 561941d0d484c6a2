"""What the system does to a command: full and closed streams, long names, missing devices."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from program import Dvid


def shell(script: str) -> subprocess.CompletedProcess[str]:
    whole = f'dvid() {{ {sys.executable} -m dvcli "$@"; }}; {script}'
    return subprocess.run(
        ["bash", "-c", whole], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("command", ["runs", "styles", "--help", "tune --help"])
def test_a_full_standard_output_is_no_bug(tuned: Path, command: str) -> None:
    done = shell(f"dvid {command} > /dev/full")
    assert done.returncode == 6
    assert "a bug" not in done.stderr
    if "--help" not in command:
        assert "cannot write to standard output: No space left" in done.stderr
        assert "hint: " in done.stderr


def test_a_closed_standard_output_is_no_bug(tuned: Path) -> None:
    assert "a bug" not in shell("dvid runs >&-").stderr


@pytest.mark.parametrize(
    ("command", "code"),
    [(["show"], 4), (["eval"], 4), (["depth"], 3), (["tune", "CLIP", "x", "--model"], 3)],
)
def test_a_name_too_long_for_a_file_is_no_bug(
    dvid: Dvid, bikes: Path, tuned: Path, command: list[str], code: int
) -> None:
    words = [str(bikes) if word == "CLIP" else word for word in command]
    said = dvid(*words, "x" * 5000, code=code)
    assert said.err.startswith("error: ")


@pytest.mark.parametrize("words", [["runs"], ["tune"], ["cache", "gc"], []])
def test_h_is_help_everywhere(dvid: Dvid, words: list[str]) -> None:
    assert dvid(*words, "-h").out.startswith("Usage: " + " ".join(["dvid", *words]))


@pytest.mark.parametrize(
    ("shell_name", "mark"),
    [("zsh", "#compdef dvid"), ("fish", "complete --command dvid"), ("bash", "COMP_WORDS")],
)
def test_the_completion_script_is_that_of_the_shell_that_was_named(
    shell_name: str, mark: str
) -> None:
    command = [sys.executable, "-m", "dvcli", "--show-completion", shell_name]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert mark in done.stdout


@pytest.mark.skipif(os.name == "nt", reason="no CUDA-less machine is assumed there")
def test_a_device_that_is_not_there_is_exit_5(dvid: Dvid, tuned: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one here")
    assert "`cuda`" in dvid("sample", "-p", "x", "--device", "cuda", "--dtype", "fp32", code=5).err


def test_every_usage_error_ends_in_a_hint(dvid: Dvid, tuned: Path) -> None:
    for line in (["--guidance", "101"], ["--depth-gamma", "0"], ["--fps", "0"], ["--crf", "99"]):
        said = dvid("sample", "-p", "a", *line, code=2)
        assert "hint: " in said.err
        assert "done in" not in said.err


def test_from_a_deleted_directory_a_relative_output_is_refused_before_any_work(
    dvid: Dvid, tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert "the working directory is gone" in dvid("sample", "-p", "x", code=6).err
    dvid("sample", "-p", "x", "-o", str(tmp_path / "x.mp4"))


@pytest.mark.parametrize("word", ["-q", "-vv"])
def test_what_a_command_logs_is_its_own_affair(dvid: Dvid, word: str) -> None:
    loggers = [logging.getLogger("dvcli"), logging.getLogger()]
    before = [logger.level for logger in loggers]
    dvid("styles", word)
    assert [logger.level for logger in loggers] == before
