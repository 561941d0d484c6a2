"""The pages hold together: links lead somewhere, nothing is left out, the site asks nobody."""

import re
import sys
import tomllib
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from browser import chromium, overflows, profile
from pages import ROOT, blocks, name_of, pages
from PIL import Image
from playwright.sync_api import BrowserContext

from dvcli.cli.verbs import VERBS

DOCS = ROOT / "docs"
LINK = re.compile(r"!?\[(?:[^\]\[]|\[[^\]]*\])*\]\(([^)\s]+)\)")
ALL = [*pages(), DOCS / "cli.md"]
NAV = tomllib.loads((DOCS / "zensical.toml").read_text())["project"]["nav"]


def prose(page: Path) -> str:
    """The page without code, in which brackets are no links."""
    text = re.sub(r"(?ms)^\s*```.*?^\s*```", "", page.read_text(encoding="utf-8"))
    return re.sub(r"`[^`\n]*`", "`code`", text)


def anchors(page: Path) -> set[str]:
    """The names of its headings, as GitHub and the site make them."""
    text = re.sub(r"(?ms)^\s*```.*?^\s*```", "", page.read_text(encoding="utf-8"))
    found = re.findall(r"(?m)^#+ (.+)$", text)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in found}


def listed(nav: object) -> set[str]:
    """The pages that a navigation names."""
    match nav:
        case str():
            return {nav}
        case dict():
            return set().union(*map(listed, nav.values()))
        case list():
            return set().union(*map(listed, nav))
    raise AssertionError(nav)


@pytest.mark.parametrize("page", ALL, ids=name_of)
def test_every_link_within_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(prose(page)):
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_relative_to(ROOT), f"{name_of(page)}: `{link}`"
        assert target.exists(), f"{name_of(page)}: `{link}` leads nowhere"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{name_of(page)}: no heading for `{link}`"


@pytest.mark.parametrize("page", ALL, ids=name_of)
def test_pages_link_no_further_than_the_site_goes(page: Path) -> None:
    if page == ROOT / "README.md":
        return
    for link in LINK.findall(prose(page)):
        if "://" not in link and not link.startswith(("mailto:", "#")):
            target = (page.parent / link.partition("#")[0]).resolve()
            assert target.is_relative_to(DOCS), f"{name_of(page)}: `{link}` is not on the site"


def test_every_page_is_in_the_navigation_once() -> None:
    here = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    assert listed(NAV) == here


def test_every_page_has_one_title() -> None:
    for page in ALL:
        text = re.sub(r"(?ms)^\s*```.*?^\s*```", "", page.read_text(encoding="utf-8"))
        assert len(re.findall(r"(?m)^# ", text)) == 1, name_of(page)


def test_the_readme_names_every_command() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [verb for verb in VERBS if f"dvid {verb}" not in text] == []


def test_every_picture_is_used_and_small_enough() -> None:
    used = {(page.parent / link).resolve() for page in ALL for link in LINK.findall(prose(page))}
    for picture in (DOCS / "images").iterdir():
        assert picture in used, picture.name
        assert picture.stat().st_size < 1_000_000, picture.name


def test_the_readme_moves() -> None:
    with Image.open(DOCS / "images" / "edits.webp") as picture:
        assert picture.n_frames == 14


def test_every_fenced_block_has_a_language_that_is_coloured_or_run() -> None:
    known = {"sh", "python", "text", "toml", "json", "html", ""}
    assert {block.language for page in pages() for block in blocks(page)} <= known


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `python docs/build.py` builds it; a warning would be an error."""
    pytest.importorskip("zensical", reason="`pip install -e '.[docs]'` builds the site")
    sys.path.insert(0, str(DOCS))
    try:
        from build import build
    finally:
        sys.path.remove(str(DOCS))
    folder = tmp_path_factory.mktemp("site")
    build(folder)
    return folder


def test_the_site_has_every_page(site: Path) -> None:
    assert {path.stem for path in site.glob("*.html")} >= {Path(p).stem for p in listed(NAV)}


def test_the_site_asks_nobody_for_anything(site: Path) -> None:
    loads = re.compile(
        r"""<(?:script|img|iframe|source|video|audio)[^>]*\bsrc=["']?(?:https?:)?//[^\s>]+"""
        r"""|<link(?![^>]*rel=["']?(?:canonical|alternate|next|prev))[^>]*href=["']?(?:https?:)?//[^\s>]+"""
        r"""|@import\s+[^;]*//[^;]+|url\(["']?(?:https?:)?//[^)]+"""
    )
    for path in [*site.rglob("*.html"), *site.rglob("*.css")]:
        assert loads.findall(path.read_text(encoding="utf-8")) == [], path.name


def test_no_page_has_what_the_themes_script_would_fetch_a_library_for(site: Path) -> None:
    script = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.js"))
    fetched = set(re.findall(r"//(?:unpkg\.com|cdn\.[\w.]+|fonts\.[\w.]+)/([a-z-]+)", script))
    assert fetched <= {"ace-builds", "glightbox", "mermaid", "pyodide", "resize-observer-polyfill"}
    for path in site.glob("*.html"):
        text = path.read_text(encoding="utf-8")
        found = re.findall(r"class=\"[^\"]*\b(mermaid|glightbox|pyodide)", text)
        assert found == [], path.name


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    """Where the site is served."""
    handler = partial(Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.mark.slow
def test_a_browser_finds_all_it_needs_on_the_site(address: str) -> None:
    with chromium() as browser:
        for name in ("index", "how-it-works", "gallery", "cli"):
            for width in (1200, 390):
                with profile(browser, width=width, dark=width < 500) as visitor:
                    assert visited(visitor, f"{address}/{name}.html", address) == []


def visited(visitor: BrowserContext, page: str, address: str) -> list[str]:
    """What was wrong with the page: what it asked of others, what failed, and too much width."""
    faults: list[str] = []
    shown = visitor.new_page()
    shown.on("console", lambda said: said.type == "error" and faults.append(said.text))
    shown.on("pageerror", lambda error: faults.append(str(error)))
    home = (address, "data:", "blob:")
    shown.on("request", lambda asked: asked.url.startswith(home) or faults.append(asked.url))
    shown.goto(page, wait_until="networkidle")
    assert shown.locator("h1").count() == 1
    return faults + (["wider than the screen"] if overflows(shown) else [])
