"""The model card that ships beside the weights, with the figures of this very export."""

Figures = dict[str, dict[str, float]]

_CARD = """---
license: apache-2.0
library_name: diffusers
pipeline_tag: image-to-image
tags: [depth, text-to-image, tiny, synthetic]
---

# The tiny depth-diffusion family of dvid

A complete `StableDiffusionDepth2ImgPipeline` in {megabytes:.0f} MB, for 64×64 pictures of a small
rendered world. It has the formats and the behaviour of Stable Diffusion 2 depth (same schedule,
same five channels, same components), so that everything the program does can be run, tested and
shown without a download and without a GPU.

**It is** a depth- and text-conditioned denoiser for scenes of one to three named things (ball,
cube, cone, cylinder, ring; bear, panda, tiger, lion, rabbit) in nine colours, in eight places
(snow, grass, sand, water, a forest, a city, a room, night), in three styles (photorealism,
animation, impressionism).

**It is not** a general image model. It knows no other word, no face, no person and no photograph;
its "photorealism" is a shaded rendering. Do not compare its pictures or its CLIP scores with
those of real checkpoints.

## Parts

| part | class | shape |
|---|---|---|
| `vae` | AutoencoderKL | 64 px to 16×16×4, factor 4 |
| `unet` | UNet2DConditionModel | 5 in, 4 out, levels 64 and 128 |
| `text_encoder`, `tokenizer` | CLIPTextModel, CLIPTokenizer | 128 wide, 3 layers, 32 tokens |
| `depth_estimator` | DPTForDepthEstimation | 64 px, inverse depth |
| `scheduler` | DDIMScheduler | scaled linear 0.00085 to 0.012, epsilon, terminal SNR not zero |

`tiny-t2i` beside it is the same family with a four-channel denoiser that sees no depth, and
`tiny-clip` a CLIP of the same world for scoring. Weights are float16 on disk; on a CPU load them
as float32.

## Data and training

Scenes are drawn from seeds and rendered by `dvcli.bundled.world`, with exact inverse depth;
nothing else was used. Seeds from 2^40 on are held out. `docs/training.md` of the project has the
commands, how long they took on which machine and how close a repetition comes; the log of every
phase is in `training/`. Words that work best are the world's
own, front thing first: `a red ball in front of a blue cube on snow, impressionism style`.
Guidance 4 to 7.

## Figures on held-out scenes

{figures}

"following" is read by a judge network on pictures sampled from noise with exact depth and the
caption (25 DDIM steps, guidance 5); the judge's own figures on true renders are its ceiling.
"swap" is the share of two-thing scenes in which the true caption explains the noise on the things
better than the one with the two colours exchanged, at that step of the schedule.

## Licence

Apache-2.0, weights included. The weights were trained from nothing on pictures this project
renders.
"""


def card(figures: Figures, megabytes: float = 13.0) -> str:
    """The card with a table per group of figures."""
    tables = []
    for part, row in figures.items():
        lines = [f"**{part}**", "", "| figure | value |", "|---|---|"]
        lines += [f"| {key} | {value:,.4g} |" for key, value in row.items()]
        tables.append("\n".join(lines))
    return _CARD.format(figures="\n\n".join(tables), megabytes=megabytes)


def pointer(what: str) -> str:
    """A short card for a folder whose full card is the family's."""
    return (
        "---\nlicense: apache-2.0\nlibrary_name: diffusers\n---\n\n"
        f"Part of the tiny depth-diffusion family of dvid: {what}. What it is and is not, its\n"
        "data and its figures are in the card of `tiny`. Licence Apache-2.0.\n"
    )
