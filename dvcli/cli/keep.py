"""`dvid runs`, `dvid styles` and `dvid cache`: what there is, and keeping it in order."""

import json
import time
from typing import Annotated

import typer

from dvcli.cli.session import Console, memory, verb
from dvcli.errors import CheckError
from dvcli.recipes import within
from dvcli.styles import load_styles, styles_path

cache = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Look after the cache of artifacts."
)
Keys = Annotated[list[str], typer.Argument(metavar="KEY...", help="Keys, or how they begin.")]


@verb
def runs(
    console: Console,
    remove: Annotated[
        list[str] | None, typer.Option("--rm", metavar="RUN", help="Forget this run.")
    ] = None,
) -> None:
    """List the runs, newest first.

    Prints name, stages, when, clip.

    Example: dvid runs
    """
    for name in remove or []:
        console.runs.rm(name)
        console.note(f"forgot the run `{name}`; its artifacts go at the next `dvid cache gc`")
    if remove:
        return
    for run in console.runs.all():
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.updated))
        stages = ",".join(run.recipes)
        console.row(
            run.name,
            stages,
            when,
            run.clip or "",
            run=run.name,
            stages=list(run.recipes),
            updated=run.updated,
            clip=run.clip,
            model=run.model,
            keys=dict(run.keys),
        )


@verb
def styles(
    console: Console,
    path: Annotated[bool, typer.Option("--path", help="Print where your own styles go.")] = False,
) -> None:
    """List the styles.

    Prints name, what it adds to the prompt, what to the negative prompt.

    Example: dvid styles
    """
    if path:
        console.result(str(styles_path()), path=str(styles_path()))
        return
    for style in load_styles().values():
        console.row(
            style.name,
            style.prompt,
            style.negative,
            name=style.name,
            prompt=style.prompt,
            negative=style.negative,
            origin=None if style.origin is None else str(style.origin),
        )


@cache.command("ls")
@verb
def cache_ls(console: Console) -> None:
    """List the artifacts.

    Last used first: key, stage, size, when used, pinned.

    Example: dvid cache ls
    """
    for entry in console.store.entries():
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
        mark = "pinned" if entry.pinned else ""
        console.row(
            entry.key[:12],
            entry.stage,
            size(entry.size),
            used,
            mark,
            key=entry.key,
            stage=entry.stage,
            size=entry.size,
            created=entry.created,
            used=entry.used,
            pinned=entry.pinned,
        )


@cache.command("show")
@verb
def cache_show(console: Console, keys: Keys) -> None:
    """Print the record of a key.

    What was asked, what came out, when.

    Example: dvid cache show 1a2b3c4d
    """
    for key in keys:
        record = console.store.show(key)
        console.result(json.dumps(record, indent=2, ensure_ascii=False), record=record)


@cache.command("verify")
@verb
def cache_verify(
    console: Console,
    repair: Annotated[bool, typer.Option("--repair", help="Set aside what is damaged.")] = False,
) -> None:
    """Read every byte and say what is damaged.

    Exit code 8 when something is and was not set aside.

    Example: dvid cache verify --repair
    """
    health = console.store.verify(repair)
    for damage in health.damaged:
        console.row(
            str(damage.path),
            damage.problem,
            path=str(damage.path),
            problem=damage.problem,
            repaired=damage.repaired,
        )
    console.note(
        f"{health.records} artifacts, {health.objects} files, {size(health.bytes)},"
        f" {len(health.damaged)} damaged"
    )
    if not all(damage.repaired for damage in health.damaged):
        raise CheckError("the cache is damaged", hint="`dvid cache verify --repair` sets it aside")


@cache.command("gc")
@verb
def cache_gc(
    console: Console,
    limit: Annotated[str, typer.Option(metavar="SIZE", help="Come down to this size.")] = "50G",
    grace: Annotated[
        float, typer.Option(metavar="S", help="Keep what was used in the last seconds.")
    ] = 3600.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Only say what would go.")
    ] = False,
) -> None:
    """Make room.

    Leftovers go, then what was least recently used; pins and runs keep theirs.

    Example: dvid cache gc --limit 20G
    """
    within("--grace", grace, 0, 1e12)
    limit_bytes = memory(limit)
    sweep = console.store.gc(
        limit_bytes, grace_s=grace, roots=console.runs.roots(), dry_run=dry_run
    )
    for entry in sweep.removed:
        console.row(
            entry.key[:12],
            entry.stage,
            size(entry.size),
            key=entry.key,
            stage=entry.stage,
            size=entry.size,
        )
    verdict = "would be freed" if dry_run else "freed"
    console.note(f"{size(sweep.freed)} {verdict}, {size(sweep.after)} in use")
    if sweep.after > sweep.limit:
        console.note("what pins, runs and the last hour keep is more than the limit")


@cache.command("rm")
@verb
def cache_rm(console: Console, keys: Keys) -> None:
    """Remove artifacts.

    What is asked for again is made again.

    Example: dvid cache rm 1a2b3c4d
    """
    for key in keys:
        entry = console.store.rm(key)
        console.result(entry.key, key=entry.key, stage=entry.stage, size=entry.size)


@cache.command("pin")
@verb
def cache_pin(console: Console, keys: Keys) -> None:
    """Keep artifacts from `gc`.

    Example: dvid cache pin 1a2b3c4d
    """
    for key in keys:
        whole = console.store.pin(key)
        console.result(whole, key=whole, pinned=True)


@cache.command("unpin")
@verb
def cache_unpin(console: Console, keys: Keys) -> None:
    """Let `gc` have artifacts again.

    Example: dvid cache unpin 1a2b3c4d
    """
    for key in keys:
        whole = console.store.unpin(key)
        console.result(whole, key=whole, pinned=False)


def size(number: int) -> str:
    """Bytes as a person reads them: `512 B`, `3.4 MB`."""
    amount, units = float(number), ["B", "kB", "MB", "GB", "TB"]
    while amount >= 1000 and len(units) > 1:
        amount, units = amount / 1000, units[1:]
    return f"{amount:.0f} {units[0]}" if units[0] == "B" else f"{amount:.1f} {units[0]}"
