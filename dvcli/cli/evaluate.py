"""`dvid eval`: the figures of a run's clips, or of any video files."""

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dvcli.cli.quoting import printable
from dvcli.cli.record import frames_of, tuned
from dvcli.cli.session import Session, verb
from dvcli.cli.show import embedded
from dvcli.errors import InputError, UsageError
from dvcli.recipes import Eval, Extract, Sample

if TYPE_CHECKING:
    from dvcli.runs import Run

log = logging.getLogger(__name__)
COLUMNS = ("frame_consistency", "frame_consistency_consecutive", "textual_alignment")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One clip to be judged: what it is called, its recipe, the prompt it should fit."""

    name: str
    source: Sample | Extract
    prompt: str | None


@verb
def evaluate(
    session: Session,
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN|FILE]...", help="Runs or video files.", show_default="the last run"
        ),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt", "-p", help="What files should show.", show_default="the embedded one"
        ),
    ] = None,
    clip_model: Annotated[
        str,
        typer.Option(metavar="ID|PATH|tiny", help="The CLIP that judges."),
    ] = "clip-vit-l14",
) -> None:
    """Measure clips.

    How steady they are and how well they fit their prompt; prints a line each.

    Example: dvid eval out/bear/*.mp4 --prompt "a tigress with her cubs"
    """
    if prompt is not None and not prompt.strip():
        raise UsageError("the prompt is empty", hint="say what the files should show")
    rows = [row for name in (what or (None,)) for row in _rows(session, name, prompt)]
    judge = session.sources.clip_model(clip_model)
    recipes = [Eval(frames=row.source, clip_model=judge, prompt=row.prompt) for row in rows]
    if session.dry_run:
        for recipe in recipes:
            session.show_plan(recipe)
        return
    table = session.stdout.isatty() and not (session.json or session.null)
    if not session.json and not table:
        session.result("\t".join(("clip", *COLUMNS, "prompt")))
    found = []
    for row, recipe in zip(rows, recipes, strict=True):
        artifact = session.realise(recipe)
        figures = json.loads(artifact.path("metrics").read_text())
        found.append((row, figures))
        if not table:
            cells = [_cell(figures.get(column)) for column in COLUMNS]
            line = "\t".join((printable(row.name), *cells, _flat(row.prompt or "")))
            session.result(line, clip=row.name, prompt=row.prompt, key=artifact.key, **figures)
    if table:
        _show(session, found)


def _rows(session: Session, name: str | None, prompt: str | None) -> list[Row]:
    if name is not None and _is_file(session, name):
        path = Path(name)
        source = Extract(clip=session.sources.file(path), frames=None, size=None)
        return [Row(name=name, source=source, prompt=prompt or _embedded_prompt(path))]
    run = session.run(name)
    if prompt is not None:
        raise UsageError("a run's clips have their own prompts", hint="`--prompt` goes with files")
    session.sources.expect(run)
    return [_source_row(run), *_sample_rows(session, run)]


def _is_file(session: Session, name: str) -> bool:
    """Whether it means a file or a folder, and not a run: a folder yields to a run of its name."""
    if os.path.isdir(name):  # noqa: PTH112  # no error for any name
        return name not in session.runs.names()
    return os.path.exists(name)  # noqa: PTH110


def _embedded_prompt(path: Path) -> str | None:
    """What the file itself says that it shows."""
    if path.is_dir():
        return None
    try:
        story = embedded(path)
    except InputError as error:
        log.warning("%s; without `--prompt` it fits none", error.message)
        return None
    recipe = None if story is None else story.recipe
    return recipe.prompt if isinstance(recipe, Sample) else None


def _source_row(run: "Run") -> Row:
    prompt = tuned(run).prompt if "tune" in run.recipes else None
    return Row(name=f"{run.name} (source)", source=frames_of(run), prompt=prompt)


def _sample_rows(session: Session, run: "Run") -> list[Row]:
    return [
        Row(name=made.path, source=made.recipe, prompt=made.recipe.prompt)
        for made in session.runs.samples(run.name)
    ]


def _cell(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else ""


def _flat(text: str) -> str:
    return printable(" ".join(text.split()))


def _show(session: Session, found: list[tuple[Row, dict[str, float]]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("clip", "consistency", "consecutive", "alignment", "prompt")
    for row, figures in found:
        cells = [_cell(figures.get(column)) for column in COLUMNS]
        table.add_row(Text(printable(Path(row.name).name)), *cells, Text(_flat(row.prompt or "")))
    Console(file=session.stdout).print(table)
