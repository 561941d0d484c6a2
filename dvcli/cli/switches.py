"""What one prompt may ask for beside its words: the switches of a line, the fields of an object.

A line is a prompt, then switches as a shell would read them:

    a red fox --style impressionism --seed 3 --negative "snow, ice"

The prompt itself is taken as it stands, apostrophes and all, or may be quoted as a whole. A line
that begins with `-- ` is all prompt, and so is what follows `--` after switches.
"""

import difflib
import io
import math
import re
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace

from dvcli.errors import InputError

LONGEST = 20_000  # characters; a line beyond is no prompt but a mistaken file
_FIRST = re.compile(r"(?:^|\s)--(?=[A-Za-z])")
_QUOTED = re.compile(r"""(["'])((?:(?!\1).)+)\1(?=\s+--(?:[A-Za-z]|\s)|\s*$)""")
_INTEGER = re.compile(r"-?[0-9]{1,15}")


@dataclass(frozen=True, kw_only=True)
class Switches:
    """The options of `sample` that one prompt may have of its own; None is what the command says.

    `name` is what the file of the result is named after, in the place of the prompt's words.
    """

    style: tuple[str, ...] | None = None
    negative: str | None = None
    guidance: float | None = None
    guidance_from: float | None = None
    guidance_until: float | None = None
    fast: bool | None = None
    reuse: int | None = None
    strength: float | None = None
    eta: float | None = None
    from_noise: bool | None = None
    seed: tuple[int, ...] | None = None
    depth_gain: float | None = None
    depth_bias: float | None = None
    depth_gamma: float | None = None
    depth_near: float | None = None
    depth_far: float | None = None
    depth_smooth: float | None = None
    depth_active: float | None = None
    depth_blend: float | None = None
    depth_from: str | None = None
    name: str | None = None

    def over(self, other: "Switches") -> "Switches":
        """These, and `other` for what they leave open."""
        return replace(other, **self.given)  # type: ignore[arg-type]  # of its own fields

    def only(self, names: Collection[str]) -> "Switches":
        """Of these, those of such names."""
        kept = {name: value for name, value in self.given.items() if name in names}
        return Switches(**kept)  # type: ignore[arg-type]  # of its own fields

    @property
    def given(self) -> dict[str, object]:
        """Those that are set, by name."""
        every = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in every.items() if value is not None}


NAMES = tuple(field.name for field in fields(Switches))
SEVERAL = ("style", "seed")
TEXTS = ("style", "negative", "depth_from", "name")
FLAGS = ("fast", "from_noise")
WHOLE = ("seed", "reuse")


def read_line(line: str) -> tuple[str, Switches]:
    """(the prompt, its switches) of a line of text. Raises `InputError`, which knows no place."""
    if re.match(r"--(\s|$)", line):
        return line[2:].strip(), Switches()
    if quoted := _QUOTED.match(line):
        words, rest = quoted[2].strip(), line[quoted.end() :].strip()
        return _switched(words, rest) if rest else (words, Switches())
    first = _FIRST.search(line)
    if first is None:
        return line, Switches()
    return _switched(line[: first.start()].strip(), line[first.start() :].strip())


def _switched(words: str, rest: str) -> tuple[str, Switches]:
    """The prompt and what the text behind it switches."""
    text = io.StringIO(rest)
    lexer = shlex.shlex(text, posix=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    found: dict[str, list[str]] = {}
    try:
        while (token := lexer.get_token()) is not None:
            if token == "--":
                after = text.read().strip()
                if words and after:
                    raise InputError(
                        "there are words before the switches and after `--`",
                        hint="the prompt stands in one of the two places",
                    )
                words = words or after
                break
            name, value = _one(token, lexer)
            found.setdefault(name, []).append(value)
    except ValueError as unclosed:  # what shlex says of quotes and backslashes
        said = str(unclosed)[:1].lower() + str(unclosed)[1:]
        raise InputError(f"its switches cannot be read: {said}", hint=_QUOTING) from None
    values: dict[str, object] = {}
    for name, texts in found.items():
        if len(texts) > 1 and name not in SEVERAL:
            raise InputError(f"`{_spelled(name)}` is there {len(texts)} times")
        values[name] = texts if name in SEVERAL else texts[0]
    return words, _typed(values)


_QUOTING = "quotes around a value with spaces; `-- PROMPT` takes every word as it is"


def _one(token: str, lexer: shlex.shlex) -> tuple[str, str]:
    """The switch that the token names, and its value; a flag's is `true`."""
    if not token.startswith("--"):
        raise InputError(
            f"`{token[:40]}` stands between switches",
            hint="the prompt comes before them, or after `--`",
        )
    written, given, value = token[2:].partition("=")
    name = known(written, switch=True)
    if name in FLAGS:
        if given:
            raise InputError(f"`{_spelled(name)}` takes no value")
        return name, "true"
    if given:
        return name, value
    following = lexer.get_token()
    if following is None:
        raise InputError(f"`{_spelled(name)}` has no value")
    return name, following


def read_object(found: Mapping[str, object]) -> tuple[str, Switches]:
    """(the prompt, its switches) of a JSON object: `prompt`, and switches without their dashes."""
    values: dict[str, object] = {}
    words: object = None
    for written, value in found.items():
        if written == "prompt":
            words = value
            continue
        name = known(written, switch=False)
        if name in values:
            raise InputError(f"`{written}` is there twice")
        if value is not None:
            values[name] = value
    if not isinstance(words, str):
        said = "has no prompt" if words is None else f"has a prompt that is no text: {words!r:.40}"
        raise InputError(f"the object {said}", hint='{"prompt": "what the new clip shows"}')
    if len(words) > LONGEST or "\0" in words:
        raise InputError("the object's prompt is no prompt")
    return words.strip(), _typed(values)


def read_switches(found: Mapping[str, object]) -> Switches:
    """The switches of a JSON object that has no prompt of its own."""
    if "prompt" in found:
        raise InputError("`prompt` is not one of them", hint='"prompts" is a list beside it')
    return read_object({**found, "prompt": ""})[1]


def known(written: str, *, switch: bool) -> str:
    """The name that is meant by what is written, with dashes or underscores."""
    name = written.replace("-", "_")
    if name in NAMES:
        return name
    shown = f"--{written[:40]}" if switch else written[:40]
    near = difflib.get_close_matches(name, NAMES, n=1)
    meant = (_spelled(near[0]) if switch else near[0]) if near else ""
    raise InputError(
        f"a prompt has no {'switch' if switch else 'field'} `{shown}`"
        + (f", did you mean `{meant}`?" if near else ""),
        hint="`-- PROMPT` takes every word as it is" if switch else "one of " + ", ".join(NAMES),
    )


def _typed(values: Mapping[str, object]) -> Switches:
    every: dict[str, object] = {}
    for name, value in values.items():
        if name in SEVERAL:
            items = value if isinstance(value, list) else [value]
            if not items:
                raise InputError(f"`{name}` is an empty list")
            every[name] = tuple(_value(name, item) for item in items)
        else:
            every[name] = _value(name, value)
    return Switches(**every)  # type: ignore[arg-type]  # each was given its field's type just now


def _value(name: str, value: object) -> object:
    if name in TEXTS and isinstance(value, str):
        if len(value) > LONGEST or "\0" in value:
            raise InputError(f"`{_spelled(name)}` is no text for a prompt")
        if name != "negative" and not value.strip():
            raise InputError(f"`{_spelled(name)}` is empty")
        return value.strip()
    if name in FLAGS and (value is True or value == "true"):
        return True
    if name in FLAGS and value is False:
        return False
    if name in WHOLE:
        if type(value) is int:
            return value
        if isinstance(value, str) and _INTEGER.fullmatch(value):
            return int(value)
    elif name not in TEXTS and name not in FLAGS and (number := _number(value)) is not None:
        return number
    kind = "text" if name in TEXTS else "a whole number" if name in WHOLE else "a number"
    kind = "true or false" if name in FLAGS else kind
    raise InputError(f"`{_spelled(name)}` is {value!r:.40}, which is not {kind}")


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _spelled(name: str) -> str:
    return f"--{name.replace('_', '-')}"
