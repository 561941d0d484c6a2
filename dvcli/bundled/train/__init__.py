"""The recipe that made the built-in model: `python -m dvcli.bundled.train PHASE`."""
