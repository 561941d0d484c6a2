"""The whole command line, every verb imported, for help, completion and configuration."""

from dvcli.cli.verbs import VERBS, command_line

app = command_line(VERBS)
