"""Where results go: names that are safe, files that appear whole, nothing of others overwritten."""

import json
import os
import re
import shutil
import tempfile
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

from dvcli.cli.groups import Delivery
from dvcli.cli.session import Session
from dvcli.errors import StorageError, UsageError
from dvcli.recipes import Depth, Extract, Recipe, Render, Sample

if TYPE_CHECKING:
    from dvcli.runs import Run

FORMATS = (".mp4", ".webm", ".gif", ".webp", ".apng", ".png")


def suffix(to: Delivery) -> str:
    """The format by the output's suffix, else by `--format`, else mp4."""
    named = "" if to.output is None or is_folder(to.output) else to.output.suffix.lower()
    chosen = named or (f".{to.format.lower().lstrip('.')}" if to.format else ".mp4")
    if chosen not in FORMATS:
        raise UsageError(
            f"cannot write `{chosen}` files", hint="one of " + ", ".join(f[1:] for f in FORMATS)
        )
    return chosen


def is_folder(output: Path) -> bool:
    """Whether the output names a folder: an existing one, or a path without a suffix."""
    return output.is_dir() or not output.suffix


def check(to: Delivery, *, results: int = 1) -> None:
    """Refuse, before any work, an output that could never be written or cannot hold the results."""
    suffix(to)
    output = Path("out") if to.output is None else to.output
    if results > 1 and not is_folder(output):
        raise UsageError(
            f"`{output}` is one file and there are {results} results",
            hint="`-o` takes a folder when there are several",
        )
    check_folder(output if is_folder(output) else output.parent)


def check_folder(folder: Path) -> None:
    """Refuse a folder that could never be written to."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise StorageError(
            f"cannot write to `{folder}`", hint="`-o` names another place for the result"
        )


def provenance(recipe: Recipe, model: str | None) -> str:
    """The whole chain of recipes as JSON, to be embedded; no path or name of this machine."""
    from importlib.metadata import version

    from dvcli.recipe_json import to_json

    public = model if model is not None and not Path(model).expanduser().exists() else None
    story = {"schema": 1, "dvid": version("dvid"), "model": public, "recipe": to_json(recipe)}
    return json.dumps(story, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def slug(words: str) -> str:
    """A few plain letters of a prompt, for a name a person can tell from its neighbours."""
    plain = unicodedata.normalize("NFKD", words).encode("ascii", "ignore").decode().lower()
    kept = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:40].strip("-")
    return kept or "clip"


def deliver(
    session: Session, source: Sample | Extract | Depth, to: Delivery, *, run: "Run", words: str
) -> tuple[Path, str]:
    """Render the source and put the file in its place; returns the path and the render's key."""
    session.realise(source)
    recipe = Render(
        source=source,
        suffix=suffix(to),
        fps=to.fps,
        crf=to.crf,
        provenance=None if to.no_metadata else provenance(source, run.model),
    )
    artifact = session.realise(recipe)
    output = to.output
    if output is None or is_folder(output):
        place = Path("out") / run.name if output is None else output
        output = place / f"{slug(words)}-{artifact.key[:8]}{recipe.suffix}"
    _place(artifact.path("media" + recipe.suffix), output, session, overwrite=to.overwrite)
    return output, artifact.key


def _place(media: Path, output: Path, session: Session, *, overwrite: bool) -> None:
    if output.exists() and not overwrite:
        if session.store.digest_file(output) == session.store.digest_file(media):
            return
        raise UsageError(
            f"`{output}` exists and is a different file",
            hint="`--overwrite` replaces it, `-o` names another",
        )
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
