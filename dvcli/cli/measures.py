"""The metrics of `dvid eval`: which there are, what each needs, and what must not fall short."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Literal, cast, get_args

import typer

from dvcli.cli.judged import Row
from dvcli.errors import CheckError, UsageError
from dvcli.recipes import (
    Agreement,
    Digest,
    Eval,
    Likeness,
    Metric,
    Motion,
    Preference,
    within,
)

Measure = Literal["consistency", "alignment", "motion", "depth", "likeness", "preference"]
MEASURES: tuple[Measure, ...] = get_args(Measure)
FIGURES: dict[Measure, tuple[str, ...]] = {
    "consistency": ("frame_consistency", "frame_consistency_consecutive"),
    "alignment": ("textual_alignment",),
    "motion": ("motion_fidelity",),
    "depth": ("depth_agreement", "depth_agreement_in_rows"),
    "likeness": ("psnr", "ssim", "gmsd"),
    "preference": ("preference",),
}
NEEDS: dict[Measure, tuple[str, str]] = {
    "consistency": ("needs a clip", "`dvid eval FILE`"),
    "alignment": ("needs a prompt", "`--prompt` says what the files should show"),
    "motion": ("compares with a source", "`--source` says what the files were made from"),
    "depth": (
        "compares with a source and needs a depth estimator",
        "`--source` says what the files were made from, `--estimator` what estimates",
    ),
    "likeness": ("compares with a source", "`--source` says what the files were made from"),
    "preference": ("needs a prompt", "`--prompt` says what the files should show"),
}
Panel = "Gates: exit 8 where a clip has less"


def _gate(what: str) -> object:
    return typer.Option(metavar="N", help=what, rich_help_panel=Panel, show_default=False)


@dataclass(frozen=True, kw_only=True)
class Gates:
    """The least that every result must have; None asks for nothing."""

    min_consistency: Annotated[float | None, _gate("Least frame consistency.")] = None
    min_alignment: Annotated[float | None, _gate("Least textual alignment.")] = None
    min_motion: Annotated[float | None, _gate("Least motion fidelity.")] = None
    min_depth: Annotated[float | None, _gate("Least depth agreement.")] = None
    min_psnr: Annotated[float | None, _gate("Least PSNR to the source, in dB.")] = None
    min_ssim: Annotated[float | None, _gate("Least SSIM to the source.")] = None
    min_preference: Annotated[float | None, _gate("Least PickScore.")] = None

    def asked(self) -> Iterator[tuple[str, Measure, str, float]]:
        """(option, metric, figure, least) of each gate that is set; refuses what is no number."""
        for field in fields(self):
            least = getattr(self, field.name)
            if least is None:
                continue
            name = field.name.removeprefix("min_")
            measure = cast("Measure", "likeness" if name in FIGURES["likeness"] else name)
            figure = name if measure == "likeness" else FIGURES[measure][0]
            option = f"--{field.name.replace('_', '-')}"
            within(option, least, -1000, 1000)
            yield option, measure, figure, least


@dataclass(frozen=True, kw_only=True)
class Judges:
    """The models that judge, by content; None where there is none at hand."""

    clip: Digest | None = None
    pick: Digest | None = None


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which metrics are measured: those `asked` for by name or by a gate, else all there can be."""

    asked: frozenset[Measure]
    only: bool

    def wants(self, measure: Measure) -> bool:
        """Whether it is to be measured where it can be."""
        return measure in self.asked or not self.only


def choose(names: Sequence[str], gates: Gates) -> Choice:
    """The choice of `--metrics` and the gates. Raises `UsageError` where they contradict."""
    listed = [name.strip().lower() for text in names for name in text.split(",")]
    for name in listed:
        if name not in MEASURES:
            raise UsageError(f"no metric `{name}`", hint="one of " + ", ".join(MEASURES))
    for option, measure, _, _ in gates.asked():
        if listed and measure not in listed:
            raise UsageError(f"`{option}` looks at {measure}, which `--metrics` leaves out")
    gated = [measure for _, measure, _, _ in gates.asked()]
    return Choice(asked=frozenset(cast("list[Measure]", listed) + gated), only=bool(listed))


def recipe(measure: Measure, row: Row, judges: Judges, choice: Choice) -> Metric | None:
    """What measures the row so; None where it cannot be, or is not to be, measured."""
    source = row.source
    if not choice.wants(measure):
        return None
    match measure:
        case "consistency" | "alignment" if judges.clip is not None:
            if measure == "alignment" and row.prompt is None:
                return None
            return Eval(frames=row.frames, clip_model=judges.clip, prompt=row.prompt)
        case "motion" if source is not None:
            return Motion(frames=row.frames, reference=source.frames)
        case "depth" if source is not None and source.depth and source.estimator:
            return Agreement(
                frames=row.frames,
                reference=source.depth,
                estimator=source.estimator,
                invert=source.invert,
            )
        case "likeness" if source is not None and _likened(row, choice):
            return Likeness(frames=row.frames, reference=source.frames)
        case "preference" if judges.pick is not None and row.prompt is not None:
            return Preference(frames=row.frames, pick_model=judges.pick, prompt=row.prompt)
    return None


def _likened(row: Row, choice: Choice) -> bool:
    """A reconstruction is meant to be its source. A result is not, and is likened when asked."""
    return row.role == "reconstruction" or (row.result and "likeness" in choice.asked)


def recipes(
    rows: Sequence[Row], judges: Judges, choice: Choice
) -> dict[Measure, list[Metric | None]]:
    """The recipe of every row, by metric; only metrics that some row can have."""
    found = {m: [recipe(m, row, judges, choice) for row in rows] for m in MEASURES}
    return {measure: made for measure, made in found.items() if any(made)}


def refuse_impossible(rows: Sequence[Row], choice: Choice) -> None:
    """Raise `UsageError` for a metric that was asked for and that no row can have."""
    anybody = Judges(clip="0" * 64, pick="0" * 64)
    possible = recipes(rows, anybody, choice)
    for measure in MEASURES:
        if measure in choice.asked and measure not in possible:
            needs, hint = NEEDS[measure]
            raise UsageError(f"{measure} {needs}", hint=hint)


def gated(row: Row, measure: Measure) -> bool:
    """Whether a gate looks at the row: results, and for likeness what is meant to be its source."""
    return row.result or (measure == "likeness" and row.role == "reconstruction")


def check(gates: Gates, rows: Sequence[Row], figures: Sequence[dict[str, float]]) -> None:
    """Raise `CheckError`, naming every row that falls short and what it has."""
    failed = []
    looked = 0
    for option, measure, figure, least in gates.asked():
        for row, found in zip(rows, figures, strict=True):
            if not gated(row, measure):
                continue
            looked += 1
            value = found.get(figure)
            if value is None:
                failed.append(f"`{row.name}` has no {figure.replace('_', ' ')} for `{option}`")
            elif value < least:
                failed.append(f"`{row.name}` has {value:.4g} of `{option} {least:g}`")
    if failed:
        raise CheckError(
            f"{len(failed)} of {looked} checks failed: {'; '.join(failed)}",
            hint="the table has every clip's figures, and is printed whatever fails",
        )


def refuse_idle(gates: Gates, rows: Sequence[Row]) -> None:
    """Refuse a gate that would look at nothing, and so would never say no."""
    for option, measure, _, _ in gates.asked():
        if not any(gated(row, measure) for row in rows):
            raise UsageError(
                f"`{option}` has no clip to look at", hint="`dvid sample` makes one, or name files"
            )
