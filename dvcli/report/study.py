"""A blind study as one HTML page, and the key that says afterwards which clip was whose.

The page knows clips by opaque names only. A study's id is the digest of its key, so a key that was
changed after the page went out is found out.
"""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from itertools import combinations
from pathlib import Path

SCHEMA = 1
KIND = "study key"


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of every pair; `quotes` shows the prompt, which otherwise stays hidden."""

    id: str
    text: str
    hint: str
    told: str  # on the first screen
    quotes: bool


# In this order: the prompt must not colour the answer on steadiness.
QUESTIONS = (
    Question(
        id="consistency",
        text="Which clip is steadier?",
        hint="Look for flicker, and for things that change shape or colour from frame to frame",
        told="Which clip is steadier, with less flicker and less change of shape or colour?",
        quotes=False,
    ),
    Question(
        id="alignment",
        text="Which clip fits this description better?",
        hint="",
        told="Which clip fits a description better? It is shown with the question.",
        quotes=True,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Take:
    """One method's clip of an example: a WebM without a word in it, and what it was called."""

    method: str
    file: str
    webm: Path


@dataclass(frozen=True, kw_only=True)
class Example:
    """What two or more methods made of one prompt."""

    name: str
    prompt: str
    takes: Sequence[Take]


@dataclass(frozen=True, kw_only=True)
class Whose:
    """The method behind an opaque clip, and where it came from."""

    method: str
    example: str
    file: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two clips of one example by their opaque names; `blind` says in which order."""

    example: str
    prompt: str
    clips: tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Key:
    """Everything that the page does not tell."""

    seed: int
    methods: tuple[str, ...]
    clips: Mapping[str, Whose]
    pairs: Mapping[str, Pair]
    questions: tuple[str, ...] = field(default=tuple(q.id for q in QUESTIONS))

    @property
    def study(self) -> str:
        """The study's id, 16 hex digits: the digest of all that is in the key."""
        return _digest(json.dumps(asdict(self), sort_keys=True))[:16]

    def text(self) -> str:
        """The key as the text of a file."""
        whole = {"schema": SCHEMA, "kind": KIND, "study": self.study, **asdict(self)}
        return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def blind(
    examples: Sequence[Example], methods: Sequence[str], *, seed: int, against: str | None = None
) -> tuple[Key, dict[str, Path]]:
    """The key, and each opaque clip's file: every pair of methods, or those with `against`.

    Of the pairs of two methods each method is listed first in half, of an odd number in one more or
    less. Opaque names, the order of pairs and those halves are three draws from the seed and from
    names that the page does not hold, so that neither a name nor a place says whose a clip is.
    """
    known = [
        (
            Whose(
                method=take.method,
                example=example.name,
                file=take.file,
                sha256=hashlib.sha256(take.webm.read_bytes()).hexdigest(),
            ),
            take.webm,
        )
        for example in examples
        for take in example.takes
    ]
    salt = _drawn(seed, sorted(list(asdict(whose).values()) for whose, _ in known))
    known.sort(key=lambda clip: _drawn(salt, "name", asdict(clip[0])))
    opaque = _names("c", len(known))
    clips = {name: whose for name, (whose, _) in zip(opaque, known, strict=True)}
    place = {name: webm for name, (_, webm) in zip(opaque, known, strict=True)}
    names = {(whose.example, whose.method): name for name, whose in clips.items()}
    found: list[Pair] = []
    for one, two in combinations(methods, 2):
        if against is None or against in (one, two):
            both = [e for e in examples if {(e.name, one), (e.name, two)} <= names.keys()]
            found += _halved(both, (one, two), names, _drawn(salt, one, two))
    found.sort(key=lambda pair: _drawn(salt, "order", sorted(pair.clips)))
    pairs = dict(zip(_names("p", len(found)), found, strict=True))
    return Key(seed=seed, methods=tuple(methods), clips=clips, pairs=pairs), place


def _halved(
    examples: Sequence[Example],
    methods: tuple[str, str],
    names: Mapping[tuple[str, str], str],
    salt: str,
) -> Iterator[Pair]:
    """The pairs of two methods, in which they are listed first in turn, in an order of its own."""
    drawn = sorted(examples, key=lambda example: _drawn(salt, "half", example.name))
    begins = int(_drawn(salt, "begins"), 16)
    for number, example in enumerate(drawn, begins):
        one, two = (names[example.name, method] for method in methods)
        clips = (one, two) if number % 2 else (two, one)
        yield Pair(example=example.name, prompt=example.prompt, clips=clips)


def page(key: Key, clips: Mapping[str, Path]) -> str:
    """The whole page as text; it plays from a `file:` address and asks nothing of a network."""
    told = {
        "id": key.study,
        "questions": [asdict(question) for question in QUESTIONS],
        "pairs": [
            {"id": name, "prompt": pair.prompt, "clips": pair.clips}
            for name, pair in key.pairs.items()
        ],
    }
    shown = sorted({name for pair in key.pairs.values() for name in pair.clips})
    films = "\n".join(
        f'<script type="text/plain" id="{name}">{_base64(clips[name])}</script>' for name in shown
    )
    data = json.dumps(told, ensure_ascii=False).replace("<", "\\u003c")
    template = files("dvcli.report").joinpath("study.html").read_text(encoding="utf-8")
    before, middle, after = _parts(template, "{{study}}", "{{clips}}")
    return before + data + middle + films + after


def _parts(template: str, *marks: str) -> Iterator[str]:
    for mark in marks:
        part, found, template = template.partition(mark)
        assert found
        yield part
    yield template


def _names(letter: str, count: int) -> list[str]:
    width = len(str(count))
    return [f"{letter}{number:0{width}}" for number in range(1, count + 1)]


def _drawn(*of: object) -> str:
    return _digest(json.dumps(of))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
