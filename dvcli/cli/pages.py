"""What a report says of itself: of which clips it is and how it was asked for, written and read.

Pages, grids and sheets say it alike, as JSON: a page in its head, the others in their metadata.
Of files it knows the name and the content, never the folder.
"""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape, unescape
from importlib.metadata import version
from pathlib import Path

from dvcli.cli.provenance import Story, is_public, told
from dvcli.cli.quoting import command_line
from dvcli.errors import DvidError, InputError
from dvcli.recipe_json import Unfit, read, to_json
from dvcli.recipes import Recipe

SUFFIXES = (".html", ".htm")
OURS = '<meta name="generator" content="dvid">'
COMMAND = re.compile(r"<code>([^<]*)\n</code>")
REPORT = re.compile(r'<meta name="dvid-report" content="([^"]*)">')
DIGEST = re.compile("[0-9a-f]{64}")
NOWHERE = "CLIP-MODEL"  # a judge that is a folder of the machine that made the report
# What `dvid report` can be asked for beside what it shows and where it goes.
NUMBERS, WORDS, FLAGS = ("fps", "width", "crf"), ("title", "clip_model"), ("no_source", "eval")
LISTS = ("rows", "columns")


@dataclass(frozen=True, kw_only=True)
class Item:
    """One clip of a report: of the run with that number, or a file of that name.

    `story` is how it was made, as far as it is dvid's; else `content` has the file's digest.
    """

    run: int = 0
    file: str | None = None
    story: Story | None = None
    content: str = ""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a report shows, the source it was given, and its options off their defaults."""

    items: Sequence[Item]
    source: Item | None
    look: Mapping[str, object]


def of_run(number: int, recipe: Recipe, model: str | None, *, own_depth: bool) -> dict[str, object]:
    """What a report says of a clip of its run of that number."""
    public = model if model is not None and is_public(model) else None
    return {"run": number, "recipe": to_json(recipe), "model": public, "own_depth": own_depth}


def of_file(path: Path, story: Story | None, content: str) -> dict[str, object]:
    """What a report says of a file: how it was made and written, else its content."""
    name = path.name or path.resolve().name
    if story is None:
        return {"file": name, "clip": content}
    return {
        "file": name,
        "recipe": to_json(story.recipe),
        "model": story.model,
        "own_depth": story.own_depth,
        "fps": story.fps,
        "crf": story.crf,
    }


def report_story(
    items: Sequence[Mapping[str, object]],
    source: Mapping[str, object] | None,
    look: Mapping[str, object],
) -> str:
    """The whole as JSON, to be embedded."""
    story = {"schema": 1, "dvid": version("dvid"), "report": items, "look": look}
    story |= {} if source is None else {"source": source}
    return json.dumps(story, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def signed(page: str, story: str) -> str:
    """The page, with that story in its head."""
    plain = json.dumps(json.loads(story), sort_keys=True, separators=(",", ":"))
    return page.replace(OURS, f'{OURS}\n<meta name="dvid-report" content="{escape(plain)}">', 1)


def is_page(path: Path) -> bool:
    """Whether it is a page by its name."""
    return path.suffix.lower() in SUFFIXES


def on_page(path: Path) -> list[str] | None:
    """The commands on a page that is not of `dvid report`, each once; None for any other file.

    Raises `InputError` for a page that is not one of dvid's, or has no command on it.
    """
    if not is_page(path):
        return None
    text = _text(path)
    if OURS in text and REPORT.search(text) is not None:
        return None
    found = [unescape(command) for command in COMMAND.findall(text)]
    if OURS not in text or not found or not all(map(_plain, found)):
        raise InputError(
            f"`{path}` is no page of `dvid report` or `dvid demo`",
            hint="`dvid show RUN` knows runs",
        )
    return list(dict.fromkeys(found))


def _plain(command: str) -> bool:
    """Whether it is one command of dvid as `command_line` writes it, and does nothing beside."""
    try:
        words = shlex.split(command)
    except ValueError:
        return False
    return words[:1] == ["dvid"] and words[1:2] != [] and command_line(words) == command


def contents(path: Path) -> Shown | None:
    """What a page, grid or contact sheet of `dvid report` shows; None for any other file.

    Raises `InputError` for one that this version cannot read.
    """
    try:
        found = _parsed(_story(path))
        if not isinstance(found, dict) or "report" not in found:
            return None
        if read(int, found.get("schema"), "`schema`") != 1:
            raise Unfit("its format is that of a newer dvid")
        source = found.get("source")
        return Shown(
            items=[_item(one, path) for one in found["report"]],
            source=None if source is None else _item(source, path),
            look=looked(found.get("look")),
        )
    except (Unfit, DvidError, ValueError, TypeError, KeyError, RecursionError) as unfit:
        raise InputError(
            f"what is shown in `{path}` cannot be read: {unfit}",
            hint="`dvid --version` says which dvid this is; a newer one reads more",
        ) from None


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _story(path: Path) -> str | None:
    from dvcli.video.metadata import read_metadata

    if not is_page(path):
        return read_metadata(path)
    found = REPORT.search(_text(path))
    return None if found is None else unescape(found[1])


def _parsed(text: str | None) -> object:
    """The text as JSON; None for what some other program wrote."""
    try:
        return json.loads(text or "null")
    except (ValueError, RecursionError):
        return None


def _item(found: object, path: Path) -> Item:
    if not isinstance(found, dict):
        raise Unfit("a clip of it is not described")
    file = read(str | None, found.get("file"), "`file`")
    if file is not None and (Path(file).name != file or file in ("", "..")):
        raise Unfit("a file of it has no plain name")
    if file is not None and "recipe" not in found:
        content = read(str, found.get("clip"), "`clip`")
        if DIGEST.fullmatch(content) is None:
            raise Unfit("`clip` is no digest")
        return Item(file=file, content=content)
    story = told(json.dumps({"dvid": "", **found, "schema": 1}), path)
    if story is None:
        raise Unfit("a clip of it has no recipe")
    return Item(run=read(int, found.get("run", 0), "`run`"), file=file, story=story)


def looked(found: object) -> dict[str, object]:
    """Of what a file says of its look, what `dvid report` takes."""
    kinds: dict[str, type | tuple[type, ...]] = dict.fromkeys(NUMBERS, (int, float))
    kinds |= dict.fromkeys(WORDS, str) | dict.fromkeys(FLAGS, bool) | dict.fromkeys(LISTS, list)
    if not isinstance(found, dict):
        return {}
    return {name: found[name] for name, kind in kinds.items() if isinstance(found.get(name), kind)}


def options_of(look: Mapping[str, object]) -> list[str]:
    """The options of `dvid report` that give that look."""
    words: list[str] = []
    for name, value in look.items():
        option = f"--{name.replace('_', '-')}"
        if name in FLAGS:
            words += [option] if value else []
        else:
            words += valued(option, ",".join(map(str, value)) if name in LISTS else str(value))  # type: ignore[call-overload]
    return words


def valued(option: str, value: str) -> list[str]:
    """An option and its value, as one word where the value could be taken for an option."""
    return [f"{option}={value}"] if value.startswith("-") else [option, value]
