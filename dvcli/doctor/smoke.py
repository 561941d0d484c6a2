"""The whole way once, on the built-in model and clip, two steps a stage, in a temporary store."""

import time
from pathlib import Path

from dvcli.doctor import Finding, Findings, Plans
from dvcli.errors import DvidError
from dvcli.models.fingerprint import Checkpoint, checkpoint
from dvcli.models.resolve import BUNDLED
from dvcli.recipes import Base, Depth, Extract, Invert, Recipe, Sample, Tune
from dvcli.runtime import Runtime
from dvcli.stages import realise
from dvcli.store import Store
from dvcli.video.digest import source_digest

CLIP = BUNDLED / "demo.mp4"
STEPS = 2


def run(plans: Plans) -> Findings:
    """A finding for each stage, with its seconds; none after one that failed."""
    with Store.open(temporary=True) as store:
        try:
            found = checkpoint("tiny", BUNDLED / "tiny", store.digest_file)
            clip = source_digest(CLIP, store.digest_file)
        except DvidError as error:
            fix = "install dvid again"
            yield Finding(name="smoke run", status="fail", said=error.message, fix=fix)
            return
        runtime = Runtime(
            device=plans.device, attention=plans.attention, locate=_places(found, clip).__getitem__
        )
        for recipe in _recipes(found, clip, plans):
            begun = time.monotonic()
            try:
                realise(recipe, store, runtime)
            except Exception as error:  # noqa: BLE001  # whatever it is, it would meet every user
                yield _failed(recipe, error)
                return
            took = time.monotonic() - begun
            yield Finding(name=f"smoke {recipe.stage}", said=f"{took:.1f} s")


def _places(found: Checkpoint, clip: str) -> "dict[str, Path]":
    return {part.digest: part.folder for part in found.components.values()} | {clip: CLIP}


def _recipes(found: Checkpoint, clip: str, plans: Plans) -> list[Recipe]:
    parts = {name: part.digest for name, part in found.components.items()}
    frames = Extract(clip=clip, frames=4, size=(64, 64))
    depth = Depth(frames=frames, estimator=parts["depth_estimator"])
    tuned = Tune(
        frames=frames,
        depth=depth,
        base=Base(
            unet=parts["unet"],
            vae=parts["vae"],
            text_encoder=parts["text_encoder"],
            tokenizer=parts["tokenizer"],
            scheduler=parts["scheduler"],
        ),
        prompt="a red ball",
        steps=STEPS,
        dtype=plans.dtype,
    )
    inverted = Invert(tuned=tuned, steps=STEPS, dtype=plans.dtype)
    return [
        frames,
        depth,
        tuned,
        inverted,
        Sample(inverted=inverted, prompt="a green ball", guidance=4, dtype=plans.dtype),
    ]


def _failed(recipe: Recipe, error: Exception) -> Finding:
    known = isinstance(error, DvidError)
    said = error.message if isinstance(error, DvidError) else f"{type(error).__name__}: {error}"
    fix = (error.hint if isinstance(error, DvidError) else None) or (
        "`--device cpu` or `--attention sdpa` may go round it" if not known else "see above"
    )
    return Finding(
        name=f"smoke {recipe.stage}", status="fail", said=" ".join(said.split())[:300], fix=fix
    )
