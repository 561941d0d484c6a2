"""A clip through a method: the recipes of its edits, and a row of figures for each of them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from dvcli.bench.cases import Case
from dvcli.bench.methods import Method
from dvcli.bundled.train.judging import Verdict, cases, verdicts
from dvcli.bundled.world.layout import Layout
from dvcli.bundled.world.render import render
from dvcli.errors import UsageError
from dvcli.recipes import (
    Agreement,
    Base,
    Depth,
    Digest,
    DType,
    Eval,
    Extract,
    Invert,
    Judged,
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
    """The figures of one clip; `key` is that of its frames in the store."""

    case: str
    edit: str
    method: str
    prompt: str
    key: str
    figures: Mapping[str, float]


def recipes(
    case: Case, files: Mapping[Path, Digest], method: Method, setting: Setting
) -> dict[str, Judged]:
    """What the method shows for every edit of the case; `files` has the digests of its clips.

    Raises `UsageError` where the method asks for what is not known of the case.
    """
    frames = source(case, files, setting)
    if method.clip == "source":
        return dict.fromkeys(case.edits, frames)
    if method.clip == "truth":
        if case.answers.keys() != case.edits.keys():
            raise UsageError(f"nobody knows the truth of `{case.name}`")
        return {kind: replace(frames, clip=files[file]) for kind, file in case.answers.items()}
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


def source(case: Case, files: Mapping[Path, Digest], setting: Setting) -> Extract:
    """The frames of the case's own clip."""
    return Extract(clip=files[case.clip], frames=setting.frames, size=setting.size)


def metrics(frames: Judged, prompt: str, reference: Extract, setting: Setting) -> list[Metric]:
    """What is measured of a clip, always against its source."""
    depth = Depth(frames=reference, estimator=setting.estimator)
    return [
        Eval(frames=frames, clip_model=setting.clip_model, prompt=prompt),
        Motion(frames=frames, reference=reference),
        Agreement(frames=frames, reference=depth, estimator=setting.estimator),
        Likeness(frames=frames, reference=reference),
    ]


def measured(
    case: Case,
    kind: str,
    method: Method,
    shown: Judged,
    reference: Extract,
    artifact: Artifact,
    setting: Setting,
    realise: Realise,
    judge: Verdict,
) -> Row:
    """The row of one clip. `judge` is asked where the case's truth is known."""
    figures: dict[str, float] = {}
    for metric in metrics(shown, case.edits[kind], reference, setting):
        figures |= json.loads(realise(metric).path("metrics").read_text(encoding="utf-8"))
    if kind in case.truth:
        frames = torch.from_numpy(frame_file.load(artifact.path("frames")))
        figures |= judged(judge, frames, case.truth[kind], kind)
    return Row(
        case=case.name,
        edit=kind,
        method=method.name,
        prompt=case.edits[kind],
        key=artifact.key,
        figures=figures,
    )


def judged(
    judge: Verdict, frames: UInt8[Tensor, "f h w 3"], layout: Layout, kind: str
) -> dict[str, float]:
    """Shares × 100 that the judge finds right in the frames, `followed` among them.

    `followed` is of frames, but for kinds, where it is of things; `followed_throughout` is 100
    where it was right in every frame. What is not there to be judged has no figure. Frames of
    another size are brought to that of the built-in world by area.
    """
    truth = render(layout)
    seen = frames.permute(0, 3, 1, 2).float() / 127.5 - 1
    if seen.shape[-2:] != truth.image.shape[-2:]:
        seen = interpolate(seen, size=truth.image.shape[-2:], mode="area")
    found = verdicts(judge, cases(seen, layout, truth))
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
