"""What a file says of itself: the whole chain of recipes that made it, written and read."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dvcli.errors import DvidError, InputError
from dvcli.recipes import Depth, Recipe, Render, Tune

if TYPE_CHECKING:
    from dvcli.runs import Run

HUB = re.compile(r"\w[\w.-]*/[\w.-]+(@\w[\w./-]*)?")


@dataclass(frozen=True, kw_only=True)
class Story:
    """What a file says of itself: how its frames were made, and what they were written as."""

    recipe: Recipe
    model: str | None
    own_depth: bool
    version: str
    fps: float
    crf: int


def provenance(render: Render, model: str | None, *, own_depth: bool) -> str:
    """The whole chain of recipes as JSON, to be embedded; no path or name of this machine."""
    from importlib.metadata import version

    from dvcli.recipe_json import to_json

    story = {
        "schema": 1,
        "dvid": version("dvid"),
        "model": model if model is not None and is_public(model) else None,
        "own_depth": own_depth,
        "fps": render.fps,
        "crf": render.crf,
        "recipe": to_json(render.source),
    }
    return json.dumps(story, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def is_public(model: str) -> bool:
    """Whether the name means the same to everybody: by its form, whatever lies on this disk now."""
    from dvcli.models.resolve import ALIASES, BUILT_IN

    return model in (*BUILT_IN, *ALIASES) or HUB.fullmatch(model) is not None


def embedded(path: Path) -> Story | None:
    """The provenance inside a media file, None where there is none.

    Raises `InputError` for one that this version cannot read.
    """
    from dvcli.video.metadata import read_metadata

    text = read_metadata(path)
    return None if text is None else told(text, path)


def told(text: str, path: Path) -> Story | None:
    """What `provenance` wrote; None for some other program's text, or one that was cut."""
    from dvcli.recipe_json import Unfit, read

    try:
        found = json.loads(text)
        json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or "recipe" not in found:
        return None
    try:
        if read(int, found.get("schema"), "`schema`") != 1:
            raise Unfit("its format is that of a newer dvid")
        return Story(
            recipe=read(Recipe, found["recipe"], "the recipe"),
            model=read(str | None, found.get("model"), "`model`"),
            own_depth=read(bool, found.get("own_depth", True), "`own_depth`"),
            version=read(str, found.get("dvid"), "`dvid`"),
            fps=read(float, found.get("fps", Render.fps), "`fps`"),
            crf=read(int, found.get("crf", Render.crf), "`crf`"),
        )
    except (Unfit, DvidError, RecursionError) as unfit:
        raise InputError(
            f"the provenance in `{path}` cannot be read: {unfit}",
            hint="`dvid --version` says which dvid this is; a newer one reads more",
        ) from None


def own_depth(run: "Run") -> bool:
    """Whether the run's depth is estimated by the base model's own estimator.

    A recipe cannot tell: it knows both by content. They are one checkpoint's where they lie in
    one; before there is a tuning, it is the model that the run began with.
    """
    depth, tune = run.recipes.get("depth"), run.recipes.get("tune")
    estimator = place_of(run, depth.estimator if isinstance(depth, Depth) else None)
    if estimator is None:
        return True
    unet = place_of(run, tune.base.unet if isinstance(tune, Tune) else None)
    home = unet.parent if unet is not None else _folder(run.model)
    return estimator.name == "depth_estimator" and estimator.parent == home


def _folder(model: str | None) -> Path | None:
    from dvcli.models.resolve import resolve

    try:
        return None if model is None else resolve(model, offline=True)
    except DvidError:
        return None


def place_of(run: "Run", digest: str | None) -> Path | None:
    """Where the input of that digest lay last, as the run knows it."""
    found = None if digest is None else run.sources.get(digest)
    return None if found is None else Path(found)
