"""`dvid cache push` and `dvid cache pull`: runs and artifacts to a folder elsewhere, and back."""

from typing import TYPE_CHECKING, Annotated

import typer

from dvcli.cli.cache import counted, size
from dvcli.cli.carry import meant, tell
from dvcli.cli.session import Console, here, verb
from dvcli.errors import InputError, MissingError, UsageError

if TYPE_CHECKING:
    from dvcli.runs import Run
    from dvcli.store.remote import Remote

Url = Annotated[
    str, typer.Argument(metavar="URL", help="file:///folder, s3://bucket/folder, gs://…")
]


@verb
def push(
    console: Console,
    url: Url,
    what: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN|KEY]...", help="Runs, or keys.", show_default="everything"),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace other runs of the same names there.")
    ] = False,
) -> None:
    """Copy runs and artifacts to a folder elsewhere.

    A run takes along everything up to its inversion. Prints stage, key, size, whether it is new.

    Example: dvid cache push s3://bucket/dvid bear
    """
    from dvcli.cli.provenance import is_public
    from dvcli.runs import portable
    from dvcli.store.remote import Remote

    runs, keys = meant(console, what or [])
    remote = Remote(url)
    files = {
        name: portable(run, model=run.model if run.model and is_public(run.model) else None)
        for name, run in runs.items()
    }
    if not overwrite:
        for name in runs:
            _refuse_other(remote, runs[name])
    for key in dict.fromkeys([*(k for run in runs.values() for k in run.keys.values()), *keys]):
        artifact = console.store.get(key)
        if artifact is None:
            raise MissingError(
                f"the artifact {key[:12]} is not in the cache", hint="`dvid cache ls` lists them"
            )
        fate = "new" if remote.push(artifact) else "there"
        _say(console, artifact.stage, key, artifact.size, fate)
    for name, data in files.items():  # after what they stand for
        remote.put_run(name, data)
        console.row("run", name, "", "there now", run=name, fate="there now")
    console.note(
        f"{counted(len(runs), 'run')} in `{url}`; `dvid cache pull {url}` fetches what is there"
    )


@verb
def pull(
    console: Console,
    url: Url,
    what: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN]...", help="Runs.", show_default="every run there"),
    ] = None,
) -> None:
    """Fetch runs and their artifacts from a folder elsewhere.

    Every byte is checked before it is to be seen. Prints stage, key, size, whether it is new.

    Example: dvid cache pull s3://bucket/dvid bear
    """
    from dvcli.runs import received
    from dvcli.store.remote import Remote, Spoilt

    remote = Remote(url)
    there = remote.runs()
    names = what or there
    if not names:
        raise MissingError(f"there is no run in `{url}`", hint=f"`dvid cache push {url}` first")
    console.runs.prepare()
    console.store.prepare()
    for name in names:
        try:
            data = remote.run(name)
            if data is None:
                known = ", ".join(f"`{n}`" for n in there[:5]) or "none"
                raise MissingError(f"no run named `{name}` in `{url}`", hint=f"it has {known}")
            run = received(name, data, cwd=str(here() or ""))
            for key in run.keys.values():
                _pull_one(console, remote, key)
        except Spoilt as damage:
            raise InputError(
                f"`{url}` is damaged: {damage}; what came before it stays",
                hint="`dvid cache push` from a machine that has it",
            ) from None
        adopted, new = console.runs.adopt(run)
        fate = "new" if new else "here"
        console.row("run", adopted.name, "", fate, run=adopted.name, fate=fate)
        tell(console, run, adopted)


def _pull_one(console: Console, remote: "Remote", key: str) -> None:
    artifact, fate = console.store.get(key), "here"
    if artifact is None:
        artifact, fate = remote.pull(console.store, key), "new"
    if artifact is None:
        raise MissingError(f"the artifact {key[:12]} is not in `{remote.url}`")
    _say(console, artifact.stage, key, artifact.size, fate)


def _say(console: Console, stage: str, key: str, count: int, fate: str) -> None:
    console.row(stage, key[:12], size(count), fate, stage=stage, key=key, size=count, fate=fate)


def _refuse_other(remote: "Remote", run: "Run") -> None:
    """Refuse to put the run where another of its name is."""
    from dvcli.runs import received

    data = remote.run(run.name)
    if data is None:
        return
    other = received(run.name, data, cwd="")
    if (other.recipes, other.keys) != (run.recipes, run.keys):
        raise UsageError(
            f"`{remote.url}` has another run named `{run.name}`",
            hint="`--overwrite` replaces it; what it stands for stays there",
        )
