"""`dvid study score`: what raters prefer, from the files that a study's page saved."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dvcli.cli.quoting import printable
from dvcli.cli.session import Console, verb

if TYPE_CHECKING:
    from dvcli.report.votes import Preference, Verdict

log = logging.getLogger(__name__)


@verb
def score(
    console: Console,
    key: Annotated[Path, typer.Argument(metavar="KEY", help="The key beside the page.")],
    answers: Annotated[
        list[Path], typer.Argument(metavar="ANSWERS...", help="Raters' files, one each.")
    ],
    examples: Annotated[
        bool, typer.Option("--examples", help="A line per example and question instead.")
    ] = False,
) -> None:
    """Count raters' answers.

    Prints how often each method is preferred, by majority vote per example, with a Wilson 95 %
    interval; a tie counts as half.

    Example: dvid study score study.key.json answers-*.json
    """
    from dvcli.report.ballots import read_ballots, read_key
    from dvcli.report.votes import preferences, side_share, verdicts

    found = read_key(key)
    ballots = read_ballots(answers, found)
    whole = len(found.pairs) * len(found.questions)
    for ballot in ballots:
        if len(ballot.answers) < whole:
            count = f"{len(ballot.answers)} of {whole} questions"
            log.warning("`%s` answers %s; what is there counts", ballot.path, count)
    judged = verdicts(found, ballots)
    if examples:
        _examples(console, judged)
    else:
        _table(console, preferences(found, judged))
    raters = "one rater" if len(ballots) == 1 else f"{len(ballots)} raters"
    console.note(f"{raters}; clip 1 was chosen in {100 * side_share(ballots):.0f} % of all answers")


def _examples(console: Console, judged: "Sequence[Verdict]") -> None:
    titles = ("question", "example", "method", "against", "votes", "votes_against", "winner")
    rows = [
        (
            (v.question, v.example, *v.methods, str(v.votes[0]), str(v.votes[1]), v.winner or "-"),
            {
                "question": v.question,
                "example": v.example,
                "method": v.methods[0],
                "against": v.methods[1],
                "votes": v.votes[0],
                "votes_against": v.votes[1],
                "winner": v.winner,
            },
        )
        for v in judged
    ]
    _show(console, titles, rows)


def _table(console: Console, rows: "Sequence[Preference]") -> None:
    titles = ["question", "method", "against", "examples", "won", "lost", "tied"]
    titles += ("preference", "low", "high", "votes", "agreement", "kappa", "raters")
    _show(console, titles, [_figures(row) for row in rows])


def _figures(row: "Preference") -> tuple[tuple[str, ...], dict[str, object]]:
    """The row as cells, shares in percent, and as the fields of an object."""
    shares = [100 * share for share in (row.preference, row.low, row.high, row.votes)]
    agreement = None if row.agreement is None else 100 * row.agreement
    fewest, most = row.raters
    cells = (
        *(row.question, *row.methods),
        *map(str, (row.examples, row.won, row.lost, row.tied)),
        *(f"{share:.2f}" for share in shares),
        "" if agreement is None else f"{agreement:.2f}",
        "" if row.kappa is None else f"{row.kappa:.3f}",
        str(most) if fewest == most else f"{fewest}-{most}",
    )
    names = ("preference", "low", "high", "votes")
    return cells, {
        "question": row.question,
        "method": row.methods[0],
        "against": row.methods[1],
        "examples": row.examples,
        "won": row.won,
        "lost": row.lost,
        "tied": row.tied,
        **dict(zip(names, shares, strict=True)),
        "agreement": agreement,
        "kappa": row.kappa,
        "raters": {"fewest": fewest, "most": most},
    }


def _show(
    console: Console,
    titles: Sequence[str],
    rows: Sequence[tuple[Sequence[str], Mapping[str, object]]],
) -> None:
    """A table on a terminal, lines with tabs elsewhere, objects with `--json`."""
    if not console.stdout.isatty() or console.json or console.null:
        if not console.json:
            console.row(*titles)
        for cells, fields in rows:
            console.row(*cells, **fields)
        return
    from rich.console import Console as Screen
    from rich.table import Table
    from rich.text import Text

    table = Table(*[title.replace("_", " ") for title in titles])
    for cells, _ in rows:
        table.add_row(*[Text(printable(cell)) for cell in cells])
    Screen(file=console.stdout).print(table)
