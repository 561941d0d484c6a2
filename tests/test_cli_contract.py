"""What scripts may rely on: streams, shells, JSON, configuration, signals, the cost of starting."""

import json
import os
import pty
import re
import resource
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from program import Dvid, process

DVID = f"{shlex.quote(sys.executable)} -m dvcli"


def shell(script: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The script under bash, with `dvid` as a command."""
    whole = f'dvid() {{ {DVID} "$@"; }}; export -f dvid; {script}'
    return subprocess.run(
        ["bash", "-c", whole],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **env},
        timeout=100,
    )


@pytest.fixture
def sampled(dvid: Dvid, tuned: Path) -> list[str]:
    """The paths of three samples that are in the cache and on disk."""
    return dvid("sample", "-p", "a fox", "-p", "a bear", "-p", "a cat").lines


def test_a_shell_loop_gives_one_path_a_turn(sampled: list[str]) -> None:
    done = shell('for p in "a fox" "a bear" "a cat"; do dvid sample -p "$p" -q; done')
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == sampled


def test_capture_gives_a_path_that_exists(sampled: list[str]) -> None:
    done = shell('f=$(dvid sample -p "a bear" -q) && test -s "$f" && printf %s "$f"')
    assert (done.returncode, done.stdout) == (0, sampled[1])


def test_head_ends_quietly(sampled: list[str]) -> None:
    Path("prompts.txt").write_text("a fox\na bear\na cat\n" * 3)
    done = shell(
        "set -o pipefail; dvid sample -p 'a fox' -p 'a bear' -p 'a cat' -q | head -1; echo $?"
    )
    assert done.stdout.splitlines() == [sampled[0], "0"]
    assert done.stderr == ""


def test_xargs_in_parallel_gives_what_one_after_the_other_gives(dvid: Dvid, tuned: Path) -> None:
    prompts = ["a fox in a wood", "it's 5 o'clock"]
    script = "printf '%s\\0' \"$@\" | xargs -0 -P2 -I{} " + DVID + " sample -q -p {}"
    done = subprocess.run(
        ["bash", "-c", script, "-", *prompts],
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    made = {path: Path(path).read_bytes() for path in done.stdout.splitlines()}
    assert len(made) == 2
    for name in made:
        Path(name).unlink()
    again = dvid("sample", "-p", prompts[0], "-p", prompts[1], "--refresh").lines
    assert {path: Path(path).read_bytes() for path in again} == made


def test_prompts_come_from_standard_input_with_comments_and_blank_lines_passed_over(
    dvid: Dvid, sampled: list[str]
) -> None:
    said = process("sample", "-f", "-", "-q", stdin="# three\n\na fox\r\n  a bear \na cat")
    assert said.lines == sampled


def test_a_null_ends_each_result_for_xargs(dvid: Dvid, sampled: list[str]) -> None:
    said = dvid("sample", "-p", "a fox", "-p", "a bear", "-0")
    assert said.out == f"{sampled[0]}\0{sampled[1]}\0"


def test_json_gives_one_object_a_line_with_the_schema(dvid: Dvid, sampled: list[str]) -> None:
    said = dvid("sample", "-p", "a fox", "-s", "animation", "--json")
    (made,) = map(json.loads, said.lines)
    assert made["schema"] == 1
    assert made["prompt"].startswith("a fox, animation style")
    assert (made["run"], made["style"], made["seed"]) == ("bikes", "animation", None)
    assert Path(made["path"]).exists()


def test_quiet_says_nothing_on_stderr(dvid: Dvid, sampled: list[str]) -> None:
    assert dvid("sample", "-p", "a fox", "-q").err == ""


def test_a_dry_run_of_many_clips_shows_each_stage_once_and_each_clip_by_its_words(
    dvid: Dvid, tuned: Path
) -> None:
    words = ["sample", "-p", "a fox", "-p", "a cat", "-s", "animation", "-s", "impressionism", "-n"]
    rows = [line.split("\t") for line in dvid(*words).lines]
    assert [row[0] for row in rows] == ["extract", "depth", "tune", "invert", *["sample"] * 4]
    assert [row[4:] for row in rows[:4]] == [["bikes"]] * 4
    styles = ("animation", "impressionism")
    wanted = [["bikes", fox, style] for fox in ("a fox", "a cat") for style in styles]
    assert [row[4:] for row in rows[4:]] == wanted
    told = [json.loads(line) for line in dvid(*words, "--json").lines][4:]
    assert [one["style"] for one in told] == [*styles, *styles]
    assert all(one["prompt"].startswith(row[5]) for one, row in zip(told, rows[4:], strict=True))


def test_a_dry_run_does_nothing(dvid: Dvid, tuned: Path) -> None:
    before = sorted((tuned / "cache").rglob("*.json"))
    said = dvid("sample", "-p", "new", "-n")
    assert [line.split("\t")[:2] for line in said.lines] == [
        ["extract", "hit"],
        ["depth", "hit"],
        ["tune", "hit"],
        ["invert", "hit"],
        ["sample", "miss"],
    ]
    assert sorted((tuned / "cache").rglob("*.json")) == before
    assert not Path("out").exists()


def test_what_libraries_print_goes_to_stderr(
    dvid: Dvid, tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvcli.models import latents

    decode = latents.decode

    def chatty(*arguments: object) -> object:
        print("a library speaks")
        os.write(1, b"and so does one in C\n")
        return decode(*arguments)

    monkeypatch.setattr(latents, "decode", chatty)
    said = dvid("sample", "-p", "chatter")
    assert len(said.lines) == 1
    assert "a library speaks" in said.err
    assert "and so does one in C" in said.err


@pytest.mark.parametrize("suffix", ["mp4", "webm", "gif", "webp", "apng", "png"])
def test_show_prints_commands_that_make_a_file_of_each_format_again(
    dvid: Dvid, tuned: Path, suffix: str
) -> None:
    path = dvid("sample", "-p", "a 'quoted' fox", "--format", suffix).lines[0]
    commands = dvid("show", path).lines
    assert [shlex.split(line)[:2] for line in commands] == [
        ["dvid", "tune"],
        ["dvid", "invert"],
        ["dvid", "sample"],
    ]
    again = shlex.split(commands[-1])[1:]
    assert dvid(*again, "--format", suffix).lines == [path]


def test_no_metadata_leaves_nothing_to_show(dvid: Dvid, tuned: Path) -> None:
    path = dvid("sample", "-p", "a fox", "--no-metadata").lines[0]
    assert "carries no provenance" in dvid("show", path, code=3).err


def test_show_of_a_run_gives_commands_that_hit(dvid: Dvid, tuned: Path, bikes: Path) -> None:
    tune, invert = dvid("show", "bikes").lines
    for line in (tune, invert):
        plan = [json.loads(step) for step in dvid(*shlex.split(line)[1:], "-n", "--json").lines]
        assert all(step["hit"] for step in plan), line


def test_eval_prints_a_line_a_clip_and_the_source_first(
    dvid: Dvid, sampled: list[str], judge: Path
) -> None:
    said = dvid("eval", "--clip-model", judge)
    table = [line.split("\t") for line in said.lines]
    assert table[0][0] == "clip"
    assert [row[0] for row in table[1:]] == [
        "bikes (source)",
        "bikes (reconstruction)",
        *sampled,
        f"mean of {len(sampled)}",
    ]
    assert all(-100 <= float(cell) <= 100 for row in table[1:] for cell in row[1:4])
    again = [json.loads(line) for line in dvid("eval", "--clip-model", judge, "--json").lines]
    assert [f"{row['frame_consistency']:.2f}" for row in again] == [row[1] for row in table[1:]]


def test_eval_of_a_file_takes_the_prompt_embedded_in_it(
    dvid: Dvid, sampled: list[str], judge: Path
) -> None:
    (row,) = map(json.loads, dvid("eval", sampled[0], "--clip-model", judge, "--json").lines)
    assert row["prompt"] == "a fox"
    (other,) = map(
        json.loads,
        dvid("eval", sampled[0], "-p", "a cat", "--clip-model", judge, "--json").lines,
    )
    assert other["textual_alignment"] != row["textual_alignment"]
    assert other["frame_consistency"] == row["frame_consistency"]


def test_the_depth_of_another_run_blends_in(
    dvid: Dvid, tuned: Path, base: Path, bikes: Path
) -> None:
    options = ["--model", base, "--frames", "3", "--size", "64", "--start", "5"]
    dvid("tune", bikes, "a man", "--steps", "0", *options, "--run", "other")
    plain = dvid("sample", "bikes", "-p", "a fox").lines[0]
    blend = ["--depth-from", "other", "--depth-blend", "0.5"]
    mixed = dvid("sample", "bikes", "-p", "a fox", *blend).lines[0]
    assert Path(plain).read_bytes() != Path(mixed).read_bytes()


def test_own_depth_replaces_the_estimate(
    dvid: Dvid, base: Path, bikes: Path, tmp_path: Path
) -> None:
    options = ["--frames", "3", "--size", "64"]
    dvid("extract", bikes, *options)
    dvid("depth", "--from", bikes)
    dvid("tune", "--run", "bikes", "a man", "--steps", "1", "--model", base)
    (run,) = map(json.loads, dvid("runs", "--json").lines)
    plan = dvid("sample", "-p", "x", "-n", "--json").lines
    depth = next(step for step in map(json.loads, plan) if step["stage"] == "depth")
    record = json.loads(dvid("cache", "show", depth["key"]).out)
    assert "given" in record["preimage"]["inputs"]
    assert run["keys"]["depth"] == depth["key"]


@pytest.mark.parametrize(
    ("flag", "env", "near", "user", "expected"),
    [
        ("3", "4", "5", "6", 3),
        (None, "4", "5", "6", 4),
        (None, None, "5", "6", 5),
        (None, None, None, "6", 6),
    ],
)
def test_a_flag_comes_before_the_environment_before_dvid_toml_before_the_users_file(
    dvid: Dvid,
    tuned: Path,
    monkeypatch: pytest.MonkeyPatch,
    flag: str | None,
    env: str | None,
    near: str | None,
    user: str | None,
    expected: int,
) -> None:
    config = tuned / "config" / "dvid" / "config.toml"
    config.parent.mkdir(parents=True)
    if user:
        config.write_text(f"[invert]\nsteps = {user}\n")
    if near:
        Path("dvid.toml").write_text(f"[invert]\nsteps = {near}\n")
        Path("sub").mkdir()
        monkeypatch.chdir("sub")
    if env:
        monkeypatch.setenv("DVID_INVERT_STEPS", env)
    dvid("invert", *(["--steps", flag] if flag else []))
    assert f"--steps {expected}" in dvid("show").lines[1]


def test_an_unknown_key_in_dvid_toml_is_an_error_with_a_suggestion(dvid: Dvid) -> None:
    Path("dvid.toml").write_text("[tune]\nstpes = 3\n")
    said = dvid("runs", code=2)
    assert "`tune.stpes`" in said.err
    assert "did you mean `steps`?" in said.err


def test_cache_ls_verify_pin_rm_and_gc_work_on_what_is_there(
    dvid: Dvid, sampled: list[str]
) -> None:
    entries = [json.loads(line) for line in dvid("cache", "ls", "--json").lines]
    stages = sorted(entry["stage"] for entry in entries)
    assert stages == ["depth", "extract", "invert"] + ["render"] * 3 + ["sample"] * 3 + ["tune"]
    assert "0 damaged" in dvid("cache", "verify").err
    sample = next(entry for entry in entries if entry["stage"] == "sample")
    dvid("cache", "pin", sample["key"])
    dvid("cache", "gc", "--limit", "1", "--grace", "0")
    left = [json.loads(line) for line in dvid("cache", "ls", "--json").lines]
    assert sorted(entry["stage"] for entry in left) == [
        "depth",
        "extract",
        "invert",
        "sample",
        "tune",
    ]
    dvid("cache", "unpin", sample["key"])
    dvid("cache", "rm", sample["key"][:12])
    assert "sample" not in {json.loads(s)["stage"] for s in dvid("cache", "ls", "--json").lines}


def test_a_damaged_artifact_is_exit_8_for_verify_and_is_made_again_by_sample(
    dvid: Dvid, sampled: list[str], tuned: Path
) -> None:
    before = Path(sampled[0]).read_bytes()
    objects = (tuned / "cache" / "v1" / "objects").glob("*/*")
    (media,) = [p for p in objects if p.read_bytes() == before]
    media.chmod(0o644)
    media.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    assert "hint: `dvid cache verify --repair`" in dvid("cache", "verify", code=8).err
    Path(sampled[0]).unlink()
    assert dvid("sample", "-p", "a fox").lines == [sampled[0]]
    assert Path(sampled[0]).read_bytes() == before


def test_the_first_interrupt_keeps_a_checkpoint_and_the_same_command_goes_on_bit_for_bit(
    dvid: Dvid, base: Path, bikes: Path, home: Path
) -> None:
    command = ["tune", str(bikes), "a man", "--model", str(base), "--steps", "40"]
    options = ["--frames", "3", "--size", "64", "--checkpoint-grad", "off"]
    running = subprocess.Popen(
        [sys.executable, "-m", "dvcli", *command, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stderr is not None
    for line in running.stderr:
        if line.startswith("tune "):  # the first progress line: it is at work
            running.send_signal(signal.SIGINT)
            break
    rest = running.stderr.read()
    assert running.wait(timeout=60) == -signal.SIGINT, rest
    assert "of 40 is kept" in rest
    assert "hint: the same command goes on from here" in rest
    assert list((home / "cache" / "v1" / "partial").glob("*/*.safetensors"))
    kept_step = re.search(r"step (\d+) of 40 is kept", rest)
    assert kept_step is not None
    resumed = dvid(*command, *options)
    assert resumed.err.count(f"tune: going on from step {kept_step[1]}\n") == 1
    assert resumed.err.count("going on from step") == 1
    kept = json.loads(dvid("cache", "show", _key(dvid, "tune")).out)["outputs"]
    fresh = dvid(*command, *options, "--refresh")
    assert "tune: done" in fresh.err
    assert json.loads(dvid("cache", "show", _key(dvid, "tune")).out)["outputs"] == kept


def _key(dvid: Dvid, stage: str) -> str:
    (run,) = map(json.loads, dvid("runs", "--json").lines)
    return str(run["keys"][stage])


@pytest.mark.parametrize("name", ["plain", "name with spaces", "zwei\nZeilen", "日本 🎞"])
def test_clips_of_any_name_work(dvid: Dvid, bikes: Path, tmp_path: Path, name: str) -> None:
    clip = tmp_path / f"{name}.mp4"
    clip.write_bytes(bikes.read_bytes())
    run = dvid("extract", clip, "--size", "64", "--frames", "2", "--json")
    (made,) = map(json.loads, run.lines)
    assert "\n" not in made["run"]
    assert dvid("runs", "--rm", made["run"]).code == 0


def test_a_terminal_gets_bars_and_a_dumb_one_plain_lines(tuned: Path) -> None:
    def on_terminal(term: str) -> str:
        main_end, end = pty.openpty()
        done = subprocess.Popen(
            [sys.executable, "-m", "dvcli", "sample", "-p", f"on {term}"],
            stdout=subprocess.DEVNULL,
            stderr=end,
            env={**os.environ, "TERM": term, "COLUMNS": "80"},
        )
        os.close(end)
        seen = b""
        try:
            while chunk := os.read(main_end, 4096):
                seen += chunk
        except OSError:
            pass
        assert done.wait(timeout=60) == 0
        return seen.decode()

    assert "\x1b[" in on_terminal("xterm")
    plain = on_terminal("dumb")
    assert "\x1b[" not in plain
    assert "sample 3/3" in plain


@pytest.mark.parametrize("arguments", [["--help"], ["tune", "--help"], ["sample", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import sys; from dvcli.cli.main import main; main(sys.argv[1:]);"
        "heavy = {'torch', 'numpy', 'diffusers', 'transformers', 'av', 'PIL', 'rich'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run(
        [sys.executable, "-c", program, *arguments], check=True, stdout=subprocess.DEVNULL
    )


def test_help_starts_within_two_and_a_half_times_importing_typer() -> None:
    def cost(*command: str) -> float:
        """Processor seconds, which other work on the machine does not change."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    commands = {
        "typer": ("-c", "import typer"),
        "dvid": ("-m", "dvcli", "--help"),
        "tune": ("-m", "dvcli", "tune", "--help"),
    }
    costs = {name: min(cost(*command) for _ in range(9)) for name, command in commands.items()}
    assert costs["dvid"] <= 2.5 * costs["typer"]
    assert costs["tune"] <= 2.5 * costs["typer"]
