"""How well edits of held-out clips come out on the built-in model, read by the training's judge.

    python benchmarks/edits.py --work TRAINING --clips 24 --steps 100 --into figures.json

Each clip shows two things that pass in front of each other. It goes through `dvid tune`, `invert`
and `sample` as a user's would, with three edits: the colours of both things, the place, the style.
A clip whose figures are in the file already is passed over, so the command may be repeated.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dvcli.bundled.train.judging import Verdict, cases, verdicts
from dvcli.bundled.train.kept import average_of, loaded
from dvcli.bundled.world.clips import course
from dvcli.bundled.world.layout import Layout, held_out
from dvcli.bundled.world.render import render
from dvcli.bundled.world.words import COLOURS, PLACES, STYLES, Scene, Thing, caption
from dvcli.cli.main import main as dvid
from dvcli.store import Store
from dvcli.video import frames as frame_file
from dvcli.video.write import write

FRAMES = 8


def two_things(count: int) -> list[int]:
    """The first held-out seeds whose clip shows two things that are no family."""
    return [
        seed
        for seed in held_out(10 * count)
        if len((scene := course(seed, 2)[0]).things) == 2 and scene.relation != "family"
    ][:count]


def edits(scene: Scene, rng: np.random.Generator) -> dict[str, Scene]:
    """The three edits of a scene, each to something it was not."""

    def other(names: tuple[str, ...], *but: str | None) -> str:
        return str(rng.choice([name for name in names if name not in but]))

    first = other(COLOURS, *(thing.colour for thing in scene.things))
    second = other(COLOURS, first, *(thing.colour for thing in scene.things))
    coloured = tuple(
        Thing(shape=thing.shape, colour=colour)
        for thing, colour in zip(scene.things, (first, second), strict=True)
    )
    return {
        "colours": replace(scene, things=coloured),
        "place": replace(scene, place=other(PLACES, scene.place)),
        "style": replace(scene, style=other(STYLES, scene.style)),
    }


def judged(judge: Verdict, frames: Tensor, layout: Layout) -> dict[str, float]:
    """The judge's figures over the frames of one clip, `[f 3 h w]` uint8, that shows the layout."""
    pictures = frames.float() / 127.5 - 1
    return verdicts(judge, cases(pictures, layout, render(layout)))


def run(*words: str) -> None:
    """One `dvid` command, which has to succeed."""
    code = dvid([*words, "-q"])
    if code:
        raise SystemExit(f"dvid {' '.join(words)}: exit {code}")


def last_sample() -> Tensor:
    """The frames of the sample that was made last, `[f 3 h w]` uint8."""
    store = Store.open()
    made = [entry for entry in store.entries() if entry.stage == "sample"]
    artifact = store.get(max(made, key=lambda entry: entry.created).key)
    if artifact is None:
        raise SystemExit("the last sample is not in the cache")
    return torch.from_numpy(frame_file.load(artifact.path("frames"))).permute(0, 3, 1, 2)


def measure(
    seed: int, judge: Verdict, steps: int, guidance: float, folder: Path
) -> dict[str, dict[str, float]]:
    """The figures of every edit of one clip, and of the clip itself."""
    scene, layout = course(seed, FRAMES)
    truth = render(layout).image
    clip = folder / f"{seed}.webp"  # lossless
    write(clip, np.ascontiguousarray(truth.permute(0, 2, 3, 1).numpy()), fps=8, metadata=None)
    name = f"{folder.name}-{seed}"  # a run is of one clip, by where it lies
    run("tune", str(clip), caption(scene), "--model", "tiny", "--steps", str(steps), "--run", name)
    run("invert", name, "--steps", "20", "--refine", "1")
    found = {"ceiling": judged(judge, truth, layout)}
    for what, wanted in edits(scene, np.random.default_rng(seed)).items():
        options = ["--guidance", str(guidance), "-o", str(folder)]
        run("sample", name, "-p", caption(wanted), *options)
        _, shown = course(seed, FRAMES, wanted)
        found[what] = judged(judge, last_sample(), shown)
    return found


def summary(found: dict[str, dict[str, dict[str, float]]]) -> dict[str, float]:
    """The shares over all clips that the bars are about."""

    def mean(values: list[float]) -> float:
        kept = [value for value in values if value == value]  # no clip where nothing was to judge
        return round(sum(kept) / max(len(kept), 1), 4)

    every = list(found.values())
    return {
        "clips": len(every),
        "place, after a place edit": mean([c["place"]["place"] for c in every]),
        "style, after a style edit": mean([c["style"]["style"] for c in every]),
        "each colour, after a colour edit": mean([c["colours"]["colour"] for c in every]),
        "both colours right, frames": mean([c["colours"]["all colours of several"] for c in every]),
        "both colours right in every frame, clips": mean(
            [float(c["colours"]["all colours of several"] == 1) for c in every]
        ),
        "shape, all edits": mean(
            [c[what]["shape"] for c in every for what in ("colours", "place", "style")]
        ),
        "ceiling, both colours right": mean(
            [c["ceiling"]["all colours of several"] for c in every]
        ),
    }


def main() -> None:
    """Measure clip after clip, keeping what is done."""
    form = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--work", type=Path, required=True, help="where the judge was trained")
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--steps", type=int, default=100, help="of tuning")
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--into", type=Path, default=Path("edits.json"))
    asked = parser.parse_args()
    judge = loaded(Verdict(), average_of(asked.work / "judge", "judge"))
    assert isinstance(judge, Verdict)
    found = json.loads(asked.into.read_text())["each"] if asked.into.exists() else {}
    with tempfile.TemporaryDirectory(prefix="edits-") as folder:
        for seed in two_things(asked.clips):
            if str(seed) in found:
                continue
            found[str(seed)] = measure(seed, judge, asked.steps, asked.guidance, Path(folder))
            told = {
                "summary": summary(found),
                "steps": asked.steps,
                "guidance": asked.guidance,
                "each": found,
            }
            asked.into.write_text(json.dumps(told, indent=1))
            print(seed, json.dumps(told["summary"]), flush=True)


if __name__ == "__main__":
    main()
