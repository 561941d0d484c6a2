"""dvid: one clip and its caption in, any number of clips with the same motion and depth out.

The stages are functions: `from dvcli import tune, sample`. Importing this costs nothing; the names
below are loaded when they are first used. `docs/api.md` shows them at work.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dvcli.api.measuring import evaluate as evaluate
    from dvcli.api.results import Depths as Depths
    from dvcli.api.results import Figures as Figures
    from dvcli.api.results import Frames as Frames
    from dvcli.api.results import Inverted as Inverted
    from dvcli.api.results import Sampled as Sampled
    from dvcli.api.results import Tuned as Tuned
    from dvcli.api.verbs import depth as depth
    from dvcli.api.verbs import extract as extract
    from dvcli.api.verbs import invert as invert
    from dvcli.api.verbs import sample as sample
    from dvcli.api.verbs import tune as tune
    from dvcli.api.workspace import Workspace as Workspace
    from dvcli.errors import DvidError as DvidError
    from dvcli.recipes import Controls as Controls

_HOMES = {
    **dict.fromkeys(("depth", "extract", "invert", "sample", "tune"), "api.verbs"),
    **dict.fromkeys(("Depths", "Figures", "Frames", "Inverted", "Sampled", "Tuned"), "api.results"),
    "Controls": "recipes",
    "DvidError": "errors",
    "evaluate": "api.measuring",
    "Workspace": "api.workspace",
}
__all__ = [
    "Controls",
    "Depths",
    "DvidError",
    "Figures",
    "Frames",
    "Inverted",
    "Sampled",
    "Tuned",
    "Workspace",
    "depth",
    "evaluate",
    "extract",
    "invert",
    "sample",
    "tune",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
