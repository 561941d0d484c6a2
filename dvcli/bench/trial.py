"""A clip through a method: the recipes of its edits, and a row of figures for each of them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import UInt8
from torch import Tensor

from dvcli.bench.cases import Case
from dvcli.bench.methods import Method
from dvcli.bundled.train.judging import Verdict, cases, verdicts
from dvcli.bundled.world.layout import Layout
from dvcli.bundled.world.render import render
from dvcli.recipes import (
    Agreement,
    Base,
    Depth,
    Digest,
    DType,
    Eval,
    Extract,
    Invert,
    Likeness,
    Metric,
    Motion,
    Recipe,
    Sample,
    Tune,
)
from dvcli.store import Artifact
from dvcli.video import frames as frame_file

Realise: TypeAlias = Callable[[Recipe], Artifact]

# What the judge says, by the kind of edit: the figure that tells whether it was followed.
FOLLOWED = {
    "colours": "all colours of several",
    "place": "place",
    "style": "style",
    "kinds": "shape",
}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all methods share: the checkpoints by content, and how each clip is worked on."""

    base: Base
    estimator: Digest
    plain: Base | None
    clip_model: Digest
    size: tuple[int, int]
    frames: int
    tuning_steps: int
    lr: float
    steps: int
    refine: int
    guidance: float
    dtype: DType


@dataclass(frozen=True, kw_only=True)
class Row:
    """The figures of one new clip; `key` is that of its sample in the store."""

    case: str
    edit: str
    method: str
    prompt: str
    key: str
    figures: Mapping[str, float]


def recipes(case: Case, clip: Digest, method: Method, setting: Setting) -> dict[str, Sample]:
    """The method's sample for every edit of the case; `clip` is the digest of its file."""
    frames = Extract(clip=clip, frames=setting.frames, size=setting.size)
    base = setting.base if method.base == "depth" else setting.plain
    assert base is not None
    depth = Depth(frames=frames, estimator=setting.estimator) if method.base == "depth" else None
    tuned = method.tuned(
        Tune(
            frames=frames,
            depth=depth,
            base=base,
            prompt=case.caption,
            steps=setting.tuning_steps,
            lr=setting.lr,
            dtype=setting.dtype,
        )
    )
    inverted = method.inverted(
        Invert(tuned=tuned, steps=setting.steps, refine=setting.refine, dtype=setting.dtype)
    )
    return {
        kind: method.sampled(
            Sample(inverted=inverted, prompt=prompt, guidance=setting.guidance, dtype=setting.dtype)
        )
        for kind, prompt in case.edits.items()
    }


def metrics(sample: Sample, setting: Setting) -> list[Metric]:
    """What is measured of a new clip, always against its source."""
    source = sample.inverted.tuned.frames
    depth = Depth(frames=source, estimator=setting.estimator)
    return [
        Eval(frames=sample, clip_model=setting.clip_model, prompt=sample.prompt),
        Motion(frames=sample, reference=source),
        Agreement(frames=sample, reference=depth, estimator=setting.estimator),
        Likeness(frames=sample, reference=source),
    ]


def measured(
    case: Case,
    kind: str,
    method: Method,
    sample: Sample,
    artifact: Artifact,
    setting: Setting,
    realise: Realise,
    judge: Verdict | None,
) -> Row:
    """The row of one new clip. `judge` is asked where the case's truth is known."""
    figures: dict[str, float] = {}
    for metric in metrics(sample, setting):
        figures |= json.loads(realise(metric).path("metrics").read_text(encoding="utf-8"))
    if judge is not None and case.truth is not None:
        frames = torch.from_numpy(frame_file.load(artifact.path("frames")))
        figures |= judged(judge, frames, case.truth[kind], kind)
    return Row(
        case=case.name,
        edit=kind,
        method=method.name,
        prompt=sample.prompt,
        key=artifact.key,
        figures=figures,
    )


def judged(
    judge: Verdict, frames: UInt8[Tensor, "f h w 3"], layout: Layout, kind: str
) -> dict[str, float]:
    """Shares × 100 that the judge finds right in the frames, `followed` among them.

    `followed` is of frames, but for kinds, where it is of things; `followed_throughout` is 100
    where it was right in every frame. What is not there to be judged has no figure.
    """
    found = verdicts(
        judge, cases(frames.permute(0, 3, 1, 2).float() / 127.5 - 1, layout, render(layout))
    )
    right = found[FOLLOWED[kind]]
    shares = {
        "followed": right,
        "followed_throughout": float(right == 1) if right == right else right,
        "colours_right": found["all colours of several"],
        "place_right": found["place"],
        "style_right": found["style"],
        "shapes_right": found["shape"],
    }
    return {name: 100 * value for name, value in shares.items() if value == value}
