"""Who makes the parts of a bundle: one process with one device and its models.

With a remote folder, what it needs is fetched from there first and what it made is sent there.
"""

import logging
import time
from collections.abc import Callable

from dvcli.batch.bundle import Bundle
from dvcli.errors import Interrupted, StorageError
from dvcli.recipes import Recipe
from dvcli.runtime import Runtime
from dvcli.stages import realise, request
from dvcli.store import Artifact, Store
from dvcli.store.keys import key_of
from dvcli.store.remote import Remote, Spoilt

log = logging.getLogger(__name__)


class Worker:
    """Makes recipes in one store. `refresh` has results, but not the way to them, made anew."""

    def __init__(
        self,
        store: Store,
        runtime: Runtime,
        *,
        remote: Remote | None = None,
        refresh: bool = False,
    ) -> None:
        self._store, self._runtime = store, runtime
        self._remote, self._refresh = remote, refresh
        self._spoilt: set[str] = set()
        self._sent: set[str] = set()

    def begin(self, bundle: Bundle) -> None:
        """The frames and the depth are there."""
        for recipe in bundle.first:
            self.make(recipe)

    def learn(self, bundle: Bundle) -> None:
        """Everything that leads to the results is there."""
        for recipe in bundle.way:
            self.make(recipe)

    def result(self, bundle: Bundle, number: int) -> None:
        """That result is there."""
        self.make(bundle.results[number], refresh=self._refresh)

    def make(self, recipe: Recipe, *, refresh: bool = False) -> Artifact:
        """The recipe's artifact, in the store and, where there is one, in the remote folder."""
        if self._remote is None:
            return realise(recipe, self._store, self._runtime, refresh=refresh)
        if not refresh:
            fetch(recipe, self._store, self._remote, self._spoilt)
        artifact = realise(recipe, self._store, self._runtime, refresh=refresh)
        self._send(recipe, self._remote)
        return artifact

    def _send(self, recipe: Recipe, remote: Remote) -> Artifact:
        """What the recipe hangs on goes first, so that nothing there lacks its inputs."""
        inputs = {role: self._send(part, remote) for role, part in recipe.inputs.items()}
        key = key_of(request(recipe, inputs))
        artifact = self._store.get(key)
        if artifact is None:
            raise StorageError(
                f"the {recipe.stage} artifact {key[:12]} was not kept, so it cannot be sent",
                hint="`dvid cache gc` makes room, `DVID_CACHE_DIR` names another folder",
            )
        if key not in self._sent:
            remote.push(artifact, again=key in self._spoilt)
            self._sent.add(key)
        return artifact


def fetch(
    recipe: Recipe, store: Store, remote: Remote, spoilt: set[str] | None = None
) -> Artifact | None:
    """The recipe's artifact, out of the store or, with all it hangs on, out of the remote folder.

    What is damaged there is as good as absent, with a warning; its key joins `spoilt`.
    """
    inputs: dict[str, Artifact] = {}
    for role, part in recipe.inputs.items():
        artifact = fetch(part, store, remote, spoilt)
        if artifact is None:
            return None
        inputs[role] = artifact
    key = key_of(request(recipe, inputs))
    found = store.get(key)
    if found is None:
        try:
            found = remote.pull(store, key)
        except Spoilt as damage:
            log.warning("in `%s` %s; it is made again", remote.url, damage)
            if spoilt is not None:
                spoilt.add(key)
    return found


def timed(work: Callable[[], object]) -> tuple[float, Exception | None]:
    """(seconds, the error if there was one) of the work; a stop passes."""
    begun = time.monotonic()
    try:
        work()
    except Interrupted:
        raise
    except Exception as error:  # noqa: BLE001  # one bundle's error is no other's
        return time.monotonic() - begun, error
    return time.monotonic() - begun, None
