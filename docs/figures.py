"""Make the pictures of these pages, all from the demo's clip and the built-in model.

    python docs/figures.py [NAME...]

A sweep shows what a control of sampling visibly does: above each column stands the control's value;
the first row is the depth that the network is given, below it are two frames of the new clip. The
stories show the method at work: `refine`, `edits`, `stages`, `demo` and `gallery`. What is in the
cache is not computed again.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file

import dvcli
from dvcli import Depths, Frames, Inverted, Sampled, Tuned
from dvcli.core.depth import to_condition
from dvcli.recipe_json import from_json
from dvcli.recipes import Controls, Sample
from dvcli.report.lettering import draw, font_for
from dvcli.stages import find
from dvcli.store import Store
from dvcli.video import frames as frame_file
from dvcli.video.write import write

Picture = NDArray[np.uint8]

PLACE = Path(__file__).parent / "images"
CLIP = Path(dvcli.__file__).parent / "bundled" / "demo.mp4"
CAPTION = "a red ball in front of a blue cube on snow, photorealism style"
EDIT = "a green ball in front of a yellow cube on snow, photorealism style"
THINGS = "a green ball in front of a yellow cube"  # of no place and no style
RUN, OTHER = "figures", "figures-mirrored"
SHOWN = (2, 5)  # of eight frames
TILE, GAP, WORDS = 144, 6, 26
FEW_STEPS = 6  # a plain inversion of so few shows what it misses


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """One control's option at several values; `neutral` is the one that changes nothing."""

    option: str
    values: tuple[str, ...]
    neutral: str
    beside: tuple[str, ...] = ()
    prompt: str = EDIT


SWEEPS = {
    "gain": Sweep(option="--depth-gain", values=("0", "0.25", "0.5", "1", "2"), neutral="1"),
    "bias": Sweep(option="--depth-bias", values=("-1", "-0.5", "0", "0.5", "1"), neutral="0"),
    "gamma": Sweep(option="--depth-gamma", values=("0.3", "0.6", "1", "1.7", "3"), neutral="1"),
    "near": Sweep(option="--depth-near", values=("-0.5", "0", "0.5", "1"), neutral="1"),
    "far": Sweep(option="--depth-far", values=("-1", "-0.5", "0", "0.5"), neutral="-1"),
    "smooth": Sweep(option="--depth-smooth", values=("0", "1", "2", "4"), neutral="0"),
    "active": Sweep(option="--depth-active", values=("0", "0.1", "0.25", "0.5", "1"), neutral="1"),
    "blend": Sweep(
        option="--depth-blend",
        values=("0", "0.25", "0.5", "0.75", "1"),
        neutral="0",
        beside=("--depth-from", OTHER),
    ),
    "strength": Sweep(option="--strength", values=("0", "0.4", "0.6", "0.8", "1"), neutral="1"),
    "guidance": Sweep(option="--guidance", values=("1", "2", "4", "7.5", "12.5"), neutral="4"),
    "guidance-from": Sweep(
        option="--guidance-from", values=("0", "0.2", "0.4", "0.8"), neutral="0"
    ),
    "guidance-until": Sweep(
        option="--guidance-until", values=("0.2", "0.4", "0.8", "1"), neutral="1"
    ),
    "negative": Sweep(
        option="--negative",
        values=("", "in a forest", "photorealism style", "a yellow cube", "on snow"),
        neutral="",
        prompt=THINGS,
    ),
}


def dvid(*words: str) -> str:
    """What one command prints."""
    command = [sys.executable, "-m", "dvcli", *words]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def prepare(folder: Path) -> None:
    """The run that every sweep samples from, and another clip's depth to blend with."""
    options = ("--model", "tiny", "--steps", "60", "--lr", "3e-4")
    dvid("tune", str(CLIP), CAPTION, *options, "--run", RUN)
    dvid("invert", RUN, "--steps", "20", "--refine", "1", "--trajectory")
    from dvcli.video.read import read

    mirrored = read(CLIP, frames=None, size=None, fit="crop").frames[:, :, ::-1]
    folder.mkdir(parents=True, exist_ok=True)
    clip = folder / "mirrored.webp"
    write(clip, np.ascontiguousarray(mirrored), fps=8, metadata=None)
    dvid("extract", str(clip), "--size", "64", "--run", OTHER)
    dvid("depth", OTHER, "--model", "tiny")


def sampled(sweep: Sweep, value: str) -> tuple[Picture, Picture]:
    """(the depth given to the network as grey levels, the frames) at one value."""
    options = ["-p", sweep.prompt, "--guidance", "4", sweep.option, value]
    options += sweep.beside if value != sweep.neutral else ()
    folder = PLACE.parent.parent / "out" / RUN
    (line,) = dvid("sample", RUN, *options, "-o", str(folder), "--json").splitlines()
    path = json.loads(line)["path"]
    recipe = from_json(json.loads(dvid("show", path, "--json"))["recipe"])
    assert isinstance(recipe, Sample)
    store = Store.open()
    sample, tuned = find(recipe, store), recipe.inverted.tuned
    assert sample is not None
    frames = frame_file.load(sample.path("frames"))
    maps = [find(depth, store) for depth in (tuned.depth, recipe.blend) if depth is not None]
    raw = [load_file(found.path("disparity"))["disparity"] for found in maps if found is not None]
    size = (frames.shape[1], frames.shape[2])
    d = to_condition(raw[0], size, tuned.normalise, recipe.controls, *raw[1:])
    grey = ((d[:, 0].numpy() + 1) * 127.5).round().astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1), frames


def drawn(sweep: Sweep) -> Image.Image:
    """The sweep's picture."""
    columns = [sampled(sweep, value) for value in sweep.values]
    across = TILE + GAP
    height = WORDS + 3 * across
    picture = Image.new("RGB", (len(columns) * across - GAP, height - GAP), (255, 255, 255))
    for column, (value, (depth, frames)) in enumerate(zip(sweep.values, columns, strict=True)):
        label = f"{value or 'none'}  (no change)" if value == sweep.neutral else value
        draw(picture, (column * across, 2), [label], font_for(label, 15), (40, 40, 40))
        for row, tile in enumerate((depth[SHOWN[0]], *(frames[i] for i in SHOWN))):
            shown = Image.fromarray(tile).resize((TILE, TILE), Image.Resampling.NEAREST)
            picture.paste(shown, (column * across, WORDS + row * across))
    return picture


def tuned() -> tuple[Frames, Depths, Tuned]:
    """The clip, its depth and what is learned of it, as `dvid demo` makes them."""
    clip = dvcli.extract(CLIP, size=64)
    near = dvcli.depth(clip, model="tiny")
    return clip, near, dvcli.tune(near, CAPTION, model="tiny", steps=60)


def learned() -> tuple[Frames, Depths, Inverted]:
    """The clip, its depth and the latent it comes from, as `dvid demo` makes them."""
    clip, near, known = tuned()
    return clip, near, dvcli.invert(known, steps=20, refine=1)


def edit(inverted: Inverted, prompt: str, style: str) -> Sampled:
    return dvcli.sample(inverted, prompt, style=style, guidance=4.0)


def condition(near: Depths, size: tuple[int, int]) -> Picture:
    """The depth that the network is given, as grey levels."""
    raw = load_file(near.paths["disparity"])["disparity"]
    d = to_condition(raw, size, "clip", Controls())
    return np.repeat(((d[:, 0].numpy() + 1) * 127.5).round().astype(np.uint8)[..., None], 3, -1)


def latent(inverted: Inverted) -> Picture:
    """Three channels of a latent as colours, from -2.5 to 2.5."""
    shown = inverted.latents[:, :3].transpose(0, 2, 3, 1)
    pixels: Picture = ((shown / 5 + 0.5).clip(0, 1) * 255).round().astype(np.uint8)
    return pixels


def refine(target: Path) -> None:
    """A column for each number of refinements at few steps, with how near the clip comes back.

    Rows: what the inversion gives back; what that misses of the best the autoencoder can, ×8; the
    edit from the same latent.
    """
    _, _, known = tuned()
    found = {
        n: dvcli.invert(known, steps=FEW_STEPS, refine=n, trajectory=True) for n in (0, 1, 3, 8)
    }
    best = dvcli.sample(found[0], EDIT, strength=0).frames.astype(int)
    across = TILE + GAP
    picture = Image.new("RGB", (len(found) * across - GAP, WORDS + 3 * across - GAP), "white")
    for column, (n, inverted) in enumerate(found.items()):
        label = f"{n}:  {inverted.psnr:.1f} dB"
        draw(picture, (column * across, 2), [label], font_for(label, 15), (40, 40, 40))
        back = inverted.reconstruction
        missed = (8 * abs(back - best)).clip(0, 255).astype(np.uint8)
        made = dvcli.sample(inverted, EDIT, guidance=4.0).frames
        for row, clip in enumerate((back, missed, made)):
            tile = Image.fromarray(clip[SHOWN[1]]).resize((TILE, TILE), Image.Resampling.NEAREST)
            picture.paste(tile, (column * across, WORDS + row * across))
    picture.save(target, optimize=True)


SAME = "a red ball in front of a blue cube on snow"
GREEN, FOREST = EDIT.partition(",")[0], "a red ball in front of a blue cube in a forest"


def edits(target: Path) -> None:
    """The moving picture of the README."""
    clip, near, inverted = learned()
    shown = {
        "your clip": clip.frames,
        "its depth": condition(near, (64, 64)),
        "“a green ball, a yellow cube”": edit(inverted, GREEN, "photorealism").frames,
        "“… in a forest”": edit(inverted, FOREST, "photorealism").frames,
        "--style animation": edit(inverted, SAME, "animation").frames,
        "--style impressionism": edit(inverted, SAME, "impressionism").frames,
    }
    side, gap, below, columns = 192, 8, 30, 3
    across, down = side + gap, side + below
    frames = []
    for number in range(len(clip.frames)):
        picture = Image.new("RGB", (columns * across - gap, 2 * down), (255, 255, 255))
        for place, (label, pixels) in enumerate(shown.items()):
            at = (place % columns * across, place // columns * down)
            tile = Image.fromarray(pixels[number]).resize((side, side), Image.Resampling.BICUBIC)
            picture.paste(tile, at)
            draw(picture, (at[0], at[1] + side + 5), [label], font_for(label, 14), (60, 60, 60))
        frames.append(picture)
    frames += frames[-2:0:-1]  # and back, so that the loop has no jump
    frames[0].save(
        target, save_all=True, append_images=frames[1:], duration=160, loop=0, quality=82, method=6
    )


def stages(target: Path) -> None:
    """The way of a clip through the method, a row for each station."""
    clip, near, inverted = learned()
    made = edit(inverted, GREEN, "photorealism").frames
    rows = {
        "V: the clip": clip.frames,
        "d: the depth that the network is given": condition(near, inverted.latents.shape[2:]),
        "z_T: the latent that the clip comes from": latent(inverted),
        "the clip again, out of z_T": inverted.reconstruction,
        f"V*: “{GREEN}”, out of the same z_T": made,
    }
    side, gap = 96, 4
    down = WORDS + side + 8
    picture = Image.new("RGB", (len(made) * (side + gap) - gap, len(rows) * down), (255, 255, 255))
    for row, (label, pixels) in enumerate(rows.items()):
        draw(picture, (0, row * down + 3), [label], font_for(label, 15), (40, 40, 40))
        for column, tile in enumerate(pixels):
            shown = Image.fromarray(tile).resize((side, side), Image.Resampling.NEAREST)
            picture.paste(shown, (column * (side + gap), row * down + WORDS))
    picture.save(target, optimize=True)


def demo(target: Path) -> None:
    """The contact sheet that `dvid demo` writes."""
    folder = target.parent.parent.parent / "out" / "demo"
    dvid("demo", "-o", str(folder))
    Image.open(folder / "demo.png").save(target, quality=85, method=6)


def gallery(target: Path) -> None:
    """Prompts × styles in motion, as `dvid report` lays them out."""
    dvid("tune", str(CLIP), CAPTION, "--model", "tiny", "--steps", "60", "--run", "gallery")
    dvid("invert", "gallery", "--steps", "20", "--refine", "1")
    prompts = [word for prompt in (SAME, GREEN, FOREST) for word in ("-p", prompt)]
    names = ("photorealism", "animation", "impressionism")
    styles = [word for style in names for word in ("-s", style)]
    folder = target.parent.parent.parent / "out" / "gallery"
    dvid("sample", "gallery", *prompts, *styles, "--guidance", "4", "-o", str(folder))
    wanted = ("--rows", "prompt", "--columns", "style", "--width", "720")
    dvid("report", "gallery", "-o", str(target), *wanted, "--overwrite")


STORIES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "refine": ("refine.png", refine),
    "edits": ("edits.webp", edits),
    "stages": ("stages.png", stages),
    "demo": ("demo.webp", demo),
    "gallery": ("gallery.webp", gallery),
}


def main() -> None:
    """Make the pictures of these names, or all."""
    PLACE.mkdir(exist_ok=True)
    asked = sys.argv[1:] or [*SWEEPS, *STORIES]
    if set(asked) & SWEEPS.keys():
        prepare(PLACE.parent.parent / "out")
    for name in asked:
        if name in SWEEPS:
            drawn(SWEEPS[name]).save(PLACE / f"{name}.png", optimize=True)
        else:
            file, make = STORIES[name]
            make(PLACE / file)


if __name__ == "__main__":
    main()
