"""`dvid eval`: the figures of a run's clips, of any video files, or of a list of them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dvcli.cli import captions, measures, scores
from dvcli.cli.gathered import gathered
from dvcli.cli.judged import (
    Row,
    Source,
    clip_source,
    file_row,
    is_file,
    refuse_prompt,
    run_rows,
    sampled,
)
from dvcli.cli.listing import read_listing
from dvcli.cli.measures import Choice, Gates, Judges, Measure
from dvcli.cli.planning import Part, show_plan
from dvcli.cli.session import Session, verb
from dvcli.errors import MissingError, UsageError
from dvcli.recipes import Digest, Metric

if TYPE_CHECKING:
    from dvcli.runtime import Task
    from dvcli.store import Artifact

PICK_SCORE = "yuvalkirstain/PickScore_v1"


@verb
def evaluate(
    session: Session,
    gates: Gates,
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN|FILE]...",
            help="Runs or video files; with a prompts file, folders of results.",
            show_default="the last run",
        ),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt", "-p", help="What files should show.", show_default="the embedded one"
        ),
    ] = None,
    prompts_file: Annotated[
        Path | None,
        typer.Option(metavar="CSV|JSONL", help="Files with their prompts, or LOVEU-TGVE captions."),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(metavar="CLIP|RUN", help="What files were made from, to compare with."),
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME,...",
            help="Of consistency, alignment, motion, depth, likeness, preference.",
            show_default="all that can be had",
        ),
    ] = None,
    clip_model: Annotated[
        str,
        typer.Option(metavar="ID|PATH|tiny", help="The CLIP that judges."),
    ] = "clip-vit-l14",
    estimator: Annotated[
        str | None,
        typer.Option(
            metavar="ID|PATH|tiny", help="What estimates depth.", show_default="the run's"
        ),
    ] = None,
    pick_model: Annotated[
        str,
        typer.Option(metavar="ID|PATH", help="The PickScore model; fetched only when named."),
    ] = PICK_SCORE,
) -> None:
    """Measure clips.

    How steady they are, how well they fit their prompt, and how they keep the motion and the depth
    of what they were made from; prints a line each, and their mean.

    Example: dvid eval out/bear/*.mp4 --source bear --min-motion 50
    """
    refuse_prompt(prompt)
    choice = measures.choose(metrics or (), gates)
    depth = None if estimator is None else session.sources.estimator(estimator)
    if prompts_file is not None:
        rows = _listed(session, prompts_file, what or [], source, prompt, depth)
    else:
        rows = _named(session, what or [None], source, prompt, depth)
    measures.refuse_idle(gates, rows)
    measures.refuse_impossible(rows, choice)
    judges = _judges(session, clip_model, pick_model, choice)
    if session.dry_run:
        planned = measures.recipes(_planned(session, rows), judges, choice)
        every = [one for made in planned.values() for one in made if one]
        show_plan(session, [Part(recipes=every)])
        return
    rows = [sampled(session, row) for row in rows]
    wanted = measures.recipes(rows, judges, choice)
    count = sum(1 for made in wanted.values() for one in made if one)
    with gathered(session, "measure", count) as counted:
        figures, keys = _measure(session, rows, wanted, counted)
    scores.show(session, rows, list(wanted), figures, keys)
    scores.say_absent(session, rows, figures, list(wanted), keys)
    measures.check(gates, rows, figures)


def _measure(
    session: Session,
    rows: list[Row],
    wanted: dict[Measure, list[Metric | None]],
    counted: "Task",
) -> tuple[list[dict[str, float]], list[dict[str, str]]]:
    """(figures, keys by metric) of every row; metric by metric, so that each model loads once."""
    figures: list[dict[str, float]] = [{} for _ in rows]
    keys: list[dict[str, str]] = [{} for _ in rows]
    made: dict[Metric, Artifact] = {}  # consistency and alignment are of one recipe
    for measure, recipes in wanted.items():
        for place, recipe in enumerate(recipes):
            if recipe is None:
                continue
            artifact = made[recipe] = made.get(recipe) or session.realise(recipe)
            found = json.loads(artifact.path("metrics").read_text())
            names = measures.FIGURES[measure]
            figures[place] |= {name: found[name] for name in names if name in found}
            keys[place][measure] = artifact.key
            counted.advance()
    return figures, keys


def _named(
    session: Session,
    what: "list[str] | list[None]",
    source: str | None,
    prompt: str | None,
    depth: Digest | None,
) -> list[Row]:
    """The rows of runs and files, as they were named."""
    against = None if source is None else clip_source(session, source, depth)
    rows = []
    for name in dict.fromkeys(what):
        if name is not None and is_file(session, name):
            rows.append(file_row(session, Path(name), prompt, against))
            continue
        run = session.run(name)
        for option, given in (("--prompt", prompt), ("--source", source)):
            if given is not None:
                kind = option.removeprefix("--")
                raise UsageError(
                    f"a run's clips have their own {kind}", hint=f"`{option}` goes with files"
                )
        rows += run_rows(session, run, depth)
    return rows


def _listed(
    session: Session,
    listing: Path,
    folders: list[str],
    source: str | None,
    prompt: str | None,
    depth: Digest | None,
) -> list[Row]:
    """The rows of a prompts file; `source` is one for all, or the folder with the clips of all."""
    if prompt is not None:
        raise UsageError("`--prompt` and `--prompts-file` both say what files should show")
    for folder in folders:
        if not Path(folder).is_dir():
            raise UsageError(
                f"`{folder}` is no folder", hint="with `--prompts-file` results are in folders"
            )
    clips = Path(source) if source is not None and _is_library(session, source) else None
    found = captions.read(read_listing(listing), [Path(folder) for folder in folders], clips)
    shared = None
    if source is not None and clips is None:
        shared = clip_source(session, source, depth)
    known: dict[Path, Source] = {}
    for one in found:
        if one.source is not None and one.source not in known:
            known[one.source] = clip_source(session, str(one.source), depth)
    return [
        replace(
            file_row(session, one.file, one.prompt, known[one.source] if one.source else shared),
            group=str(one.folder),
        )
        for one in found
    ]


def _is_library(session: Session, source: str) -> bool:
    """Whether it is a folder of clips, and not a clip itself in the form of images."""
    from dvcli.video.digest import IMAGE_SUFFIXES

    folder = Path(source)
    if not folder.is_dir() or not is_file(session, source):
        return False
    images = (p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    return not any(images)


def _judges(session: Session, clip_model: str, pick_model: str, choice: Choice) -> Judges:
    """The models that judge: CLIP where wanted, PickScore where asked for or at hand."""
    clip = pick = None
    if choice.wants("consistency") or choice.wants("alignment"):
        try:
            clip = session.sources.clip_model(clip_model)
        except MissingError as error:
            hints = [error.hint, "`--metrics motion,depth` needs no CLIP"]
            raise MissingError(error.message, hint="; ".join(filter(None, hints))) from error
    if "preference" in choice.asked or "pick_model" in session.given:
        try:
            pick = session.sources.clip_model(pick_model)
        except MissingError as error:
            raise MissingError(
                error.message,
                hint="it is fetched where the network is on, `--pick-model PATH` takes a folder;"
                " the other metrics need neither",
            ) from error
    elif choice.wants("preference"):
        pick = _at_hand(session, pick_model)
    return Judges(clip=clip, pick=pick)


def _at_hand(session: Session, reference: str) -> Digest | None:
    """The model if it is on this machine; it is large, so nothing is fetched unasked."""
    from dvcli.models.resolve import resolve

    try:
        folder = resolve(reference, offline=True, kind="clip")
    except MissingError:
        return None
    return session.sources.clip_model(str(folder))


def _planned(session: Session, rows: list[Row]) -> list[Row]:
    """The rows with their sources sampled where their own frames are known already."""
    from dvcli.stages import find

    known = []
    for row in rows:
        waiting = row.role == "file" and row.source is not None
        if waiting and find(row.frames, session.store) is None:
            session.note(f"what `{row.name}` is compared with is planned once it has been read")
            row = replace(row, source=None)
        known.append(sampled(session, row))
    return known
