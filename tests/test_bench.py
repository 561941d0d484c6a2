"""The benchmark: what it compares, on what, and how sure its table is."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from program import Dvid

from dvcli.bench import cases, methods
from dvcli.bench.methods import Method
from dvcli.bench.results import VERSIONS, Results
from dvcli.bench.statistics import difference, estimate
from dvcli.bench.table import lines, markdown
from dvcli.bench.trial import Row, Setting, judged, recipes
from dvcli.bundled.train import judging
from dvcli.bundled.world.clips import course
from dvcli.bundled.world.render import render
from dvcli.errors import InputError, UsageError
from dvcli.recipes import Base, Sample
from dvcli.store.keys import key_of, preimage

ZERO = "0" * 64
BASE = Base(unet=ZERO, vae=ZERO, text_encoder=ZERO, tokenizer=ZERO, scheduler=ZERO)
SETTING = Setting(
    base=BASE,
    estimator=ZERO,
    plain=replace(BASE, unet="1" * 64),
    clip_model=ZERO,
    size=(64, 64),
    frames=8,
    tuning_steps=100,
    lr=1e-4,
    steps=20,
    refine=1,
    guidance=4.0,
    dtype="fp32",
)
CASE = cases.Case(
    name="bear", clip=Path("bear.mp4"), caption="a bear", edits={"place": "a bear on snow"}
)
ROW = Row(
    case="a", edit="place", method="ours", prompt="x", key=ZERO, figures={"textual_alignment": 1.0}
)


def sample_of(method: Method) -> Sample:
    return recipes(CASE, ZERO, method, SETTING)["place"]


def identity(sample: Sample) -> str:
    """The sample's key if its inputs were just what their parameters say."""

    def key(recipe: object) -> str:
        inputs = {role: key(part) for role, part in recipe.inputs.items()}  # type: ignore[attr-defined]
        outside = recipe.externals  # type: ignore[attr-defined]
        asked = dict(recipe.params)  # type: ignore[attr-defined]
        return key_of(preimage(recipe.stage, 1, {**inputs, **outside}, asked))  # type: ignore[attr-defined]

    return key(sample)


DEFAULTS = {"loss-source-0.1", "refine-1", "range-clip", "guidance-4"}


@pytest.mark.parametrize("name", sorted(methods.shipped().keys() - {"ours"}))
def test_every_method_differs_from_ours_unless_it_names_a_default(name: str) -> None:
    known = methods.shipped()
    same = identity(sample_of(known[name])) == identity(sample_of(known["ours"]))
    assert same == (name in DEFAULTS)


def test_no_two_methods_of_a_group_are_the_same() -> None:
    for group in {m.group for m in methods.shipped().values()}:
        found = [identity(sample_of(m)) for m in methods.shipped().values() if m.group == group]
        assert len(set(found)) == len(found)


def test_tune_a_video_has_the_plain_base_no_depth_and_no_temporal_loss() -> None:
    tuned = sample_of(methods.shipped()["tune-a-video"]).inverted.tuned
    assert (tuned.base, tuned.depth, tuned.temporal_weight) == (SETTING.plain, None, 0)


def test_a_scale_multiplies_what_was_asked_for() -> None:
    tuned = sample_of(methods.shipped()["steps-double"]).inverted.tuned
    assert tuned.steps == 200
    assert sample_of(methods.shipped()["lr-triple"]).inverted.tuned.lr == pytest.approx(3e-4)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[a]\nsays = 'x'\ntune.lrr = 1", "did you mean `lr`"),
        ("[a]\nsays = 'x'\nsampel.eta = 1", "did you mean `sample`"),
        ("[a]\ntune.lr = 1", "does not say what it is"),
        ("[a]\nsays = 'x'\nbase = 'deep'", "neither depth nor plain"),
        ("[a]\nsays = 'x'\ntune.prompt = 'y'", "unknown entry `prompt`"),
        ("[a]\nsays = 'x'\ntune.lr = [1]", "`lr` is"),
        ("[a]\nsays = 'x'\ntune.temporal_target = 'none'", "`temporal_target` is"),
        ("[a]\nsays = 'x'\nscale.lr = 'much'", "`lr` is"),
        ("[a]\nsays = 'x'\nscale.seed = 2", "unknown entry `seed`"),
        ("a = 1", "no table"),
        ("[a", "cannot read"),
    ],
)
def test_a_wrong_methods_file_is_refused_by_entry(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "own.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=named):
        methods.read(path)


def test_a_group_stands_for_its_methods_and_ours_always_comes_first() -> None:
    found = [m.name for m in methods.chosen(["inversion", "blind"], methods.shipped())]
    assert found == ["ours", "refine-0", "refine-1", "refine-3", "blind"]


def test_an_unknown_method_is_a_usage_error_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean `blind`"):
        methods.chosen(["blnd"], methods.shipped())


# The clips.


def test_rendered_cases_are_held_out_and_of_two_things_of_which_one_hides_the_other() -> None:
    for seed in cases.seeds(6):
        assert seed >= 2**40
        scene, layout = course(seed, cases.FRAMES)
        assert len(scene.things) == 2
        owner = render(layout).owner
        shares = [(owner == slot + 1).float().mean(dim=(1, 2)) for slot in range(2)]
        assert min(float(s.min() / s.max()) for s in shares) < 0.9


def test_each_edit_changes_what_it_is_named_for_and_nothing_else(tmp_path: Path) -> None:
    scene, _ = course(cases.seeds(1)[0], 2)
    edits = cases.edited(scene, np.random.default_rng(0))
    assert edits["place"] == replace(scene, place=edits["place"].place)
    assert edits["style"] == replace(scene, style=edits["style"].style)
    for kind, same in (("colours", "shape"), ("kinds", "colour")):
        for before, after in zip(scene.things, edits[kind].things, strict=True):
            assert getattr(before, same) == getattr(after, same)
            assert before != after
    assert {"place", "style", "colours", "kinds"} == edits.keys()


def test_the_same_clips_are_rendered_again_byte_for_byte(tmp_path: Path) -> None:
    first, again = (cases.rendered(1, tmp_path / name)[0] for name in "ab")
    assert first.clip.read_bytes() == again.clip.read_bytes()
    assert first.edits == again.edits


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("{", "line 1"),
        ('{"clip": "no.mp4", "caption": "x", "edits": {"a": "b"}}', "not there"),
        ('{"clip": "c.mp4", "caption": " ", "edits": {"a": "b"}}', "no caption"),
        ('{"clip": "c.mp4", "caption": "x", "edits": {}}', "no edits"),
        ('{"clip": "c.mp4", "caption": "x", "edits": {"a": ""}}', "empty prompt for `a`"),
        ('{"clip": "c.mp4", "caption": "x", "edits": {"a": "b"}, "captoin": 1}', "no object"),
        ("[" * 10**5, "no JSON"),
        ("", "no case"),
    ],
)
def test_a_wrong_cases_file_is_refused_by_line(tmp_path: Path, line: str, named: str) -> None:
    (tmp_path / "c.mp4").touch()
    path = tmp_path / "cases.jsonl"
    path.write_text(line)
    with pytest.raises(InputError, match=named):
        cases.given(path)


def test_two_cases_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "c.mp4").touch()
    line = json.dumps({"clip": "c.mp4", "caption": "x", "edits": {"a": "b"}})
    (tmp_path / "cases.jsonl").write_text(f"{line}\n{line}\n")
    with pytest.raises(InputError, match="two cases"):
        cases.given(tmp_path / "cases.jsonl")


# The judge that comes along.


def test_the_judge_finds_true_renders_right_and_others_wrong() -> None:
    judge = judging.shipped()
    seed = cases.seeds(1)[0]
    scene, layout = course(seed, cases.FRAMES)
    frames = render(layout).image.permute(0, 2, 3, 1)
    for kind, shown in cases.edited(scene, np.random.default_rng(seed)).items():
        wanted = course(seed, cases.FRAMES, shown)[1]
        right = judged(judge, render(wanted).image.permute(0, 2, 3, 1), wanted, kind)
        wrong = judged(judge, frames, wanted, kind)
        assert right["followed"] > 85
        assert wrong["followed"] < 20


# The statistics.


def test_the_mean_of_equal_figures_has_no_width() -> None:
    found = estimate({"a": 2.0, "b": 2.0})
    assert found is not None
    assert (found.mean, found.low, found.high, found.clips) == (2, 2, 2, 2)


def test_nothing_has_no_estimate() -> None:
    assert estimate({}) is None


def test_the_interval_is_that_of_scipys_percentile_bootstrap() -> None:
    from scipy.stats import bootstrap

    values = np.random.default_rng(3).normal(5, 2, 30)
    ours = estimate(dict(zip(map(str, range(30)), map(float, values), strict=True)))
    theirs = bootstrap(
        (values,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert ours is not None
    assert ours.low == pytest.approx(theirs.low, abs=0.05)
    assert ours.high == pytest.approx(theirs.high, abs=0.05)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    draws = (rng.normal(size=24) for _ in range(120))
    found = [estimate({str(i): float(v) for i, v in enumerate(values)}) for values in draws]
    covered = sum(e is not None and e.low <= 0 <= e.high for e in found) / 120
    assert 0.87 <= covered <= 0.99


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.floats(-100, 100), min_size=2),
    st.floats(-50, 50),
)
@settings(max_examples=20, deadline=None)
def test_a_constant_lead_is_a_difference_without_width(
    theirs: dict[str, float], lead: float
) -> None:
    found = difference({name: value + lead for name, value in theirs.items()}, theirs)
    assert found is not None
    assert found.mean == pytest.approx(lead, abs=1e-6)
    assert found.high - found.low < 1e-6


def test_a_difference_is_over_the_clips_that_both_have() -> None:
    found = difference({"a": 3.0, "b": 9.0}, {"a": 1.0, "c": 5.0})
    assert found is not None
    assert (found.mean, found.clips) == (2.0, 1)


# The table.


def rows(method: str, *values: float) -> list[Row]:
    return [
        replace(ROW, case=str(i), method=method, figures={"textual_alignment": value})
        for i, value in enumerate(values)
    ]


def test_the_table_averages_the_edits_of_a_clip_before_the_clips() -> None:
    twice = [*rows("ours", 1.0, 5.0), replace(rows("ours", 3.0)[0], edit="style")]
    (line,) = lines(twice, [methods.shipped()["ours"]])
    assert line.cells["textual_alignment"].value.mean == pytest.approx((2 + 5) / 2)
    assert line.cells["textual_alignment"].ahead is None


def test_the_table_says_how_far_ours_is_ahead_and_marks_what_is_clear() -> None:
    shipped = methods.shipped()
    every = [*rows("ours", 5, 6, 7), *rows("blind", 1, 2, 3), *rows("noise", 6, 5, 7)]
    table = lines(every, [shipped["ours"], shipped["blind"], shipped["noise"]])
    text = markdown(table)
    assert "**+4.0 [+4.0, +4.0]**" in text
    assert table[2].cells["textual_alignment"].ahead is not None
    assert not table[2].cells["textual_alignment"].ahead.clear_of_zero


# The rows that are done.


def test_rows_are_there_again_when_the_file_is_opened_again(tmp_path: Path) -> None:
    Results(tmp_path / "r.jsonl", ZERO).add(ROW)
    assert list(Results(tmp_path / "r.jsonl", ZERO)) == [ROW]
    assert Results(tmp_path / "r.jsonl", ZERO).get("a", "ours", "place", ZERO) == ROW


def test_a_row_of_another_sample_is_not_taken_for_it(tmp_path: Path) -> None:
    Results(tmp_path / "r.jsonl", ZERO).add(ROW)
    assert Results(tmp_path / "r.jsonl", ZERO).get("a", "ours", "place", "1" * 64) is None


def test_a_line_that_was_cut_off_is_done_again_and_any_other_wrong_line_is_told(
    tmp_path: Path,
) -> None:
    path = tmp_path / "r.jsonl"
    Results(path, ZERO).add(ROW)
    whole = path.read_text()
    path.write_text(whole + whole[:40])
    assert list(Results(path, ZERO)) == [ROW]
    path.write_text(whole[:40] + "\n" + whole)
    with pytest.raises(InputError, match="line 1"):
        Results(path, ZERO)


def test_a_row_measured_by_an_older_metric_is_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Results(tmp_path / "r.jsonl", ZERO).add(ROW)
    monkeypatch.setitem(VERSIONS, "eval", 99)
    assert list(Results(tmp_path / "r.jsonl", ZERO)) == []


def test_a_row_measured_by_another_clip_model_is_measured_again(tmp_path: Path) -> None:
    Results(tmp_path / "r.jsonl", ZERO).add(ROW)
    assert list(Results(tmp_path / "r.jsonl", "1" * 64)) == []


# The command.


def test_the_bench_runs_resumes_and_says_the_same_again(dvid: Dvid) -> None:
    asked = ["bench", "quality", "blind", "--clips", "1", "--tuning-steps", "1", "--steps", "2"]
    asked += ["--refine", "0", "-o", "b"]
    first = dvid(*asked, "--json")
    found = [json.loads(line) for line in first.lines]
    assert {line["method"] for line in found} == {"ours", "blind"}
    assert {"followed", "textual_alignment", "motion_fidelity", "depth_agreement"} <= {
        line["figure"] for line in found
    }
    done = Path("b/results.jsonl").read_text()
    assert len(done.splitlines()) == 8
    again = dvid(*asked, "--json")
    assert again.lines == first.lines
    assert Path("b/results.jsonl").read_text() == done
    assert "## Edits of colours" in Path("b/table.md").read_text()
    page = Path("b/index.html").read_text()
    assert all(name in page for name in ("source", "depth", "ours", "blind"))


def test_shards_do_each_clip_once_and_the_whole_then_only_writes_the_tables(dvid: Dvid) -> None:
    asked = ["bench", "quality", "untuned", "--clips", "3", "--steps", "2", "--tuning-steps", "1"]
    asked += ["--refine", "0", "-o", "b"]
    done = []
    for part in ("1/2", "2/2"):
        assert dvid(*asked, "--shard", part).lines == []
        rows = Path("b/results.jsonl").read_text()
        done.append({json.loads(line)["case"] for line in rows.splitlines()})
        assert not Path("b/table.md").exists()
    assert len(done[0]) == 2
    assert done[0] < done[1]
    assert dvid(*asked).lines[1:]
    assert Path("b/results.jsonl").read_text() == rows
    assert "untuned" in Path("b/table.md").read_text()


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (["--shard", "3/2"], 2),
        (["blnd"], 2),
        (["--model", "tiny-t2i"], 2),
        (["tune-a-video", "--plain-model", "tiny"], 2),
        (["--clips", "0"], 2),
        (["--cases", "absent.jsonl"], 3),
        (["--methods-file", "absent.toml"], 3),
    ],
)
def test_a_wrong_bench_is_refused_before_any_work(dvid: Dvid, asked: list[str], code: int) -> None:
    said = dvid("bench", "quality", *asked, "-o", "b", code=code)
    assert "hint" in said.err or code == 3
    assert not Path("b/results.jsonl").exists()
