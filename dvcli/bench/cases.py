"""What the methods are compared on: clips, each with its caption and the edits asked of it.

From the built-in world come held-out clips of two things that pass in front of each other, whose
edited truth is known; from a file, anyone's clips.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from dvcli.bundled.world.clips import course
from dvcli.bundled.world.layout import Layout, held_out
from dvcli.bundled.world.render import render
from dvcli.bundled.world.words import (
    ANIMALS,
    COLOURS,
    PLACES,
    SOLIDS,
    STYLES,
    Scene,
    Thing,
    caption,
)
from dvcli.errors import InputError
from dvcli.video.write import write


@dataclass(frozen=True, kw_only=True)
class Case:
    """A clip, what it shows, and by the kind of edit the prompts for it.

    Where the truth is known, `truth` says for each edit where everything should be seen, and
    `answers` is the clip of it.
    """

    name: str
    clip: Path
    caption: str
    edits: Mapping[str, str]
    truth: Mapping[str, Layout] = field(default_factory=dict)
    answers: Mapping[str, Path] = field(default_factory=dict)

    @property
    def files(self) -> list[Path]:
        """The case's clips: its own, then the answers."""
        return [self.clip, *self.answers.values()]


def rendered(count: int, folder: Path, frames: int, *, bare: bool = False) -> list[Case]:
    """Held-out clips of the built-in world, written losslessly into the folder.

    `bare` captions and prompts leave the place unsaid, but where it is what is edited.
    """
    return [_rendered(seed, folder, frames, bare) for seed in seeds(count)]


def seeds(count: int) -> list[int]:
    """The first held-out seeds whose clip shows two things that are no family."""
    return [
        seed
        for seed in held_out(10 * count)
        if len((scene := course(seed, 2)[0]).things) == 2 and scene.relation != "family"
    ][:count]


def _rendered(seed: int, folder: Path, frames: int, bare: bool) -> Case:
    def said(shown: Scene) -> str:
        unsaid = bare and shown.place == scene.place
        return caption(replace(shown, place=None) if unsaid else shown)

    scene, layout = course(seed, frames)
    name = f"{seed - held_out(1)[0]:03d}"
    wanted = edited(scene, np.random.default_rng(seed))
    truth = {kind: course(seed, frames, shown)[1] for kind, shown in wanted.items()}
    folder.mkdir(parents=True, exist_ok=True)
    return Case(
        name=name,
        clip=_written(layout, folder / f"{name}.webp"),
        caption=said(scene),
        edits={kind: said(shown) for kind, shown in wanted.items()},
        truth=truth,
        answers={
            kind: _written(true, folder / f"{name}-{kind}.webp") for kind, true in truth.items()
        },
    )


def _written(layout: Layout, path: Path) -> Path:
    """The layout's clip in a file without loss."""
    pictures = render(layout).image.permute(0, 2, 3, 1).numpy()
    write(path, np.ascontiguousarray(pictures), fps=8, metadata=None)
    return path


def edited(scene: Scene, rng: np.random.Generator) -> dict[str, Scene]:
    """The four edits of a scene of two things, each to something it was not.

    Kinds change among solids and among animals, whose outlines are alike.
    """

    def other(names: tuple[str, ...], *but: str | None) -> str:
        return str(rng.choice([name for name in names if name not in but]))

    front, rear = scene.things
    first = other(COLOURS, front.colour, rear.colour)
    second = other(COLOURS, first, front.colour, rear.colour)
    recoloured = tuple(
        Thing(shape=thing.shape, colour=colour)
        for thing, colour in zip(scene.things, (first, second), strict=True)
    )
    found = {
        "colours": replace(scene, things=recoloured),
        "place": replace(scene, place=other(PLACES, scene.place)),
        "style": replace(scene, style=other(STYLES, scene.style)),
    }
    kinds = tuple(
        Thing(
            shape=other(ANIMALS if thing.shape in ANIMALS else SOLIDS, thing.shape),
            colour=thing.colour,
        )
        for thing in scene.things
    )
    return {**found, "kinds": replace(scene, things=kinds)}


def given(path: Path) -> list[Case]:
    """The cases of a JSON-lines file: `{"clip": …, "caption": …, "edits": {KIND: PROMPT, …}}`.

    A clip's path is relative to the file. Raises `InputError` that names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the cases in `{path}`: {error}") from None
    cases = [
        _given(line, path, f"line {number} of `{path}`")
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]
    if not cases:
        raise InputError(f"there is no case in `{path}`")
    names = [case.name for case in cases]
    for name in {name for name in names if names.count(name) > 1}:
        raise InputError(f"two cases in `{path}` are named `{name}`", hint='give them a "name"')
    return cases


def _given(line: str, path: Path, where: str) -> Case:
    try:
        entry = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{where} is no JSON: {error}") from None
    if not isinstance(entry, dict) or entry.keys() - {"name", "clip", "caption", "edits"}:
        raise InputError(f"{where} is no object of clip, caption, edits and perhaps name")
    clip, words, edits = entry.get("clip"), entry.get("caption"), entry.get("edits")
    if not isinstance(clip, str) or not isinstance(words, str) or not words.strip():
        raise InputError(f"{where} has no clip or no caption")
    if not isinstance(edits, dict) or not edits:
        raise InputError(f"{where} has no edits")
    for kind, prompt in edits.items():
        if not isinstance(prompt, str) or not prompt.strip():
            raise InputError(f"{where} has an empty prompt for `{kind}`")
    place = path.parent / clip
    if not place.exists():
        raise InputError(f"{where} names the clip `{clip}`, which is not there")
    name = entry.get("name", Path(clip).stem)
    if not isinstance(name, str) or not name:
        raise InputError(f"{where} has a name that is none")
    return Case(name=name, clip=place, caption=words, edits=edits)
