"""The verbs, in the order of the work, each imported only where it is wanted."""

from collections.abc import Iterable
from importlib import import_module
from typing import Annotated

import typer

# Where each verb is, beside this file: a function, or the Typer of a group of verbs.
VERBS = {
    "extract": "frames.extract",
    "depth": "frames.depth",
    "tune": "tune.tune",
    "invert": "tune.invert",
    "sample": "sample.sample",
    "batch": "batch.batch",
    "eval": "evaluate.evaluate",
    "report": "report.report",
    "demo": "demo.demo",
    "show": "show.show",
    "runs": "keep.runs",
    "styles": "keep.styles",
    "config": "configured.config",
    "doctor": "doctor.doctor",
    "study": "study.study",
    "bench": "bench.bench",
    "cache": "keep.cache",
}
# What the help of `dvid` says of each: how its own help begins, which a test holds.
SUMMARIES = {
    "extract": "Take evenly spaced frames out of a clip.",
    "depth": "Estimate or read how near everything is.",
    "tune": "Learn one clip from its caption.",
    "invert": "Find the latent that a clip comes from.",
    "sample": "Make new clips with a clip's motion.",
    "batch": "Make many clips from a list of jobs.",
    "eval": "Measure clips.",
    "report": "Show clips beside each other.",
    "demo": "Show the whole story on the built-in model.",
    "show": "Print the commands that make it again.",
    "runs": "List the runs, newest first.",
    "styles": "List the styles, those that ship and your own.",
    "config": "Show what is configured: `DVID_*`, dvid.toml, the user's file.",
    "doctor": "Say whether everything is in order here.",
    "study": "Let people compare methods, blind.",
    "bench": "Measure methods against each other.",
    "cache": "Look after the cache of artifacts.",
}
EXAMPLE = 'dvid tune clip.mp4 "a polar bear", then dvid sample -p "a tigress" -s impressionism'


def command_line(names: Iterable[str]) -> typer.Typer:
    """The command `dvid` with these verbs."""
    app = _without_verbs()
    for name in names:
        module, _, what = VERBS[name].partition(".")
        verb = getattr(import_module(f"dvcli.cli.{module}"), what)
        if isinstance(verb, typer.Typer):
            app.add_typer(verb, name=name)
        else:
            app.command(name)(verb)
    return app


def contents() -> typer.Typer:
    """The command `dvid` for its own help only: no verb is imported, and none would do a thing."""
    app = _without_verbs()
    for name in VERBS:
        app.command(name, help=SUMMARIES[name])(_nothing)
    return app


def _nothing() -> None:
    """What stands in a table of contents."""


def _without_verbs() -> typer.Typer:
    app = typer.Typer(
        name="dvid",
        no_args_is_help=True,
        add_completion=False,  # Typer's own reads a command line with pydantic at every TAB
        rich_markup_mode=None,  # importing rich for a help page would double what it costs
        pretty_exceptions_enable=False,
        help="One clip and its caption in; any number of clips with the same motion and depth out.",
        epilog=EXAMPLE,
    )
    app.callback()(root)
    return app


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"dvid {version('dvid')}")
        raise typer.Exit


def _show_completion(shell: str | None) -> None:
    if shell is not None:
        from dvcli.cli.shells import script

        typer.echo(script(shell), nl=False)
        raise typer.Exit


def _install_completion(shell: str | None) -> None:
    if shell is not None:
        from dvcli.cli.shells import install

        place, profile = install(shell)
        typer.echo(place)
        if profile:
            typer.echo(f"a line in `{profile}` has the next shell read it", err=True)
        raise typer.Exit


def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    show_completion: Annotated[
        str | None,
        typer.Option(
            callback=_show_completion,
            is_eager=True,
            metavar="SHELL",
            help="Print the script for bash, zsh, fish or powershell.",
        ),
    ] = None,
    install_completion: Annotated[
        str | None,
        typer.Option(
            callback=_install_completion,
            is_eager=True,
            metavar="SHELL",
            help="Put that script where the shell finds it; prints where.",
        ),
    ] = None,
) -> None:
    """One clip and its caption in; any number of clips with the same motion and depth out."""
