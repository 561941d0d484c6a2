"""The page of a study in a real browser: seen, answered, reloaded, saved and scored."""

import json
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from browser import chromium, opened, overflows, page, picture, profile
from films import film
from PIL import Image
from playwright.sync_api import Browser, Locator, Page
from program import Dvid

from dvcli.report.study import Example, Take, blind
from dvcli.report.study import page as study_page

NAMES = ("fox", "cat", "owl")
HOSTILE = 'an <b>owl</b> says "</script><script>document.title = 1</script>"'


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `study.html` and its key: `alpha` is dark throughout, `beta` is bright."""
    folder = tmp_path_factory.mktemp("sent")
    examples = []
    for place, name in enumerate(NAMES):
        takes = [
            Take(method=method, file=name, webm=film(folder / method / f"{name}.webm", shade))
            for method, shade in (("alpha", 30 + 10 * place), ("beta", 180 + 10 * place))
        ]
        prompt = HOSTILE if name == "owl" else f"a {name} in the snow"
        examples.append(Example(name=name, prompt=prompt, takes=takes))
    key, clips = blind(examples, ["alpha", "beta"], seed=0)
    (folder / "study.html").write_text(study_page(key, clips), encoding="utf-8")
    (folder / "study.key.json").write_text(key.text(), encoding="utf-8")
    return folder


def enter(shown: Page, name: str = "Ada") -> None:
    shown.get_by_label("Your name").fill(name)
    shown.keyboard.press("Enter")
    ready(shown)


def welcome(shown: Page) -> None:
    """Wait until the page has looked whether somebody has begun here, and nobody has."""
    shown.wait_for_selector("#welcome:visible")


def ready(shown: Page) -> None:
    """Wait until a question can be answered, or all are."""
    shown.wait_for_selector(".choice:enabled:not(.chosen), #thanks:visible")


def choices(shown: Page) -> list[Locator]:
    return [shown.get_by_role("button", name=f"Choose clip {n}") for n in (1, 2)]


def seen_methods(shown: Page) -> list[str]:
    """Whose the clips on the screen are, by how bright they look."""
    found = []
    for video in shown.locator("video").all():
        with Image.open(BytesIO(video.screenshot())) as image:
            grey = np.asarray(image.convert("L"))
        found.append("alpha" if np.median(grey) < 128 else "beta")
    return found


def asked(shown: Page) -> str:
    text = shown.get_by_role("heading").inner_text()
    return {"Which clip is steadier?": "consistency"}.get(text, "alignment")


def answer(shown: Page, method: str, by: str) -> None:
    """Choose that method's clip by its looks, with the mouse or a key."""
    side = seen_methods(shown).index(method)
    if by == "mouse":
        choices(shown)[side].click()
    else:
        shown.keyboard.press({"digits": "12", "arrows": ["ArrowLeft", "ArrowRight"]}[by][side])
    ready(shown)


def place(shown: Page) -> str:
    return f"{shown.inner_text('#number')}, {shown.inner_text('#step').lower()}"


@pytest.mark.parametrize("by", ["mouse", "digits", "arrows"])
def test_the_score_is_what_was_chosen_also_after_a_reload(
    browser: Browser, sent: Path, dvid: Dvid, tmp_path: Path, by: str
) -> None:
    wishes = {"consistency": ["alpha", "alpha", "alpha"], "alignment": ["beta", "alpha", "beta"]}
    with page(browser, sent / "study.html") as shown:
        enter(shown)
        for _ in range(3):
            answer(shown, wishes[asked(shown)].pop(0), by)
        assert place(shown) == "Pair 2 of 3, question 2 of 2"
        shown.reload()
        ready(shown)
        assert place(shown) == "Pair 2 of 3, question 2 of 2"
        answer(shown, wishes[asked(shown)].pop(0), by)
        shown.goto("about:blank")
        shown.goto((sent / "study.html").as_uri())
        ready(shown)
        for _ in range(2):
            answer(shown, wishes[asked(shown)].pop(0), by)
        assert shown.get_by_role("heading").inner_text() == "Thank you, Ada"
        with shown.expect_download() as saving:
            shown.get_by_role("button", name="Save my answers").click()
        assert saving.value.suggested_filename == "answers-ada.json"
        saving.value.save_as(tmp_path / "ada.json")
    said = dvid("study", "score", sent / "study.key.json", tmp_path / "ada.json", "--json")
    rows = [json.loads(line) for line in said.lines]
    assert [(row["question"], row["won"], row["lost"]) for row in rows] == [
        ("consistency", 3, 0),
        ("alignment", 1, 2),
    ]


def test_both_clips_move_in_step_and_go_on_after_their_end(browser: Browser, sent: Path) -> None:
    with page(browser, sent / "study.html") as shown:
        enter(shown)
        times = shown.evaluate(
            """async () => {
              const found = [];
              for (let n = 0; n < 40; n += 1) {
                found.push([...document.querySelectorAll("video")].map((v) => v.currentTime));
                await new Promise((done) => setTimeout(done, 50));
              }
              return found;
            }"""
        )
    one, two = np.array(times).T
    assert np.abs(one - two).max() < 0.1  # a frame lasts 0.125 s
    assert (np.diff(one) < 0).sum() >= 2  # of 0.5 s, in 2 s
    assert len(np.unique(one)) > 20


def test_pause_holds_both_clips_and_play_lets_them_go(browser: Browser, sent: Path) -> None:
    stopped = "[...document.querySelectorAll('video')].every((video) => video.paused)"
    with page(browser, sent / "study.html") as shown:
        enter(shown)
        shown.get_by_role("button", name="Pause").click()
        assert shown.evaluate(stopped)
        shown.keyboard.press("p")
        shown.wait_for_function(f"!{stopped}")
        assert shown.get_by_role("button", name="Pause").is_visible()


def test_the_prompt_is_shown_as_text_and_only_with_its_question(
    browser: Browser, sent: Path
) -> None:
    prompts = []
    with page(browser, sent / "study.html") as shown:
        enter(shown)
        for _ in range(6):
            quote = shown.locator("#quote")
            assert quote.is_visible() == (asked(shown) == "alignment")
            if quote.is_visible():
                prompts.append(quote.inner_text())
            shown.keyboard.press("1")
            ready(shown)
        assert shown.title() == "Which clip is better?"
    assert sorted(prompts) == sorted(["“a fox in the snow”", "“a cat in the snow”", f"“{HOSTILE}”"])


def test_back_takes_the_last_answer_again(browser: Browser, sent: Path) -> None:
    with page(browser, sent / "study.html") as shown:
        enter(shown)
        assert shown.get_by_role("button", name="Back").is_disabled()
        answer(shown, "alpha", "mouse")
        shown.get_by_role("button", name="Back").click()
        ready(shown)
        assert place(shown) == "Pair 1 of 3, question 1 of 2"
        answer(shown, "beta", "digits")
        with shown.expect_download() as saving:
            shown.get_by_role("button", name="Save so far").click()
        saved = json.loads(Path(saving.value.path()).read_text())
    key = json.loads((sent / "study.key.json").read_text())
    (only,) = saved["answers"]
    assert key["clips"][only["chosen"]]["method"] == "beta"


def test_a_key_that_is_held_or_meant_for_the_browser_answers_nothing(
    browser: Browser, sent: Path
) -> None:
    with page(browser, sent / "study.html") as shown:
        enter(shown)
        shown.keyboard.press("Alt+ArrowRight")
        shown.keyboard.press("Control+1")
        shown.keyboard.down("1")
        ready(shown)
        for _ in range(4):
            shown.keyboard.down("1")  # what a key that is held sends
            shown.wait_for_timeout(100)
        assert place(shown) == "Pair 1 of 3, question 2 of 2"


def test_each_rater_has_an_order_of_their_own_and_keeps_it(browser: Browser, sent: Path) -> None:
    script = "(name) => JSON.stringify(course(name).map((step) => [step.pair.id, ...step.clips]))"
    with page(browser, sent / "study.html") as shown:
        orders = [shown.evaluate(script, f"rater {n}") for n in range(30)]
        assert [shown.evaluate(script, f"Rater {n}") for n in range(30)] == orders
        pairs = shown.evaluate("study.pairs")
    plain = {pair["id"]: pair["clips"] for pair in pairs}
    steps = [[tuple(step) for step in json.loads(order)[::2]] for order in orders]
    assert len({tuple(name for name, *_ in course) for course in steps}) == 6
    for course in steps:
        assert sorted(name for name, *_ in course) == sorted(plain)
    assert {tuple(clips == plain[name] for name, *clips in course) for course in steps} == {
        (True,) * 3,
        (False,) * 3,
    }


@pytest.mark.parametrize("examples", [24, 25])
@pytest.mark.parametrize("methods", [("alpha", "beta"), ("alpha", "beta", "gamma")])
def test_each_of_two_methods_stands_first_in_half_of_their_pairs_for_each_rater(
    browser: Browser, tmp_path: Path, examples: int, methods: tuple[str, ...]
) -> None:
    made = []
    for name in map(str, range(examples)):
        takes = []
        for method in methods:
            webm = tmp_path / f"{method}-{name}"
            webm.write_text(webm.name)
            takes.append(Take(method=method, file=name, webm=webm))
        made.append(Example(name=name, prompt=f"a {name}", takes=takes))
    key, clips = blind(made, methods, seed=0)
    (tmp_path / "study.html").write_text(study_page(key, clips), encoding="utf-8")
    firsts = """() => Array.from({ length: 200 }, (_, number) => course(`rater ${number}`)
      .filter((step) => step.question === study.questions[0])
      .map((step) => step.clips))"""
    with page(browser, tmp_path / "study.html") as shown:
        courses = shown.evaluate(firsts)
    for course in courses:
        first: Counter[tuple[str, str]] = Counter()
        for clips_shown in course:
            one, two = (key.clips[clip].method for clip in clips_shown)
            first[one, two] += 1
        for one, two in combinations(methods, 2):
            assert first[one, two] + first[two, one] == examples
            assert abs(first[one, two] - first[two, one]) == examples % 2
    for pair in key.pairs.values():
        unturned = sum(list(pair.clips) in course for course in courses)
        assert 72 <= unturned <= 128  # of 200, four standard deviations


def test_two_raters_on_one_computer_do_not_mix(browser: Browser, sent: Path) -> None:
    with page(browser, sent / "study.html", fragment="#Bob%20B") as shown:
        welcome(shown)
        assert shown.get_by_label("Your name").input_value() == "Bob B"
        enter(shown, "Ada")
        for _ in range(6):
            shown.keyboard.press("2")
            ready(shown)
        shown.get_by_role("button", name="Another person").click()
        enter(shown, "Bob")
        assert place(shown) == "Pair 1 of 3, question 1 of 2"
        shown.keyboard.press("2")
        ready(shown)
        assert place(shown) == "Pair 1 of 3, question 2 of 2"


def test_a_browser_that_keeps_nothing_can_still_be_used(browser: Browser, sent: Path) -> None:
    with profile(browser) as visitor:
        visitor.add_init_script(
            "Object.defineProperty(window, 'indexedDB', { get() { throw new Error('no'); } })"
        )
        with opened(visitor, sent / "study.html") as shown:
            enter(shown)
            for _ in range(3):
                shown.keyboard.press("1")
                ready(shown)
            shown.reload()
            ready(shown)
            assert place(shown) == "Pair 2 of 3, question 2 of 2"
            for _ in range(3):
                shown.keyboard.press("1")
                ready(shown)
            with shown.expect_download() as saving:
                shown.get_by_role("button", name="Save my answers").click()
            assert len(json.loads(Path(saving.value.path()).read_text())["answers"]) == 6


def test_answers_that_fit_no_course_are_not_taken_over(browser: Browser, sent: Path) -> None:
    strange = json.dumps([{"pair": "p9", "question": "consistency", "chosen": "c1"}])
    with page(browser, sent / "study.html") as shown:
        shown.evaluate(
            "text => Promise.all([keep('rater', 'Ada'), keep('answers/ada', text)])", strange
        )
        shown.reload()
        ready(shown)
        assert place(shown) == "Pair 1 of 3, question 1 of 2"


@pytest.mark.parametrize(("width", "height"), [(320, 568), (390, 844), (844, 390), (1280, 800)])
def test_everything_fits_the_width_of_the_screen(
    browser: Browser, sent: Path, width: int, height: int
) -> None:
    with page(browser, sent / "study.html", width=width, height=height) as shown:
        welcome(shown)
        assert not overflows(shown)
        enter(shown)
        shown.keyboard.press("1")
        ready(shown)
        assert not overflows(shown)
        boxes = [choice.bounding_box() for choice in choices(shown)]
        assert all(box is not None and box["width"] > 120 for box in boxes)


def test_a_phone_and_a_screen_show_both_clips_without_scrolling(
    browser: Browser, sent: Path
) -> None:
    for width, height in ((390, 844), (1280, 800), (844, 390)):
        with page(browser, sent / "study.html", width=width, height=height) as shown:
            enter(shown)
            for choice in choices(shown):
                box = choice.bounding_box()
                assert box is not None
                assert box["y"] >= 0
                assert box["y"] + box["height"] <= height, (width, height)


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_follows_the_systems_light_and_dark(
    browser: Browser, sent: Path, dark: bool
) -> None:
    with page(browser, sent / "study.html", dark=dark) as shown:
        welcome(shown)
        assert (picture(shown)[5, 5].mean() < 60) == dark
        enter(shown)
        assert (picture(shown)[60, 5].mean() < 60) == dark


def test_what_a_screen_reader_says_names_every_control(browser: Browser, sent: Path) -> None:
    with page(browser, sent / "study.html") as shown:
        welcome(shown)
        assert shown.get_by_role("textbox", name="Your name, or the code you were given").count()
        enter(shown)
        assert shown.get_by_role("progressbar", name="Questions answered").count() == 1
        for choice in choices(shown):
            described = choice.get_attribute("aria-describedby")
            assert described is not None
            assert shown.inner_text(f"#{described}") == "Which clip is steadier?"
        assert shown.evaluate("document.activeElement.id") == "question"
        nameless = "[...document.querySelectorAll('button')].filter((b) => !b.innerText.trim())"
        assert shown.evaluate(f"{nameless}.filter((b) => b.checkVisibility()).length") == 0


def test_few_pixels_are_shown_as_they_are(browser: Browser, sent: Path) -> None:
    with page(browser, sent / "study.html") as shown:
        enter(shown)
        styles = "[...document.querySelectorAll('video')].map((v) => v.style.imageRendering)"
        assert shown.evaluate(styles) == ["pixelated", "pixelated"]
