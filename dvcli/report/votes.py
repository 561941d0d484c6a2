"""The answers to a blind study counted: majorities, preferences with intervals, agreement."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from dvcli.report.ballots import Ballot
from dvcli.report.study import Key

Z95 = 1.959963984540054  # the normal distribution's 97.5 % point


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The votes on one pair and question: for the method named first in the study, and second."""

    question: str
    example: str
    pair: str
    methods: tuple[str, str]
    votes: tuple[int, int]

    @property
    def winner(self) -> str | None:
        """The method that most raters chose, None for a tie."""
        one, two = self.votes
        return None if one == two else self.methods[0] if one > two else self.methods[1]


@dataclass(frozen=True, kw_only=True)
class Preference:
    """How often one method is preferred to another; shares are from 0 to 1.

    `preference` is the share of examples won by majority, ties counted as half, and `low` to `high`
    its Wilson 95 % interval over examples. `votes` is the share of all single votes. `agreement` is
    the share of pairs of raters that chose alike, `kappa` is Fleiss'; None where not defined.
    """

    question: str
    methods: tuple[str, str]
    examples: int
    won: int
    lost: int
    tied: int
    preference: float
    low: float
    high: float
    votes: float
    agreement: float | None
    kappa: float | None
    raters: tuple[int, int]  # the fewest and the most that judged an example


def verdicts(key: Key, ballots: Sequence[Ballot]) -> list[Verdict]:
    """The votes on every pair and question that somebody answered, in the key's order."""
    votes = Counter((a.pair, a.question, a.chosen) for ballot in ballots for a in ballot.answers)
    found = []
    for question in key.questions:
        for name, pair in key.pairs.items():
            ours = sorted(pair.clips, key=lambda clip: key.methods.index(key.clips[clip].method))
            counted = [votes[name, question, clip] for clip in ours]
            if sum(counted):
                verdict = Verdict(
                    question=question,
                    example=pair.example,
                    pair=name,
                    methods=(key.clips[ours[0]].method, key.clips[ours[1]].method),
                    votes=(counted[0], counted[1]),
                )
                found.append(verdict)
    return found


def preferences(key: Key, found: Sequence[Verdict]) -> list[Preference]:
    """One row a question and pair of methods that somebody compared, in the key's order."""
    rows = []
    for question in key.questions:
        for methods in combinations(key.methods, 2):
            here = [v for v in found if (v.question, v.methods) == (question, methods)]
            if here:
                rows.append(_preference(question, methods, here))
    return rows


def _preference(question: str, methods: tuple[str, str], here: Sequence[Verdict]) -> Preference:
    won = sum(verdict.winner == methods[0] for verdict in here)
    tied = sum(verdict.winner is None for verdict in here)
    low, high = wilson(won + tied / 2, len(here))
    total = [sum(verdict.votes) for verdict in here]
    agreement, kappa = fleiss([verdict.votes for verdict in here])
    return Preference(
        question=question,
        methods=methods,
        examples=len(here),
        won=won,
        lost=len(here) - won - tied,
        tied=tied,
        preference=(won + tied / 2) / len(here),
        low=low,
        high=high,
        votes=sum(verdict.votes[0] for verdict in here) / sum(total),
        agreement=agreement,
        kappa=kappa,
        raters=(min(total), max(total)),
    )


def wilson(successes: float, trials: int, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval of a share: the p with |s - np| = z √(np(1 - p)).

    Wilson, J. Am. Stat. Assoc. 22 (1927) 209-212.
    """
    share, extra = successes / trials, z * z / trials
    middle = (share + extra / 2) / (1 + extra)
    half = math.sqrt(extra * (share * (1 - share) + extra / 4)) / (1 + extra)
    return max(0.0, middle - half), min(1.0, middle + half)


def fleiss(counts: Sequence[Sequence[int]]) -> tuple[float | None, float | None]:
    """(observed agreement, Fleiss' kappa) of votes `[subject][category]`; None where undefined.

    Subjects with fewer than two votes say nothing on agreement and are passed over. Kappa is not
    defined where all votes are for one category. Fleiss, Psychol. Bull. 76 (1971) 378-382.
    """
    judged = [row for row in counts if sum(row) > 1]
    if not judged:
        return None, None
    alike = [sum(n * (n - 1) for n in row) / (sum(row) * (sum(row) - 1)) for row in judged]
    observed = sum(alike) / len(alike)
    total = sum(map(sum, judged))
    chance = sum((sum(column) / total) ** 2 for column in zip(*judged, strict=True))
    return observed, None if chance == 1 else (observed - chance) / (1 - chance)


def side_share(ballots: Sequence[Ballot]) -> float:
    """The share of all answers that chose what was shown as clip 1; about a half is healthy."""
    answers = [answer for ballot in ballots for answer in ballot.answers]
    return sum(answer.chosen == answer.first for answer in answers) / len(answers)
