"""The content-addressed store: artifacts by the key of what was asked, objects by their content.

Importing it costs nothing; the names below are loaded when they are first used.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dvcli.store.draft import Draft as Draft
    from dvcli.store.listing import Entry as Entry
    from dvcli.store.partial import Partial as Partial
    from dvcli.store.record import Artifact as Artifact
    from dvcli.store.record import Output as Output
    from dvcli.store.store import Store as Store

__all__ = ["Artifact", "Draft", "Entry", "Output", "Partial", "Store"]

_HOMES = {
    "Artifact": "record",
    "Draft": "draft",
    "Entry": "listing",
    "Output": "record",
    "Partial": "partial",
    "Store": "store",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
