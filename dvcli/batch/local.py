"""A batch in this process: first every clip's frames and depth, then clip after clip.

Frames and depth come first because they are cheap and tell bad clips early, and because the depth
estimator is then loaded once. From there on each clip is tuned, inverted and sampled to its end
before the next begins: tuning needs the memory of whatever else is loaded, the tuned network serves
that clip alone, and its results are out hours before the last clip's. Tuning all clips first would
save loading the text encoder and the autoencoder once a clip, seconds of the minutes it takes.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from dvcli.batch.bundle import Bundle, Done
from dvcli.batch.worker import Worker, timed


def run(
    bundles: Sequence[Bundle],
    worker: Worker,
    *,
    forget: Callable[[], None],
    say: Callable[[str], None],
    at: Callable[[str, int, int], None],
) -> Iterator[Done]:
    """Each part as it is done. `forget` frees the models, which an error may leave half-used.

    `say` is told which run comes next, `at` which job or result and of how many.
    """
    failed = set()
    jobs, results, first = len(bundles), sum(len(bundle.results) for bundle in bundles), 1
    for number, bundle in enumerate(bundles):
        at("job", number + 1, jobs)
        seconds, error = timed(partial(worker.begin, bundle))
        if error is not None:
            failed.add(number)
            forget()
            yield Done(bundle=number, seconds=seconds, error=error)
    for number, bundle in enumerate(bundles):
        begun, first = first, first + len(bundle.results)
        if number in failed:
            continue
        say(f"`{bundle.name}`, job {number + 1} of {jobs}")
        at("job", number + 1, jobs)
        seconds, error = timed(partial(worker.learn, bundle))
        yield Done(bundle=number, seconds=seconds, error=error)
        if error is not None:
            forget()
            continue
        for result in range(len(bundle.results)):
            at("result", begun + result, results)
            seconds, error = timed(partial(worker.result, bundle, result))
            if error is not None:
                forget()
            yield Done(bundle=number, result=result, seconds=seconds, error=error)
