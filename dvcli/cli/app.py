"""The verbs, in the order of the work."""

from typing import Annotated

import typer

from dvcli.cli import demo, evaluate, frames, keep, sample, show, tune

app = typer.Typer(
    name="dvid",
    no_args_is_help=True,
    rich_markup_mode=None,  # importing rich for a help page would double what it costs
    pretty_exceptions_enable=False,
    help="One clip and its caption in; any number of clips with the same motion and depth out.",
    epilog='dvid tune clip.mp4 "a polar bear", then dvid sample -p "a tigress" -s impressionism',
)

app.command("extract")(frames.extract)
app.command("depth")(frames.depth)
app.command("tune")(tune.tune)
app.command("invert")(tune.invert)
app.command("sample")(sample.sample)
app.command("eval")(evaluate.evaluate)
app.command("demo")(demo.demo)
app.command("show")(show.show)
app.command("runs")(keep.runs)
app.command("styles")(keep.styles)
app.add_typer(keep.cache, name="cache")


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"dvid {version('dvid')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """One clip and its caption in; any number of clips with the same motion and depth out."""
