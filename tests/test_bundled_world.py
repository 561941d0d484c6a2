"""The rendered world: what its pictures, depth, masks, captions and clips promise."""

import itertools
from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dvcli.bundled.world.clips import clip, course, passing
from dvcli.bundled.world.layout import (
    EVERYDAY,
    FOCUS,
    HELD_OUT,
    SIDE,
    Layout,
    draw,
    held_out,
    lay,
    said,
)
from dvcli.bundled.world.render import Pictures, render
from dvcli.bundled.world.words import (
    COLOURS,
    NATURAL,
    PLACES,
    SHAPES,
    STYLES,
    Scene,
    Thing,
    caption,
    parse,
    sentences,
    vocabulary,
)

SEEDS = range(96)


@pytest.fixture(scope="module")
def layout() -> Layout:
    return lay([draw(seed) for seed in SEEDS], SEEDS)


@pytest.fixture(scope="module")
def pictures(layout: Layout) -> Pictures:
    return render(layout)


def pair(near: Thing, far: Thing, style: str = "photorealism") -> Scene:
    return Scene(things=(near, far), place="snow", style=style)


RED_BALL, BLUE_CUBE = Thing(shape="ball", colour="red"), Thing(shape="cube", colour="blue")


def test_the_same_seed_gives_the_same_pixels_in_any_batch(
    layout: Layout, pictures: Pictures
) -> None:
    alone = render(lay([draw(17)], [17]))
    assert torch.equal(alone.image[0], pictures.image[17])
    assert torch.equal(alone.depth[0], pictures.depth[17])


def test_different_seeds_give_different_pictures(pictures: Pictures) -> None:
    assert len(torch.unique(pictures.image.flatten(1), dim=0)) == len(SEEDS)


def test_pictures_are_64_pixels_of_8_bits(pictures: Pictures) -> None:
    assert pictures.image.shape == (len(SEEDS), 3, 64, 64)
    assert pictures.image.dtype == torch.uint8


def test_masks_partition_the_picture(pictures: Pictures) -> None:
    assert torch.equal(pictures.masks.sum(dim=1), torch.ones(len(SEEDS), SIDE, SIDE))


def test_every_thing_of_a_scene_is_seen(layout: Layout, pictures: Pictures) -> None:
    seen = pictures.masks[:, 1:].sum(dim=(2, 3))
    there = torch.arange(3) < layout.count[:, None]
    assert (seen[there] > 40).float().mean() > 0.97
    assert (seen[~there] == 0).all()


def test_the_nearer_thing_has_the_larger_inverse_depth(layout: Layout, pictures: Pictures) -> None:
    owner, depth = pictures.owner, pictures.depth[:, 0]
    for row in range(len(SEEDS)):
        slots = [s for s in range(int(layout.count[row])) if (owner[row] == s + 1).sum() > 30]
        by_z = sorted(slots, key=lambda s: float(layout.z[row, s]))
        means = [float(depth[row][owner[row] == s + 1].mean()) for s in by_z]
        apart = [float(layout.z[row, b] - layout.z[row, a]) for a, b in itertools.pairwise(by_z)]
        for near, far, gap in zip(means, means[1:], apart, strict=False):
            assert near > far or gap < 0.1


def test_where_two_things_overlap_the_nearer_one_is_seen() -> None:
    both = lay([pair(RED_BALL, BLUE_CUBE)], [3])
    both = replace(both, x=torch.full_like(both.x, 32.0))
    lone = replace(both, count=torch.tensor([1]))
    near = render(lone).owner[0] == 1
    assert (render(both).owner[0][near] == 1).all()


def test_a_thing_alone_has_the_depth_it_has_in_company() -> None:
    both = lay([pair(RED_BALL, BLUE_CUBE)], [3])
    lone = replace(both, count=torch.tensor([1]))
    near = render(lone).owner[0] == 1
    assert torch.equal(render(lone).depth[0, 0][near], render(both).depth[0, 0][near])


def test_the_ground_has_the_inverse_depth_of_a_plane(layout: Layout, pictures: Pictures) -> None:
    row = next(i for i in range(len(SEEDS)) if PLACES[int(layout.place[i])] == "grass")
    horizon = float(layout.horizon[row])
    bare = pictures.owner[row] == 0
    rows = torch.arange(SIDE)[:, None].expand(SIDE, SIDE)
    low = bare & (rows > horizon + 3)
    expected = (rows + 0.5 - horizon) / FOCUS
    assert torch.allclose(pictures.depth[row, 0][low], expected[low], atol=1e-6)


def test_a_thing_stands_at_the_depth_of_its_ground() -> None:
    one = lay([Scene(things=(BLUE_CUBE,), place="snow", style="photorealism")], [5])
    got = render(one)
    inside = got.depth[0, 0][got.owner[0] == 1]
    assert inside.min() > 0.7 / float(one.z[0, 0])
    assert inside.max() < 1.6 / float(one.z[0, 0])


def test_depth_and_masks_do_not_depend_on_style(layout: Layout) -> None:
    some = layout[:16]
    first, *others = (render(some.painted(style)) for style in STYLES)
    for other in others:
        assert torch.equal(first.depth, other.depth)
        assert torch.equal(first.owner, other.owner)


def flatness(images: torch.Tensor) -> torch.Tensor:
    """Share of neighbouring pixels that are exactly alike, and mean absolute step elsewhere."""
    x = images.float()
    steps = (x[..., 1:] - x[..., :-1]).abs().amax(dim=1)
    alike = (steps <= 1).float().mean(dim=(1, 2))
    rough = ((steps > 6) & (steps < 60)).float().mean(dim=(1, 2))
    return torch.stack((alike, rough), dim=1)


def test_styles_are_told_apart_by_two_trivial_statistics(layout: Layout) -> None:
    stats = torch.stack([flatness(render(layout.painted(style)).image) for style in STYLES])
    centres = stats[:, :48].mean(dim=1)
    scale = stats.flatten(0, 1).std(dim=0)
    away = ((stats[:, 48:, None] - centres) / scale).norm(dim=-1)
    right = away.argmin(dim=-1) == torch.arange(3)[:, None]
    assert right.float().mean() > 0.9


def test_a_red_ball_is_red_in_every_style() -> None:
    scene = lay([Scene(things=(RED_BALL,), place="snow", style="photorealism")], [1])
    for style in STYLES:
        got = render(scene.painted(style))
        red, green, blue = got.image[0].float()[:, got.owner[0] == 1].mean(dim=1)
        assert red > 1.5 * max(float(green), float(blue))


def test_changing_one_colour_leaves_the_other_things_pixels_alone() -> None:
    first = lay([pair(RED_BALL, BLUE_CUBE)], [8])
    second = lay([pair(Thing(shape="ball", colour="green"), BLUE_CUBE)], [8])
    a, b = render(first), render(second)
    assert torch.equal(a.owner, b.owner)
    cube = a.owner[0] == 2
    assert (a.image[0][:, cube].float() - b.image[0][:, cube].float()).abs().mean() < 6


def test_a_moment_of_passing_lies_on_the_way_of_its_clip() -> None:
    seeds = range(40, 60)
    scenes, moments = passing(seeds)
    for row, seed in enumerate(seeds):
        scene, way = course(seed, 2001)
        off = (way.x - moments.x[row]).abs().amax(dim=1)
        assert scene == scenes[row]
        assert off.min() < 0.05
        assert 500 <= int(off.argmin()) <= 1500


@given(seed=st.integers(0, 2**40))
@settings(max_examples=60, deadline=None)
def test_every_sentence_reads_back_as_its_scene(seed: int) -> None:
    scene = draw(seed)
    for text in sentences(scene):
        assert parse(text) == scene


@given(seed=st.integers(0, 2**40))
@settings(max_examples=60, deadline=None)
def test_a_scene_without_place_or_style_reads_back_too(seed: int) -> None:
    scene = replace(draw(seed), place=None, style=None)
    assert parse(caption(scene)) == scene


def test_the_front_thing_is_named_first() -> None:
    scene = pair(RED_BALL, BLUE_CUBE, style="impressionism")
    assert caption(scene) == "a red ball in front of a blue cube on snow, impressionism style"


def test_a_polar_bear_with_her_cubs_is_a_family_of_white_bears() -> None:
    scene = parse("a polar bear with her cubs")
    assert scene.things == (Thing(shape="bear", colour="white"),) * 3
    assert scene.relation == "family"


@pytest.mark.parametrize(
    ("text", "shape", "style"),
    [
        ("a tigress with her cubs, impressionist painting", "tiger", "impressionism"),
        ("A photo of a panda in the snow", "panda", "photorealism"),
        ("cartoon of a lioness on the beach", "lion", "animation"),
    ],
)
def test_synonyms_are_understood(text: str, shape: str, style: str) -> None:
    scene = parse(text)
    assert scene.things[0] == Thing(shape=shape, colour=NATURAL[shape])
    assert scene.style == style


def test_behind_turns_the_order_round() -> None:
    assert parse("a blue cube behind a red ball on snow").things == (RED_BALL, BLUE_CUBE)


def test_unknown_words_are_passed_over() -> None:
    assert parse("an enormous red ball, dramatic lighting, 4k").things == (RED_BALL,)


def test_every_name_is_in_the_vocabulary() -> None:
    assert {*SHAPES, *COLOURS, *PLACES, *STYLES} <= set(vocabulary())


def test_the_things_of_a_scene_have_different_colours_except_a_familys() -> None:
    for seed in range(300):
        scene = draw(seed)
        colours = {thing.colour for thing in scene.things}
        assert len(colours) == (1 if scene.relation == "family" else len(scene.things))


def test_all_names_are_drawn() -> None:
    scenes = [draw(seed) for seed in range(600)]
    assert {thing.shape for scene in scenes for thing in scene.things} == set(SHAPES)
    assert {thing.colour for scene in scenes for thing in scene.things} == set(COLOURS)
    assert {(scene.place, scene.style) for scene in scenes} == {
        (place, style) for place in PLACES for style in STYLES
    }


def test_a_mix_decides_what_is_drawn() -> None:
    assert all(len(draw(seed, (0, 1, 0, 0, 0)).things) == 2 for seed in range(50))
    assert all(draw(seed, (0, 0, 0, 0, 1)).relation == "family" for seed in range(50))


def test_held_out_seeds_are_above_every_training_seed() -> None:
    assert min(held_out(10)) == HELD_OUT
    assert HELD_OUT > 2**31


def test_held_out_seeds_do_not_repeat() -> None:
    assert not set(held_out(10)) & set(held_out(10, start=10))


def test_a_said_caption_means_its_scene() -> None:
    for seed in range(200):
        scene = draw(seed, EVERYDAY)
        assert parse(said(scene, seed, 0.3)) == scene


def test_indexing_a_layout_picks_scenes(layout: Layout) -> None:
    few = layout[torch.tensor([3, 5])]
    assert len(few) == 2
    for field in fields(Layout):
        assert torch.equal(getattr(few, field.name)[1], getattr(layout, field.name)[5])


def test_a_clip_is_the_same_from_the_same_seed() -> None:
    a, b = clip(4, frames=5), clip(4, frames=5)
    assert torch.equal(a.frames, b.frames)


def test_things_pass_in_front_of_each_other_in_a_clip() -> None:
    got = clip(1, frames=12, scene=pair(RED_BALL, BLUE_CUBE))
    rear = (got.owner == 2).sum(dim=(1, 2))
    front = (got.owner == 1).sum(dim=(1, 2))
    assert rear.min() < 0.8 * rear.max()
    assert front.min() > 0.8 * front.max()


def test_motion_in_a_clip_is_smooth() -> None:
    got = clip(1, frames=16, scene=pair(RED_BALL, BLUE_CUBE))
    across = torch.arange(SIDE) + 0.5
    mask = (got.owner == 1).float()
    x = (mask.sum(dim=1) * across).sum(dim=1) / mask.sum(dim=(1, 2))
    assert (x[1:] - x[:-1]).abs().max() < 5
    assert (x[2:] - 2 * x[1:-1] + x[:-2]).abs().max() < 1.5


def test_the_place_stands_still_in_a_clip() -> None:
    got = clip(1, frames=6, scene=pair(RED_BALL, BLUE_CUBE))
    corner = got.frames[:, :, :8]
    assert torch.equal(corner[0], corner[-1])


def test_a_clip_shows_the_scene_it_was_given() -> None:
    got = clip(2, frames=2, scene=parse("a polar bear with her cubs on snow, animation style"))
    assert got.caption == "a polar bear with her cubs on snow, animation style"
