"""`dvid eval`: the figures of a run's clips, or of any video files."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dvcli.cli.record import frames_of, tuned
from dvcli.cli.session import Session, verb
from dvcli.cli.show import embedded
from dvcli.errors import UsageError
from dvcli.recipes import Eval, Extract, Sample

if TYPE_CHECKING:
    from dvcli.runs import Run

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
            line = "\t".join((row.name, *cells, _flat(row.prompt or "")))
            session.result(line, clip=row.name, prompt=row.prompt, key=artifact.key, **figures)
    if table:
        _show(session, found)


def _rows(session: Session, name: str | None, prompt: str | None) -> list[Row]:
    if name is not None and Path(name).exists():
        path = Path(name)
        source = Extract(clip=session.sources.file(path), frames=None, size=None)
        story = None if prompt is not None or path.is_dir() else embedded(path)
        words = prompt if story is None else getattr(story.recipe, "prompt", None)
        return [Row(name=name, source=source, prompt=words)]
    run = session.run(name)
    if prompt is not None:
        raise UsageError("a run's clips have their own prompts", hint="`--prompt` goes with files")
    session.sources.expect(run)
    return [_source_row(run), *_sample_rows(session, run)]


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
    return " ".join(text.split())


def _show(session: Session, found: list[tuple[Row, dict[str, float]]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("clip", "consistency", "consecutive", "alignment", "prompt")
    for row, figures in found:
        cells = [_cell(figures.get(column)) for column in COLUMNS]
        table.add_row(Path(row.name).name, *cells, _flat(row.prompt or ""))
    Console(file=session.stdout).print(table)
