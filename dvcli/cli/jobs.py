"""The jobs of a batch: a JSON object a line, read and checked whole before any work.

    {"clip": "bear.mp4", "caption": "a bear", "tune": {"steps": 300}, "prompts": ["a tigress"]}

or `{"run": "bear", "prompts": […]}` for a clip that has been tuned. `tune` and `invert` take the
options of these verbs; `sample`, and each prompt that is an object, the switches of a prompts file.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TypeAlias

from dvcli.cli.asked import Inverting, configured, inverting_of, options
from dvcli.cli.config import DefaultMap
from dvcli.cli.groups import FULL_SIZE, Framing
from dvcli.cli.prompts import Asked, Wish, lines_of, mapping, named, placed, read_json, read_prompts
from dvcli.cli.prompts import wishes_of as multiply
from dvcli.cli.switches import LONGEST, NAMES, Switches, read_object, read_switches
from dvcli.errors import DvidError, InputError
from dvcli.recipes import Base, Depth, DType, Extract, Normalise, TemporalTarget, Tune

FIELDS = ("clip", "caption", "run", "id", "tune", "invert", "sample", "prompts", "prompts_file")
NOTHING = "0" * 64
Bad: TypeAlias = tuple[int, DvidError]  # a line, and what is wrong with it


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


def read_jobs(file: str, *, model: str | None) -> tuple[list[Job], list[Bad]]:
    """The jobs of the file, `-` being standard input, and what is wrong with its other lines.

    A clip's path is relative to the file's folder; `model` is for the jobs that name none. Raises
    `InputError` where there is no line, or no file.
    """
    beside = Path() if file == "-" else Path(file).parent
    known = configured()
    jobs, bad = [], []
    for place, text in lines_of(file, hint="a JSON object a line, or - for standard input"):
        try:
            with placed(place):
                jobs.append(_job(text, place, beside, known, model))
        except DvidError as error:
            bad.append((_line(place), error))
    if not jobs and not bad:
        raise InputError(f"{named(file)} has no job in it", hint="a JSON object a line")
    return jobs, bad


def refuse(bad: Sequence[Bad]) -> None:
    """Raise the error of the first line, which then counts the others too."""
    if not bad:
        return
    (_, first), *more_of_them = sorted(bad, key=lambda one: one[0])
    others = [line for line, _ in more_of_them]
    more = f" (line {others[0]} is wrong as well)" if others else ""
    if len(others) > 1:
        more = f" ({len(others)} more lines are wrong as well, line {others[0]} the next)"
    raise type(first)(first.message + more, hint=first.hint) from first


def _line(place: str) -> int:
    return int(place.split()[1])


def _job(text: str, place: str, beside: Path, configured: DefaultMap, model: str | None) -> Job:
    found = _fields(mapping(read_json(text), _EXAMPLE))
    clip, caption, run = (_text(found, name) for name in ("clip", "caption", "run"))
    if clip is None and run is None:
        raise InputError("there is neither a clip nor a run", hint=_EXAMPLE)
    if clip is None and (caption is not None or found.get("tune")):
        raise InputError(f"the run `{run}` is tuned already", hint='a "clip" makes a new one')
    if clip is not None and caption is None:
        raise InputError("what does the clip show?", hint='"caption": "a polar bear with her cubs"')
    tuning = _tuning(_table(found, "tune"), configured, model, beside)
    inverting = inverting_of(_table(found, "invert"), configured)
    # Once on nothing, so that a wrong value is refused before a model is fetched or read.
    parts = (part.name for part in fields(Base))
    base = Base(**dict.fromkeys(parts, NOTHING))
    frames = tuning.framing.recipe(NOTHING, FULL_SIZE)
    inverting.recipe(tuning.recipe(frames, None, base, caption or "a clip", "fp32"), "fp32")
    switches = read_switches(_table(found, "sample")).over(_sampling(configured))
    return Job(
        line=_line(place),
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


def _tuning(
    table: Mapping[str, object], configured: DefaultMap, model: str | None, beside: Path
) -> Tuning:
    own = tuple(f.name for f in fields(Tuning) if f.name != "framing")
    framing = tuple(f.name for f in fields(Framing))
    values = options("tune", table, (*own, *framing), configured)
    if model is not None and "model" not in {name.replace("-", "_") for name in table}:
        values["model"] = model
    if values["depth"] is not None:
        values["depth"] = beside / values["depth"]
    return Tuning(
        framing=Framing(**{name: values[name] for name in framing}),
        **{name: values[name] for name in own},
    )


def _sampling(configured: DefaultMap) -> Switches:
    """What is configured for `sample`."""
    own = [name for name in NAMES if name != "name"]
    values = options("sample", {}, own, configured)
    several = {name: tuple(values[name] or ()) or None for name in ("style", "seed")}
    every = Switches(**{name: values[name] for name in own} | several)
    return every.only(configured.get("sample", {}))
