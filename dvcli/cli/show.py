"""`dvid show`: what a run, a key or a file is, and the commands that make it again."""

import logging
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dvcli.cli.again import Here, chain, named
from dvcli.cli.commands import Names, commands, line, spelled, steps
from dvcli.cli.pages import Item, Shown, contents, is_page, on_page, options_of, valued
from dvcli.cli.provenance import Story, embedded, own_depth, place_of
from dvcli.cli.quoting import pretty_json
from dvcli.cli.session import Console, verb
from dvcli.errors import InputError, MissingError
from dvcli.recipes import Depth, Extract, Recipe, Render, Tune, method_of

if TYPE_CHECKING:
    from dvcli.runs import Run

log = logging.getLogger(__name__)
KEY = re.compile("[0-9a-fA-F]+")
PLACES = {Names.clip, Names.model, Names.given}
PLACES |= {Names.other_clip, Names.other_given, Names.other_estimator}


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
        story = None if is_page(Path(what)) else embedded(Path(what))
        if story is None and (shown := contents(Path(what))) is not None:
            _say_report(console, shown, what)
            return
        if story is None:
            raise InputError(
                f"`{what}` carries no provenance of dvid", hint="`dvid show RUN` knows runs"
            )
        recipe, lines = story.recipe, _for_file(Here.of(console), story, _written(story, what))
    else:
        try:
            run = console.run(what)
        except MissingError:
            if what is None or KEY.fullmatch(what) is None:
                raise
            _show_key(console, what)
            return
        recipe = newest(run)
        lines = commands(recipe, names_of(run))
    _say(console, recipe, lines)
    _warn_of_places(lines)


def _warn_of_places(lines: Iterable[str]) -> None:
    """Say which words of the lines stand for what is not known here."""
    words = dict.fromkeys(word for text in lines for word in text.split())
    for word in (word for word in words if word in PLACES):
        log.warning("what `%s` stands for is not known here; its place is yours to fill in", word)


def _say_report(console: Console, shown: Shown, what: str) -> None:
    """The commands of every clip, each once, and that of the report itself, the last."""
    here = Here.of(console)
    said: dict[str, None] = {}

    def say(recipe: Recipe, lines: list[str]) -> None:
        fresh = [text for text in lines if text not in said]
        said.update(dict.fromkeys(lines))
        _say(console, recipe, lines if console.json else fresh)

    words: list[str] = []
    for stories in _of_runs(shown.items):
        recipes = [story.recipe for story in stories]
        first = stories[0]
        names = named(here, recipes, model=first.model, own_depth=first.own_depth, whole=True)
        words += [names.run] if names.run is not None else []
        for story in stories:
            own = names if story.model is None else replace(names, model=story.model)
            say(story.recipe, commands(story.recipe, own))
    beside = Path(what).parent
    for item in (one for one in shown.items if one.file is not None):
        if item.story is None:
            words.append(_lies(here, item, beside, words))
            continue
        place = _apart(str(item.file), words)
        words.append(place)
        say(item.story.recipe, _for_file(here, item.story, valued("--output", place)))
    options = options_of(shown.look)
    if shown.source is not None:
        options += valued("--source", _lies(here, shown.source, beside, []))
    if not words:
        raise InputError(f"`{what}` does not say what it shows", hint="`dvid show RUN` knows runs")
    last = line("report", words, [*options, *valued("-o" if what[:1] != "-" else "--output", what)])
    console.result(last, commands=[last])
    _warn_of_places(said)


def _of_runs(items: Sequence[Item]) -> list[list[Story]]:
    """The clips of each run that began alike; those of files apart."""
    parties: dict[tuple[int, Recipe | None], list[Story]] = {}
    for item in items:
        if item.story is not None and item.file is None:
            made = chain([item.story.recipe])
            beginning = None if made is None else made.tune or made.frames
            parties.setdefault((item.run, beginning), []).append(item.story)
    return list(parties.values())


def _apart(name: str, words: Sequence[str]) -> str:
    """Where a file of that name goes so that it is no other's place; only its folder may change."""
    places = [name, *(f"{number}/{name}" for number in range(2, len(words) + 3))]
    return next(place for place in places if place not in words)


def _lies(here: Here, item: Item, beside: Path, words: Sequence[str]) -> str:
    """Where a file that is not dvid's is now, by its content; where it is not, a word to replace.

    That is its name, or `FILE` where another file has that name.
    """
    name = str(item.file)
    plain = name if "." in name else f"./{name}"  # no run's name
    near = (Path(plain), beside / name)
    for place in (*near, *here.places(item.content)):
        if here.holds(place, item.content):
            return plain if place == near[0] else str(place)
    log.warning("`%s` is nowhere here; its place is yours to fill in", name)
    return "FILE" if os.path.lexists(name) or plain in words else plain


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


def newest(run: "Run") -> Recipe:
    """The last of what the run stands for: its inversion, else what there is before one."""
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


def _written(story: Story, what: str) -> list[str]:
    """The options that have the file of the story written as that one."""
    suffix = Path(what).suffix.lower()
    if isinstance(story.recipe, Extract | Depth):
        return valued("--output", what)
    return ["--format", suffix[1:]] if suffix not in (".mp4", "") else []


def _for_file(here: Here, story: Story, written: Sequence[str]) -> list[str]:
    """The lines that make the file of the story; the last one writes it, with those options."""
    names = named(here, [story.recipe], model=story.model, own_depth=story.own_depth)
    if isinstance(story.recipe, Extract | Depth):
        names = replace(names, run=None)  # a file of it is all that is wanted
    options = list(written)
    if story.fps != Render.fps:
        options += ["--fps", spelled(story.fps)]
    if story.crf != Render.crf:
        options += ["--crf", spelled(story.crf)]
    *before, (last, arguments, found) = steps(story.recipe, names)
    return [line(*step) for step in before] + [line(last, arguments, [*found, *options])]
