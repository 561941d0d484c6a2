"""Prompts files: which file of a folder of results shows what, and what it was made from.

Two kinds are read. A list of `file`, `prompt` and perhaps `source`, as CSV, TSV or JSON lines. And
the table of the LOVEU-TGVE 2023 benchmark as CSV, a row a video with a caption for each kind of
edit; its results lie in `FOLDER/[SET/]VIDEO/EDIT`, images or a video, or in `FOLDER/EDIT/VIDEO`.
"""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dvcli.cli.prompts import LONGEST
from dvcli.errors import InputError, UsageError

VIDEO = "video name"
EDITS = {
    "style change caption": "style",
    "object change caption": "object",
    "background change caption": "background",
    "multiple changes caption": "multiple",
}
SUFFIXES = (".mp4", ".webm", ".gif", ".avi", ".mov", ".mkv", ".webp", ".apng", ".png")
CLIPS = ("", "480p_frames", "480p_videos")  # where a set of the benchmark keeps its clips


@dataclass(frozen=True, kw_only=True)
class Captioned:
    """One file to be judged, what it should show, and the clip it was made from."""

    file: Path
    prompt: str
    source: Path | None = None


def read(listing: Path, folders: Sequence[Path], clips: Path | None) -> list[Captioned]:
    """Every file of the list in each of the folders, else in the folder of the list itself.

    `clips` is where the benchmark's own clips are. Raises `InputError` for a list that cannot be
    read, and for the first file in it that is not there.
    """
    rows = list(_rows(listing))
    if not rows:
        raise InputError(f"`{listing}` has no rows", hint="a `file` and a `prompt` each")
    names = set(rows[0][1])
    if VIDEO in names and names & EDITS.keys():
        if not folders:
            raise UsageError("which results are these captions of?", hint="`dvid eval FOLDER`")
        return [one for folder in folders for one in _benchmark(listing, rows, folder, clips)]
    if not {"file", "prompt"} <= names:
        raise InputError(
            f"`{listing}` has no `file` and `prompt` in its first row",
            hint="or `Video name` and `Style Change Caption`, … as in LOVEU-TGVE",
        )
    return [
        _listed(listing, number, row, folder)
        for folder in folders or [listing.parent]
        for number, row in rows
    ]


def _listed(listing: Path, number: int, row: dict[str, str], folder: Path) -> Captioned:
    where = f"line {number} of `{listing}`"
    for name in ("file", "prompt"):
        if not row.get(name):
            raise InputError(f"{where} has no {name}")
    file = folder / row["file"]
    if not file.exists():
        raise InputError(f"{where} names `{file}`, which does not exist")
    source = listing.parent / row["source"] if row.get("source") else None
    if source is not None and not source.exists():
        raise InputError(f"{where} names the source `{source}`, which does not exist")
    return Captioned(file=file, prompt=row["prompt"], source=source)


def _benchmark(
    listing: Path, rows: list[tuple[int, dict[str, str]]], folder: Path, clips: Path | None
) -> Iterator[Captioned]:
    sets = [folder, *_folders(folder)]
    places = [] if clips is None else [clips, *_folders(clips)]
    found = False
    for _, row in rows:
        video = row.get(VIDEO, "")
        captions = {edit: row[name] for name, edit in EDITS.items() if row.get(name)}
        if not video or not captions:
            continue  # a heading, as over each set of videos
        found = True
        source = _first(place / kept / video for place in places for kept in CLIPS)
        if clips is not None and source is None:
            raise InputError(f"`{clips}` has no clip `{video}`")
        for edit, prompt in captions.items():
            ways = [way for s in sets for way in (s / video / edit, s / edit / video)]
            file = _first(ways)
            if file is None:
                raise InputError(
                    f"`{folder}` has no `{video}/{edit}`, which `{listing}` has a caption for",
                    hint="a folder of images or a video each, or take the caption out",
                )
            yield Captioned(file=file, prompt=prompt, source=source)
    if not found:
        raise InputError(f"`{listing}` has no caption of an edit")


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError as error:
        raise InputError(f"`{folder}` is no folder of clips: {error.strerror}") from None


def _first(stems: "Iterator[Path] | list[Path]") -> Path | None:
    """The first of the places at which there is a folder, or a video under one of its suffixes."""
    for stem in stems:
        if stem.is_dir():
            return stem
        for suffix in SUFFIXES:
            file = stem.with_name(stem.name + suffix)
            if file.is_file():
                return file
    return None


def _rows(listing: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, values by name in small letters) of every row; blank ones are passed over."""
    suffix = listing.suffix.lower()
    if suffix not in (".csv", ".tsv", ".jsonl", ".ndjson"):
        raise InputError(
            f"`{listing}` is neither CSV, TSV nor JSON lines by its name",
            hint="a spreadsheet is saved as `.csv` first",
        )
    try:
        text = listing.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"no file `{listing}`", hint="a list of `file` and `prompt`") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"`{listing}` cannot be read as UTF-8 text: {error}") from error
    lines = _json_lines(listing, text) if "json" in suffix else _table(listing, text, suffix)
    for number, row in lines:
        kept = {name.strip().lower(): value.strip() for name, value in row.items()}
        for value in kept.values():
            if len(value) > LONGEST or "\0" in value:
                raise InputError(f"line {number} of `{listing}` is no row of such a list")
        if any(kept.values()):
            yield number, kept


def _table(listing: Path, text: str, suffix: str) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if suffix == ".tsv" else ",")
    names: list[str] = []
    try:
        for cells in reader:
            if names:
                yield reader.line_num, dict(zip(names, cells, strict=False))
            elif any(cells):
                names = cells
    except csv.Error as error:
        raise InputError(f"line {reader.line_num} of `{listing}`: {error}") from error


def _json_lines(listing: Path, text: str) -> Iterator[tuple[int, dict[str, str]]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"line {number} of `{listing}` is no JSON: {error}") from error
        if not isinstance(found, dict):
            raise InputError(f"line {number} of `{listing}` is no JSON object")
        yield number, {name: value for name, value in found.items() if isinstance(value, str)}
