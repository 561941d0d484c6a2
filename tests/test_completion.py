"""A TAB in bash, zsh and fish, in real shells; `TEST_SHELLS=1` makes an absent one a failure."""

import os
import pty
import re
import resource
import select
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from program import Dvid, process

from dvcli.cli.complete import possible, unbroken
from dvcli.cli.shells import SCRIPTS, SHELLS
from dvcli.cli.verbs import VERBS

TAB_SECONDS = 0.3


def need(shell: str) -> str:
    """The shell's path; without it the test is skipped, or fails where shells are to be tested."""
    found = shutil.which(shell)
    if found is None and os.environ.get("TEST_SHELLS") == "1":
        pytest.fail(f"no {shell} on this machine")
    if found is None:
        pytest.skip(f"no {shell} on this machine")
    return found


@pytest.fixture
def place(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `dvid` on the path, two runs, a style of the user's, and some files."""
    program = tmp_path / "bin" / "dvid"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m dvcli "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    (home / "state" / "runs").mkdir(parents=True)
    for name in ("polar-bear", "fox_2"):
        (home / "state" / "runs" / f"{name}.json").touch()
    (home / "config" / "dvid").mkdir(parents=True)
    styles = '[ukiyo-e]\nprompt = "ukiyo-e print"\n'
    (home / "config" / "dvid" / "styles.toml").write_text(styles)
    for file in ("one clip.mp4", "depth.mp4", "other.txt"):
        Path(file).touch()
    for shell in SHELLS:
        (tmp_path / f"dvid.{shell}").write_text(SCRIPTS[shell])
    return tmp_path


def words(line: str) -> list[str]:
    """What may stand at the end of the line, asked without a shell."""
    *before, current = line.split(" ")[1:]
    return list(possible(before, current).words)


def bash(place: Path, line: str) -> list[str]:
    """What bash offers at the end of the line, by its completion function."""
    script = f"""
        source {place}/dvid.bash
        COMP_LINE={shlex.quote(line)} COMP_POINT={len(line)}
        COMP_WORDS=({line}{" ''" if line.endswith(" ") else ""})
        COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
        _dvid dvid '' ''
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run([need("bash"), "-c", script], capture_output=True, text=True, check=True)
    return [word for word in done.stdout.split("\n") if word]


def fish(place: Path, line: str) -> list[str]:
    """What fish offers at the end of the line, without the descriptions."""
    script = f"source {place}/dvid.fish; complete -C {shlex.quote(line)}"
    done = subprocess.run([need("fish"), "-c", script], capture_output=True, text=True, check=True)
    return [found.split("\t")[0] for found in done.stdout.splitlines()]


def typed(shell: str, place: Path, line: str) -> list[str]:
    """The words of the line that stands in an interactive shell after `line` and a TAB."""
    commands = {
        "bash": ([need("bash"), "--norc", "--noprofile", "-i"], f"source {place}/dvid.bash"),
        "zsh": (
            [need(shell), "-f", "-i"],
            f"autoload -Uz compinit; compinit -D; source {place}/dvid.zsh",
        ),
    }
    command, setup = commands[shell]
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ |= {"PS1": "> ", "TERM": "dumb", "COLUMNS": "200"}
        os.execv(command[0], command)
    try:
        # The line, whatever it became, is made the arguments of a command that shows them.
        shown = "\x01printf '<%s>' GO''T: \x05 :END\n"
        os.write(terminal, f"{setup}\n{line}\t{shown}".encode())
        return _heard(terminal, "<GOT:><", "><:END>").split("><")
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(terminal)


def _heard(terminal: int, begin: str, end: str) -> str:
    """What the terminal shows between the two."""
    heard, begun = "", time.monotonic()
    while time.monotonic() - begun < 25:
        if not select.select([terminal], [], [], 0.2)[0]:
            continue
        heard += os.read(terminal, 65536).decode(errors="replace")
        _, found, after = heard.partition(begin)
        if found and end in after:
            return after.partition(end)[0]
    raise AssertionError(f"nothing of that kind was shown, but {heard!r}")


@pytest.mark.parametrize("shell", [bash, fish])
@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("dvid sam", ["sample"]),
        ("dvid cache ex", ["export"]),
        ("dvid sample --stren", ["--strength"]),
        ("dvid sample --style ", ["photorealism", "animation", "impressionism", "ukiyo-e"]),
        ("dvid sample -s imp", ["impressionism"]),
        ("dvid sample ", ["fox_2", "polar-bear"]),
        ("dvid invert po", ["polar-bear"]),
        ("dvid tune --run fo", ["fox_2"]),
        ("dvid tune --model ti", ["tiny", "tiny-t2i"]),
        ("dvid tune --method tu", ["tune-a-video"]),
        ("dvid sample --method ", ["cogvideox"]),
        ("dvid sample --format web", ["webm", "webp"]),
        ("dvid sample -p 'two words' --style an", ["animation"]),
        ("dvid sample --seed ", []),
    ],
)
def test_a_shell_offers_what_can_stand_there(
    shell: Callable[[Path, str], list[str]], place: Path, line: str, found: list[str]
) -> None:
    assert shell(place, line) == found


def test_a_model_is_completed_by_the_short_names_that_the_help_tells_and_no_others(
    dvid: Dvid,
) -> None:
    found = possible(["tune", "--model"], "").words
    page = " ".join(dvid("tune", "--help").out.split())
    told = re.search(r" Base: (.*?); without depth (.*?)\. \[", page)
    assert told is not None
    assert list(found) == [*told[1].split(", "), *told[2].split(", ")]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["sample", "--base"], ["cogvideox-2b"]),
        (["depth", "--estimator"], ["sd2-depth", "tiny"]),
        (["eval", "--clip-model"], ["clip-vit-l14", "tiny"]),
        (["eval", "--pick-model"], []),
    ],
)
def test_an_option_is_offered_only_models_that_it_can_use(
    words: list[str], found: list[str]
) -> None:
    names = list(possible(words, "").words)
    assert names[-len(found) :] == found


def test_every_short_name_that_is_offered_is_one_that_is_resolved() -> None:
    from dvcli.cli.options import NAMES
    from dvcli.models.resolve import ALIASES, BUILT_IN

    offered = {name for names in NAMES.values() for name in names}
    assert offered == {*ALIASES, *BUILT_IN} - {"tiny-clip"}  # as a judge that one is `tiny`


@pytest.mark.parametrize(("shell", "style"), [(bash, r"wood\ cut"), (fish, r"'wood cut'")])
def test_a_style_of_two_words_comes_quoted(
    shell: Callable[[Path, str], list[str]], place: Path, home: Path, style: str
) -> None:
    own = home / "config" / "dvid" / "styles.toml"
    own.write_text('["wood cut"]\nprompt = "wood cut style"\n')
    assert shell(place, "dvid sample --style wo") in ([style], ["wood cut"])


@pytest.mark.parametrize(
    ("line", "end"),
    [
        ("dvid sample --stren", "dvid sample --strength"),
        ("dvid sample --style imp", "dvid sample --style impressionism"),
        ("dvid invert po", "dvid invert polar-bear"),
        ("dvid sample --run fo", "dvid sample --run fox_2"),
        ("dvid tune oth", "dvid tune other.txt"),
        ("dvid sample --style=imp", "dvid sample --style=impressionism"),
        ("dvid tune one", r"dvid tune one\ clip.mp4"),
    ],
)
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_tab_completes_the_line(place: Path, shell: str, line: str, end: str) -> None:
    assert typed(shell, place, line) == shlex.split(end)


def test_fish_completes_files_where_a_file_is_meant(place: Path) -> None:
    assert "depth.mp4" in fish(place, "dvid tune --depth de")
    assert fish(place, "dvid sample --style de") == []


def test_fish_completes_a_value_after_an_equals_sign(place: Path) -> None:
    assert fish(place, "dvid sample --style=imp") == ["--style=impressionism"]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_is_shown_whole(dvid: Dvid, shell: str) -> None:
    assert dvid("--show-completion", shell).out == SCRIPTS[shell]


def test_an_unknown_shell_is_a_usage_error(dvid: Dvid) -> None:
    assert "tcsh" in dvid("--show-completion", "tcsh", code=2).err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_installing_twice_leaves_one_line(
    dvid: Dvid, home: Path, monkeypatch: pytest.MonkeyPatch, shell: str
) -> None:
    profile = {"bash": home / ".bashrc", "zsh": home / ".zshrc", "fish": None}[shell]
    if profile is not None:
        profile.write_text("alias x=y")
    said = dvid("--install-completion", shell)
    written = said.lines[0]
    assert (f"a line in `{profile}` has the next shell read it" in said.err) == (
        profile is not None
    )
    first = profile.read_text() if profile is not None else ""
    assert dvid("--install-completion", shell).lines == [written]
    assert Path(written).read_text() == SCRIPTS[shell]
    if profile is not None:
        assert profile.read_text() == first
        assert first.startswith("alias x=y\n")


def test_an_installed_script_completes_in_a_new_bash(dvid: Dvid, place: Path, home: Path) -> None:
    dvid("--install-completion", "bash")
    (place / "dvid.bash").write_text((home / ".bashrc").read_text())
    assert bash(place, "dvid sam") == ["sample"]


def test_powershell_hears_of_an_empty_word_by_a_variable(place: Path) -> None:
    named = {"_DVID_COMPLETE": "powershell", "_DVID_COMPLETE_WORD": ""}
    said = process("sample", "--style", env=named)
    assert "impressionism\timpressionism style" in said.lines


def test_nothing_that_is_broken_is_told_at_a_tab(place: Path, home: Path) -> None:
    (home / "config" / "dvid" / "styles.toml").write_text("[broken")
    Path("dvid.toml").write_text("nonsense = 3\n")
    said = process("sample", "--style", "", env={"_DVID_COMPLETE": "zsh"})
    assert said.err == ""
    assert [line.split("\t")[0] for line in said.lines[1:]] == [
        "photorealism",
        "animation",
        "impressionism",
    ]


def test_an_option_that_was_given_is_not_offered_again_unless_it_may_be(place: Path) -> None:
    left = words("dvid sample --eta 1 --style animation --")
    assert "--eta" not in left
    assert "--style" in left


def test_after_two_dashes_there_are_no_options(place: Path) -> None:
    assert words("dvid sample -- ") == ["fox_2", "polar-bear"]
    assert words("dvid sample -- --st") == []


def test_an_unknown_verb_or_option_offers_nothing(place: Path) -> None:
    assert words("dvid smaple --") == []
    assert words("dvid sample --nonsense=") == []


def test_every_verb_offers_its_options(place: Path) -> None:
    for verb in VERBS:
        assert words(f"dvid {verb} "[:-1] + " --he") in (["--help"], [])
        assert words(f"dvid {verb} ") or possible([verb], "").files or verb == "demo"


@given(st.lists(st.text(max_size=12), max_size=5))
def test_no_line_ends_in_an_error(line: list[str]) -> None:
    *before, current = unbroken(line) or [""]
    assert possible(["sample", *before], current) is not None


@pytest.mark.parametrize(
    ("pieces", "whole"),
    [
        (["sample", "--style", "=", "im"], ["sample", "--style=im"]),
        (["sample", "--style", "="], ["sample", "--style="]),
        (["sample", "--device", "cuda", ":", "0"], ["sample", "--device", "cuda:0"]),
        (["-p", "'it is'", '"half'], ["-p", "it is", "half"]),
        (["-p", "two\\ words", ""], ["-p", "two words", ""]),
    ],
)
def test_what_bash_takes_apart_is_put_together(pieces: list[str], whole: list[str]) -> None:
    assert unbroken(pieces) == whole


@pytest.mark.parametrize(
    "line", [[""], ["sample", "--st"], ["sample", "--style", ""], ["sample", ""], ["cache", ""]]
)
def test_a_tab_costs_less_than_300_ms(place: Path, line: list[str]) -> None:
    def cost() -> float:
        """Processor seconds, which other work on the machine hardly changes."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        process(*line, env={"_DVID_COMPLETE": "fish"})
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(cost() for _ in range(5)) < TAB_SECONDS
