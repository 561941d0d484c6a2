"""The benchmark: what it compares, on what, and how sure its table is."""

import json
from collections.abc import Iterable
from dataclasses import fields, replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from program import Dvid
from rich.console import Console
from torch import Tensor

from dvcli.bench import cases, methods
from dvcli.bench.methods import Method
from dvcli.bench.results import VERSIONS, Results
from dvcli.bench.statistics import Estimate, difference, estimate, share, student
from dvcli.bench.table import Cell, Line, lines, markdown
from dvcli.bench.trial import Row, Setting, judged, recipes
from dvcli.bundled.train import judging
from dvcli.bundled.world.clips import course
from dvcli.bundled.world.layout import SLOTS, Layout
from dvcli.bundled.world.render import render
from dvcli.bundled.world.words import parse
from dvcli.cli.bench import drawn
from dvcli.errors import InputError, UsageError
from dvcli.recipes import Base, Extract, Judged, Sample
from dvcli.store.keys import key_of, preimage
from dvcli.video.read import read

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
    name="bear",
    clip=Path("bear.mp4"),
    caption="a bear",
    edits={"place": "a bear on snow"},
    answers={"place": Path("snow.webp")},
)
FILES = {Path("bear.mp4"): ZERO, Path("snow.webp"): "1" * 64}
JUDGES = {"clip_model": ZERO, "estimator": ZERO}
ROW = Row(
    case="a", edit="place", method="ours", prompt="x", key=ZERO, figures={"textual_alignment": 1.0}
)


def sample_of(method: Method) -> Sample:
    found = recipes(CASE, FILES, method, SETTING)["place"]
    assert isinstance(found, Sample)
    return found


def identity(shown: Judged) -> str:
    """The recipe's key if its inputs were just what their parameters say."""

    def key(recipe: object) -> str:
        inputs = {role: key(part) for role, part in recipe.inputs.items()}  # type: ignore[attr-defined]
        outside = recipe.externals  # type: ignore[attr-defined]
        asked = dict(recipe.params)  # type: ignore[attr-defined]
        return key_of(preimage(recipe.stage, 1, {**inputs, **outside}, asked))  # type: ignore[attr-defined]

    return key(shown)


def identity_of(method: Method) -> str:
    return identity(recipes(CASE, FILES, method, SETTING)["place"])


DEFAULTS = {"loss-source-0.1", "refine-1", "range-clip", "guidance-4"}


@pytest.mark.parametrize("name", sorted(methods.shipped().keys() - {"ours"}))
def test_every_method_differs_from_ours_unless_it_names_a_default(name: str) -> None:
    known = methods.shipped()
    same = identity_of(known[name]) == identity_of(known["ours"])
    assert same == (name in DEFAULTS)


def test_no_two_methods_of_a_group_are_the_same() -> None:
    for group in {m.group for m in methods.shipped().values()}:
        found = [identity_of(m) for m in methods.shipped().values() if m.group == group]
        assert len(set(found)) == len(found)


def test_the_source_is_measured_as_it_is_and_the_truth_as_rendered() -> None:
    known = methods.shipped()
    source, truth = (recipes(CASE, FILES, known[name], SETTING) for name in ("source", "truth"))
    assert source == {"place": Extract(clip=ZERO, frames=8, size=(64, 64))}
    assert truth == {"place": Extract(clip="1" * 64, frames=8, size=(64, 64))}


def test_there_is_no_truth_of_a_case_that_has_none() -> None:
    with pytest.raises(UsageError, match="nobody knows the truth of `bear`"):
        recipes(replace(CASE, answers={}), FILES, methods.shipped()["truth"], SETTING)


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
        ("[a]\nsays = 'x'\nclip = 'mine'", "none of made, source, truth"),
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
        scene, layout = course(seed, 8)
        assert len(scene.things) == 2
        front = render(replace(layout, count=torch.ones_like(layout.count))).owner == 1
        both = render(layout).owner
        assert torch.equal(both == 1, front)  # all of the front thing is seen in every frame
        hidden = 1 - (both == 2).sum(dim=(1, 2)) / unhidden(layout)
        assert hidden.min() < 0.02  # of the rear thing in some frame
        assert hidden.max() > 0.15  # of it where they pass


def unhidden(layout: Layout) -> Tensor:
    """Pixels of the rear thing in each frame if the front thing were not there."""
    turned = {
        f.name: getattr(layout, f.name)[:, [1, 0, *range(2, SLOTS)]]
        for f in fields(Layout)
        if getattr(layout, f.name).ndim > 1 and getattr(layout, f.name).shape[1] == SLOTS
    }
    alone = replace(layout, **turned, count=torch.ones_like(layout.count))
    return (render(alone).owner == 1).sum(dim=(1, 2))


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
    first, again = (cases.rendered(1, tmp_path / name, 8)[0] for name in "ab")
    assert [f.read_bytes() for f in first.files] == [f.read_bytes() for f in again.files]
    assert first.edits == again.edits


def test_bare_prompts_say_a_place_only_where_it_is_what_changes(tmp_path: Path) -> None:
    (full,), (bare,) = (cases.rendered(1, tmp_path, 2, bare=bare) for bare in (False, True))
    assert parse(full.caption).place is not None
    assert parse(bare.caption) == replace(parse(full.caption), place=None)
    for kind, prompt in bare.edits.items():
        wanted = parse(full.edits[kind])
        assert parse(prompt) == (wanted if kind == "place" else replace(wanted, place=None))


def test_the_answers_are_the_edits_truly_rendered(tmp_path: Path) -> None:
    (case,) = cases.rendered(1, tmp_path, 3)
    for kind, layout in case.truth.items():
        got = read(case.answers[kind], frames=None, size=None, fit="crop").frames
        assert np.array_equal(got, render(layout).image.permute(0, 2, 3, 1).numpy())


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
    scene, layout = course(seed, 8)
    frames = render(layout).image.permute(0, 2, 3, 1)
    for kind, shown in cases.edited(scene, np.random.default_rng(seed)).items():
        wanted = course(seed, 8, shown)[1]
        right = judged(judge, render(wanted).image.permute(0, 2, 3, 1), wanted, kind)
        wrong = judged(judge, frames, wanted, kind)
        assert right["followed"] > 85
        assert wrong["followed"] < 20


def test_the_judge_sees_a_larger_picture_as_it_sees_the_small_one() -> None:
    judge = judging.shipped()
    layout = course(cases.seeds(1)[0], 8)[1]
    small = render(layout).image.permute(0, 2, 3, 1)
    large = small.repeat_interleave(8, dim=1).repeat_interleave(8, dim=2)
    assert judged(judge, large, layout, "colours") == judged(judge, small, layout, "colours")


# The statistics.


def test_the_mean_of_equal_figures_has_no_width() -> None:
    found = estimate(dict.fromkeys("abcde", 2.0))
    assert found is not None
    assert (found.mean, found.interval, found.clips) == (2, (2, 2), 5)


def test_nothing_has_no_estimate() -> None:
    assert estimate({}) is None


def numbered(values: Iterable[float]) -> dict[str, float]:
    return {str(i): float(value) for i, value in enumerate(values)}


def test_the_interval_is_scipys_percentile_bootstrap_expanded_as_hesterberg_has_it() -> None:
    from scipy.stats import bootstrap, norm, t

    values = np.random.default_rng(3).normal(5, 2, 12)
    ours = estimate(numbered(values))
    tail = norm.cdf(-np.sqrt(12 / 11) * t.ppf(0.975, 11))
    theirs = bootstrap(
        (values,),
        np.mean,
        n_resamples=40_000,
        confidence_level=1 - 2 * tail,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert ours is not None
    assert ours.interval == pytest.approx((theirs.low, theirs.high), abs=0.08)


@pytest.mark.parametrize("freedom", [4, 7, 23, 100])
def test_students_t_is_that_of_scipy_within_one_percent(freedom: int) -> None:
    from scipy.stats import t

    assert student(freedom) == pytest.approx(t.ppf(0.975, freedom), rel=0.01)


@pytest.mark.parametrize(("clips", "least"), [(6, 0.90), (24, 0.92)])
def test_the_interval_covers_the_truth_as_often_as_it_says(clips: int, least: float) -> None:
    rng = np.random.default_rng(0)
    found = [estimate(numbered(rng.normal(size=clips))) for _ in range(400)]
    covered = sum(e is not None and e.interval[0] <= 0 <= e.interval[1] for e in found) / 400  # type: ignore[index]
    assert least <= covered <= 0.98


def test_few_clips_have_a_mean_and_no_interval_and_nothing_is_clear() -> None:
    found = estimate(numbered([70.0, 71.0, 72.0, 73.0]))
    assert found is not None
    assert (found.mean, found.interval, found.clear_of_zero) == (71.5, None, False)


@pytest.mark.parametrize("right", [0, 21, 24])
def test_a_share_of_clips_has_wilsons_interval(right: int) -> None:
    from scipy.stats import binomtest

    found = share(numbered([100.0] * right + [0.0] * (24 - right)))
    wanted = binomtest(right, 24).proportion_ci(method="wilson")
    assert found is not None
    assert found.interval == pytest.approx((100 * wanted.low, 100 * wanted.high))


def test_a_share_of_frames_has_the_bootstraps_interval() -> None:
    values = numbered([100.0, 50.0, 75.0, 25.0, 100.0, 0.0])
    assert share(values) == estimate(values)


@given(
    st.dictionaries(st.sampled_from("abcdefg"), st.floats(-100, 100), min_size=5),
    st.floats(-50, 50),
)
@settings(max_examples=20, deadline=None)
def test_a_constant_lead_is_a_difference_without_width(
    theirs: dict[str, float], lead: float
) -> None:
    found = difference({name: value + lead for name, value in theirs.items()}, theirs)
    assert found is not None
    assert found.mean == pytest.approx(lead, abs=1e-6)
    assert found.interval == pytest.approx((lead, lead), abs=1e-6)


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
    every = [*rows("ours", 5, 6, 7, 8, 9), *rows("blind", 1, 2, 3, 4, 5)]
    every += rows("noise", 6, 5, 7, 8, 9)
    table = lines(every, [shipped["ours"], shipped["blind"], shipped["noise"]])
    text = markdown(table)
    assert "**+4.0 [+4.0, +4.0]**" in text
    assert table[2].cells["textual_alignment"].ahead is not None
    assert not table[2].cells["textual_alignment"].ahead.clear_of_zero


def test_a_difference_is_over_the_edits_of_a_clip_that_both_have() -> None:
    easy, hard = rows("ours", 9, 9, 9, 9, 9), rows("ours", 1, 1, 1, 1, 1)
    every = [*easy, *(replace(row, edit="style") for row in hard)]
    every += rows("blind", 9, 9, 9, 9, 9)
    table = lines(every, [methods.shipped()["ours"], methods.shipped()["blind"]])
    ahead = table[1].cells["textual_alignment"].ahead
    assert ahead is not None
    assert (ahead.mean, ahead.clips) == (0, 5)


# The rows that are done.


def test_rows_are_there_again_when_the_file_is_opened_again(tmp_path: Path) -> None:
    row = replace(ROW, prompt="a bear\u2028on snow")
    Results(tmp_path / "r.jsonl", JUDGES).add(row)
    Results(tmp_path / "r.jsonl", JUDGES).add(replace(row, edit="style"))
    again = Results(tmp_path / "r.jsonl", JUDGES)
    assert list(again) == [row, replace(row, edit="style")]
    assert again.get("a", "ours", "place", ZERO) == row


def test_a_row_of_another_sample_is_not_taken_for_it(tmp_path: Path) -> None:
    Results(tmp_path / "r.jsonl", JUDGES).add(ROW)
    assert Results(tmp_path / "r.jsonl", JUDGES).get("a", "ours", "place", "1" * 64) is None


@pytest.mark.parametrize("cut", [1, 40, -2])
def test_a_row_that_was_cut_off_is_done_again_and_costs_no_other(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "r.jsonl"
    Results(path, JUDGES).add(ROW)
    whole = path.read_text()
    path.write_text(whole + whole[:cut])
    resumed = Results(path, JUDGES)
    assert list(resumed) == [ROW]
    others = [replace(ROW, edit="style"), replace(ROW, edit="kinds")]
    for row in others:
        resumed.add(row)
    assert list(Results(path, JUDGES)) == [ROW, *others]


@pytest.mark.parametrize("line", ["[1]", '{"case": "a"}', "rows"])
def test_a_line_that_is_no_row_is_told_by_number(tmp_path: Path, line: str) -> None:
    path = tmp_path / "r.jsonl"
    Results(path, JUDGES).add(ROW)
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(InputError, match="line 2"):
        Results(path, JUDGES)


def test_a_row_measured_by_an_older_metric_is_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Results(tmp_path / "r.jsonl", JUDGES).add(ROW)
    monkeypatch.setitem(VERSIONS, "eval", 99)
    assert list(Results(tmp_path / "r.jsonl", JUDGES)) == []


@pytest.mark.parametrize("judge", sorted(JUDGES))
def test_a_row_measured_by_another_judge_is_measured_again(tmp_path: Path, judge: str) -> None:
    Results(tmp_path / "r.jsonl", JUDGES).add(ROW)
    assert list(Results(tmp_path / "r.jsonl", JUDGES | {judge: "1" * 64})) == []


# The command.


def test_a_terminal_shows_each_mean_over_its_interval() -> None:
    cell = Cell(value=Estimate(mean=67.84, interval=(66.9, 68.75), clips=24), ahead=None)
    alone = Cell(value=Estimate(mean=5.04, interval=None, clips=1), ahead=None)
    cells = {"textual_alignment": cell, "motion_fidelity": alone}
    table = [Line(method=Method(name="ours", says="as it is"), cells=cells)]
    shown = StringIO()
    Console(file=shown, width=60).print(drawn(table))
    rows = [line.strip()[1:-1].split("│") for line in shown.getvalue().splitlines() if "│" in line]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["ours", "67.8", "5.0"],
        ["", "[66.9, 68.8]", ""],
    ]


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
    ("asked", "code", "told"),
    [
        (["--shard", "3/2"], 2, "--shard"),
        (["blnd"], 2, "did you mean `blind`"),
        (["--model", "tiny-t2i"], 2, "takes no depth"),
        (["tune-a-video", "--plain-model", "tiny"], 2, "takes depth"),
        (["--clips", "0"], 2, "--clips"),
        (["--frames", "0"], 2, "--frames"),
        (["--bare", "--cases", "mine.jsonl"], 2, "`--bare`"),
        (["truth", "--cases", "mine.jsonl"], 2, "`truth`: nobody knows"),
        (["wild", "--methods-file", "wild.toml"], 2, "the method `wild`: "),
        (["--cases", "absent.jsonl"], 3, "absent.jsonl"),
        (["--methods-file", "absent.toml"], 3, "absent.toml"),
    ],
)
def test_a_wrong_bench_is_refused_before_any_work(
    dvid: Dvid, asked: list[str], code: int, told: str
) -> None:
    image = Image.new("RGB", (64, 64))
    image.save("c.webp", save_all=True, append_images=[Image.new("RGB", (64, 64), "red")] * 7)
    Path("mine.jsonl").write_text('{"clip": "c.webp", "caption": "x", "edits": {"a": "b"}}')
    Path("wild.toml").write_text("[wild]\nsays = 'much'\nsample.guidance = 1000")
    said = dvid("bench", "quality", *asked, "-o", "b", code=code)
    assert told in said.err
    assert not Path("b/results.jsonl").exists()
