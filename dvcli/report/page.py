"""One self-contained HTML page on which clips play in step, with what made each of them.

Clips are embedded as animated pictures, which play from a `file:` address without a player, in
every browser, and stay in step because they are as long as each other.
"""

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1a1a1a; --faint: #666; --line: #ddd; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #141414; --ink: #eee; --faint: #999; --line: #333; }
}
* { box-sizing: border-box; }
body { margin: 2rem auto; max-width: 78rem; padding: 0 1rem; background: var(--paper);
  color: var(--ink); font: 16px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .6rem; }
p { margin: .2rem 0 1rem; color: var(--faint); max-width: 46rem; }
main section > div { display: grid; gap: 1.2rem;
  grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); }
figure { margin: 0; } figure img { width: 100%; display: block; border: 1px solid var(--line);
  image-rendering: pixelated; }
figcaption { margin-top: .4rem; } figcaption b { font-weight: 600; }
dl { display: grid; grid-template-columns: auto 1fr; gap: 0 .6rem; margin: .2rem 0;
  font-size: .85rem; color: var(--faint); } dd { margin: 0; font-variant-numeric: tabular-nums; }
details { font-size: .85rem; color: var(--faint); } summary { cursor: pointer; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: .3rem 0; }
"""


@dataclass(frozen=True, kw_only=True)
class Card:
    """One clip on the page: an animated WebP, a title, facts in order, the commands for it."""

    title: str
    webp: Path
    facts: Mapping[str, str] = field(default_factory=dict)
    commands: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Section:
    """Cards that belong together, under a heading and a sentence."""

    heading: str
    sentence: str
    cards: Sequence[Card]


def page(title: str, sentence: str, sections: Sequence[Section]) -> str:
    """The whole page as text; it asks nothing of a network."""
    body = "".join(_section(section) for section in sections)
    return (
        "<!doctype html>\n"
        f'<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head><body>"
        f"<header><h1>{html.escape(title)}</h1><p>{html.escape(sentence)}</p></header>"
        f"<main>{body}</main></body></html>\n"
    )


def _section(section: Section) -> str:
    cards = "".join(_card(card) for card in section.cards)
    return (
        f"<section><h2>{html.escape(section.heading)}</h2><p>{html.escape(section.sentence)}</p>"
        f"<div>{cards}</div></section>"
    )


def _card(card: Card) -> str:
    data = base64.b64encode(card.webp.read_bytes()).decode()
    facts = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>"
        for name, value in card.facts.items()
    )
    commands = html.escape("\n".join(card.commands))
    again = f"<details><summary>again</summary><pre>{commands}</pre></details>" if commands else ""
    title = html.escape(card.title)
    return (
        f'<figure><img alt="{title}" src="data:image/webp;base64,{data}">'
        f"<figcaption><b>{title}</b>{f'<dl>{facts}</dl>' if facts else ''}{again}</figcaption>"
        "</figure>"
    )
