"""Counting votes: Wilson's interval, Fleiss' kappa, majorities; and files that are refused."""

import json
import math
from collections import Counter
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from dvcli.errors import InputError
from dvcli.report.ballots import Answer, Ballot, read_ballots, read_key
from dvcli.report.study import Key, Pair, Whose
from dvcli.report.votes import fleiss, preferences, side_share, verdicts, wilson

METHODS = ("ours", "tav", "cog")


def key_of(examples: int = 3, methods: tuple[str, ...] = METHODS) -> Key:
    clips = {
        f"c{example}{place}": Whose(method=method, example=f"e{example}", file="x.mp4", sha256="0")
        for example in range(examples)
        for place, method in enumerate(methods)
    }
    pairs = {
        f"p{example}{one}{two}": Pair(
            example=f"e{example}", prompt="a fox", clips=(f"c{example}{one}", f"c{example}{two}")
        )
        for example in range(examples)
        for one, two in combinations(range(len(methods)), 2)
    }
    return Key(seed=0, methods=methods, clips=clips, pairs=pairs)


KEY = key_of()


def answer(pair: str = "p001", question: str = "consistency", side: int = 0) -> Answer:
    clips = KEY.pairs[pair].clips
    return Answer(pair=pair, question=question, first=clips[0], chosen=clips[side], seconds=1.5)


def ballots(*sides: int, pair: str = "p001", question: str = "consistency") -> list[Ballot]:
    """One rater a number: which of the pair's two clips they chose."""
    return [
        Ballot(path=Path(f"{n}.json"), rater=f"r{n}", answers=(answer(pair, question, side),))
        for n, side in enumerate(sides)
    ]


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_the_interval_of_another_implementation(case: tuple[int, int]) -> None:
    reference = binomtest(*case).proportion_ci(0.95, method="wilson")
    assert wilson(*case) == pytest.approx((reference.low, reference.high), abs=1e-12)


@given(st.integers(1, 200), st.floats(0, 1))
def test_wilsons_ends_solve_the_score_equation(n: int, share: float) -> None:
    z = 1.959963984540054
    for p in wilson(share * n, n):
        assert abs(share - p) == pytest.approx(z * math.sqrt(p * (1 - p) / n), abs=1e-7)


@given(st.integers(1, 200), st.floats(0, 1))
def test_wilsons_interval_holds_the_share_and_mirrors(n: int, share: float) -> None:
    low, high = wilson(share * n, n)
    assert 0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1
    assert wilson(n - share * n, n) == pytest.approx((1 - high, 1 - low), abs=1e-9)


def test_kappa_of_the_textbook_example_is_0_210() -> None:
    """Fourteen raters, ten subjects, five categories; https://en.wikipedia.org/wiki/Fleiss'_kappa."""
    counts = [
        [0, 0, 0, 0, 14],
        [0, 2, 6, 4, 2],
        [0, 0, 3, 5, 6],
        [0, 3, 9, 2, 0],
        [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0],
        [3, 2, 6, 3, 0],
        [2, 5, 3, 2, 2],
        [6, 5, 2, 1, 0],
        [0, 2, 2, 3, 7],
    ]
    observed, kappa = fleiss(counts)
    assert observed == pytest.approx(0.378, abs=5e-4)
    assert kappa == pytest.approx(0.210, abs=5e-4)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_with_two_raters_kappa_is_scotts_pi(votes: list[tuple[bool, bool]]) -> None:
    counts = [[one + two, 2 - one - two] for one, two in votes]
    alike = sum(one == two for one, two in votes) / len(votes)
    yes = sum(one + two for one, two in votes) / (2 * len(votes))
    chance = yes**2 + (1 - yes) ** 2
    observed, kappa = fleiss(counts)
    assert observed == pytest.approx(alike)
    if yes in (0, 1):
        assert kappa is None
    else:
        assert kappa == pytest.approx((alike - chance) / (1 - chance))


def test_raters_who_always_agree_have_kappa_1() -> None:
    assert fleiss([[5, 0], [0, 5], [5, 0]]) == (1.0, 1.0)


def test_one_rater_has_no_agreement() -> None:
    assert fleiss([[1, 0], [0, 1]]) == (None, None)


@given(st.lists(st.integers(0, 1), min_size=1, max_size=9))
def test_the_winner_has_more_votes_than_the_other(sides: list[int]) -> None:
    (verdict,) = verdicts(KEY, ballots(*sides))
    counted = Counter(sides)
    assert verdict.votes == (counted[0], counted[1])
    expected = None if counted[0] == counted[1] else METHODS[int(counted[1] > counted[0])]
    assert verdict.winner == expected


@given(st.permutations([0, 0, 0, 1, 1]))
def test_the_order_of_raters_does_not_matter(sides: list[int]) -> None:
    assert verdicts(KEY, ballots(*sides)) == verdicts(KEY, ballots(0, 0, 0, 1, 1))


@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=5), min_size=3, max_size=3))
def test_naming_the_methods_the_other_way_round_mirrors_the_preference(
    votes: list[list[int]],
) -> None:
    cast = [
        ballot
        for example, sides in enumerate(votes)
        for ballot in ballots(*sides, pair=f"p{example}01")
    ]
    turned_key = replace(KEY, methods=("tav", "ours", "cog"))
    (row,) = preferences(KEY, verdicts(KEY, cast))
    (turned,) = preferences(turned_key, verdicts(turned_key, cast))
    assert row.methods == turned.methods[::-1]
    assert (row.won, row.tied, row.lost) == (turned.lost, turned.tied, turned.won)
    assert row.preference == pytest.approx(1 - turned.preference)
    assert (row.low, row.high) == pytest.approx((1 - turned.high, 1 - turned.low))


def test_a_tie_counts_as_half() -> None:
    cast = ballots(0, 1, pair="p001") + ballots(0, pair="p101") + ballots(1, 1, 0, pair="p201")
    (row,) = preferences(KEY, verdicts(KEY, cast))
    assert (row.examples, row.won, row.tied, row.lost) == (3, 1, 1, 1)
    assert row.preference == 0.5
    assert (row.low, row.high) == wilson(1.5, 3)
    assert row.votes == 3 / 6
    assert row.raters == (1, 3)


def test_each_question_and_pair_of_methods_has_its_own_row() -> None:
    cast = [
        *ballots(0, pair="p001"),
        *ballots(1, pair="p002", question="alignment"),
        *ballots(0, pair="p112", question="alignment"),
    ]
    rows = preferences(KEY, verdicts(KEY, cast))
    assert [(row.question, row.methods, row.won) for row in rows] == [
        ("consistency", ("ours", "tav"), 1),
        ("alignment", ("ours", "cog"), 0),
        ("alignment", ("tav", "cog"), 1),
    ]


def test_the_share_of_clip_1_is_by_what_was_shown_first() -> None:
    assert side_share(ballots(0, 0, 0, 1)) == 0.75


def write_answers(path: Path, **changes: object) -> Path:
    entry = {
        "pair": "p001",
        "question": "consistency",
        "first": "c00",
        "chosen": "c01",
        "seconds": 2,
    }
    whole = {"schema": 1, "kind": "study answers", "study": KEY.study, "rater": "Ada"}
    path.write_text(json.dumps({**whole, "answers": [entry], **changes}))
    return path


def entry(**changes: object) -> dict[str, object]:
    plain = {
        "pair": "p001",
        "question": "consistency",
        "first": "c00",
        "chosen": "c01",
        "seconds": 2,
    }
    return {**plain, **changes}


def test_a_file_of_answers_is_read_as_it_was_saved(tmp_path: Path) -> None:
    (ballot,) = read_ballots([write_answers(tmp_path / "a.json")], KEY)
    assert ballot.rater == "Ada"
    assert ballot.answers == (replace(answer(side=1), seconds=2),)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"study": "0123456789abcdef"}, "answers the study `0123456789abcdef`, not"),
        ({"kind": "study key"}, "is not a file that the study's page saved"),
        ({"schema": 2}, "has the format 2"),
        ({"rater": " "}, "names no rater"),
        ({"rater": 3}, "names no rater"),
        ({"answers": []}, "holds no answers"),
        ({"answers": {"a": 1}}, "holds no answers"),
        ({"answers": [entry(), entry(pair="p9")]}, "answer 2: there is no pair `p9`"),
        ({"answers": [entry(question="beauty")]}, "answer 1: there is no question `beauty`"),
        ({"answers": [entry(chosen="c02")]}, "answer 1: the clip `c02` is not of the pair `p001`"),
        ({"answers": [entry(first="x")]}, "answer 1: the clip `x` is not of the pair `p001`"),
        ({"answers": [entry(), entry()]}, "answer 2: `p001` has an answer on `consistency`"),
        ({"answers": [entry(seconds="long")]}, "answer 1: `answer 1.seconds` is"),
        ({"answers": [entry(seconds=-1)]}, "answer 1: nobody takes -1 seconds"),
        ({"answers": [entry(seconds=math.nan)]}, "answer 1: nobody takes nan seconds"),
        ({"answers": [entry(), entry(seconds=math.inf)]}, "answer 2: nobody takes inf seconds"),
        ({"answers": [entry(mood=1)]}, "has the unknown field `mood`"),
        ({"answers": [3]}, "answer 1: answer 1 is 3"),
    ],
)
def test_a_file_that_is_no_answer_to_this_study_is_refused_by_name(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    path = write_answers(tmp_path / "bad.json", **changes)
    with pytest.raises(InputError) as refused:
        read_ballots([path], KEY)
    assert f"`{path}`" in refused.value.message
    assert said in refused.value.message


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", b"[" * 100_000])
def test_what_is_no_json_object_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.json"):
        read_ballots([path], KEY)


def test_two_files_of_one_rater_are_refused_whatever_the_case(tmp_path: Path) -> None:
    one = write_answers(tmp_path / "a.json")
    two = write_answers(tmp_path / "b.json", rater=" ADA")
    with pytest.raises(InputError, match=r"`.*a\.json` and `.*b\.json` are both of the rater"):
        read_ballots([one, two], KEY)


def test_a_key_comes_back_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "study.key.json"
    path.write_text(KEY.text())
    assert read_key(path) == KEY


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"method": "tav"', '"method": "ours"', "has been changed since"),
        ('"seed": 0', '"seed": 1', "has been changed since"),
        ('"seed"', '"sead"', "is no whole key"),
        ('"sha256"', '"sha"', "is no whole key"),
        ('"study key"', '"study answers"', "is not the key that"),
    ],
)
def test_a_key_that_was_changed_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = tmp_path / "study.key.json"
    text = KEY.text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=said):
        read_key(path)
