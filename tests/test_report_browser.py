"""The page of a report in a real browser: clips in step, comparing, keys, copying, narrow, dark."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import chromium, overflows, page, picture, profile
from media import numbered
from playwright.sync_api import Browser, Page

from dvcli.report import page as report
from dvcli.report.page import Card, Row, Section
from dvcli.report.strip import strip

EVIL = "</script><img src=x onerror=\"document.title='bad'\">"
# The number that each canvas shows now, read in one go: nothing can be drawn in between.
NUMBERS = """() => [...document.querySelectorAll('.view canvas')].map((canvas) => {
  const w = canvas.width, row = canvas.getContext('2d')
    .getImageData(0, Math.floor(canvas.height / 4), w, 1).data;
  let number = 0;
  for (let bit = 0; bit < 12; bit++)
    if (row[4 * Math.floor((bit + .5) * w / 12)] > 127) number += 2 ** bit;
  return number;
})"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


def film(first: int, count: int = 8, width: int = 96, height: int = 64) -> np.ndarray:
    return np.stack([numbered(first + k, width, height) for k in range(count)])


def write(path: Path, *, clips: int = 8, fps: float = 8) -> Path:
    """A page of a source, its depth and so many clips; clip `n` shows the numbers from 64(n+2)."""
    given = [
        Card(title="source", role="source", strip=strip(film(0))),
        Card(title="depth", role="depth", strip=strip(film(64, 4, 192, 128))),
    ]
    made = [
        Card(
            title=EVIL if n == 0 else f"clip {n}",
            strip=strip(film(64 * (n + 2))),
            facts={"style": "xy"[n % 2]},
            axes={"style": "xy"[n % 2], "guidance": str(20 - 2 * n)},
            figures={"alignment": float(n * 7 % 5)},
            commands=[f"dvid tune 'a {n}'", f"dvid sample --prompt '{n}'"],
        )
        for n in range(clips)
    ]
    section = Section(
        heading="bears", rows=[Row(title="", cards=given), Row(title="clips", cards=made)]
    )
    path.write_text(report.page("a page", "words", [section], fps=fps))
    return path


@pytest.fixture
def shown(browser: Browser, tmp_path: Path) -> Iterator[Page]:
    with page(browser, write(tmp_path / "x.html"), height=2400) as found:
        found.wait_for_selector("html[data-ready]")
        yield found


def pause(shown: Page) -> None:
    shown.keyboard.press("Space")
    assert shown.locator("#play").get_attribute("aria-label") == "Play"


def expected(frame: int) -> list[int]:
    return [frame, 64 + frame // 2, *(64 * (n + 2) + frame for n in range(8))]


def test_all_clips_show_the_same_moment_while_they_play(shown: Page) -> None:
    seen = set()
    for _ in range(12):
        numbers = shown.evaluate(NUMBERS)
        assert numbers == expected(numbers[0])
        seen.add(numbers[0])
        shown.wait_for_timeout(90)
    assert len(seen) > 3


def test_pausing_stops_and_arrows_step_through_the_loop(shown: Page) -> None:
    pause(shown)
    shown.locator("#frame").fill("7")
    assert shown.evaluate(NUMBERS) == expected(6)
    shown.locator("h1").click()
    shown.locator("#frame").evaluate("slider => slider.blur()")
    shown.keyboard.press("ArrowRight")
    assert shown.evaluate(NUMBERS) == expected(7)
    shown.keyboard.press("ArrowRight")
    assert shown.evaluate(NUMBERS) == expected(0)
    shown.keyboard.press("ArrowLeft")
    shown.wait_for_timeout(300)
    assert shown.evaluate(NUMBERS) == expected(7)
    assert shown.locator("#count").inner_text() == "8/8"


def test_the_buttons_do_what_the_keys_do(shown: Page) -> None:
    shown.locator("#play").click()
    shown.locator("#frame").fill("1")
    shown.locator("#next").click()
    shown.locator("#next").click()
    shown.locator("#back").click()
    assert shown.evaluate(NUMBERS) == expected(1)
    shown.locator("#play").click()
    assert shown.locator("#play").get_attribute("aria-label") == "Pause"


def test_speed_changes_how_fast_the_clock_runs(shown: Page) -> None:
    def ticks(speed: str) -> int:
        shown.locator("#speed").select_option(speed)
        return int(
            shown.evaluate(
                """() => new Promise((done) => {
                  const count = document.getElementById('count');
                  let changes = 0;
                  new MutationObserver(() => changes++).observe(count, {childList: true});
                  setTimeout(() => done(changes), 1000);
                })"""
            )
        )

    slow, fast = ticks("0.25"), ticks("2")
    assert slow <= 3
    assert fast >= 10


def test_holding_c_shows_the_source_in_the_place_of_every_clip(shown: Page) -> None:
    pause(shown)
    shown.locator("#frame").fill("4")
    shown.locator("h1").click()
    shown.keyboard.down("c")
    assert shown.evaluate(NUMBERS) == [3, 65, *[3] * 8]
    assert shown.locator(".item .view i").first.inner_text() == "source"
    shown.keyboard.up("c")
    assert shown.evaluate(NUMBERS) == expected(3)


def test_the_pointer_wipes_to_the_source_and_a_press_shows_it_alone(shown: Page) -> None:
    pause(shown)
    shown.locator("#frame").fill("1")
    view = shown.locator(".item .view").nth(1)
    box = view.bounding_box()
    assert box is not None
    shown.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    halves = shown.evaluate(NUMBERS)[3]
    assert halves == 192 & ~0b111111  # the left bars are the source's, 0, the right ones its own
    assert view.locator("canvas").get_attribute("data-shows") == "wipe"
    shown.mouse.down()
    assert shown.evaluate(NUMBERS)[3] == 0
    shown.mouse.up()
    shown.keyboard.press("w")
    assert view.locator("canvas").get_attribute("data-shows") == "self"
    shown.mouse.move(0, 0)
    shown.keyboard.press("w")
    assert shown.evaluate(NUMBERS) == expected(0)


def test_it_can_be_compared_with_the_depth_or_with_nothing(shown: Page) -> None:
    pause(shown)
    shown.locator("#frame").fill("1")
    for role, number in (("depth", 64), ("", 128)):
        shown.locator("#with").select_option(role)
        shown.locator("h1").click()
        shown.keyboard.down("c")
        assert shown.evaluate(NUMBERS)[2] == number
        shown.keyboard.up("c")


def visible(shown: Page) -> list[str]:
    found = shown.locator(".item:not([hidden]) figcaption b").all_inner_texts()
    return [text.removeprefix("clip ") for text in found]


def test_filters_and_words_leave_what_fits(shown: Page) -> None:
    shown.locator("select[data-axis=style]").select_option("y")
    assert visible(shown) == ["1", "3", "5", "7"]
    shown.locator("#find").fill("clip 3")
    assert visible(shown) == ["3"]
    assert shown.locator("#shown").inner_text() == "1 of 8"
    shown.locator("#find").fill("nothing like this")
    assert visible(shown) == []
    assert not shown.locator("h3", has_text="clips").is_visible()


def test_the_order_is_by_number_by_figure_or_as_made(shown: Page) -> None:
    order = shown.locator("#order")
    order.select_option("a:guidance")
    assert visible(shown)[:7] == ["7", "6", "5", "4", "3", "2", "1"]
    order.select_option("f:alignment")
    figures = [n * 7 % 5 for n in range(8)]
    best = [EVIL if n == 0 else str(n) for n in sorted(range(8), key=lambda n: -figures[n])]
    assert visible(shown) == best
    order.select_option("")
    assert visible(shown) == [EVIL, *"1234567"]


def test_copying_gives_the_commands_a_line_each(browser: Browser, tmp_path: Path) -> None:
    with page(browser, write(tmp_path / "x.html")) as shown:
        shown.wait_for_selector("html[data-ready]")
        shown.context.grant_permissions(["clipboard-read", "clipboard-write"])
        button = shown.locator(".item .copy").nth(1)
        button.click()
        shown.wait_for_function("b => b.textContent === 'Copied'", arg=button.element_handle())
        text = shown.evaluate("() => navigator.clipboard.readText()")
        assert text == "dvid tune 'a 1'\ndvid sample --prompt '1'"


def test_a_prompt_that_is_markup_is_shown_as_it_is(shown: Page) -> None:
    assert shown.locator(".item figcaption b").first.inner_text() == EVIL
    assert shown.title() == "a page"
    assert shown.locator("img").count() == 0


def test_the_policy_stops_a_script_that_is_not_the_pages_own(
    browser: Browser, tmp_path: Path
) -> None:
    path = write(tmp_path / "x.html")
    text = path.read_text().replace("<main>", "<main><script>document.title='bad'</script>")
    path.write_text(text)
    said: list[str] = []
    with profile(browser) as visitor:
        shown = visitor.new_page()
        shown.on("console", lambda message: said.append(message.text))
        shown.goto(path.resolve().as_uri())
        shown.wait_for_selector("html[data-ready]")
        assert shown.title() == "a page"
    assert any("Content Security Policy" in text for text in said)


@pytest.mark.parametrize("width", [320, 390, 768])
def test_narrow_screens_need_no_scrolling_sideways(
    browser: Browser, tmp_path: Path, width: int
) -> None:
    with page(browser, write(tmp_path / "x.html"), width=width) as shown:
        shown.wait_for_selector("html[data-ready]")
        for summary in shown.locator("summary").all():
            summary.click()
        assert not overflows(shown)


@pytest.mark.parametrize("dark", [False, True])
def test_it_is_as_light_or_dark_as_the_system_until_told_otherwise(
    browser: Browser, tmp_path: Path, dark: bool
) -> None:
    with page(browser, write(tmp_path / "x.html"), dark=dark) as shown:
        shown.wait_for_selector("html[data-ready]")
        corner = picture(shown)[-5:, :5].mean()
        assert (corner < 60) == dark
        shown.locator("#theme").select_option("light" if dark else "dark")
        corner = picture(shown)[-5:, :5].mean()
        assert (corner < 60) != dark


def test_without_scripts_the_clips_play_and_nothing_dead_is_shown(
    browser: Browser, tmp_path: Path
) -> None:
    path = write(tmp_path / "x.html", fps=4)
    context = browser.new_context(java_script_enabled=False, reduced_motion="no-preference")
    shown = context.new_page()
    shown.goto(path.resolve().as_uri())
    view = shown.locator(".item .view").nth(1)
    view.scroll_into_view_if_needed()
    seen = set()
    for _ in range(8):
        seen.add(view.screenshot())
        shown.wait_for_timeout(200)
    assert len(seen) > 2
    assert not shown.locator("nav").is_visible()
    assert not shown.locator(".copy").first.is_visible()
    assert shown.locator(".item figcaption b").nth(1).is_visible()
    context.close()


def test_where_less_motion_is_wanted_it_waits_to_be_started(
    browser: Browser, tmp_path: Path
) -> None:
    with page(browser, write(tmp_path / "x.html")) as shown:
        shown.emulate_media(reduced_motion="reduce")
        shown.reload()
        shown.wait_for_selector("html[data-ready]")
        assert shown.locator("#play").get_attribute("aria-label") == "Play"
        shown.keyboard.press("Space")
        assert shown.locator("#play").get_attribute("aria-label") == "Pause"


def test_a_page_of_one_clip_has_neither_filters_nor_comparing(
    browser: Browser, tmp_path: Path
) -> None:
    card = Card(title="a", strip=strip(film(0, 1)))
    section = Section(heading="", rows=[Row(title="", cards=[card])])
    (tmp_path / "x.html").write_text(report.page("t", "", [section]))
    with page(browser, tmp_path / "x.html") as shown:
        shown.wait_for_selector("html[data-ready]")
        assert not shown.locator("#with").is_visible()
        assert shown.locator(".finder").count() == 0
        assert shown.evaluate(NUMBERS) == [0]


@pytest.mark.parametrize(("sources", "shows"), [(1, "source"), (2, "self")])
def test_a_section_without_a_source_is_compared_with_the_only_one_of_the_page(
    browser: Browser, tmp_path: Path, sources: int, shows: str
) -> None:
    given = [
        Card(title="s", role="source", strip=strip(film(64 * n))) for n in range(1, sources + 1)
    ]
    rows = [[card] for card in given] + [[Card(title="a", strip=strip(film(640)))]]
    sections = [Section(heading="h", rows=[Row(title="", cards=row)]) for row in rows]
    (tmp_path / "x.html").write_text(report.page("t", "", sections))
    with page(browser, tmp_path / "x.html", height=2000) as shown:
        shown.wait_for_selector("html[data-ready]")
        shown.keyboard.down("c")
        canvas = shown.locator(".item canvas")
        assert canvas.get_attribute("data-shows") == shows
