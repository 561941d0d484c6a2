"""What is drawn on a terminal stays whole: columns, names, one bar; elsewhere nothing changes."""

import io
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from program import Dvid

from dvcli.cli import progress
from dvcli.cli.columns import broken, columns, fitted
from dvcli.cli.columns import drawn as is_drawn
from dvcli.cli.gathered import Gathered, gathered
from dvcli.cli.session import Session
from dvcli.runtime import Runtime


class Screen(io.StringIO):
    """A terminal that keeps what is drawn."""

    stdout = property(lambda self: self)
    json = null = False


def drawn(rows: Sequence[Sequence[str]], titles: tuple[str, ...]) -> list[str]:
    screen = Screen()
    columns(screen, titles, rows)  # type: ignore[arg-type]
    return screen.getvalue().splitlines()


@given(st.text(alphabet="ab-_/, ", max_size=60), st.integers(1, 20))
def test_a_broken_name_has_all_its_letters_in_lines_that_fit(text: str, width: int) -> None:
    found = broken(text, width)
    assert "".join(found).replace(" ", "") == text.replace(" ", "")
    assert max(map(len, found)) <= width


def test_a_name_is_broken_at_its_joints_only() -> None:
    assert broken("a-tigress-with-her-cubs-1a2b3c4d.mp4", 24) == [
        "a-tigress-with-her-cubs-",
        "1a2b3c4d.mp4",
    ]


def test_columns_that_fit_keep_their_width_and_else_the_widest_gives() -> None:
    assert fitted({0: 10, 1: 30}, 60) == {0: 10, 1: 30}
    assert fitted({0: 10, 1: 90}, 60) == {0: 10, 1: 48}


@pytest.mark.parametrize("width", [10, 20, 40, 60, 70, 80, 120])
def test_no_letter_of_a_row_is_lost_at_any_width(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    titles = ("run", "stages", "method", "changed", "clip", "")
    row = ("again-98a453f7", "extract,depth,tune,invert", "dvid", "2026-11-23 22:35")
    row += ("/films/日本語スタイルの映画/熊と彼女の子供たち-全編.mp4", "last")
    drew = "".join("".join(drawn([row], titles)).split())
    for cell in row:
        assert Counter("".join(cell.split())) <= Counter(drew)


def test_a_wide_character_takes_two_cells_of_a_line() -> None:
    assert broken("日本語スタイル", 6) == ["日本語", "スタイ", "ル"]


def test_a_name_that_acts_on_the_terminal_is_drawn_harmless(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert "\x1b" not in "".join(drawn([("a\x1b[2Jb", "x")], ("run", "clip")))


@pytest.mark.parametrize(("json", "null", "looked"), [(0, 0, True), (1, 0, False), (0, 1, False)])
def test_columns_are_for_those_who_look(json: int, null: int, looked: bool) -> None:
    terminal = SimpleNamespace(isatty=lambda: True)
    console: Any = SimpleNamespace(stdout=terminal, json=bool(json), null=bool(null))
    assert is_drawn(console) is looked
    console.stdout = SimpleNamespace(isatty=lambda: False)
    assert not is_drawn(console)


def test_progress_before_anything_is_done_says_no_rate_and_no_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.0)
    stream = io.StringIO()
    with progress.Lines(stream).task("measuring", 8) as task:
        task.advance(0)
        task.advance(2)
    _, empty, some = stream.getvalue().splitlines()
    assert "it/s" not in empty
    assert "left" not in empty
    assert "it/s" in some
    assert "left" in some


def test_work_on_many_clips_is_told_by_kind_only_while_it_lasts(dvid: Dvid) -> None:
    session = Session(quiet=True)
    before = session.teller, session.runtime
    with gathered(session, "measuring", 2) as task:
        assert session.teller is not before[0]
        assert session.runtime.progress is session.teller
        task.advance()
    assert (session.teller, session.runtime) == before


def test_runs_at_80_columns_keep_names_and_times_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    titles = ("run", "stages", "method", "changed", "clip", "")
    clip = "/home/somebody/films/of-last-summer/bears-by-the-river.mp4"
    rows = [("bears", "extract,depth,tune,invert", "dvid", "2026-11-23 22:35", clip, "last")]
    lines = drawn(rows, titles)
    assert max(map(len, lines)) <= 80
    assert all(word in lines[1] for word in ("bears ", "dvid", "2026-11-23 22:35", "last"))
    assert "river.mp4" in "\n".join(lines)


def test_piped_runs_and_styles_are_lines_with_tabs(dvid: Dvid) -> None:
    assert dvid("styles").lines[0].count("\t") >= 1
    assert {"name", "prompt"} <= json.loads(dvid("styles", "--json").lines[0]).keys()


def test_stages_are_told_by_kind_and_each_once() -> None:
    told = Gathered(Runtime().progress.task("x", 1).__enter__())
    for key in "aab":
        told.made("motion", key, 1.0, cached=False)
    told.made("eval", "c", 2.0, cached=True)
    assert list(told.tell()) == ["motion: done in 2.0 s (2 of them)", "eval: cached, 2.0 s saved"]


def test_no_more_processors_are_taken_than_a_cgroup_grants(tmp_path: Path) -> None:
    from dvcli.devices import processors

    group = tmp_path / "sys/fs/cgroup/box/job"
    group.mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/box/job\n")
    assert processors(tmp_path) >= 1
    (group / "cpu.max").write_text("max 100000\n")
    (group.parent / "cpu.max").write_text("50000 100000\n")
    assert processors(tmp_path) == 1
    (tmp_path / "proc/self/cgroup").write_text("no such thing\n")
    assert processors(tmp_path) >= 1


def test_the_quota_of_the_older_cgroups_counts_too(tmp_path: Path) -> None:
    from dvcli.devices import processors

    group = tmp_path / "sys/fs/cgroup/cpu/box"
    group.mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("5:memory:/box\n4:cpu,cpuacct:/box\n")
    (group / "cpu.cfs_quota_us").write_text("100000\n")
    (group / "cpu.cfs_period_us").write_text("100000\n")
    assert processors(tmp_path) == 1
