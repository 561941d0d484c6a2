"""`dvid runs` and `dvid styles`, and what `dvid cache` consists of."""

import time
from pathlib import Path
from typing import Annotated

import typer

from dvcli.cli import cache as store
from dvcli.cli import carry, exchange
from dvcli.cli.columns import columns, drawn
from dvcli.cli.session import Console, here, verb
from dvcli.recipes import method_of
from dvcli.styles import load_styles, styles_path

cache = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Look after the cache of artifacts.",
    epilog="Example: dvid cache gc --limit 20G",
)
cache.command("ls")(store.list_)
cache.command("show")(store.show)
cache.command("verify")(store.verify)
cache.command("gc")(store.gc)
cache.command("rm")(store.rm)
cache.command("pin")(store.pin)
cache.command("unpin")(store.unpin)
cache.command("export")(carry.export)
cache.command("import")(carry.import_)
cache.command("push")(exchange.push)
cache.command("pull")(exchange.pull)


@verb
def runs(
    console: Console,
    remove: Annotated[
        list[str] | None, typer.Option("--rm", metavar="RUN", help="Forget this run.")
    ] = None,
) -> None:
    """List the runs, newest first.

    Prints name, stages, method, when, clip, and `last` for the one that is meant where none is
    named.

    Example: dvid runs
    """
    from dvcli.runs import last_from

    for name in remove or []:
        console.runs.rm(name)
        console.note(f"forgot the run `{name}`; its artifacts go at the next `dvid cache gc`")
    if remove:
        return
    found = console.runs.all()
    if not found:
        console.note("there is no run yet; `dvid tune CLIP CAPTION` makes one")
    last = last_from(found, here() or Path("/"))
    rows = []
    for run in found:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.updated))
        stages = ",".join(run.recipes)
        tune = run.recipes.get("tune")
        method = None if tune is None else method_of(tune)
        cells = (
            *(run.name, stages, method or "", when, run.clip or ""),
            "last" if run is last else "",
        )
        if drawn(console):
            rows.append(cells)
            continue
        console.row(
            *cells,
            run=run.name,
            last=run is last,
            stages=list(run.recipes),
            method=method,
            updated=run.updated,
            clip=run.clip,
            model=run.model,
            keys=dict(run.keys),
        )
    if rows:
        columns(console, ("run", "stages", "method", "changed", "clip", ""), rows)


@verb
def styles(
    console: Console,
    path: Annotated[bool, typer.Option("--path", help="Print where your own styles go.")] = False,
) -> None:
    """List the styles, those that ship and your own.

    Prints name, what it adds to the prompt, what to the negative prompt. Your own stand in the
    file that --path prints: [woodcut] and under it prompt = "woodcut print, bold black lines".

    Example: dvid styles
    """
    if path:
        console.result(str(styles_path()), path=str(styles_path()))
        return
    found = load_styles().values()
    if drawn(console):
        cells = [(style.name, style.prompt, style.negative) for style in found]
        columns(console, ("style", "adds to the prompt", "to the negative prompt"), cells)
        return
    for style in found:
        console.row(
            style.name,
            style.prompt,
            style.negative,
            name=style.name,
            prompt=style.prompt,
            negative=style.negative,
            origin=None if style.origin is None else str(style.origin),
        )
