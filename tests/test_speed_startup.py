"""What a command costs before it does anything: a cached one loads neither pydantic nor torch."""

import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from program import Dvid, process

from dvcli.cli.app import app
from dvcli.cli.plain import NotPlain, Reader, plain, read_plainly
from dvcli.cli.verbs import SUMMARIES, VERBS, command_line
from dvcli.errors import UsageError

HEAVY = {"torch", "numpy", "diffusers", "transformers", "av", "PIL", "rich", "pydantic"}
PARAMS = {
    f"{verb} {param.name}": param
    for verb, command in typer.main.get_command(app).commands.items()  # type: ignore[attr-defined]
    for param in command.params
}
ODD = ("", " ", "0", "-0", "007", "1_000", "1e3", "nan", "inf", "-1.50", ".5", "5.", "+1", "٣")
ODD += ("true", "False", "crop", "CROP", "pad", "fp32", "/", ".", "a\0b", "\udcff", "9" * 40)
TEXTS = st.one_of(st.text(), st.sampled_from(ODD))
VALUES = st.one_of(TEXTS, st.integers(), st.floats(allow_nan=False), st.booleans(), st.none())


def modules(*arguments: str, directory: Path | None = None) -> set[str]:
    """What is loaded when that command line has been answered."""
    program = (
        "import sys; from dvcli.cli.main import main; code = main(sys.argv[1:]);"
        "print(*sys.modules, file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        check=True,
        capture_output=True,
        text=True,
        cwd=directory,
    )
    return set(done.stderr.splitlines()[-1].split())


def test_a_full_cache_hit_loads_neither_pydantic_nor_anything_that_computes(
    dvid: Dvid, tuned: Path
) -> None:
    words = ["sample", "-p", "a cat", "-s", "animation", "--guidance", "4", "--format", "gif", "-q"]
    dvid(*words)
    assert not HEAVY & modules(*words)


@pytest.mark.parametrize("words", [["runs"], ["cache", "ls"], ["styles"], ["show"]])
def test_what_only_looks_loads_nothing_heavy(tuned: Path, words: list[str]) -> None:
    assert not HEAVY & modules(*words)


def test_a_verb_imports_no_other_verb(tuned: Path) -> None:
    loaded = modules("runs")
    assert not {"dvcli.cli.demo", "dvcli.cli.tune", "dvcli.cli.evaluate"} & loaded


def test_a_configured_option_reaches_its_verb(
    dvid: Dvid, tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVID_FORMAT", "gif")
    assert dvid("sample", "-p", "a cat").out.endswith(".gif\n")


def test_a_wrong_setting_of_another_verb_is_told(dvid: Dvid, tuned: Path) -> None:
    Path("dvid.toml").write_text("[tune]\nstepz = 3\n")
    assert "tune.stepz" in dvid("runs", code=2).err


def test_alone_a_verb_has_the_help_it_has_among_all(dvid: Dvid) -> None:
    whole = typer.main.get_command(app)
    for name in VERBS:
        alone = typer.main.get_command(command_line([name]))
        theirs, ours = (c.commands[name] for c in (whole, alone))  # type: ignore[attr-defined]
        assert [p.name for p in theirs.params] == [p.name for p in ours.params]
        assert theirs.help == ours.help


def test_the_help_of_dvid_imports_no_verb_and_says_what_all_of_them_would(dvid: Dvid) -> None:
    whole: Any = typer.main.get_command(app)
    for name, line in SUMMARIES.items():
        assert whole.commands[name].help.partition("\n")[0] == line
    assert SUMMARIES.keys() == VERBS.keys()
    assert not {"dvcli.cli.tune", "dvcli.cli.demo", "dvcli.cli.keep"} & modules("--help")
    assert dvid("--help").out == dvid().out


def test_an_unknown_verb_is_told_from_all_verbs(dvid: Dvid) -> None:
    assert "smaple" in dvid("smaple", code=2).err


def read(reader: Any, param: Any, value: Any) -> tuple[str, object]:
    """What a reader makes of the value; that it is refused, or the error where Typer trips."""
    try:
        return "read", reader.coerce(value, param=param, ctx=None)
    except (typer.BadParameter, UsageError):  # in its words, or in ours
        return "refused", None
    except (TypeError, ValueError, AssertionError, AttributeError) as error:
        return "tripped", type(error)


@settings(deadline=None)
@given(which=st.sampled_from(sorted(PARAMS)), value=st.one_of(VALUES, st.tuples(TEXTS, TEXTS)))
def test_a_value_is_read_as_typer_reads_it(which: str, value: Any) -> None:
    param = PARAMS[which]
    theirs = read(param.get_runtime_param(), param, value)
    ours = read(Reader(param.get_runtime_param), param, value)
    assert repr(ours) == repr(theirs)  # the type with it; two NaN are not equal


@pytest.mark.parametrize("value", [*ODD, None, 0, -1, 2.5, True], ids=ascii)
def test_an_odd_value_is_read_as_typer_reads_it_by_every_option(value: Any) -> None:
    for param in PARAMS.values():
        for given_value in (value, (value,), (value, "0")):
            theirs = read(param.get_runtime_param(), param, given_value)
            ours = read(Reader(param.get_runtime_param), param, given_value)
            assert repr(ours) == repr(theirs)  # two NaN are not equal


def test_a_path_that_may_not_be_read_is_typers_to_refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.touch()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(NotPlain):
        plain(str(secret), Path, typer.Option())


def test_a_bound_is_typers_to_hold() -> None:
    with pytest.raises(NotPlain):
        plain("5", int, typer.Option(max=3))


def test_without_the_place_where_typer_asks_everything_stays_typers() -> None:
    class Odd:
        name = "odd"

    class Command:
        def get_params(self, ctx: object) -> list[object]:
            return [Odd()]

    command = Command()
    read_plainly(command)
    (param,) = command.get_params(None)
    assert not hasattr(param, "get_runtime_param")


def test_a_wrong_value_is_told_in_our_words(tuned: Path) -> None:
    err = process("sample", "-p", "x", "--guidance", "much", code=2).err
    assert "`--guidance` is `much`, which is no number" in err


def test_a_full_cache_hit_starts_within_four_times_importing_typer_and_rich(
    dvid: Dvid, tuned: Path
) -> None:
    def cost(*command: str) -> float:
        """Processor seconds, which other work on the machine does not change."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    hit = ("-m", "dvcli", "sample", "-p", "a cat", "-q")
    dvid(*hit[2:])
    commands = {"typer": ("-c", "import typer, rich"), "hit": hit}
    costs = {name: min(cost(*command) for _ in range(7)) for name, command in commands.items()}
    assert costs["hit"] <= 4 * costs["typer"]
    assert costs["hit"] <= 0.6
