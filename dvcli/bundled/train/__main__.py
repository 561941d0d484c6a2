"""`python -m dvcli.bundled.train PHASE`: make the built-in model from nothing, phase by phase.

    pool      render the training scenes                     (worker processes)
    text      the text encoder learns to read                needs nothing
    vae       the autoencoder                                needs pool
    latents   encode the pool with the autoencoder           needs pool, vae
    estimates the pool's depth as the estimator sees it      needs pool, depth (optional)
    unet      the denoiser with depth                        needs pool, text, latents
    unet4     the denoiser without depth, from the former    needs pool, text, latents, unet
    depth     the depth estimator                            needs pool
    clip      the CLIP for `dvid eval`                       needs pool, text
    judge     the judge of evaluation                        needs nothing
    evaluate  held-out figures of whatever is trained        needs judge
    export    the folders that ship, with card and figures   needs all of the above

Every phase resumes from its checkpoint; give a larger `--steps` to go on. `--cool N` lets the
learning rate fall to zero over the last N steps. On a GPU: `--device cuda --batch 256`.
"""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

import torch

from dvcli.bundled.train import finishing, phases
from dvcli.bundled.train.loop import Plan
from dvcli.bundled.train.pool import MIXES


@dataclass(frozen=True, kw_only=True)
class Usual:
    """What a phase does when not told otherwise."""

    steps: int
    batch: int
    lr: float
    cool: int
    warm: int = 200
    average: float = 0.999


USUAL = {
    "text": Usual(steps=1500, batch=96, lr=1.5e-3, cool=700, warm=100, average=0.99),
    "vae": Usual(steps=6000, batch=8, lr=1.5e-3, cool=2000, warm=100, average=0.998),
    "unet": Usual(steps=20000, batch=16, lr=1e-3, cool=4000, warm=300),
    "unet4": Usual(steps=6000, batch=16, lr=7e-4, cool=2000, warm=100),
    "depth": Usual(steps=2500, batch=16, lr=1e-3, cool=1000, warm=100, average=0.995),
    "clip": Usual(steps=2500, batch=48, lr=1e-3, cool=1000, warm=150, average=0.995),
    "judge": Usual(steps=900, batch=64, lr=2e-3, cool=500, warm=50, average=0.99),
}


def main() -> None:
    """Run one phase."""
    parser = argparse.ArgumentParser(
        prog="python -m dvcli.bundled.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    phase_names = ("pool", "latents", "estimates", *USUAL, "evaluate", "export")
    parser.add_argument("phase", choices=phase_names)
    parser.add_argument("--work", type=Path, default=Path("train"), help="where everything is kept")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="of `pool`")
    parser.add_argument("--count", type=int, default=48_000, help="of scenes")
    parser.add_argument("--mix", choices=tuple(MIXES), default="moving")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--lr", type=float)
    parser.add_argument("--cool", type=int)
    parser.add_argument("--half", action="store_true", help="bfloat16 arithmetic")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--to", type=Path, default=Path(__file__).parents[1], help="of `export`")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.device != "cpu":
        torch.set_float32_matmul_precision("high")  # on some CPUs this means bfloat16
    given.work.mkdir(parents=True, exist_ok=True)
    if given.phase == "pool":
        phases.pool(given.work, given.count, given.mix, given.workers)
    elif given.phase == "latents":
        phases.latents(given.work, given.count, given.device, given.half)
    elif given.phase == "estimates":
        phases.estimates(given.work, given.count, given.device, given.half)
    elif given.phase == "evaluate":
        finishing.evaluate(given.work, min(given.count, 200), given.device)
    elif given.phase == "export":
        finishing.export(given.work, given.to)
    else:
        usual = USUAL[given.phase]
        plan = Plan(
            steps=usual.steps if given.steps is None else given.steps,
            batch=usual.batch if given.batch is None else given.batch,
            lr=usual.lr if given.lr is None else given.lr,
            cool=usual.cool if given.cool is None else given.cool,
            warm=usual.warm,
            average=usual.average,
            seed=given.seed,
            device=given.device,
            half=given.half,
        )
        phases.TRAINED[given.phase](given.work, plan)


if __name__ == "__main__":
    main()
