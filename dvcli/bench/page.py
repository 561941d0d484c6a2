"""The page of a benchmark: every clip, its depth, and each method's edits of it side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from dvcli.bench.cases import Case
from dvcli.bench.methods import Method
from dvcli.bench.table import COLUMNS
from dvcli.bench.trial import Realise, Row, Setting, recipes, source
from dvcli.recipes import Depth, Digest, Render
from dvcli.report.compare import Cell, Comparison, Line, side_by_side

SHOWN = ("followed", "textual_alignment", "motion_fidelity", "depth_agreement_in_rows")


def written(
    rows: Sequence[Row],
    work: Sequence[Case],
    methods: Sequence[Method],
    files: Mapping[Path, Digest],
    setting: Setting,
    realise: Realise,
) -> str:
    """The page as text, one section a clip; `files` has the digests of the clips."""
    found = {(row.case, row.method, row.edit): row for row in rows}
    comparisons = [_compared(case, methods, files, found, setting, realise) for case in work]
    return side_by_side(
        "dvid bench quality",
        f"{len(work)} clips, each edited in {len(work[0].edits)} ways by {len(methods)} methods.",
        comparisons,
    )


def _compared(
    case: Case,
    methods: Sequence[Method],
    files: Mapping[Path, Digest],
    found: Mapping[tuple[str, str, str], Row],
    setting: Setting,
    realise: Realise,
) -> Comparison:
    frames = source(case, files, setting)
    depth = Render(source=Depth(frames=frames, estimator=setting.estimator), suffix=".webp")
    given = [
        Cell(media=realise(frames).path("frames"), facts={"caption": case.caption}),
        Cell(media=realise(depth).path("media.webp"), facts={"near": "white"}),
    ]
    shown = {method.name: recipes(case, files, method, setting) for method in methods}
    lines = []
    for kind, prompt in case.edits.items():
        cells: list[Cell | None] = [*given]
        for method in methods:
            row = found.get((case.name, method.name, kind))
            media: Path = realise(shown[method.name][kind]).path("frames")
            figures = {} if row is None else row.figures
            told = {t: figures[n] for n, t in COLUMNS if n in SHOWN and n in figures}
            cells.append(Cell(media=media, figures=told))
        lines.append(Line(title=f"{kind}: {prompt}", cells=cells))
    return Comparison(
        heading=f"{case.name}: {case.caption}",
        columns=("source", "depth", *(method.name for method in methods)),
        lines=lines,
        given=2,
    )
