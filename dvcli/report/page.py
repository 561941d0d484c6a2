"""One self-contained HTML page on which clips play in step, with what made each of them.

It asks nothing of a network, and a content security policy within it lets nothing be asked: what a
prompt says can only ever be text. Each clip is there once, as a strip of its frames in the style
sheet. Without scripts the strips still play; with them one clock drives every clip.
"""

import base64
import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import chain

from dvcli.report.facts import measured, values, varying
from dvcli.report.strip import Strip

FPS = 8.0
FEW = 6  # clips up to which no filters are needed
LENGTHS = (
    "<p>Clips of different lengths share one loop: each spreads its frames over it evenly.</p>\n"
)
CHOICES = 24  # values of a fact up to which it is offered as a filter


@dataclass(frozen=True, kw_only=True)
class Card:
    """One clip on the page: what it is called, facts in order, figures, the commands for it.

    A card with a `role`, such as `source`, is what the cards beside it are compared with. `axes`
    are the facts that cards are filtered and sorted by; those in `facts` are shown.
    """

    title: str
    strip: Strip
    role: str = ""
    note: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    axes: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    commands: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Row:
    """Cards beside each other under a title; None leaves a place empty."""

    title: str
    cards: Sequence[Card | None]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Section:
    """Rows that belong together, under a heading and a sentence.

    Where they are `aligned`, a row is one thing seen side by side, and is found or left out as a
    whole; else each card without a role is.
    """

    heading: str
    rows: Sequence[Row]
    sentence: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    commands: Sequence[str] = ()
    aligned: bool = False


def page(title: str, sentence: str, sections: Sequence[Section], *, fps: float = FPS) -> str:
    """The whole page as text; the same clips and words give the same bytes."""
    cards = [c for s in sections for r in s.rows for c in r.cards if c is not None]
    strips = list(dict.fromkeys(card.strip for card in cards))
    numbers = {strip: number for number, strip in enumerate(strips)}
    script = _asset("page.js")
    length = max((strip.frames for strip in strips), default=1)
    body = "".join(_section(section, numbers) for section in sections)
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    finder = _finder(sections)
    unequal = len({strip.frames for strip in strips}) > 1
    parts = {
        "title": _text(title),
        "sentence": _paragraph(sentence),
        "policy": f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{allowed}'; base-uri 'none'; form-action 'none'",
        "style": _asset("page.css") + _films(strips, length / fps),
        "length": str(length),
        "fps": f"{fps:g}",
        "roles": _options(dict.fromkeys(card.role for card in cards if card.role)),
        "finder": finder,
        "finds": " <kbd>/</kbd> finds." if finder else "",
        "lengths": LENGTHS if unequal else "",
        "body": body,
        "script": script,
    }
    # Split once, so that nothing a prompt says is taken for a place to fill in.
    pieces = _asset("page.html").split("⟦")
    return pieces[0] + "".join(
        parts[name] + rest for name, rest in (piece.split("⟧", 1) for piece in pieces[1:])
    )


def _asset(name: str) -> str:
    return (files("dvcli.report") / "assets" / name).read_text(encoding="utf-8")


def _films(strips: Sequence[Strip], seconds: float) -> str:
    """The rules that hold the clips, and those that play them where there are no scripts."""
    rules = []
    for number, strip in enumerate(strips):
        data = base64.b64encode(strip.webp).decode()
        rules.append(
            f'.s{number}{{background-image:url("data:image/webp;base64,{data}");'
            f"background-size:{strip.columns * 100}% {strip.rows * 100}%;"
            f"animation-name:{_layout(strip)}}}"
        )
    for strip in {_layout(strip): strip for strip in strips}.values():
        steps = "".join(
            f"{100 * number / strip.frames:.4f}%{{background-position:{_place(strip, number)}}}"
            for number in range(strip.frames)
        )
        rules.append(f"@keyframes {_layout(strip)}{{{steps}}}")
    return "\n".join([f":root{{--loop:{seconds:g}s}}", *rules])


def _layout(strip: Strip) -> str:
    return f"play-{strip.frames}-{strip.columns}"


def _place(strip: Strip, number: int) -> str:
    across, down = number % strip.columns, number // strip.columns
    x = 100 * across / max(strip.columns - 1, 1)
    y = 100 * down / max(strip.rows - 1, 1)
    return f"{x:.4f}% {y:.4f}%"


def _section(section: Section, numbers: Mapping[Strip, int]) -> str:
    rows = "".join(_row(row, section, numbers) for row in section.rows)
    heading = f"<h2>{_text(section.heading)}</h2>" if section.heading else ""
    return (
        f"<section>{heading}{_paragraph(section.sentence)}"
        f"{_list(section.facts, 'about')}{_again(section.commands, 'Make this run again')}"
        f"{rows}</section>\n"
    )


def _row(row: Row, section: Section, numbers: Mapping[Strip, int]) -> str:
    cards = "".join(
        '<div class="gap"></div>' if card is None else _card(card, section, numbers)
        for card in row.cards
    )
    title = f"<h3>{_text(row.title)}</h3>" if row.title else ""
    kind, said = "row", ""
    if section.aligned:
        shown = [card for card in row.cards if card is not None]
        words = " ".join([row.title, row.note, *(card.title for card in shown)])
        kind, said = "row item", f' data-words="{_text(words.casefold())}"'
    note = _paragraph(row.note)
    return f'<div class="{kind}"{said}>{title}{note}<div class="cards">{cards}</div></div>'


def _card(card: Card, section: Section, numbers: Mapping[Strip, int]) -> str:
    item = not section.aligned and not card.role
    about = ""
    if item:
        words = " ".join([card.title, *card.facts.values(), *card.axes.values()])
        figures = {name: round(value, 6) for name, value in card.figures.items()}
        about = (
            f' data-words="{_text(words.casefold())}" data-axes="{_json(card.axes)}"'
            f' data-figures="{_json(figures)}"'
        )
    figures_said = {name: measured(name, value) for name, value in card.figures.items()}
    return (
        f'<figure class="card{" item" if item else ""}"{about}>{_view(card, numbers)}<figcaption>'
        f"<b>{_text(card.title)}</b>{_paragraph(card.note)}{_list(card.facts, 'facts')}"
        f"{_list(figures_said, 'figures')}{_again(card.commands, 'Make it again')}"
        "</figcaption></figure>"
    )


def _view(card: Card, numbers: Mapping[Strip, int]) -> str:
    film = card.strip
    role = f' data-role="{_text(card.role)}"' if card.role else ""
    small = " small" if max(film.width, film.height) < 256 else ""
    return (
        f'<div class="view s{numbers[film]}{small}" role="img" aria-label="{_text(card.title)}"'
        f' data-strip="{numbers[film]}" data-n="{film.frames}" data-columns="{film.columns}"'
        f' data-w="{film.width}" data-h="{film.height}"{role}'
        f' style="aspect-ratio:{film.width}/{film.height}"></div>'
    )


def _again(commands: Sequence[str], title: str) -> str:
    if not commands:
        return ""
    lines = "".join(f"<code>{_text(command)}\n</code>" for command in commands)
    return (
        '<div class="again"><button type="button" class="copy" hidden>Copy</button>'
        f"<details><summary>{title}</summary><pre>{lines}</pre></details></div>"
    )


def _list(pairs: Mapping[str, str], kind: str) -> str:
    if not pairs:
        return ""
    items = "".join(
        f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>" for name, value in pairs.items()
    )
    return f'<dl class="{kind}">{items}</dl>'


def _finder(sections: Sequence[Section]) -> str:
    """Search, filters and an order, where there are enough clips to lose one among them."""
    cards = [
        card
        for section in sections
        for card in chain.from_iterable(row.cards for row in section.rows)
        if card is not None and not card.role and not section.aligned
    ]
    rows = sum(len(section.rows) for section in sections if section.aligned)
    if len(cards) + rows <= FEW:
        return ""
    parts = ['<label>find <input type="search" id="find" autocomplete="off"></label>']
    axes = [card.axes for card in cards]
    offered = {}
    for name in varying(axes):
        found = values(axes, name)
        if len(found) <= CHOICES:
            offered[name] = found
    for name, found in offered.items():
        parts.append(
            f'<label>{_text(name)} <select data-axis="{_text(name)}"><option value="">all</option>'
            f"{_options(found)}</select></label>"
        )
    figures = dict.fromkeys(name for card in cards for name in card.figures)
    orders = [f'<option value="a:{_text(name)}">{_text(name)}</option>' for name in offered]
    orders += [
        f'<option value="f:{_text(name)}">{_text(name)}, highest first</option>' for name in figures
    ]
    if orders:
        parts.append(
            '<label>order <select id="order"><option value="">as made</option>'
            f"{''.join(orders)}</select></label>"
        )
    parts.append('<output id="shown"></output>')
    return f'<div class="finder" hidden>{"".join(parts)}</div>'


def _options(names: "Sequence[str] | Mapping[str, None]") -> str:
    return "".join(
        f'<option value="{_text(name)}">{_text(_short(name))}</option>' for name in names
    )


def _short(text: str, most: int = 60) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def _paragraph(text: str) -> str:
    return f"<p>{_text(text)}</p>" if text else ""


def _json(value: object) -> str:
    return _text(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def _text(text: str) -> str:
    """The text as it may stand anywhere in HTML; characters that no page may hold are shown."""
    plain = "".join(c if c in "\n\t" or _allowed(c) else "�" for c in text)
    return html.escape(plain)


def _allowed(character: str) -> bool:
    """Whether HTML may hold it: no control, no half of a surrogate pair, no noncharacter."""
    code = ord(character)
    control = code < 0x20 or 0x7F <= code < 0xA0
    nothing = 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE
    return not (control or nothing or 0xD800 <= code < 0xE000)
