"""`dvid batch`: many clips and prompts in one go, a line for each result as it is done."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dvcli.cli import shard as shards
from dvcli.cli.clips import hand_over
from dvcli.cli.failure import log_bug, system_error
from dvcli.cli.groups import Delivery
from dvcli.cli.jobs import Job, read_jobs
from dvcli.cli.lots import Item, Lot, Lots
from dvcli.cli.output import check
from dvcli.cli.planning import Part, show_plan
from dvcli.cli.prompts import Wish
from dvcli.cli.record import makes_way, remember
from dvcli.cli.sample import tell_of_inversions
from dvcli.cli.session import Session, verb
from dvcli.errors import BatchError, DvidError, UsageError
from dvcli.recipes import Invert, Recipe, Sample, Tune, within
from dvcli.runtime import Runtime, Shelf

if TYPE_CHECKING:
    from dvcli.batch.bundle import Bundle, Done
    from dvcli.batch.hand import Terms
    from dvcli.store.remote import Remote

Panel = "Workers"


@verb
def batch(
    session: Session,
    to: Delivery,
    jobs: Annotated[str, typer.Argument(metavar="JOBS.jsonl|-", help="A JSON object a line.")],
    model: Annotated[
        str | None,
        typer.Option(
            metavar="ID|PATH|tiny", help="For jobs that name none.", show_default="tune's"
        ),
    ] = None,
    shard: shards.Option = None,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Stop at the first failure.")
    ] = False,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(help="Here, or on a Ray cluster.", rich_help_panel=Panel),
    ] = "local",
    workers: Annotated[
        int | None,
        typer.Option(help="With ray.", show_default="one a GPU", rich_help_panel=Panel),
    ] = None,
    remote: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Fetch from and send to a folder elsewhere: file://, s3://, gs://.",
            rich_help_panel=Panel,
        ),
    ] = None,
    worker_cache: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Each machine's own cache, with ray and --remote.",
            rich_help_panel=Panel,
        ),
    ] = None,
    no_locks: Annotated[
        bool,
        typer.Option(
            "--no-locks", help="For a cache on a disk that cannot lock.", rich_help_panel=Panel
        ),
    ] = False,
) -> None:
    """Make many clips from a list of jobs.

    Prints a JSON object for each result as it is done. The same command again goes on where it
    was stopped.

    A line: {"clip": "bear.mp4", "caption": "a bear", "prompts": ["a tigress"]}

    Example: dvid batch jobs.jsonl --shard 1/4
    """
    _check_options(engine, workers, remote, worker_cache, session)
    part = shards.parse(shard)
    session.json = session.json or not session.dry_run
    wanted, bad = read_jobs(jobs, model=model)
    session.keeps("batch")
    if no_locks:
        from dvcli.store import Store

        session.store = Store.open(locks=False)
    lots = Lots(session).sort(wanted, bad)
    items = [item for lot in lots for item in lot.items]
    recipes = [item.recipe for item in items]
    check(to, results=len(items), session=session, sources=recipes)
    _tell_of_shared(session, lots)
    lots = part.of(lots)
    if session.dry_run:
        for lot in lots:
            _tell_of_taking_over(session, lot)
        show_plan(session, map(_planned, lots))
        return
    if not lots:
        session.note(f"the shard {part} has no job in it")
        return
    _warn(session, lots)
    for lot in lots:
        _tell_of_taking_over(session, lot)
    for lot in lots:
        tell_of_inversions(session, [item.recipe for item in lot.items], lot.own)
    there = _remote(remote)
    with ExitStack() as stack:
        if engine == "ray":
            terms = _terms(session, remote, worker_cache, locks=not no_locks)
            run = _on_ray(session, stack, terms, workers)
        else:
            session.require_device([recipe for lot in lots for recipe in lot.recipes])
            session.expect([recipe for lot in lots for recipe in lot.recipes])
            run = _here(session, there)
        # What was to be made anew is made so by the engine; what is delivered is that.
        session.refresh = False
        bundles = [lot.bundle(session) for lot in lots]
        _Ledger(session, to, lots, there if engine == "ray" else None).keep(
            run(bundles), fail_fast=fail_fast
        )


def _check_options(
    engine: str,
    workers: int | None,
    remote: str | None,
    worker_cache: Path | None,
    session: Session,
) -> None:
    if engine == "local" and (workers is not None or worker_cache is not None):
        name = "--workers" if workers is not None else "--worker-cache"
        raise UsageError(f"`{name}` is for `--engine ray`", hint="`--shard` divides work by hand")
    if workers is not None:
        within("--workers", workers, 1, 4096)
    if worker_cache is not None and remote is None:
        raise UsageError(
            "`--worker-cache` takes `--remote`: else nobody sees what the workers made",
            hint="without both, the workers share this machine's cache folder",
        )
    if engine == "ray" and session.device.startswith("cuda:"):
        raise UsageError(
            f"`--device {session.device}` is for one process; Ray gives each worker a GPU",
            hint="`--device cuda`, or leave it out",
        )
    if engine == "ray":
        from dvcli.batch.cluster import loaded

        loaded()


def _planned(lot: Lot) -> Part:
    wishes: dict[Recipe, Wish] = {item.recipe: item.wish for item in reversed(lot.items)}
    return Part(recipes=lot.recipes, run=lot.run.name, wishes=wishes)


def _warn(session: Session, lots: Sequence[Lot]) -> None:
    by_tokenizer: dict[str, list[Lot]] = {}
    for lot in lots:
        by_tokenizer.setdefault(lot.tuned.base.tokenizer, []).append(lot)
    for tokenizer, those in by_tokenizer.items():
        recipes: list[Tune | Sample] = [lot.tuned for lot in those]
        recipes += [item.recipe for lot in those for item in lot.items]
        session.warn_of_overflow(tokenizer, recipes)


def _tell_of_shared(session: Session, lots: Sequence[Lot]) -> None:
    """Say which jobs tune one clip in several ways under one name, which keeps only one tuning."""
    named: dict[str, list[Lot]] = {}
    for lot in lots:
        named.setdefault(lot.run.name, []).append(lot)
    for name, those in named.items():
        if len(those) > 1:
            lines = " and ".join(str(min(job.line for job in lot.jobs)) for lot in those)
            session.note(
                f"the jobs of lines {lines} tune the clip of the run `{name}` in {len(those)} ways:"
                ' the run stays with the last, `"run": "NAME"` gives a job one of its own'
            )


def _tell_of_taking_over(session: Session, lot: Lot) -> None:
    if not lot.known and (told := makes_way(lot.run, lot.tuned, '`"run": "NAME"`')):
        session.note(told)


def _remote(url: str | None) -> "Remote | None":
    if url is None:
        return None
    from dvcli.store.remote import Remote

    return Remote(url)


def _here(
    session: Session, remote: "Remote | None"
) -> "Callable[[Sequence[Bundle]], Iterator[Done]]":
    """The engine of this process."""
    from dvcli.batch import local
    from dvcli.batch.worker import Worker

    shelf = Shelf()
    runtime = replace(session.runtime, shelf=shelf)
    worker = Worker(session.store, runtime, remote=remote, refresh=session.refresh)
    return lambda bundles: local.run(
        bundles, worker, forget=shelf.clear, say=session.note, at=session.teller.at
    )


def _terms(session: Session, remote: str | None, cache: Path | None, *, locks: bool) -> "Terms":
    from dvcli.batch.hand import Terms

    # Without a remote folder all share one cache; with one, each machine has its own.
    shared = str(session.store.root) if remote is None else None
    return Terms(
        runtime=_sendable(session.runtime),
        device=session.device,
        cache=shared if cache is None else str(cache.absolute()),
        locks=locks,
        remote=remote,
        refresh=session.refresh,
        offline=session.offline,
    )


def _sendable(runtime: Runtime) -> Runtime:
    """The runtime without what is of this process alone."""
    plain = Runtime()
    return replace(
        runtime, progress=plain.progress, stop=plain.stop, shelf=plain.shelf, locate=plain.locate
    )


def _on_ray(
    session: Session, stack: ExitStack, terms: "Terms", workers: int | None
) -> "Callable[[Sequence[Bundle]], Iterator[Done]]":
    from dvcli.batch.cluster import Cluster

    cluster = stack.enter_context(
        Cluster(terms, workers=workers, verbose=session.verbose > 0 and not session.quiet)
    )
    return lambda bundles: cluster.run(bundles, session.runtime.stop)


class _Ledger:
    """Delivers what is done and tells of it, and of what failed."""

    def __init__(
        self, session: Session, to: Delivery, lots: Sequence[Lot], remote: "Remote | None"
    ) -> None:
        self._session, self._to, self._lots, self._remote = session, to, lots, remote
        self._failed = self._told = 0
        self._total = sum(len(lot.items) + len(lot.bare) for lot in lots)

    def keep(self, parts: "Iterator[Done]", *, fail_fast: bool) -> None:
        """Tell of every part as it comes. Raises `BatchError` at the end if any failed."""
        for done in parts:
            lot = self._lots[done.bundle]
            if done.result is None:
                self._way(lot, done)
            else:
                self._result(lot, lot.items[done.result], done)
            if self._failed and fail_fast:
                break
        if not self._failed:
            return
        left = self._total - self._told
        raise BatchError(
            f"{self._failed} of {self._total} results failed"
            + (f", and {left} were not begun" if left else ""),
            hint="their lines say why; the same command tries them again and repeats nothing else",
        )

    def _way(self, lot: Lot, done: "Done") -> None:
        error = done.error
        if error is None:
            error = self._try(lambda: self._remember(lot))
        if error is not None:
            for item in lot.items:
                self._fail(lot, item.job, item, error)
            for job in lot.bare:
                self._fail(lot, job, None, error)
            return
        for job in lot.bare:
            self._say(lot, job, None, "ok", seconds=round(done.seconds, 3))

    def _remember(self, lot: Lot) -> None:
        session = self._session
        made: list[Tune | Invert] = [lot.tuned, *lot.lasting]
        for recipe in made:
            self._fetch(recipe)
            if recipe is lot.tuned and lot.known:
                continue
            key = session.realise_input(recipe).key
            lot.run = remember(session, recipe, lot.run, key=key)

    def _result(self, lot: Lot, item: Item, done: "Done") -> None:
        if done.error is not None:
            self._fail(lot, item.job, item, done.error)
            return
        made: list[tuple[Path, str]] = []
        if error := self._try(lambda: made.append(self._deliver(lot, item))):
            self._fail(lot, item.job, item, error)
            return
        path, key = made[0]
        self._say(
            lot, item.job, item, "ok", path=str(path), key=key, seconds=round(done.seconds, 3)
        )

    def _deliver(self, lot: Lot, item: Item) -> tuple[Path, str]:
        self._fetch(item.recipe)
        return hand_over(self._session, item.recipe, self._to, run=lot.run, words=item.wish.label)

    def _fetch(self, recipe: Recipe) -> None:
        if self._remote is None:
            return
        from dvcli.batch.worker import fetch

        fetch(recipe, self._session.store, self._remote)

    def _try(self, work: Callable[[], object]) -> Exception | None:
        from dvcli.batch.worker import timed

        return timed(work)[1]

    def _fail(self, lot: Lot, job: Job, item: Item | None, error: Exception) -> None:
        self._failed += 1
        known = error if isinstance(error, DvidError) else system_error(error)
        if known is None:
            where = log_bug(error)
            hint = f"the traceback is in `{where}`" if where else None
            known = DvidError(f"a bug: {type(error).__name__}: {error}", hint=hint)
        self._session.note(f"failed: line {job.line}: {known.message}")
        self._say(
            lot, job, item, "failed", error=known.message, hint=known.hint, code=known.exit_code
        )

    def _say(self, lot: Lot, job: Job, item: Item | None, status: str, **told: object) -> None:
        self._told += 1
        wish = None if item is None else item.wish
        said: dict[str, object] = {"job": job.line, "id": job.id, "run": lot.run.name}
        if wish is not None and item is not None:
            said["prompt"], said["negative"] = wish.prompt, wish.negative
            said["style"], said["seed"] = wish.style, wish.seed if item.recipe.random else None
        said["path"] = None
        self._session.result(status, status=status, **{**said, **told})
