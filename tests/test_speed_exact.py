"""What makes the network faster leaves its results as they were, up to rounding."""

import copy
import functools
import inspect
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.resnet import ResnetBlock2D
from einops import rearrange
from networks import awake, noise, small
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.utils._python_dispatch import TorchDispatchMode

from dvcli.core import attention
from dvcli.core.attention import (
    TemporalAttention,
    attend_by_products,
    attend_to_few,
    attend_to_frozen,
    feed_forward,
    few_by_products,
    pointwise,
    product,
    sliced,
    sparse_attention,
    text_attention,
    text_keys,
)
from dvcli.core.compiling import compile_network
from dvcli.core.ddim import in_turn, schedule
from dvcli.core.recomputing import (
    ATTENTION,
    LEVELS,
    MANY_KEYS,
    Level,
    checkpoint_gradients,
)
from dvcli.core.unet import (
    bind,
    bind_pair,
    frozen,
    inflate,
    predict,
    trainable,
    use_attention,
    video_blocks,
)

PLAN = schedule({}, 10)
SDPA = F.scaled_dot_product_attention


def close(mine: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def network(silent: bool = False) -> UNet2DConditionModel:
    unet = small(block_out_channels=(16, 32)).requires_grad_(False)
    inflate(unet, torch.Generator().manual_seed(0))
    if not silent:
        awake(unet)
    return unet


TEXT, OTHER, DEPTH = noise(6, 12, seed=9), noise(6, 12, seed=8), noise(4, 1, 8, 8, seed=3)


@pytest.mark.parametrize("shape", [(1024, 64, 96), (8, 128, 96, 64), (600, 100, 100)], ids=str)
@pytest.mark.parametrize("biased", [True, False])
def test_a_product_on_a_cpu_is_that_of_a_linear_layer_and_so_is_its_gradient(
    shape: tuple[int, ...], biased: bool
) -> None:
    *rows, inside, out = shape
    found = []
    for how in (product, F.linear):
        x, weight = noise(*rows, inside), noise(out, inside, seed=2)
        bias = noise(out, seed=3) if biased else None
        leaves = [t.requires_grad_() for t in (x, weight, bias) if t is not None]
        result = how(x, weight, bias)
        found.append([result, *torch.autograd.grad(result.square().mean(), leaves)])
    for mine, theirs in zip(*found, strict=True):
        close(mine, theirs)


def test_a_large_product_is_a_convolution_and_a_small_one_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[torch.Size] = []
    real = F.conv2d
    monkeypatch.setattr(
        attention.F,
        "conv2d",
        lambda x, *more, **kind: calls.append(x.shape) or real(x, *more, **kind),
    )
    product(noise(2048, 64), noise(64, 64))
    assert calls == [(1, 64, 1, 2048)]
    product(noise(77, 64), noise(2048, 64))  # ten times slower as a convolution
    product(noise(2048, 64).bfloat16(), noise(64, 64).bfloat16())
    assert len(calls) == 1


def test_a_product_of_tokens_that_do_not_lie_together_is_the_same() -> None:
    x, weight = noise(4, 64, 512).transpose(1, 2), noise(64, 64)
    close(product(x, weight), F.linear(x, weight))


def test_a_convolution_of_single_pixels_is_the_same_dilated() -> None:
    layer = nn.Conv2d(16, 8, 1)
    x = noise(2, 16, 8, 8)
    before = layer(x)
    pointwise(layer)
    assert layer.dilation == (2, 2)
    close(layer(x), before)


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("sees", ["first-previous", "first", "full"])
@pytest.mark.parametrize("frames", [1, 2, 3, 5])
def test_sparse_attention_is_attention_to_the_tokens_it_sees_and_so_is_its_gradient(
    frames: int, sees: Any, biased: bool
) -> None:
    torch.manual_seed(0)
    from diffusers.models.attention_processor import Attention

    attn = Attention(16, heads=2, dim_head=8, bias=biased)
    found = []
    for ours in (True, False):
        x = noise(2 * frames, 10, 16).requires_grad_()
        if ours:
            out = sparse_attention(attn, x, frames, SDPA, sees)
        else:
            clips = x.reshape(2, frames, 10, 16)
            before = [max(i - 1, 0) for i in range(frames)]
            first = clips[:, :1].expand_as(clips)
            seen = {
                "first-previous": torch.cat([first, clips[:, before]], dim=2),
                "first": first,
                "full": clips.flatten(1, 2)[:, None].expand(-1, frames, -1, -1),
            }[sees]
            out = attn(x, encoder_hidden_states=seen.flatten(0, 1))
        slopes = torch.autograd.grad(out.square().sum(), [x, *attn.parameters()])
        found.append([out, *slopes])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("rows", [40, 700])
def test_attention_to_frozen_keys_has_the_gradient_of_sdpa(rows: int) -> None:
    k, v = noise(3, 2, 90, 8, seed=2), noise(3, 2, 90, 8, seed=3)
    found = []
    for attend in (attend_to_frozen, SDPA):
        q = noise(3, 2, rows, 8).requires_grad_()
        out = attend(q, k, v)
        (slope,) = torch.autograd.grad(out.square().sum(), [q])
        found.append((out, slope))
    close(found[0][0], found[1][0])
    close(found[0][1], found[1][1])


def test_attention_to_few_keys_is_that_of_sdpa_and_so_is_its_gradient() -> None:
    found = []
    for ours in (True, False):
        q = noise(2 * 3, 50, 16).requires_grad_()
        k, v = (noise(2, 2, 7, 8, seed=s).requires_grad_() for s in (2, 3))
        if ours:
            out = attend_to_few(q, k, v)
        else:
            split = rearrange(q, "(b f) n (heads d) -> b heads (f n) d", b=2, heads=2)
            mixed = SDPA(split, k, v)
            out = rearrange(mixed, "b heads (f n) d -> (b f) n (heads d)", f=3)
        found.append([out, *torch.autograd.grad(out.square().sum(), [q, k, v])])
    for mine, theirs in zip(*found, strict=True):
        close(mine, theirs)


def test_text_whose_keys_are_known_gives_the_same() -> None:
    attn = next(block for _, block in video_blocks(network())).attn2
    x, text = noise(6, 10, 16), noise(2, 7, 12)
    known = text_keys(attn, text)
    close(text_attention(attn, x, text, SDPA, known), text_attention(attn, x, text, SDPA))


def test_temporal_attention_in_one_product_is_that_of_three_layers() -> None:
    layer = TemporalAttention(16, 2, 16, torch.Generator().manual_seed(0))
    nn.init.normal_(layer.to_out.weight)
    x = noise(2 * 5, 3, 16)
    over_time = "(b f) n (heads d) -> (b n) heads f d"
    q, k, v = (
        rearrange(part(x), over_time, f=5, heads=2) for part in (layer.to_q, layer.to_k, layer.to_v)
    )
    weights = (q @ k.mT / math.sqrt(8)).softmax(-1)
    expected = layer.to_out(rearrange(weights @ v, "(b n) heads f d -> (b f) n (heads d)", n=3))
    close(layer(x, 5, SDPA), expected)


def test_a_feed_forward_layer_gives_the_same_a_few_rows_at_a_time() -> None:
    block = next(block for _, block in video_blocks(network()))
    x = noise(4, 700, 16)
    with torch.no_grad():
        close(feed_forward(block.ff, x), block.ff(x))


@pytest.mark.parametrize("frames", [1, 2, 8, 12, 33])
def test_attention_written_out_is_attention_and_so_is_its_gradient(frames: int) -> None:
    found = []
    for attend in (attend_by_products, SDPA):
        q, k, v = (noise(6, 2, frames, 8, seed=s).requires_grad_() for s in (1, 2, 3))
        out = attend(q, k, v)
        found.append([out, *torch.autograd.grad(out.square().sum(), [q, k, v])])
    for mine, theirs in zip(*found, strict=True):
        close(mine, theirs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("spread", [1, 10, 100])
def test_attention_written_out_is_in_halves_as_exact_as_torchs(
    dtype: torch.dtype, spread: float
) -> None:
    q, k, v = (noise(50, 2, 8, 64, seed=s) for s in (1, 2, 3))
    q, k, v = (x.to(dtype) for x in (q * spread, k * spread, v))
    exact = SDPA(*(x.double() for x in (q, k, v)))
    mine, torchs = (attend(q, k, v) for attend in (attend_by_products, SDPA))
    assert mine.dtype == dtype
    assert (mine - exact).abs().max() <= 2 * (torchs - exact).abs().max()


def test_of_many_keys_not_all_products_are_held_at_once() -> None:
    asked = []

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        asked.append(k.shape[-2])
        return SDPA(q, k, v)

    for frames in (8, 32, 33, 64):
        few_by_products(attend, *(noise(2, 2, frames, 8, seed=s) for s in (1, 2, 3)))
    assert asked == [33, 64]


def test_only_attention_over_frames_is_that_over_time() -> None:
    net, keys = network(), []

    def over_time(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys.append(k.shape[-2])
        return attend_by_products(q, k, v)

    x = noise(4, 4, 8, 8)
    as_it_was = predict(net, x, 7, TEXT, DEPTH)
    use_attention(net, SDPA, over_time)
    close(predict(net, x, 7, TEXT, DEPTH), as_it_was)
    assert keys == [4] * len(list(video_blocks(net)))


@pytest.mark.parametrize("products", [1, 1000, 10**9])
def test_attention_in_slices_is_attention_and_so_is_its_gradient(products: int) -> None:
    found = []
    for attend in (sliced(SDPA, products), SDPA):
        q, k, v = (noise(2, 2, 30, 8, seed=s).requires_grad_() for s in (1, 2, 3))
        out = attend(q, k, v)
        found.append([out, *torch.autograd.grad(out.square().sum(), [q, k, v])])
    for mine, theirs in zip(*found, strict=True):
        close(mine, theirs)


def test_a_slice_is_no_larger_than_asked() -> None:
    sizes = []

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        sizes.append(q.shape[:-1].numel() * k.shape[-2])
        return SDPA(q, k, v)

    sliced(attend, 1000)(*(noise(2, 2, 30, 8, seed=s) for s in (1, 2, 3)))
    assert len(sizes) > 1
    assert max(sizes) <= 1000


@pytest.mark.parametrize("silent", [False, True])
def test_what_is_known_of_a_frozen_network_changes_nothing(silent: bool) -> None:
    unet = network(silent)
    x = noise(4, 4, 8, 8)
    with torch.no_grad():
        plain = predict(unet, x, 7, TEXT, DEPTH)
        known = frozen(unet, TEXT[None])
        assert {part.silent for part in known.values()} == {silent}
        torch.testing.assert_close(predict(unet, x, 7, TEXT, DEPTH, known), plain)


def test_a_temporal_layer_that_only_adds_a_bias_is_not_passed_over() -> None:
    unet = network(silent=True)
    x = noise(4, 4, 8, 8)
    before = bind(unet, TEXT, DEPTH, PLAN)(x, 7)
    block = next(block for _, block in video_blocks(unet))
    block.attn_temp.to_out.bias.data.fill_(0.5)
    assert not torch.allclose(bind(unet, TEXT, DEPTH, PLAN)(x, 7), before, atol=1e-3)


def test_tuning_passes_over_no_temporal_layer() -> None:
    unet = network(silent=True)
    weights = [block.attn_temp.to_out.weight for _, block in video_blocks(unet)]
    for weight in weights:
        weight.requires_grad_()
    predict(unet, noise(4, 4, 8, 8), 7, TEXT, DEPTH).square().mean().backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in weights)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_two_texts_side_by_side_are_the_two_one_after_the_other(prediction: str) -> None:
    unet, plan = network(), schedule({"prediction_type": prediction}, 10)
    x = noise(4, 4, 8, 8).double()
    cond, uncond = (bind(unet, text, DEPTH, plan) for text in (TEXT, OTHER))
    expected = in_turn(cond, uncond)(x, 7)
    mine = bind_pair(unet, TEXT, OTHER, DEPTH, plan)(x, 7)
    assert mine.dtype == torch.float64
    torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-4)


def test_a_time_step_as_a_tensor_is_the_same_as_the_number() -> None:
    unet, x = network(), noise(4, 4, 8, 8)
    with torch.no_grad():
        number, tensor = (predict(unet, x, t, TEXT, DEPTH) for t in (7, torch.tensor(7)))
    assert torch.equal(number, tensor)


def test_a_copied_network_is_a_network_of_its_own() -> None:
    unet, x = network(), noise(4, 4, 8, 8)
    expected = bind(unet, TEXT, DEPTH, PLAN)(x, 7)
    other = copy.deepcopy(unet)
    assert torch.equal(bind(other, TEXT, DEPTH, PLAN)(x, 7), expected)
    with torch.no_grad():
        for _, block in video_blocks(other):
            block.attn1.to_q.weight.add_(1.0)
            block.attn_temp.to_out.weight.zero_()
    assert not torch.allclose(bind(other, TEXT, DEPTH, PLAN)(x, 7), expected, atol=1e-3)
    assert torch.equal(bind(unet, TEXT, DEPTH, PLAN)(x, 7), expected)


class Attended(TorchDispatchMode):
    """Counts how often attention to that many keys, or to fewer, is computed forwards."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.many = self.few = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in ATTENTION:
            self.many += args[1].shape[-2] >= MANY_KEYS
            self.few += args[1].shape[-2] < MANY_KEYS
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("level", ["blocks", "all"])
def test_attention_to_many_keys_is_not_computed_again_and_the_gradient_is_the_same(
    level: Level,
) -> None:
    x, depth = noise(4, 4, 24, 24), noise(4, 1, 24, 24, seed=2)
    found = []
    for how in ("none", level):
        unet = network()
        # Not torch's own by name, in place of which a CPU has products by oneDNN.
        use_attention(unet, lambda q, k, v: SDPA(q, k, v))
        parameters = trainable(unet).values()
        checkpoint_gradients(unet, how)
        with Attended() as counted:
            predict(unet, x, 7, TEXT, depth).square().mean().backward()
        found.append(([p.grad for p in parameters], counted.many, counted.few))
    (plain, many, few), (mine, again_many, again_few) = found
    assert again_many == many > 0
    assert again_few == 2 * few > 0
    for one, other in zip(plain, mine, strict=True):
        assert one is not None
        assert other is not None
        assert torch.equal(one, other)


def test_compiling_touches_every_block_and_computes_nothing_yet() -> None:
    unet = network()
    before = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    compile_network(unet)
    for _, block in video_blocks(unet):
        assert "mixed" in vars(block)
    resnets = [module for module in unet.modules() if isinstance(module, ResnetBlock2D)]
    assert resnets
    assert all(module._compiled_call_impl is not None for module in resnets)
    assert unet.state_dict().keys() == before.keys()


@pytest.fixture
def lightly_compiled(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """torch.compile that looks through the network and its gradient but makes no kernels."""
    real = torch.compile
    light = functools.partial(real, backend="aot_eager")
    monkeypatch.setattr(torch, "compile", light)
    monkeypatch.setattr(
        nn.Module,
        "compile",
        lambda self: setattr(self, "_compiled_call_impl", light(self._call_impl)),
    )
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


ONE_LEVEL: dict[str, Any] = {
    "block_out_channels": (8,),
    "attention_head_dim": 1,
    "down_block_types": ("CrossAttnDownBlock2D",),
    "up_block_types": ("CrossAttnUpBlock2D",),
}


@pytest.mark.slow
@pytest.mark.usefixtures("lightly_compiled")
@pytest.mark.parametrize("level", LEVELS)
def test_a_compiled_network_gives_the_same_at_every_level_of_recomputation(level: Level) -> None:
    x, depth = noise(4, 4, 24, 24), noise(4, 1, 24, 24, seed=2)  # with many keys
    found = []
    for compiled in (False, True):
        unet = small(**ONE_LEVEL).requires_grad_(False)
        awake(inflate(unet, torch.Generator().manual_seed(0)))
        parameters = trainable(unet)
        if compiled:
            compile_network(unet)
        checkpoint_gradients(unet, level)
        counters.clear()
        out = predict(unet, x, 7, TEXT, depth)
        out.square().mean().backward()
        found.append([out.detach(), *(p.grad for p in parameters.values())])
    assert counters["stats"]["unique_graphs"] >= 2
    # Nothing of ours may break a block into pieces.
    assert not counters["graph_break"]
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("lightly_compiled")
def test_a_compiled_product_is_one_graph_and_the_same() -> None:
    x, weight = noise(1024, 64), noise(96, 64)
    counters.clear()
    mine = torch.compile(inspect.unwrap(product))(x, weight)  # without any check of shapes
    close(mine, product(x, weight))
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]
