"""The command `dvid`: Typer verbs that parse, make recipes, have them realised and print paths."""

import sys


def entry() -> None:
    """The console script."""
    from dvcli.cli.main import main

    sys.exit(main(sys.argv[1:]))
