"""The world the built-in model was trained on: scenes of named things, rendered from seeds."""
