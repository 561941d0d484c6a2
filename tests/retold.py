"""What a metric of motion or depth must tell apart: one clip shown in ways that keep or lose them.

`python tests/retold.py` prints the table of `docs/metrics.md`; `--clips` says over how many clips
of the built-in world, which take some seconds each.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from media import real_clips

from dvcli.bundled.world.clips import clip, course
from dvcli.bundled.world.layout import HELD_OUT
from dvcli.bundled.world.words import COLOURS, PLACES, SHAPES, STYLES, Scene
from dvcli.core.motion import motion_fidelity

KEPT = ("the source itself", "other colours", "another place", "another style", "grain")
KINDS = ("other things", "other things, colours, place and style")
LOST = ("frozen", "frozen, with grain", "reversed", "shuffled", "another clip")


def retold(seed: int, frames: int = 8) -> dict[str, np.ndarray]:
    """The clip of a seed, uint8 `[f 64 64 3]`, as it is and in every other way."""
    scene, _ = course(seed, frames)
    colours, kinds = _others(scene)
    place = PLACES[(PLACES.index(scene.place or "") + 3) % len(PLACES)]
    style = STYLES[(STYLES.index(scene.style or "") + 1) % len(STYLES)]
    both = tuple(replace(k, colour=c.colour) for k, c in zip(kinds, colours, strict=True))

    def shown(said: Scene) -> np.ndarray:
        return clip(seed, frames, said).frames.permute(0, 2, 3, 1).contiguous().numpy()

    source = shown(scene)
    return {
        "the source itself": source,
        "other colours": shown(replace(scene, things=colours)),
        "another place": shown(replace(scene, place=place)),
        "another style": shown(replace(scene, style=style)),
        "other things": shown(replace(scene, things=kinds)),
        "other things, colours, place and style": shown(
            replace(scene, things=both, place=place, style=style)
        ),
        **spoilt(source),
        "another clip": clip(seed + 1000, frames).frames.permute(0, 2, 3, 1).contiguous().numpy(),
    }


def _others(scene: Scene) -> tuple[tuple, tuple]:
    """The things in other colours, and other things; a family stays one."""
    things = scene.things
    family = len(set(things)) == 1
    colours = [c for c in COLOURS if c not in {t.colour for t in things}]
    shapes = [s for s in SHAPES if s not in {t.shape for t in things}]
    chosen = [0 if family else i for i in range(len(things))]
    return (
        tuple(replace(t, colour=colours[i]) for t, i in zip(things, chosen, strict=True)),
        tuple(replace(t, shape=shapes[i]) for t, i in zip(things, chosen, strict=True)),
    )


def spoilt(source: np.ndarray) -> dict[str, np.ndarray]:
    """A clip with grain, and with its motion taken away or turned."""
    rng = np.random.default_rng(0)
    frozen = np.repeat(source[:1], len(source), axis=0)
    order = np.array([3, 0, 6, 1, 7, 4, 2, 5])[: len(source)]
    return {
        "grain": grain(source, rng),
        "half as fast": source[np.arange(len(source)) // 2],
        "frozen": frozen,
        "frozen, with grain": grain(frozen, rng),
        "reversed": np.ascontiguousarray(source[::-1]),
        "shuffled": source[order],
    }


def grain(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Independent noise with a standard deviation of 8 levels."""
    return np.clip(frames + rng.normal(0, 8, frames.shape), 0, 255).astype(np.uint8)


def recoloured(source: np.ndarray) -> np.ndarray:
    """The negative with its channels exchanged: what was bright is dark and of another hue."""
    return np.ascontiguousarray(255 - source[..., [1, 2, 0]])


def real(name: str, step: int, start: int = 10, count: int = 8) -> np.ndarray:
    """Every `step`-th frame of one of the real clips."""
    import av

    with av.open(str(real_clips()[name])) as container:
        found = []
        for number, frame in enumerate(container.decode(video=0)):
            if number >= start and (number - start) % step == 0:
                found.append(frame.to_ndarray(format="rgb24"))
            if len(found) == count:
                break
    return np.stack(found)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--clips", type=int, default=24)
    clips = asked.parse_args().clips
    torch.set_num_threads(1)
    motion: dict[str, list[float]] = {}
    depth: dict[str, list[tuple[float, float]]] = {}
    for seed in range(HELD_OUT, HELD_OUT + clips):
        versions = retold(seed)
        source = versions["the source itself"]
        maps = {name: estimated(frames) for name, frames in versions.items()}
        for name, frames in versions.items():
            motion.setdefault(name, []).append(number(motion_fidelity(source, frames)))
            depth.setdefault(name, []).append(agreement(maps["the source itself"], maps[name]))
    say(f"{clips} clips of the built-in world, 8 frames of 64×64: mean (lowest to highest)\n")
    say("| against the source | motion | depth | depth in rows |\n|---|---|---|---|\n")
    for name in versions:
        whole, rows = zip(*depth[name], strict=True)
        say(f"| {name} | {spread(motion[name])} | {spread(whole)} | {spread(rows)} |\n")
    say(
        "\n| real clips, 8 frames | " + " | ".join(WAYS) + " |\n|" + "---|" * (len(WAYS) + 1) + "\n"
    )
    for label, row in real_rows():
        say(f"| {label} | " + " | ".join(f"{row[way]:.1f}" for way in WAYS) + " |\n")


WAYS = ("recoloured", *("grain", "half as fast"), *LOST)


def real_rows() -> Iterator[tuple[str, dict[str, float]]]:
    """Motion fidelity on each real clip, frames close together and farther apart."""
    names = list(real_clips())
    for place, name in enumerate(names):
        for step in (1, 4):
            source = real(name, step)
            versions = {"recoloured": recoloured(source), **spoilt(source)}
            other = real(names[place - 1], step)
            _, height, width, _ = source.shape
            versions["another clip"] = resized(other, width, height)
            row = {way: number(motion_fidelity(source, versions[way])) for way in WAYS}
            yield f"{name}, every {step}", row


def resized(frames: np.ndarray, width: int, height: int) -> np.ndarray:
    import cv2

    return np.stack([cv2.resize(frame, (width, height)) for frame in frames])


def estimated(frames: np.ndarray) -> torch.Tensor:
    """Disparity by the built-in model's own estimator."""
    from dvcli.models import load
    from dvcli.models.disparity import estimate
    from dvcli.models.resolve import resolve

    global ESTIMATOR
    if ESTIMATOR is None:
        ESTIMATOR = load.depth_estimator(resolve("tiny") / "depth_estimator", "fp32", "cpu")
    return estimate(*ESTIMATOR, torch.from_numpy(np.ascontiguousarray(frames)))


ESTIMATOR = None


def agreement(source: torch.Tensor, result: torch.Tensor) -> tuple[float, float]:
    from dvcli.core.metrics import depth_agreement

    whole, rows = depth_agreement(source, result)
    return number(whole), number(rows)


def number(figure: float | None) -> float:
    assert figure is not None
    return figure


def spread(values: "list[float] | tuple[float, ...]") -> str:
    return f"{np.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def say(text: str) -> None:
    sys.stdout.write(text)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
