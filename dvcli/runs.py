"""Named runs: small references from a name to recipes and keys, kept apart from the cache.

One JSON file a run under `<state>/runs/`, so that the cache can lose bytes but never a recipe.
"""

import json
import logging
import os
import re
import time
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dvcli.errors import DvidError, InputError, MissingError, StorageError, UsageError, meant
from dvcli.recipe_json import Unfit, read, to_json
from dvcli.recipes import CogVideoX, Recipe, Sample
from dvcli.store import disk, locks, places

SCHEMA = 1
_PATIENCE = 10.0  # seconds to wait for another process that saves a run
_LONGEST = 80  # bytes of a name: with a suffix and `.json` it fits every file system
# `last` is a reference, the others are devices on Windows.
_RESERVED = {"last", "con", "prn", "aux", "nul"}
_RESERVED |= {f"{port}{n}" for port in ("com", "lpt") for n in range(10)}
_LAST = re.compile(r"last(?:~(\d{1,6}))?")
_PREFIX = re.compile(r"[0-9a-fA-F]{4,64}")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a name stands for. `clip` and `model` are as the user gave them, `cwd` is where.

    `recipes` and `keys` are by stage, the newest of each. `sources` tells where external inputs
    were, by their digest. Times in seconds since 1970.
    """

    name: str
    cwd: str
    clip: str | None = None
    model: str | None = None
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    created: float = field(default_factory=time.time)
    updated: float = field(default_factory=time.time)


@dataclass(frozen=True, kw_only=True)
class Made:
    """A clip that was sampled in a run, and the file it went to."""

    recipe: Sample | CogVideoX
    key: str
    path: str


def state_dir() -> Path:
    """`$DVID_STATE_DIR`, else the user's state folder."""

    def usual() -> Path:
        import platformdirs

        return platformdirs.user_state_path("dvid", appauthor=False)

    return places.folder_of("DVID_STATE_DIR", "runs", usual)


class Runs:
    """The runs in one folder, a file each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def open(cls, root: Path | None = None) -> "Runs":
        """The runs under `root`, else under the state folder; nothing is made before a run is."""
        return cls((root if root is not None else state_dir()) / "runs")

    def save(self, run: Run) -> Path:
        """The run's file, whole; one of that name that was there before is replaced."""
        path = self._path(run.name)
        tmp = path.with_name(f".{os.urandom(8).hex()}.tmp")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tmp.open("wb") as file:
                file.write(_encode(run))
                file.flush()
                os.fsync(file.fileno())
            tmp.replace(path)
            disk.sync(self.folder)
        except OSError as refused:
            raise _unwritten(path, refused) from refused
        finally:
            disk.discard(tmp)
        return path

    def update(self, run: Run, change: Callable[[Run], Run]) -> Run:
        """The run as saved: `change` applied to what is stored under its name now, else to `run`.

        No other process saves a run meanwhile, where the file system can lock. Where another clip
        has taken the name since, or its file can no longer be read, the run gets the next free one.
        """
        with self._alone():
            try:
                stored = self.get(run.name)
                free = same_clip(stored, run)
            except MissingError:
                stored, free = run, True
            except StorageError:
                free = False
            if not free:
                stored = replace(run, name=name_for(run.name, self.names()))
            saved = self._last(change(stored))
            self.save(saved)
            return saved

    def _last(self, run: Run) -> Run:
        """The run, used later than every other, also where the clock was set back meanwhile."""
        others = [other.updated for other in self.all() if other.name != run.name]
        return replace(run, updated=max([run.updated, *(then + 1e-3 for then in others)]))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        until = time.monotonic() + _PATIENCE

        def waiting() -> None:
            if time.monotonic() > until:
                raise TimeoutError("another process holds them")

        lock = None
        try:
            lock = locks.wait(self.folder, "", waiting)
        except TimeoutError as late:
            _log.debug("the runs are not locked: %s", late)
        try:
            yield
        finally:
            if lock is not None:
                lock.release()

    def get(self, name: str) -> Run:
        """The run of exactly that name. Raises `MissingError`, and `StorageError` if damaged."""
        path = self._path(name)
        try:
            return _decode(path.read_bytes(), path)
        except FileNotFoundError:
            raise self._unknown(name) from None
        except OSError as refused:
            raise _unread(path, refused) from None

    def all(self) -> list[Run]:
        """Every run that can be read, the one worked on last first; the others with a warning."""
        found: list[Run] = []
        for name in self.names():
            try:
                found.append(self.get(name))
            except MissingError:
                continue  # removed since the folder was listed
            except StorageError as damaged:
                _log.warning("%s", damaged.message)
        return sorted(found, key=lambda run: (-run.updated, -run.created, run.name))

    def names(self) -> list[str]:
        """The name of every run, damaged ones included. Raises `StorageError`."""
        try:
            listed = list(self.folder.iterdir())
        except OSError as refused:
            absent = isinstance(refused, FileNotFoundError | NotADirectoryError)
            # A home may be no folder at all; a file or a link in this place is more than "none".
            if absent and not os.path.lexists(self.folder):
                return []
            raise _unread(self.folder, refused) from refused
        names = [p.name.removesuffix(".json") for p in listed if p.name.endswith(".json")]
        # Some file systems give back decomposed names.
        return sorted(n for name in names if _fits(n := unicodedata.normalize("NFC", name)))

    def check(self, name: str) -> None:
        """Raises `UsageError` for what cannot be the name of a run."""
        self._path(name)

    def rm(self, name: str) -> None:
        """No run has that name any more."""
        path = self._path(name)
        try:
            path.unlink()
            self._samples(name).unlink(missing_ok=True)
        except FileNotFoundError:
            raise self._unknown(name) from None
        except OSError as refused:
            raise _unwritten(path, refused) from refused

    def add_sample(self, name: str, recipe: Sample | CogVideoX, *, key: str, path: str) -> None:
        """From now on that clip is among the samples of the run."""
        log = self._samples(name)
        line = json.dumps({"key": key, "path": path, "recipe": to_json(recipe)}) + "\n"
        try:
            fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(fd, b"\n" + line.encode())  # its own line even after one that was cut off
            finally:
                os.close(fd)
        except OSError as refused:
            raise _unwritten(log, refused) from refused

    def samples(self, name: str) -> list[Made]:
        """The clips sampled in the run, each once, in the order in which they were first made.

        Of clips that went to one file it is the last, of one that went to several the first file
        that is still there.
        """
        log = self._samples(name)
        try:
            lines = log.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        except OSError as refused:
            raise _unread(log, refused) from None
        made: dict[str, Made] = {}
        for line in filter(None, lines):
            try:
                found = _made(json.loads(line))
            except (Unfit, DvidError, ValueError, TypeError, KeyError, RecursionError) as damage:
                _log.warning("a line of `%s` is passed over: %s", log, damage)
                continue
            if found.path in made and made[found.path].recipe != found.recipe:
                del made[found.path]
            made[found.path] = found
        clips: dict[Recipe, Made] = {}
        for one in made.values():
            kept = clips.setdefault(one.recipe, one)
            if kept is not one and not os.path.exists(kept.path) and os.path.exists(one.path):  # noqa: PTH110
                clips[one.recipe] = one
        return list(clips.values())

    def rename(self, old: str, new: str) -> Run:
        """The run under its new name. Raises `UsageError` where the name is taken or none."""
        if new.casefold() in {name.casefold() for name in self.names()} - {old.casefold()}:
            raise UsageError(f"there is a run named `{new}` already", hint="`dvid runs` lists them")
        renamed = replace(self.get(old), name=new)
        if new == old:
            return renamed
        try:
            if self._samples(old).exists():
                self._samples(old).replace(self._samples(new))
            self._path(old).replace(self._path(new))  # the name in the file is the file's name
        except OSError as refused:
            raise _unwritten(self._path(new), refused) from refused
        return renamed

    def adopt(self, run: Run) -> tuple[Run, bool]:
        """The run of another machine as it is kept here, and whether it is new.

        Where its name is taken by another run it gets the next free one.
        """
        with self._alone():
            numbered = re.compile(re.escape(run.name) + r"(-\d+)?")
            for other in self.all():
                same = (other.recipes, other.keys) == (run.recipes, run.keys)
                if same and numbered.fullmatch(other.name):
                    return other, False
            adopted = self._last(replace(run, name=name_for(run.name, self.names())))
            self.save(adopted)
            return adopted, True

    def name_for(self, clip: str, *, cwd: Path) -> str:
        """The name of the run of that clip made from there, else a new one after its stem.

        A run that was given a name of its own is not meant unless that name is given again.
        """
        meant = (_real(".", cwd), _real(clip, cwd))
        plain = name_for(Path(clip).stem, ())
        own = re.compile(re.escape(plain) + r"(-\d+)?")
        for run in self.all():
            if run.clip is None or not run.cwd or not own.fullmatch(run.name):
                continue
            if (_real(".", run.cwd), _real(run.clip, run.cwd)) == meant:
                return run.name
        return name_for(Path(clip).stem, self.names())

    def twin(self, run: Run, recipe: Recipe) -> Run | None:
        """The run of another directory that holds that very tuning; None where there is none.

        It never becomes this one's: by its name each directory's next command would go on with what
        the other one did to it last, another inversion or another tuning.
        """
        own = _real(".", run.cwd)
        others = (other for other in self.all() if other.cwd and _real(".", other.cwd) != own)
        return next((other for other in others if other.recipes.get(recipe.stage) == recipe), None)

    def prepare(self) -> None:
        """Raises `StorageError` where no run could be saved, so that nobody works for nothing."""
        probe = self.folder / f".{os.urandom(8).hex()}.tmp"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            probe.touch()
        except OSError as refused:
            raise _unwritten(self.folder, refused) from refused
        finally:
            disk.discard(probe)

    def roots(self) -> set[str]:
        """Every key that a run refers to, those in damaged files included: what `gc` must keep.

        The keys of its samples are not among them: what a run stands for, from its frames to its
        inversion, makes them again, and a cache that kept every sample would never shrink.
        """
        found: set[str] = set()
        for name in self.names():
            try:
                text = self._path(name).read_text("utf-8", "replace")
            except FileNotFoundError:
                continue  # removed since the folder was listed
            except OSError as refused:
                raise _unread(self._path(name), refused) from refused
            found.update(re.findall(r"\b[0-9a-f]{64}\b", text))
        return found

    def resolve(
        self,
        ref: str | None,
        *,
        cwd: Path,
        env: Mapping[str, str],
        terminal: bool,
        verb: str = "sample",
    ) -> tuple[Run, str | None]:
        """The run that is meant, and what to tell the user about the choice.

        `ref` is a name, `last`, `last~N` or the first 4 or more hex digits of a key of the run.
        Without one: `DVID_RUN`, the last run made from `cwd` or its nearest parent that has any,
        and on a terminal the last anywhere. Raises `MissingError` where there is none, and
        `UsageError` where several could be meant.
        """
        ref = ref or env.get("DVID_RUN") or None
        if ref is not None:
            return self._named(ref), None
        runs = self.all()
        if mine := last_from(runs, cwd):
            return mine, f"going on with the run `{mine.name}`"
        if not runs:
            raise MissingError("there is no run yet", hint="`dvid tune CLIP CAPTION` makes one")
        last = runs[0]
        if terminal:
            return last, f"no run was made from here, going on with `{last.name}` of `{last.cwd}`"
        raise MissingError(
            f"no run was made from `{cwd}`",
            hint=f"`dvid {verb} {_quoted(last.name)}` takes the last one made anywhere",
        )

    def _named(self, ref: str) -> Run:
        name = unicodedata.normalize("NFC", ref)
        if name in self.names():
            return self.get(name)
        runs = self.all()
        if last := _LAST.fullmatch(ref):
            back = int(last[1] or 0)
            if back >= len(runs):
                raise MissingError(
                    f"there is no run `{ref}`, only {len(runs)} in all",
                    hint="`dvid runs` lists them",
                )
            return runs[back]
        found = [run for run in runs if _PREFIX.fullmatch(ref) and _has(run, ref.lower())]
        if len(found) > 1:
            names = ", ".join(f"`{run.name}`" for run in sorted(found, key=lambda run: run.name))
            raise UsageError(
                f"`{ref}` begins a key of {names}", hint="give the name of one of them"
            )
        if not found:
            raise self._unknown(ref)
        return found[0]

    def _unknown(self, name: str) -> MissingError:
        said, hint = f"no run named `{name}`", "`dvid runs` lists them"
        there = os.path.exists(name)  # noqa: PTH110  # no error for any name
        if near := meant(name, self.names()):
            said += near
        elif there:
            hint += f"; `dvid tune {_quoted(name)} CAPTION` makes one of a clip"
        elif Path(name).suffix:
            said += ", nor is there such a file"
        return MissingError(said, hint=hint)

    def _path(self, name: str) -> Path:
        if not _fits(name):
            raise UsageError(
                f"`{name}` cannot be the name of a run",
                hint=f"`{name_for(name, ())}` can: letters, digits, `-`, `_` and `.`",
            )
        return self.folder / f"{name}.json"

    def _samples(self, name: str) -> Path:
        return self._path(name).with_name(f"{name}.samples.jsonl")


def portable(run: Run, *, model: str | None) -> bytes:
    """The run as a file for another machine: recipes and keys, no path of this one.

    Of its clip the name stays; `model` is the base model as it is named everywhere, if it is.
    """
    clip = None if run.clip is None else Path(run.clip).name
    return _encode(replace(run, cwd="", clip=clip, model=model, sources={}))


def received(name: str, data: bytes, *, cwd: str) -> Run:
    """The run that `portable` wrote on another machine, as one that was made from `cwd` just now.

    Raises `InputError` for what is no such run.
    """
    try:
        found = _decode(data, Path(f"{name}.json"))
    except StorageError as unfit:
        raise InputError(unfit.message, hint="`dvid cache export` writes them") from None
    if not _fits(name):
        raise InputError(f"{name[:80]!r} cannot be the name of a run")
    clip = None if found.clip is None else Path(found.clip).name
    return replace(found, cwd=cwd, clip=clip, sources={}, updated=time.time())


def last_from(runs: Iterable[Run], cwd: Path) -> Run | None:
    """The first of the runs that was made from there, or from the nearest parent that has any."""
    made = {os.path.realpath(run.cwd): run for run in reversed(list(runs)) if run.cwd}
    here = Path(os.path.realpath(cwd))
    return next((made[str(p)] for p in (here, *here.parents) if str(p) in made), None)


def same_clip(one: Run, other: Run) -> bool:
    """Whether both runs are of one clip, by where it lies."""
    if one.clip is None or other.clip is None:
        return one.clip == other.clip
    return _real(one.clip, one.cwd) == _real(other.clip, other.cwd)


def name_for(stem: str, taken: Collection[str]) -> str:
    """A name after a clip's stem that is no other run's: `bears`, `bears-2`, `bears-3`, …"""
    name = _slug(stem) or "clip"
    if not _fits(name):
        name = f"{name.split('.')[0]}-clip"
    others = {other.casefold() for other in taken}
    found, n = name, 1
    while found.casefold() in others:
        n += 1
        found = _cut(name, _LONGEST - len(f"-{n}")) + f"-{n}"
    return found


def _encode(run: Run) -> bytes:
    data = {
        "schema": SCHEMA,
        "cwd": run.cwd,
        "clip": run.clip,
        "model": run.model,
        "created": run.created,
        "updated": run.updated,
        "keys": dict(run.keys),
        "sources": dict(run.sources),
        "recipes": {stage: to_json(recipe) for stage, recipe in run.recipes.items()},
    }
    return (json.dumps(data, indent=1) + "\n").encode()


def _decode(data: bytes, path: Path) -> Run:
    try:
        found = json.loads(data)
        # Halves of characters, which JSON can write and nothing else; a path may have odd bytes.
        json.dumps(found, ensure_ascii=False).encode(errors="surrogateescape")
        if found["schema"] != SCHEMA:
            raise Unfit(f"its format is {found['schema']}, perhaps of a newer dvid")
        recipes = {stage: read(Recipe, part, stage) for stage, part in found["recipes"].items()}
        return Run(
            name=unicodedata.normalize("NFC", path.name.removesuffix(".json")),
            cwd=read(str, found["cwd"], "cwd"),
            clip=read(str | None, found["clip"], "clip"),
            model=read(str | None, found["model"], "model"),
            recipes=recipes,
            keys=_texts(found["keys"]),
            sources=_texts(found["sources"]),
            created=read(float, found["created"], "created"),
            updated=read(float, found["updated"], "updated"),
        )
    except KeyError as missing:
        reason = f"it has no {missing}"
    except (Unfit, DvidError) as unfit:
        reason = str(unfit)
    except (ValueError, TypeError, AttributeError, RecursionError):
        reason = "it is not the JSON of a run"
    raise StorageError(
        f"the run file `{path}` cannot be read: {reason}",
        hint="remove the file, or move it away; other runs do not need it",
    )


def _texts(found: Any) -> dict[str, str]:
    return {name: read(str, text, f"`{name}`") for name, text in found.items()}


def _made(found: Any) -> Made:
    recipe = read(Sample | CogVideoX, found["recipe"], "the recipe")
    return Made(
        recipe=recipe, key=read(str, found["key"], "key"), path=read(str, found["path"], "path")
    )


def _slug(stem: str) -> str:
    """The stem as a safe file name; empty if nothing of it is left."""
    text = unicodedata.normalize("NFC", stem)
    kept = "".join(c if c in "_." or unicodedata.category(c)[0] in "LMN" else "-" for c in text)
    return _cut(re.sub("-{2,}", "-", kept).strip("-."), _LONGEST)


def _cut(name: str, size: int) -> str:
    return name.encode()[:size].decode(errors="ignore").rstrip("-.")


def _fits(name: str) -> bool:
    return bool(name) and name == _slug(name) and name.casefold().split(".")[0] not in _RESERVED


def _has(run: Run, prefix: str) -> bool:
    return any(key.startswith(prefix) for key in run.keys.values())


def _real(path: str, cwd: "str | Path") -> str:
    return os.path.realpath(Path(cwd) / Path(path).expanduser())


def _quoted(name: str) -> str:
    import shlex

    return shlex.quote(name)


def _unread(path: Path, refused: OSError) -> StorageError:
    return StorageError(
        f"`{path}` cannot be read: {refused.strerror}",
        hint="runs are kept there; `DVID_STATE_DIR` names another folder for them",
    )


def _unwritten(path: Path, refused: OSError) -> StorageError:
    return StorageError(
        f"the run file `{path}` cannot be written: {refused.strerror}",
        hint="`DVID_STATE_DIR` names another folder for runs",
    )
