"""Text that others wrote, as one harmless line; and command lines that a shell reads back exactly.

What a stranger's file says of itself may hold escape sequences and line breaks. They never reach a
terminal as they are.
"""

import json
import re
import shlex
import unicodedata

_JOINERS = "\u200c\u200d\u00ad"  # within words and emoji; they move nothing
_ESCAPED = re.compile(r"[^\x20-\x7e]")


def hidden(character: str) -> bool:
    """Whether it acts rather than shows: controls, directions of writing, line breaks."""
    kind = unicodedata.category(character)
    return kind in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in _JOINERS


def printable(text: str) -> str:
    """The text on one line, with `\\x1b` and the like in the place of what acts."""
    return _ESCAPED.sub(
        lambda match: match[0].encode("unicode_escape").decode() if hidden(match[0]) else match[0],
        text,
    )


def in_short(text: str, most: int = 500) -> str:
    """The text, with the middle left out of each value between backticks that is very long."""
    half = most // 2 - 1
    return re.sub(f"`([^`]{{{most + 1},}})`", lambda m: f"`{m[1][:half]}…{m[1][-half:]}`", text)


def pretty_json(value: object) -> str:
    """Indented JSON with `\\u001b` and the like in the place of what acts."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return _ESCAPED.sub(
        lambda match: (
            json.dumps(match[0])[1:-1] if match[0] != "\n" and hidden(match[0]) else match[0]
        ),
        text,
    )


def number(value: float) -> str:
    """A number as a person types it: `12`, `0.5`, `3e-4`."""
    if value and abs(value) < 1e-3:
        digits, _, power = f"{value:.5e}".partition("e")
        return f"{float(digits):g}e{int(power)}"
    return re.sub(r"e\+?0*", "e", f"{value:g}")


def command_line(words: list[str]) -> str:
    """The words as one line of shell that gives exactly them."""
    return " ".join(_quoted(word) for word in words)


def _quoted(word: str) -> str:
    """Quoted where it must be; with anything hidden in it as `$'…'` of bash, zsh and POSIX 2024."""
    if not any(map(hidden, word)):
        return shlex.quote(word)
    return "$'" + "".join(map(_octal, word)) + "'"


def _octal(character: str) -> str:
    if not hidden(character):
        return f"\\{character}" if character in "'\\" else character
    errors = "surrogateescape" if "\udc80" <= character <= "\udcff" else "surrogatepass"
    return "".join(f"\\{byte:03o}" for byte in character.encode("utf-8", errors))
