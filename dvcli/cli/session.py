"""One command at work: its store, runs and runtime, and the two streams it speaks on."""

import inspect
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property, partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Self, TextIO

import typer

from dvcli.cli import end_by
from dvcli.cli import options as o
from dvcli.cli.quoting import in_short, printable
from dvcli.errors import MissingError, StorageError, UsageError
from dvcli.recipes import CogVideoX, Digest, DType, Recipe, Render, Sample, Tune
from dvcli.runtime import Runtime, Stop

# Loaded when first needed, so that a help page costs no more than its text.
if TYPE_CHECKING:
    from dvcli.cli.progress import Reporter
    from dvcli.cli.sources import Sources
    from dvcli.runs import Run, Runs
    from dvcli.store import Artifact, Store

log = logging.getLogger(__name__)
KEYWORD = inspect.Parameter.KEYWORD_ONLY
GIVEN = ("COMMANDLINE",)
CHOSEN = (*GIVEN, "DEFAULT_MAP")
VERBS = {"tune": "tune --run"}  # the others take a run as their argument


class ReaderGone(Exception):
    """Whoever reads the results, such as `head`, has all it wanted."""


@dataclass(kw_only=True)
class Console:
    """The options of every verb, and the two streams it speaks on; use it as a context."""

    json: o.Json = False
    null: o.Null = False
    quiet: o.Quiet = False
    verbose: o.Verbose = 0
    no_config: o.NoConfig = False  # `main` has seen to it before the defaults were looked up

    def __post_init__(self) -> None:
        self._out: TextIO = sys.stdout
        self._closing = ExitStack()
        self.command = "sample"
        self.given: frozenset[str] = frozenset()  # the parameters that stood on the command line
        self.chosen: frozenset[str] = frozenset()  # those, and what is configured

    def __enter__(self) -> Self:
        self._closing.enter_context(_logging(self.quiet, self.verbose))
        self._out = self._closing.enter_context(_results_only())
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.close()

    @cached_property
    def store(self) -> "Store":
        from dvcli.store import Store

        return Store.open()

    @cached_property
    def runs(self) -> "Runs":
        from dvcli.runs import Runs

        return Runs.open()

    def run(self, reference: str | None) -> "Run":
        """The run that is meant; a note says which where it was not named."""
        try:
            run, note = self.runs.resolve(
                reference,
                cwd=here() or Path("/"),
                env=os.environ,
                terminal=sys.stderr.isatty(),
                verb=VERBS.get(self.command, self.command),
            )
        except (MissingError, UsageError) as error:
            if not reference and os.environ.get("DVID_RUN"):
                raise type(error)(f"`DVID_RUN`: {error.message}", hint=error.hint) from error
            raise
        if note:
            self.note(note)
        return run

    def result(self, text: str, **fields: object) -> None:
        """One result on stdout: the text, or with `--json` an object with the fields."""
        if self.json:
            text = json.dumps({"schema": 1, **fields}, ensure_ascii=self._out.isatty())
        try:
            self._out.write(text + ("\0" if self.null and not self.json else "\n"))
            self._out.flush()
        except BrokenPipeError:
            raise ReaderGone from None
        except OSError as error:
            raise StorageError(
                f"cannot write to standard output: {error.strerror}",
                hint="what was made is kept; the same command prints it again",
            ) from error

    @property
    def stdout(self) -> TextIO:
        """The results' stream, for what is drawn rather than listed."""
        return self._out

    def row(self, *cells: str, **fields: object) -> None:
        """One result of several cells, between tabs; what would break the line is escaped."""
        self.result("\t".join(map(printable, cells)).rstrip(), **fields)

    def note(self, text: str) -> None:
        """One line on stderr, unless quiet."""
        if not self.quiet:
            sys.stderr.write(text + "\n")


@dataclass(kw_only=True)
class Session(Console):
    """The options of the verbs that compute, and what they open."""

    dry_run: o.DryRun = False
    refresh: o.Refresh = False
    no_cache: o.NoCache = False
    device: o.Device = "auto"
    dtype: o.DTypeOption = "auto"
    attention: o.AttentionOption = "auto"
    offline: o.Offline = False
    checkpoint_grad: o.CheckpointGrad = "auto"
    memory: o.MemoryOption = "auto"
    compile: o.Compile = False
    memory_limit: o.MemoryLimit = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._refreshed: set[Recipe] = set()
        self._results: list[Recipe] = []  # those that were announced, where they are several

    def __enter__(self) -> Self:
        stop = self.runtime.stop  # refuses a device or an amount of memory that is none
        super().__enter__()
        self._closing.enter_context(_signals(stop))
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        if error[:1] == (None,) and self.store.failures:
            raise self.store.failures[
                0
            ]  # the results have gone out; what was not kept is said last

    @cached_property
    def store(self) -> "Store":
        from dvcli.store import Store

        store = Store.open(temporary=self.no_cache)
        stop = self.runtime.stop
        store.memo.waiting = partial(stop.check, kept="everything finished so far is kept")
        return store

    @cached_property
    def sources(self) -> "Sources":
        from dvcli.cli.sources import Sources

        return Sources(self.store, offline=self.offline or self.dry_run)

    @cached_property
    def runtime(self) -> Runtime:
        from dvcli.devices import resolve_device

        return Runtime(
            device=resolve_device(self.device),
            attention=self.attention,
            checkpoint_grad=self.checkpoint_grad,
            memory=self.memory,
            compile=self.compile,
            memory_limit=None if self.memory_limit is None else memory(self.memory_limit),
            progress=self.teller,
            stop=Stop(),
            locate=lambda digest: self.sources.locate(digest),
        )

    @cached_property
    def teller(self) -> "Reporter":
        """What tells of the progress."""
        from dvcli.cli.progress import reporter

        return reporter(quiet=self.quiet)

    def expect(self, recipes: Sequence[Recipe]) -> None:
        """Let the progress say which of several clips, or of the stages yet to run, is at work."""
        results: list[Recipe] = [
            recipe for recipe in recipes if isinstance(recipe, Sample | CogVideoX)
        ]
        self._results = results if len(results) > 1 else []
        self._count(recipes)

    def _count(self, recipes: Sequence[Recipe]) -> None:
        from dvcli.stages import missing

        if not self.quiet:
            self.teller.expect(missing(recipes, self.store, again=self.refresh))

    @property
    def number_format(self) -> DType:
        """What `--dtype` means on this device."""
        from dvcli.devices import resolve_dtype

        return resolve_dtype(self.dtype, self.runtime.device)

    def realise(self, recipe: Recipe) -> "Artifact":
        """The recipe's artifact, built again, once a command, when `--refresh` asks for it."""
        from dvcli.stages import realise

        self.require_device([recipe])
        if self.teller.told_all and not isinstance(recipe, Render):
            self._count([recipe])
        if recipe in self._results:
            self.teller.at("result", self._results.index(recipe) + 1, len(self._results))
        refresh = self.refresh and recipe not in self._refreshed
        artifact = realise(recipe, self.store, self.runtime, refresh=refresh)
        self._refreshed.add(recipe)
        self.runtime.stop.check(kept="what is finished is kept")
        return artifact

    def keeps(self, what: str) -> None:
        """Refuse, before any work, where nothing of it could be kept."""
        if self.dry_run:
            return
        if self.no_cache:
            raise UsageError(
                f"`--no-cache` would throw the {what} away", hint="leave it out, or write with `-o`"
            )
        self.runs.prepare()
        self.store.prepare()

    def require_kept(self) -> None:
        """Raise what kept a finished stage from the store, before a run is said to have it."""
        if self.store.failures:
            raise self.store.failures[0]

    def require_device(self, recipes: Iterable[Recipe]) -> None:
        """Refuse a device that torch has not, before the stages that need none have run."""
        from dvcli.devices import usable

        if not usable(self.runtime.device):
            from dvcli.stages import require_device

            require_device(recipes, self.store, self.runtime)

    def realise_input(self, recipe: Recipe) -> "Artifact":
        """The artifact of a stage that the command only stands on, which no `--refresh` repeats."""
        from dvcli.stages import realise

        return realise(recipe, self.store, self.runtime)

    def warn_of_overflow(self, tokenizer: Digest, recipes: Sequence[Tune | Sample]) -> None:
        """Say which words the text encoder will not see, for texts that are still to be used."""
        from dvcli.stages import find

        fresh = {
            recipe.prompt: "caption" if isinstance(recipe, Tune) else "prompt"
            for recipe in recipes
            if find(recipe, self.store) is None
        }
        if not fresh:
            return
        from dvcli.models.tokens import overflow

        folder = self.sources.locate(tokenizer)
        for prompt, what in fresh.items():
            if cut := overflow(folder, prompt):
                said = f"the text encoder does not see the end of the {what}: `{cut}`"
                log.warning("%s", in_short(said))


def here() -> Path | None:
    """The working directory; None when it has been deleted under us."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None


def verb(function: Callable[..., None]) -> Callable[..., None]:
    """A Typer verb: each parameter whose type is an option group becomes the group's options.

    A group is a dataclass whose fields are annotated as Typer options; one that is a context
    manager is entered for the length of the call.
    """
    own = inspect.signature(function).parameters
    groups: dict[str, Any] = {
        name: p.annotation for name, p in own.items() if is_dataclass(p.annotation)
    }
    shown = [p for name, p in own.items() if name not in groups]
    for group in groups.values():
        shown += [
            inspect.Parameter(f.name, KEYWORD, default=f.default, annotation=f.type)
            for f in fields(group)
        ]

    def run(*, context: typer.Context, **values: Any) -> None:
        given, chosen = (_set_by(context, values, places) for places in (GIVEN, CHOSEN))
        with ExitStack() as stack:
            for name, group in groups.items():
                made: Any = group(**{f.name: values.pop(f.name) for f in fields(group)})
                if isinstance(made, Console):
                    made.command = context.command_path.removeprefix("dvid ")
                    made.given, made.chosen = given, chosen
                    made = stack.enter_context(made)
                values[name] = made
            function(**values)

    context = inspect.Parameter("context", KEYWORD, annotation=typer.Context)
    keyword = [context, *(p.replace(kind=KEYWORD) for p in shown)]
    run.__name__, run.__doc__ = function.__name__, function.__doc__
    run.__signature__ = inspect.Signature(keyword)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in keyword}
    return run


def _set_by(
    context: typer.Context, names: Iterable[str], places: Collection[str]
) -> frozenset[str]:
    """The parameters whose values come from such places."""
    found = {name: context.get_parameter_source(name) for name in names}
    return frozenset(name for name, place in found.items() if place and place.name in places)


def memory(text: str) -> int:
    """Bytes for `8G`, `512M`, `1.5G` or a plain number."""
    units = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
    digits, unit = text.strip().upper().removesuffix("B").removesuffix("I"), 1
    if digits[-1:] in units:
        digits, unit = digits[:-1], units[digits[-1:]]
    try:
        size = float(digits) * unit
    except ValueError:
        size = -1.0
    if not 0 < size < 2**60:
        raise UsageError(f"`{text}` is no amount of memory", hint="such as 8G or 512M")
    return int(size)


@contextmanager
def _results_only() -> Iterator[TextIO]:
    """Keep stdout for results: whatever else is written to descriptor 1 goes to stderr."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    out = os.fdopen(kept, "w", encoding="utf-8", errors="surrogateescape", newline="")
    before, sys.stdout = sys.stdout, sys.stderr
    try:
        yield out
    finally:
        sys.stdout = before
        os.dup2(kept, 1)
        told = isinstance(sys.exception(), StorageError)
        try:
            out.close()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        except OSError:
            if not told:
                raise


@contextmanager
def _logging(quiet: bool, verbose: int) -> Iterator[None]:
    """Warnings of ours as `warning: …` on stderr; more of everybody's with `-v` and `-vv`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Line())
    ours, everyone = logging.getLogger("dvcli"), logging.getLogger()
    before = ours.level, everyone.level
    ours.setLevel(logging.ERROR if quiet else (logging.INFO if verbose else logging.WARNING))
    everyone.setLevel(logging.DEBUG if verbose > 1 else logging.ERROR)
    everyone.addHandler(handler)
    try:
        yield
    finally:
        everyone.removeHandler(handler)
        for logger, level in zip((ours, everyone), before, strict=True):
            logger.setLevel(level)


class _Line(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"{record.levelname.lower()}: {record.getMessage()}"


@contextmanager
def _signals(stop: Stop) -> Iterator[None]:
    """The first ^C or SIGTERM asks for a stop at the end of the step; the second exits at once."""

    def handle(number: int, _: FrameType | None) -> None:
        if stop.signal is not None:
            end_by(number)
            os._exit(128 + number)
        stop.request(number)
        os.write(2, b"\nstopping after this step; once more to stop at once\n")

    before = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, handle)
    except ValueError:  # not in the main thread: whoever runs us there has the signals
        pass
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
