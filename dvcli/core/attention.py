"""Attention over frames, text and time, on tokens `(b f) n c`, and the linear layers it is made of.

`attend(q, k, v)` on `b heads n d` is torch's SDPA or what takes its place.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from dvcli.core.recomputing import recomputed
from dvcli.recipes import Seen

Tokens: TypeAlias = Float[Tensor, "bf n c"]
Words: TypeAlias = Float[Tensor, "b l e"]
Keys: TypeAlias = Float[Tensor, "b heads m d"]
Frames: TypeAlias = Float[Tensor, "_ _ heads _ d"]
Attend: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]

# From here on oneDNN's convolution is the faster one, twice as fast on AMD's processors; with fewer
# rows it may take ten times as long.
CONVOLVED_ROWS, CONVOLVED_PRODUCTS = 512, 2**22
# Asked once: torch.compile cannot look into it and would break off at every product.
ONEDNN = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
# Rows of a feed-forward layer at a time, so that what lies between its two halves stays in a cache.
FED_ROWS = 1024
FEW_KEYS = 32
# Queries at a time in the backward pass, so that their products with the keys stay in a cache.
SLOPE_ROWS = 512


class Projection(nn.Linear):
    """A linear layer that computes in the dtype of its input."""

    def forward(self, x: Float[Tensor, "... c"]) -> Float[Tensor, "... e"]:
        return linear(self, x)


def linear(layer: nn.Linear, x: Float[Tensor, "... c"]) -> Float[Tensor, "... e"]:
    """The layer in the dtype of `x`: trainable weights stay float32 in a bf16 or fp16 network."""
    bias = None if layer.bias is None else layer.bias.to(x.dtype)
    return product(x, layer.weight.to(x.dtype), bias)


def product(
    x: Float[Tensor, "... c"], weight: Float[Tensor, "e c"], bias: Float[Tensor, " e"] | None = None
) -> Float[Tensor, "... e"]:
    """`x Wᵀ + b`; float32 on a CPU as a convolution over a picture one pixel high."""
    rows = x.numel() // x.shape[-1]
    few = rows < CONVOLVED_ROWS or rows * weight.numel() < CONVOLVED_PRODUCTS
    if few or not convolvable(x):
        return F.linear(x, weight, bias)
    picture = x.reshape(1, 1, rows, x.shape[-1]).permute(0, 3, 1, 2)
    # A kernel of one pixel cannot be dilated, but torch gives a dilated one to oneDNN always.
    out = F.conv2d(picture, weight[:, :, None, None], bias, dilation=2)
    return out.permute(0, 2, 3, 1).reshape(*x.shape[:-1], len(weight))


def convolvable(x: Tensor) -> bool:
    """Whether oneDNN serves: float32 on a CPU, in a torch that has it."""
    return ONEDNN and x.device.type == "cpu" and x.dtype == torch.float32


def pointwise(layer: nn.Conv2d) -> None:
    """Let a convolution of single pixels go to oneDNN on a CPU, as in `product`."""
    if layer.weight.device.type == "cpu" and layer.stride == (1, 1) and layer.padding == (0, 0):
        layer.dilation = (2, 2)


class TemporalAttention(nn.Module):
    """Full self-attention over the frames at each position; its output starts at exactly zero."""

    def __init__(self, dim: int, heads: int, inner: int, generator: torch.Generator) -> None:
        super().__init__()
        self.heads = heads
        # Made on `meta`, because nn.Linear's own initialisation draws from the global generator.
        self.to_q, self.to_k, self.to_v = (
            nn.Linear(dim, inner, bias=False, device="meta").to_empty(device="cpu")
            for _ in range(3)
        )
        self.to_out = nn.Linear(inner, dim, device="meta").to_empty(device="cpu")
        for layer in (self.to_q, self.to_k, self.to_v):
            nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=generator)
        nn.init.zeros_(self.to_out.weight)
        nn.init.zeros_(self.to_out.bias)

    @property
    def silent(self) -> bool:
        """Whether its output is zero whatever comes in. On a GPU this waits for the device."""
        return not (self.to_out.weight.any() or self.to_out.bias.any())

    def forward(self, x: Tokens, frames: int, attend: Attend) -> Tokens:
        weights = [layer.weight for layer in (self.to_q, self.to_k, self.to_v)]
        qkv = product(x, torch.cat(weights).to(x.dtype))
        over_time = "(b f) n (three heads d) -> three (b n) heads f d"
        q, k, v = rearrange(qkv, over_time, three=3, f=frames, heads=self.heads).unbind()
        mixed = rearrange(attend(q, k, v), "(b n) heads f d -> (b f) n (heads d)", n=x.shape[1])
        return linear(self.to_out, mixed)


def sparse_attention(
    attn: Any, x: Tokens, frames: int, attend: Attend, sees: Seen = "first-previous"
) -> Tokens:
    """Each frame's tokens mixed by attention to frame 1 and the frame before (eq. 6 and 7).

    Keys and values are projected once per frame. Frames 1 and 2 would see frame 1 twice, which
    leaves a softmax as it is, so they see it once, and one frame alone is as in the image network.
    `sees` leaves it at frame 1, or lets each frame see all.
    """
    by_frame, merged = "(b f) n (heads d) -> b f heads n d", "b f heads n d -> (b f) n (heads d)"
    q = rearrange(linear(attn.to_q, x), by_frame, f=frames, heads=attn.heads)
    k, v = (
        rearrange(tokens, by_frame, f=frames, heads=attn.heads)
        for tokens in pair_of_products(attn.to_k, attn.to_v, x)
    )
    if sees == "full":
        q, k, v = (rearrange(tokens, "b f heads n d -> b heads (f n) d") for tokens in (q, k, v))
        mixed = rearrange(attend(q, k, v), "b heads (f n) d -> b f heads n d", f=frames)
    elif sees == "first" or frames < 3:
        mixed = attend_by_frame(attend, q, k[:, :1].expand_as(q), v[:, :1].expand_as(q))
    else:
        early, late = torch.split(q, [2, frames - 2], dim=1)
        (k_1, k_before), (v_1, v_before) = first_and_previous(k), first_and_previous(v)
        head = attend_by_frame(attend, early, k_1.expand_as(early), v_1.expand_as(early))
        mixed = torch.cat([head, attend_by_frame(attend, late, k_before, v_before)], dim=1)
    return linear(attn.to_out[0], rearrange(mixed, merged))


def attend_by_products(
    q: Float[Tensor, "b heads n d"],
    k: Float[Tensor, "b heads m d"],
    v: Float[Tensor, "b heads m d"],
) -> Float[Tensor, "b heads n d"]:
    """SDPA written out, for so few keys that a flash kernel's tiles would be mostly padding.

    Products of queries with keys are in float32, as kernels have them: rounded to a half type,
    large ones would be off by whole units before the softmax.
    """
    products = q.float() * q.shape[-1] ** -0.5 @ k.float().mT
    mixed: Tensor = products.softmax(-1).to(v.dtype) @ v
    return mixed


def few_by_products(attend: Attend, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """`attend_by_products` for `FEW_KEYS` or fewer, of more all products would fill the memory."""
    return (attend_by_products if k.shape[-2] <= FEW_KEYS else attend)(q, k, v)


def attend_by_frame(attend: Attend, q: Frames, k: Frames, v: Frames) -> Frames:
    """Each frame's queries over that frame's keys: kernels share the work out by batch and head."""
    frames = q.shape[1]
    if attend is F.scaled_dot_product_attention and convolvable(q) and frozen_keys(q, k, v):
        attend = attend_to_frozen
    mixed = attend(*(rearrange(x, "b f heads n d -> (b f) heads n d") for x in (q, k, v)))
    return rearrange(mixed, "(b f) heads n d -> b f heads n d", f=frames)


def frozen_keys(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether the queries alone are to be differentiated, as in the first block of a network."""
    return q.requires_grad and not k.requires_grad and not v.requires_grad


class _ToFrozen(torch.autograd.Function):
    """Attention whose backward pass leaves out keys and values, which no kernel does."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = F.scaled_dot_product_attention(q, k, v)
        ctx.save_for_backward(q, k, v, out)
        return out

    @staticmethod
    def backward(ctx: Any, *into: Tensor) -> tuple[Tensor, None, None]:
        q, k, v, out = ctx.saved_tensors
        scale = q.shape[-1] ** -0.5
        slopes = torch.empty_like(q)
        for b, head in itertools.product(range(q.shape[0]), range(q.shape[1])):
            keys, values = k[b, head] * scale, v[b, head]
            back = keys.T.contiguous()
            for first in range(0, q.shape[2], SLOPE_ROWS):
                here = (b, head, slice(first, first + SLOPE_ROWS))
                weights = product(q[here], keys).softmax(-1)
                level = (into[0][here] * out[here]).sum(-1, keepdim=True)
                slopes[here] = product(
                    product(into[0][here], values).sub_(level).mul_(weights), back
                )
        return slopes, None, None


def attend_to_frozen(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """SDPA's output; its gradient is that of the queries alone."""
    return _ToFrozen.apply(q, k, v)  # type: ignore[no-any-return, no-untyped-call]


def first_and_previous(k: Frames) -> tuple[Frames, Frames]:
    """The tokens of frame 1, and for frames 3 to f those together with the frame before's."""
    first, previous, _ = torch.split(k, [1, k.shape[1] - 2, 1], dim=1)
    return first, torch.cat([first.expand_as(previous), previous], dim=3)


def text_keys(attn: Any, text: Words) -> tuple[Keys, Keys]:
    """The keys and values of a text, which are the same at every step of a frozen network."""
    split = "b l (heads d) -> b heads l d"
    return (
        rearrange(linear(attn.to_k, text), split, heads=attn.heads),
        rearrange(linear(attn.to_v, text), split, heads=attn.heads),
    )


def text_attention(
    attn: Any, x: Tokens, text: Words, attend: Attend, known: tuple[Keys, Keys] | None = None
) -> Tokens:
    """Each frame's tokens mixed by attention to the text, projected once for all frames.

    `known` are that text's keys and values, where they are at hand.
    """
    k, v = text_keys(attn, text) if known is None else known
    queries = linear(attn.to_q, x)
    if attend is F.scaled_dot_product_attention and convolvable(x):
        return linear(attn.to_out[0], attend_to_few(queries, k, v))
    q = rearrange(queries, "(b f) n (heads d) -> b f heads n d", b=len(text), heads=attn.heads)
    k, v = (tokens[:, None].expand(-1, q.shape[1], -1, -1, -1) for tokens in (k, v))
    mixed = attend_by_frame(attend, q, k, v)
    return linear(attn.to_out[0], rearrange(mixed, "b f heads n d -> (b f) n (heads d)"))


def attend_to_few(q: Tokens, k: Keys, v: Keys) -> Tokens:
    """Attention of many queries to a text's few keys, whose products need no tiling on a CPU.

    In the backward pass nothing is computed for keys and values that are frozen.
    """
    b, heads, _, d = k.shape
    each = rearrange(q, "(b f) n (heads d) -> b heads (f n) d", b=b, heads=heads)
    mixed = [
        product(product(each[place], k[place] * d**-0.5).softmax(-1), v[place].T)
        for place in itertools.product(range(b), range(heads))
    ]
    together = [torch.cat(mixed[i : i + heads], dim=-1) for i in range(0, b * heads, heads)]
    return torch.stack(together).view(q.shape)


def pair_of_products(one: nn.Linear, other: nn.Linear, x: Tokens) -> tuple[Tensor, Tensor]:
    """What two layers make of the same tokens, in one product."""
    biases = None if one.bias is None else torch.cat([one.bias, other.bias]).to(x.dtype)
    out = product(x, torch.cat([one.weight, other.weight]).to(x.dtype), biases)
    first, second = torch.split(out, [one.out_features, other.out_features], dim=-1)
    return first, second


def feed_forward(layer: nn.Module, x: Tokens) -> Tokens:
    """The layer's output; without gradient on a CPU a few rows at a time."""
    if torch.is_grad_enabled() or x.device.type != "cpu" or x.shape[:2].numel() <= FED_ROWS:
        return layer(x)  # type: ignore[no-any-return]
    parts = [layer(rows) for rows in torch.split(x.flatten(0, 1), FED_ROWS)]
    return torch.cat(parts).view(x.shape)


def sliced(attend: Attend, products: int) -> Attend:
    """The same attention, a few queries at a time, so that no more than `products` are held.

    For kernels that hold the product of every query with every key. What a slice held is computed
    again in the backward pass.
    """

    def attend_in_slices(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        a_query = k.shape[-2] * q.shape[:-2].numel()
        parts = torch.split(q, max(products // a_query, 1), dim=-2)
        if len(parts) == 1:
            return attend(q, k, v)
        if torch.is_grad_enabled():
            return torch.cat([recomputed(attend, part, k, v) for part in parts], dim=-2)
        return torch.cat([attend(part, k, v) for part in parts], dim=-2)

    return attend_in_slices
