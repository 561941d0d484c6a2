"""`dvid bench quality`: methods × clips × prompts, measured, with intervals."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dvcli.cli import options as o
from dvcli.cli import shard as shards
from dvcli.cli.output import check_folder
from dvcli.cli.planning import Part, show_plan
from dvcli.cli.session import Session, verb
from dvcli.errors import UsageError
from dvcli.recipes import Tune

if TYPE_CHECKING:
    from dvcli.bench.cases import Case
    from dvcli.bench.methods import Method
    from dvcli.bench.results import Results
    from dvcli.bench.table import Line
    from dvcli.bench.trial import Row, Setting
    from dvcli.recipes import Base, Digest

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
    methods_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Your own methods too, TOML.")
    ] = None,
    list_methods: Annotated[
        bool, typer.Option("--list", help="List the methods and do nothing.")
    ] = False,
    model: o.Model = "tiny",
    plain_model: Annotated[
        str, typer.Option(metavar="ID|PATH|tiny-t2i", help="The base without depth.")
    ] = "tiny-t2i",
    clip_model: Annotated[
        str, typer.Option(metavar="ID|PATH|tiny", help="The CLIP that judges.")
    ] = "tiny",
    frames: Annotated[int, typer.Option(help="Frames of each clip.")] = 8,
    tuning_steps: Annotated[int, typer.Option(help="Tuning steps.")] = 100,
    lr: Annotated[float, typer.Option(help="Learning rate.")] = Tune.lr,
    steps: Annotated[int, typer.Option(help="Steps of inversion and sampling.")] = 20,
    refine: Annotated[int, typer.Option(help="Fixed-point rounds a step.")] = 1,
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
    from dvcli.bench.trial import Setting, recipes
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
    work = _cases(cases, clips, output)
    setting = Setting(
        base=base(found),
        estimator=found.components["depth_estimator"].digest,
        plain=_plain(session, plain_model, wanted),
        clip_model=session.sources.clip_model(clip_model),
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
    digests = {case.name: session.sources.file(case.clip) for case in work}
    if session.dry_run:
        samples = [
            sample
            for case in mine
            for method in wanted
            for sample in recipes(case, digests[case.name], method, setting).values()
        ]
        show_plan(session, [Part(recipes=samples)])
        return
    results = Results(output / "results.jsonl", setting.clip_model)
    for number, case in enumerate(mine, 1):
        for method in wanted:
            _try(session, case, digests[case.name], method, setting, results)
        session.note(f"{number} of {len(mine)} clips, {len(list(results))} rows")
        if part.count == 1:
            _write(output, _asked(results, work), wanted)
    if part.count > 1:
        session.note(f"the rows of shard {part} are there; without `--shard` the tables are made")
        return
    rows = _asked(results, work)
    page = output / "index.html"
    page.write_text(
        written(rows, work, wanted, digests, setting, session.realise), encoding="utf-8"
    )
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


def _cases(file: Path | None, clips: int, output: Path) -> "list[Case]":
    from dvcli.bench.cases import given, rendered
    from dvcli.recipes import within

    if file is not None:
        return given(file)
    within("--clips", clips, 1, 1000)
    return rendered(clips, output / "clips")


def _try(
    session: Session,
    case: "Case",
    clip: "Digest",
    method: "Method",
    setting: "Setting",
    results: "Results",
) -> None:
    """Every edit of one clip under one method; rows that are done are not measured again."""
    from dvcli.bench.trial import measured, recipes
    from dvcli.bundled.train.judging import shipped

    samples = recipes(case, clip, method, setting)
    made = {kind: session.realise(sample) for kind, sample in samples.items()}
    for kind, artifact in made.items():
        if results.get(case.name, method.name, kind, artifact.key) is None:
            judge = session.runtime.shelf.get(method.name, ("judge",), shipped)
            row = measured(
                case, kind, method, samples[kind], artifact, setting, session.realise, judge
            )
            results.add(row)


def _asked(results: "Results", work: "list[Case]") -> "list[Row]":
    """The rows of these clips; the file may hold others of an earlier command."""
    names = {case.name for case in work}
    return [row for row in results if row.case in names]


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
        _draw(session, table)
        return
    if not session.json:
        session.result(
            "\t".join(["method", "figure", "mean", "low", "high", "ahead", "low", "high"])
        )
    for line in table:
        for name, _ in COLUMNS:
            if (cell := line.cells.get(name)) is None:
                continue
            ahead = cell.ahead
            numbers = [cell.value.mean, cell.value.low, cell.value.high]
            numbers += [] if ahead is None else [ahead.mean, ahead.low, ahead.high]
            session.row(
                line.method.name,
                name,
                *(f"{number:.3f}" for number in numbers),
                method=line.method.name,
                says=line.method.says,
                figure=name,
                clips=cell.value.clips,
                mean=cell.value.mean,
                interval=[cell.value.low, cell.value.high],
                ahead=None if ahead is None else ahead.mean,
                ahead_interval=None if ahead is None else [ahead.low, ahead.high],
            )


def _draw(session: Session, table: "list[Line]") -> None:
    from rich.console import Console
    from rich.table import Table

    from dvcli.bench.table import COLUMNS

    shown = [(name, title) for name, title in COLUMNS if any(name in line.cells for line in table)]
    drawn = Table("method", *(title for _, title in shown))
    for line in table:
        cells = [line.cells.get(name) for name, _ in shown]
        drawn.add_row(
            line.method.name, *("" if c is None else f"{c.value.mean:.1f}" for c in cells)
        )
    Console(file=session.stdout).print(drawn)
