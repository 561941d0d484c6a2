"""The video network: the stock image U-Net on a batch of frames, where only attention sees time.

A 2-D convolution over a batch of frames is the paper's 1×3×3 pseudo-3-D convolution, and its group
norms keep frames apart, so nothing but the transformer blocks changes. Parameter names of the stock
network stay; the new ones are `norm_temp` and `attn_temp` of each block.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from jaxtyping import Float, Int
from torch import Tensor, nn

from dvcli.core.attention import (
    Attend,
    Keys,
    Projection,
    TemporalAttention,
    feed_forward,
    pointwise,
    sparse_attention,
    text_attention,
    text_keys,
)
from dvcli.core.ddim import Clip, Denoiser, Pair, PairDenoiser, Schedule, eps_from
from dvcli.core.depth import Depth
from dvcli.core.graphs import Recorder, ReplayedCall
from dvcli.core.recomputing import recomputed
from dvcli.errors import InputError
from dvcli.recipes import Seen, Trained, Tune

Text: TypeAlias = Float[Tensor, "l d"]
Time: TypeAlias = int | Int[Tensor, ""]

SPATIAL: dict[Trained, tuple[str, ...]] = {
    "queries": ("to_q",),
    "projections": ("to_q", "to_k", "to_v", "to_out.0"),
}


class VideoBlock(BasicTransformerBlock):  # type: ignore[misc]  # diffusers is untyped
    """A transformer block over frames: sparse → text → feed-forward → temporal."""

    norm_temp: nn.LayerNorm
    attn_temp: TemporalAttention
    attend: Attend
    sees: Seen
    trained: Trained
    ff_recomputed: bool
    ff_whole: bool
    compiled: bool

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
        """The tokens `(b f) n c` after the block.

        `cross_attention_kwargs` carries `frames` and what is `known` of a block.
        """
        if cross_attention_kwargs is None or encoder_hidden_states is None:
            raise ValueError("a video block needs the text and the number of frames")
        if attention_mask is not None or encoder_attention_mask is not None:
            raise ValueError("attention over frames takes no mask")
        frames = cross_attention_kwargs["frames"]
        known: Known = cross_attention_kwargs.get("known", {}).get(self, UNKNOWN)
        return self.mixed(hidden_states, encoder_hidden_states, frames, known.text, known.silent)

    def mixed(
        self,
        x: Tensor,
        text: Tensor,
        frames: int,
        known: tuple[Keys, Keys] | None,
        silent: bool,
    ) -> Tensor:
        """The block's arithmetic, which knows of no other block."""
        x = x + sparse_attention(self.attn1, self.norm1(x), frames, self.attend, self.sees)
        x = x + text_attention(self.attn2, self.norm2(x), text, self.attend, known)
        if self.ff_recomputed and torch.is_grad_enabled():
            x = x + recomputed(self._fed, x)
        else:
            x = x + self._fed(x)
        if silent:
            return x
        norm = self.norm_temp
        weight, bias = norm.weight.to(x.dtype), norm.bias.to(x.dtype)
        normed = F.layer_norm(x, norm.normalized_shape, weight, bias, norm.eps)
        out: Tensor = x + self.attn_temp(normed, frames, self.attend_over_time)
        return out

    def _fed(self, x: Tensor) -> Tensor:
        x = self.norm3(x)
        return self.ff(x) if self.ff_whole else feed_forward(self.ff, x)


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is the same at every call of a frozen block: a text's keys, a silent temporal layer."""

    text: tuple[Keys, Keys] | None = None
    silent: bool = False


UNKNOWN = Known()


def inflate(
    unet: UNet2DConditionModel,
    generator: torch.Generator,
    *,
    sees: Seen = Tune.attention,
    trained: Trained = Tune.train,
) -> UNet2DConditionModel:
    """The same network, from now on over `(b f)` frames, with temporal layers that do nothing yet.

    Works in place. `generator` is a CPU generator; it alone decides the new weights, which are
    float32. `sees` is which frames spatial attention sees, and `trained` what of it tuning changes.
    A network with other attention than plain transformer blocks is an `InputError`.
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
        block.attend = block.attend_over_time = F.scaled_dot_product_attention
        block.sees, block.trained, block.ff_recomputed = sees, trained, False
        block.ff_whole = block.compiled = False
        block.__class__ = VideoBlock
    for module in unet.modules():
        if type(module) is nn.Linear:
            module.__class__ = Projection
        elif isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1):
            pointwise(module)
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


def use_attention(
    unet: UNet2DConditionModel, attend: Attend, over_time: Attend | None = None
) -> None:
    """Let every block attend with `attend(q, k, v)` on `b heads n d`, in place of torch's SDPA.

    `over_time` takes the attention over frames, where it is another.
    """
    for _, block in video_blocks(unet):
        block.attend, block.attend_over_time = attend, over_time or attend


def reckon_off_cpu(unet: UNet2DConditionModel) -> None:
    """Let a network on `meta`, which takes itself to be on a CPU, work as on any other device.

    Nobody but the CPU has products by oneDNN in place of torch's attention, or a feed-forward layer
    in parts.
    """
    use_attention(unet, lambda q, k, v: F.scaled_dot_product_attention(q, k, v))
    for _, block in video_blocks(unet):
        block.ff_whole = True


def delta_parameters(unet: UNet2DConditionModel) -> dict[str, nn.Parameter]:
    """What tuning changes, by name: the temporal layers whole, and of both spatial attentions
    the query projections or all their projections, as the network was inflated for."""
    return {
        f"{name}.{part}.{leaf}": parameter
        for name, block in video_blocks(unet)
        for part in (
            *(f"{attn}.{p}" for attn in ("attn1", "attn2") for p in SPATIAL[block.trained]),
            "norm_temp",
            "attn_temp",
        )
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


def predict(
    unet: UNet2DConditionModel,
    x: Clip,
    t: Time,
    text: Text,
    depth: Depth | None,
    known: Mapping[VideoBlock, Known] | None = None,
) -> Clip:
    """The raw output of the network for one clip, float32; it computes in its own dtype.

    `t` as a tensor is on the network's device; `known` is what `frozen`, or in tuning
    `constant`, gave for that text.
    """
    return predict_batch(unet, x[None], t, text[None], depth, known)[0]


def predict_batch(
    unet: UNet2DConditionModel,
    x: Float[Tensor, "b f c h w"],
    t: Time,
    text: Float[Tensor, "b l d"],
    depth: Depth | None,
    known: Mapping[VideoBlock, Known] | None = None,
) -> Float[Tensor, "b f c h w"]:
    """The same for clips side by side, each under its own text, all under one depth."""
    dtype, frames = unet.conv_in.weight.dtype, x.shape[1]
    inputs = x if depth is None else torch.cat([x, depth.to(x).expand(len(x), *depth.shape)], dim=2)
    wanted = unet.conv_in.in_channels
    if inputs.shape[2] != wanted:
        given = "without depth" if depth is None else "with depth"
        raise InputError(f"the U-Net takes {wanted} channels, not {inputs.shape[2]} ({given})")
    # diffusers would copy a number to the device and wait for it.
    time = t if isinstance(t, Tensor) else torch.full((), t, dtype=torch.int64, device=x.device)
    (output,) = unet(
        inputs.flatten(0, 1).to(dtype),
        time,
        encoder_hidden_states=text.to(x.device, dtype),
        cross_attention_kwargs={"frames": frames} | ({} if known is None else {"known": known}),
        return_dict=False,
    )
    return output.float().view(*x.shape[:2], *output.shape[1:])  # type: ignore[no-any-return]


@torch.no_grad()
def constant(unet: UNet2DConditionModel, text: Text) -> dict[VideoBlock, Known]:
    """What every step of tuning shares: the text's keys where their projections are not trained."""
    words = text[None].to(unet.conv_in.weight)
    return {
        block: Known(text=text_keys(block.attn2, words))
        for _, block in video_blocks(unet)
        if not block.attn2.to_k.weight.requires_grad and not block.attn2.to_v.weight.requires_grad
    }


@torch.no_grad()
def frozen(unet: UNet2DConditionModel, text: Float[Tensor, "b l d"]) -> dict[VideoBlock, Known]:
    """What every call of the network under those texts shares, as long as no weight changes."""
    words = text.to(unet.conv_in.weight)
    return {
        block: Known(text=text_keys(block.attn2, words), silent=block.attn_temp.silent)
        for _, block in video_blocks(unet)
    }


def bind(
    unet: UNet2DConditionModel,
    text: Text,
    depth: Depth | None,
    schedule: Schedule,
    *,
    by: Recorder | None = None,
) -> Denoiser:
    """The network under one text and depth as a denoiser: ε̂ in the dtype of `x`, no gradient.

    It is bound as it is now: once its weights change it has to be bound again. `by` records the
    call and replays it.
    """
    call = _called(unet, text[None], depth, by)

    @torch.no_grad()
    def denoise(x: Clip, t: int) -> Clip:
        (output,) = call(x[None], t)
        return eps_from(schedule.prediction, output.to(x.dtype), x, schedule.alpha(t))

    return denoise


def bind_pair(
    unet: UNet2DConditionModel,
    text: Text,
    negative: Text,
    depth: Depth | None,
    schedule: Schedule,
    *,
    by: Recorder | None = None,
) -> PairDenoiser:
    """The network under two texts side by side: what `bind` gives for each, in one call.

    It takes the activations of twice the frames.
    """
    call = _called(unet, torch.stack([text, negative]), depth, by)

    @torch.no_grad()
    def denoise(x: Clip, t: int) -> Pair:
        outputs = call(x.expand(2, *x.shape), t).to(x.dtype)
        return eps_from(schedule.prediction, outputs, x, schedule.alpha(t))

    return denoise


def _called(
    unet: UNet2DConditionModel,
    texts: Float[Tensor, "b l d"],
    depth: Depth | None,
    by: Recorder | None,
) -> Callable[[Tensor, int], Tensor]:
    """The network's output at clips `b f c h w` and a time-step, each clip under its text."""
    known = frozen(unet, texts)

    @torch.no_grad()
    def call(x: Tensor, t: Tensor) -> Tensor:
        return predict_batch(unet, x, t, texts, depth, known)

    replayed = call if by is None else ReplayedCall(call, by)

    def called(x: Tensor, t: int) -> Tensor:
        return replayed(x, torch.full((), t, dtype=torch.int64, device=x.device))

    return called
