"""What a report shows: the clips of runs and files, with the source and the depth they came from.

Nothing slow is done for it. What the cache has lost is taken from the file that was written; where
that is gone too, the clip is left out, with a warning and the way to have it again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dvcli.cli.judged import is_file
from dvcli.cli.provenance import Story
from dvcli.cli.record import frames_of
from dvcli.cli.session import Session
from dvcli.cli.show import names_of
from dvcli.cli.takes import (
    Take,
    from_anybody,
    from_file,
    from_run,
    given,
    lines,
    shown_as,
    story_of,
)
from dvcli.recipes import CogVideoX, Depth, Invert, Recipe, Sample, Tune

if TYPE_CHECKING:
    from dvcli.runs import Run


ROLES = ("source", "depth", "reconstruction")


@dataclass(frozen=True, kw_only=True)
class Party:
    """The clips that were made from one source; `run` is its run's name, where it has one."""

    name: str
    run: str | None = None
    model: str | None = None
    sentence: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    commands: Sequence[str] = ()
    given: Sequence[Take] = ()
    takes: Sequence[Take] = ()


def gather(session: Session, what: Sequence[str] | None, source: Path | None) -> list[Party]:
    """A party for each run and for each clip that files say they come from.

    Files that say nothing join the only party there is; else they are one of their own, with the
    `source` that was given. Raises what reading a run or a file raises.
    """
    runs, files = [], []
    for name in what or (None,):
        if name is not None and is_file(session, name):
            files.append(Path(name))
        else:
            runs.append(session.run(name))
    parties = [_of_run(session, run) for run in {run.name: run for run in runs}.values()]
    strangers: list[Take] = []
    told: dict[Recipe, list[tuple[Path, Story]]] = {}
    for path in dict.fromkeys(files):
        story = story_of(path)
        if story is None:
            strangers.append(from_anybody(session, path))
        else:
            told.setdefault(_beginning(story.recipe), []).append((path, story))
    parties += [_of_files(session, files) for files in told.values()]
    if source is not None:
        sources = [shown_as(session, source, title="source", role="source")]
        parties = [replace(party, given=party.given or sources) for party in parties]
    else:
        sources = []
    if strangers and len(parties) == 1:
        return [replace(parties[0], takes=[*parties[0].takes, *strangers])]
    if strangers:
        parties.append(Party(name="files", given=sources, takes=strangers))
    return parties


def _of_run(session: Session, run: "Run") -> Party:
    session.sources.expect(run)
    tune = run.recipes.get("tune")
    caption = tune.prompt if isinstance(tune, Tune) else ""
    depth, inverted = run.recipes.get("depth"), run.recipes.get("invert")
    names = names_of(run)
    made = [from_run(session, one, names) for one in session.runs.samples(run.name)]
    takes = [take for take in made if take is not None]
    last = inverted or tune
    return Party(
        name=run.name,
        run=run.name,
        model=run.model,
        sentence=f"“{caption}”" if caption else "",
        facts=_model(run.model) | _common(takes),
        commands=lines(last, names) if last is not None else (),
        given=given(
            session,
            frames_of(run),
            depth if isinstance(depth, Depth) else None,
            inverted if isinstance(inverted, Invert) else None,
            caption,
        ),
        takes=_apart(takes),
    )


def _of_files(session: Session, files: Sequence[tuple[Path, Story]]) -> Party:
    """Files of ours from one clip; source and depth are in the cache, or there are none."""
    made = [recipe for _, story in files if isinstance(recipe := story.recipe, Sample | CogVideoX)]
    found: dict[str, Take] = {}
    caption = ""
    if made:
        first = made[0]
        inverted = first.inverted if isinstance(first, Sample) else None
        depth = None if inverted is None else inverted.tuned.depth
        caption = "" if inverted is None else inverted.tuned.prompt
        frames = first.frames if isinstance(first, CogVideoX) else first.inverted.tuned.frames
        known = given(session, frames, depth, inverted, caption, build=False)
        found = {take.shot.role: take for take in known}
    takes = []
    for path, story in files:
        if isinstance(story.recipe, Sample | CogVideoX):
            takes.append(from_file(session, path, story))
        else:
            role = "depth" if isinstance(story.recipe, Depth) else "source"
            found[role] = replace(
                shown_as(session, path, title=role, role=role), recipe=story.recipe
            )
    models = {story.model for _, story in files if isinstance(story.recipe, Sample | CogVideoX)}
    model = models.pop() if len(models) == 1 else None
    return Party(
        name=caption or "files",
        model=model,
        facts=_model(model) | _common(takes),
        given=[found[role] for role in ROLES if role in found],
        takes=_apart(takes),
    )


def _beginning(recipe: Recipe) -> Recipe:
    """What the files of one party have in common: the frames that all began with."""
    match recipe:
        case Sample():
            return recipe.inverted.tuned.frames
        case CogVideoX():
            return recipe.frames
        case Depth():
            return recipe.frames
    return recipe


def _model(name: str | None) -> dict[str, str]:
    return {} if name is None else {"model": name}


def _common(takes: Sequence[Take]) -> dict[str, str]:
    """What is said of every clip in the same words, and so need be said only once."""
    told = [take.shot.said for take in takes if isinstance(take.recipe, Sample | CogVideoX)]
    if not told:
        return {}
    return {
        name: value
        for name, value in told[0].items()
        if name != "style" and all(said.get(name) == value for said in told)
    }


def _apart(takes: Sequence[Take]) -> list[Take]:
    """The clips, each saying only what is not said of all."""
    common = _common(takes)
    return [
        replace(
            take,
            shot=replace(
                take.shot,
                said={name: value for name, value in take.shot.said.items() if name not in common},
            ),
        )
        for take in takes
    ]
