"""The stages as functions for Python programs; `dvcli` itself has all the names."""
