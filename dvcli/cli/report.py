"""`dvid report`: the clips of runs and files beside each other, as a page, a grid or a sheet."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dvcli.cli import options as o
from dvcli.cli.judged import is_file
from dvcli.cli.output import FORMATS, check_folder, in_the_way, place
from dvcli.cli.pages import NOWHERE, of_file, of_run, report_story, signed
from dvcli.cli.provenance import Story, embedded, is_public, own_depth
from dvcli.cli.session import Session, verb
from dvcli.cli.show import newest
from dvcli.errors import InputError, MissingError, StorageError, UsageError
from dvcli.recipes import Render, within

if TYPE_CHECKING:
    from dvcli.cli.gather import Party
    from dvcli.report.reels import Reel

PAGE, SHEET, MOVING = ".html", ".png", (".mp4", ".webm", ".gif", ".webp", ".apng")
Panel = "Grid"
CLIP = "clip-vit-l14"


@dataclass(frozen=True, kw_only=True)
class Look:
    """What the report looks like."""

    title: Annotated[
        str | None, typer.Option(metavar="TEXT", help="A title.", show_default="the run's name")
    ] = None
    fps: o.Fps = Render.fps
    width: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS", help="Of a grid or sheet; on a page, a clip's largest side."
        ),
    ] = None
    crf: o.Crf = Render.crf
    rows: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FACT,...",
            help="What its rows are: prompt, style, guidance, seed, ...",
            rich_help_panel=Panel,
        ),
    ] = None
    columns: Annotated[
        list[str] | None,
        typer.Option(metavar="FACT,...", help="What its columns are.", rich_help_panel=Panel),
    ] = None
    no_source: Annotated[
        bool,
        typer.Option("--no-source", help="Leave out source and depth.", rich_help_panel=Panel),
    ] = False


@verb
def report(
    session: Session,
    look: Look,
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN|FILE]...", help="Runs or video files.", show_default="the last run"
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help=".html page, .png sheet, .mp4 .webm .gif .webp .apng grid.",
            show_default="out/RUN/report.html",
        ),
    ] = None,
    overwrite: o.Overwrite = False,
    source: Annotated[
        Path | None,
        typer.Option(metavar="CLIP", help="The source of files that do not name theirs."),
    ] = None,
    evaluate: Annotated[
        bool, typer.Option("--eval", help="Measure what has not been measured yet.")
    ] = False,
    clip_model: Annotated[
        str | None,
        typer.Option(
            metavar="ID|PATH|tiny", help="The CLIP that judges.", show_default="the one used so far"
        ),
    ] = None,
) -> None:
    """Show clips beside each other.

    One page, grid or contact sheet of the source, its depth and every clip; prints its path.

    Example: dvid report -o bears.html
    """
    from dvcli.cli.figures import judged, measure
    from dvcli.cli.gather import gather

    if output is not None:
        _check(output, look)
    if evaluate:
        session.sources.clip_model(clip_model or CLIP)  # that it is there is known before any work
    parties = gather(session, what, source)
    target = Path("out") / _folder(parties) / f"report{PAGE}" if output is None else output
    _check(target, look)
    if not any(party.given or party.takes for party in parties):
        raise MissingError("there is nothing to show", hint="`dvid sample` makes clips")
    if evaluate:
        measure(session, what, source, clip_model or CLIP)
    if session.dry_run:
        return
    reels = judged(session, parties, clip_model)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / f"report{target.suffix.lower()}"
        asked = _asked(look, evaluate=evaluate, clip_model=clip_model)
        _write(made, reels, look, _story(session, parties, what or (), source, asked))
        size = made.stat().st_size
        _put(session, made, target, overwrite)
    count = sum(len(reel.shots) for reel in reels)
    session.result(str(target), path=str(target), clips=count, bytes=size)


def _check(output: Path, look: Look) -> None:
    """Refuse, before any work, what could never be written."""
    kind = output.suffix.lower()
    if kind not in (PAGE, SHEET, *MOVING):
        raise UsageError(
            f"cannot write a report as `{output}`",
            hint="its name ends in one of " + " ".join((PAGE, SHEET, *MOVING)),
        )
    if output.is_dir():
        raise UsageError(f"`{output}` is a folder", hint="`-o` takes the name of a file")
    if kind not in MOVING and (look.rows or look.columns):
        raise UsageError(
            "rows and columns are those of a grid", hint="`-o` with " + " ".join(MOVING)
        )
    within("--fps", look.fps, 0.1, 240)
    within("--crf", look.crf, 0, 51)
    if look.width is not None:
        within("--width", look.width, 16, 8192)
    check_folder(output.parent)


def _folder(parties: "Sequence[Party]") -> str:
    """The run's own folder, where all is of one run."""
    names = [party.run for party in parties if party.run is not None]
    return names[0] if len(parties) == 1 and names else "."


def _asked(look: Look, *, evaluate: bool, clip_model: str | None) -> dict[str, object]:
    """The options off their defaults, as a file may say them: none is a path of this machine."""
    plain = Look()
    found = {f.name: getattr(look, f.name) for f in fields(Look)}
    asked = {name: value for name, value in found.items() if value != getattr(plain, name)}
    asked |= {"eval": True} if evaluate else {}
    if clip_model is None:
        return asked
    return asked | {"clip_model": clip_model if is_public(clip_model) else NOWHERE}


def _write(made: Path, reels: "Sequence[Reel]", look: Look, story: str) -> None:
    from dvcli.report.grid import grid
    from dvcli.report.places import as_bands
    from dvcli.report.reels import as_page, as_rows
    from dvcli.report.sheet import WIDTH, contact_sheet
    from dvcli.report.strip import SIDE
    from dvcli.video.write import write

    source = not look.no_source
    if made.suffix == PAGE:
        one = reels[0] if len(reels) == 1 else None
        text = as_page(
            reels,
            title=look.title or (one.name if one is not None else "dvid report"),
            sentence=one.sentence if one is not None else "",
            fps=look.fps,
            side=look.width or SIDE,
            source=source,
        )
        made.write_bytes(signed(text, story).encode())
        return
    title = look.title or ""
    if made.suffix == SHEET:
        rows = as_rows(reels, source=source)
        contact_sheet(made, rows, title=title, width=look.width or WIDTH, metadata=story)
        return
    bands = as_bands(reels, rows=_names(look.rows), columns=_names(look.columns), source=source)
    frames = grid(bands, title=title, width=look.width)
    write(made, frames, fps=look.fps, metadata=story, crf=look.crf)


def _names(given: Sequence[str] | None) -> list[str]:
    """Facts as they were named, with commas or one by one."""
    words = [word.strip() for part in given or () for word in part.split(",")]
    return [word.replace("-", " ").replace("_", " ") for word in words if word]


def _story(
    session: Session,
    parties: "Sequence[Party]",
    what: Sequence[str],
    source: Path | None,
    asked: dict[str, object],
) -> str:
    """What is shown, runs before files, and how, as JSON; no folder of this machine."""
    items = []
    for number, party in enumerate(party for party in parties if party.run is not None):
        run = session.runs.get(str(party.run))
        own = own_depth(run)
        made = [take.recipe for take in party.takes if take.recipe is not None] or [newest(run)]
        items += [of_run(number, recipe, party.model, own_depth=own) for recipe in made]
    for path in dict.fromkeys(Path(name) for name in what if is_file(session, name)):
        items.append(of_file(path, _told(path), session.sources.file(path)))
    given = None if source is None else of_file(source, None, session.sources.file(source))
    return report_story(items, given, asked)


def _told(path: Path) -> Story | None:
    """How dvid made the file and can write it again under its name; None where it cannot."""
    try:
        return None if path.is_dir() or path.suffix.lower() not in FORMATS else embedded(path)
    except InputError:  # a warning has said it
        return None


def _put(session: Session, made: Path, output: Path, overwrite: bool) -> None:
    """Put the report in its place; the same bytes may be there already."""
    if os.path.lexists(output) and not overwrite:
        if not output.exists() or session.store.digest_file(output) != session.store.digest_file(
            made
        ):
            raise in_the_way(output)
        return
    try:
        place(made, output)
    except StorageError as error:
        raise StorageError(error.message, hint="`-o` names another place") from error
