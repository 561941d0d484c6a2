"""Phase `text`: the text encoder learns to understand captions before anything is drawn.

From every position at or after the end of the text, linear heads must read off what stands in
front, what behind it, where, and painted how; from a thing's own noun its colour and shape. This
is what CLIP's pre-training is to Stable Diffusion, and without it a small denoiser does not learn
which colour belongs to which thing. The heads are thrown away.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import CLIPTextModel, CLIPTokenizer

from dvcli.bundled.train.family import WIDTH, encode
from dvcli.bundled.world.layout import EVERYDAY, draw
from dvcli.bundled.world.words import (
    COLOURS,
    PLACES,
    RELATIONS,
    SHAPES,
    STYLES,
    Scene,
    parse,
    sentences,
)

# shape and colour of each slot (last class: empty), place and style (last: unsaid), relation
SIZES = (
    *(len(SHAPES) + 1,) * 3,
    *(len(COLOURS) + 1,) * 3,
    len(PLACES) + 1,
    len(STYLES) + 1,
    len(RELATIONS),
)


class Reader(nn.Module):
    """Linear heads on the text encoder's states."""

    def __init__(self) -> None:
        super().__init__()
        self.whole = nn.Linear(WIDTH, sum(SIZES))
        self.noun = nn.Linear(WIDTH, len(SHAPES) + len(COLOURS))


def meaning(scene: Scene) -> list[int]:
    """The classes of a scene, in the order of the heads."""
    pad = 3 - len(scene.things)
    return [
        *(SHAPES.index(t.shape) for t in scene.things),
        *(len(SHAPES),) * pad,
        *(COLOURS.index(t.colour) for t in scene.things),
        *(len(COLOURS),) * pad,
        len(PLACES) if scene.place is None else PLACES.index(scene.place),
        len(STYLES) if scene.style is None else STYLES.index(scene.style),
        RELATIONS.index(scene.relation),
    ]


class Captions:
    """Captions with their meanings, drawn without end from a generator."""

    def __init__(self, words: CLIPTokenizer) -> None:
        self.words = words
        self.nouns = {words(shape).input_ids[1]: i for i, shape in enumerate(SHAPES)}

    def batch(
        self, size: int, generator: torch.Generator
    ) -> tuple[Int[Tensor, "n l"], Int[Tensor, "n k"], Int[Tensor, "n l 2"]]:
        """Token ids, meanings, and at every noun its shape and colour (-100 elsewhere)."""
        seeds = torch.randint(2**30, (size,), generator=generator).tolist()
        texts, scenes = [], []
        for seed in seeds:
            rng = np.random.default_rng((seed, 3))
            scene = draw(seed, EVERYDAY)
            scene = Scene(
                things=scene.things,
                place=None if rng.random() < 0.15 else scene.place,
                style=None if rng.random() < 0.2 else scene.style,
                relation=scene.relation,
            )
            ways = sentences(scene)
            text = ways[int(rng.integers(len(ways)))] if rng.random() < 0.6 else ways[0]
            texts.append(text)
            scenes.append(scene)
        ids = encode(self.words, texts)
        nouns = torch.full((*ids.shape, 2), -100)
        for row, (text, scene) in enumerate(zip(texts, scenes, strict=True)):
            things = list(scene.things)
            if parse(text) != scene:
                raise AssertionError(f"`{text}` reads as another scene")
            if "behind" in text or "right" in text:
                things.reverse()
            found = [at for at, token in enumerate(ids[row].tolist()) if token in self.nouns]
            for at, thing in zip(found, things, strict=False):
                nouns[row, at] = torch.tensor(
                    [SHAPES.index(thing.shape), COLOURS.index(thing.colour)]
                )
        return ids, torch.tensor([meaning(scene) for scene in scenes]), nouns


def reading_loss(
    text: CLIPTextModel,
    reader: Reader,
    batch: tuple[Int[Tensor, "n l"], Int[Tensor, "n k"], Int[Tensor, "n l 2"]],
) -> tuple[Float[Tensor, ""], float]:
    """The cross entropy of all heads, and the share of end positions read without a fault."""
    ids, wanted, nouns = batch
    states = text(ids).last_hidden_state
    ended = (ids == text.config.eos_token_id).nonzero()
    at = states[ended[:, 0], ended[:, 1]]
    targets = wanted[ended[:, 0]]
    parts = reader.whole(at).split(SIZES, dim=1)
    losses = [cross_entropy(part, targets[:, i]) for i, part in enumerate(parts)]
    right = torch.stack([part.argmax(1) == targets[:, i] for i, part in enumerate(parts)])
    shape, colour = reader.noun(states).split((len(SHAPES), len(COLOURS)), dim=2)
    own = cross_entropy(shape.flatten(0, 1), nouns[..., 0].flatten())
    own = own + cross_entropy(colour.flatten(0, 1), nouns[..., 1].flatten())
    loss = torch.stack(losses).sum() + own
    return loss, float(right.all(dim=0).float().mean())
