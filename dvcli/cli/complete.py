"""What could stand where the cursor is: the answer to a TAB, without a parser or anything heavy.

The shell calls `dvid` with `_DVID_COMPLETE` set to its name and the words up to the cursor as
arguments. The answer's first line is `files` where names of files may stand there too, else
`words`; every other line is one word and, after a tab, what it is.
"""

import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import typer

from dvcli.cli.verbs import SUMMARIES, VERBS, command_line
from dvcli.errors import DvidError

VARIABLE = "_DVID_COMPLETE"
ROOT = {
    "--version": "Print the version.",
    "--show-completion": "Print the script for a shell.",
    "--install-completion": "Put that script where the shell finds it.",
    "--help": "Show help.",
}
BREAKS = re.compile(r"[=:]+")  # bash cuts a word at these
FILES = {"FILE", "PATH", "FOLDER", "CLIP", "PAGE", "CSV", "JSONL", "ANSWERS", "JOBS", "TAR"}
RUNS = {"RUN", "REF"}
DEVICES = ("auto", "cpu", "cuda", "mps")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Words that could stand there, with what each is, and whether names of files could too."""

    words: Mapping[str, str]
    files: bool = False


NOTHING = Answer(words={})


def complete(shell: str, argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Print the answer for that shell; whatever is wrong, no answer is better than an error."""
    words = list(argv) or [""]
    if shell == "powershell":  # which drops an empty argument
        words = [*argv, env.get(f"{VARIABLE}_WORD", "")]
    typed = words[-1]
    if shell == "bash":
        words = unbroken(words)
    answer = NOTHING
    with suppress(DvidError, OSError, ValueError, AttributeError):
        answer = possible(words[:-1], words[-1])
    lines = ["files" if answer.files else "words"]
    for word, told in answer.words.items():
        if "\n" in word or "\t" in word:
            continue
        if shell == "bash":
            lines.append(_for_bash(word, words[-1], typed))
        else:
            lines.append(f"{word}\t{told}")
    sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def unbroken(words: Sequence[str]) -> list[str]:
    """The words as they were typed, of the pieces that bash makes of them, without their quotes."""
    whole: list[str] = []
    for number, word in enumerate(words):
        joins = BREAKS.fullmatch(word) or (number and BREAKS.fullmatch(words[number - 1]))
        if joins and whole:
            whole[-1] += word
        else:
            whole.append(word)
    return [_unquoted(word) for word in whole]


def _unquoted(word: str) -> str:
    for ending in ("", "'", '"'):
        with suppress(ValueError):
            return "".join(shlex.split(word + ending)) if word.strip() else word
    return word


def _for_bash(word: str, current: str, typed: str) -> str:
    """What bash puts in the place of the piece of the word that it cut off last."""
    if typed[:1] in ("'", '"'):
        return word
    kept = max((cut.end() for cut in BREAKS.finditer(current)), default=0)
    rest = word[kept:] if word.startswith(current[:kept]) else word
    return "".join(c if c.isalnum() or c in "-_./=:,@~+%" else f"\\{c}" for c in rest)


def possible(before: Sequence[str], current: str) -> Answer:
    """What could stand in the place of `current` after the words `before`."""
    verb, rest = _verb(before)
    if verb is None:
        return _starting(ROOT if current.startswith("-") else SUMMARIES, current)
    if verb not in VERBS:
        return NOTHING
    command: Any = typer.main.get_command(command_line([verb])).commands[verb]  # type: ignore[attr-defined]
    while hasattr(command, "commands"):
        name, rest = _verb(rest)
        if name is None:
            return _starting(_helped(command), current)
        if name not in command.commands:
            return NOTHING
        verb, command = f"{verb} {name}", command.commands[name]
    return _of_verb(verb, command, rest, current)


def _verb(words: Sequence[str]) -> tuple[str | None, Sequence[str]]:
    """The first word that is no option, and the words after it."""
    for number, word in enumerate(words):
        if not word.startswith("-"):
            return word, words[number + 1 :]
    return None, []


def _helped(group: Any) -> dict[str, str]:
    return {name: inner.get_short_help_str(60) for name, inner in group.commands.items()}


def _of_verb(verb: str, command: Any, words: Sequence[str], current: str) -> Answer:
    options = {o: p for p in command.params if p.param_type_name == "option" for o in _spelled(p)}
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    given, placed, open_option, ended = _read(words, options)
    if open_option is not None:
        return _value(verb, open_option, current)
    if current.startswith("--") and "=" in current and not ended:
        name, _, value = current.partition("=")
        if name not in options or _bare(options[name]):
            return NOTHING
        found = _value(verb, options[name], value)
        joined = {f"{name}={word}": told for word, told in found.words.items()}
        return Answer(words=joined, files=found.files)
    left = arguments[placed:] or [p for p in arguments if p.nargs == -1]
    if not ended and (current.startswith("-") or not left):
        again = {o for o, p in options.items() if p in given and not _several(p)}
        names = {
            o: p.help or "" for o, p in options.items() if o.startswith("--") and o not in again
        }
        if current.startswith("-") and not current.startswith("--") and len(current) > 1:
            return NOTHING  # short options in a row
        return _starting({**names, "--help": "Show help."}, current)
    return _value(verb, left[0], current) if left else NOTHING


def _read(words: Sequence[str], options: Mapping[str, Any]) -> tuple[list[Any], int, Any, bool]:
    """(the options given, how many arguments, the option whose value is next, whether `--` was)."""
    given: list[Any] = []
    placed, following = 0, iter(words)
    for word in following:
        if word == "--":
            return given, placed + len(list(following)), None, True
        if not word.startswith("-") or word == "-":
            placed += 1
            continue
        name, equals, _ = word.partition("=")
        option = options.get(name)
        if option is None:
            continue
        given.append(option)
        if not _bare(option) and not equals and next(following, None) is None:
            return given, placed, option, False
    return given, placed, None, False


def _spelled(param: Any) -> Iterator[str]:
    if not param.hidden:
        yield from (*param.opts, *param.secondary_opts)


def _bare(option: Any) -> bool:
    return bool(option.is_flag or option.count)


def _several(option: Any) -> bool:
    return bool(option.multiple or option.count)


def _value(verb: str, param: Any, current: str) -> Answer:
    """The values of an option or argument, by its choices, its name or its metavar."""
    kind = param.type_descriptor
    if kind.is_choice and kind.choices is not None:
        return _starting(dict.fromkeys(map(str, kind.choices), ""), current)
    if (find := BY_NAME.get(param.name)) is not None:
        return _starting(find(), current)
    named = set(re.findall(r"[A-Z]+", (param.metavar or "").upper()))
    words: dict[str, str] = {}
    if named & RUNS:
        words |= runs()
    if "ID" in named:
        words |= models(param.name)
    if "EXT" in named:
        words |= formats()
    files = bool(named & FILES or kind.is_file or (verb, param.name) == ("study score", "key"))
    return Answer(words=_starting(words, current).words, files=files)


def _starting(words: Mapping[str, str], current: str) -> Answer:
    return Answer(words={word: told for word, told in words.items() if word.startswith(current)})


def styles() -> dict[str, str]:
    """Every style and what it adds; those that ship where the user's own cannot be read."""
    from dvcli.styles import load_styles, shipped_styles

    try:
        found = load_styles()
    except DvidError:
        found = shipped_styles()
    return {style.name: style.prompt for style in found.values()}


def runs() -> dict[str, str]:
    """Every run there is."""
    from dvcli.runs import Runs

    return dict.fromkeys(Runs.open().names(), "run")


def models(option: str) -> dict[str, str]:
    """The names of models that can stand for that option, and what each stands for."""
    from dvcli.cli.options import NAMES
    from dvcli.models.resolve import ALIASES

    return {name: ALIASES.get(name, "built in") for name in NAMES.get(option, ())}


def formats() -> dict[str, str]:
    """The formats of a clip that is written."""
    from dvcli.cli.output import FORMATS

    return {suffix[1:]: "" for suffix in FORMATS}


def devices() -> dict[str, str]:
    """The devices by name."""
    return dict.fromkeys(DEVICES, "")


def verbs() -> dict[str, str]:
    """The verbs, those of a group by the group's name."""
    return dict.fromkeys(VERBS, "")


BY_NAME: Mapping[str, Callable[[], dict[str, str]]] = {
    "style": styles,
    "device": devices,
    "verb": verbs,
}
