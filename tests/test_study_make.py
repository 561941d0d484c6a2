"""`dvid study`: what is matched with what, blindness, the same bytes again, files and scores."""

import base64
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import combinations
from operator import itemgetter
from pathlib import Path

import pytest
from films import ZERO, film, sample, two_methods
from program import Dvid

from dvcli.cli.examples import Found, Match, Origin, match
from dvcli.errors import InputError
from dvcli.recipes import Depth, Extract
from dvcli.report.study import Example, Key, Pair, Take, blind

ONE, TWO = Origin(clip="1" * 64, seed=0), Origin(clip="1" * 64, seed=7)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("films")


@pytest.fixture(autouse=True)
def shared(home: Path, films: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One cache for the module, in which its few small clips are decoded once."""
    monkeypatch.setenv("DVID_CACHE_DIR", str(films))


def clip(method: str, name: str, prompt: str | None = None, origin: Origin | None = None) -> Found:
    return Found(
        method=method, path=Path(method, name + ".mp4"), name=name, prompt=prompt, origin=origin
    )


def files(found: list[Match]) -> list[list[str]]:
    return [[str(clip.path) for clip in example.clips] for example in found]


def test_clips_of_one_name_belong_together() -> None:
    found, notes = match([clip("a", "x", "p"), clip("a", "y", "q"), clip("b", "y"), clip("b", "x")])
    assert files(found) == [["a/x.mp4", "b/x.mp4"], ["a/y.mp4", "b/y.mp4"]]
    assert [example.prompt for example in found] == ["p", "q"]
    assert notes == []


def test_clips_of_other_names_belong_together_by_prompt() -> None:
    found, notes = match([clip("a", "x-1", "p"), clip("b", "x-2", "p"), clip("b", "y", "q")])
    assert files(found) == [["a/x-1.mp4", "b/x-2.mp4"]]
    assert notes == ["`b/y.mp4` is left out: no other method has a clip of its name or prompt"]


def test_clips_of_one_prompt_belong_together_by_source_and_seed() -> None:
    found, notes = match(
        [
            clip("a", "x-1", "p", ONE),
            clip("a", "x-2", "p", TWO),
            clip("b", "x-3", "p", TWO),
            clip("b", "x-4", "p", ONE),
        ]
    )
    assert files(found) == [["a/x-1.mp4", "b/x-4.mp4"], ["a/x-2.mp4", "b/x-3.mp4"]]
    assert notes == []


def test_another_seed_does_not_keep_the_only_clips_of_a_prompt_apart() -> None:
    found, _ = match([clip("a", "x-1", "p", ONE), clip("b", "x-2", "p", TWO)])
    assert files(found) == [["a/x-1.mp4", "b/x-2.mp4"]]


def test_a_third_method_joins_by_prompt_those_that_are_matched_by_name() -> None:
    found, notes = match([clip("a", "x", "p"), clip("b", "x", "p"), clip("c", "x-9", "p")])
    assert files(found) == [["a/x.mp4", "b/x.mp4", "c/x-9.mp4"]]
    assert notes == []


def test_an_example_without_one_method_is_used_and_said() -> None:
    found, notes = match(
        [clip("a", "x", "p"), clip("b", "x"), clip("a", "y", "q"), clip("b", "y"), clip("c", "y")]
    )
    assert files(found)[0] == ["a/x.mp4", "b/x.mp4"]
    assert notes == ["`a/x.mp4` has no counterpart in `c`"]


def test_several_clips_of_one_prompt_are_left_out_and_said() -> None:
    found, notes = match([clip("a", "x-1", "p"), clip("a", "x-2", "p"), clip("b", "y", "p")])
    assert found == []
    assert len(notes) == 3
    assert all("several clips have its prompt" in note for note in notes)


def test_the_same_stem_in_other_folders_is_no_match_under_another_prompt() -> None:
    found, notes = match([clip("a", "bear/style", "p"), clip("b", "car/style", "q")])
    assert found == []
    assert len(notes) == 2


def test_clips_of_one_name_with_two_prompts_are_refused() -> None:
    with pytest.raises(InputError, match=r"`a/x\.mp4` should show `p` and `b/x\.mp4` `q`"):
        match([clip("a", "x", "p"), clip("b", "x", "q")])


def test_a_match_of_which_nothing_says_the_prompt_is_refused() -> None:
    with pytest.raises(InputError, match=r"nothing says what `a/x\.mp4` should show"):
        match([clip("a", "x"), clip("b", "x")])


def test_the_page_and_its_key_are_written_side_by_side(dvid: Dvid) -> None:
    said = dvid("study", "make", *two_methods(), "-o", "sent/study.html", "--json")
    (made,) = map(json.loads, said.lines)
    key = json.loads(Path("sent/study.key.json").read_text())
    assert made["schema"] == 1
    assert (made["path"], made["key"]) == ("sent/study.html", "sent/study.key.json")
    assert (made["pairs"], made["methods"]) == (3, ["alpha", "beta"])
    assert key["study"] == made["study"]
    assert f'"id": "{made["study"]}"' in Path("sent/study.html").read_text()
    assert sorted(p.name for p in Path("sent").iterdir()) == ["study.html", "study.key.json"]


def test_nothing_in_the_page_or_its_clips_says_whose_they_are(dvid: Dvid) -> None:
    film(Path("one/a-1.mp4"), 40, recipe=sample("a fox"))
    film(Path("two/a-2.mp4"), 90, recipe=sample("a fox", tuning=5))
    dvid("study", "make", "alpha=one", "beta=two")
    page = Path("study.html").read_bytes()
    clips = re.findall(rb'<script type="text/plain" id="c\d">([^<]+)</script>', page)
    assert len(clips) == 2
    for data in (page, *map(base64.b64decode, clips)):
        assert not re.search(rb"alpha|beta|a-1|a-2|\bone\b/|two/|dvid|recipe", data, re.IGNORECASE)
    assert not re.search(rb"https?:", page)


def test_the_same_command_writes_the_same_bytes_from_scratch(dvid: Dvid) -> None:
    words = two_methods(("fox",))
    dvid("study", "make", *words, "-o", "a.html", "--seed", "5", "--no-cache")
    dvid("study", "make", *words, "-o", "b.html", "--seed", "5", "--no-cache")
    assert Path("a.html").read_bytes() == Path("b.html").read_bytes()
    assert Path("a.key.json").read_bytes() == Path("b.key.json").read_bytes()


def takes(folder: Path, methods: tuple[str, ...], names: str = "abcdefgh") -> list[Example]:
    """What those methods made; a clip holds the name of its file, `a0` being the first's of `a`."""
    examples = []
    for name in names:
        webms = [folder / f"{name}{number}" for number in range(len(methods))]
        for webm in webms:
            webm.write_text(webm.name)
        made = [
            Take(method=method, file=name, webm=webm)
            for method, webm in zip(methods, webms, strict=True)
        ]
        examples.append(Example(name=name, prompt=f"a {name}", takes=made))
    return examples


def blinded(folder: Path, seed: int, names: str = "abcdefgh") -> Key:
    """The key of a study of `alpha` and `beta`; what the clips show does not matter to it."""
    key, clips = blind(takes(folder, ("alpha", "beta"), names), ("alpha", "beta"), seed=seed)
    for clip, whose in key.clips.items():
        assert clips[clip].read_text() == f"{whose.example}{key.methods.index(whose.method)}"
    return key


def test_each_seed_names_clips_and_pairs_in_an_order_of_its_own(tmp_path: Path) -> None:
    keys = [blinded(tmp_path, seed) for seed in range(20)]
    assert len({key.study for key in keys}) == 20
    clips = {tuple((w.method, w.example) for w in key.clips.values()) for key in keys}
    pairs = {tuple(pair.example for pair in key.pairs.values()) for key in keys}
    assert (len(clips), len(pairs)) == (20, 20)
    assert blinded(tmp_path, 3) == keys[3]


def alpha_first(key: Key) -> list[bool]:
    """Whether a pair lists the clip of `alpha` first, in the page's order of pairs."""
    return [key.clips[pair.clips[0]].method == "alpha" for pair in key.pairs.values()]


def test_each_method_is_listed_first_in_half_of_the_pairs(tmp_path: Path) -> None:
    assert {sum(alpha_first(blinded(tmp_path, seed))) for seed in range(10)} == {4}
    odd = {sum(alpha_first(blinded(tmp_path, seed, names="abcde"))) for seed in range(20)}
    assert odd == {2, 3}


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> list[Key]:
    """The keys of 400 studies of eight examples."""
    examples = takes(tmp_path_factory.mktemp("many"), ("alpha", "beta"))
    return [blind(examples, ("alpha", "beta"), seed=seed)[0] for seed in range(400)]


def test_neither_a_place_nor_a_name_in_the_page_says_whose_a_clip_is(many: list[Key]) -> None:
    by_place = list(zip(*map(alpha_first, many), strict=True))
    by_name = [[key.clips[name].method == "alpha" for key in many] for name in many[0].clips]
    for found in (*by_place, *by_name):
        assert 160 <= sum(found) <= 240  # of 400, four standard deviations
    lower = [
        key.clips[min(pair.clips)].method == "alpha" for key in many for pair in key.pairs.values()
    ]
    assert 1487 <= sum(lower) <= 1713  # of 3200


def test_nothing_in_the_page_says_which_clips_are_of_one_method(many: list[Key]) -> None:
    """Beside a pair that lists `alpha` first there are 3 such among the other 7."""
    orders: list[Callable[[Pair], str]] = [
        lambda pair: "",  # as they are listed
        lambda pair: min(pair.clips),
        lambda pair: pair.clips[0],
    ]
    for order in orders:
        signs = []
        for key in many:
            listed = zip(map(order, key.pairs.values()), alpha_first(key), strict=True)
            signs.append([sign for _, sign in sorted(listed, key=itemgetter(0))])
        for one, two in combinations(range(8), 2):
            alike = sum(found[one] == found[two] for found in signs)
            assert 131 <= alike <= 212  # of 400: 171, four standard deviations


def test_the_page_and_the_seed_alone_do_not_give_the_sides_away(tmp_path: Path) -> None:
    """They are drawn from the names of methods and of examples, too, which the page has not."""

    def sides(*methods: str) -> tuple[bool, ...]:
        key, clips = blind(takes(tmp_path, methods), methods, seed=0)
        listed = sorted(clips[pair.clips[0]].name for pair in key.pairs.values())
        return tuple(name.endswith("0") for name in listed)

    drawn = {sides("alpha", f"method {number}") for number in range(10)}
    assert len(drawn) > 5


def test_clips_that_dvid_made_are_matched_by_the_prompt_inside_them(dvid: Dvid) -> None:
    for folder, tuning in (("one", 10), ("two", 0)):
        film(Path(folder, f"fox-{tuning}.mp4"), 40, recipe=sample("a fox", tuning=tuning))
        film(Path(folder, f"cat-{tuning}.webp"), 60, recipe=sample("a cat", tuning=tuning))
    film(Path("one/depth.mp4"), 70, recipe=Depth(frames=Extract(clip=ZERO), estimator=ZERO))
    said = dvid("study", "make", "alpha=one", "beta=two", "-n", "--json")
    shown = [(row["prompt"], row["clips"]) for row in map(json.loads, said.lines)]
    assert shown == [
        ("a cat", {"alpha": "one/cat-10.webp", "beta": "two/cat-0.webp"}),
        ("a fox", {"alpha": "one/fox-10.mp4", "beta": "two/fox-0.mp4"}),
    ]
    assert (
        said.err
        == "warning: `one/depth.mp4` is left out: it is no sample, by what it says of itself\n"
    )
    assert not Path("study.html").exists()


def test_runs_are_compared_by_their_samples(
    dvid: Dvid, tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVID_CACHE_DIR", str(tuned / "cache"))
    paths = dvid("sample", "-p", "a fox", "-p", "a cat", "-q").lines
    film(Path("two/mine.mp4"), 90, frames=3, size=(64, 64))
    Path("prompts.jsonl").write_text('{"file": "mine", "prompt": "a  fox"}\n')
    said = dvid("study", "make", "ours=bikes", "b=two", "--prompts-file", "prompts.jsonl")
    key = json.loads(Path("study.key.json").read_text())
    assert sorted(c["file"] for c in key["clips"].values()) == sorted(
        ["mine.mp4", Path(paths[0]).name]
    )
    assert f"warning: `{Path(paths[1]).resolve()}` is left out" in said.err


def test_clips_left_out_for_one_reason_are_counted_in_one_line(dvid: Dvid) -> None:
    for name in ("one/fox", "one/cat", "one/dog", "one/owl", "two/fox", "two/ape"):
        film(Path(f"{name}.mp4"), 30)
    Path("prompts.csv").write_text(
        "file,prompt\n"
        + "".join(f"{name},a {name}\n" for name in ("fox", "cat", "dog", "owl", "ape"))
    )
    words = ("study", "make", "a=one", "b=two", "--prompts-file", "prompts.csv", "-n")
    (line,) = dvid(*words).err.splitlines()
    assert line.startswith("warning: `one/cat.mp4` is left out: no other method has a clip")
    assert line.endswith(" (and 3 more, by `-v`)")
    assert "`one/owl.mp4` is left out" in dvid(*words, "-v").err


def test_a_table_of_the_benchmark_names_clips_by_video_and_edit(dvid: Dvid) -> None:
    film(Path("one/bear/style.mp4"), 30)
    film(Path("two/DAVIS/bear/style.mp4"), 90)
    Path("loveu.csv").write_text(
        "Video name,Our GT caption,Style Change Caption\nbear,a bear,oil\n"
    )
    said = dvid("study", "make", "a=one", "b=two", "--prompts-file", "loveu.csv", "-n")
    assert said.lines == ["bear/style\toil\ta=one/bear/style.mp4\tb=two/DAVIS/bear/style.mp4"]


def test_three_methods_give_every_pair_or_those_with_one_of_them(dvid: Dvid) -> None:
    words = two_methods(("fox",))
    film(Path("three/fox.mp4"), 220)
    dvid("study", "make", *words, "gamma=three", "-o", "all.html")
    dvid("study", "make", *words, "gamma=three", "-o", "some.html", "--against", "beta")

    def compared(name: str) -> list[set[str]]:
        key = json.loads(Path(name).read_text())
        whose = {clip: told["method"] for clip, told in key["clips"].items()}
        return [{whose[clip] for clip in pair["clips"]} for pair in key["pairs"].values()]

    assert len(compared("all.key.json")) == 3
    some = compared("some.key.json")
    assert len(some) == 2
    assert all("beta" in pair for pair in some)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"size": (48, 24)}, "differ in size (`fox`: 32×24, 48×24)"),
        ({"fps": 16}, "differ in rate (`fox`: 8 frames a second, 16 frames a second)"),
        ({"frames": 8}, "differ in length (`fox`: 0.5 s, 1.0 s)"),
    ],
)
def test_what_methods_could_be_told_apart_by_is_said(
    dvid: Dvid, other: dict[str, object], said: str
) -> None:
    words = two_methods(("fox",))
    film(Path("two/fox.mp4"), 150, **other)  # type: ignore[arg-type]
    assert said in dvid("study", "make", *words).err


def test_a_different_page_is_replaced_only_when_asked(dvid: Dvid) -> None:
    words = two_methods(("fox",))
    dvid("study", "make", *words)
    kept = Path("study.html").read_bytes(), Path("study.key.json").read_bytes()
    dvid("study", "make", *words)
    said = dvid("study", "make", *words, "--seed", "1", code=2)
    assert "exists and is a different file" in said.err
    assert (Path("study.html").read_bytes(), Path("study.key.json").read_bytes()) == kept
    dvid("study", "make", *words, "--seed", "1", "--overwrite")
    assert Path("study.key.json").read_bytes() != kept[1]


def test_a_study_of_another_seed_says_that_answers_to_the_old_page_need_its_key(
    dvid: Dvid,
) -> None:
    words = two_methods(("fox",))
    dvid("study", "make", *words)
    said = dvid("study", "make", *words, "--seed", "1", code=2)
    assert "answered on the old page is lost without the old key" in said.err


@pytest.mark.parametrize("name", ["study.html", "study.key.json"])
def test_a_file_of_somebody_elses_stops_the_command_before_any_work(dvid: Dvid, name: str) -> None:
    words = two_methods(("fox",))
    Path(name).write_text("mine")
    said = dvid("study", "make", *words, code=2)
    assert f"`{name}` exists and is a different file" in said.err
    assert "extract" not in said.err
    assert Path(name).read_text() == "mine"


@pytest.mark.parametrize("name", ["study.html", "study.key.json"])
def test_a_link_that_leads_nowhere_is_in_the_studys_way(dvid: Dvid, name: str) -> None:
    words = two_methods(("fox",))
    Path(name).symlink_to("nowhere")
    said = dvid("study", "make", *words, code=2)
    assert f"`{name}` is a link that leads nowhere" in said.err
    assert not Path("nowhere").exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["a=one"], 2, "compares two methods or more"),
        (["one", "two"], 2, "`one` names no method and folder"),
        (["a=one", "a=two"], 2, "two methods named `a`"),
        (["a=one", "b=two", "--against", "c"], 2, "no method `c`"),
        (["a=one", "b=two", "-o", "study.pdf"], 2, "`study.pdf` is no HTML page"),
        (["a=one", "b=two", "--seed", "-1"], 2, "`--seed` is `-1`"),
        (["a=one", "b=none/there"], 3, "`none/there` is no folder and no run"),
        (["a=one", "b=nowhere"], 4, "nowhere"),
        (["a=one", "b=empty"], 3, "`empty` holds no clips"),
        (["a=one", "b=two"], 3, "nothing says what `one/fox.mp4` should show"),
        (["a=one", "b=two", "--prompts-file", "no.csv"], 3, "no file `no.csv`"),
        (
            ["a=one", "b=two", "--prompts-file", "bad.csv"],
            3,
            "`bad.csv` has no `file` and `prompt`",
        ),
        (["a=one", "b=two", "--prompts-file", "bad.jsonl"], 3, "line 1 of `bad.jsonl`: it is no"),
        (["a=one", "b=two", "--prompts-file", "two.csv"], 3, "gives `fox` another prompt"),
        (["a=one", "b=apart", "--prompts-file", "prompts.csv"], 3, "no clip of one method has"),
    ],
)
def test_what_cannot_be_a_study_is_refused_with_the_reason(
    dvid: Dvid, words: list[str], code: int, said: str
) -> None:
    two_methods(("fox",))
    Path("empty").mkdir()
    film(Path("apart/owl.mp4"), 10)
    Path("bad.csv").write_text("name,words\nfox,a fox\n")
    Path("bad.jsonl").write_text("[1]\n")
    Path("two.csv").write_text("file,prompt\nfox.mp4,a fox\nfox,a cat\n")
    assert said in dvid("study", "make", *words, code=code).err
    assert not Path("study.html").exists()


@pytest.fixture
def answered(dvid: Dvid) -> list[str]:
    """The words of `study score` for two raters: one is all for `alpha`, one only on text."""
    dvid("study", "make", *two_methods(), "-q")
    key = json.loads(Path("study.key.json").read_text())
    for rater, likes in (("Ada", {"consistency", "alignment"}), ("Bob", {"alignment"})):
        answers = []
        for name, pair in key["pairs"].items():
            by = {key["clips"][c]["method"]: c for c in pair["clips"]}
            for question in key["questions"]:
                chosen = by["alpha" if question in likes else "beta"]
                answers.append(
                    {
                        "pair": name,
                        "question": question,
                        "first": pair["clips"][0],
                        "chosen": chosen,
                        "seconds": 1,
                    }
                )
        whole = {"schema": 1, "kind": "study answers", "study": key["study"], "rater": rater}
        Path(f"{rater}.json").write_text(json.dumps({**whole, "answers": answers}))
    return ["study", "score", "study.key.json", "Ada.json", "Bob.json"]


def test_the_score_is_a_line_a_question_with_what_the_answers_say(
    dvid: Dvid, answered: list[str]
) -> None:
    said = dvid(*answered)
    titles, *rows = [line.split("\t") for line in said.lines]
    table = [dict(zip(titles, row, strict=True)) for row in rows]
    assert [(r["question"], r["method"], r["against"]) for r in table] == [
        ("consistency", "alpha", "beta"),
        ("alignment", "alpha", "beta"),
    ]
    assert [(r["won"], r["lost"], r["tied"]) for r in table] == [("0", "0", "3"), ("3", "0", "0")]
    assert [r["preference"] for r in table] == ["50.00", "100.00"]
    assert [(r["low"], r["high"]) for r in table] == [("12.53", "87.47"), ("43.85", "100.00")]
    assert [(r["agreement"], r["kappa"]) for r in table] == [("0.00", "-1.000"), ("100.00", "")]
    assert [r["raters"] for r in table] == ["2", "2"]
    assert "2 raters; clip 1 was chosen in" in said.err


def test_the_score_as_json_has_the_same_figures(dvid: Dvid, answered: list[str]) -> None:
    rows = [json.loads(line) for line in dvid(*answered, "--json", "-q").lines]
    assert [row["schema"] for row in rows] == [1, 1]
    assert [row["preference"] for row in rows] == [50.0, 100.0]
    assert [row["kappa"] for row in rows] == [-1.0, None]
    assert rows[0]["raters"] == {"fewest": 2, "most": 2}


def test_the_majority_of_each_example_is_a_line_when_asked(dvid: Dvid, answered: list[str]) -> None:
    lines = [line.split("\t") for line in dvid(*answered, "--examples").lines]
    assert lines[0][-1] == "winner"
    assert len(lines) == 1 + 3 * 2
    assert {(row[0], *row[2:]) for row in lines[1:]} == {
        ("consistency", "alpha", "beta", "1", "1", "-"),
        ("alignment", "alpha", "beta", "2", "0", "alpha"),
    }


def test_an_incomplete_file_counts_for_what_it_answers_and_is_said(
    dvid: Dvid, answered: list[str]
) -> None:
    whole = json.loads(Path("Bob.json").read_text())
    whole["answers"] = whole["answers"][:1]
    Path("Bob.json").write_text(json.dumps(whole))
    said = dvid(*answered, "--json")
    assert "warning: `Bob.json` answers 1 of 6 questions" in said.err
    assert json.loads(said.lines[0])["raters"] == {"fewest": 1, "most": 2}


def test_answers_count_with_the_key_of_their_own_page_only(dvid: Dvid, answered: list[str]) -> None:
    before = dvid(*answered).lines
    Path("study.key.json").rename("old.json")
    dvid("study", "make", *two_methods(), "--seed", "1", "--overwrite")
    said = dvid(*answered, code=3)
    assert "`Ada.json` answers the study" in said.err
    assert "the key that was written with the page" in said.err
    assert said.out == ""
    assert dvid("study", "score", "old.json", *answered[3:]).lines == before


def test_a_terminal_gets_a_table(answered: list[str]) -> None:
    main_end, end = pty.openpty()
    done = subprocess.Popen(
        [sys.executable, "-m", "dvcli", *answered],
        stdout=end,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "200"},
    )
    os.close(end)
    seen = b""
    try:
        while chunk := os.read(main_end, 4096):
            seen += chunk
    except OSError:
        pass
    assert done.wait(timeout=60) == 0
    assert "━" in seen.decode()
    assert re.search(r"alignment\s*│\s*alpha", seen.decode())


def test_scoring_needs_no_media_library(answered: list[str]) -> None:
    program = (
        "import sys; from dvcli.cli.main import main; assert main(sys.argv[1:]) == 0;"
        "heavy = {'torch', 'numpy', 'av', 'PIL', 'diffusers'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program, *answered, "-q"], check=True)


def test_a_key_knows_its_own_study() -> None:
    key = Key(seed=1, methods=("a", "b"), clips={}, pairs={})
    assert json.loads(key.text())["study"] == key.study
    assert len(key.study) == 16
