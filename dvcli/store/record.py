"""An artifact, and the action record that says how it was asked for and which objects it is."""

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dvcli.errors import MissingError
from dvcli.store import keys

SCHEMA = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Damaged(Exception):
    """What was read is not what was written; the message says in which way."""


class Foreign(Exception):
    """An intact record of a format that this version does not know."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """One file of an artifact by its content; `size` in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """The result of one stage: files by name, and facts about how it came to be.

    `info` holds what is not content (times, warnings); `record` is the whole action record.
    """

    key: str
    stage: str
    outputs: Mapping[str, Output]
    info: Mapping[str, Any]
    record: Mapping[str, Any] = field(repr=False)
    files: Mapping[str, Path] = field(repr=False, compare=False)
    intact: Callable[[Path, Output], bool] = field(repr=False, compare=False)

    @property
    def digest(self) -> str:
        """The content of all its files: SHA-256 of canonical `{name: sha256}`."""
        return self.digest_of(self.outputs)

    def digest_of(self, names: Iterable[str]) -> str:
        """What the keys of later stages contain: the digest of only the files that they read."""
        content = {name: self._output(name).sha256 for name in names}
        return hashlib.sha256(keys.canonical(content)).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(output.size for output in self.outputs.values())

    def path(self, name: str) -> Path:
        """The read-only file of that name, its content verified. Raises `MissingError`."""
        output, path = self._output(name), self.files[name]
        try:
            if self.intact(path, output):
                return path
        except OSError:
            pass
        raise MissingError(
            f"`{name}` of the {self.stage} artifact {self.key[:12]} was damaged or removed",
            hint="run the same command again, it builds what is missing",
        )

    def _output(self, name: str) -> Output:
        if name not in self.outputs:
            raise MissingError(
                f"the {self.stage} artifact {self.key[:12]} has no `{name}`, "
                f"only {', '.join(f'`{known}`' for known in sorted(self.outputs))}"
            )
        return self.outputs[name]


def output_name(name: str) -> str:
    """The name itself; `ValueError` unless it is a plain file name of ASCII letters and digits."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a name for an output")
    return name


def plain_info(info: Mapping[str, object]) -> dict[str, object]:
    """The facts as JSON gives them back; a figure that is not finite becomes its name."""
    whole = _finite(info)
    plain: dict[str, object] = json.loads(json.dumps(whole, allow_nan=False))
    return plain


def compose(
    preimage: Mapping[str, object],
    outputs: Mapping[str, Output],
    info: Mapping[str, object],
    *,
    created: float,
    made_by: str,
) -> dict[str, object]:
    """The record of an action, before it is sealed; `created` in seconds since 1970."""
    return {
        "schema": SCHEMA,
        "key": keys.key_of(preimage),
        "preimage": preimage,
        "outputs": {n: {"sha256": o.sha256, "size": o.size} for n, o in outputs.items()},
        "info": info,
        "created": created,
        "dvid": made_by,
    }


def seal(record: Mapping[str, object]) -> bytes:
    """The record as one line of JSON that contains its own SHA-256 as `check`."""
    check = hashlib.sha256(_encode(record)).hexdigest()
    return _encode({**record, "check": check}) + b"\n"


def unseal(data: bytes, key: str) -> dict[str, object]:
    """The record out of its file. Raises `Damaged` if one bit of it is off, and `Foreign`."""
    try:
        record = json.loads(data)
        if not isinstance(record, dict):
            raise Damaged("is not a record")
        record.pop("check", None)
        if seal(record) != data:
            raise Damaged("is not what was written")
    except (ValueError, RecursionError):
        raise Damaged("is not readable") from None
    if record.get("schema") != SCHEMA:
        raise Foreign(f"has the format {record.get('schema')}, this version reads {SCHEMA}")
    if record.get("key") != key:
        raise Damaged("is the record of another key")
    if not _shaped(record):
        raise Damaged("is not a record")  # nobody wrote it by accident: its checksum is right
    return record


def own_key(record: Mapping[str, object]) -> None:
    """Raises `Damaged` unless the key is that of the pre-image beside it."""
    preimage = record["preimage"]
    try:
        own = isinstance(preimage, Mapping) and keys.key_of(preimage) == record["key"]
    except ValueError:
        own = False
    if not own:
        raise Damaged("does not have the key of its own pre-image")


def outputs_of(record: Mapping[str, object]) -> dict[str, Output]:
    """The outputs that a record names."""
    listed = record["outputs"]
    assert isinstance(listed, Mapping)
    return {n: Output(sha256=o["sha256"], size=o["size"]) for n, o in listed.items()}


def stage_of(record: Mapping[str, object]) -> str:
    """The stage that made what the record is of."""
    preimage = record["preimage"]
    assert isinstance(preimage, Mapping)
    return str(preimage["stage"])


def is_digest(text: str) -> bool:
    """Whether the text is a SHA-256 in 64 hex digits."""
    return bool(_SHA256.fullmatch(text))


def _shaped(record: Mapping[str, Any]) -> bool:
    """Whether everything that is read of a record is there and of its kind."""
    preimage, outputs = record.get("preimage"), record.get("outputs")
    if not isinstance(preimage, Mapping) or not isinstance(outputs, Mapping) or not outputs:
        return False
    if not isinstance(preimage.get("stage"), str):
        return False
    parts = (preimage.get("params"), preimage.get("inputs"), record.get("info"))
    if not all(isinstance(part, Mapping) for part in parts):
        return False
    created = record.get("created")
    if not isinstance(created, int | float) or isinstance(created, bool):
        return False
    return all(_is_output(name, output) for name, output in outputs.items())


def _is_output(name: str, output: object) -> bool:
    if not isinstance(output, Mapping) or not _NAME.fullmatch(name):
        return False
    sha256, size = output.get("sha256"), output.get("size")
    return isinstance(sha256, str) and is_digest(sha256) and type(size) is int and size >= 0


def _finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return value


def _encode(record: Mapping[str, object]) -> bytes:
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("ascii")
