"""What several methods made of the same things: their clips, matched by name or by prompt."""

import logging
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dvcli.cli import captions
from dvcli.cli.listing import Listing
from dvcli.cli.output import FORMATS
from dvcli.cli.provenance import embedded
from dvcli.errors import InputError, UsageError
from dvcli.recipes import CogVideoX, Sample

SUFFIXES = (*[f for f in FORMATS if f != ".png"], ".mov", ".m4v", ".mkv", ".avi")
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a clip of dvid's own was sampled from: the source clip's digest, and the seed."""

    clip: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class Found:
    """One method's clip: its file, its name within the method's folder, and what it shows."""

    method: str
    path: Path
    name: str
    prompt: str | None
    origin: Origin | None


@dataclass(frozen=True, kw_only=True)
class Match:
    """Clips of two or more methods that show the same."""

    name: str
    prompt: str
    clips: tuple[Found, ...]


def scan(method: str, folder: Path, prompts: Mapping[str, str]) -> list[Found]:
    """The clips in a folder and its folders, each name once; hidden files do not count."""
    paths: dict[str, Path] = {}
    for path in sorted(folder.rglob("*"), key=lambda p: (str(p.with_suffix("")), _rank(p))):
        inner = path.relative_to(folder)
        if _rank(path) == len(SUFFIXES) or any(part.startswith(".") for part in inner.parts):
            continue
        name = _plain(inner.with_suffix("").as_posix())
        if name in paths:
            log.warning("`%s` is left out: `%s` is of the same name", path, paths[name])
        elif path.is_file():
            paths[name] = path
    if not paths:
        raise InputError(
            f"`{folder}` holds no clips", hint=f"files that end in {', '.join(SUFFIXES)}"
        )
    found = [_clip(method, path, name, prompts) for name, path in paths.items()]
    return [clip for clip in found if clip is not None]


def _rank(path: Path) -> int:
    suffix = path.suffix.lower()
    return SUFFIXES.index(suffix) if suffix in SUFFIXES else len(SUFFIXES)


def _plain(name: str) -> str:
    return name.encode(errors="replace").decode()


def _clip(method: str, path: Path, name: str, prompts: Mapping[str, str]) -> Found | None:
    given = next((prompts[n] for n in (name, Path(name).name) if n in prompts), None)
    if given is not None:
        return Found(method=method, path=path, name=name, prompt=given, origin=None)
    try:
        story = embedded(path)
    except InputError as error:
        log.warning("%s", error.message)
        story = None
    if story is None:
        return Found(method=method, path=path, name=name, prompt=None, origin=None)
    if not isinstance(story.recipe, Sample | CogVideoX):
        log.warning("`%s` is left out: it is no sample, by what it says of itself", path)
        return None
    return sampled(method, path, name, story.recipe)


def sampled(method: str, path: Path, name: str, recipe: Sample | CogVideoX) -> Found:
    """A clip of which the recipe is known."""
    frames = recipe.inverted.tuned.frames if isinstance(recipe, Sample) else recipe.frames
    origin = Origin(clip=frames.clip, seed=recipe.seed)
    return Found(method=method, path=path, name=name, prompt=_flat(recipe.prompt), origin=origin)


def captioned(method: str, folder: Path, listing: Listing) -> list[Found]:
    """The clips in a folder that a table of the LOVEU-TGVE benchmark has captions for."""
    return [
        Found(
            method=method,
            path=one.file,
            name=_plain(one.file.relative_to(folder).with_suffix("").as_posix()),
            prompt=_flat(one.prompt),
            origin=None,
        )
        for one in captions.read(listing, [folder], None)
    ]


def prompts_of(listing: Listing) -> dict[str, str]:
    """Prompt by file name without suffix; a file is named as within its folder, or by itself."""
    found: dict[str, str] = {}
    for row in listing.rows:
        named, prompt = Path(row.cells["file"]), _flat(row.cells["prompt"])
        plain = named.with_suffix("") if _rank(named) < len(SUFFIXES) else named
        if found.setdefault(plain.as_posix(), prompt) != prompt:
            raise InputError(f"{row.place} gives `{plain}` another prompt")
    return found


def _is_text(prompt: str) -> bool:
    try:
        prompt.encode()
    except UnicodeEncodeError:
        return False
    return bool(prompt.strip())


def _flat(prompt: str) -> str:
    return " ".join(prompt.split())


Sign = Callable[[Found], Hashable | None]
# From the surest sign that two clips show the same; None says nothing.
SIGNS: tuple[Sign, ...] = (
    lambda clip: clip.name,
    lambda clip: None if clip.prompt is None else (Path(clip.name).name, clip.prompt),
    lambda clip: None if clip.origin is None else (clip.origin, clip.prompt),
    lambda clip: None if clip.origin is None else (clip.origin.clip, clip.prompt),
    lambda clip: clip.prompt,
)


def match(clips: Sequence[Found]) -> tuple[list[Match], list[str]]:
    """Clips that show the same, and a sentence on each clip or method that is missing one.

    A sign joins clips where no method has two with it. Raises `InputError` for clips of one name
    that say different prompts, and where nothing says a prompt.
    """
    order = {method: place for place, method in enumerate(dict.fromkeys(c.method for c in clips))}
    groups: list[tuple[Found, ...]] = [(clip,) for clip in clips]
    for sign in SIGNS:
        groups = _joined(groups, sign)
    whole = [sorted(group, key=lambda clip: order[clip.method]) for group in groups]
    found = [_match(group) for group in whole if len(group) > 1]
    notes = [_alone(group[0], clips) for group in whole if len(group) == 1]
    for example in found:
        for method in sorted(order.keys() - {clip.method for clip in example.clips}):
            notes.append(f"`{example.clips[0].path}` has no counterpart in `{method}`")
    return sorted(found, key=lambda example: example.name), notes


def _joined(groups: Sequence[tuple[Found, ...]], sign: Sign) -> list[tuple[Found, ...]]:
    alike: dict[Hashable, list[tuple[Found, ...]]] = defaultdict(list)
    for group in groups:
        for value in {sign(clip) for clip in group} - {None}:
            alike[value].append(group)
    left = dict.fromkeys(groups)
    for several in alike.values():
        here = [group for group in several if group in left]
        methods = [clip.method for group in here for clip in group]
        if len(here) > 1 and len(methods) == len(set(methods)):
            for group in here:
                del left[group]
            left[tuple(clip for group in here for clip in group)] = None
    return list(left)


def _match(group: Sequence[Found]) -> Match:
    said = {clip.prompt: clip for clip in group if clip.prompt is not None}
    if not said:
        raise InputError(
            f"nothing says what `{group[0].path}` should show",
            hint="`--prompts-file` takes a CSV with `file,prompt`",
        )
    if len(said) > 1:
        (one, first), (other, second) = list(said.items())[:2]
        raise InputError(
            f"`{first.path}` should show `{one}` and `{second.path}` `{other}`",
            hint="clips of one name are compared: give different things different names",
        )
    return Match(name=group[0].name, prompt=next(iter(said)), clips=tuple(group))


def _alone(clip: Found, clips: Sequence[Found]) -> str:
    same = [c for c in clips if c.prompt == clip.prompt is not None and c is not clip]
    if any(c.method != clip.method for c in same):
        return (
            f"`{clip.path}` is left out: several clips have its prompt; the same names would say"
            " which belong together"
        )
    return f"`{clip.path}` is left out: no other method has a clip of its name or prompt"


def parse_methods(words: Sequence[str]) -> dict[str, str]:
    """Folder or run by method, from `METHOD=FOLDER` words."""
    found: dict[str, str] = {}
    for word in words:
        method, given, place = word.partition("=")
        method = method.strip()
        if not (given and method and place and method.isprintable() and _is_text(method)):
            raise UsageError(
                f"`{word}` names no method and folder", hint="such as ours=out/bear tav=out/tav"
            )
        if method in found:
            raise UsageError(f"there are two methods named `{method}`")
        found[method] = place
    if len(found) < 2:
        raise UsageError("a study compares two methods or more", hint="ours=FOLDER theirs=FOLDER")
    return found
