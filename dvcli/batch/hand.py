"""One worker of a cluster: a process of its own, with one GPU or a share of the CPUs."""

import os
import traceback
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from dvcli.batch.bundle import Bundle
from dvcli.batch.places import Places
from dvcli.batch.worker import Worker, timed
from dvcli.devices import resolve_device
from dvcli.errors import DvidError, Interrupted
from dvcli.runtime import Runtime, Shelf, Stop
from dvcli.store import Store
from dvcli.store.remote import Remote


@dataclass(frozen=True, kw_only=True)
class Terms:
    """How every worker works. `cache` None is the worker's own machine's usual cache folder.

    Of `runtime` a worker takes what can be the same for all: its device is what `device` means on
    its own machine, and what it reports to and is stopped by is its own.
    """

    runtime: Runtime
    device: str = "auto"
    cache: str | None = None
    locks: bool = True
    remote: str | None = None
    refresh: bool = False
    offline: bool = False


class Hand:
    """Makes parts of bundles, one at a time; its answers can be sent between processes."""

    def __init__(self, terms: Terms) -> None:
        root = None if terms.cache is None else Path(terms.cache)
        store = Store.open(root, locks=terms.locks)
        self._places = Places(store, offline=terms.offline)
        self._shelf, self._stop = Shelf(), Stop()
        store.memo.waiting = partial(self._stop.check, kept="what is finished is kept")
        self._runtime = replace(
            terms.runtime,
            device=resolve_device(terms.device),
            stop=self._stop,
            shelf=self._shelf,
            locate=self._places.locate,
        )
        self._worker = Worker(
            store,
            self._runtime,
            remote=None if terms.remote is None else Remote(terms.remote),
            refresh=terms.refresh,
        )

    def hello(self) -> tuple[int, str]:
        """(the number of its process, its device)."""
        return os.getpid(), self._runtime.device

    def work(self, bundle: Bundle, result: int | None) -> tuple[float, Exception | None] | None:
        """(seconds, the error if any) of that result or of the way to them; None if stopped."""
        self._places.expect(bundle.places, bundle.models)
        part = (
            partial(self._worker.learn, bundle)
            if result is None
            else partial(self._worker.result, bundle, result)
        )
        try:
            seconds, error = timed(part)
        except Interrupted:
            return None
        if error is not None:
            self._shelf.clear()
        return seconds, None if error is None else sendable(error)

    def stop(self, signal: int) -> None:
        """Finish the step, keep a checkpoint and take no more work."""
        self._stop.request(signal)


def sendable(error: Exception) -> Exception:
    """The error as one that any process can read, however exotic its class."""
    if isinstance(error, DvidError):
        return error
    if isinstance(error, OSError):
        return OSError(error.errno, error.strerror, error.filename)
    known = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if known or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error)):
        return MemoryError(str(error))
    told = RuntimeError(f"{type(error).__name__}: {error}")
    told.add_note("in the worker:\n" + "".join(traceback.format_exception(error)))
    return told
