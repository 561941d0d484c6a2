"""The jobs of a batch: a JSON object a line, read and checked whole before any work.

    {"clip": "bear.mp4", "caption": "a bear", "tune": {"steps": 300}, "prompts": ["a tigress"]}

or `{"run": "bear", "prompts": […]}` for a clip that has been tuned. `tune` and `invert` take the
options of these verbs; `sample`, and each prompt that is an object, the switches of a prompts file.
"""

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

import typer

from dvcli.cli.config import DefaultMap, anything, defaults
from dvcli.cli.groups import FULL_SIZE, Framing
from dvcli.cli.plain import read_plainly
from dvcli.cli.prompts import Asked, Wish, lines_of, mapping, named, placed, read_json, read_prompts
from dvcli.cli.prompts import wishes_of as multiply
from dvcli.cli.session import here
from dvcli.cli.switches import LONGEST, NAMES, Switches, read_object, read_switches
from dvcli.cli.verbs import VERBS, command_line
from dvcli.errors import DvidError, InputError, UsageError, meant
from dvcli.recipes import Base, Depth, DType, Extract, Invert, Normalise, TemporalTarget, Tune

FIELDS = ("clip", "caption", "run", "id", "tune", "invert", "sample", "prompts", "prompts_file")
NOTHING = "0" * 64


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What a job says of tuning, as the options of `tune` do."""

    framing: Framing
    model: str
    depth: Path | None
    steps: int
    lr: float
    temporal_weight: float
    temporal_target: TemporalTarget
    normalise: Normalise
    weight_decay: float
    grad_clip: float
    seed: int

    def recipe(
        self, frames: Extract, depth: Depth | None, base: Base, caption: str, dtype: DType
    ) -> Tune:
        """The tuning of those frames."""
        return Tune(
            frames=frames,
            depth=depth,
            base=base,
            prompt=caption,
            steps=self.steps,
            lr=self.lr,
            weight_decay=self.weight_decay,
            grad_clip=self.grad_clip,
            temporal_weight=self.temporal_weight,
            temporal_target=self.temporal_target,
            normalise=self.normalise,
            seed=self.seed,
            dtype=dtype,
        )


@dataclass(frozen=True, kw_only=True)
class Inverting:
    """What a job says of inversion; `asked` is whether it said anything."""

    steps: int
    refine: int
    prompt: str
    trajectory: bool
    asked: bool = False

    def recipe(self, tuned: Tune, dtype: DType) -> Invert:
        """The inversion on that tuning."""
        return Invert(
            tuned=tuned,
            steps=self.steps,
            refine=self.refine,
            prompt=self.prompt,
            trajectory=self.trajectory,
            dtype=dtype,
        )


@dataclass(frozen=True, kw_only=True)
class Job:
    """One line. Either `clip` and `caption` are there, or `run` is one that has been tuned."""

    line: int
    place: str
    id: str | None
    clip: Path | None
    caption: str
    run: str | None
    tuning: Tuning
    inverting: Inverting
    switches: Switches
    wishes: Sequence[Wish] = field(default_factory=tuple)


def read_jobs(file: str, *, model: str | None) -> list[Job]:
    """The jobs of the file, `-` being standard input; `model` is for those that name none.

    A clip's path is relative to the file's folder. Raises `InputError` that names every bad line.
    """
    beside = Path() if file == "-" else Path(file).parent
    known = _configured()
    jobs, errors = [], []
    for place, text in lines_of(file, hint="a JSON object a line, or - for standard input"):
        try:
            with placed(place):
                jobs.append(_job(text, place, beside, known, model))
        except DvidError as error:
            errors.append((place, error))
    refuse(errors)
    if not jobs:
        raise InputError(f"{named(file)} has no job in it", hint="a JSON object a line")
    return jobs


def refuse(errors: Sequence[tuple[str, DvidError]]) -> None:
    """Raise the first error, which then names the lines of the others too."""
    if not errors:
        return
    _, first = errors[0]
    others = [place.split()[1] for place, _ in errors[1:]]
    more = f" (and so are {len(others)} more, such as line {others[0]})" if others else ""
    raise type(first)(first.message + more, hint=first.hint) from first


def _job(text: str, place: str, beside: Path, configured: DefaultMap, model: str | None) -> Job:
    found = _fields(mapping(read_json(text)))
    clip, caption, run = (_text(found, name) for name in ("clip", "caption", "run"))
    if clip is None and run is None:
        raise InputError("there is neither a clip nor a run", hint=_EXAMPLE)
    if clip is None and (caption is not None or found.get("tune")):
        raise InputError(f"the run `{run}` is tuned already", hint='a "clip" makes a new one')
    if clip is not None and caption is None:
        raise InputError("what does the clip show?", hint='"caption": "a polar bear with her cubs"')
    tuning = _tuning(_table(found, "tune"), configured, model, beside)
    inverting = _inverting(_table(found, "invert"), configured)
    # Once on nothing, so that a wrong value is refused before a model is fetched or read.
    parts = (part.name for part in fields(Base))
    base = Base(**dict.fromkeys(parts, NOTHING))
    frames = tuning.framing.recipe(NOTHING, FULL_SIZE)
    inverting.recipe(tuning.recipe(frames, None, base, caption or "a clip", "fp32"), "fp32")
    switches = read_switches(_table(found, "sample")).over(_sampling(configured))
    return Job(
        line=int(place.split()[1]),
        place=place,
        id=_text(found, "id"),
        clip=None if clip is None else beside / clip,
        caption=caption or "",
        run=run,
        tuning=tuning,
        inverting=inverting,
        switches=switches,
        wishes=multiply(list(_prompts(found, place, beside)), switches),
    )


_EXAMPLE = '{"clip": "bear.mp4", "caption": "a polar bear", "prompts": ["a tigress"]}'


def _fields(found: Mapping[str, object]) -> dict[str, object]:
    named_so: dict[str, object] = {}
    for written, value in found.items():
        name = written.replace("-", "_")
        if name not in FIELDS:
            near = difflib.get_close_matches(name, [*FIELDS, *NAMES], n=1)
            where = "" if not near or near[0] in FIELDS else ' in "sample"'
            raise InputError(
                f"a job has no field `{written[:40]}`"
                + (f", did you mean `{near[0]}`{where}?" if near else ""),
                hint="it has " + ", ".join(FIELDS),
            )
        if value is not None:
            named_so[name] = value
    return named_so


def _text(found: Mapping[str, object], name: str) -> str | None:
    value = found.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"`{name}` is {value!r:.40}, which is no text")
    if len(value) > LONGEST or "\0" in value:
        raise InputError(f"`{name}` is no text for this")
    return value


def _table(found: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = found.get(name, {})
    if not isinstance(value, dict):
        raise InputError(f"`{name}` is {value!r:.40}, which is no object of options")
    return value


def _prompts(found: Mapping[str, object], place: str, beside: Path) -> Iterator[Asked]:
    listed = found.get("prompts", [])
    for value in listed if isinstance(listed, list) else [listed]:
        if isinstance(value, str):
            if len(value) > LONGEST or "\0" in value:
                raise InputError(f"`{value[:40]}` is no prompt")
            yield Asked(words=value, place=place)
        elif isinstance(value, dict):
            words, switches = read_object(value)
            yield Asked(words=words, switches=switches, place=place)
        else:
            raise InputError(
                f"`prompts` has {value!r:.40} in it", hint="texts, and objects with a `prompt`"
            )
    if (file := _text(found, "prompts_file")) is not None:
        if file == "-":
            raise InputError("`prompts_file` cannot be standard input")
        yield from read_prompts(str(beside / file))


# The options of verbs, read by the verbs' own parsers, so that they mean the same here


def _tuning(
    table: Mapping[str, object], configured: DefaultMap, model: str | None, beside: Path
) -> Tuning:
    own = tuple(f.name for f in fields(Tuning) if f.name != "framing")
    framing = tuple(f.name for f in fields(Framing))
    values = _options("tune", table, (*own, *framing), configured)
    if model is not None and "model" not in {name.replace("-", "_") for name in table}:
        values["model"] = model
    if values["depth"] is not None:
        values["depth"] = beside / values["depth"]
    return Tuning(
        framing=Framing(**{name: values[name] for name in framing}),
        **{name: values[name] for name in own},
    )


def _inverting(table: Mapping[str, object], configured: DefaultMap) -> Inverting:
    own = tuple(f.name for f in fields(Inverting) if f.name != "asked")
    values = _options("invert", table, own, configured)
    return Inverting(asked=bool(table), **{name: values[name] for name in own})


def _sampling(configured: DefaultMap) -> Switches:
    """What is configured for `sample`."""
    own = [name for name in NAMES if name != "name"]
    values = _options("sample", {}, own, configured)
    several = {name: tuple(values[name] or ()) or None for name in ("style", "seed")}
    every = Switches(**{name: values[name] for name in own} | several)
    return every.only(configured.get("sample", {}))


def _options(
    verb: str, table: Mapping[str, object], known: Sequence[str], configured: DefaultMap
) -> dict[str, Any]:
    """The verb's parameters as they are with these options on its command line."""
    line: list[str] = []
    for written, value in table.items():
        name = written.replace("-", "_")
        if name not in known:
            raise InputError(
                f"`{verb}` of a job has no option `{written[:40]}`" + meant(name, known),
                hint=f"`dvid {verb} --help` says what each takes",
            )
        option = f"--{name.replace('_', '-')}"
        if value is True:
            line.append(option)
        elif isinstance(value, str | int | float) and not isinstance(value, bool):
            line.append(f"{option}={value}")
        elif value is not None and value is not False:
            raise InputError(f"`{verb}.{written}` is {value!r:.40}, which is no value of an option")
    try:
        context = _command(verb).make_context(verb, line, default_map=configured.get(verb))
    except typer.TyperException as error:
        said = " ".join(str(error.format_message()).replace("Value error, ", "").split())
        raise UsageError(f"{verb}: {said[:1].lower()}{said[1:].rstrip('.')}") from None
    params: dict[str, Any] = context.params
    return params


@cache
def _command(verb: str) -> Any:
    group: Any = typer.main.get_command(command_line([verb]))
    command = group.commands[verb]
    read_plainly(command)
    return command


def _configured() -> DefaultMap:
    if not anything(here(), os.environ):
        return {}
    return defaults(typer.main.get_command(command_line(VERBS)), here(), os.environ)
