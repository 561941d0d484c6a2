"""Where results go: names that are safe, files that appear whole, nothing of others overwritten."""

import os
import re
import shutil
import tempfile
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from dvcli.cli.groups import Delivery
from dvcli.cli.provenance import embedded, own_depth, provenance, told
from dvcli.cli.session import Session, here
from dvcli.errors import InputError, StorageError, UsageError
from dvcli.recipes import CogVideoX, Depth, Extract, Recipe, Render, Sample

if TYPE_CHECKING:
    from dvcli.runs import Run
    from dvcli.store import Artifact

Source: TypeAlias = Sample | CogVideoX | Extract | Depth
FORMATS = (".mp4", ".webm", ".gif", ".webp", ".apng", ".png")
LONGEST = 80  # letters of a prompt in a name: with a folder and a hash, a path still fits a line
_NUMBERED = re.compile(r"%0?\d*d(?![a-z])")  # as FFmpeg names images


def suffix(to: Delivery) -> str:
    """The format by the output's suffix, else by `--format`, else mp4."""
    chosen = _named(to) or _asked(to) or ".mp4"
    if chosen not in FORMATS:
        raise UsageError(
            f"cannot write `{chosen}` files", hint="one of " + ", ".join(f[1:] for f in FORMATS)
        )
    return chosen


def _named(to: Delivery) -> str:
    return "" if to.output is None or is_folder(to.output) else to.output.suffix.lower()


def _asked(to: Delivery) -> str:
    return f".{to.format.lower().lstrip('.')}" if to.format else ""


def is_folder(output: Path) -> bool:
    """Whether the output names a folder: an existing one, or a path without a suffix."""
    return output.is_dir() or not output.suffix


def check(
    to: Delivery,
    *,
    results: int = 1,
    session: Session | None = None,
    sources: Sequence[Source] = (),
) -> None:
    """Refuse, before any work, an output that could never be written or cannot hold the results.

    With the session it sees which options were given and which `sources` are in the store: a file
    that stands in the way of work still to be done is refused, too.
    """
    suffix(to)
    named, asked = _named(to), _asked(to)
    said = session is None or "format" in session.given  # a configured format yields to the name
    if said and named and asked and named != asked:
        raise UsageError(
            f"`{to.output}` is no `{asked[1:]}` file",
            hint=f"leave `--format` out, or name a file that ends in `{asked}`",
        )
    output = Path("out") if to.output is None else to.output
    if results > 1 and not is_folder(output):
        raise UsageError(
            f"`{output}` is one file and there are {results} results",
            hint="`-o` takes a folder when there are several",
        )
    if _NUMBERED.search(output.name) and not is_folder(output):
        raise UsageError(
            f"`{output}` is a pattern for many files, and a result is one file",
            hint="a `.png` of a clip is one sheet with all its frames",
        )
    check_folder(output if is_folder(output) else output.parent)
    _work_beside(output if is_folder(output) else output.parent)
    for source in sources:
        Render(source=source, suffix=suffix(to), fps=to.fps, crf=to.crf)  # refuses wrong values
    if session is not None:
        check_free(session, to, sources)


def check_free(session: Session, to: Delivery, sources: Sequence[Source]) -> None:
    """Refuse a file that stands where the result of work still to be done would go.

    One that holds what the very same recipe made may stay there: the same bytes are no conflict.
    """
    from dvcli.stages import find

    output = to.output
    if output is None or is_folder(output) or to.overwrite or not os.path.lexists(output):
        return
    for source in sources:
        if find(source, session.store) is None and not _made_from(output, source):
            raise in_the_way(output)


def in_the_way(output: Path) -> UsageError:
    """The refusal to replace a file, or a link that leads nowhere, that was not asked for."""
    if not output.exists():
        return UsageError(
            f"`{output}` is a link that leads nowhere",
            hint="`--overwrite` replaces it, `-o` names another",
        )
    return UsageError(
        f"`{output}` exists and is a different file",
        hint="`--overwrite` replaces it, `-o` names another",
    )


def _made_from(output: Path, source: Source) -> bool:
    """Whether the file says that this recipe made it."""
    try:
        story = embedded(output)
    except InputError:
        return False
    return story is not None and _same(story.recipe, source)


def check_folder(folder: Path) -> None:
    """Refuse a folder that could never be written to."""
    if here() is None and not folder.is_absolute():
        raise StorageError(
            "the working directory is gone", hint="`-o` takes an absolute path, or `cd` elsewhere"
        )
    wanted = folder
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    why = None if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK) else ""
    if why is None and folder != wanted:
        try:  # some folders, such as /proc, say that they can be written to and take nothing
            os.rmdir(tempfile.mkdtemp(prefix=".dvid-", dir=folder))  # noqa: PTH106
        except OSError as refused:
            why = f": {refused.strerror}"
    if why is not None:
        raise StorageError(
            f"cannot write to `{folder}`{why}", hint="`-o` names another place for the result"
        )


def _work_beside(folder: Path) -> None:
    """Where no temporary file can be written, as on a full disk, let them go to the output's."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        while not folder.exists():
            folder = folder.parent
        tempfile.tempdir = str(folder.absolute())


def slug(words: str) -> str:
    """A prompt in plain letters, for a name a person can tell from its neighbours.

    Of a long one the beginning and the end are kept, as prompts often differ in their last words.
    """
    plain = unicodedata.normalize("NFKD", words).encode("ascii", "ignore").decode().lower()
    kept = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    if len(kept) > LONGEST:
        first = _words_of(kept, LONGEST * 3 // 5)
        last = _words_of(kept[::-1], LONGEST - 1 - len(first))[::-1]
        kept = f"{first}-{last}"
    return kept or "clip"


def _words_of(slug: str, room: int) -> str:
    """As many whole words of the slug as there is room for; of a single endless one, a part."""
    cut = slug[:room] if slug[room : room + 1] == "-" else slug[:room].rpartition("-")[0]
    return cut.strip("-") or slug[:room].strip("-")


def deliver(
    session: Session, source: Source, to: Delivery, *, run: "Run", words: str
) -> tuple[Path, str]:
    """Render the source and put the file in its place; returns the path and the render's key."""
    check_free(session, to, [source])
    made = session.realise(source)
    recipe = Render(source=source, suffix=suffix(to), fps=to.fps, crf=to.crf)
    if not to.no_metadata:
        text = provenance(recipe, run.model, own_depth=own_depth(run))
        recipe = replace(recipe, provenance=text)
    artifact = session.realise(recipe)
    media = artifact.path("media" + recipe.suffix)
    output = to.output
    ours = output is None or is_folder(output)
    if output is None or is_folder(output):
        folder = Path("out") / run.name if output is None else output
        output = folder / f"{slug(words)}-{name_key(made, recipe)[:8]}{recipe.suffix}"
    if to.overwrite or not os.path.lexists(output):
        place(media, output)
    elif not output.exists():
        raise in_the_way(output)
    elif session.store.digest_file(output) != session.store.digest_file(media):
        if session.refresh or not ours or not _older(output, recipe):
            raise in_the_way(output)
        session.note(f"kept `{output}`, which was made from the same recipe before")
    return output, artifact.key


def name_key(made: "Artifact", recipe: Render) -> str:
    """What tells the file of one result from that of another, in 64 hex digits.

    What the file says of itself does not count: with another dvid, or the model under another
    name, the same command still names the same file.
    """
    from dvcli.store.keys import key_of, preimage

    params = dict(recipe.params) | {"provenance": recipe.provenance is not None}
    return key_of(preimage("file", 1, {"source": made.key}, params))


def _older(output: Path, recipe: Render) -> bool:
    """Whether a file of ours differs in what it says of itself, but not in what made it."""
    if recipe.provenance is None:
        return False
    try:
        story = embedded(output)
    except InputError:
        return False
    if story is None or story == told(recipe.provenance, output):
        return False
    return _same(story.recipe, recipe.source)


def _same(one: Recipe, other: Recipe) -> bool:
    """Whether both are one result: what an inversion keeps beside its end is nothing to it."""
    if isinstance(one, Sample) and isinstance(other, Sample) and not one.midway:
        one = replace(one, inverted=replace(one.inverted, trajectory=other.inverted.trajectory))
    return one == other


def place(media: Path, output: Path) -> None:
    """Put a copy of the file there, whole or not at all, in the place of whatever is there."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(
            dir=output.parent, prefix=".dvid-", suffix=output.suffix
        )
        try:
            with os.fdopen(descriptor, "wb") as target, media.open("rb") as source:
                shutil.copyfileobj(source, target, 1 << 20)
                target.flush()
                os.fsync(target.fileno())
            mask = os.umask(0)
            os.umask(mask)
            Path(name).chmod(0o666 & ~mask)
            Path(name).replace(output)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StorageError(
            f"cannot write `{output}`: {error.strerror}",
            hint="`-o` names another place; the result is in the cache",
        ) from error
