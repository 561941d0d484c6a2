"""What is in a recipe's key, and what is not, field by field; and that no key moves unnoticed."""

import math
import unicodedata
from collections.abc import Mapping
from dataclasses import fields, replace
from hashlib import sha256
from typing import Any

import pytest

from dvcli.errors import UsageError
from dvcli.recipe_json import to_json
from dvcli.recipes import (
    STAGES,
    Agreement,
    Base,
    CogVideoX,
    Controls,
    Depth,
    Eval,
    Extract,
    Invert,
    Likeness,
    Motion,
    Preference,
    Recipe,
    Render,
    Sample,
    Tune,
    VideoModel,
    method_of,
)
from dvcli.store.keys import key_of, preimage


def digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def key(recipe: Recipe, inputs: Mapping[str, str] | None = None) -> str:
    """The recipe's key. The key of the recipe that made an input stands for the input's content."""
    named = {role: key(part) for role, part in recipe.inputs.items()} if inputs is None else inputs
    made = {role: digest(f"{recipe.reads[role]} of {part}") for role, part in named.items()}
    return key_of(
        preimage(recipe.stage, recipe.version, {**made, **recipe.externals}, recipe.params)
    )


BASE = Base(
    unet=digest("unet"),
    vae=digest("vae"),
    text_encoder=digest("text encoder"),
    tokenizer=digest("tokenizer"),
    scheduler=digest("scheduler"),
)
EXTRACT = Extract(clip=digest("clip"))
DEPTH = Depth(frames=EXTRACT, estimator=digest("estimator"))
GIVEN = Depth(frames=EXTRACT, given=digest("given"))
OTHER = Depth(frames=Extract(clip=digest("another clip")), estimator=digest("estimator"))
TUNE = Tune(frames=EXTRACT, depth=DEPTH, base=BASE, prompt="a polar bear with her cubs")
BLIND = replace(TUNE, depth=None)
UNTUNED = replace(TUNE, steps=0)
LOOSE = replace(TUNE, temporal_weight=0)
INVERT = Invert(tuned=TUNE)
SAMPLE = Sample(inverted=INVERT, prompt="a tigress with her cubs", guidance=12.5)
UNGUIDED = replace(SAMPLE, guidance=1)
NOISE = replace(SAMPLE, start="noise")
BLENDED = replace(SAMPLE, controls=Controls(blend=0.5), blend=OTHER)
VIDEO_MODEL = VideoModel(
    transformer=digest("transformer"),
    vae=digest("video vae"),
    text_encoder=digest("t5"),
    tokenizer=digest("pieces"),
    scheduler=digest("sampler"),
)
COGVIDEOX = CogVideoX(frames=EXTRACT, model=VIDEO_MODEL, prompt="a tigress with her cubs", stride=6)
TEXT_ONLY = replace(COGVIDEOX, start="noise")
EVAL = Eval(frames=SAMPLE, clip_model=digest("clip model"), prompt="a tigress")
MOTION = Motion(frames=SAMPLE, reference=EXTRACT)
AGREEMENT = Agreement(frames=SAMPLE, reference=DEPTH, estimator=digest("estimator"))
LIKENESS = Likeness(frames=INVERT, reference=EXTRACT)
PREFERENCE = Preference(frames=SAMPLE, pick_model=digest("pick model"), prompt="a tigress")
METRICS: list[Recipe] = [EVAL, MOTION, AGREEMENT, LIKENESS, PREFERENCE]
RENDER = Render(source=SAMPLE)

NFC, NFD = unicodedata.normalize("NFC", "é가"), unicodedata.normalize("NFD", "é가")

GOLDEN = {
    "extract": (1, "d572922df49dd3576cbdff0bc2f1dcfde2d0fdb8bec1c9a275e3a3d5089edc22"),
    "depth": (1, "f9d0765bec30f2f540134c44eb4e57f9843d7b51f667c1df3a2fda1d10259c94"),
    "tune": (1, "efd17f960c1eaedc99f340e313b3026768fbb6fed212b436a148dbc8f641b985"),
    "invert": (1, "b427a90b7d586ec1bec8534f0c2f2e0c4225fb3d22392532e196fd61567608b0"),
    "sample": (1, "05b0cdc6cfafe57ffd1c1533376a3fe536b6c588ca346e600eb0486be3480092"),
    "cogvideox": (1, "4dfecc0c207a5d8416fe54536fe83842735df773db9d57418b11a3ccb85ee026"),
    "eval": (1, "d392c1f4728284eb05e31ac881eb215d8d44e6e78516ce6bf341be9f5ac02a05"),
    "motion": (1, "84510846854be8d0c80025203fa2c1f066cd639afe9d1055695d20fac8cf5c2e"),
    "agreement": (1, "a090875f78dd2df92fa50451fd6e0b38e06a2e27d40aa4833f432ce5b6556091"),
    "likeness": (1, "98be53bc34d737f1a3d9e2abb49a3cc204ac59ae55ae6122e88b21f8ac6393ce"),
    "preference": (1, "cbb6638b8aef01ca2ae8236ab749766e5d5707b10fc894a0cc2e1e769b91124e"),
    "render": (1, "5d0311a6865f81bbb39213b9e651ddee6fd2a209bfe45af8bd507cb441a017bf"),
}
ONE_EACH: list[Recipe] = [EXTRACT, DEPTH, TUNE, INVERT, SAMPLE, COGVIDEOX, *METRICS, RENDER]


@pytest.mark.parametrize("recipe", ONE_EACH, ids=lambda recipe: recipe.stage)
def test_a_key_moves_only_with_the_version_of_its_stage(recipe: Recipe) -> None:
    """If this fails and the stage gives other bytes now, raise its `version` and renew the key."""
    inputs = {role: role for role in recipe.inputs}
    assert (recipe.version, key(recipe, inputs)) == GOLDEN[recipe.stage]


def test_every_stage_has_a_golden_key() -> None:
    assert STAGES.keys() == GOLDEN.keys() == {recipe.stage for recipe in ONE_EACH}


# Each parameter alone, beside the recipe it is changed in: it has to move the key.
MOVES: list[tuple[Recipe, dict[str, Any]]] = [
    (EXTRACT, {"clip": digest("another clip")}),
    (EXTRACT, {"frames": 9}),
    (EXTRACT, {"frames": None}),
    (EXTRACT, {"size": (512, 256)}),
    (EXTRACT, {"size": (256, 512)}),
    (EXTRACT, {"size": None}),
    (EXTRACT, {"fit": "pad"}),
    (EXTRACT, {"fit": "squash"}),
    (EXTRACT, {"start": 0.5}),
    (EXTRACT, {"end": 2.0}),
    (EXTRACT, {"stream": 0}),
    (EXTRACT, {"background": "#ffffff"}),
    (EXTRACT, {"tolerate_errors": True}),
    (DEPTH, {"frames": replace(EXTRACT, frames=9)}),
    (DEPTH, {"estimator": digest("another estimator")}),
    (DEPTH, {"estimator": None, "given": digest("estimator")}),
    (DEPTH, {"invert": True}),
    (GIVEN, {"given": digest("another video")}),
    (GIVEN, {"invert": True}),
    (GIVEN, {"frames": replace(EXTRACT, start=0.5)}),
    (TUNE, {"frames": replace(EXTRACT, frames=9)}),
    (TUNE, {"depth": GIVEN}),
    (TUNE, {"depth": None}),
    *((TUNE, {"base": replace(BASE, **{part.name: digest("other")})}) for part in fields(Base)),
    (TUNE, {"prompt": "a polar bear"}),
    (TUNE, {"steps": 200}),
    (TUNE, {"steps": 0}),
    (TUNE, {"lr": 3e-5}),
    (TUNE, {"weight_decay": 0.0}),
    (TUNE, {"grad_clip": 2.0}),
    (TUNE, {"temporal_weight": 0.2}),
    (TUNE, {"temporal_weight": 0.0}),
    (TUNE, {"temporal_target": "zero"}),
    (TUNE, {"train": "projections"}),
    (TUNE, {"attention": "first"}),
    (TUNE, {"attention": "full"}),
    (TUNE, {"normalise": "frame"}),
    (TUNE, {"seed": 34}),
    (TUNE, {"seed": 2**32 - 1}),
    (TUNE, {"dtype": "bf16"}),
    (UNTUNED, {"dtype": "bf16"}),
    (UNTUNED, {"frames": replace(EXTRACT, frames=9)}),
    (INVERT, {"tuned": replace(TUNE, seed=34)}),
    (INVERT, {"steps": 20}),
    (INVERT, {"refine": 2}),
    (INVERT, {"prompt": "a polar bear"}),
    (INVERT, {"trajectory": True}),
    (INVERT, {"dtype": "fp16"}),
    (Invert(tuned=UNTUNED), {"tuned": replace(UNTUNED, normalise="frame")}),
    (SAMPLE, {"inverted": replace(INVERT, refine=2)}),
    (SAMPLE, {"prompt": "a tigress"}),
    (SAMPLE, {"negative": "blurred"}),
    (SAMPLE, {"guidance": 4.0}),
    (SAMPLE, {"guidance": 1.0}),
    (SAMPLE, {"guidance_from": 0.2}),
    (SAMPLE, {"guidance_until": 0.8}),
    (SAMPLE, {"strength": 0.8}),
    (SAMPLE, {"reuse": 2}),
    (SAMPLE, {"inverted": replace(INVERT, tuned=replace(TUNE, attention="full"))}),
    (NOISE, {"strength": 0.8}),
    (SAMPLE, {"eta": 0.5}),
    (SAMPLE, {"start": "noise"}),
    (replace(SAMPLE, eta=0.5), {"seed": 1}),
    (NOISE, {"seed": 1}),
    (NOISE, {"seed": 2**32 - 1}),
    (NOISE, {"inverted": replace(INVERT, steps=20)}),
    (NOISE, {"inverted": replace(INVERT, tuned=replace(TUNE, normalise="frame"))}),
    (NOISE, {"inverted": replace(INVERT, tuned=replace(TUNE, seed=34))}),
    (SAMPLE, {"dtype": "bf16"}),
    (SAMPLE, {"controls": Controls(blend=0.5), "blend": OTHER}),
    (BLENDED, {"controls": Controls(blend=0.25)}),
    (BLENDED, {"blend": replace(OTHER, invert=True)}),
    *(
        (SAMPLE, {"controls": Controls(**{control: 0.5})})
        for control in ("gain", "bias", "gamma", "near", "far", "smooth", "active")
    ),
    (COGVIDEOX, {"frames": replace(EXTRACT, start=0.5)}),
    (COGVIDEOX, {"prompt": "a tigress"}),
    (COGVIDEOX, {"negative": "blurred"}),
    (COGVIDEOX, {"guidance": 7.5}),
    (COGVIDEOX, {"guidance": 1.0}),
    (COGVIDEOX, {"steps": 20}),
    (COGVIDEOX, {"strength": 0.5}),
    (COGVIDEOX, {"start": "noise"}),
    (COGVIDEOX, {"size": (480, 720)}),
    (COGVIDEOX, {"stride": 5}),
    (COGVIDEOX, {"tiling": True}),
    (COGVIDEOX, {"seed": 1}),
    (COGVIDEOX, {"dtype": "bf16"}),
    *(
        (COGVIDEOX, {"model": replace(VIDEO_MODEL, **{part.name: digest("other")})})
        for part in fields(VideoModel)
    ),
    (TEXT_ONLY, {"frames": replace(EXTRACT, frames=9)}),
    (TEXT_ONLY, {"frames": replace(EXTRACT, size=(512, 256))}),
    (TEXT_ONLY, {"seed": 1}),
    (EVAL, {"frames": EXTRACT}),
    (EVAL, {"frames": COGVIDEOX}),
    (EVAL, {"frames": NOISE}),
    (EVAL, {"clip_model": digest("another model")}),
    (EVAL, {"prompt": None}),
    (EVAL, {"prompt": "a bear"}),
    (MOTION, {"frames": NOISE}),
    (MOTION, {"frames": INVERT}),
    (MOTION, {"reference": replace(EXTRACT, frames=9)}),
    (AGREEMENT, {"frames": NOISE}),
    (AGREEMENT, {"reference": replace(DEPTH, invert=True)}),
    (AGREEMENT, {"estimator": digest("another estimator")}),
    (AGREEMENT, {"invert": True}),
    (LIKENESS, {"frames": SAMPLE}),
    (LIKENESS, {"reference": replace(EXTRACT, frames=9)}),
    (PREFERENCE, {"frames": NOISE}),
    (PREFERENCE, {"pick_model": digest("another model")}),
    (PREFERENCE, {"prompt": "a bear"}),
    (RENDER, {"source": NOISE}),
    (RENDER, {"suffix": ".gif"}),
    (RENDER, {"fps": 12.0}),
    (RENDER, {"crf": 20}),
    (replace(RENDER, suffix=".webm"), {"crf": 20}),
    (replace(RENDER, suffix=".gif"), {"fps": 12.0}),
    (RENDER, {"provenance": "{}"}),
]

# What must not move a key, and why.
STAYS: list[tuple[str, Recipe, dict[str, Any]]] = [
    ("7 and 7.0 are one number", replace(EXTRACT, end=7.0), {"end": 7}),
    ("0 and 0.0 are one number", EXTRACT, {"start": 0}),
    ("minus nought is nought", EXTRACT, {"start": -0.0}),
    ("with no weight there is no target", LOOSE, {"temporal_target": "zero"}),
    ("without depth nothing is normalised", BLIND, {"normalise": "frame"}),
    ("nothing is trained: no prompt", UNTUNED, {"prompt": "else"}),
    ("nothing is trained: no rate", UNTUNED, {"lr": 1e-3}),
    ("nothing is trained: no decay", UNTUNED, {"weight_decay": 0.0}),
    ("nothing is trained: no gradient", UNTUNED, {"grad_clip": 2.0}),
    ("nothing is trained: no loss", UNTUNED, {"temporal_weight": 9.0, "temporal_target": "zero"}),
    ("nothing is trained: no noise", UNTUNED, {"seed": 1}),
    ("nothing is trained: depth is not read", UNTUNED, {"normalise": "frame"}),
    ("nothing is random without eta", SAMPLE, {"seed": 1}),
    ("guidance 1 never looks at the negative", UNGUIDED, {"negative": "blurred"}),
    ("guidance 1 has no interval", UNGUIDED, {"guidance_from": 0.2, "guidance_until": 0.8}),
    ("nothing is trained: no choice of it", UNTUNED, {"train": "projections"}),
    ("noise has no inversion behind it", NOISE, {"inverted": replace(INVERT, refine=2)}),
    ("noise has no inversion prompt", NOISE, {"inverted": replace(INVERT, prompt="x")}),
    ("text alone sees no clip", TEXT_ONLY, {"frames": replace(EXTRACT, start=0.5)}),
    ("text alone has no share of steps", TEXT_ONLY, {"strength": 0.5}),
    ("guidance 1 is no guidance", replace(COGVIDEOX, guidance=1), {"negative": "blurred"}),
    ("a gif has no such quality", replace(RENDER, suffix=".gif"), {"crf": 20}),
    ("an animated png has no such quality", replace(RENDER, suffix=".apng"), {"crf": 20}),
    ("a webp has no such quality", replace(RENDER, suffix=".webp"), {"crf": 20}),
    ("a strip has neither", replace(RENDER, suffix=".png"), {"crf": 20, "fps": 12.0}),
    ("composed and decomposed text is one text", replace(TUNE, prompt=NFC), {"prompt": NFD}),
]


@pytest.mark.parametrize(
    ("recipe", "change"),
    MOVES,
    ids=[f"{recipe.stage}.{'+'.join(change)}" for recipe, change in MOVES],
)
def test_what_can_change_the_result_moves_the_key(recipe: Recipe, change: dict[str, Any]) -> None:
    assert key(replace(recipe, **change)) != key(recipe)


@pytest.mark.parametrize(("why", "recipe", "change"), STAYS, ids=[why for why, _, _ in STAYS])
def test_what_cannot_change_the_result_leaves_the_key(
    why: str, recipe: Recipe, change: dict[str, Any]
) -> None:
    assert key(replace(recipe, **change)) == key(recipe)


@pytest.mark.parametrize(
    ("recipe", "change"),
    [(SAMPLE, {"seed": 7}), (UNGUIDED, {"negative": "blurred"})],
    ids=["seed", "negative"],
)
def test_what_cannot_act_in_a_sample_is_not_told_in_its_provenance(
    recipe: Sample, change: dict[str, Any]
) -> None:
    assert to_json(replace(recipe, **change)) == to_json(recipe)


def test_what_acts_in_a_sample_is_kept() -> None:
    assert replace(NOISE, seed=7).seed == 7
    assert replace(SAMPLE, eta=0.5, seed=7).seed == 7
    assert replace(SAMPLE, negative="blurred").negative == "blurred"


@pytest.mark.parametrize(
    "recipe", [*ONE_EACH, BLENDED, *(Render(source=s) for s in (EXTRACT, DEPTH, INVERT))]
)
def test_every_input_has_its_outputs_named(recipe: Recipe) -> None:
    assert all(recipe.reads[role] for role in recipe.inputs)


def test_a_sample_from_midway_reads_the_way_that_its_inversion_took() -> None:
    midway = replace(SAMPLE, strength=0.5)
    assert midway.inverted.trajectory
    assert midway.reads["inverted"] == ("trajectory",)
    assert SAMPLE.reads["inverted"] == ("latents",)


def test_a_sample_from_noised_frames_needs_no_inversion() -> None:
    assert replace(NOISE, strength=0.5).inverted == NOISE.inverted


def test_the_stream_of_the_clip_is_not_that_of_a_given_depth_video() -> None:
    other = replace(GIVEN, frames=replace(EXTRACT, stream=2, background="#ffffff"))
    assert other.choice == replace(EXTRACT, background="#ffffff")
    assert other.params == {**GIVEN.params, "background": "#ffffff"}


@pytest.mark.parametrize("kind", STAGES.values(), ids=STAGES)
def test_the_tables_know_every_field(kind: type[Recipe]) -> None:
    moved = {name for recipe, change in MOVES if type(recipe) is kind for name in change}
    assert moved == {field.name for field in fields(kind)}


def test_the_tables_know_every_control() -> None:
    moved = {
        field.name
        for _, change in MOVES
        for field in fields(Controls)
        if "controls" in change
        and getattr(change["controls"], field.name) != getattr(Controls(), field.name)
    }
    assert moved == {field.name for field in fields(Controls)}


def test_all_changes_together_have_different_keys() -> None:
    changed = [replace(recipe, **change) for recipe, change in MOVES]
    found = {recipe: key(recipe) for recipe in changed}
    assert len(set(found.values())) == len(found)


def test_what_is_random_says_so() -> None:
    assert not SAMPLE.random
    assert NOISE.random
    assert replace(SAMPLE, eta=0.1).random


@pytest.mark.parametrize(
    ("recipe", "method"),
    [
        (EXTRACT, None),
        (DEPTH, None),
        (TUNE, "dvid"),
        (LOOSE, "dvid"),
        (BLIND, "no-depth"),
        (replace(BLIND, temporal_weight=0), "tune-a-video"),
        (UNTUNED, "untuned"),
        (replace(UNTUNED, depth=None), "untuned"),
        (INVERT, "dvid"),
        (SAMPLE, "dvid"),
        (COGVIDEOX, "cogvideox"),
        (EVAL, None),
    ],
)
def test_a_recipe_knows_its_method(recipe: Recipe, method: str | None) -> None:
    assert method_of(recipe) == method


def test_every_external_input_is_named_by_a_digest() -> None:
    for recipe in ONE_EACH:
        assert all(len(found) == 64 for found in recipe.externals.values())
        assert not recipe.externals.keys() & recipe.inputs.keys()


# A recipe that makes no sense is refused where it is made, before any work.
NAN = math.nan
REFUSED: list[tuple[Recipe, dict[str, Any], str]] = [
    (EXTRACT, {"frames": 0}, "--frames"),
    (EXTRACT, {"frames": 513}, "--frames"),
    (EXTRACT, {"size": (4, 512)}, "width"),
    (EXTRACT, {"size": (512, 9000)}, "height"),
    (EXTRACT, {"start": -1.0}, "--start"),
    (EXTRACT, {"start": NAN}, "--start"),
    (EXTRACT, {"start": 2.0, "end": 2.0}, "--end"),
    (EXTRACT, {"end": NAN}, "--end"),
    (DEPTH, {"given": digest("given")}, "one of the two"),
    (DEPTH, {"estimator": None}, "one of the two"),
    (TUNE, {"prompt": " \n"}, "caption"),
    (TUNE, {"steps": -1}, "--steps"),
    (TUNE, {"lr": NAN}, "--lr"),
    (TUNE, {"lr": -1e-5}, "--lr"),
    (TUNE, {"weight_decay": NAN}, "--weight-decay"),
    (TUNE, {"grad_clip": 0.0}, "--grad-clip"),
    (TUNE, {"temporal_weight": NAN}, "--temporal-weight"),
    (TUNE, {"seed": -1}, "--seed"),
    (TUNE, {"seed": 2**32}, "`--seed` is `4294967296`, .* between 0 and 4294967295"),
    (INVERT, {"steps": 0}, "--steps"),
    (INVERT, {"refine": -1}, "--refine"),
    (SAMPLE, {"prompt": ""}, "prompt"),
    (SAMPLE, {"guidance": NAN}, "--guidance"),
    (SAMPLE, {"eta": 1.1}, "--eta"),
    (SAMPLE, {"strength": 1.1}, "--strength"),
    (SAMPLE, {"guidance_from": -0.1}, "--guidance-from"),
    (SAMPLE, {"guidance_until": 1.1}, "--guidance-until"),
    (SAMPLE, {"reuse": 0}, "--reuse"),
    (SAMPLE, {"seed": -1}, "--seed"),
    (NOISE, {"seed": 2**32 + 1}, "--seed"),
    (SAMPLE, {"blend": OTHER}, "blend"),
    (SAMPLE, {"controls": Controls(blend=0.5)}, "blend"),
    (Sample(inverted=Invert(tuned=BLIND), prompt="x"), {"controls": Controls(gain=2)}, "no depth"),
    (COGVIDEOX, {"prompt": " "}, "prompt"),
    (COGVIDEOX, {"guidance": 0.5}, "--guidance"),
    (COGVIDEOX, {"guidance": NAN}, "--guidance"),
    (COGVIDEOX, {"steps": 0}, "--steps"),
    (COGVIDEOX, {"strength": NAN}, "--strength"),
    (COGVIDEOX, {"strength": 0.01}, "not one step"),
    (COGVIDEOX, {"size": (4, 480)}, "width"),
    (COGVIDEOX, {"size": (720, 9000)}, "height"),
    (COGVIDEOX, {"stride": 0}, "--stride"),
    (COGVIDEOX, {"stride": 100}, "at this `--stride` is `701`"),
    (COGVIDEOX, {"seed": 2**32}, "--seed"),
    (COGVIDEOX, {"frames": replace(EXTRACT, frames=None)}, "chosen"),
    (COGVIDEOX, {"frames": replace(EXTRACT, size=None)}, "chosen"),
    (RENDER, {"fps": 0.0}, "--fps"),
    (RENDER, {"crf": 52}, "--crf"),
]


@pytest.mark.parametrize(("recipe", "change", "says"), REFUSED)
def test_a_value_that_makes_no_sense_is_refused(
    recipe: Recipe, change: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        replace(recipe, **change)


@pytest.mark.parametrize("control", [field.name for field in fields(Controls)])
def test_a_control_refuses_nan(control: str) -> None:
    with pytest.raises(UsageError, match=control):
        Controls(**{control: NAN})
