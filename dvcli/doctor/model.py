"""The model that would be used: whether it is here, what it is by content, under what licence."""

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from dvcli.doctor import Finding
from dvcli.doctor.places import GIB, present
from dvcli.errors import DvidError, MissingError, StorageError
from dvcli.models import resolve as names
from dvcli.models.fingerprint import Checkpoint, checkpoint
from dvcli.store.memo import Memo
from dvcli.store.store import cache_dir

DOWNLOAD = 6 * GIB
RESTRICTS = "restricts some uses: read it before you publish"
LICENCES = {
    "sd2-depth": f"CreativeML Open RAIL++-M, which {RESTRICTS}",
    "sd2-base": f"CreativeML Open RAIL++-M, which {RESTRICTS}",
    "sd1": f"CreativeML Open RAIL-M, which {RESTRICTS}",
    "cogvideox-2b": "Apache-2.0",
    "tiny": "Apache-2.0, as dvid itself",
    "tiny-t2i": "Apache-2.0, as dvid itself",
}


def at_hand(reference: str) -> tuple[list[Finding], Checkpoint | None]:
    """(what is found of the model, the model where it is here); nothing is ever fetched."""
    try:
        folder = names.resolve(reference, offline=True)
        found = _read(reference, folder)
    except MissingError as error:
        return [_absent(reference, error), licence(reference)], None
    except DvidError as error:
        fix = error.hint or "`--model` names another"
        return [Finding(name="model", status="fail", said=error.message, fix=fix)], None
    size = sum(path.stat().st_size for part in found.components.values() for path in part.weights)
    kind = "with depth" if found.has_depth else "without depth"
    whole = Finding(
        name="model", said=f"`{reference}` in `{folder}`, {size / GIB:.2f} GiB of weights, {kind}"
    )
    parts = [
        Finding(name=part.name, said=f"SHA-256 {part.digest}") for part in found.components.values()
    ]
    return [whole, *parts, licence(reference)], found


def _read(reference: str, folder: Path) -> Checkpoint:
    """The checkpoint, by what the cache remembers of its files; the cache stays as it is."""
    with tempfile.TemporaryDirectory(prefix="dvid-") as place:
        remembered = Path(place) / "memo"
        with suppress(OSError, StorageError):
            shutil.copyfile(cache_dir() / "v1" / "memo", remembered)
        return checkpoint(reference, folder, Memo(remembered).digest)


def _absent(reference: str, error: MissingError) -> Finding:
    """A folder must be there; a model of the Hub comes with its first use, where it can."""
    from huggingface_hub import constants, is_offline_mode

    hub = names.ALIASES.get(reference, reference)
    if "/" not in hub or hub.startswith((".", "~", "/")) or is_offline_mode():
        return Finding(name="model", status="fail", said=error.message, fix=error.hint)
    folder = present(Path(constants.HF_HUB_CACHE))
    free = shutil.disk_usage(folder).free
    if free < DOWNLOAD or not os.access(folder, os.W_OK):
        return Finding(
            name="model",
            status="fail",
            said=f"`{reference}` is not here, and `{folder}` has {free / GIB:.1f} GiB free for it",
            fix="`HF_HOME` names another folder; `--model tiny` is built in",
        )
    return Finding(
        name="model",
        status="warn",
        said=f"`{reference}` is not here yet",
        fix="the first `dvid tune` fetches it, about 5 GB; `--model tiny` is built in",
    )


def licence(reference: str) -> Finding:
    """Under which licence the model is, as far as its name says."""
    plain = reference.partition("@")[0]
    for alias, name in names.ALIASES.items():
        if plain == name.partition("@")[0]:
            reference = alias
    if plain in (names.FALLBACK, names.DELETED):
        reference = "sd2-depth"
    unknown = "not known here: look at the model's own page before you publish"
    return Finding(name="licence", said=LICENCES.get(reference, unknown))
