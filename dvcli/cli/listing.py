"""A prompts file, row by row: CSV, TSV or JSON lines, for all commands that take one.

It is a list of `file`, `prompt` and perhaps `source`, or the table of the LOVEU-TGVE benchmark.
What a spreadsheet would lose without a word is refused with its line, such as a text with a comma
that stands in no quotes.
"""

import csv
import io
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dvcli.cli.prompts import LONGEST, lines_of, mapping, placed, read_json
from dvcli.errors import InputError

VIDEO = "video name"
EDITS = {
    "style change caption": "style",
    "object change caption": "object",
    "background change caption": "background",
    "multiple changes caption": "multiple",
}
TABLES = {".csv": ",", ".tsv": "\t"}
JSON_LINES = (".jsonl", ".ndjson", ".json")
NEEDED = "a list of `file` and `prompt`"
QUOTED = "a text with a comma or a quote stands in double quotes, a quote in it twice"


@dataclass(frozen=True, kw_only=True)
class Row:
    """The texts of a row by name, in small letters, and its line for messages."""

    place: str
    cells: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Listing:
    """All rows; without `benchmark` each has a `file` and a `prompt`."""

    path: Path
    rows: tuple[Row, ...]
    benchmark: bool


def read_listing(path: Path) -> Listing:
    """What the file holds, without blank rows. Raises `InputError` for what is no such list.

    A table's names stand in its first line that is a header: titles above it are passed over.
    """
    suffix = path.suffix.lower()
    if suffix in JSON_LINES:
        rows = [row for row in _objects(path) if any(row.cells.values())]
        names = [name for row in rows for name in row.cells]
    elif suffix in TABLES:
        names, found = _table(path, TABLES[suffix])
        rows = list(found)
    else:
        raise InputError(
            f"`{path}` is neither CSV, TSV nor JSON lines by its name",
            hint="a spreadsheet is saved as `.csv` first",
        )
    if not rows and (not names or _is_header(names)):
        raise InputError(f"`{path}` has no rows", hint="a `file` and a `prompt` each")
    if not _is_header(names):
        raise InputError(
            f"`{path}` has no `file` and `prompt`",
            hint="a table's first line is `file,prompt`, or as in LOVEU-TGVE `Video name`,"
            " `Style Change Caption`, …",
        )
    benchmark = _is_benchmark(names)
    for row in rows if not benchmark else ():
        for name in ("file", "prompt"):
            if not row.cells.get(name):
                raise InputError(f"{row.place} has no {name}")
    return Listing(path=path, rows=tuple(rows), benchmark=benchmark)


def _is_header(names: Collection[str]) -> bool:
    return {"file", "prompt"} <= set(names) or _is_benchmark(names)


def _is_benchmark(names: Collection[str]) -> bool:
    return VIDEO in names and not EDITS.keys().isdisjoint(names)


def _table(path: Path, delimiter: str) -> tuple[list[str], Iterator[Row]]:
    """The header's names, and the rows below; without a header the first line's, and none."""
    lines = _lines(path, delimiter)
    first: list[str] = []
    for _, cells in lines:
        names = [cell.lower() for cell in cells]
        if _is_header(names):
            return names, (_under(names, place, cells) for place, cells in lines)
        first = first or names
    return first, iter(())


def _lines(path: Path, delimiter: str) -> Iterator[tuple[str, list[str]]]:
    """(the line on which it begins, its cells) of every row that is not blank."""
    text = io.StringIO(_text(path), newline="")
    reader = csv.reader(text, delimiter=delimiter, strict=True, skipinitialspace=True)
    while True:
        place = f"line {reader.line_num + 1} of `{path}`"
        try:
            cells = [cell.strip() for cell in next(reader)]
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(f"{place}: {error}", hint=QUOTED) from error
        if any(cells):
            yield place, cells


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"no file `{path}`", hint=NEEDED) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"`{path}` cannot be read as UTF-8 text: {error}") from error


def _under(names: list[str], place: str, cells: list[str]) -> Row:
    nameless = [cell for name, cell in zip(names, cells, strict=False) if cell and not name]
    if nameless or len(cells) > len(names):
        raise InputError(f"{place} has more cells than the header has names", hint=QUOTED)
    return _row(place, zip(names, cells, strict=False))


def _objects(path: Path) -> Iterator[Row]:
    for place, line in lines_of(str(path), hint=NEEDED):
        with placed(place):
            found = mapping(read_json(line), '{"file": "a.mp4", "prompt": "a red fox"}')
        texts = ((name, value) for name, value in found.items() if isinstance(value, str))
        yield _row(place, ((name.strip().lower(), value.strip()) for name, value in texts))


def _row(place: str, pairs: Iterable[tuple[str, str]]) -> Row:
    cells: dict[str, str] = {}
    for name, value in pairs:
        if len(value) > LONGEST or "\0" in value:
            raise InputError(f"{place} is no row of such a list")
        if value and cells.get(name, value) != value:
            raise InputError(f"{place} has two texts under `{name}`")
        cells[name] = value or cells.get(name, "")
    return Row(place=place, cells=cells)
