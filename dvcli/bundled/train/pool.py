"""A pool of rendered scenes on disk, that every phase of the training draws from.

Plain `.npy` files so that phases map them instead of loading them. A picture's scene is not stored:
it is drawn again from its seed.
"""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from dvcli.bundled.world.clips import MIX, passing
from dvcli.bundled.world.layout import BINDING, EVERYDAY, Layout, draw, lay, together
from dvcli.bundled.world.render import Pictures, render
from dvcli.bundled.world.words import Scene

LATENT = 16
BLOCK = 1000
# What is drawn; of "moving", every other scene is a moment of a clip as things pass each other.
MIXES = {"everyday": EVERYDAY, "binding": BINDING, "moving": BINDING}


class Rendered(NamedTuple):
    scenes: list[Scene]
    layout: Layout
    pictures: Pictures


def rendered(seeds: Sequence[int], mix: str = "everyday") -> Rendered:
    """Scenes, layouts and pictures of seeds, at once."""
    if mix == "moving":
        return _moving(seeds)
    scenes = [draw(seed, MIXES[mix]) for seed in seeds]
    layout = lay(scenes, seeds)
    return Rendered(scenes, layout, render(layout))


def _moving(seeds: Sequence[int]) -> Rendered:
    still = [seed for seed in seeds if not seed % 2]
    moved = [seed for seed in seeds if seed % 2]
    parts: list[Layout] = []
    scenes: dict[int, Scene] = {}
    if still:
        drawn = [draw(seed, BINDING) for seed in still]
        parts.append(lay(drawn, still))
        scenes |= dict(zip(still, drawn, strict=True))
    if moved:
        drawn, layout = passing(moved)
        parts.append(layout)
        scenes |= dict(zip(moved, drawn, strict=True))
    where = {seed: row for row, seed in enumerate((*still, *moved))}
    layout = together(parts)[torch.tensor([where[seed] for seed in seeds])]
    return Rendered([scenes[seed] for seed in seeds], layout, render(layout))


def conditions(depth: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n 1 16 16"]:
    """Depth maps as the stock depth pipeline feeds them: bicubic, then each to [-1, 1]."""
    small = interpolate(depth.float(), size=(LATENT, LATENT), mode="bicubic", align_corners=False)
    low, high = small.amin(dim=(1, 2, 3), keepdim=True), small.amax(dim=(1, 2, 3), keepdim=True)
    return 2 * (small - low) / (high - low).clamp(min=1e-6) - 1


class Pool:
    """Rendered scenes of the seeds `range(first, first + len)`, read from a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        about = json.loads((folder / "pool.json").read_text())
        self.first, self.count, self.mix = about["first"], about["count"], about["mix"]
        self.images = np.load(folder / "images.npy", mmap_mode="r")
        self.depths = np.load(folder / "depths.npy", mmap_mode="r")
        self.owners = np.load(folder / "owners.npy", mmap_mode="r")

    def pictures(self, rows: Tensor | slice) -> Float[Tensor, "n 3 64 64"]:
        """Pictures in [-1, 1]."""
        picked = rows.numpy() if isinstance(rows, Tensor) else rows
        return torch.from_numpy(np.array(self.images[picked])).float() / 127.5 - 1

    def depth(self, rows: Tensor | slice) -> Float[Tensor, "n 1 64 64"]:
        picked = rows.numpy() if isinstance(rows, Tensor) else rows
        return torch.from_numpy(np.array(self.depths[picked])).float()

    def things(self, rows: Tensor | slice) -> Float[Tensor, "n 1 16 16"]:
        """How much of each latent cell is covered by things, 0 to 1."""
        picked = rows.numpy() if isinstance(rows, Tensor) else rows
        owner = torch.from_numpy(np.array(self.owners[picked]))
        return interpolate((owner > 0).float()[:, None], size=(LATENT, LATENT), mode="area")

    def scene(self, row: int) -> Scene:
        seed = self.first + row
        return draw(seed, MIX if self.mix == "moving" and seed % 2 else MIXES[self.mix])

    def seed(self, row: int) -> int:
        return int(self.first + row)


def _block(job: tuple[int, int, str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    start, count, mix = job
    torch.set_num_threads(1)
    got = rendered(range(start, start + count), mix).pictures
    return got.image.numpy(), got.depth.half().numpy(), got.owner.to(torch.uint8).numpy()


def fill(folder: Path, first: int, count: int, mix: str, workers: int) -> Iterator[int]:
    """Render a pool into `folder`, in worker processes; yields how many are done."""
    folder.mkdir(parents=True, exist_ok=True)
    shapes = {"images": (3, 64, 64), "depths": (1, 64, 64), "owners": (64, 64)}
    kinds = {"images": np.uint8, "depths": np.float16, "owners": np.uint8}
    files = [
        np.lib.format.open_memmap(
            folder / f"{name}.npy", mode="w+", dtype=kinds[name], shape=(count, *shape)
        )
        for name, shape in shapes.items()
    ]
    jobs = [(first + at, min(BLOCK, count - at), mix) for at in range(0, count, BLOCK)]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as executor:
        for (start, size, _), parts in zip(jobs, executor.map(_block, jobs), strict=True):
            at = start - first
            for file, part in zip(files, parts, strict=True):
                file[at : at + size] = part
            yield at + size
    for file in files:
        file.flush()
    about = {"first": first, "count": count, "mix": mix}
    (folder / "pool.json").write_text(json.dumps(about))
