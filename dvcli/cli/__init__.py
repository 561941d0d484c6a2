"""The command `dvid`: Typer verbs that parse, make recipes, have them realised and print paths."""

import sys


def entry() -> None:
    """The console script."""
    try:
        from dvcli.cli.main import main
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(main(sys.argv[1:]))
