"""A prompts file: lines with switches, objects, what each takes from the command; and shards."""

import json
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from program import Dvid, process

from dvcli.cli.prompts import Wish, gather, read_prompts
from dvcli.cli.shard import Shard, parse
from dvcli.cli.switches import Switches, read_line
from dvcli.errors import InputError, UsageError


def wishes(text: str, name: str = "prompts.txt") -> list[Wish]:
    Path(name).write_text(text, encoding="utf-8")
    return gather([], name, styles=["animation"], negative="blue", seeds=[7])


@pytest.mark.parametrize(
    ("line", "words", "switches"),
    [
        ("a red fox", "a red fox", {}),
        ("it's 5 o'clock", "it's 5 o'clock", {}),
        ("a fox -- and a bear", "a fox -- and a bear", {}),
        ("a fox - a bear --seed 3", "a fox - a bear", {"seed": (3,)}),
        ('it\'s red --negative "snow, ice"', "it's red", {"negative": "snow, ice"}),
        ("a fox --style=x --seed 1 --seed 2", "a fox", {"style": ("x",), "seed": (1, 2)}),
        ("--guidance 7.5 -- a fox --style it", "a fox --style it", {"guidance": 7.5}),
        ("-- --style is a word", "--style is a word", {}),
        ('"a fox --seed 3" --eta 1', "a fox --seed 3", {"eta": 1.0}),
        ('"a fox"', "a fox", {}),
        ('"a" and "b"', '"a" and "b"', {}),
        ("a fox --from-noise --strength .5", "a fox", {"from_noise": True, "strength": 0.5}),
        ("a fox --fast --reuse 3", "a fox", {"fast": True, "reuse": 3}),
        ("a fox --depth_gain -0.5", "a fox", {"depth_gain": -0.5}),
        ("a fox --negative ''", "a fox", {"negative": ""}),
        ("a fox --name 'my fox'", "a fox", {"name": "my fox"}),
    ],
)  # fmt: skip
def test_a_line_is_a_prompt_and_its_switches(
    line: str, words: str, switches: dict[str, object]
) -> None:
    assert read_line(line) == (words, Switches(**switches))  # type: ignore[arg-type]


@given(st.text(min_size=1).map(str.strip).filter(bool))
def test_after_two_dashes_any_words_are_the_prompt(words: str) -> None:
    assert read_line(f"-- {words}") == (words, Switches())
    if words[0] not in "\"'" and "--" not in words:
        assert read_line(words) == (words, Switches())


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("a fox --stile animation", "did you mean `--style`"),
        ("a fox --seed three", "`--seed` is 'three', which is not a whole number"),
        ("a fox --guidance nan", "not a number"),
        ("a fox --reuse 1.5", "not a whole number"),
        ("a fox --fast=1", "takes no value"),
        ("a fox --guidance", "has no value"),
        ("a fox --from-noise=1", "takes no value"),
        ("a fox --guidance 1 --guidance 2", "is there 2 times"),
        ("a fox --style 'animation", "no closing quotation"),
        ("--style animation a fox", "stands between switches"),
        ("a fox --seed 1 -- a bear", "before the switches and after"),
        ("--seed 1", "there is no prompt"),
        ("a fox --style animaton", "did you mean `animation`"),
        ("a fox --run bikes", "no switch `--run`"),
    ],
)
def test_a_wrong_line_is_refused_with_its_number(line: str, says: str) -> None:
    with pytest.raises(InputError, match=r"line 3 of `prompts\.txt`") as refused:
        wishes(f"a bear\n# --nothing\n{line}\n")
    assert says in refused.value.message


def test_a_line_takes_over_what_it_does_not_say() -> None:
    first, second = wishes("a fox\na bear --style impressionism --negative snow --seed 3 --eta 1\n")
    assert (first.style, first.negative, first.seed) == ("animation", "blue", 7)
    assert (second.style, second.negative, second.seed) == ("impressionism", "snow", 3)
    assert second.switches == Switches(eta=1.0)


def test_objects_say_the_same_as_lines() -> None:
    line = 'a fox --style impressionism --seed 3 --seed 4 --negative "snow, ice" --depth-gain 0.5'
    found = {
        "prompt": "a fox",
        "style": "impressionism",
        "seed": [3, 4],
        "negative": "snow, ice",
        "depth-gain": 0.5,
        "name": None,
    }
    assert wishes(json.dumps(found), "prompts.jsonl") == wishes(line)
    assert wishes('"a fox"', "prompts.jsonl") == wishes("a fox")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"prompt": "a fox", "gidance": 3}', "did you mean `guidance`"),
        ('{"prompt": "a fox", "guidance": true}', "not a number"),
        ('{"prompt": "a fox", "seed": 1.5}', "not a whole number"),
        ('{"prompt": "a fox", "seed": []}', "empty list"),
        ('{"prompt": "a fox", "seed": 1, "seed": 2}', "there twice"),
        ('{"prompt": "a fox", "style": 3}', "not text"),
        ('{"prompt": 3}', "no text"),
        ('{"style": "animation"}', "has no prompt"),
        ('{"prompt": " "}', "there is no prompt"),
        ('["a fox"]', "no JSON object"),
        ("{", "no JSON"),
        ("[" * 9000, "no JSON"),
        ('{"prompt": "a fox", "eta": NaN}', "no JSON"),
        ('{"prompt": "half \\ud800"}', "half a character"),
        ('{"prompt": "a\\u0000fox"}', "prompt"),
    ],
)
def test_a_wrong_object_is_refused_with_its_number(line: str, says: str) -> None:
    with pytest.raises(InputError, match=r"line 2 of `prompts\.jsonl`") as refused:
        wishes(f'{{"prompt": "a bear"}}\n{line}\n', "prompts.jsonl")
    assert says in refused.value.message


def test_every_option_of_sample_is_a_switch_or_is_of_the_whole_command() -> None:
    import typer

    from dvcli.cli.app import app
    from dvcli.cli.groups import Delivery
    from dvcli.cli.method import OtherModel
    from dvcli.cli.session import Session

    options = {p.name for p in typer.main.get_command(app).commands["sample"].params}  # type: ignore[attr-defined]
    whole = {f.name for group in (Session, Delivery, OtherModel) for f in fields(group)}
    whole |= {"run", "run_option", "prompt", "prompts_file", "steps", "base", "shard", "help"}
    assert {f.name for f in fields(Switches)} - {"name"} == options - whole


def test_lines_of_a_file_become_samples_of_their_own(tuned: Path, dvid: Dvid) -> None:
    Path("prompts.txt").write_text(
        "a fox --name first\na bear --style animation --guidance 2\na cat --eta 1 --seed 3\n"
        "a man --depth-gain 0.5 --strength 0.5\n"
    )
    made = [json.loads(line) for line in dvid("sample", "-f", "prompts.txt", "--json", "-q").lines]
    assert Path(made[0]["path"]).name.startswith("first-")
    assert [one["style"] for one in made] == [None, "animation", None, None]
    assert [one["seed"] for one in made] == [None, None, 3, None]
    alone = dvid("sample", "-p", "a bear", "-s", "animation", "--guidance", "2", "-q").lines
    assert alone == [made[1]["path"]]
    alone = dvid("sample", "-p", "a man", "--depth-gain", "0.5", "--strength", "0.5", "-q").lines
    assert alone == [made[3]["path"]]


def test_a_plain_sample_stays_after_one_that_kept_the_trajectory(tuned: Path, dvid: Dvid) -> None:
    before = dvid("sample", "-p", "a fox", "-q").lines
    dvid("sample", "-p", "a bear", "--strength", "0.5", "-q")
    assert dvid("sample", "-p", "a fox", "-q").lines == before


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("a fox --guidance 500", "`--guidance` is `500`"),
        ("a fox --seed 1 --seed 2", "several seeds"),
        ("a fox --depth-blend 0.5", "a depth blend takes both"),
    ],
)
def test_a_wrong_value_on_a_line_is_refused_before_work(
    line: str, says: str, tuned: Path, dvid: Dvid
) -> None:
    Path("p.txt").write_text(f"a bear\n{line}\n")
    said = dvid("sample", "-f", "p.txt", code=3)
    assert "line 2 of `p.txt`" in said.err
    assert says in said.err
    assert not Path("out").exists()


def test_standard_input_takes_switches_too(tuned: Path) -> None:
    said = process("sample", "-f", "-", "-q", "-n", stdin="a fox --style animation\n")
    assert said.lines[-1].startswith("sample\tmiss")


@given(st.integers(1, 12), st.lists(st.integers(), max_size=40))
def test_every_job_is_in_exactly_one_shard(count: int, jobs: list[int]) -> None:
    numbered = list(enumerate(jobs))
    parts = [Shard(index=i, count=count).of(numbered) for i in range(1, count + 1)]
    assert sorted(job for part in parts for job in part) == numbered
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(
    "text", ["0/4", "5/4", "1/0", "4", "1/2/3", "a/b", "-1/4", "", "1/9999999"]
)
def test_what_is_no_shard_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        parse(text)


def test_shards_of_sample_share_the_prompts(tuned: Path, dvid: Dvid) -> None:
    Path("p.txt").write_text("a fox\na bear\na cat\n")
    parts = [dvid("sample", "-f", "p.txt", "--shard", f"{i}/2", "-q").lines for i in (1, 2)]
    assert [len(part) for part in parts] == [2, 1]
    whole = dvid("sample", "-f", "p.txt", "-q").lines
    assert whole == [parts[0][0], parts[1][0], parts[0][1]]
    assert "no prompt in it" in dvid("sample", "-p", "a fox", "--shard", "2/2").err


def test_the_prompts_of_a_file_know_their_places() -> None:
    Path("p.txt").write_text("\ufeffa fox\r\n\r\na bear\r\n", encoding="utf-8")
    assert [one.place for one in read_prompts("p.txt")] == [
        "line 1 of `p.txt`",
        "line 3 of `p.txt`",
    ]
