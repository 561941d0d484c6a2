"""The rows that are done, in one JSON-lines file: what makes a benchmark resumable at any row."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path

from dvcli.bench.trial import Row
from dvcli.errors import InputError, StorageError
from dvcli.recipes import Agreement, Digest, Eval, Likeness, Motion

VERSIONS = {kind.stage: kind.version for kind in (Eval, Motion, Agreement, Likeness)}


class Results:
    """The rows of a file by (case, method, edit); every new one is on disk when `add` returns.

    `judges` are the digests of the networks that measure, by what they are. A row measured by
    others, or by other versions of the metrics, is measured again.
    """

    def __init__(self, path: Path, judges: Mapping[str, Digest]) -> None:
        self._path = path
        self._measured_by: dict[str, object] = {**VERSIONS, **judges}
        self._rows = {
            (row.case, row.method, row.edit): row for row in _read(path, self._measured_by)
        }

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows.values())

    def get(self, case: str, method: str, edit: str, key: str) -> Row | None:
        """The row of that very sample, if it is in the file."""
        row = self._rows.get((case, method, edit))
        return row if row is not None and row.key == key else None

    def add(self, row: Row) -> None:
        """Keep a row, in place of an older one of the same names."""
        self._rows[row.case, row.method, row.edit] = row
        line = json.dumps({**asdict(row), "measured_by": self._measured_by}, ensure_ascii=False)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a+b") as file:
                if file.tell():
                    file.seek(-1, os.SEEK_END)
                    if file.read(1) != b"\n":  # one that a killed process left half-written
                        line = "\n" + line
                file.write(f"{line}\n".encode())
        except OSError as error:
            raise StorageError(f"cannot write `{self._path}`: {error.strerror}") from error


def _read(path: Path, wanted: Mapping[str, object]) -> Iterator[Row]:
    if not path.exists():
        return
    names = {field.name for field in fields(Row)}
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        try:
            entry = json.loads(line)
        except ValueError:
            if line[:1] in (b"{", b""):  # half-written by a process that was killed
                continue
            raise InputError(f"line {number} of `{path}` is no row of a benchmark") from None
        try:
            measured_by = entry.pop("measured_by")
            row = Row(**{name: entry.pop(name) for name in names})
        except (KeyError, TypeError, AttributeError):
            raise InputError(f"line {number} of `{path}` is no row of a benchmark") from None
        if measured_by == wanted:
            yield row
