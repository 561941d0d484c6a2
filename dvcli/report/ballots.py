"""Raters' answers to a blind study, and its key, read strictly from files.

A file that is not what it should be is refused with its name and what is wrong in it.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvcli.errors import InputError
from dvcli.recipe_json import Unfit, read
from dvcli.report.study import KIND, SCHEMA, Key, Pair, Whose

ANSWERS = "study answers"
LARGEST = 50_000_000  # bytes of a key or an answer file


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One choice: of which pair, to which question; `first` was shown as clip 1."""

    pair: str
    question: str
    first: str
    chosen: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Ballot:
    """All that one rater answered."""

    path: Path
    rater: str
    answers: tuple[Answer, ...]


def read_key(path: Path) -> Key:
    """The key that `Key.text` wrote. Raises `InputError`, also where it was changed since."""
    data = _json(path, KIND, "the key that `dvid study make` wrote beside the page")
    try:
        key = Key(
            seed=int(data["seed"]),
            methods=tuple(data["methods"]),
            questions=tuple(data["questions"]),
            clips={name: Whose(**whose) for name, whose in data["clips"].items()},
            pairs={name: _pair(pair) for name, pair in data["pairs"].items()},
        )
    except (TypeError, KeyError, ValueError, AttributeError) as unfit:
        raise InputError(f"`{path}` is no whole key of a study: {unfit}") from None
    if key.study != data.get("study"):
        raise InputError(
            f"`{path}` has been changed since the study was made",
            hint="the same `dvid study make`, with the same clips and seed, writes it again",
        )
    return key


def _pair(pair: dict[str, Any]) -> Pair:
    return Pair(**{**pair, "clips": tuple(pair["clips"])})


def read_ballots(paths: Sequence[Path], key: Key) -> list[Ballot]:
    """The answers in the files. Raises `InputError` for what is no answer to this study."""
    ballots: dict[str, Ballot] = {}
    for path in paths:
        ballot = _ballot(path, key)
        name = " ".join(ballot.rater.split()).casefold()
        if name in ballots:
            raise InputError(
                f"`{ballots[name].path}` and `{path}` are both of the rater `{ballot.rater}`",
                hint="leave one of them out",
            )
        ballots[name] = ballot
    return list(ballots.values())


def _ballot(path: Path, key: Key) -> Ballot:
    data = _json(path, ANSWERS, "a file that the study's page saved")
    if data.get("study") != key.study:
        raise InputError(
            f"`{path}` answers the study `{data.get('study')}`, not `{key.study}`",
            hint="is it the key that was written with the page that was rated?",
        )
    rater, entries = data.get("rater"), data.get("answers")
    if not isinstance(rater, str) or not rater.strip():
        raise InputError(f"`{path}` names no rater")
    if not isinstance(entries, list) or not entries:
        raise InputError(f"`{path}` holds no answers")
    answers: dict[tuple[str, str], Answer] = {}
    for number, entry in enumerate(entries, 1):
        try:
            answer: Answer = read(Answer, entry, f"answer {number}")
            _check(answer, key)
        except Unfit as unfit:
            raise InputError(f"`{path}`, answer {number}: {unfit}") from None
        if (answer.pair, answer.question) in answers:
            raise InputError(
                f"`{path}`, answer {number}: `{answer.pair}` has an answer on"
                f" `{answer.question}` already"
            )
        answers[answer.pair, answer.question] = answer
    return Ballot(path=path, rater=rater, answers=tuple(answers.values()))


def _check(answer: Answer, key: Key) -> None:
    if not 0 <= answer.seconds < math.inf:
        raise Unfit(f"nobody takes {answer.seconds} seconds")
    if answer.pair not in key.pairs:
        raise Unfit(f"there is no pair `{answer.pair}`")
    if answer.question not in key.questions:
        raise Unfit(f"there is no question `{answer.question}`")
    for name in (answer.chosen, answer.first):
        if name not in key.pairs[answer.pair].clips:
            raise Unfit(f"the clip `{name}` is not of the pair `{answer.pair}`")


def _json(path: Path, kind: str, meant: str) -> dict[str, Any]:
    try:
        if path.stat().st_size > LARGEST:
            raise InputError(f"`{path}` is too large to be {meant}")
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"`{path}` does not exist", hint=f"it is {meant}") from None
    except OSError as error:
        raise InputError(f"`{path}` cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise InputError(f"`{path}` is not JSON", hint=f"it is {meant}") from None
    if not isinstance(data, dict) or data.pop("kind", None) != kind:
        raise InputError(f"`{path}` is not {meant}")
    if (schema := data.pop("schema", None)) != SCHEMA:
        raise InputError(f"`{path}` has the format {schema}, which this dvid does not know")
    return data
