"""`python -m dvcli` is `dvid`."""

from dvcli.cli import entry

entry()
