"""The phases of the training, each a short story over the files of one working folder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from diffusers import AutoencoderKL
from jaxtyping import Float
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from dvcli.bundled.train import card as cards
from dvcli.bundled.train import (
    coding,
    denoising,
    estimating,
    family,
    judging,
    matching,
    measuring,
    reading,
    shipping,
)
from dvcli.bundled.train.loop import Plan, Trainer, average_of
from dvcli.bundled.train.patches import Patches
from dvcli.bundled.train.pool import Pool, fill, rendered
from dvcli.bundled.world.layout import held_out
from dvcli.bundled.world.words import STYLES

PROBES = 96
Module = TypeVar("Module", bound=nn.Module)


def pool(work: Path, count: int, mix: str, workers: int) -> None:
    """Render the pool and fit the linear patch code."""
    for done in fill(work / "pool", 0, count, mix, workers):
        print(f"{done} of {count} scenes", flush=True)  # noqa: T201
    Patches.fit(Pool(work / "pool").pictures(slice(0, 4000))).save(work / "pca.safetensors")


def text(work: Path, plan: Plan) -> None:
    """Teach the text encoder to read captions."""
    words = _words(work)
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
    model = _vae(work).to(device)
    kept = work / "pool" / "latents.npy"
    count = min(count, scenes.count)
    shape = (count, 4, family.LATENT, family.LATENT)
    made = np.lib.format.open_memmap(
        kept.with_suffix(".partial"), mode="w+", dtype=np.float16, shape=shape
    )
    for at in range(0, count, 250):
        rows = slice(at, min(at + 250, count))
        with torch.autocast(device.split(":")[0], torch.bfloat16, enabled=half):
            part = _encoded(model, scenes.pictures(rows).to(device))
        made[rows] = part.cpu().half().numpy()
    made.flush()
    kept.with_suffix(".partial").replace(kept)


def unet(work: Path, plan: Plan) -> None:
    """Train the denoiser with depth."""
    _denoise(work, plan, "unet", 5)


def unet4(work: Path, plan: Plan) -> None:
    """Train the denoiser without depth, starting as the one with depth that is blind to it."""
    _denoise(work, plan, "unet4", 4)


def _denoise(work: Path, plan: Plan, name: str, channels: int) -> None:
    words, encoder = _words(work), _text(work).to(plan.device)
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
    feed = denoising.Feed.of(scenes, _pool_latents(work), words)
    probe = _probe(work, words)

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
        shadow = _loaded(family.depth_estimator(), trainer.averages["depth"])
        return {"r2": estimating.agreement(shadow, truth, given.pictures.depth)}

    trainer.run(loss, probe, 250)


def clip(work: Path, plan: Plan) -> None:
    """Teach the CLIP of evaluation; its text tower starts from the text encoder that reads."""
    words, scenes = _words(work), Pool(work / "pool")
    torch.manual_seed(plan.seed + 4)
    model, naming = family.clip(words), matching.Naming()
    model.text_model.load_state_dict(_text(work).state_dict())
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
        shadow = _loaded(family.clip(words), trainer.averages["clip"])
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
        shadow = _loaded(judging.Verdict(), trainer.averages["judge"])
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


def evaluate(work: Path, count: int, device: str) -> None:
    """Measure whatever is trained on held-out scenes; the figures go to `metrics.json`."""
    words, figures = _words(work), {}
    judge_model = _loaded(judging.Verdict(), average_of(work / "judge", "judge"))
    any_scene = measuring.held_out_scenes(count, "any")
    two = measuring.held_out_scenes(count, "two")
    truth = any_scene.pictures.image.float() / 127.5 - 1
    figures["judge on true renders"] = measuring.ceiling(judge_model, any_scene)
    figures["judge on true renders, two things"] = measuring.ceiling(judge_model, two)
    model = _vae(work)
    styles = any_scene.layout.style
    psnr = {s: coding.fidelity(model, truth[styles == i]) for i, s in enumerate(STYLES)}
    figures["vae psnr"] = {"all": coding.fidelity(model, truth), **psnr}
    estimator = _loaded(family.depth_estimator(), average_of(work / "depth", "depth"))
    r2 = estimating.agreement(estimator, truth, any_scene.pictures.depth)
    figures["depth"] = {"aligned r2": r2}
    seen = _loaded(family.clip(words), average_of(work / "clip", "clip"))
    figures["clip"] = matching.matches(seen, truth, any_scene.scenes, words)
    noise = denoising.Noise.of(family.scheduler(), binding=False)
    probe = _probe(work, words)
    for name, channels in (("unet", 5), ("unet4", 4)):
        if not (work / name / "checkpoint.pt").exists():
            continue
        denoiser = _loaded(family.unet(channels), average_of(work / name, name)).to(device)
        told = _text(work).to(device)
        model.to(device)
        figures[f"{name} probe"] = probe.figures(denoiser, told, noise)
        if channels == 5:
            for kind, given in (("any", any_scene), ("two things", two)):
                figures[f"{name} following, {kind}"], _ = measuring.following(
                    denoiser, told, words, family.scheduler(), _decoder(model), judge_model, given
                )
    seen_by = {
        name: json.loads((work / name / "log.jsonl").read_text().splitlines()[-1])["seen"]
        for name in TRAINED
        if (work / name / "log.jsonl").exists()
    }
    figures["samples seen"] = seen_by
    rounded = {
        part: {key: round(value, 4) for key, value in row.items()} for part, row in figures.items()
    }
    (work / "metrics.json").write_text(json.dumps(rounded, indent=2) + "\n")
    print(json.dumps(rounded, indent=2))  # noqa: T201


def export(work: Path, place: Path) -> None:
    """Put the trained family, its card, its figures and its training logs in place."""
    words = _words(work)
    metrics = (work / "metrics.json").read_text()
    logs = {
        f"training/{name}.jsonl": (work / name / "log.jsonl").read_text()
        for name in TRAINED
        if (work / name / "log.jsonl").exists()
    }
    beside = {"README.md": cards.card(json.loads(metrics)), "metrics.json": metrics, **logs}
    shipping.export_depth_family(
        place / "tiny",
        _vae(work),
        _text(work),
        words,
        _loaded(family.unet(5), average_of(work / "unet", "unet")),
        family.scheduler(),
        _loaded(family.depth_estimator(), average_of(work / "depth", "depth")),
        beside,
    )
    if (work / "unet4" / "checkpoint.pt").exists():
        shipping.export_text_family(
            place / "tiny-t2i",
            _vae(work),
            _text(work),
            words,
            _loaded(family.unet(4), average_of(work / "unet4", "unet4")),
            family.scheduler(),
            {"README.md": cards.pointer("the same family without depth")},
        )
    shipping.export_clip(
        place / "tiny-clip",
        _loaded(family.clip(words), average_of(work / "clip", "clip")),
        words,
        {"README.md": cards.pointer("the CLIP that scores the family's pictures offline")},
    )


def _words(work: Path) -> CLIPTokenizer:
    return family.tokenizer()


def _loaded(module: Module, state: dict[str, Tensor]) -> Module:
    module.load_state_dict({key: value.cpu() for key, value in state.items()})
    return module.eval().requires_grad_(False)


def _text(work: Path) -> CLIPTextModel:
    return _loaded(family.text_encoder(_words(work)), average_of(work / "text", "text"))


def _vae(work: Path) -> AutoencoderKL:
    return _loaded(family.vae(), average_of(work / "vae", "vae"))


@torch.no_grad()
def _encoded(model: AutoencoderKL, pictures: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 4 a b"]:
    parts = [model.encode(some).latent_dist.mode() for some in torch.split(pictures, 50)]
    codes: Float[Tensor, "n 4 a b"] = torch.cat(parts) * model.config.scaling_factor
    return codes


def _decoder(model: AutoencoderKL) -> measuring.Decode:
    @torch.no_grad()
    def decode(x: Float[Tensor, "n 4 a b"]) -> Float[Tensor, "n 3 h w"]:
        shown: Float[Tensor, "n 3 h w"] = model.decode(x / model.config.scaling_factor).sample
        return shown

    return decode


def _pool_latents(work: Path) -> Float[Tensor, "n 4 a b"]:
    """The autoencoder's latents of the pool where there are any, else the linear code's."""
    kept = work / "pool" / "latents.npy"
    if kept.exists():
        return torch.from_numpy(np.load(kept))
    patches, scenes = Patches.load(work / "pca.safetensors"), Pool(work / "pool")
    rows = range(0, scenes.count, 1000)
    return torch.cat([patches.encode(scenes.pictures(slice(i, i + 1000))).half() for i in rows])


def _probe(work: Path, words: CLIPTokenizer) -> denoising.Probe:
    given = measuring.held_out_scenes(PROBES, "two", start=10**6)
    pictures = given.pictures.image.float() / 127.5 - 1
    if (work / "pool" / "latents.npy").exists():
        codes = _encoded(_vae(work), pictures)
    else:
        codes = Patches.load(work / "pca.safetensors").encode(pictures)
    truth = given.pictures
    return denoising.Probe.of(given.scenes, codes, truth.depth, truth.owner, words)
