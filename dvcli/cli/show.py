"""`dvid show`: what a run, a key or a file is, and the commands that make it again."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dvcli.cli.again import chain, named
from dvcli.cli.commands import Names, commands, line, spelled, steps
from dvcli.cli.pages import looked, on_page, report_line
from dvcli.cli.provenance import Story, embedded, own_depth, place_of
from dvcli.cli.quoting import pretty_json
from dvcli.cli.session import Console, verb
from dvcli.errors import DvidError, InputError, MissingError
from dvcli.recipes import Depth, Extract, Recipe, Render, Tune, method_of

if TYPE_CHECKING:
    from dvcli.runs import Run

KEY = re.compile("[0-9a-fA-F]+")


@verb
def show(
    console: Console,
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[REF|FILE]", help="A run, a key or a file.", show_default="the last run"
        ),
    ] = None,
) -> None:
    """Print the commands that make it again.

    Example: dvid show out/bear/a-tigress-with-her-cubs-1a2b3c4d.mp4
    """
    if what is not None and os.path.isfile(what):  # noqa: PTH113  # no error for any name
        if (page := on_page(Path(what))) is not None:
            for command in page:
                console.row(command, commands=[command])
            return
        story = embedded(Path(what))
        if story is None and (shown := contents(Path(what))) is not None:
            _say_report(console, shown, what)
            return
        if story is None:
            raise InputError(
                f"`{what}` carries no provenance of dvid", hint="`dvid show RUN` knows runs"
            )
        recipe, lines = story.recipe, _for_file(console, story, what)
    else:
        try:
            run = console.run(what)
        except MissingError:
            if what is None or KEY.fullmatch(what) is None:
                raise
            _show_key(console, what)
            return
        recipe = _last(run)
        lines = commands(recipe, names_of(run))
    _say(console, recipe, lines)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a grid or contact sheet shows: each clip's recipe and model; and how it was asked for.

    `look` are the options of `dvid report` that were off their defaults.
    """

    clips: list[tuple[Recipe, str | None]]
    look: Mapping[str, object]


def contents(path: Path) -> Shown | None:
    """What a grid or contact sheet of `dvid report` shows; None for any other file."""
    from dvcli.recipe_json import Unfit, read
    from dvcli.video.metadata import read_metadata

    try:
        found = _parsed(read_metadata(path))
        if not isinstance(found, dict) or "report" not in found:
            return None
        if read(int, found.get("schema"), "`schema`") != 1:
            raise Unfit("its format is that of a newer dvid")
        clips = [
            (read(Recipe, one["recipe"], "a recipe"), read(str | None, one["model"], "`model`"))
            for one in found["report"]
        ]
        return Shown(clips=clips, look=looked(found.get("look")))
    except (Unfit, DvidError, ValueError, TypeError, KeyError, RecursionError) as unfit:
        raise InputError(
            f"what is shown in `{path}` cannot be read: {unfit}",
            hint="`dvid --version` says which dvid this is; a newer one reads more",
        ) from None


def _say_report(console: Console, shown: Shown, what: str) -> None:
    """The commands of every clip, each once, and that of the report itself."""
    parties: dict[Recipe | None, list[tuple[Recipe, str | None]]] = {}
    for recipe, model in shown.clips:
        made = chain([recipe])
        beginning = None if made is None else made.tune or made.frames
        parties.setdefault(beginning, []).append((recipe, model))
    said: set[str] = set()
    runs: list[str] = []
    for those in parties.values():
        names = named(console, [recipe for recipe, _ in those], model=those[0][1], whole=True)
        runs += [names.run] if names.run is not None else []
        for recipe, model in those:
            own = names if model is None else replace(names, model=model)
            lines = commands(recipe, own)
            if console.json:
                _say(console, recipe, lines)
                continue
            for text in lines:
                if text not in said:
                    console.result(text)
                said.add(text)
    last = report_line(runs, shown.look, what)
    console.result(last, commands=[last])


def _parsed(text: str | None) -> object:
    """The text as JSON; None for what some other program wrote."""
    try:
        return json.loads(text or "null")
    except (ValueError, RecursionError):
        return None


def _say(console: Console, recipe: Recipe, lines: list[str]) -> None:
    if console.json:
        from dvcli.recipe_json import to_json

        console.result("", method=method_of(recipe), recipe=to_json(recipe), commands=lines)
        return
    for text in lines:
        console.result(text)


def _show_key(console: Console, prefix: str) -> None:
    record = console.store.show(prefix)
    console.result(pretty_json(record), record=record)


def _last(run: "Run") -> Recipe:
    return next(
        run.recipes[stage]
        for stage in ("invert", "tune", "depth", "extract")
        if stage in run.recipes
    )


def names_of(run: "Run") -> Names:
    """What the run's inputs are called: as the user named them, else where they were last."""
    depth, tune = run.recipes.get("depth"), run.recipes.get("tune")
    place = place_of(run, tune.base.unet if isinstance(tune, Tune) else None)
    model = run.model or (str(place.parent) if place is not None else None)
    found = Names(clip=run.clip or Names.clip, model=model or Names.model, run=run.name)
    if not isinstance(depth, Depth):
        return found
    if depth.given is not None:
        return replace(found, given=str(place_of(run, depth.given) or Names.given))
    estimator = place_of(run, depth.estimator)
    if estimator is None or own_depth(run):
        return found
    part = estimator.name == "depth_estimator"
    return replace(found, estimator=str(estimator.parent if part else estimator))


def _for_file(console: Console, story: Story, what: str) -> list[str]:
    """The lines that make the file of the story; the last one writes it."""
    names = named(console, [story.recipe], model=story.model, own_depth=story.own_depth)
    suffix = Path(what).suffix.lower()
    options = []
    if isinstance(story.recipe, Extract | Depth):
        names = replace(names, run=None)  # a file of it is all that is wanted
        options += ["--output", what]
    elif suffix not in (".mp4", ""):
        options += ["--format", suffix[1:]]
    if story.fps != Render.fps:
        options += ["--fps", spelled(story.fps)]
    if story.crf != Render.crf:
        options += ["--crf", spelled(story.crf)]
    *before, (last, arguments, found) = steps(story.recipe, names)
    return [line(*step) for step in before] + [line(last, arguments, [*found, *options])]
