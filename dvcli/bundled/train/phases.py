"""The phases of the training, each a short story over the files of one working folder."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dvcli.bundled.train import (
    coding,
    denoising,
    estimating,
    family,
    judging,
    matching,
    measuring,
    reading,
)
from dvcli.bundled.train.kept import (
    encoded,
    loaded,
    pool_estimates,
    pool_latents,
    probe_of,
    text_of,
    vae_of,
    words_of,
)
from dvcli.bundled.train.loop import Plan, Trainer, average_of
from dvcli.bundled.train.patches import Patches
from dvcli.bundled.train.pool import Pool, conditions, fill, rendered
from dvcli.bundled.world.layout import held_out
from dvcli.bundled.world.words import STYLES


def pool(work: Path, count: int, mix: str, workers: int) -> None:
    """Render the pool and fit the linear patch code."""
    for done in fill(work / "pool", 0, count, mix, workers):
        print(f"{done} of {count} scenes", flush=True)  # noqa: T201
    Patches.fit(Pool(work / "pool").pictures(slice(0, 4000))).save(work / "pca.safetensors")


def text(work: Path, plan: Plan) -> None:
    """Teach the text encoder to read captions."""
    words = words_of(work)
    torch.manual_seed(plan.seed)
    encoder = family.text_encoder(words).to(plan.device)
    reader = reading.Reader().to(plan.device)
    captions = reading.Captions(words)
    trainer = Trainer(work / "text", plan, {"text": encoder, "reader": reader})
    right = 0.0

    def loss(step: int) -> Float[Tensor, ""]:
        nonlocal right
        batch = captions.batch(plan.batch, trainer.generator)
        on = tuple(part.to(plan.device) for part in batch)
        value, right = reading.reading_loss(encoder, reader, (on[0], on[1], on[2]))
        return value

    trainer.run(loss, lambda: {"right": right}, 250)


def vae(work: Path, plan: Plan) -> None:
    """Teach the autoencoder, from the linear code on."""
    scenes, patches = Pool(work / "pool"), Patches.load(work / "pca.safetensors").to(plan.device)
    torch.manual_seed(plan.seed + 2)
    model = coding.prepare(family.vae()).to(plan.device)
    trainer = Trainer(work / "vae", plan, {"vae": model})
    given = rendered(held_out(96))
    truth = given.pictures.image.float() / 127.5 - 1
    shadow = family.vae().eval()

    def loss(step: int) -> Float[Tensor, ""]:
        rows = torch.randint(scenes.count, (plan.batch,), generator=trainer.generator)
        pictures = scenes.pictures(rows)
        pictures = pictures.flip(3) if step % 2 else pictures
        return coding.coding_loss(model, pictures.to(plan.device), patches, step, trainer.generator)

    def probe() -> dict[str, float]:
        shadow.load_state_dict({k: v.cpu() for k, v in trainer.averages["vae"].items()})
        styles = given.layout.style
        return {s: coding.fidelity(shadow, truth[styles == i]) for i, s in enumerate(STYLES)}

    trainer.run(loss, probe, 400)


def latents(work: Path, count: int, device: str, half: bool) -> None:
    """Encode the first `count` scenes of the pool with the trained autoencoder."""
    scenes = Pool(work / "pool")
    model = vae_of(work).to(device)
    kept = work / "pool" / "latents.npy"
    count = min(count, scenes.count)
    shape = (count, 4, family.LATENT, family.LATENT)
    made = np.lib.format.open_memmap(
        kept.with_suffix(".partial"), mode="w+", dtype=np.float16, shape=shape
    )
    for at in range(0, count, 250):
        rows = slice(at, min(at + 250, count))
        with torch.autocast(device.split(":")[0], torch.bfloat16, enabled=half):
            part = encoded(model, scenes.pictures(rows).to(device))
        made[rows] = part.cpu().half().numpy()
    made.flush()
    kept.with_suffix(".partial").replace(kept)


def estimates(work: Path, count: int, device: str, half: bool) -> None:
    """Let the trained estimator see the first `count` scenes of the pool."""
    scenes = Pool(work / "pool")
    model = loaded(family.depth_estimator(), average_of(work / "depth", "depth")).to(device)
    parts = []
    for at in range(0, min(count, scenes.count), 250):
        pictures = scenes.pictures(slice(at, min(at + 250, count))).to(device)
        with torch.no_grad(), torch.autocast(device.split(":")[0], torch.bfloat16, enabled=half):
            parts.append(conditions(estimating.estimated(model, pictures).cpu()).half())
    np.save(work / "pool" / "estimates.npy", torch.cat(parts).numpy())


def unet(work: Path, plan: Plan) -> None:
    """Train the denoiser with depth."""
    _denoise(work, plan, "unet", 5)


def unet4(work: Path, plan: Plan) -> None:
    """Train the denoiser without depth, starting as the one with depth that is blind to it."""
    _denoise(work, plan, "unet4", 4)


def _denoise(work: Path, plan: Plan, name: str, channels: int) -> None:
    words, encoder = words_of(work), text_of(work).to(plan.device)
    scenes = Pool(work / "pool")
    torch.manual_seed(plan.seed + 1)
    model = denoising.prepare(family.unet(channels))
    if channels == 4 and (work / "unet" / "checkpoint.pt").exists():
        held = average_of(work / "unet", "unet")
        held["conv_in.weight"] = held["conv_in.weight"][:, :4]
        model.load_state_dict(held)
    model.to(plan.device)
    trainer = Trainer(work / name, plan, {name: model})
    early = denoising.Noise.of(family.scheduler(), binding=True)
    late = denoising.Noise.of(family.scheduler(), binding=False)
    feed = denoising.Feed.of(scenes, pool_latents(work), pool_estimates(work), words)
    probe = probe_of(work, words)

    def loss(step: int) -> Float[Tensor, ""]:
        examples = feed.batch(plan.batch, trainer.generator)
        with torch.no_grad():
            states = encoder(examples.tokens.to(plan.device)).last_hidden_state
        bound = channels == 4 or step * plan.batch >= denoising.BINDING
        noise = late if bound else early
        return denoising.denoising_loss(model, states, examples, noise, trainer.generator)

    trainer.run(loss, lambda: probe.figures(model, encoder, late), 500)


def depth(work: Path, plan: Plan) -> None:
    """Teach the depth estimator."""
    scenes = Pool(work / "pool")
    torch.manual_seed(plan.seed + 3)
    model = family.depth_estimator().to(plan.device)
    trainer = Trainer(work / "depth", plan, {"depth": model})
    given = rendered(held_out(100))
    truth = given.pictures.image.float() / 127.5 - 1

    def loss(step: int) -> Float[Tensor, ""]:
        rows = torch.randint(scenes.count, (plan.batch,), generator=trainer.generator)
        pictures, target = scenes.pictures(rows), scenes.depth(rows)
        if step % 2:
            pictures, target = pictures.flip(3), target.flip(3)
        return estimating.estimating_loss(model, pictures.to(plan.device), target.to(plan.device))

    def probe() -> dict[str, float]:
        shadow = loaded(family.depth_estimator(), trainer.averages["depth"])
        return {"r2": estimating.agreement(shadow, truth, given.pictures.depth)}

    trainer.run(loss, probe, 250)


def clip(work: Path, plan: Plan) -> None:
    """Teach the CLIP of evaluation; its text tower starts from the text encoder that reads."""
    words, scenes = words_of(work), Pool(work / "pool")
    torch.manual_seed(plan.seed + 4)
    model, naming = family.clip(words), matching.Naming()
    model.text_model.load_state_dict(text_of(work).state_dict())
    model.to(plan.device)
    naming.to(plan.device)
    trainer = Trainer(work / "clip", plan, {"clip": model, "naming": naming}, {"clip": 1.0})
    given = rendered(held_out(200))
    truth = given.pictures.image.float() / 127.5 - 1

    def loss(step: int) -> Float[Tensor, ""]:
        rows = torch.randint(scenes.count, (plan.batch,), generator=trainer.generator)
        shown = [scenes.scene(row) for row in rows.tolist()]
        tokens = matching.lines(shown, words, step).to(plan.device)
        pictures = scenes.pictures(rows).to(plan.device)
        return matching.matching_loss(model, naming, pictures, tokens, shown)

    def probe() -> dict[str, float]:
        shadow = loaded(family.clip(words), trainer.averages["clip"])
        return matching.matches(shadow, truth, given.scenes, words)

    trainer.run(loss, probe, 250)


def judge(work: Path, plan: Plan) -> None:
    """Teach the judge, on scenes rendered as it goes."""
    torch.manual_seed(plan.seed + 5)
    model = judging.Verdict().to(plan.device)
    trainer = Trainer(work / "judge", plan, {"judge": model})
    given = rendered(held_out(200))

    def loss(step: int) -> Float[Tensor, ""]:
        first = int(torch.randint(2**30, (), generator=trainer.generator))
        batch = rendered(range(first, first + plan.batch))
        pictures = batch.pictures.image.float() / 127.5 - 1
        found = judging.cases(pictures, batch.layout, batch.pictures, trainer.generator)
        return judging.judging_loss(model, found.to(plan.device))

    def probe() -> dict[str, float]:
        shadow = loaded(judging.Verdict(), trainer.averages["judge"])
        return measuring.ceiling(shadow, given)

    trainer.run(loss, probe, 100)


TRAINED: dict[str, Callable[[Path, Plan], None]] = {
    "text": text,
    "vae": vae,
    "unet": unet,
    "unet4": unet4,
    "depth": depth,
    "clip": clip,
    "judge": judge,
}
