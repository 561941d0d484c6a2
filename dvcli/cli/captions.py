"""Prompts files: which file of a folder of results shows what, and what it was made from.

A list names its files. The table of the LOVEU-TGVE 2023 benchmark has a row a video with a caption
for each kind of edit; its results lie in `FOLDER/[SET/]VIDEO/EDIT`, images or a video, or in
`FOLDER/EDIT/VIDEO`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dvcli.cli.listing import EDITS, VIDEO, Listing, Row
from dvcli.errors import InputError, UsageError

SUFFIXES = (".mp4", ".webm", ".gif", ".avi", ".mov", ".m4v", ".mkv", ".webp", ".apng", ".png")
CLIPS = ("", "480p_frames", "480p_videos")  # where a set of the benchmark keeps its clips


@dataclass(frozen=True, kw_only=True)
class Captioned:
    """One file to be judged, what it should show, the folder of all of its method, its source."""

    file: Path
    prompt: str
    folder: Path
    source: Path | None = None


def read(listing: Listing, folders: Sequence[Path], clips: Path | None) -> list[Captioned]:
    """Every file of the listing in each of the folders, else in the listing's own folder; once.

    `clips` is where the benchmark's own clips are. Raises `InputError` for the first file in the
    listing that is not there, and for a file that is to show two things.
    """
    if listing.benchmark and not folders:
        raise UsageError("which results are these captions of?", hint="`dvid eval FOLDER`")
    once: dict[Path, Captioned] = {}
    for folder in folders or [listing.path.parent]:
        for row, one in (
            _benchmark(listing, folder, clips) if listing.benchmark else _listed(listing, folder)
        ):
            if once.setdefault(one.file, one) != one:
                raise InputError(
                    f"{row.place} gives `{one.file}` another prompt or source",
                    hint="a file has one of each",
                )
    return list(once.values())


def _listed(listing: Listing, folder: Path) -> Iterator[tuple[Row, Captioned]]:
    for row in listing.rows:
        named = folder / row.cells["file"]
        file = named if named.exists() else _first([named])
        if file is None:
            raise InputError(f"{row.place} names `{named}`, which does not exist")
        given = row.cells.get("source")
        source = listing.path.parent / given if given else None
        if source is not None and not source.exists():
            raise InputError(f"{row.place} names the source `{source}`, which does not exist")
        yield row, Captioned(file=file, prompt=row.cells["prompt"], folder=folder, source=source)


def _benchmark(
    listing: Listing, folder: Path, clips: Path | None
) -> Iterator[tuple[Row, Captioned]]:
    sets = [folder, *_folders(folder)]
    places = [] if clips is None else [clips, *_folders(clips)]
    found = False
    for row in listing.rows:
        video = row.cells.get(VIDEO, "")
        captions = {edit: row.cells[name] for name, edit in EDITS.items() if row.cells.get(name)}
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
                    f"`{folder}` has no `{video}/{edit}`, which `{listing.path}` has a caption for",
                    hint="a folder of images or a video each, or take the caption out",
                )
            yield row, Captioned(file=file, prompt=prompt, folder=folder, source=source)
    if not found:
        raise InputError(f"`{listing.path}` has no caption of an edit")


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError as error:
        raise InputError(f"`{folder}` is no folder of clips: {error.strerror}") from None


def _first(stems: Iterable[Path]) -> Path | None:
    """The first of the places at which there is a folder, or a video under one of its suffixes."""
    for stem in stems:
        if stem.is_dir():
            return stem
        for suffix in SUFFIXES:
            file = stem.with_name(stem.name + suffix)
            if file.is_file():
                return file
    return None
