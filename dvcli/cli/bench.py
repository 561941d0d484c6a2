"""`dvid bench quality`: methods × clips × prompts, measured, with intervals."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dvcli.cli import options as o
from dvcli.cli import shard as shards
from dvcli.cli.method import BASE, WITHOUT_DEPTH
from dvcli.cli.output import check_folder
from dvcli.cli.planning import Part, show_plan
from dvcli.cli.session import Session, verb
from dvcli.errors import UsageError
from dvcli.recipes import Invert, Tune

if TYPE_CHECKING:
    from rich.table import Table

    from dvcli.bench.cases import Case
    from dvcli.bench.methods import Method
    from dvcli.bench.results import Results
    from dvcli.bench.statistics import Estimate
    from dvcli.bench.table import Line
    from dvcli.bench.trial import Row, Setting
    from dvcli.recipes import Base, Digest, Judged

bench = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Measure methods against each other.",
    epilog="Example: dvid bench quality -o bench",
)


@bench.command("quality")
@verb
def quality(
    session: Session,
    methods: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[METHOD|GROUP]...", help="What to compare.", show_default="the group main"
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where the table goes.")
    ] = Path("out/bench"),
    clips: Annotated[int, typer.Option(help="Held-out clips of the built-in world.")] = 24,
    cases: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Your own clips and prompts instead, JSON lines."),
    ] = None,
    bare: Annotated[
        bool, typer.Option("--bare", help="Captions of the built-in clips say no place.")
    ] = False,
    methods_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Your own methods too, TOML.")
    ] = None,
    list_methods: Annotated[
        bool, typer.Option("--list", help="List the methods and do nothing.")
    ] = False,
    model: o.Model = "tiny",
    plain_model: Annotated[
        str | None,
        typer.Option(
            metavar="ID|PATH|tiny-t2i",
            help="The base without depth.",
            show_default="tiny-t2i for tiny, else sd2-base",
        ),
    ] = None,
    clip_model: Annotated[
        str | None,
        typer.Option(
            metavar="ID|PATH|tiny",
            help="The CLIP that judges.",
            show_default="tiny for tiny, else clip-vit-l14",
        ),
    ] = None,
    frames: Annotated[int, typer.Option(help="Frames of each clip.")] = 8,
    tuning_steps: Annotated[int, typer.Option(help="Tuning steps.")] = 100,
    lr: Annotated[float, typer.Option(help="Learning rate.")] = Tune.lr,
    steps: Annotated[int, typer.Option(help="Steps of inversion and sampling.")] = 20,
    refine: Annotated[int, typer.Option(help="Fixed-point rounds a step.")] = Invert.refine,
    guidance: Annotated[float, typer.Option(help="How strictly prompts are followed.")] = 4.0,
    shard: shards.Option = None,
) -> None:
    """Compare methods on clips, with 95 % intervals.

    Writes every row, the table and a page; prints the table. The same command goes on where it
    was stopped. A shard writes the rows of its part of the clips; when all are done, the command
    without it writes the rest.

    Example: dvid bench quality main loss --clips 24 -o bench
    """
    from dvcli.bench.methods import chosen, read, shipped
    from dvcli.bench.page import written
    from dvcli.bench.results import Results
    from dvcli.bench.table import lines
    from dvcli.bench.trial import Setting
    from dvcli.bundled.train import judging
    from dvcli.cli.sources import base, native_size

    part = shards.parse(shard)
    known = shipped() | ({} if methods_file is None else read(methods_file))
    if list_methods:
        for method in known.values():
            session.row(method.name, method.group, method.says, method=method.name)
        return
    wanted = chosen(methods or ["main"], known)
    check_folder(output)
    found = session.sources.model(model)
    if not found.has_depth:
        raise UsageError(f"`{model}` takes no depth", hint="`--plain-model` is the base without")
    judge = session.sources.clip_model(clip_model or (model if model == "tiny" else o.JUDGES[0]))
    work = _cases(cases, clips, output, frames, bare)
    setting = Setting(
        base=base(found),
        estimator=found.components["depth_estimator"].digest,
        plain=_plain(session, plain_model or WITHOUT_DEPTH.get(model, BASE), wanted),
        clip_model=judge,
        size=native_size(found),
        frames=frames,
        tuning_steps=tuning_steps,
        lr=lr,
        steps=steps,
        refine=refine,
        guidance=guidance,
        dtype=session.number_format,
    )
    mine = part.of(work)
    files = {file: session.sources.file(file) for case in work for file in case.files}
    tasks = {
        case.name: [(method, _recipes(case, files, method, setting)) for method in wanted]
        for case in work
    }
    if session.dry_run:
        shown = [task for case in mine for _, made in tasks[case.name] for task in made.values()]
        show_plan(session, [Part(recipes=shown)])
        return
    judges = {"clip_model": judge, "estimator": setting.estimator}
    judges["judge"] = session.store.digest_file(judging.SHIPPED)
    results = Results(output / "results.jsonl", judges)
    rows: list[Row] = []
    for number, case in enumerate(mine, 1):
        for method, made in tasks[case.name]:
            rows += _try(session, case, files, method, made, setting, results)
        session.note(f"{number} of {len(mine)} clips, {len(rows)} rows")
        if part.count == 1:
            _write(output, rows, wanted)
    if part.count > 1:
        session.note(f"the rows of shard {part} are there; without `--shard` the tables are made")
        return
    page = output / "index.html"
    page.write_text(written(rows, work, wanted, files, setting, session.realise), encoding="utf-8")
    _show(session, lines(rows, wanted))
    session.note(f"`{output / 'table.md'}` has the tables, `{page}` the clips side by side")


def _plain(session: Session, reference: str, wanted: "list[Method]") -> "Base | None":
    """The base without depth, where a method needs one."""
    from dvcli.cli.sources import base

    if all(method.base == "depth" for method in wanted):
        return None
    found = session.sources.model(reference)
    if found.has_depth:
        raise UsageError(f"`{reference}` takes depth", hint="`--plain-model` is a base without")
    return base(found)


def _cases(file: Path | None, clips: int, output: Path, frames: int, bare: bool) -> "list[Case]":
    from dvcli.bench.cases import given, rendered
    from dvcli.recipes import within

    if file is not None:
        if bare:
            raise UsageError("`--bare` is about the built-in clips", hint="leave `--cases` out")
        return given(file)
    within("--clips", clips, 1, 1000)
    within("--frames", frames, 1, 512)
    return rendered(clips, output / "clips", frames, bare=bare)


def _recipes(
    case: "Case", files: "Mapping[Path, Digest]", method: "Method", setting: "Setting"
) -> "dict[str, Judged]":
    """What the method shows of the case; an error names the method."""
    from dvcli.bench.trial import recipes

    try:
        return recipes(case, files, method, setting)
    except UsageError as error:
        raise UsageError(f"the method `{method.name}`: {error}", hint=error.hint) from None


def _try(
    session: Session,
    case: "Case",
    files: "Mapping[Path, Digest]",
    method: "Method",
    asked: "dict[str, Judged]",
    setting: "Setting",
    results: "Results",
) -> "list[Row]":
    """Every edit of one clip under one method; rows that are done are not measured again."""
    from dvcli.bench.trial import measured, source
    from dvcli.bundled.train.judging import shipped

    reference = source(case, files, setting)
    made = {kind: session.realise(frames) for kind, frames in asked.items()}
    rows = []
    for kind, artifact in made.items():
        row = results.get(case.name, method.name, kind, artifact.key)
        if row is None:
            judge = session.runtime.shelf.get(method.name, ("judge",), shipped)
            row = measured(
                case,
                kind,
                method,
                asked[kind],
                reference,
                artifact,
                setting,
                session.realise,
                judge,
            )
            results.add(row)
        rows.append(row)
    return rows


def _write(output: Path, rows: "list[Row]", wanted: "list[Method]") -> None:
    """The tables over everything so far, whole and by kind of edit."""
    from dvcli.bench.table import lines, markdown

    parts = [f"## All edits\n\n{markdown(lines(rows, wanted))}"]
    for kind in dict.fromkeys(row.edit for row in rows):
        parts.append(f"## Edits of {kind}\n\n{markdown(lines(rows, wanted, [kind]))}")
    (output / "table.md").write_text("\n".join(parts), encoding="utf-8")


def _show(session: Session, table: "list[Line]") -> None:
    from dvcli.bench.table import COLUMNS

    if session.stdout.isatty() and not (session.json or session.null):
        from rich.console import Console

        Console(file=session.stdout).print(drawn(table))
        return
    if not session.json:
        session.result(
            "\t".join(["method", "figure", *("mean", "low", "high"), *("ahead", "from", "to")])
        )
    for line in table:
        for name, _ in COLUMNS:
            if (cell := line.cells.get(name)) is None:
                continue
            ahead = cell.ahead
            session.row(
                line.method.name,
                name,
                *_told(cell.value),
                *_told(ahead),
                method=line.method.name,
                says=line.method.says,
                figure=name,
                clips=cell.value.clips,
                mean=cell.value.mean,
                interval=cell.value.interval,
                ahead=None if ahead is None else ahead.mean,
                ahead_interval=None if ahead is None else ahead.interval,
            )


def _told(estimate: "Estimate | None") -> list[str]:
    """Mean, low, high; empty where there is none."""
    if estimate is None:
        return [""] * 3
    ends = [""] * 2 if estimate.interval is None else [f"{end:.3f}" for end in estimate.interval]
    return [f"{estimate.mean:.3f}", *ends]


def drawn(table: "list[Line]") -> "Table":
    """The means, each over its interval, for a terminal."""
    from rich.table import Table

    from dvcli.bench.table import COLUMNS, value

    shown = [(name, title) for name, title in COLUMNS if any(name in line.cells for line in table)]
    found = Table("method", *(title for _, title in shown))
    for line in table:
        cells = [value(line.cells.get(name)) for name, _ in shown]
        found.add_row(line.method.name, *(cell.replace(" ", "\n", 1) for cell in cells))
    return found
