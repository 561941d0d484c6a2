"""Which loaded models a batch keeps: those that the next bundle needs, and never two of a kind."""

from collections.abc import Callable
from typing import TypeVar

from dvcli.recipes import Invert, Sample
from dvcli.runtime import Shelf

T = TypeVar("T")
# Both run the same tuned network, in the same way, with the same text encoder and autoencoder.
ALIKE = {Sample.stage: Invert.stage}


class OneOfEach(Shelf):
    """A shelf for clip after clip.

    The plain one drops everything when another stage begins, and keeps as many networks as there
    are tunings. Here inversion and sampling share what they load, and of a kind of model (a name's
    first word) only the last is kept, so that a hundred clips need the memory of one.
    """

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[object, tuple[object, ...]] = {}

    def get(self, stage: str, name: tuple[object, ...], make: Callable[[], T]) -> T:
        """What `make` returned the last time this was asked for, if it is still kept."""
        before = self._last.get(name[0])
        if before is not None and before != name:
            self.drop(before)
        self._last[name[0]] = name
        return super().get(ALIKE.get(stage, stage), name, make)

    def clear(self) -> None:
        """Forget every model."""
        for name in self._last.values():
            self.drop(name)
        self._last.clear()
