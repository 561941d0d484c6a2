"""The figures of a report's clips: those the cache has, or with `--eval` measured now."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dvcli.cli import measures
from dvcli.cli.gather import Party
from dvcli.cli.judged import clip_source, file_row, is_file, run_rows, sampled
from dvcli.cli.planning import Part, show_plan
from dvcli.cli.session import Session
from dvcli.cli.takes import Take
from dvcli.recipes import Agreement, Digest, Eval, Likeness, Motion, Preference
from dvcli.store import listing

if TYPE_CHECKING:
    from dvcli.report.reels import Reel, Shot

STAGES = tuple(kind.stage for kind in (Eval, Motion, Agreement, Likeness, Preference))
NAMES = {
    "frame_consistency": "consistency",
    "frame_consistency_consecutive": "",  # says little beside the other
    "textual_alignment": "alignment",
    "motion_fidelity": "motion",
    "depth_agreement": "depth",
    "psnr": "PSNR to source",
    "ssim": "SSIM",
    "gmsd": "GMSD",
}
ABOUT = ("frames", "reference")  # roles that say what is measured, not who measures


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Figures in the cache: which stage they are of, by which model, of which frames and prompt."""

    stage: str
    judge: Digest | None
    frames: Digest
    prompt: str | None
    key: str


def measure(
    session: Session, what: Sequence[str] | None, source: Path | None, clip_model: str
) -> None:
    """Measure what the report shows as `dvid eval` does; with `--dry-run`, print the plan."""
    against = None if source is None else clip_source(session, str(source), None)
    rows = []
    for name in what or (None,):
        if name is not None and is_file(session, name):
            rows.append(file_row(session, Path(name), None, against))
        else:
            rows += run_rows(session, session.run(name), None)
    if not session.dry_run:
        rows = [sampled(session, row) for row in rows]
    judges = measures.Judges(clip=session.sources.clip_model(clip_model))
    wanted = measures.recipes(rows, judges, measures.choose((), measures.Gates()))
    recipes = [one for made in wanted.values() for one in made if one]
    if session.dry_run:
        show_plan(session, [Part(recipes=recipes)])
        return
    for recipe in dict.fromkeys(recipes):
        session.realise(recipe)


def judged(session: Session, parties: Sequence[Party], clip_model: str | None) -> "list[Reel]":
    """The parties as a report shows them, with the figures that the cache has.

    Figures of one kind are all of one judge, so that they compare: `clip_model`, else the one that
    has measured most of these clips.
    """
    from dvcli.report.reels import Reel

    known: dict[Digest, list[Measured]] = {}
    for one in _measured(session):
        known.setdefault(one.frames, []).append(one)

    def fitting(take: Take) -> list[Measured]:
        return [
            one
            for digest in _digests(session, take)
            for one in known.get(digest, ())
            if one.prompt in (None, take.prompt)
        ]

    judges = _judges([fitting(take) for party in parties for take in party.takes])
    if clip_model is not None:
        judges[Eval.stage] = session.sources.clip_model(clip_model)

    def shot(take: Take) -> "Shot":
        found: dict[str, float] = {}
        for one in fitting(take):
            if one.judge == judges.get(one.stage, one.judge):
                found |= _figures(session, one.key)
        return replace(take.shot, figures={**take.shot.figures, **found})

    return [
        Reel(
            name=party.name,
            sentence=party.sentence,
            facts=party.facts,
            commands=party.commands,
            given=[shot(take) for take in party.given],
            shots=[shot(take) for take in party.takes],
        )
        for party in parties
    ]


def _measured(session: Session) -> list[Measured]:
    """All figures in the cache, the newest last."""
    found = []
    for path, made in listing.records(session.store):
        asked = made["preimage"]
        if not isinstance(asked, Mapping) or asked.get("stage") not in STAGES:
            continue
        inputs = asked["inputs"]
        models = [digest for role, digest in sorted(inputs.items()) if role not in ABOUT]
        one = Measured(
            stage=asked["stage"],
            judge=models[0] if models else None,
            frames=inputs["frames"],
            prompt=asked["params"].get("prompt"),
            key=path.stem,
        )
        found.append((float(str(made["created"])), one.key, one))
    return [one for _, _, one in sorted(found, key=lambda made: made[:2])]


def _judges(clips: Sequence[Sequence[Measured]]) -> dict[str, Digest | None]:
    """The judge of each stage that has measured most of the clips."""
    counted: dict[str, Counter[Digest | None]] = {}
    for clip in clips:
        for stage, judge in {(one.stage, one.judge) for one in clip}:
            counted.setdefault(stage, Counter())[judge] += 1
    return {
        stage: min(count, key=lambda judge: (-count[judge], judge or ""))
        for stage, count in counted.items()
    }


def _digests(session: Session, take: Take) -> Iterator[Digest]:
    """The content of the clip's frames, as far as the cache knows it; the clip itself last."""
    from dvcli.recipes import shown
    from dvcli.stages import find

    for source in reversed(take.sources):
        artifact = find(source, session.store)
        if artifact is not None:
            yield artifact.digest_of(shown(source))


def _figures(session: Session, key: str) -> dict[str, float]:
    artifact = session.store.get(key)
    if artifact is None:
        return {}
    text = artifact.path("metrics").read_text(encoding="utf-8")
    return {
        NAMES.get(name, name.replace("_", " ")): float(value)
        for name, value in json.loads(text).items()
        if NAMES.get(name, name) and isinstance(value, int | float)
    }
