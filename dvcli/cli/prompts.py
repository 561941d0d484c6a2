"""What to sample: prompts from options, a file or a pipe, times styles, times seeds.

A file has a prompt a line with switches of its own behind it, or, named `.jsonl`, an object a line.
What the line says takes the place of what the command says.
"""

import json
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path

from dvcli import fast
from dvcli.cli.switches import LONGEST as LONGEST
from dvcli.cli.switches import Switches, read_line, read_object
from dvcli.errors import DvidError, InputError, UsageError
from dvcli.recipes import Controls, Depth, DType, Invert, Sample
from dvcli.styles import Style, find_style

JSON_LINES = (".jsonl", ".ndjson")


@dataclass(frozen=True, kw_only=True)
class Wish:
    """One clip that is asked for; `prompt` and `negative` have the style in them.

    `switches` are what its own line asks for beside style, negative prompt and seed; `place` is the
    line, if it came from a file.
    """

    words: str
    prompt: str
    negative: str
    style: str | None
    seed: int
    switches: Switches = field(default_factory=Switches)
    place: str | None = field(default=None, compare=False)

    @property
    def label(self) -> str:
        """What a file of it is named after."""
        if self.switches.name is not None:
            return self.switches.name
        return self.words if self.style is None else f"{self.words} {self.style}"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A prompt with its own switches, before styles and seeds multiply it."""

    words: str
    switches: Switches = field(default_factory=Switches)
    place: str | None = None


def gather(
    prompts: Sequence[str],
    file: str | None,
    *,
    styles: Sequence[str],
    negative: str,
    seeds: Sequence[int],
) -> list[Wish]:
    """Every prompt × style × seed, in that order, each once."""
    every = [Asked(words=words) for words in prompts]
    every += [] if file is None else read_prompts(file)
    if not every:
        raise UsageError("no prompt", hint='`dvid sample --prompt "what the new clip shows"`')
    command = Switches(style=tuple(styles), negative=negative, seed=tuple(seeds))
    return wishes_of(every, command)


def wishes_of(asked: Sequence[Asked], command: Switches) -> list[Wish]:
    """Every prompt × style × seed, each once, where `command` says what the prompts leave open."""
    wishes: list[Wish] = []
    for one in asked:
        with placed(one.place):
            if not one.words.strip():
                raise UsageError("the prompt is empty", hint="say what the new clip shows")
            wishes += _multiplied(one, one.switches.over(command))
    return list(dict.fromkeys(wishes))


def _multiplied(one: Asked, said: Switches) -> Iterator[Wish]:
    own = {name: value for name, value in one.switches.given.items() if name not in _MULTIPLY}
    chosen: list[Style | None] = [find_style(name) for name in said.style or ()] or [None]
    for style in chosen:
        prompt, without = one.words.strip(), said.negative or ""
        if style is not None:
            prompt, without = style.apply(prompt, without)
        for seed in said.seed or (Sample.seed,):
            yield Wish(
                words=one.words.strip(),
                prompt=prompt,
                negative=without,
                style=None if style is None else style.name,
                seed=seed,
                switches=Switches(**own),  # type: ignore[arg-type]  # fields of the same class
                place=one.place,
            )


_MULTIPLY = ("style", "negative", "seed")
_CONTROLS = {f"depth_{control.name}": control.name for control in fields(Controls)}


def recipes_of(
    wishes: Sequence[Wish],
    command: Switches,
    inverted: Invert,
    dtype: DType,
    other: Callable[[str], Depth],
    *,
    steps: int | None = None,
) -> list[Sample]:
    """The recipe of each wish; `other` finds the depth of the run that `--depth-from` names.

    `--fast` is gone from them: they hold the values that it stands for, but those that the line,
    or with `--fast` on the command the command too, gives by itself. `steps` are such a value.
    Wrong values, and seeds that would all give one clip, are errors that name the line.
    """
    found: dict[Sample, int] = {}
    recipes = []
    for wish in wishes:
        with placed(wish.place):
            said = wish.switches.over(command)
            start = fast.matched(inverted, steps) if said.fast else inverted
            if said.fast:
                by_itself = wish.switches if wish.switches.fast else said
                said = by_itself.over(QUICK).over(said)
            recipe = _recipe(wish, said, start, dtype, other)
            if found.setdefault(recipe, wish.seed) != wish.seed:
                raise UsageError(
                    "several seeds would give the same clip several times: nothing here is random",
                    hint="`--eta` above 0 or `--from-noise` makes the seed matter",
                )
        recipes.append(recipe)
    return recipes


def _recipe(
    wish: Wish, said: Switches, inverted: Invert, dtype: DType, other: Callable[[str], Depth]
) -> Sample:
    given = said.given
    controls = {own: given[name] for name, own in _CONTROLS.items() if name in given}
    plain = {name: given[name] for name in _PLAIN if name in given}
    return Sample(
        inverted=inverted,
        prompt=wish.prompt,
        negative=wish.negative,
        start="noise" if said.from_noise else "inverted",
        seed=wish.seed,
        controls=Controls(**controls),  # type: ignore[arg-type]  # the switches have its types
        blend=None if said.depth_from is None else other(said.depth_from),
        dtype=dtype,
        **plain,  # type: ignore[arg-type]
    )


_PLAIN = ("guidance", "guidance_from", "guidance_until", "reuse", "strength", "eta")
QUICK = Switches(guidance_until=fast.GUIDANCE_UNTIL, reuse=fast.REUSE)


@contextmanager
def placed(place: str | None) -> Iterator[None]:
    """Have an error of the inside say at which line it is; a wrong word in a file is exit 3."""
    try:
        yield
    except DvidError as error:
        if place is None or error.message.startswith(place):
            raise
        kind = InputError if isinstance(error, UsageError) else type(error)
        raise kind(f"{place}: {error.message}", hint=error.hint) from error


def read_prompts(file: str) -> list[Asked]:
    """The prompts of a file, one a line; `-` is standard input. Raises `InputError`."""
    reads = _object if file.endswith(JSON_LINES) else _text
    found = []
    for place, line in lines_of(file, hint="one prompt a line, or - for standard input"):
        if reads is _text and line.startswith("#"):
            continue
        with placed(place):
            if len(line) > LONGEST or "\0" in line:
                raise InputError(f"{place} is no prompt")
            words, switches = reads(line)
            if not words:
                raise InputError("there is no prompt", hint="`PROMPT --switch value`")
            found.append(Asked(words=words, switches=switches, place=place))
    if not found:
        raise InputError(f"{named(file)} has no prompt in it", hint="one prompt a line")
    return found


_text = read_line


def _object(line: str) -> tuple[str, Switches]:
    found = read_json(line)
    if isinstance(found, str):
        return found.strip(), Switches()
    return read_object(mapping(found, '{"prompt": "a red fox"}'))


def mapping(found: object, example: str) -> Mapping[str, object]:
    """The JSON value as an object, such as the example."""
    if not isinstance(found, dict):
        raise InputError("it is no JSON object", hint=f"such as {example}")
    return found


def read_json(line: str) -> object:
    """The JSON value of a line; every name of an object once, every text valid Unicode."""
    try:
        found: object = json.loads(line, object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        why = f": {str(error)[:100]}"
        if isinstance(error, json.JSONDecodeError):
            why = f" from character {error.colno} on"
        raise InputError(
            f"it is no JSON{why}", hint="names and texts stand in double quotes, a line is whole"
        ) from None
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise InputError("half a character is in it, which is no text") from None
    return found


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            raise InputError(f"`{name[:40]}` is there twice")
        found[name] = value
    return found


def _no_number(text: str) -> object:
    raise ValueError(f"{text} is no number")


def named(file: str) -> str:
    """What messages call the file."""
    return "standard input" if file == "-" else f"`{file}`"


def lines_of(file: str, *, hint: str) -> Iterator[tuple[str, str]]:
    """(its place for messages, the line) of every line that is not blank, without outer spaces."""
    name = named(file)
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        text = raw.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        hint = f"`iconv -f latin1 -t utf-8 {shlex.quote(file)}` makes it so, if it is in Latin-1"
        raise InputError(
            f"line {line} of {name} is not UTF-8 text", hint=None if file == "-" else hint
        ) from error
    except FileNotFoundError as error:
        raise InputError(f"no file {name}", hint=hint) from error
    except IsADirectoryError as error:
        raise InputError(f"{name} is a folder, not a file", hint=hint) from error
    except (OSError, ValueError) as error:  # a NUL in the name is a ValueError
        raise InputError(f"{name} cannot be read as UTF-8 text: {error}") from error
    # By line feeds alone, as editors count; `splitlines` would also cut at U+2028 and form feeds.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield f"line {number} of {name}", line.strip()
