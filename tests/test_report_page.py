"""The page of a report as text: whole, safe, the same each time."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from media import numbered
from PIL import Image

from dvcli.report.compare import Cell, Comparison, Line, side_by_side
from dvcli.report.page import Card, Row, Section, page
from dvcli.report.strip import LARGEST, Strip, strip
from dvcli.video import frames as frame_file
from dvcli.video.write import write

EVIL = '</script></style><img src=x onerror="alert(1)">\'&lt;⟦script⟧\x00\x1b\ud800￾'
VOID = {"meta", "input", "br", "img", "path"}


def film(first: int = 0, count: int = 3) -> Strip:
    return strip(np.stack([numbered(first + k) for k in range(count)]))


def one(card: Card, title: str = "t") -> str:
    return page(title, "s", [Section(heading="h", rows=[Row(title="r", cards=[card])])])


class Outline(HTMLParser):
    """Tags in order; fails where one is closed that is not open."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> repeats an attribute"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        self.text += data


def outline(text: str) -> Outline:
    found = Outline()
    found.feed(text)
    found.close()
    assert found.open == []
    return found


FULL = Card(
    title="a fox",
    strip=film(),
    note="n",
    facts={"style": "oil"},
    axes={"prompt": "a fox"},
    figures={"alignment": 27.456},
    commands=["dvid a", "dvid b"],
)


def test_every_tag_is_closed_and_every_id_is_once() -> None:
    found = outline(one(FULL))
    ids = [a["id"] for _, a in found.tags if "id" in a]
    assert ids
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("place", ["title", "note", "facts", "axes", "figures", "commands", "role"])
def test_text_on_the_page_cannot_become_markup(place: str) -> None:
    values: dict[str, object] = {
        "facts": {EVIL: EVIL},
        "axes": {EVIL: EVIL},
        "figures": {EVIL: 1.0},
        "commands": [EVIL],
    }
    card = replace(Card(title="t", strip=film()), **{place: values.get(place, EVIL)})  # type: ignore[arg-type]
    found = outline(one(card))
    tags = [tag for tag, _ in found.tags]
    assert "img" not in tags
    assert tags.count("script") == tags.count("style") == 1
    assert not any(name.startswith("on") for _, attributes in found.tags for name in attributes)


def test_a_title_that_is_markup_is_shown_as_text() -> None:
    text = one(FULL, title=EVIL)
    assert '</script></style><img src=x onerror="alert(1)">' in outline(text).text
    assert "⟦script⟧" in outline(text).text


def test_characters_that_no_page_may_hold_are_replaced() -> None:
    text = one(Card(title=EVIL, strip=film()))
    text.encode()
    assert not re.search(r"[\x00-\x08\x0b-\x1f\ufffe]", text)


def test_nothing_on_the_page_is_asked_of_a_network() -> None:
    found = outline(one(FULL))
    for _, attributes in found.tags:
        assert not {"src", "href", "srcset", "action"} & set(attributes)
    assert set(re.findall(r"url\(\"?(\w+):", one(FULL))) == {"data"}


def test_the_policy_allows_the_one_script_and_no_other_source() -> None:
    text = one(FULL)
    policy = next(a["content"] or "" for t, a in outline(text).tags if a.get("http-equiv"))
    script = text[text.index("<script>") + 8 : text.index("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_a_clip_that_is_shown_twice_is_there_once() -> None:
    cards = [Card(title=name, strip=film()) for name in "ab"]
    text = page("t", "", [Section(heading="", rows=[Row(title="", cards=cards)])])
    assert text.count("data:image/webp") == 1
    assert text.count('data-strip="0"') == 2


@pytest.mark.parametrize("counts", [(3, 3), (3, 4)])
def test_clips_of_different_lengths_are_told_of_where_there_are_any(
    counts: tuple[int, int],
) -> None:
    cards = [Card(title=str(n), strip=film(n, count)) for n, count in enumerate(counts)]
    text = page("t", "", [Section(heading="", rows=[Row(title="", cards=cards)])])
    assert ("Clips of different lengths" in text) == (counts == (3, 4))


def test_without_scripts_each_step_of_the_style_shows_its_frame() -> None:
    text = one(Card(title="t", strip=film(count=4)))
    places = re.findall(r"[\d.]+%\{background-position:([\d.]+)% ([\d.]+)%\}", text)
    assert [float(y) for _, y in places] == pytest.approx([0, 100 / 3, 200 / 3, 100], abs=1e-3)
    assert "animation-name:play-4-1" in text


def test_the_same_clips_and_words_give_the_same_bytes() -> None:
    assert one(FULL) == one(FULL)


def test_few_clips_have_no_filters_and_many_have_one_for_each_fact_that_varies() -> None:
    def shown(count: int) -> str:
        cards = [
            Card(title=str(n), strip=film(), axes={"prompt": str(n % 2), "style": "oil"})
            for n in range(count)
        ]
        return page("t", "", [Section(heading="", rows=[Row(title="", cards=cards)])])

    assert 'class="finder"' not in shown(3)
    assert "<kbd>/</kbd> finds" not in shown(3)
    many = shown(8)
    assert "<kbd>/</kbd> finds" in many
    assert 'data-axis="prompt"' in many
    assert 'data-axis="style"' not in many


def test_what_a_card_is_filtered_by_is_json() -> None:
    text = one(Card(title="t", strip=film(), axes={"prompt": 'say "a" & <b>'}))
    (axes,) = [a["data-axes"] for _, a in outline(text).tags if "data-axes" in a]
    assert json.loads(axes or "") == {"prompt": 'say "a" & <b>'}


# The strip


def frames_of(made: Strip) -> np.ndarray:
    with Image.open(BytesIO(made.webp)) as picture:
        sheet = np.asarray(picture.convert("RGB"))
    rows = sheet.reshape(made.rows, made.height, made.columns, made.width, 3).swapaxes(1, 2)
    return rows.reshape(-1, made.height, made.width, 3)[: made.frames]


def test_a_small_strip_gives_back_every_frame_to_the_last_bit() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (5, 40, 60, 3), np.uint8)
    np.testing.assert_array_equal(frames_of(strip(frames)), frames)


def test_a_strip_of_many_frames_stays_within_what_webp_can_hold() -> None:
    frames = np.zeros((50, 512, 16, 3), np.uint8)
    frames += np.arange(50, dtype=np.uint8)[:, None, None, None] * 5
    made = strip(frames)
    assert max(made.columns * made.width, made.rows * made.height) <= LARGEST
    shown = frames_of(made).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(shown, np.arange(50) * 5, atol=3)


# Side by side


@pytest.fixture
def media(tmp_path: Path) -> tuple[Path, Path]:
    """(a file of frames as the cache has it, a video of another length and size)."""
    frame_file.save(tmp_path / "frames", np.stack([numbered(k) for k in range(3)]))
    large = np.stack([numbered(k, 192, 128) for k in range(5)])
    write(tmp_path / "x.mp4", large, fps=8, metadata=None)
    return tmp_path / "frames", tmp_path / "x.mp4"


def compared(ours: Path, theirs: Path, **options: int) -> str:
    cells = [Cell(media=ours), None, Cell(media=theirs, facts={"seed": "1"})]
    lines = [Line(title="one", cells=cells), Line(title="two", cells=cells)]
    comparison = Comparison(heading="h", columns=["source", "a", "b"], lines=lines)
    return side_by_side("t", "s", [comparison], **options)


def test_side_by_side_shows_each_line_with_its_columns(media: tuple[Path, Path]) -> None:
    found = outline(compared(*media))
    labels = [a["aria-label"] for _, a in found.tags if a.get("role") == "img"]
    assert labels == ["source", "b", "source", "b"]
    assert [t for t, a in found.tags if a.get("class") == "gap"] == ["div", "div"]
    assert [a["data-n"] for _, a in found.tags if "data-n" in a] == ["3", "5", "3", "5"]


def test_side_by_side_has_each_file_once_and_reduces_what_is_larger(
    media: tuple[Path, Path],
) -> None:
    text = compared(*media, side=96)
    assert text.count("data:image/webp") == 2
    sizes = {(a["data-w"], a["data-h"]) for _, a in outline(text).tags if "data-w" in a}
    assert sizes == {("96", "64")}


def test_side_by_side_compares_with_the_first_columns(media: tuple[Path, Path]) -> None:
    roles = [a.get("data-role") for _, a in outline(compared(*media)).tags if "data-n" in a]
    assert roles == ["source", None, "source", None]
