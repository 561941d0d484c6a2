"""Two shells in two directories: without a run named, each goes on with its own."""

import json
import random
import time
from pathlib import Path

import pytest
from faults import counts, forks
from program import Dvid, process

from dvcli.errors import MissingError
from dvcli.runs import Run, Runs

pytestmark = pytest.mark.usefixtures("unflushed")


def shell(folder: Path, me: int, other: Path) -> None:
    """Turn by turn a command that makes or continues a run here, then one that names none."""
    runs, dice = Runs.open(), random.Random(f"{counts.SEED} {me}")
    own = str(folder)
    last = ""
    for turn in range(counts.count("shells")):
        if turn == 0 or dice.random() < 0.5:
            last = f"shell{me}-{dice.randrange(3)}"
            now = time.time()
            runs.update(
                Run(name=last, cwd=own, clip=f"{own}/clip.mp4", updated=now),
                lambda run, now=now: Run(name=run.name, cwd=own, clip=run.clip, updated=now),  # type: ignore[misc]
            )
        place = dice.choice((folder, folder / "deep" / "er"))
        found, note = runs.resolve(None, cwd=place, env={}, terminal=dice.random() < 0.5)
        said = f"going on with the run `{last}`"
        assert (found.name, found.cwd, note) == (last, own, said), f"turn {turn} of shell {me}"
    for place in (folder.parent, other.parent / "nowhere"):
        with pytest.raises(MissingError, match="no run was made from"):
            runs.resolve(None, cwd=place, env={}, terminal=False)


def test_shells_at_work_at_once_never_cross(tmp_path: Path) -> None:
    places = [tmp_path / "one", tmp_path / "two", tmp_path / "one-more"]
    for place in places:
        (place / "deep" / "er").mkdir(parents=True)
    forks.together(
        *(lambda me=me, place=place: shell(place, me, places[0]) for me, place in enumerate(places))  # type: ignore[misc]
    )
    assert len(Runs.open().all()) <= 9
    counts.tally("shells", turns=3 * counts.count("shells"))


def test_commands_in_two_directories_take_the_run_of_their_own(
    dvid: Dvid, tuned: Path, base: Path, bikes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By turns in this process, then as processes that run at once."""
    monkeypatch.delenv("DVID_RUN")
    places = {name: Path.cwd() / name for name in ("left", "right")}
    for name, place in places.items():
        place.mkdir()
        monkeypatch.chdir(place)
        options = ["--model", str(base), "--steps", "1", "--frames", "2", "--size", "64"]
        seed = str(len(name))  # so that the runs differ
        said = dvid("tune", bikes, "a man", *options, "--seed", seed, "--run", name)
        assert said.lines == [name]
        dvid("invert", "--steps", "2")
    dice = random.Random(counts.SEED)
    turns = [dice.choice(sorted(places)) for _ in range(max(6, counts.count("shells") // 5))]
    for turn, name in enumerate(turns):
        monkeypatch.chdir(places[name])
        said = dvid("sample", "-p", f"fox {turn % 3}", "--json")
        assert json.loads(said.out)["run"] == name
    here = str(places["left"].parent)

    def work(name: str) -> None:
        for _ in range(2):
            found = json.loads(process("sample", "-p", "a bear", "--json").out)
            assert found["run"] == name
            assert found["path"].startswith(f"out/{name}/")

    def within(name: str) -> None:
        import os

        os.chdir(places[name])
        work(name)

    forks.together(*(lambda name=name: within(name) for name in places))  # type: ignore[misc]
    monkeypatch.chdir(here)
    assert "no run was made from" in dvid("sample", "-p", "a fox", code=4).err
    counts.tally("shells", samples=len(turns) + 4)
