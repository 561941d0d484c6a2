"""The verbs of `dvid cache` that look after what is there: list, verify, make room, keep."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dvcli.cli.session import Console, memory, verb
from dvcli.errors import CheckError, StorageError
from dvcli.recipes import within

if TYPE_CHECKING:
    from dvcli.store.health import Health

Keys = Annotated[list[str], typer.Argument(metavar="KEY...", help="Keys, or how they begin.")]


@verb
def list_(console: Console) -> None:
    """List the artifacts.

    Prints, last used first: key, stage, size, when used, pinned.

    Example: dvid cache ls
    """
    entries = console.store.entries()
    for entry in entries:
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
    whole = sum(entry.size for entry in entries)
    console.note(f"{counted(len(entries), 'artifact')}, {size(whole)} in `{console.store.root}`")


@verb
def show(console: Console, keys: Keys) -> None:
    """Print the record of a key.

    Prints JSON: what was asked, what came out, when.

    Example: dvid cache show 1a2b3c4d
    """
    for key in keys:
        record = console.store.show(key)
        console.result(json.dumps(record, indent=2, ensure_ascii=False), record=record)


@verb
def verify(
    console: Console,
    repair: Annotated[
        bool, typer.Option("--repair", help="Set aside what is damaged, put back what is whole.")
    ] = False,
) -> None:
    """Read every byte and say what is damaged.

    Prints each damaged file and what is wrong with it. Exit code 8 when something is and was not
    set aside.

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
    for path in health.restored:
        console.row(str(path), "back from quarantine", path=str(path), restored=True)
    _tell_lost(console, health)
    console.note(
        f"{health.records} artifacts, {health.objects} files, {size(health.bytes)},"
        f" {len(health.damaged)} damaged"
    )
    stuck = [damage for damage in health.damaged if damage.stuck is not None]
    if stuck:
        raise CheckError(
            f"{_first_of([damage.path for damage in stuck])} is damaged and cannot be set aside:"
            f" {stuck[0].stuck}",
            hint=f"whoever may write in `{console.store.root}` can repair it",
        )
    if health.damaged and not repair:
        raise CheckError("the cache is damaged", hint="`dvid cache verify --repair` sets it aside")


def _tell_lost(console: Console, health: "Health") -> None:
    """Which artifacts have to be made again, and how those of a run are."""
    if not health.lost:
        return
    of_run = {key: run.name for run in console.runs.all() for key in run.keys.values()}
    for lost in health.lost:
        what = "an artifact" if lost.stage is None else f"the {lost.stage} artifact"
        run = of_run.get(lost.key)
        how = "is made again when it is asked for"
        if run is not None:
            how = f"of the run `{run}` is made again by the next `dvid sample {run}`"
        console.note(f"{what} {lost.key[:12]} {how}")


@verb
def gc(
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

    Leftovers go, then what was least recently used; pins and runs keep theirs. Prints key, stage
    and size of what went.

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
        recent = " and the last hour" if grace else ""
        more = "; `--grace 0` lets go of the last hour's" if grace else ""
        console.note(f"what pins, runs{recent} keep is more than the limit{more}")
    if sweep.stuck:
        raise StorageError(
            f"{_first_of(sweep.stuck)} cannot be removed: {sweep.why}",
            hint="what else could go has gone; the user whose files they are can collect them",
        )


@verb
def rm(console: Console, keys: Keys) -> None:
    """Remove artifacts.

    What is asked for again is made again. Prints the keys.

    Example: dvid cache rm 1a2b3c4d
    """
    for key in keys:
        entry = console.store.rm(key)
        console.result(entry.key, key=entry.key, stage=entry.stage, size=entry.size)


@verb
def pin(console: Console, keys: Keys) -> None:
    """Keep artifacts from `gc`.

    Prints the keys.

    Example: dvid cache pin 1a2b3c4d
    """
    for key in keys:
        whole = console.store.pin(key)
        console.result(whole, key=whole, pinned=True)


@verb
def unpin(console: Console, keys: Keys) -> None:
    """Let `gc` have artifacts again.

    Prints the keys.

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


def _first_of(paths: Sequence[Path]) -> str:
    """The first of the paths, and how many there are besides."""
    return f"`{paths[0]}`" + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")


def counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
