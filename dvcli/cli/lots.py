"""From the jobs of a batch to lots: each one clip under one tuning, with all its results."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dvcli.cli.frames import depth_recipe
from dvcli.cli.jobs import Bad, Job, refuse
from dvcli.cli.prompts import Wish, placed, recipes_of
from dvcli.cli.record import begin, inversion, tuned
from dvcli.cli.sample import from_one_inversion, other_depth, same_way
from dvcli.cli.session import Session
from dvcli.errors import DvidError, InputError, UsageError
from dvcli.recipes import Depth, Extract, Invert, Recipe, Sample, Tune
from dvcli.runs import name_for, same_clip

if TYPE_CHECKING:
    from dvcli.batch.bundle import Bundle
    from dvcli.models.fingerprint import Checkpoint
    from dvcli.runs import Run


@dataclass(frozen=True, kw_only=True)
class Item:
    """One result: whose it is, and its recipe."""

    job: Job
    wish: Wish
    recipe: Sample


@dataclass(kw_only=True)
class Lot:
    """The results on one clip under one tuning; `bare` are the jobs that only want it tuned."""

    run: "Run"
    tuned: Tune
    known: bool
    inverted: list[Invert] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    bare: list[Job] = field(default_factory=list)
    own: list[Invert] = field(default_factory=list)  # asked for; not what `--fast` takes instead

    @property
    def jobs(self) -> list[Job]:
        """Whose it is."""
        return [*(item.job for item in self.items), *self.bare]

    @property
    def recipes(self) -> list[Recipe]:
        """All that is wanted, in order."""
        return [self.tuned, *self.inverted, *(item.recipe for item in self.items)]

    def settle(self) -> None:
        """One inversion does for all results, unless the run has another already."""
        recipes = from_one_inversion(
            [item.recipe for item in self.items], self.run.recipes.get("invert")
        )
        pairs = zip(self.items, recipes, strict=True)
        self.items = [replace(item, recipe=recipe) for item, recipe in pairs]
        used = [recipe.inverted for recipe in recipes if recipe.start == "inverted"]
        self.inverted = list(dict.fromkeys([*used, *self.inverted]))

    @property
    def lasting(self) -> list[Invert]:
        """The inversions that the run is to go on from, the one that counts last.

        That is the one with its trajectory, which does for the others, too.
        """
        mine = [one for one in self.inverted if any(same_way(one, own) for own in self.own)]
        return sorted(mine, key=lambda one: one.trajectory)

    def bundle(self, session: Session) -> "Bundle":
        """What an engine makes of it."""
        from dvcli.batch.bundle import Bundle

        return Bundle(
            name=self.run.name,
            tuned=self.tuned,
            inverted=tuple(self.inverted),
            results=tuple(item.recipe for item in self.items),
            places={**self.run.sources, **session.sources.hints()},
            models=() if self.run.model is None else (self.run.model,),
        )


class Lots:
    """Sorts jobs into lots, in the order in which their clips first come."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._models: dict[str, Checkpoint] = {}
        self._names: dict[str, Run] = {}
        self._found: dict[tuple[str, Tune], Lot] = {}

    def sort(self, jobs: Sequence[Job], bad: Sequence[Bad] = ()) -> list[Lot]:
        """The lots of all jobs. Raises, for all bad lines at once, before any work."""
        errors = list(bad)
        for job in jobs:
            try:
                with placed(job.place):
                    # With a line that cannot be read nothing will be done, so no model is fetched.
                    self._look(job) if bad else self._add(job)
            except DvidError as error:
                errors.append((job.line, error))
        refuse(errors)
        lots = list(self._found.values())
        for lot in lots:
            lot.settle()
        return lots

    def _look(self, job: Job) -> None:
        """Refuse a job whose clip or run is not there."""
        from dvcli.video.probe import probe

        if job.clip is None:
            tuned(self._session.run(job.run))
        else:
            probe(job.clip)

    def _add(self, job: Job) -> None:
        session = self._session
        if job.clip is None:
            assert job.run is not None
            run = session.run(job.run)
            session.sources.expect(run)
            recipe, known = tuned(run), True
            inverted = inversion(run, session.number_format)
            if job.inverting.asked:
                inverted = job.inverting.recipe(recipe, session.number_format)
        else:
            run, recipe, known = *self._new(job, job.clip), False
            inverted = job.inverting.recipe(recipe, session.number_format)
        recipes = recipes_of(
            job.wishes,
            job.switches,
            inverted,
            session.number_format,
            lambda name: other_depth(session, name, inverted),
        )
        lot = self._found.setdefault((run.name, recipe), Lot(run=run, tuned=recipe, known=known))
        lot.own.append(inverted)
        lot.inverted += [inverted] if job.inverting.asked and not recipes else []
        lot.items += [
            Item(job=job, wish=wish, recipe=made)
            for wish, made in zip(job.wishes, recipes, strict=True)
        ]
        lot.bare += [] if recipes else [job]

    def _new(self, job: Job, clip: Path) -> "tuple[Run, Tune]":
        """(the run that the clip's results belong to, its tuning)."""
        from dvcli.cli.sources import base, native_size
        from dvcli.models.fingerprint import validate_size
        from dvcli.stages import find
        from dvcli.video.probe import probe

        session, tuning = self._session, job.tuning
        digest = session.sources.file(clip)
        run = self._named(job, begin(session, clip, job.run, tuning.model))
        found = self._model(tuning.model)
        frames = tuning.framing.recipe(digest, native_size(found))
        if frames.size is not None:
            validate_size(found, frames.size)
        if find(frames, session.store) is None:
            probe(clip)
        recipe = tuning.recipe(
            frames,
            self._depth(job, frames, found),
            base(found),
            job.caption,
            session.number_format,
        )
        return run, recipe

    def _depth(self, job: Job, frames: Extract, found: "Checkpoint") -> Depth | None:
        given, model = job.tuning.depth, job.tuning.model
        if not found.has_depth:
            if given is not None:
                raise UsageError(f"the model `{model}` takes no depth", hint="leave `depth` out")
            return None
        return depth_recipe(
            self._session, frames, given=given, estimator=None, invert=False, model=model
        )

    def _model(self, reference: str) -> "Checkpoint":
        if reference not in self._models:
            self._models[reference] = self._session.sources.model(reference)
        return self._models[reference]

    def _named(self, job: Job, run: "Run") -> "Run":
        """The run under a name that no other clip of this batch has."""
        other = self._names.get(run.name)
        if other is not None and not same_clip(other, run):
            if job.run is not None:
                raise InputError(
                    f"two clips of this batch are to be the run `{run.name}`",
                    hint="give each a name of its own",
                )
            taken = {*self._names, *self._session.runs.names()}
            mine = [n for n, o in self._names.items() if same_clip(o, run)]
            run = replace(run, name=mine[0] if mine else name_for(run.name, taken))
        self._names[run.name] = run
        return run
