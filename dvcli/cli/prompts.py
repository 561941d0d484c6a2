"""What to sample: prompts from options, a file or a pipe, times styles, times seeds."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dvcli.errors import InputError, UsageError
from dvcli.styles import Style, find_style

LONGEST = 20_000  # characters; a line beyond is no prompt but a mistaken file


@dataclass(frozen=True, kw_only=True)
class Wish:
    """One clip that is asked for; `prompt` and `negative` have the style in them."""

    words: str
    prompt: str
    negative: str
    style: str | None
    seed: int


def gather(
    prompts: Sequence[str],
    file: str | None,
    *,
    styles: Sequence[str],
    negative: str,
    seeds: Sequence[int],
) -> list[Wish]:
    """Every prompt × style × seed, in that order, each once."""
    every = [*prompts, *(_lines(file) if file is not None else ())]
    if not every:
        raise UsageError("no prompt", hint='`dvid sample --prompt "what the new clip shows"`')
    for words in every:
        if not words.strip():
            raise UsageError("the prompt is empty", hint="say what the new clip shows")
    chosen: list[Style | None] = [find_style(name) for name in styles] or [None]
    wishes = []
    for words in every:
        for style in chosen:
            prompt, without = (words.strip(), negative)
            if style is not None:
                prompt, without = style.apply(prompt, negative)
            named = None if style is None else style.name
            wishes += [
                Wish(words=words.strip(), prompt=prompt, negative=without, style=named, seed=seed)
                for seed in seeds
            ]
    return list(dict.fromkeys(wishes))


def _lines(file: str) -> list[str]:
    """The prompts of a file, one a line; blank ones and those that begin with # are passed over."""
    name = "standard input" if file == "-" else f"`{file}`"
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        text = raw.decode("utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(
            f"no file {name}", hint="one prompt a line, or - for standard input"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{name} cannot be read as UTF-8 text: {error}") from error
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.strip()
        if not words or words.startswith("#"):
            continue
        if len(words) > LONGEST or "\0" in words:
            raise InputError(f"line {number} of {name} is no prompt")
        found.append(words)
    if not found:
        raise InputError(f"{name} has no prompt in it", hint="one prompt a line")
    return found
