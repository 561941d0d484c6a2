"""A batch on Ray: an actor for each GPU, a bundle for each actor, the next part when one is done.

Bundles stay together, so that a tuned network is loaded once; only when nothing else is left do
idle workers take results from a bundle whose inversion is there. A part whose worker died is given
to a new worker, twice at most: whatever was stored before is not made again.
"""

import logging
import os
import signal
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from dvcli.batch.bundle import Bundle, Done
from dvcli.batch.hand import Hand, Terms
from dvcli.errors import MissingError, ResourceError, UsageError
from dvcli.runtime import Stop

RETRIES = 2
log = logging.getLogger(__name__)


@dataclass(eq=False, kw_only=True)
class Job:
    """What is left of a bundle."""

    bundle: int
    results: deque[int]
    learned: bool = False

    def part(self) -> int | None:
        """What comes next, taken off: None is the way to the results."""
        return self.results.popleft() if self.learned else None

    @property
    def over(self) -> bool:
        return self.learned and not self.results


@dataclass(eq=False, kw_only=True)
class Slot:
    """A worker's place, which outlives the worker: what it works on, and on which part of it."""

    number: int
    actor: Any
    job: Job | None = None
    part: int | None = None
    greeted: bool = False


class Cluster:
    """Ray with its workers; a context that starts it, or joins the one at `RAY_ADDRESS`.

    `workers` is how many there are to be; None is one for each GPU, or one without any.
    """

    def __init__(self, terms: Terms, *, workers: int | None = None, verbose: bool = False) -> None:
        self._terms, self._workers, self._verbose = terms, workers, verbose
        self._ours = False

    def __enter__(self) -> "Cluster":
        self._ray = loaded()
        if not self._ray.is_initialized():
            before = signal.getsignal(signal.SIGTERM)
            level = logging.INFO if self._verbose else logging.ERROR
            self._ray.init(
                include_dashboard=False, log_to_driver=self._verbose, logging_level=level
            )
            self._ours = True
            with suppress(ValueError):  # Ray's own would end the process at once
                signal.signal(signal.SIGTERM, before)
        self._count, self._share = self._shares()
        return self

    def __exit__(self, *error: object) -> None:
        if self._ours:
            self._ray.shutdown()

    def run(self, bundles: Sequence[Bundle], stop: Stop) -> Iterator[Done]:
        """Each part as it is done, in no order but that a bundle's way comes before its results."""
        waiting = deque(
            Job(bundle=number, results=deque(range(len(bundle.results))))
            for number, bundle in enumerate(bundles)
        )
        most = sum(max(1, len(bundle.results)) for bundle in bundles)
        slots = [Slot(number=n, actor=self._hire()) for n in range(1, min(self._count, most) + 1)]
        busy: dict[Any, Slot] = {}
        deaths: Counter[tuple[int, int | None]] = Counter()
        told = False
        try:
            while True:
                for slot in slots:
                    if slot not in busy.values() and stop.signal is None:
                        self._assign(slot, slots, waiting, bundles, busy)
                if not busy:
                    break
                done, _ = self._ray.wait(list(busy), timeout=0.5)
                if stop.signal is not None and not told:
                    told = True
                    for slot in slots:
                        slot.actor.stop.remote(stop.signal)
                for reference in done:
                    yield from self._settle(reference, busy.pop(reference), bundles, deaths)
            stop.check(kept="what is finished is kept, and a checkpoint of what was being tuned")
        finally:
            for slot in slots:
                self._ray.kill(slot.actor)

    def _assign(
        self,
        slot: Slot,
        slots: Sequence[Slot],
        waiting: deque[Job],
        bundles: Sequence[Bundle],
        busy: dict[Any, Slot],
    ) -> None:
        """Give an idle worker its next part, if there is any for it."""
        if not slot.greeted:
            busy[slot.actor.hello.remote()] = slot
            return
        if slot.job is None or slot.job.over:
            slot.job = waiting.popleft() if waiting else shared(slots)
            if slot.job is not None:
                log.info("worker %d takes `%s`", slot.number, bundles[slot.job.bundle].name)
        if slot.job is not None:
            slot.part = slot.job.part()
            busy[slot.actor.work.remote(bundles[slot.job.bundle], slot.part)] = slot

    def _settle(
        self,
        reference: Any,
        slot: Slot,
        bundles: Sequence[Bundle],
        deaths: Counter[tuple[int, int | None]],
    ) -> Iterator[Done]:
        """What came of the part that a worker was given."""
        try:
            answer = self._ray.get(reference)
        except self._ray.exceptions.RayError as death:
            yield from self._bury(slot, bundles, deaths, death)
            return
        if not slot.greeted:
            slot.greeted = True
            log.info("worker %d is process %d on %s", slot.number, *answer)
            return
        assert slot.job is not None
        if answer is None:  # it was stopped
            return
        seconds, error = answer
        if slot.part is None:
            slot.job.learned = True
            if error is not None:
                slot.job.results.clear()
        yield Done(bundle=slot.job.bundle, result=slot.part, seconds=seconds, error=error)

    def _bury(
        self,
        slot: Slot,
        bundles: Sequence[Bundle],
        deaths: Counter[tuple[int, int | None]],
        death: Exception,
    ) -> Iterator[Done]:
        """A new worker in the place of the dead one, with the same part unless it killed three."""
        reason = (str(death).strip().splitlines() or ["nobody knows of what"])[0]
        what = (-slot.number, None) if slot.job is None else (slot.job.bundle, slot.part)
        deaths[what] += 1
        tries_left = deaths[what] <= RETRIES
        if slot.job is None and not tries_left:
            raise ResourceError(
                f"worker {slot.number} died {deaths[what]} times before its work: {reason}",
                hint="`--engine local` works without Ray; `-v` shows what the workers say",
            )
        slot.actor, slot.greeted = self._hire(), False
        if slot.job is None:
            return
        name = bundles[slot.job.bundle].name
        if tries_left:
            log.warning("worker %d died at `%s`; another one goes on", slot.number, name)
            if slot.part is not None:
                slot.job.results.appendleft(slot.part)
            return
        if slot.part is None:
            slot.job.learned = True
            slot.job.results.clear()
        error = ResourceError(
            f"{deaths[what]} workers died at it: {reason}",
            hint="not enough memory, perhaps; `-v` shows what the workers say",
        )
        yield Done(bundle=slot.job.bundle, result=slot.part, error=error)

    def _hire(self) -> Any:
        # The second thread is for the word to stop while the first works.
        actor = self._ray.remote(Hand).options(max_concurrency=2, **self._share)
        return actor.remote(self._terms)

    def _shares(self) -> tuple[int, dict[str, int]]:
        """(how many workers, what each has of the cluster)."""
        has = self._ray.cluster_resources()
        gpus, cpus = int(has.get("GPU", 0)), max(1, int(has.get("CPU", 1)))
        most, kind = (gpus, "GPUs") if gpus else (cpus, "CPUs")
        count = self._workers or gpus or 1
        if count > most:
            raise UsageError(
                f"`--workers {count}` is more than the {most} {kind} there are",
                hint=f"`--workers {most}`, or `RAY_ADDRESS` of a larger cluster",
            )
        return count, {"num_gpus": 1} if gpus else {"num_cpus": cpus // count}


def shared(slots: Sequence[Slot]) -> Job | None:
    """Half of the results that another worker has before it, if those are two or more."""
    rich = [slot.job for slot in slots if slot.job is not None and slot.job.learned]
    most = max(rich, key=lambda job: len(job.results), default=None)
    if most is None or len(most.results) < 2:
        return None
    taken = [most.results.pop() for _ in range(len(most.results) // 2)]
    return Job(bundle=most.bundle, results=deque(reversed(taken)), learned=True)


def loaded() -> Any:
    """Ray, which tells nobody that it is used. Raises `MissingError` where it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise MissingError(
            "`--engine ray` takes Ray, which is not installed", hint="`pip install 'dvid[ray]'`"
        ) from None
    return ray
