"""The commands that a page of `dvid report` or `dvid demo` carries, out of its text."""

import json
import re
from collections.abc import Mapping, Sequence
from html import escape, unescape
from pathlib import Path

from dvcli.cli.quoting import command_line
from dvcli.errors import InputError

SUFFIXES = (".html", ".htm")
OURS = '<meta name="generator" content="dvid">'
COMMAND = re.compile(r"<code>([^<]*)\n</code>")
REPORT = re.compile(r'<meta name="dvid-report" content="([^"]*)">')
# What `dvid report` can be asked for beside what it shows and where it goes.
NUMBERS, WORDS, FLAGS = ("fps", "width", "crf"), ("title", "clip_model"), ("no_source", "eval")
LISTS = ("rows", "columns")


def on_page(path: Path) -> list[str] | None:
    """The commands on the page, each once and in order, the report's own last; None for no page.

    Raises `InputError` for a page that is not one of dvid's, or has no command on it.
    """
    if path.suffix.lower() not in SUFFIXES:
        return None
    text = path.read_text(encoding="utf-8", errors="replace")
    found = [unescape(command) for command in COMMAND.findall(text)]
    if OURS not in text or not found:
        raise InputError(
            f"`{path}` is no page of `dvid report` or `dvid demo`",
            hint="`dvid show RUN` knows runs",
        )
    last = [] if (report := REPORT.search(text)) is None else _report(unescape(report[1]), path)
    return [*dict.fromkeys(found), *last]


def signed(page: str, what: Sequence[str], look: Mapping[str, object]) -> str:
    """The page, saying how `dvid report` was asked for it: of what, and with which options."""
    told = escape(json.dumps({"what": list(what), "look": dict(look)}, ensure_ascii=False))
    return page.replace(OURS, f'{OURS}\n<meta name="dvid-report" content="{told}">', 1)


def _report(text: str, path: Path) -> list[str]:
    try:
        found = json.loads(text)
        what = found["what"]
        if not all(isinstance(one, str) for one in what):
            return []
        return [report_line(what, looked(found["look"]), str(path))]
    except (ValueError, TypeError, KeyError, RecursionError):
        return []


def looked(found: object) -> dict[str, object]:
    """Of what a file says of its look, what `dvid report` takes."""
    kinds: dict[str, type | tuple[type, ...]] = dict.fromkeys(NUMBERS, (int, float))
    kinds |= dict.fromkeys(WORDS, str) | dict.fromkeys(FLAGS, bool) | dict.fromkeys(LISTS, list)
    if not isinstance(found, dict):
        return {}
    return {name: found[name] for name, kind in kinds.items() if isinstance(found.get(name), kind)}


def report_line(what: Sequence[str], look: Mapping[str, object], output: str) -> str:
    """The command that makes a report of these again."""
    words: list[str] = []
    for name, value in look.items():
        option = f"--{name.replace('_', '-')}"
        if name in FLAGS:
            words += [option] if value else []
        elif isinstance(value, list):
            words += [option, ",".join(map(str, value))]
        else:
            words += [f"{option}={value}"] if str(value).startswith("-") else [option, str(value)]
    return command_line(["dvid", "report", *what, *words, "-o", output])
