"""The world the built-in model was trained on: scenes of named things, rendered from seeds.

`words` says what can be said and reads it back, `layout` draws scenes and stands them up, `render`
makes pictures with exact depth and masks, `clips` makes them move.
"""
