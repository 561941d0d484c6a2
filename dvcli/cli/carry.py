"""`dvid cache export` and `dvid cache import`: runs and artifacts as one file, for elsewhere."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dvcli.cli import options as o
from dvcli.cli.cache import counted, size
from dvcli.cli.session import Console, here, verb
from dvcli.errors import MissingError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dvcli.runs import Run

TERMS = """\
What this archive holds, and on what terms

It was written by `dvid cache export`; `dvid cache import` reads it. The files in it are results of
dvid, each under the SHA-256 of its bytes, and records of what was asked for.

- Deltas (stage tune) are differences from the weights of a base model and are derived from them:
  the licence of the base model holds for them, with its restrictions on use. Stable Diffusion 2
  depth, the default, is under the CreativeML Open RAIL++-M licence.
- Frames, depth maps, latents and clips derive from the source clip: whoever holds rights in it
  holds them in these. Clips are results of the model, too, and its licence may speak of them.
- Records and runs hold the prompts that were given, and runs the name of the clip; no other path or
  name of the machine that they come from.
- A digest shows that bytes arrived as they were sent, not that they are the true result of what
  their record states: take archives only from those whose results you would take.
"""


@verb
def export(
    console: Console,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE.tar", help="Where to; `.tar` or `.tar.gz`."),
    ],
    what: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN|KEY]...", help="Runs, or keys.", show_default="everything"),
    ] = None,
    overwrite: o.Overwrite = False,
) -> None:
    """Write runs and artifacts to one file.

    A run takes along everything up to its inversion, so that sampling goes on elsewhere. Prints the
    path.

    Example: dvid cache export bear -o bear.tar
    """
    from dvcli.cli.provenance import is_public
    from dvcli.runs import portable
    from dvcli.store import archive

    archive.check_name(output)
    runs, keys = meant(console, what or [])
    packed = archive.export(
        console.store,
        [*keys, *(key for run in runs.values() for key in run.keys.values())],
        {
            name: portable(run, model=run.model if run.model and is_public(run.model) else None)
            for name, run in runs.items()
        },
        _notice(runs),
        output,
        overwrite=overwrite,
    )
    console.result(
        str(output),
        path=str(output),
        runs=sorted(runs),
        artifacts=packed.artifacts,
        objects=packed.objects,
        size=packed.bytes,
    )
    console.note(
        f"{counted(len(runs), 'run')}, {counted(packed.artifacts, 'artifact')},"
        f" {size(packed.bytes)}; the base model's licence holds for what is in it, see NOTICE.txt"
    )


@verb
def import_(
    console: Console,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `export` wrote.")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Let it replace other results of the same keys.")
    ] = False,
) -> None:
    """Take in runs and artifacts from a file.

    All of it is checked before anything is to be seen. Prints what came: stage, key, size, whether
    it is new; then the runs.

    Example: dvid cache import bear.tar
    """
    from dvcli.runs import received
    from dvcli.store.parcel import Parcel

    place = str(here() or "")
    with Parcel(console.store, file) as parcel:
        runs = [received(name, data, cwd=place) for name, data in parcel.runs.items()]
        if runs:
            console.runs.prepare()
        arrived = parcel.publish(overwrite=overwrite)
    for part in arrived:
        console.row(
            part.stage,
            part.key[:12],
            size(part.size),
            part.fate,
            stage=part.stage,
            key=part.key,
            size=part.size,
            fate=part.fate,
        )
    for run in runs:
        adopted, new = console.runs.adopt(run)
        fate = "new" if new else "here"
        console.row("run", adopted.name, "", fate, run=adopted.name, fate=fate)
        tell(console, run, adopted)
    if any(part.fate == "kept" for part in arrived):
        console.note("kept: other results of the same keys are here; `--overwrite` replaces them")


def tell(console: Console, run: "Run", adopted: "Run") -> None:
    if adopted.name != run.name:
        console.note(f"a run named `{run.name}` is here already, so this one is `{adopted.name}`")
    if "tune" not in run.recipes:
        return
    base = "" if adopted.model is not None else " --base PATH"
    if base:
        console.note(f"the model of `{adopted.name}` had a name of that machine only, find it here")
    console.note(f"go on with `dvid sample {adopted.name} -p TEXT{base}`")


def meant(console: Console, words: list[str]) -> "tuple[dict[str, Run], list[str]]":
    """The runs by name and the keys that the words stand for: a run first, else a key."""
    if not words:
        every = {run.name: run for run in console.runs.all()}
        found = [entry.key for entry in console.store.entries()]
        if not every and not found:
            raise MissingError("there is nothing to export", hint="`dvid tune CLIP CAPTION` first")
        _check(console, every)
        return every, found
    runs: dict[str, Run] = {}
    keys: list[str] = []
    for word in words:
        run = _run(console, word)
        if run is not None:
            runs[run.name] = run
            continue
        try:
            keys.append(str(console.store.show(word)["key"]))
        except (MissingError, UsageError) as unknown:
            raise MissingError(
                f"`{word}` is neither a run nor the beginning of a key",
                hint="`dvid runs` and `dvid cache ls` list them",
            ) from unknown
    _check(console, runs)
    return runs, keys


def _run(console: Console, word: str) -> "Run | None":
    if word not in console.runs.names() and not word.startswith("last"):
        return None
    return console.run(word)


def _check(console: Console, runs: "Mapping[str, Run]") -> None:
    """Refuse a run whose results are not all in the cache: it could not go on elsewhere."""
    for run in runs.values():
        for stage, key in run.keys.items():
            if console.store.get(key) is None:
                raise MissingError(
                    f"the {stage} of the run `{run.name}` is not in the cache any more",
                    hint=f"`dvid invert {run.name}` makes again what is missing",
                )


def _notice(runs: "Mapping[str, Run]") -> str:
    from dvcli.cli.provenance import is_public

    lines = []
    for name, run in sorted(runs.items()):
        model = run.model if run.model and is_public(run.model) else "a model with a local name"
        base = f", tuned on {model}" if "tune" in run.recipes else ""
        lines.append(f"- {name}: {', '.join(run.recipes)}{base}")
    return TERMS + ("\nRuns in it\n\n" + "\n".join(lines) + "\n" if lines else "")
