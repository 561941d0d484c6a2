"""Phases `evaluate` and `export`: the figures of whatever is trained, and the folders that ship."""

import json
from pathlib import Path

from transformers import DPTForDepthEstimation

from dvcli.bundled.train import card as cards
from dvcli.bundled.train import (
    coding,
    denoising,
    estimating,
    family,
    judging,
    matching,
    measuring,
    shipping,
)
from dvcli.bundled.train.kept import decoder, loaded, probe_of, text_of, vae_of, words_of
from dvcli.bundled.train.loop import average_of, spent
from dvcli.bundled.train.phases import TRAINED
from dvcli.bundled.train.pool import Rendered
from dvcli.bundled.world.words import STYLES


def evaluate(work: Path, count: int, device: str) -> None:
    """Measure whatever is trained on held-out scenes; the figures go to `metrics.json`."""
    words, figures = words_of(work), {}
    judge_model = loaded(judging.Verdict(), average_of(work / "judge", "judge"))
    any_scene = measuring.held_out_scenes(count, "any")
    two = measuring.held_out_scenes(count, "two")
    truth = any_scene.pictures.image.float() / 127.5 - 1
    figures["judge on true renders"] = measuring.ceiling(judge_model, any_scene)
    figures["judge on true renders, two things"] = measuring.ceiling(judge_model, two)
    model = vae_of(work)
    styles = any_scene.layout.style
    psnr = {s: coding.fidelity(model, truth[styles == i]) for i, s in enumerate(STYLES)}
    figures["vae psnr"] = {"all": coding.fidelity(model, truth), **psnr}
    estimator = loaded(family.depth_estimator(), average_of(work / "depth", "depth"))
    r2 = estimating.agreement(estimator, truth, any_scene.pictures.depth)
    figures["depth"] = {"aligned r2": r2}
    seen = loaded(family.clip(words), average_of(work / "clip", "clip"))
    figures["clip"] = matching.matches(seen, truth, any_scene.scenes, words)
    noise = denoising.Noise.of(family.scheduler(), binding=False)
    probe = probe_of(work, words)
    for name, channels in (("unet", 5), ("unet4", 4)):
        if not (work / name / "checkpoint.pt").exists():
            continue
        denoiser = loaded(family.unet(channels), average_of(work / name, name)).to(device)
        told = text_of(work).to(device)
        model.to(device)
        figures[f"{name} probe"] = probe.figures(denoiser, told, noise)
        if channels == 5:
            passing = measuring.held_out_scenes(count, "passing")
            for kind, given in (
                ("any", any_scene),
                ("two things", two),
                ("two things, estimated depth", _guessed(estimator, two)),
                ("two things passing, estimated depth", _guessed(estimator, passing)),
            ):
                figures[f"{name} following, {kind}"], _ = measuring.following(
                    denoiser, told, words, family.scheduler(), decoder(model), judge_model, given
                )
    logs = _logs(work)
    figures["samples seen"] = {
        name: json.loads(log.splitlines()[-1])["seen"] for name, log in logs.items()
    }
    figures["hours of training"] = {name: spent(log) / 3600 for name, log in logs.items()}
    rounded = {
        part: {key: round(value, 4) for key, value in row.items()} for part, row in figures.items()
    }
    (work / "metrics.json").write_text(json.dumps(rounded, indent=2) + "\n")
    print(json.dumps(rounded, indent=2))  # noqa: T201


def _logs(work: Path) -> dict[str, str]:
    """The log of every phase that has one."""
    places = {name: work / name / "log.jsonl" for name in TRAINED}
    return {name: place.read_text() for name, place in places.items() if place.exists()}


def _guessed(estimator: DPTForDepthEstimation, given: Rendered) -> Rendered:
    """The scenes with the depth that the estimator sees in them."""
    depth = estimating.estimated(estimator, given.pictures.image.float() / 127.5 - 1)
    return given._replace(pictures=given.pictures._replace(depth=depth))


def export(work: Path, place: Path) -> None:
    """Put the trained family, its card, its figures and its training logs in place."""
    words = words_of(work)
    metrics = (work / "metrics.json").read_text()
    logs = {f"training/{name}.jsonl": log for name, log in _logs(work).items()}
    beside = {"README.md": cards.card(json.loads(metrics)), "metrics.json": metrics, **logs}
    shipping.export_depth_family(
        place / "tiny",
        vae_of(work),
        text_of(work),
        words,
        loaded(family.unet(5), average_of(work / "unet", "unet")),
        family.scheduler(),
        loaded(family.depth_estimator(), average_of(work / "depth", "depth")),
        beside,
    )
    if (work / "unet4" / "checkpoint.pt").exists():
        shipping.export_text_family(
            place / "tiny-t2i",
            vae_of(work),
            text_of(work),
            words,
            loaded(family.unet(4), average_of(work / "unet4", "unet4")),
            family.scheduler(),
            {"README.md": cards.pointer("the same family without depth")},
        )
    shipping.export_judge(
        place / "judge", loaded(judging.Verdict(), average_of(work / "judge", "judge"))
    )
    shipping.export_clip(
        place / "tiny-clip",
        loaded(family.clip(words), average_of(work / "clip", "clip")),
        words,
        {"README.md": cards.pointer("the CLIP that scores the family's pictures offline")},
    )
