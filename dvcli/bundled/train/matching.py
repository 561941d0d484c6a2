"""Phase `clip`: the CLIP that `dvid eval` uses offline, taught to hear colours, order and style.

Plain contrastive training ignores which colour belongs to which thing, so every picture also
meets captions that are wrong in one point: two colours exchanged, another shape, place or style.
"""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import CLIPModel, CLIPTokenizer

from dvcli.bundled.train.denoising import swapped
from dvcli.bundled.train.family import WIDTH, encode
from dvcli.bundled.train.reading import SIZES, meaning
from dvcli.bundled.world.words import COLOURS, PLACES, SHAPES, STYLES, Scene, Thing, caption

FAULTS = ("colour", "shape", "place", "style", "order")
SHARES = (0.6, 0.1, 0.1, 0.2)  # of the faults after the first; shapes are the hardest to see


class Naming(nn.Module):
    """Linear heads on the picture embedding, thrown away after training."""

    def __init__(self) -> None:
        super().__init__()
        self.whole = nn.Linear(WIDTH, sum(SIZES))


def _other(rng: np.random.Generator, names: tuple[str, ...], but: set[str]) -> str:
    left = [name for name in names if name not in but]
    return left[int(rng.integers(len(left)))]


def faulty(scene: Scene, fault: str, rng: np.random.Generator) -> Scene:
    """The scene with one fault; a fault that cannot be made becomes a wrong colour."""
    things = scene.things
    if fault == "place":
        return replace(scene, place=_other(rng, PLACES, {scene.place or ""}))
    if fault == "style":
        return replace(scene, style=_other(rng, STYLES, {scene.style or ""}))
    pair = len(things) >= 2 and scene.relation != "family"
    if fault == "order" and pair:
        return replace(scene, things=(things[1], things[0], *things[2:]))
    if fault == "colour" and pair:
        return swapped(scene)
    which = 0 if scene.relation == "family" else int(rng.integers(len(things)))
    old = things[which]
    if fault == "shape":
        new = Thing(shape=_other(rng, SHAPES, {old.shape}), colour=old.colour)
    else:
        new = Thing(shape=old.shape, colour=_other(rng, COLOURS, {t.colour for t in things}))
    if scene.relation == "family":
        return replace(scene, things=(new,) * len(things))
    return replace(scene, things=(*things[:which], new, *things[which + 1 :]))


def lines(scenes: list[Scene], words: CLIPTokenizer, seed: int) -> Int[Tensor, "m l"]:
    """Token ids of the true captions, then of two faulty captions for each.

    Cut after the longest one, which changes nothing: a text is read up to its end.
    """
    rng = np.random.default_rng(seed)
    texts = [caption(scene, spare=bool(rng.random() < 0.7)) for scene in scenes]
    texts += [caption(faulty(scene, "colour", rng)) for scene in scenes]
    others = rng.choice(FAULTS[1:], size=len(scenes), p=SHARES)
    texts += [
        caption(faulty(scene, str(fault), rng)) for scene, fault in zip(scenes, others, strict=True)
    ]
    ids = encode(words, texts)
    longest = int((ids == words.eos_token_id).int().argmax(dim=1).max())
    return ids[:, : longest + 1]


def matching_loss(
    model: CLIPModel,
    naming: Naming,
    pictures: Float[Tensor, "n 3 h w"],
    tokens: Int[Tensor, "m l"],
    scenes: list[Scene],
) -> Float[Tensor, ""]:
    """Contrast against all captions of the batch, each picture's own faulty ones, and naming."""
    n = len(pictures)
    device = pictures.device
    seen = model.vision_model(pictures).pooler_output
    image = model.visual_projection(seen)
    text = model.text_projection(model.text_model(tokens).pooler_output)
    image = image / image.norm(dim=1, keepdim=True)
    text = text / text.norm(dim=1, keepdim=True)
    scale = model.logit_scale.exp().clamp(max=100)
    every = scale * image @ text[:n].T
    own = text.view(-1, n, text.shape[1])
    near = scale * torch.einsum("nd,knd->nk", image, own)
    at = torch.arange(n, device=device)
    loss = (cross_entropy(every, at) + cross_entropy(every.T, at)) / 2
    loss = loss + cross_entropy(near, torch.zeros(n, dtype=torch.long, device=device))
    named = naming.whole(image * 11.3).split(SIZES, dim=1)
    truth = torch.tensor([meaning(scene) for scene in scenes], device=device)
    heads = [cross_entropy(part, truth[:, i]) for i, part in enumerate(named)]
    return loss + 0.3 * torch.stack(heads).sum()


@torch.no_grad()
def matches(
    model: CLIPModel,
    pictures: Float[Tensor, "n 3 h w"],
    scenes: list[Scene],
    words: CLIPTokenizer,
) -> dict[str, float]:
    """Retrieval@1 among the pictures' own captions, and the share that beats each fault."""

    def told(tokens: Int[Tensor, "m l"]) -> Float[Tensor, "m d"]:
        got = model.text_projection(model.text_model(tokens).pooler_output)
        unit: Float[Tensor, "m d"] = got / got.norm(dim=1, keepdim=True)
        return unit

    rng = np.random.default_rng(5)
    image = model.visual_projection(model.vision_model(pictures).pooler_output)
    image = image / image.norm(dim=1, keepdim=True)
    true = told(encode(words, [caption(scene) for scene in scenes]))
    found = (image @ true.T).argmax(dim=1) == torch.arange(len(scenes))
    figures = {"retrieval": float(found.float().mean())}
    score = (image * true).sum(dim=1)
    pair = torch.tensor([len(s.things) >= 2 and s.relation != "family" for s in scenes])
    for fault in FAULTS:
        wrong = told(encode(words, [caption(faulty(s, fault, rng)) for s in scenes]))
        right = score > (image * wrong).sum(dim=1)
        figures[fault] = float(
            (right[pair] if fault in ("colour", "order") else right).float().mean()
        )
    return figures
