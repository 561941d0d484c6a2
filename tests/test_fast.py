"""`--fast`: what it stands for, what wins against it, and whose inversion is whose."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from program import Dvid

import dvcli
from dvcli import Workspace, fast
from dvcli.bench import methods
from dvcli.cli.commands import Names, commands
from dvcli.cli.prompts import Asked, recipes_of, wishes_of
from dvcli.cli.switches import Switches
from dvcli.recipes import Base, Extract, Invert, Sample, Tune
from dvcli.runs import Runs
from dvcli.store import Store

ZERO = "0" * 64
BASE = Base(unet=ZERO, vae=ZERO, text_encoder=ZERO, tokenizer=ZERO, scheduler=ZERO)
OWN = Invert(tuned=Tune(frames=Extract(clip=ZERO), depth=None, base=BASE, prompt="x"), steps=50)
SET = (fast.STEPS, fast.GUIDANCE_UNTIL, fast.REUSE)
PLAIN = (50, Sample.guidance_until, Sample.reuse)


def sampled(
    line: Switches, command: Switches, *, own: Invert = OWN, steps: int | None = None
) -> Sample:
    wishes = wishes_of([Asked(words="a fox", switches=line)], command)
    (recipe,) = recipes_of(
        wishes, command, own, "fp32", lambda name: pytest.fail(name), steps=steps
    )
    return recipe


def values(recipe: Sample) -> tuple[int, float, int]:
    return recipe.inverted.steps, recipe.guidance_until, recipe.reuse


@pytest.mark.parametrize(
    ("line", "command", "expected"),
    [
        ({}, {}, PLAIN),
        ({}, {"fast": True}, SET),
        ({"fast": True}, {}, SET),
        ({}, {"fast": True, "reuse": 1}, (fast.STEPS, fast.GUIDANCE_UNTIL, 1)),
        ({}, {"fast": True, "guidance_until": 1.0}, (fast.STEPS, 1.0, fast.REUSE)),
        ({"reuse": 5}, {"fast": True}, (fast.STEPS, fast.GUIDANCE_UNTIL, 5)),
        ({"fast": True}, {"reuse": 5}, SET),
        ({"fast": True, "reuse": 5}, {"reuse": 3}, (fast.STEPS, fast.GUIDANCE_UNTIL, 5)),
        ({"fast": False}, {"fast": True}, PLAIN),
        ({"fast": False, "reuse": 4}, {"fast": True}, (50, 1.0, 4)),
        ({}, {"reuse": 4}, (50, 1.0, 4)),
    ],
    ids=str,
)
def test_fast_gives_the_values_that_nothing_as_near_to_the_prompt_gives(
    line: dict[str, Any], command: dict[str, Any], expected: tuple[int, float, int]
) -> None:
    assert values(sampled(Switches(**line), Switches(**command))) == expected


def test_a_fast_recipe_is_the_one_with_its_values_written_out() -> None:
    plain = sampled(
        Switches(),
        Switches(guidance_until=fast.GUIDANCE_UNTIL, reuse=fast.REUSE),
        own=replace(OWN, steps=fast.STEPS),
    )
    assert sampled(Switches(), Switches(fast=True)) == plain


def test_all_else_of_the_command_and_the_line_stays_under_fast() -> None:
    command = Switches(fast=True, guidance=3.0, eta=0.5, strength=0.5)
    recipe = sampled(Switches(guidance=4.0), command)
    assert (recipe.guidance, recipe.eta, recipe.strength) == (4.0, 0.5, 0.5)


@given(steps=st.integers(1, 1000), asked=st.none() | st.integers(1, 1000), kept=st.booleans())
def test_the_inversion_has_the_steps_that_are_asked_for_and_never_more_unasked(
    steps: int, asked: int | None, kept: bool
) -> None:
    own = replace(OWN, steps=steps, refine=2, prompt="a bear", trajectory=kept)
    found = fast.matched(own, asked)
    assert found.steps == (min(steps, fast.STEPS) if asked is None else asked)
    assert (found is own) == (found.steps == steps)
    assert replace(found, steps=steps, trajectory=kept) == own


def test_the_group_of_the_benchmark_is_what_fast_does() -> None:
    known = methods.shipped()
    group = {m.name: m for m in methods.chosen(["fast"], known) if m.name != methods.REFERENCE}
    assert set(group) == {"fast-all", "fast-steps", "fast-guidance", "fast-reuse"}

    def made(name: str) -> Sample:
        inverted = known[name].inverted(OWN)
        return known[name].sampled(Sample(inverted=inverted, prompt="a fox"))

    assert made("fast-all") == sampled(Switches(), Switches(fast=True))
    alone = zip(*(map(values, map(made, group))), strict=True)
    assert [set(found) for found in alone] == [set(pair) for pair in zip(SET, PLAIN, strict=True)]


def test_the_commands_that_make_a_fast_clip_again_say_fast_and_any_others_their_values() -> None:
    tuned = replace(OWN.tuned, frames=replace(OWN.tuned.frames, size=(64, 64)))
    recipe = sampled(Switches(), Switches(fast=True), own=replace(OWN, tuned=tuned))
    *_, invert, sample = commands(recipe, Names())
    assert f"--steps {fast.STEPS}" in invert
    assert "--fast" in sample
    assert not any(switch in sample for switch in ("--reuse", "--guidance-until"))
    longer = replace(recipe, inverted=replace(recipe.inverted, steps=fast.STEPS + 2))
    for other in (replace(recipe, reuse=5), replace(recipe, guidance_until=1.0), longer):
        assert "--fast" not in commands(other, Names())[-1]


@pytest.fixture
def inverted(tuned: Path, dvid: Dvid, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run `bikes`, inverted in three steps, where two are fast."""
    monkeypatch.setattr(fast, "STEPS", 2)
    return tuned


def last() -> Sample:
    recipe = Runs.open().samples("bikes")[-1].recipe
    assert isinstance(recipe, Sample)
    return recipe


def own() -> Invert:
    recipe = Runs.open().get("bikes").recipes["invert"]
    assert isinstance(recipe, Invert)
    return recipe


def test_a_fast_sample_has_an_inversion_of_its_own_and_the_run_keeps_its(
    inverted: Path, dvid: Dvid
) -> None:
    first = dvid("sample", "-p", "a fox", "--fast")
    assert first.err.count("inverts the clip in as many, once") == 1
    assert values(last()) == (2, fast.GUIDANCE_UNTIL, fast.REUSE)
    assert own().steps == 3
    again = dvid("sample", "-p", "a bear", "--fast")
    assert "inverts the clip" not in again.err
    assert "invert: cached" in again.err
    plain = dvid("sample", "-p", "a fox")
    assert values(last()) == (3, 1.0, 1)
    assert "invert: cached" in plain.err
    assert plain.out != first.out


def test_a_run_without_an_inversion_gets_none_from_fast(inverted: Path, dvid: Dvid) -> None:
    runs = Runs.open()
    kept = runs.get("bikes")
    runs.update(kept, lambda run: replace(run, recipes={"tune": run.recipes["tune"]}, keys={}))
    dvid("sample", "-p", "a fox", "--fast", "-q")
    assert last().inverted.steps == 2
    assert "invert" not in runs.get("bikes").recipes


def test_steps_beside_fast_are_those_of_both_and_alone_are_checked(
    inverted: Path, dvid: Dvid
) -> None:
    dvid("sample", "-p", "a fox", "--fast", "--steps", "1", "-q")
    assert last().inverted.steps == 1
    dvid("sample", "-p", "a fox", "--fast", "--steps", "3", "-q")
    assert last().inverted == own()
    assert "`--fast`" in dvid("sample", "-p", "a fox", "--steps", "1", code=2).err


def test_fast_lines_that_start_midway_share_one_inversion(inverted: Path, dvid: Dvid) -> None:
    Path("p.txt").write_text("a fox --fast\na bear --fast --strength 0.5\na cat\n")
    dvid("sample", "-f", "p.txt", "-q")
    used = [made.recipe.inverted for made in Runs.open().samples("bikes")]  # type: ignore[union-attr]
    assert [(one.steps, one.trajectory) for one in used] == [(2, True), (2, True), (3, False)]
    assert own().steps == 3


def test_a_configured_value_wins_against_fast_too(
    inverted: Path, dvid: Dvid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVID_REUSE", "1")
    monkeypatch.setenv("DVID_SAMPLE_FAST", "true")
    dvid("sample", "-p", "a fox", "-q")
    assert values(last()) == (2, fast.GUIDANCE_UNTIL, 1)


def test_a_dry_run_shows_the_other_inversion_and_makes_none(inverted: Path, dvid: Dvid) -> None:
    def plan(*words: str) -> dict[str, dict[str, Any]]:
        said = dvid("sample", "-p", "a fox", *words, "-n", "--json")
        return {step["stage"]: step for step in map(json.loads, said.lines)}

    assert plan()["invert"]["hit"]
    assert not plan("--fast")["invert"]["hit"]
    assert not plan("--fast")["invert"]["hit"]


def test_fast_means_nothing_to_cogvideox(inverted: Path, dvid: Dvid) -> None:
    said = dvid("sample", "-p", "a fox", "--method", "cogvideox", "--fast", code=2)
    assert "`--fast` means nothing to CogVideoX" in said.err


def test_jobs_of_a_batch_may_be_fast_and_leave_the_run_its_inversion(
    inverted: Path, dvid: Dvid
) -> None:
    job = {"run": "bikes", "sample": {"fast": True}}
    job["prompts"] = ["a fox", {"prompt": "a bear", "fast": False}, {"prompt": "a cat", "reuse": 1}]
    Path("jobs.jsonl").write_text(json.dumps(job))
    said = dvid("batch", "jobs.jsonl")
    assert said.err.count("inverts the clip in as many, once") == 1
    found = [values(made.recipe) for made in Runs.open().samples("bikes")]  # type: ignore[arg-type]
    assert found == [(2, fast.GUIDANCE_UNTIL, 2), (3, 1.0, 1), (2, fast.GUIDANCE_UNTIL, 1)]
    assert own().steps == 3
    made = [json.loads(line)["path"] for line in said.lines]
    assert dvid("sample", "-p", "a fox", "--fast", "-q").lines == made[:1]


def test_a_fast_sample_of_the_functions_is_that_of_the_command(
    inverted: Path, dvid: Dvid, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvcli.api.results import Inverted

    dvid("sample", "-p", "a fox", "--fast", "--reuse", "3", "-q")
    wanted = last()
    work = Workspace(cache=home / "cache")
    artifact = Store.open().get(str(Runs.open().get("bikes").keys["invert"]))
    assert artifact is not None
    start = Inverted(recipe=own(), artifact=artifact, workspace=work, model="x")
    assert dvcli.sample(start, "a fox", fast=True, reuse=3).recipe == wanted


def test_a_collection_takes_the_inversion_of_fast_and_the_next_fast_makes_it_again(
    inverted: Path, dvid: Dvid
) -> None:
    """It belongs to no run; the run's own stays however old it is."""
    dvid("sample", "-p", "a fox", "--fast", "-o", "one.mp4", "--no-metadata", "-q")
    keys = {e.key for e in Store.open().entries() if e.stage == "invert"}
    mine = Runs.open().get("bikes").keys["invert"]
    assert len(keys) == 2
    dvid("cache", "gc", "--limit", "1", "--grace", "0", "-q")
    assert {e.key for e in Store.open().entries() if e.stage == "invert"} == {mine}
    dvid("sample", "-p", "a fox", "--fast", "-o", "two.mp4", "--no-metadata", "-q")
    assert Path("two.mp4").read_bytes() == Path("one.mp4").read_bytes()
    assert {e.key for e in Store.open().entries() if e.stage == "invert"} == keys
