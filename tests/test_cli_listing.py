"""Prompts files: `eval` and `study make` read the same in one, and refuse the same."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from program import Dvid

from dvcli.cli import captions
from dvcli.cli.listing import read_listing
from dvcli.errors import InputError

Reads = Callable[[Path], dict[str, str]]  # prompt by file
LOVEU = (
    "Video name,Our GT caption,Style Change Caption,Object Change Caption,"
    "Background Change Caption,Multiple Changes Caption"
)


def clips(*names: str) -> None:
    """Files that look like two methods' clips; nothing here opens them."""
    for clip in (Path(method, f"{name}.mp4") for method in ("one", "two") for name in names):
        clip.parent.mkdir(parents=True, exist_ok=True)
        clip.touch()


@pytest.fixture(params=["eval", "study"])
def prompts(request: pytest.FixtureRequest, dvid: Dvid) -> Reads:
    """What either command takes from a prompts file of the clips `a` and `b` of two methods."""
    clips("a", "b")

    def by_eval(listing: Path) -> dict[str, str]:
        found = captions.read(read_listing(listing), [Path("one")], None)
        assert len({one.file for one in found}) == len(found)
        return {one.file.relative_to("one").with_suffix("").as_posix(): one.prompt for one in found}

    def by_study(listing: Path) -> dict[str, str]:
        words = ("study", "make", "a=one", "b=two", "--prompts-file", listing, "-n", "--json", "-q")
        rows = [json.loads(line) for line in dvid(*words).lines]
        return {row["example"]: row["prompt"] for row in rows}

    return by_eval if request.param == "eval" else by_study


@pytest.fixture(params=["eval", "study"])
def refusal(request: pytest.FixtureRequest, dvid: Dvid) -> Callable[[str, str], str]:
    """What either command says of a prompts file that it refuses."""
    clips("a", "b", "bear/style")

    def said(name: str, text: str) -> str:
        Path(name).write_text(text)
        given = ("--prompts-file", name)
        if request.param == "eval":
            return dvid("eval", "one", *given, code=3).err
        return dvid("study", "make", "a=one", "b=two", *given, code=3).err

    return said


@pytest.mark.parametrize(
    "text",
    [
        "file,prompt\na.mp4,a bear\nb.mp4,a fox\n",
        "File,Prompt\na.mp4,a bear\nb.mp4,a fox\n",
        "file, prompt\na.mp4, a bear\nb.mp4, a fox\n",
        "PROMPT ,file\r\na bear,a.mp4\r\n\r\na fox,b.mp4\r\n",
        "\ufefffile,prompt\na,a bear\nb,a fox\n",
        "Prompts of Monday\n\nfile,prompt\na.mp4,a bear\n,\nb.mp4,a fox\n",
        'file,prompt,\na.mp4, "a bear",\n"b.mp4","a fox",\n',
        "file,prompt\na.mp4,a bear\na.mp4,a bear\nb.mp4,a fox\n./a.mp4,a bear\n",
    ],
)
def test_a_list_is_read_alike_by_both_commands(prompts: Reads, text: str) -> None:
    listing = Path("p.csv")
    listing.write_text(text, newline="")
    assert prompts(listing) == {"a": "a bear", "b": "a fox"}


@pytest.mark.parametrize("end", ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c"])
def test_a_text_may_hold_what_some_call_the_end_of_a_line(prompts: Reads, end: str) -> None:
    entry = {"file": "a.mp4", "prompt": f"a red{end}bear"}
    text = json.dumps(entry, ensure_ascii=False) if end > " " else json.dumps(entry)
    Path("p.jsonl").write_text(text + "\n" + '{"file": "b.mp4", "prompt": "a fox"}\n')
    Path("p.csv").write_text(f"file,prompt\na.mp4,a red{end}bear\nb.mp4,a fox\n")
    for name in ("p.jsonl", "p.csv"):
        found = prompts(Path(name))
        assert (found["a"].split(), found["b"]) == (["a", "red", "bear"], "a fox")


@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(
            lambda text: text.strip()
        ),
        min_size=1,
        max_size=4,
    )
)
def test_whatever_json_wrote_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("listed")
    rows = [{"file": f"{number}.mp4", "prompt": text} for number, text in enumerate(texts)]
    for row in rows:
        (folder / row["file"]).touch()
    listing = folder / "p.jsonl"
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    listing.write_text("".join(lines), encoding="utf-8", newline="")
    assert [one.prompt for one in captions.read(read_listing(listing), [], None)] == [
        t.strip() for t in texts
    ]


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ("a.mp4,a red bear, on snow\n", 2),
        ("a.mp4,a bear\nb.mp4,a fox,\n", 3),
        ('a.mp4, "a red bear, on snow" at night\n', 2),
        ('a.mp4,"a red bear\nb.mp4,a fox\n', 2),
        ('a.mp4,a bear\n\nb.mp4,"a fox\n', 4),
        ('a.mp4,"a red bear\nb.mp4,"a fox"\n', 2),
    ],
)
def test_a_row_that_quotes_would_mend_is_refused_by_its_line(
    refusal: Callable[[str, str], str], rows: str, line: int
) -> None:
    said = refusal("p.csv", f"file,prompt\n{rows}")
    assert f"line {line} of `p.csv`" in said
    assert "stands in double quotes" in said


def test_a_text_under_no_name_is_refused(refusal: Callable[[str, str], str]) -> None:
    said = refusal("p.csv", "file,prompt,\na.mp4,a bear,\nb.mp4,a red fox, on snow\n")
    assert "line 3 of `p.csv` has more cells than the header has names" in said


def test_a_comma_in_quotes_is_part_of_the_prompt(prompts: Reads) -> None:
    Path("p.csv").write_text(
        'file, prompt\na.mp4, "a red bear, on ""snow"""\nb.mp4,"a fox,\nwalking"\n'
    )
    found = prompts(Path("p.csv"))
    assert found["a"] == 'a red bear, on "snow"'
    assert found["b"].split() == ["a", "fox,", "walking"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("p.csv", "file,prompt\na.mp4,a bear\nb.mp4,a fox\na.mp4,a cat\n", "line 4 of `p.csv`"),
        ("p.csv", "file,prompt\na.mp4,a bear\na,a cat\n", "line 3 of `p.csv`"),
        ("p.csv", "file,prompt,Prompt\na.mp4,a bear,a cat\n", "two texts under `prompt`"),
        ("p.jsonl", '{"file": "a", "prompt": "x"}\n{"file": "a", "prompt": "y"}\n', "line 2 of"),
        ("p.jsonl", '{"file": "a.mp4", "prompt": "x", "prompt": "y"}\n', "is there twice"),
        ("p.jsonl", '{"file": "a.mp4", "prompt": "\\ud800"}\n', "line 1 of `p.jsonl`"),
        ("p.jsonl", '{"file": "a.mp4", "prompt": 3}\n{"file": "b", "prompt": "x"}\n', "line 1 of"),
        ("p.csv", "name,words\na.mp4,a bear\n", "has no `file` and `prompt`"),
        ("p.csv", "file,prompt\n", "has no rows"),
        ("p.txt", "file,prompt\na.mp4,a bear\n", "neither CSV, TSV nor JSON lines"),
    ],
)
def test_what_is_no_prompt_a_file_is_refused_alike(
    refusal: Callable[[str, str], str], name: str, text: str, said: str
) -> None:
    assert said in refusal(name, text)


def test_two_sources_of_one_file_are_refused() -> None:
    for name in ("a.mp4", "x.mp4", "y.mp4"):
        Path(name).touch()
    Path("p.csv").write_text("file,prompt,source\na.mp4,a bear,x.mp4\na.mp4,a bear,y.mp4\n")
    with pytest.raises(InputError, match=r"line 3 of `p.csv` gives `a.mp4` another prompt or"):
        captions.read(read_listing(Path("p.csv")), [], None)


def test_a_folder_that_is_named_twice_counts_once() -> None:
    clips("a")
    Path("p.csv").write_text("file,prompt\na.mp4,a bear\n")
    found = captions.read(
        read_listing(Path("p.csv")), [Path("one"), Path("one/"), Path("two")], None
    )
    assert [os.fspath(one.file) for one in found] == ["one/a.mp4", "two/a.mp4"]


@pytest.mark.parametrize(
    "text",
    [
        f"{LOVEU}\nbear,a bear,a bear in oil,a fox,,\n",
        f"{LOVEU}\nDAVIS Videos:\nbear,a bear,a bear in oil,a fox,,\nYoutube Videos:\n",
        f"{LOVEU}\n\nDAVIS Videos:,,,,,\nbear, a bear, a bear in oil, a fox\n",
        f"LOVEU-TGVE 2023\n{LOVEU}\nbear,a bear,a bear in oil,a fox,,\n",
        f"LOVEU-TGVE 2023,,,,,\n,,,,,\n{LOVEU}\nbear,a bear,a bear in oil,a fox,,\n",
        f"{LOVEU}\nbear,a bear,a bear in oil,a fox,,\nbear,a bear,a bear in oil,,,\n",
    ],
)
def test_titles_and_headings_of_the_benchmarks_table_are_passed_over(
    prompts: Reads, text: str
) -> None:
    clips("bear/style", "bear/object")
    Path("loveu.csv").write_text(text)
    assert prompts(Path("loveu.csv")) == {"bear/style": "a bear in oil", "bear/object": "a fox"}


def test_a_comma_too_many_does_not_move_captions_to_other_edits(
    refusal: Callable[[str, str], str],
) -> None:
    said = refusal("loveu.csv", f"{LOVEU}\nDAVIS Videos:\nbear,a bear, brown,in oil,,,\n")
    assert "line 3 of `loveu.csv` has more cells than the header has names" in said


def test_two_captions_of_one_edit_are_refused(refusal: Callable[[str, str], str]) -> None:
    said = refusal("loveu.csv", f"{LOVEU}\nbear,a bear,in oil,,,\nbear,a bear,in ink,,,\n")
    assert "line 3 of `loveu.csv` gives `one/bear/style.mp4` another prompt" in said
