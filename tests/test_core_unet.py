"""The inflated network against the stock one, and what each frame can see."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from networks import awake, noise, small
from torch import Tensor

from dvcli.core.ddim import schedule
from dvcli.core.unet import (
    TemporalAttention,
    bind,
    deltas,
    inflate,
    load_deltas,
    predict,
    sparse_attention,
    text_attention,
    trainable,
    use_attention,
    video_blocks,
)
from dvcli.errors import InputError

PLAN = schedule({}, 10)


def stock(**changes: Any) -> UNet2DConditionModel:
    """A stock U-Net with random weights: heads per level, two transformer layers at the bottom."""
    shape: dict[str, Any] = {"transformer_layers_per_block": (1, 2), "use_linear_projection": True}
    return small(**(shape | changes))


def inflated(seed: int = 0, **changes: Any) -> UNet2DConditionModel:
    return inflate(stock(**changes), torch.Generator().manual_seed(seed))


def run(unet: UNet2DConditionModel, x: Tensor, text: Tensor, frames: int | None = None) -> Tensor:
    """The inflated network's output for `b` clips in one batch."""
    frames = len(x) if frames is None else frames
    with torch.no_grad():
        return unet(  # type: ignore[no-any-return]
            x, 7, encoder_hidden_states=text, cross_attention_kwargs={"frames": frames}
        ).sample


TEXT = noise(1, 6, 12, seed=9)


@pytest.mark.parametrize("linear", [True, False], ids=["linear", "conv"])
@pytest.mark.parametrize("size", [(8, 8), (8, 12), (6, 10)], ids=str)
def test_a_one_frame_clip_equals_the_image_unet(linear: bool, size: tuple[int, int]) -> None:
    image = stock(use_linear_projection=linear)
    video = inflated(use_linear_projection=linear)
    x = noise(1, 5, *size)
    with torch.no_grad():
        expected = image(x, 7, encoder_hidden_states=TEXT).sample
    torch.testing.assert_close(run(video, x, TEXT), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("frames", [2, 3, 6])
def test_every_frame_of_a_still_clip_equals_the_image_unet(frames: int) -> None:
    x = noise(1, 5, 8, 8)
    with torch.no_grad():
        expected = stock()(x, 7, encoder_hidden_states=TEXT).sample
    out = run(inflated(), x.expand(frames, -1, -1, -1), TEXT)
    torch.testing.assert_close(out, expected.expand_as(out), rtol=1e-5, atol=1e-6)


def test_fresh_temporal_layers_are_an_exact_no_op() -> None:
    video = inflated()
    x = noise(4, 5, 8, 8)
    with_layers = run(video, x, TEXT)
    for _, block in video_blocks(video):
        block.attn_temp.forward = lambda tokens, frames, attend: torch.zeros_like(tokens)
    assert torch.equal(with_layers, run(video, x, TEXT))


def test_temporal_layers_matter_once_their_output_is_not_zero() -> None:
    x = noise(4, 5, 8, 8)
    assert not torch.allclose(run(inflated(), x, TEXT), run(awake(inflated()), x, TEXT), atol=1e-3)


@pytest.mark.parametrize("frames", [1, 2, 3, 5])
def test_sparse_attention_is_attention_to_the_tokens_of_frame_one_and_the_one_before(
    frames: int,
) -> None:
    attn = stock().mid_block.attentions[0].transformer_blocks[0].attn1
    x = noise(2 * frames, 10, 16)
    clips = x.reshape(2, frames, 10, 16)
    before = [max(i - 1, 0) for i in range(frames)]
    pairs = torch.cat([clips[:, :1].expand_as(clips), clips[:, before]], dim=2)
    expected = attn(x, encoder_hidden_states=pairs.flatten(0, 1))
    mine = sparse_attention(attn, x, frames, F.scaled_dot_product_attention)
    torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-6)


def test_text_attention_equals_the_stock_one_with_the_text_repeated() -> None:
    attn = stock().mid_block.attentions[0].transformer_blocks[0].attn2
    x, text = noise(6, 10, 16), noise(2, 7, 12)
    expected = attn(x, encoder_hidden_states=text.repeat_interleave(3, dim=0))
    mine = text_attention(attn, x, text, F.scaled_dot_product_attention)
    torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-6)


def test_temporal_attention_is_full_attention_over_the_frames_of_one_position() -> None:
    layer = TemporalAttention(16, 2, 16, torch.Generator().manual_seed(0))
    torch.nn.init.normal_(layer.to_out.weight, generator=torch.Generator().manual_seed(1))
    torch.nn.init.normal_(layer.to_out.bias, generator=torch.Generator().manual_seed(2))
    x = noise(2 * 5, 3, 16)
    theirs = torch.nn.MultiheadAttention(16, 2, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(
            torch.cat([layer.to_q.weight, layer.to_k.weight, layer.to_v.weight])
        )
        theirs.in_proj_bias.zero_()
    theirs.out_proj = layer.to_out  # type: ignore[assignment]
    mine = layer(x, 5, F.scaled_dot_product_attention).reshape(2, 5, 3, 16)
    for b in range(2):
        for position in range(3):
            line = x.reshape(2, 5, 3, 16)[b, :, position][None]
            expected, _ = theirs(line, line, line)
            torch.testing.assert_close(mine[b, :, position], expected[0], rtol=1e-5, atol=1e-5)


def seen_by(out: Tensor, changed: Tensor) -> set[int]:
    """The frames, counted from 0, whose output differs."""
    return {i for i in range(len(out)) if not torch.equal(out[i], changed[i])}


@pytest.mark.parametrize(
    ("frame", "seers"), [(0, {0, 1, 2, 3, 4}), (1, {1, 2}), (3, {3, 4}), (4, {4})]
)
def test_through_one_layer_a_frame_depends_on_itself_frame_one_and_the_one_before(
    frame: int, seers: set[int]
) -> None:
    attn = stock().mid_block.attentions[0].transformer_blocks[0].attn1
    x = noise(5, 10, 16)
    other = x.clone()
    other[frame] += 1
    sdpa = F.scaled_dot_product_attention
    out, changed = (sparse_attention(attn, v, 5, sdpa) for v in (x, other))
    assert seen_by(out, changed) == seers


def test_without_temporal_layers_no_frame_depends_on_a_later_one() -> None:
    video = inflated()
    x = noise(5, 5, 8, 8)
    other = x.clone()
    other[2] += 1
    assert seen_by(run(video, x, TEXT), run(video, other, TEXT)) == {2, 3, 4}


def test_with_temporal_layers_every_frame_depends_on_every_other() -> None:
    video = awake(inflated())
    x = noise(5, 5, 8, 8)
    other = x.clone()
    other[4] += 1
    assert seen_by(run(video, x, TEXT), run(video, other, TEXT)) == {0, 1, 2, 3, 4}


def test_permuting_batch_items_permutes_outputs() -> None:
    video = awake(inflated())
    x, text = noise(3 * 4, 5, 8, 8), noise(3, 6, 12)
    order = [2, 0, 1]
    out = run(video, x, text, frames=4).reshape(3, 4, 4, 8, 8)
    mixed = run(video, x.reshape(3, 4, 5, 8, 8)[order].flatten(0, 1), text[order], frames=4)
    torch.testing.assert_close(mixed.reshape(3, 4, 4, 8, 8), out[order], rtol=1e-5, atol=1e-5)


def test_a_clip_in_a_batch_is_computed_as_if_it_were_alone() -> None:
    video = awake(inflated())
    x, text = noise(2 * 4, 5, 8, 8), noise(2, 6, 12)
    together = run(video, x, text, frames=4)
    torch.testing.assert_close(together[4:], run(video, x[4:], text[1:]), rtol=1e-5, atol=1e-5)


def test_inflating_keeps_every_stock_parameter_and_its_name() -> None:
    before, after = dict(stock().named_parameters()), dict(inflated().named_parameters())
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    added = after.keys() - before.keys()
    assert added
    assert all(".norm_temp." in name or ".attn_temp." in name for name in added)


def test_the_generator_alone_decides_the_new_weights() -> None:
    unet = stock()
    before = torch.get_rng_state()
    inflate(unet, torch.Generator().manual_seed(1))
    assert torch.equal(torch.get_rng_state(), before)
    same, other = inflated(seed=1), inflated(seed=2)
    name = "mid_block.attentions.0.transformer_blocks.1.attn_temp.to_k.weight"
    assert torch.equal(deltas(unet)[name], deltas(same)[name])
    assert not torch.equal(deltas(unet)[name], deltas(other)[name])


def test_inflating_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="already"):
        inflate(inflated(), torch.Generator())


def test_a_network_that_is_not_inflated_has_nothing_to_train() -> None:
    with pytest.raises(ValueError, match="not inflated"):
        trainable(stock())


@pytest.mark.parametrize(
    "unet",
    [
        lambda: stock(only_cross_attention=True),
        lambda: stock(dual_cross_attention=False, attention_type="gated"),
        lambda: stock(
            mid_block_type="UNetMidBlock2DSimpleCrossAttn",
            down_block_types=("SimpleCrossAttnDownBlock2D",) * 2,
            up_block_types=("SimpleCrossAttnUpBlock2D",) * 2,
        ),
        lambda: stock(
            mid_block_type="UNetMidBlock2D",
            down_block_types=("DownBlock2D",) * 2,
            up_block_types=("UpBlock2D",) * 2,
        ),
    ],
    ids=["only-cross", "gated", "simple-cross", "no-transformer"],
)
def test_another_kind_of_unet_is_refused(unet: Any) -> None:
    with pytest.raises(InputError, match="U-Net"):
        inflate(unet(), torch.Generator())


def test_a_video_block_says_what_it_lacks() -> None:
    block = next(block for _, block in video_blocks(inflated()))
    tokens = noise(2, 4, 8)
    with pytest.raises(ValueError, match="number of frames"):
        block(tokens, encoder_hidden_states=TEXT)
    with pytest.raises(ValueError, match="mask"):
        block(
            tokens,
            attention_mask=tokens,
            encoder_hidden_states=TEXT,
            cross_attention_kwargs={"frames": 2},
        )


def test_the_trainable_tensors_of_stable_diffusion_2_depth_are_as_many_as_the_method_says() -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            in_channels=5,
            attention_head_dim=(5, 10, 20, 20),
            cross_attention_dim=1024,
            use_linear_projection=True,
        )
    inflate(unet, torch.Generator())
    assert sum(p.numel() for p in trainable(unet).values()) == 74_379_840
    assert sum(p.numel() for p in unet.parameters()) == 915_512_644


def test_what_is_trained_is_the_queries_and_the_temporal_layers_whole() -> None:
    video = inflated()
    names = set(trainable(video))
    block = "mid_block.attentions.0.transformer_blocks.1"
    assert {n.removeprefix(block + ".") for n in names if n.startswith(block)} == {
        "attn1.to_q.weight",
        "attn2.to_q.weight",
        "norm_temp.weight",
        "norm_temp.bias",
        "attn_temp.to_q.weight",
        "attn_temp.to_k.weight",
        "attn_temp.to_v.weight",
        "attn_temp.to_out.weight",
        "attn_temp.to_out.bias",
    }
    assert {n for n, p in video.named_parameters() if p.requires_grad} == names


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_half_network_keeps_trainable_tensors_in_float32(dtype: torch.dtype) -> None:
    x = noise(3, 4, 8, 8)
    depth = noise(3, 1, 8, 8)
    full = awake(inflated())
    half = copy.deepcopy(full).to(dtype)
    found = trainable(half)
    out = predict(half, x, 7, TEXT[0], depth)
    out.square().mean().backward()
    assert out.dtype == torch.float32
    assert {p.dtype for p in found.values()} == {torch.float32}
    assert {p.grad.dtype for p in found.values() if p.grad is not None} == {torch.float32}
    assert all(p.grad is not None for p in found.values())
    expected = predict(full, x, 7, TEXT[0], depth)
    torch.testing.assert_close(out, expected, rtol=0, atol=0.05)
    assert not torch.equal(out, expected)


def test_deltas_carry_a_tuning_from_one_network_to_another() -> None:
    tuned = awake(inflated(seed=3))
    fresh = inflated(seed=4)
    x = noise(3, 5, 8, 8)
    assert not torch.equal(run(tuned, x, TEXT), run(fresh, x, TEXT))
    load_deltas(fresh, deltas(tuned))
    assert torch.equal(run(tuned, x, TEXT), run(fresh, x, TEXT))


def test_deltas_are_copies() -> None:
    video = inflated()
    name, kept = next(iter(deltas(video).items()))
    before = kept.clone()
    trainable(video)[name].data.add_(1)
    assert torch.equal(kept, before)


def test_no_deltas_at_all_leave_a_network_untuned() -> None:
    video = inflated()
    before = deltas(video)
    load_deltas(video, {})
    assert all(torch.equal(before[name], tensor) for name, tensor in deltas(video).items())


def test_deltas_of_another_network_are_refused_and_change_nothing() -> None:
    video = inflated()
    good = {name: tensor + 1 for name, tensor in deltas(video).items()}
    first, last = sorted(good)[0], sorted(good)[-1]
    missing = {n: t for n, t in good.items() if n != first}
    before = deltas(video)
    for bad, named in (
        (missing, f"lacks `{first}`"),
        (good | {"zzz": torch.ones(1)}, "unknown tensor `zzz`"),
        (good | {last: torch.ones(2, 3)}, f"`{last}`"),
    ):
        with pytest.raises(InputError, match=named):
            load_deltas(video, bad)
    assert all(torch.equal(before[name], tensor) for name, tensor in deltas(video).items())


def test_another_attention_kernel_is_used_and_gives_the_same() -> None:
    video = awake(inflated())
    x = noise(4, 5, 8, 8)
    expected = run(video, x, TEXT)
    calls = []

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        calls.append(q.shape)
        weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
        return weights @ v

    use_attention(video, attend)
    torch.testing.assert_close(run(video, x, TEXT), expected, rtol=1e-5, atol=1e-5)
    assert len(calls) == 4 * len(list(video_blocks(video)))


def test_a_bound_network_gives_the_noise_in_the_dtype_of_its_input_and_no_gradient() -> None:
    video = inflated()
    trainable(video)
    x, depth = noise(3, 4, 8, 8).double(), noise(3, 1, 8, 8)
    eps = bind(video, TEXT[0], depth, PLAN)(x, 7)
    assert eps.dtype == torch.float64
    assert not eps.requires_grad
    expected = run(video, torch.cat([x.float(), depth], 1), TEXT)
    torch.testing.assert_close(eps.float(), expected)


def test_a_bound_v_prediction_network_gives_noise_too() -> None:
    video = inflated(in_channels=4)
    plan = schedule({"prediction_type": "v_prediction"}, 10)
    x = noise(3, 4, 8, 8)
    alpha = plan.alpha(7)
    v = run(video, x, TEXT)
    eps = bind(video, TEXT[0], None, plan)(x, 7)
    torch.testing.assert_close(eps, alpha**0.5 * v + (1 - alpha) ** 0.5 * x)


@pytest.mark.parametrize("channels", [4, 5])
def test_depth_for_a_network_without_it_or_none_for_one_with_it_is_refused(channels: int) -> None:
    depth = noise(3, 1, 8, 8) if channels == 4 else None
    denoise = bind(inflated(in_channels=channels), TEXT[0], depth, PLAN)
    with pytest.raises(InputError, match="depth"):
        denoise(noise(3, 4, 8, 8), 7)
