"""What scripts and people may rely on, each promise with the test that holds it.

| promise | held by |
|---|---|
| stdout is results only; chatter goes to stderr | test_cli_contract: a shell loop, libraries |
| a result is printed after it is whole in its place | test_store_publish, faults/test_io_errors |
| `--json` is an object a line with `"schema": 1` | here; test_cli_contract: sample |
| `-0` for xargs | test_cli_contract: a null ends each result, xargs in parallel |
| prompts are no file names; the same again is the same path | test_cli_parts, test_cli_chain |
| a different file is never overwritten without `--overwrite` | test_cli_errors, test_cli_output |
| bars on a terminal, lines elsewhere; which stage of how many | test_cli_contract; here |
| `NO_COLOR`, `TERM=dumb`, `-q`, `-v` | here; test_cli_contract: a dumb terminal, quiet |
| a cached stage says so and what it saved | here |
| exit 0 and 1, the traceback in a file | test_cli_errors: a bug |
| exit 2, 3, 4, 5, 6 before heavy work | test_cli_errors, test_cli_system |
| exit 7 | test_batch_jobs: a failure is a line |
| exit 8 | test_cli_contract: verify; test_cli_evaluate: gates; test_doctor |
| 130 and 143 end a loop; a checkpoint, the second ^C | here; test_cli_contract: interrupt |
| `\\| head` ends quietly | test_cli_contract |
| an error is two lines, the second a hint | test_cli_errors, test_cli_system |
| the dry run says the plan and the cost, and does nothing | test_cli_contract; here: the cost |
| `--refresh` builds again, `--no-cache` keeps nothing | test_cli_chain |
| flag, variable, dvid.toml, user's file, default | test_config_show, test_cli_contract |
| an unknown key is an error with a suggestion | test_config_show, test_cli_runs |
| help and completion start quickly | test_cli_contract, test_speed_startup, test_completion |
| help fits a screen, says what is printed, gives an example | here |
| names with spaces, newlines and emoji | test_cli_contract: clips of any name |
| a locale that is not UTF-8 | here |
| a deleted working directory | test_cli_system, test_cli_runs; here: what only looks |
| HOME missing or read-only | here |
"""

import io
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from program import Dvid, process

from dvcli.cli import session
from dvcli.cli.app import app
from dvcli.cli.progress import Bars, Lines, Reporter, reporter
from dvcli.runtime import Stop

COLOUR = re.compile(r"\x1b\[(\d+;)*(3\d|4\d|9\d)(;\d+)*m")
CONTROL = re.compile(r"\x1b\[[\d;?]*[A-Za-z]")


def every_command() -> Iterator[list[str]]:
    """The words of each command and group."""

    def walk(command: Any, words: list[str]) -> Iterator[list[str]]:
        yield words
        for name, inner in getattr(command, "commands", {}).items():
            yield from walk(inner, [*words, name])

    yield from walk(typer.main.get_command(app), [])


COMMANDS = list(every_command())


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words) or "dvid")
def test_help_fits_a_screen_says_what_it_prints_and_gives_an_example(
    dvid: Dvid, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    page = dvid(*words, "--help").out
    assert len(page.splitlines()) <= 60
    assert max(map(len, page.splitlines())) <= 80
    assert re.search(rf"\bdvid {' '.join(words)}", page.split("\n", 1)[1]) or not words
    assert "Commands:" in page or re.search(r"\b[Pp]rints?\b", page)


def test_the_help_of_all_tells_of_the_options_that_the_others_only_name(dvid: Dvid) -> None:
    named = re.findall(r"--[\w-]+", dvid("sample", "--help").out.rpartition("As `dvid --help`")[2])
    told = re.findall(r"^  (?:-\w, )?(--[\w-]+)", dvid("--help").out, re.MULTILINE)
    assert set(named) - {"--help"} <= set(told)
    assert "--dry-run" in named


def on_a_terminal(*words: str, code: int = 0, **env: str) -> str:
    """What the command writes to stderr where that is a terminal."""
    outer, inner = pty.openpty()
    usual = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    running = subprocess.Popen(
        [sys.executable, "-m", "dvcli", *words],
        stdout=subprocess.DEVNULL,
        stderr=inner,
        env={**usual, "TERM": "xterm-256color", "COLUMNS": "80", **env},
    )
    os.close(inner)
    seen = b""
    try:
        while chunk := os.read(outer, 4096):
            seen += chunk
    except OSError:
        pass
    assert running.wait(timeout=60) == code
    return seen.decode()


def test_no_color_leaves_the_bars_and_takes_their_colours(tuned: Path) -> None:
    assert COLOUR.search(on_a_terminal("sample", "-p", "in colour"))
    plain = on_a_terminal("sample", "-p", "without", NO_COLOR="1")
    assert "sample" in plain
    assert not COLOUR.search(plain)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_bar_is_one_line_of_the_width_and_keeps_its_numbers(width: int) -> None:
    from rich.console import Console

    bars, drawn = Bars(io.StringIO()), io.StringIO()
    bars._console = Console(file=drawn, force_terminal=True, width=width, highlight=False)
    bars.expect(3)
    bars.made("depth", "k", 4.0, cached=False)
    with bars.task("tune", 500) as task:
        for _ in range(500):
            task.advance(loss=0.12345)
    lines = CONTROL.sub("", drawn.getvalue()).replace("\r", "\n").splitlines()
    drawn_bars = [line for line in lines if line.startswith("tune 2/3")]
    assert all(len(line) <= width for line in lines)
    assert "500/500" in drawn_bars[-1]
    assert not any("…" in line for line in drawn_bars)
    assert ("loss 0.1235" in drawn_bars[-1]) == (width >= 80)


def said(stages: int) -> tuple[Reporter, io.StringIO]:
    stream = io.StringIO()
    lines = reporter(quiet=False, stream=stream)
    assert isinstance(lines, Lines)
    lines.expect(stages)
    return lines, stream


def test_in_a_pipe_each_task_says_which_stage_it_is() -> None:
    lines, stream = said(2)
    with lines.task("depth", 8):
        pass
    lines.made("depth", "k", 1.0, cached=False)
    with lines.task("tune", 60):
        pass
    assert stream.getvalue() == "depth 0/8, stage 1/2\ndepth: done in 1.0 s\ntune 0/60, stage 2/2\n"


def test_what_is_cached_or_only_written_out_is_no_stage_that_runs() -> None:
    lines, _ = said(1)
    lines.made("extract", "a", 1.0, cached=True)
    lines.made("render", "b", 1.0, cached=False)
    assert not lines.told_all
    lines.made("sample", "c", 1.0, cached=False)
    assert lines.told_all


def test_a_single_stage_is_not_counted() -> None:
    lines, stream = said(1)
    with lines.task("invert", 50):
        pass
    assert stream.getvalue() == "invert 0/50\n"


def test_a_command_counts_the_stages_that_it_runs(dvid: Dvid, tuned: Path) -> None:
    err = dvid("sample", "-p", "one", "--from-noise", "--refresh").err
    assert "stage" not in err
    err = dvid("tune", "--run", "bikes", "another", "--steps", "1").err
    assert "stage" not in err
    err = dvid("sample", "-p", "one").err
    assert [f"stage {n}/2" in err for n in (1, 2)] == [True] * 2


def test_of_several_clips_each_says_which_it_is(dvid: Dvid, tuned: Path) -> None:
    err = dvid("sample", "-p", "one", "-p", "two", "-p", "three").err
    assert [f"result {n} of 3" in err for n in (1, 2, 3)] == [True] * 3
    again = dvid("sample", "-p", "one", "-p", "two", "-p", "four").err
    assert [f"result {n} of 3" in again for n in (1, 2, 3)] == [False, False, True]
    assert "result 1 of 1" not in dvid("sample", "-p", "five").err


def test_a_cached_stage_says_so_and_what_it_saved(dvid: Dvid, tuned: Path) -> None:
    dvid("sample", "-p", "a cat")
    assert re.search(r"^sample: cached, [\d.]+ s saved$", dvid("sample", "-p", "a cat").err, re.M)


def test_the_dry_run_says_what_a_hit_saves_and_a_miss_would_cost(dvid: Dvid, tuned: Path) -> None:
    unknown = dvid("sample", "-p", "new", "-n").lines
    assert unknown[-1].split("\t")[3] == "?"
    assert re.fullmatch(r"saves [\d.]+ s", unknown[2].split("\t")[3])
    dvid("sample", "-p", "a cat")
    assert re.fullmatch(
        r"about [\d.]+ s", dvid("sample", "-p", "new", "-n").lines[-1].split("\t")[3]
    )


def test_the_estimate_goes_with_the_steps(dvid: Dvid, tuned: Path) -> None:
    def cost(*words: str) -> float:
        *_, last = map(json.loads, dvid(*words, "-n", "--json").lines)
        assert last["hit"] is False
        return float(last["estimate"])

    few, many = (cost("invert", "--steps", steps) for steps in ("30", "60"))
    assert many == pytest.approx(2 * few)
    assert cost("invert", "--steps", "30", "--refine", "1") == pytest.approx(2 * few)


def test_another_models_seconds_are_no_estimate(dvid: Dvid, tuned: Path, bikes: Path) -> None:
    words = ["tune", str(bikes), "a man", "--model", "tiny", "--size", "64", "-n", "--json"]
    *_, last = map(json.loads, dvid(*words).lines)
    assert (last["stage"], last["estimate"]) == ("tune", None)


@pytest.mark.parametrize(
    "words",
    [
        ["runs"],
        ["styles"],
        ["styles", "--path"],
        ["show"],
        ["cache", "ls"],
        ["config", "show", "sample"],
        ["config", "path"],
        ["sample", "-p", "x", "-n"],
    ],
    ids=" ".join,
)
def test_json_is_an_object_a_line_with_the_schema(
    dvid: Dvid, tuned: Path, words: list[str]
) -> None:
    found = [json.loads(line) for line in dvid(*words, "--json").lines]
    assert found
    assert all(one["schema"] == 1 for one in found)


def test_verbose_says_more_and_quiet_only_errors(dvid: Dvid, tuned: Path) -> None:
    words = ["sample", "-p", "loud"]
    usual = dvid(*words, "--refresh").err
    more = dvid(*words, "--refresh", "-vv").err
    assert len(more) > len(usual)
    quiet = dvid("sample", "nosuch", "-p", "x", "-q", code=4).err
    assert quiet.startswith("error: ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_ends(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(session, "end_by", ended.append)
    monkeypatch.setattr(os, "_exit", lambda code: None)
    stop = Stop()
    with session._signals(stop):
        os.kill(os.getpid(), number)
        assert (stop.signal, ended) == (number, [])
        os.kill(os.getpid(), number)
    assert ended == [number]


def test_sigterm_ends_a_tuning_by_that_signal_and_with_a_checkpoint(
    base: Path, bikes: Path, home: Path
) -> None:
    command = ["tune", str(bikes), "a man", "--model", str(base), "--steps", "4000"]
    running = subprocess.Popen(
        [sys.executable, "-m", "dvcli", *command, "--frames", "2", "--size", "64"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stderr is not None
    for line in running.stderr:
        if line.startswith("tune "):
            running.send_signal(signal.SIGTERM)
            break
    out, rest = running.communicate(timeout=100)
    assert (running.returncode, out) == (-signal.SIGTERM, "")
    assert "hint: the same command goes on from here" in rest
    assert list((home / "cache" / "v1" / "partial").glob("*/*.safetensors"))


def test_an_interrupt_ends_the_shells_loop_around_it(base: Path, bikes: Path, home: Path) -> None:
    dvid = shlex.join([sys.executable, "-m", "dvcli", "tune", str(bikes)])
    options = shlex.join(["--model", str(base), "--steps", "4000", "--frames", "2", "--size", "64"])
    running = subprocess.Popen(
        ["bash", "-c", f"for word in one two; do {dvid} $word {options}; echo $?; done"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert running.stderr is not None
    for line in running.stderr:
        if line.startswith("tune "):
            os.killpg(running.pid, signal.SIGINT)
            break
    out, rest = running.communicate(timeout=100)
    assert (running.returncode, out) == (-signal.SIGINT, ""), rest
    assert "hint: the same command goes on from here" in rest


PLAIN = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


@pytest.mark.skipif(sys.platform != "linux", reason="GNU OpenMP tells its settings")
@pytest.mark.parametrize(
    ("given", "taken"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "active"}, "ACTIVE")]
)
def test_threads_that_wait_leave_the_cores_to_others_unless_told_not_to(
    given: dict[str, str], taken: str
) -> None:
    code = "import sys; from dvcli.cli import entry; sys.argv = ['dvid', '--version']\n"
    code += "try: entry()\nexcept SystemExit: import torch"
    told = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "OMP_DISPLAY_ENV": "true", **given},
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    assert f"OMP_WAIT_POLICY = '{taken}'" in told


def test_a_locale_that_is_not_utf_8_is_told_of_the_text_it_cannot_read(tuned: Path) -> None:
    said = process("sample", "-p", "ein Bär im Schnee", code=2, env=PLAIN)
    assert "`export LC_ALL=C.UTF-8`" in said.err


def test_in_a_locale_that_is_not_utf_8_all_else_works(dvid: Dvid, tuned: Path) -> None:
    Path("prompts.txt").write_text("ein Bär im Schnee\n", encoding="utf-8")
    path = process("sample", "-f", "prompts.txt", env=PLAIN).lines[0]
    assert dvid("sample", "-p", "ein Bär im Schnee").lines == [path]
    told = process("sample", "-f", "prompts.txt", "--json", env=PLAIN)
    assert json.loads(told.out)["prompt"] == "ein Bär im Schnee"
    for words in (["--help"], ["sample", "--help"], ["tune", "--help"], ["styles"], ["runs"]):
        assert process(*words, env=PLAIN).out


def test_what_only_looks_works_in_a_deleted_directory(
    dvid: Dvid, tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for words in (["runs"], ["styles"], ["show", "bikes"], ["cache", "ls"], ["config", "show"]):
        assert dvid(*words).out


HOMELESS = """
import os, pwd, sys
del os.environ["HOME"]
def nobody(uid):
    raise KeyError(uid)
pwd.getpwuid = nobody
from dvcli.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def homeless(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The command for a user whom nobody has named, as in a container."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("DVID_", "XDG_"))}
    command = [sys.executable, "-c", HOMELESS, *words]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, env={**kept, **env}
    )


def test_without_a_home_folder_the_error_names_the_variable_that_helps(bikes: Path) -> None:
    done = homeless("extract", str(bikes), "--size", "64")
    assert done.returncode == 6
    assert re.search(r"^hint: `DVID_(CACHE|STATE)_DIR` names", done.stderr, re.M)


def test_without_a_home_folder_a_cache_and_runs_elsewhere_do(bikes: Path, home: Path) -> None:
    places = {"DVID_CACHE_DIR": str(home / "c"), "DVID_STATE_DIR": str(home / "s")}
    done = homeless("extract", str(bikes), "--size", "64", "--frames", "2", **places)
    assert (done.returncode, done.stdout) == (0, "bikes\n"), done.stderr
    assert homeless("styles", **places).returncode == 0


def test_with_places_of_its_own_no_home_folder_is_needed(bikes: Path, home: Path) -> None:
    gone = {"HOME": "/proc/no-such-home", "XDG_CONFIG_HOME": ""}
    said = process("extract", str(bikes), "--size", "64", "--frames", "2", env=gone)
    assert said.lines == ["bikes"]


def test_a_home_that_takes_nothing_is_exit_6_with_the_variable(bikes: Path) -> None:
    read_only = {"HOME": "/proc", "DVID_CACHE_DIR": "", "DVID_STATE_DIR": ""}
    said = process("extract", str(bikes), "--size", "64", code=6, env=read_only)
    assert re.search(r"^hint: `DVID_\w+_DIR` names another folder", said.err, re.M)


def test_show_of_a_page_gives_the_commands_on_it(dvid: Dvid, tuned: Path) -> None:
    path = dvid("sample", "-p", "it's <a> 'fox' & \"more\"").lines[0]
    dvid("report", "-o", "page.html")
    shown = dvid("show", "page.html").lines
    assert len(shown) == len(set(shown))
    last = shlex.split(next(line for line in shown if "fox" in line))
    assert dvid(*last[1:]).lines == [path]


@pytest.mark.parametrize("text", ["", "<p>mine", "<code>rm -rf /\n</code>"])
def test_somebody_elses_page_is_refused(dvid: Dvid, text: str) -> None:
    Path("page.html").write_text(text)
    assert "no page of `dvid report`" in dvid("show", "page.html", code=3).err


def test_nothing_on_a_strangers_page_acts_on_the_terminal(dvid: Dvid) -> None:
    Path("page.html").write_text(
        '<meta name="generator" content="dvid"><code>dvid \x1b[2J\n</code>'
    )
    said = dvid("show", "page.html", code=3)
    assert said.out == ""
    assert "\x1b" not in said.err
