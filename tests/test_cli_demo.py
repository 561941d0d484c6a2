"""The demo's page and sheet, on a random model; and the report room they are made with."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from program import Dvid

from dvcli.cli import demo
from dvcli.report.sheet import Row, contact_sheet, decoded
from dvcli.video.write import write


@pytest.fixture
def told(
    dvid: Dvid, base: Path, judge: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, list[str]]:
    """(the page, the command that made it)."""
    monkeypatch.setattr(demo, "TUNING_STEPS", 1)
    monkeypatch.setattr(demo, "STEPS", 2)
    command = ["demo", "--model", str(base), "--clip-model", str(judge), "-o", "shown"]
    said = dvid(*command)
    assert said.lines == ["shown/demo.html"]
    assert Path("shown/clip.mp4").read_bytes() == demo.CLIP.read_bytes()
    return Path("shown/demo.html").read_text(), command


def test_the_page_shows_every_wish_and_needs_no_network(told: tuple[str, list[str]]) -> None:
    text, _ = told
    wishes = [wish for _, wishes in demo.STORY.values() for wish in wishes]
    assert len(re.findall(r'<figure class="card', text)) == 3 + len(wishes)
    assert all(f"<b>{wish.title}</b>" in text for wish in wishes)
    assert not re.search(r'(?:src|href)="', text)
    assert "http:" not in text
    assert "https:" not in text


def test_the_sheet_has_a_row_for_input_depth_reconstruction_and_each_edit(
    told: tuple[str, list[str]],
) -> None:
    with Image.open("shown/demo.png") as sheet:
        width, height = sheet.size
    wishes = sum(len(wishes) for _, wishes in demo.STORY.values())
    assert width == 1400
    assert height > (3 + wishes) * 150


def test_a_second_demo_is_all_hits_and_gives_the_same_page(
    dvid: Dvid, told: tuple[str, list[str]]
) -> None:
    text, command = told
    again = dvid(*command)
    assert "done in" not in again.err
    assert Path("shown/demo.html").read_text() == text


@pytest.mark.parametrize("name", ["clip.mp4", "demo.html"])
def test_a_file_of_somebody_elses_is_not_replaced(dvid: Dvid, base: Path, name: str) -> None:
    Path("shown").mkdir()
    Path("shown", name).write_text("mine")
    said = dvid("demo", "--model", base, "-o", "shown", code=2)
    assert "exists and is a different file" in said.err
    assert Path("shown", name).read_text() == "mine"


def test_a_sheet_shows_each_frame_of_each_row_in_its_place(tmp_path: Path) -> None:
    greys = np.array([40, 120, 200], np.uint8)
    frames = np.broadcast_to(greys[:, None, None, None], (3, 10, 20, 3)).copy()
    rows = [
        Row(title="a", remark="", frames=frames),
        Row(title="b", remark="x", frames=frames[::-1]),
    ]
    contact_sheet(tmp_path / "sheet.png", rows)
    with Image.open(tmp_path / "sheet.png") as sheet:
        pixels = np.asarray(sheet.convert("L"))
    shown = [
        [int(value) for value in dict.fromkeys(line.tolist()) if value in greys]
        for line in pixels
        if len(set(line.tolist()) & set(greys.tolist())) == 3
    ]
    assert shown[0] == [40, 120, 200]
    assert shown[-1] == [200, 120, 40]


def test_an_animated_picture_of_ours_decodes_to_its_frames(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    write(tmp_path / "x.webp", frames, fps=8, metadata=None)
    np.testing.assert_array_equal(decoded(tmp_path / "x.webp"), frames)
