"""The video network: the stock image U-Net on a batch of frames, where only attention sees time.

A 2-D convolution over a batch of frames is the paper's 1×3×3 pseudo-3-D convolution, and its group
norms keep frames apart, so nothing but the transformer blocks changes. Parameter names of the stock
network stay; the new ones are `norm_temp` and `attn_temp` of each block.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from dvcli.core.ddim import Clip, Denoiser, Schedule, eps_from
from dvcli.errors import InputError

Text: TypeAlias = Float[Tensor, "l d"]
Depth: TypeAlias = Float[Tensor, "f 1 h w"]
Tokens: TypeAlias = Float[Tensor, "bf n c"]
Heads: TypeAlias = Float[Tensor, "b heads n d"]
Attend: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]


def linear(layer: nn.Linear, x: Float[Tensor, "... c"]) -> Float[Tensor, "... e"]:
    """The layer in the dtype of `x`: trainable weights stay float32 in a bf16 or fp16 network."""
    bias = None if layer.bias is None else layer.bias.to(x.dtype)
    return F.linear(x, layer.weight.to(x.dtype), bias)


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

    def forward(self, x: Tokens, frames: int, attend: Attend) -> Tokens:
        over_time = "(b f) n (heads d) -> (b n) heads f d"
        q, k, v = (
            rearrange(linear(layer, x), over_time, f=frames, heads=self.heads)
            for layer in (self.to_q, self.to_k, self.to_v)
        )
        mixed = rearrange(attend(q, k, v), "(b n) heads f d -> (b f) n (heads d)", n=x.shape[1])
        return linear(self.to_out, mixed)


class VideoBlock(BasicTransformerBlock):  # type: ignore[misc]  # diffusers is untyped
    """A transformer block over frames: sparse → text → feed-forward → temporal."""

    norm_temp: nn.LayerNorm
    attn_temp: TemporalAttention
    attend: Attend

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        timestep: Tensor | None = None,
        cross_attention_kwargs: dict[str, Any] | None = None,
        class_labels: Tensor | None = None,
        added_cond_kwargs: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """The tokens `(b f) n c` after the block; `cross_attention_kwargs` carries `frames`."""
        if cross_attention_kwargs is None or encoder_hidden_states is None:
            raise ValueError("a video block needs the text and the number of frames")
        if attention_mask is not None or encoder_attention_mask is not None:
            raise ValueError("attention over frames takes no mask")
        frames = cross_attention_kwargs["frames"]
        x, text = hidden_states, encoder_hidden_states
        x = x + sparse_attention(self.attn1, self.norm1(x), frames, self.attend)
        x = x + text_attention(self.attn2, self.norm2(x), text, self.attend)
        x = x + self.ff(self.norm3(x))
        norm = self.norm_temp
        weight, bias = norm.weight.to(x.dtype), norm.bias.to(x.dtype)
        normed = F.layer_norm(x, norm.normalized_shape, weight, bias, norm.eps)
        out: Tensor = x + self.attn_temp(normed, frames, self.attend)
        return out


def sparse_attention(attn: Any, x: Tokens, frames: int, attend: Attend) -> Tokens:
    """Each frame's tokens mixed by attention to frame 1 and the frame before (eq. 6 and 7).

    Keys and values are projected once per frame. Frames 1 and 2 would see frame 1 twice, which
    leaves a softmax as it is, so they see it once, and one frame alone is as in the image network.
    """
    split = "(b f) n (heads d) -> b f heads n d"
    q, k, v = (
        rearrange(linear(layer, x), split, f=frames, heads=attn.heads)
        for layer in (attn.to_q, attn.to_k, attn.to_v)
    )
    merged = "b heads (f n) d -> b f n (heads d)"
    if frames < 3:
        both = rearrange(q, "b f heads n d -> b heads (f n) d")
        mixed = rearrange(attend(both, k[:, 0], v[:, 0]), merged, f=frames)
    else:
        (k_1, k_before), (v_1, v_before) = first_and_previous(k), first_and_previous(v)
        head, tail = torch.split(q, [2, frames - 2], dim=1)
        head = rearrange(head, "b f heads n d -> b heads (f n) d")
        tail = rearrange(tail, "b f heads n d -> (b f) heads n d")
        early = rearrange(attend(head, k_1, v_1), merged, f=2)
        late = attend(tail, k_before, v_before)
        late = rearrange(late, "(b f) heads n d -> b f n (heads d)", f=frames - 2)
        mixed = torch.cat([early, late], dim=1)
    return linear(attn.to_out[0], rearrange(mixed, "b f n c -> (b f) n c"))


def first_and_previous(
    k: Float[Tensor, "b f heads n d"],
) -> tuple[Float[Tensor, "b heads n d"], Float[Tensor, "bg heads m d"]]:
    """The tokens of frame 1, and for frames 3 to f those together with the frame before's."""
    first, previous, _ = torch.split(k, [1, k.shape[1] - 2, 1], dim=1)
    pair = torch.cat([first.expand_as(previous), previous], dim=3)
    return first[:, 0], rearrange(pair, "b f heads m d -> (b f) heads m d")


def text_attention(attn: Any, x: Tokens, text: Float[Tensor, "b l e"], attend: Attend) -> Tokens:
    """Each frame's tokens mixed by attention to the text, projected once for all frames."""
    q = rearrange(
        linear(attn.to_q, x), "(b f) n (heads d) -> b heads (f n) d", b=len(text), heads=attn.heads
    )
    k, v = (
        rearrange(linear(layer, text), "b l (heads d) -> b heads l d", heads=attn.heads)
        for layer in (attn.to_k, attn.to_v)
    )
    mixed = rearrange(attend(q, k, v), "b heads (f n) d -> (b f) n (heads d)", n=x.shape[1])
    return linear(attn.to_out[0], mixed)


def inflate(unet: UNet2DConditionModel, generator: torch.Generator) -> UNet2DConditionModel:
    """The same network, from now on over `(b f)` frames, with temporal layers that do nothing yet.

    Works in place. `generator` is a CPU generator; it alone decides the new weights, which are
    float32. A network with other attention than plain transformer blocks is an `InputError`.
    """
    if any(isinstance(m, VideoBlock) for m in unet.modules()):
        raise ValueError("this network is inflated already")
    blocks = [m for m in unet.modules() if isinstance(m, BasicTransformerBlock)]
    inside = {id(m) for block in blocks for m in block.modules()}
    outside = any(isinstance(m, Attention) and id(m) not in inside for m in unet.modules())
    if not blocks or outside or not all(plain(block) for block in blocks):
        raise InputError(
            "this U-Net's attention is not that of a Stable Diffusion U-Net",
            hint="choose a checkpoint with CrossAttnDownBlock2D and layer_norm transformer blocks",
        )
    for block in blocks:
        device = block.attn1.to_q.weight.device
        dim, inner = block.attn1.query_dim, block.attn1.inner_dim
        temporal = TemporalAttention(dim, block.attn1.heads, inner, generator)
        block.norm_temp = nn.LayerNorm(dim, device=device)
        block.attn_temp = temporal.to(device)
        block.attend = F.scaled_dot_product_attention
        block.__class__ = VideoBlock
    return unet


def plain(block: Any) -> bool:
    """Whether a block is norm → self-attention → text attention → feed-forward and no more."""
    attns = [a for a in (block.attn1, block.attn2) if a is not None]
    extras = ("group_norm", "spatial_norm", "norm_q", "norm_k", "norm_cross")
    return (
        len(attns) == 2
        and block.norm_type == "layer_norm"
        and not block.only_cross_attention
        and block.attn2.is_cross_attention
        and block.pos_embed is None
        and not hasattr(block, "fuser")
        and all(getattr(a, extra, None) is None for a in attns for extra in extras)
        and all(a.rescale_output_factor == 1 and not a.residual_connection for a in attns)
    )


def video_blocks(unet: UNet2DConditionModel) -> Iterator[tuple[str, VideoBlock]]:
    """Every transformer block of an inflated network, by name."""
    found = [(n, m) for n, m in unet.named_modules() if isinstance(m, VideoBlock)]
    if not found:
        raise ValueError("this network is not inflated")
    return iter(found)


def use_attention(unet: UNet2DConditionModel, attend: Attend) -> None:
    """Let every block attend with `attend(q, k, v)` on `b heads n d`, in place of torch's SDPA."""
    for _, block in video_blocks(unet):
        block.attend = attend


def delta_parameters(unet: UNet2DConditionModel) -> dict[str, nn.Parameter]:
    """What tuning changes: both query projections and the temporal layers whole, by name."""
    return {
        f"{name}.{part}.{leaf}": parameter
        for name, block in video_blocks(unet)
        for part in ("attn1.to_q", "attn2.to_q", "norm_temp", "attn_temp")
        for leaf, parameter in block.get_submodule(part).named_parameters()
    }


def trainable(unet: UNet2DConditionModel) -> dict[str, nn.Parameter]:
    """What tuning changes, now float32 and with gradient; everything else is frozen."""
    unet.requires_grad_(False)
    found = delta_parameters(unet)
    for parameter in found.values():
        parameter.data = parameter.data.float()
        parameter.requires_grad_(True)
    return found


def deltas(unet: UNet2DConditionModel) -> dict[str, Tensor]:
    """Copies, on the CPU in float32, of what tuning changes."""
    return {
        name: parameter.detach().to("cpu", torch.float32, copy=True).contiguous()
        for name, parameter in delta_parameters(unet).items()
    }


def load_deltas(unet: UNet2DConditionModel, tensors: Mapping[str, Tensor]) -> None:
    """Give an inflated network its tuned tensors; an empty mapping leaves it untuned.

    Names and shapes have to be those of this very network, or it is an `InputError`.
    """
    if not tensors:
        return
    here = delta_parameters(unet)
    hint = "the tuning was made on another base model; tune again on this one"
    for name in sorted(here.keys() ^ tensors.keys()):
        which = "lacks" if name in here else "has the unknown tensor"
        raise InputError(f"the tuning {which} `{name}`", hint=hint)
    for name, tensor in tensors.items():
        if tensor.shape != here[name].shape:
            theirs, ours = list(tensor.shape), list(here[name].shape)
            raise InputError(f"`{name}` is {theirs} in the tuning, {ours} in the model", hint=hint)
    with torch.no_grad():
        for name, tensor in tensors.items():
            here[name].copy_(tensor)


def predict(unet: UNet2DConditionModel, x: Clip, t: int, text: Text, depth: Depth | None) -> Clip:
    """The raw output of the network for one clip, float32; it computes in its own dtype."""
    dtype = unet.conv_in.weight.dtype
    inputs = x if depth is None else torch.cat([x, depth.to(x)], dim=1)
    wanted = unet.conv_in.in_channels
    if inputs.shape[1] != wanted:
        given = "without depth" if depth is None else "with depth"
        raise InputError(f"the U-Net takes {wanted} channels, not {inputs.shape[1]} ({given})")
    (output,) = unet(
        inputs.to(dtype),
        t,
        encoder_hidden_states=text[None].to(x.device, dtype),
        cross_attention_kwargs={"frames": len(x)},
        return_dict=False,
    )
    return output.float()  # type: ignore[no-any-return]


def bind(
    unet: UNet2DConditionModel, text: Text, depth: Depth | None, schedule: Schedule
) -> Denoiser:
    """The network under one text and depth as a denoiser: ε̂ in the dtype of `x`, no gradient."""

    @torch.no_grad()
    def denoise(x: Clip, t: int) -> Clip:
        output = predict(unet, x, t, text, depth)
        return eps_from(schedule.prediction, output.to(x.dtype), x, schedule.alpha(t))

    return denoise
