"""Deep features kept for a few steps: when nothing changes, what is kept, what is computed."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from networks import awake, noise, small
from torch import Tensor

from dvcli.core.ddim import Denoiser, schedule
from dvcli.core.reuse import reuse_features
from dvcli.core.unet import bind, inflate, video_blocks

PLAN = schedule({}, 10)


def network(levels: int = 3) -> UNet2DConditionModel:
    unet = small(
        block_out_channels=(8, 16, 16)[:levels],
        attention_head_dim=(1, 2, 2)[:levels],
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D")[:levels],
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D")[-levels:],
    )
    return awake(inflate(unet.requires_grad_(False), torch.Generator().manual_seed(0)))


def bound(unet: UNet2DConditionModel, seed: int = 9) -> Denoiser:
    return bind(unet, noise(6, 12, seed=seed), noise(3, 1, 8, 8, seed=3), PLAN)


def clip(seed: int) -> Tensor:
    return noise(3, 4, 8, 8, seed=seed).double()


def test_every_step_anew_is_the_denoiser_itself() -> None:
    unet = network()
    denoise = bound(unet)
    assert reuse_features(unet, denoise, 1) is denoise


def test_a_network_of_one_level_has_nothing_deep() -> None:
    unet = network(levels=1)
    denoise = bound(unet)
    assert reuse_features(unet, denoise, 3) is denoise


@pytest.mark.parametrize("levels", [2, 3])
@pytest.mark.parametrize("every", [2, 3])
def test_every_so_often_the_denoiser_is_exact_and_in_between_close(every: int, levels: int) -> None:
    unet = network(levels)
    exact = bound(unet)
    reusing = reuse_features(unet, bound(unet), every)
    same = [torch.equal(reusing(x, 7), exact(x, 7)) for x in map(clip, range(2 * every))]
    assert same == [call % every == 0 for call in range(2 * every)]


@pytest.mark.parametrize("levels", [2, 3])
def test_features_of_the_same_input_are_exact(levels: int) -> None:
    unet = network(levels)
    reusing = reuse_features(unet, bound(unet), 4)
    first, *later = [reusing(clip(0), 7) for _ in range(4)]
    assert all(torch.equal(first, again) for again in later)


def test_a_size_that_the_levels_do_not_divide_is_served_too() -> None:
    unet = network()
    denoise = bind(unet, noise(6, 12), noise(3, 1, 6, 10), PLAN)
    reusing = reuse_features(unet, denoise, 2)
    x = noise(3, 4, 6, 10)
    assert torch.equal(reusing(x, 7), reusing(x, 7))


def test_in_between_only_the_first_level_is_computed() -> None:
    unet = network()
    ran: list[str] = []
    for name, block in video_blocks(unet):
        block.register_forward_hook(lambda *_, name=name: ran.append(name))
    reusing = reuse_features(unet, bound(unet), 2)
    reusing(clip(0), 7)
    whole = list(ran)
    ran.clear()
    reusing(clip(1), 7)
    assert {name.split(".attentions")[0] for name in ran} == {"down_blocks.0", "up_blocks.2"}
    assert len(ran) < len(whole)


def test_two_denoisers_of_one_network_keep_features_of_their_own() -> None:
    unet = network()
    alone = reuse_features(unet, bound(unet), 2)
    expected = [alone(clip(k), 7) for k in range(2)]
    one, other = (reuse_features(unet, bound(unet, seed), 2) for seed in (9, 10))
    found = []
    for k in range(2):
        found.append(one(clip(k), 7))
        other(clip(k), 7)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_the_network_is_as_it_was_afterwards_even_after_an_error() -> None:
    unet = network()
    exact = bound(unet)
    expected = exact(clip(0), 7)

    def failing(x: Tensor, t: int) -> Tensor:
        if t == 8:
            raise RuntimeError
        return exact(x, t)

    reusing = reuse_features(unet, failing, 2)
    reusing(clip(0), 7)
    with pytest.raises(RuntimeError):
        reusing(clip(1), 8)
    assert torch.equal(exact(clip(0), 7), expected)
    assert not any("forward" in module.__dict__ for module in unet.modules())
