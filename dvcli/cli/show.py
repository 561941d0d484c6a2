"""`dvid show`: what a run, a key or a file is, and the commands that make it again."""

import json
import shlex
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dvcli.cli.session import Console, verb
from dvcli.errors import InputError, MissingError
from dvcli.recipes import Controls, Depth, Extract, Invert, Recipe, Sample, Tune

if TYPE_CHECKING:
    from dvcli.runs import Run


@dataclass(frozen=True, kw_only=True)
class Story:
    """What a file says of itself."""

    recipe: Recipe
    model: str | None
    version: str


def embedded(path: Path) -> Story | None:
    """The provenance inside a media file, None where there is none."""
    from dvcli.recipe_json import from_json
    from dvcli.video.metadata import read_metadata

    text = read_metadata(path)
    if text is None:
        return None
    try:
        told = json.loads(text)
        return Story(
            recipe=from_json(told["recipe"]),
            model=told.get("model"),
            version=str(told.get("dvid", "unknown")),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None  # some other program's comment, or one of ours that was cut


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
    if what is not None and Path(what).is_file():
        story = embedded(Path(what))
        if story is None:
            raise InputError(
                f"`{what}` carries no provenance of dvid", hint="`dvid show RUN` knows runs"
            )
        clip, model = "CLIP", story.model or "MODEL"
        recipe: Recipe = story.recipe
    else:
        try:
            run = console.run(what)
        except MissingError:
            if what is None:
                raise
            _show_key(console, what)
            return
        clip, model, recipe = run.clip or "CLIP", run.model or "MODEL", _last(run)
    lines = commands(recipe, clip, model)
    if console.json:
        from dvcli.recipe_json import to_json

        console.result("", recipe=to_json(recipe), commands=lines)
        return
    for line in lines:
        console.result(line)


def _show_key(console: Console, prefix: str) -> None:
    record = console.store.show(prefix)
    if console.json:
        console.result("", record=record)
    else:
        console.result(json.dumps(record, indent=2, ensure_ascii=False))


def _last(run: "Run") -> Recipe:
    return next(
        run.recipes[stage]
        for stage in ("invert", "tune", "depth", "extract")
        if stage in run.recipes
    )


def commands(recipe: Recipe, clip: str, model: str) -> list[str]:
    """The command lines that make the recipe from the clip, in order."""
    match recipe:
        case Extract():
            return [_line("extract", [clip], _framing(recipe))]
        case Depth():
            return [
                _line(
                    "depth", [clip], [*_framing(recipe.frames), *_depth(recipe), "--model", model]
                )
            ]
        case Tune():
            options = [
                *_framing(recipe.frames),
                *_changed(recipe, Tune, skip=("frames", "depth", "base", "prompt")),
            ]
            if recipe.depth is not None and recipe.depth.given is not None:
                options += ["--depth", "DEPTH"]
            return [_line("tune", [clip, recipe.prompt], [*options, "--model", model])]
        case Invert():
            return [
                *commands(recipe.tuned, clip, model),
                _line("invert", [], _changed(recipe, Invert, skip=("tuned",))),
            ]
        case Sample():
            options = ["--prompt", recipe.prompt]
            options += _changed(recipe, Sample, skip=("inverted", "prompt", "controls", "blend"))
            options += [
                part
                for field in fields(Controls)
                if (value := getattr(recipe.controls, field.name)) != field.default
                for part in (f"--depth-{field.name}", f"{value:g}")
            ]
            if recipe.blend is not None:
                options += ["--depth-from", "OTHER"]
            return [*commands(recipe.inverted, clip, model), _line("sample", [], options)]
    return []


def _framing(recipe: Extract) -> list[str]:
    found = _changed(recipe, Extract, skip=("clip", "size"))
    return found if recipe.size is None else [*found, "--size", "x".join(map(str, recipe.size))]


def _depth(recipe: Depth) -> list[str]:
    found = ["--from", "DEPTH"] if recipe.given is not None else []
    return [*found, "--invert-depth"] if recipe.invert else found


SPELLED = {"start": "--from"}  # in Sample; every other option is spelled as its field


def _changed(recipe: Recipe, kind: type[Recipe], *, skip: tuple[str, ...]) -> list[str]:
    options: list[str] = []
    for field in fields(kind):
        value = getattr(recipe, field.name)
        if field.name in skip or value == field.default:
            continue
        name = f"--{field.name.replace('_', '-')}"
        if kind is Sample:
            name = SPELLED.get(field.name, name)
        options += (
            [name]
            if value is True
            else [name, f"{value:g}" if isinstance(value, float) else str(value)]
        )
    return options


def _line(verb: str, arguments: list[str], options: list[str]) -> str:
    return shlex.join(["dvid", verb, *arguments, *options])
