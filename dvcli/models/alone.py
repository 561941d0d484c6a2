"""A folder with nothing in it but what a component's digest is of, for the libraries to load from.

They look for more than they are told of: other versions of a config, code, adapters, an index that
names other weights, vocabularies under other names, private settings. What lies here is what was
hashed, so that the same digest is the same model by the way it is made. Free of torch.
"""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dvcli.errors import StorageError
from dvcli.models.configs import read_json, significant
from dvcli.models.fingerprint import ADDED, DATA, SETTINGS
from dvcli.models.header import read_header
from dvcli.models.layout import Weights
from dvcli.models.settings import require_sensible
from dvcli.models.shards import index_of


@contextlib.contextmanager
def alone(folder: Path, weights: Weights | None = None, stem: str = "") -> Iterator[Path]:
    """A temporary folder with the settings and data of a component, and those weights as `stem`.

    The weights are links to their files and have no variant in their names. Raises `InputError` for
    what is refused in the settings, `StorageError` where there is no place for the folder.
    """
    with contextlib.ExitStack() as after:
        try:
            place = Path(after.enter_context(tempfile.TemporaryDirectory(prefix="dvid-")))
            for file in SETTINGS:
                if (folder / file).exists():
                    settings = read_json(folder / file)
                    require_sensible(file, settings, folder / file)
                    text = json.dumps(_loaded(file, settings))
                    (place / file).write_text(text, encoding="utf-8")
            for file in DATA:
                if (folder / file).exists():
                    _bring(folder / file, place / file)
            if weights is not None:
                _bring_weights(folder, place, weights, stem)
        except OSError as error:
            raise StorageError(
                f"no temporary folder can be made to load `{folder}` from ({error.strerror})",
                hint="`TMPDIR` names another place",
            ) from error
        yield place


def _bring_weights(folder: Path, place: Path, weights: Weights, stem: str) -> None:
    if weights.index is None:
        _bring(folder / weights.files[0], place / f"{stem}.safetensors")
        return
    for file in weights.files:
        _bring(folder / file, place / file)
    held = {file: read_header(folder / file) for file in weights.files}
    index = index_of(folder / weights.index, held)
    (place / f"{stem}.safetensors.index.json").write_text(index, encoding="utf-8")


def _bring(source: Path, target: Path) -> None:
    source = source.resolve()
    try:
        target.symlink_to(source)
    except OSError:  # Windows lets only some people make these
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)


def _loaded(file: str, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings as the digest knows them."""
    if file == ADDED:
        return settings
    found: dict[str, Any] = significant(settings)
    if file == "tokenizer_config.json":
        # Where its author's files were; the libraries would only note it.
        kept = {name: value for name, value in found.items() if not name.endswith("_file")}
        found = {name: _token(value) for name, value in kept.items()}
    return found


def _token(value: Any) -> Any:
    """A special token, or a list of them, with the note of its type that the library reads."""
    if isinstance(value, list):
        return [_token(inner) for inner in value]
    is_token = isinstance(value, Mapping) and "content" in value
    return {**value, "__type": "AddedToken"} if is_token else value
