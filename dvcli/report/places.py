"""Where each clip of a grid goes: rows and columns by the facts in which the clips differ."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import islice
from math import ceil, sqrt
from typing import TypeAlias

from dvcli.errors import UsageError, meant
from dvcli.report.facts import ALWAYS, NO_STYLE, values, varying
from dvcli.report.footage import Footage
from dvcli.report.grid import Band, Frames
from dvcli.report.reels import Reel, Shot, label
from dvcli.report.strip import SIDE

Placed: TypeAlias = tuple[Reel, Shot]
Opener: TypeAlias = Callable[[Shot], Frames]
ABREAST = 6  # clips beside each other where nothing else decides


def as_bands(
    reels: Sequence[Reel],
    *,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    source: bool = True,
    side: int = SIDE,
) -> list[Band]:
    """The bands of a grid: clips by the facts of `rows` and of `columns`, chosen where not given.

    Source and depth come first in each; clips of which no more than the file is known come last.
    Raises `UsageError` where a fact is unknown, or where two clips would have one place.
    """
    shots = [(reel, shot) for reel in reels for shot in reel.shots]
    told = [(reel, shot) for reel, shot in shots if "prompt" in shot.facts]
    others = [(reel, shot) for reel, shot in shots if "prompt" not in shot.facts]

    @cache
    def frames(footage: Footage) -> Frames:
        return footage.frames(side)

    def opened(shot: Shot) -> Frames:
        return frames(shot.footage)

    if not shots:
        return [_given(reel, opened) for reel in reels]
    if not told:
        return _flow(reels, others, ["file"], source, opened)
    bands = _matrix(reels, told, rows, columns, source, opened)
    return bands + _flow(reels, others, ["file"], False, opened)


def _matrix(
    reels: Sequence[Reel],
    shots: Sequence[Placed],
    rows: Sequence[str],
    columns: Sequence[str],
    source: bool,
    opened: Opener,
) -> list[Band]:
    every = [{"run": reel.name, **shot.facts} for reel, shot in shots]
    chosen = _separating(every, [*rows, *columns])
    if not rows and not columns:
        if len(chosen) < 2:
            return _flow(reels, shots, chosen, source, opened)
        rows, columns = _split(chosen)
    else:
        rows, columns = _filled(rows, columns, chosen)
    places: dict[tuple[tuple[str, ...], tuple[str, ...]], Placed] = {}
    for facts, shot in zip(every, shots, strict=True):
        place = (_at(facts, rows), _at(facts, columns))
        if place in places:
            raise _collision(every, [*rows, *columns])
        places[place] = shot
    bands = []
    across = _in_order(every, columns)
    wide = max(len(_givens(reel)) for reel in reels) if source else 0
    for number, row in enumerate(_in_order(every, rows)):
        beside = [places.get((row, column)) for column in across]
        own = {id(found[0]): found[0] for found in beside if found is not None}
        if not own:
            continue
        given = _givens(next(iter(own.values()))) if source and len(own) == 1 else []
        given = given[:wide]
        first: list[Frames | None] = [opened(shot) for shot in given]
        labels = [shot.role for shot in given] + [""] * (wide - len(given))
        first += [None] * (wide - len(given))
        heads = [_words(columns, column, "\n") for column in across]
        bands.append(
            Band(
                heading=_words(rows, row),
                labels=[*labels, *heads] if number == 0 else (),
                tiles=first + [None if found is None else opened(found[1]) for found in beside],
            )
        )
    return bands


def _givens(reel: Reel) -> list[Shot]:
    return [shot for shot in reel.given if shot.role in ("source", "depth")]


def _given(reel: Reel, opened: Opener) -> Band:
    return Band(
        heading=reel.sentence or reel.name,
        labels=[shot.role for shot in reel.given],
        tiles=[opened(shot) for shot in reel.given],
    )


def _separating(every: Sequence[Mapping[str, str]], asked: Sequence[str]) -> list[str]:
    """Facts that together tell every clip from every other, as few as the order gives."""
    known = list(dict.fromkeys(name for facts in every for name in facts))
    vary = varying(every)
    for name in asked:
        if name not in known:
            raise UsageError(
                f"no clip here has the fact `{name}`" + meant(name, known),
                hint="they differ in " + (", ".join(vary) or "nothing"),
            )
    chosen = list(dict.fromkeys(asked))
    first = [name for name in ("run", *ALWAYS) if name in vary]
    for name in [*first, *(name for name in vary if name not in first)]:
        before = len({_at(facts, chosen) for facts in every})
        if before == len(every):
            break
        if len({_at(facts, [*chosen, name]) for facts in every}) > before:
            chosen.append(name)
    return chosen


def _split(chosen: Sequence[str]) -> tuple[list[str], list[str]]:
    """Rows and columns: what is seen in rows, how it is done in columns."""
    rows = [name for name in chosen if name in ("run", "prompt")]
    if not rows:
        return list(chosen[-1:]), list(chosen[:-1])
    columns = [name for name in chosen if name not in rows]
    return (rows, columns) if columns else (rows[:-1], rows[-1:])


def _filled(
    rows: Sequence[str], columns: Sequence[str], chosen: Sequence[str]
) -> tuple[list[str], list[str]]:
    """The side that was not asked for takes what still separates the clips."""
    rest = [name for name in chosen if name not in rows and name not in columns]
    if not rows:
        return rest, list(columns)
    return list(rows), list(columns) or rest


def _collision(every: Sequence[Mapping[str, str]], used: Sequence[str]) -> UsageError:
    groups: dict[tuple[str, ...], list[Mapping[str, str]]] = {}
    for facts in every:
        groups.setdefault(_at(facts, used), []).append(facts)
    several = next(group for group in groups.values() if len(group) > 1)
    left = [name for name in varying(several) if name not in used]
    if not left:
        return UsageError(
            "two clips have the same facts, so they would have one place in the grid",
            hint="name each clip once",
        )
    return UsageError(
        f"{len(several)} clips would have one place in the grid, they differ in {left[0]}",
        hint=f"`--columns` takes several: `{','.join([*used[-1:], left[0]])}`",
    )


def _flow(
    reels: Sequence[Reel],
    shots: Sequence[Placed],
    chosen: Sequence[str],
    source: bool,
    opened: Opener,
) -> list[Band]:
    """Clips that differ in one thing only, after what is given, so many abreast."""
    tiles: list[tuple[str, Shot]] = []
    for reel in reels:
        if source:
            tiles += [(shot.role, shot) for shot in _givens(reel)]
        for own, shot in shots:
            if own is reel:
                facts = {"run": reel.name, **shot.facts}
                said = _words(chosen, _at(facts, chosen)) if chosen else ""
                tiles.append((said or shot.title, shot))
    abreast = min(len(tiles), max(ABREAST - 2, min(ABREAST, ceil(sqrt(len(tiles) * 1.5)))))
    flowing = iter(tiles)
    bands = []
    while part := list(islice(flowing, abreast)):
        bands.append(
            Band(labels=[words for words, _ in part], tiles=[opened(shot) for _, shot in part])
        )
    return bands


def _at(facts: Mapping[str, str], names: Sequence[str]) -> tuple[str, ...]:
    return tuple(facts.get(name, "") for name in names)


def _in_order(every: Sequence[Mapping[str, str]], names: Sequence[str]) -> list[tuple[str, ...]]:
    """Every combination that a clip has, in the order of the values of each fact."""
    order = {name: values(every, name) for name in names}

    def rank(place: tuple[str, ...]) -> list[int]:
        return [
            order[name].index(value) if value in order[name] else -1
            for name, value in zip(names, place, strict=True)
        ]

    return sorted({_at(facts, names) for facts in every}, key=rank)


def _words(names: Sequence[str], place: Sequence[str], between: str = " · ") -> str:
    said = [
        label(name, value)
        for name, value in zip(names, place, strict=True)
        if value and not (name == "style" and value == NO_STYLE and len(names) > 1)
    ]
    return between.join(said)
