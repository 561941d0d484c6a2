"""`dvid doctor`: whether everything is in order, and how to put in order what is not."""

import logging
import os
import textwrap
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from dvcli.cli import options as o
from dvcli.cli.groups import COUNT, parse_size
from dvcli.cli.quoting import printable
from dvcli.cli.session import Console, here, memory, verb
from dvcli.errors import CheckError, DvidError

if TYPE_CHECKING:
    from dvcli.doctor import Finding, Plans
    from dvcli.models.fingerprint import Checkpoint

COLOURS = {"ok": "32", "warn": "33", "fail": "31"}
NAMES = 17  # columns, the longest name of a finding


@verb
def doctor(
    console: Console,
    model: o.Model = o.MODEL,
    size: o.Size = None,
    frames: o.Frames = COUNT,
    device: o.Device = "auto",
    dtype: o.DTypeOption = "auto",
    attention: o.AttentionOption = "auto",
    memory_limit: o.MemoryLimit = None,
    smoke: Annotated[
        bool, typer.Option("--smoke/--no-smoke", help="Go once all the way on the built-in model.")
    ] = True,
) -> None:
    """Say whether everything is in order here.

    Prints ok, warn or fail, what was looked at, what was found, and the fix. Changes nothing,
    fetches nothing. Exits with 8 when something must be fixed.

    Example: dvid doctor --model tiny --size 64
    """
    from dvcli.devices import resolve_device, resolve_dtype
    from dvcli.doctor import Plans
    from dvcli.recipes import within

    within("--frames", frames, 1, 512)
    chosen = resolve_device(device)
    plans = Plans(
        model=model,
        size=None if size is None else parse_size(size),
        frames=frames,
        device=chosen,
        dtype=resolve_dtype(dtype, chosen),
        attention=attention,
        memory_limit=None if memory_limit is None else memory(memory_limit),
    )
    failed: list[Finding] = []
    for finding in _findings(plans, device, smoke=smoke):
        _say(console, finding)
        if finding.status == "fail":
            failed.append(finding)
    if failed:
        first = failed[0]
        what = "thing" if len(failed) == 1 else "things"
        raise CheckError(
            f"{len(failed)} {what} must be fixed, first {first.name}: {first.said}", hint=first.fix
        )


def _findings(plans: "Plans", asked: str, *, smoke: bool) -> Iterator["Finding"]:
    """Every finding, the quick ones first; what needs torch comes when it is its turn."""
    from dvcli.doctor import Finding, model, places
    from dvcli.doctor.installed import versions

    healthy = True
    for finding in versions():
        healthy = healthy and finding.status != "fail"
        yield finding
    yield from _configured()
    yield from places.kept()
    found, checkpoint = model.at_hand(plans.model)
    yield from found
    if not healthy:
        return  # what is not installed could not be imported either
    from dvcli.doctor import machine

    for finding in _importing(lambda: machine.device(plans, asked)):
        healthy = healthy and finding.status != "fail"
        yield finding
    if not healthy:
        return
    yield machine.attention(plans)
    if checkpoint is None and found[0].status == "warn" and plans.device == "cpu":
        yield Finding(
            name="memory to tune",
            status="warn",
            said=f"`{plans.model}` wants a GPU; what it takes is computed once it is here",
            fix="`--model tiny` does without one",
        )
    if checkpoint is not None:
        yield from _importing(lambda: _memory(checkpoint, plans))
    if smoke:
        yield from _importing(lambda: _smoke(plans))


def _importing(look: Callable[[], Iterator["Finding"]]) -> Iterator["Finding"]:
    """The findings, and one more where a package that is there cannot be imported."""
    from dvcli.doctor import Finding

    try:
        yield from look()
    except (ImportError, OSError) as error:
        name = getattr(error, "name", None) or "a library"
        yield Finding(
            name="import",
            status="fail",
            said=f"{name} cannot be loaded: {error}",
            fix="`pip install --force-reinstall` that package, at the version of constraints.txt",
        )


def _memory(checkpoint: "Checkpoint", plans: "Plans") -> Iterator["Finding"]:
    from dvcli.doctor.memory import fits

    yield from fits(checkpoint, _size(checkpoint, plans), plans)


def _smoke(plans: "Plans") -> Iterator["Finding"]:
    from dvcli.doctor.smoke import run

    ours = logging.getLogger("dvcli")
    before = ours.level
    ours.setLevel(logging.ERROR)  # two steps make poor pictures, which is no finding
    try:
        yield from run(plans)
    finally:
        ours.setLevel(before)


def _size(checkpoint: "Checkpoint", plans: "Plans") -> tuple[int, int]:
    from dvcli.cli.sources import native_size
    from dvcli.models.fingerprint import validate_size

    size = plans.size or native_size(checkpoint)
    validate_size(checkpoint, size)
    return size


def _configured() -> Iterator["Finding"]:
    """The files and variables in force, and whether they can be read."""
    from dvcli.cli.app import app
    from dvcli.cli.config import files, settings
    from dvcli.doctor import Finding
    from dvcli.styles import load_styles, styles_path

    for place in files(here()):
        yield Finding(name="configuration", said=f"`{place}`")
    for name in sorted(name for name in os.environ if name.startswith("DVID_")):
        yield Finding(name="environment", said=f"{name}={printable(os.environ[name])}")
    try:
        count = len(settings(typer.main.get_command(app), here(), os.environ))
        yield Finding(
            name="settings", said=f"{count} in force; `dvid config show --origin` lists them"
        )
    except DvidError as error:
        fix = error.hint or "correct it there"
        yield Finding(name="settings", status="fail", said=error.message, fix=fix)
    try:
        own = [style for style in load_styles().values() if style.origin is not None]
        yield Finding(name="styles", said=f"{len(own)} of your own in `{styles_path()}`")
    except DvidError as error:
        fix = error.hint or f"correct `{styles_path()}`"
        yield Finding(name="styles", status="fail", said=error.message, fix=fix)


def _say(console: Console, finding: "Finding") -> None:
    if console.stdout.isatty() and not (console.json or console.null):
        console.result(_drawn(finding))
        return
    console.row(
        finding.status,
        finding.name,
        finding.said,
        finding.fix or "",
        status=finding.status,
        name=finding.name,
        said=finding.said,
        fix=finding.fix,
    )


def _drawn(finding: "Finding") -> str:
    """The finding for a terminal: its words in a column of their own, the fix under them."""
    import shutil

    width = max(shutil.get_terminal_size().columns, 40)
    status = f"{finding.status:<5}"
    if "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb":
        status = f"\x1b[{COLOURS[finding.status]}m{status}\x1b[0m"
    lines = textwrap.wrap(printable(finding.said), width - NAMES - 7, break_on_hyphens=False)
    if finding.fix:
        fix = textwrap.wrap(printable(finding.fix), width - NAMES - 9, break_on_hyphens=False)
        lines += [f"→ {fix[0]}", *(f"  {more}" for more in fix[1:])]
    gap = " " * (NAMES + 7)
    return f"{status} {finding.name:<{NAMES}} " + f"\n{gap}".join(lines)
