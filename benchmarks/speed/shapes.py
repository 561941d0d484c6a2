"""The networks that are measured: their shapes, ours and the plain image U-Net, all random."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor

from dvcli.core import ddim, graphs, recomputing, tuning, unet
from dvcli.recipes import Tune
from dvcli.runtime import Runtime
from dvcli.stages import attention, network, preflight

SEED = 0


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A network's shape. `heads` is what diffusers calls `attention_head_dim`: how many a level."""

    channels: tuple[int, ...]
    heads: tuple[int, ...]
    cross: int
    side: int  # of the latents
    vae: tuple[int, ...]
    frames: int = 8
    tokens: int = 77
    layers: int = 2
    invert: int = 50
    sample: int = 50
    tune: int = 500


SHAPES = {
    "tiny": Shape(
        channels=(32, 64),
        heads=(1, 2),
        cross=32,
        side=8,
        vae=(32, 32),
        frames=3,
        tokens=5,
        layers=1,
        invert=2,
        sample=2,
        tune=4,
    ),
    "shaped": Shape(
        channels=(64, 128, 256, 256), heads=(1, 2, 4, 4), cross=256, side=32, vae=(32, 64, 128, 128)
    ),
    "sd2": Shape(
        channels=(320, 640, 1280, 1280),
        heads=(5, 10, 20, 20),
        cross=1024,
        side=64,
        vae=(128, 256, 512, 512),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a network is called with: latents `[f 4 h w]`, depth `[f 1 h w]`, text `[l d]`."""

    latents: Tensor
    depth: Tensor
    text: Tensor
    schedule: ddim.Schedule


def plain(shape: Shape, dtype: torch.dtype, device: str) -> Any:
    """The stock image U-Net of Stable Diffusion with a depth channel, frozen."""
    torch.manual_seed(SEED)
    deep = len(shape.channels) - 1
    with torch.device(device), default(dtype):
        net = UNet2DConditionModel(
            sample_size=shape.side,
            in_channels=5,
            out_channels=4,
            block_out_channels=shape.channels,
            layers_per_block=shape.layers,
            down_block_types=("CrossAttnDownBlock2D",) * deep + ("DownBlock2D",),
            up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * deep,
            attention_head_dim=shape.heads,
            cross_attention_dim=shape.cross,
            use_linear_projection=True,
        )
    return net.requires_grad_(False).eval()


@contextmanager
def default(dtype: torch.dtype) -> Iterator[None]:
    """New weights are of that dtype, so that no larger ones are ever held."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def ours(shape: Shape, dtype: torch.dtype, device: str) -> Any:
    """The same network over frames, as tuning has it."""
    return unet.inflate(plain(shape, dtype, device), torch.Generator().manual_seed(SEED))


def decoder(shape: Shape, dtype: torch.dtype, device: str) -> Any:
    """A VAE as that of Stable Diffusion."""
    torch.manual_seed(SEED)
    with torch.device(device), default(dtype):
        vae = AutoencoderKL(
            block_out_channels=shape.vae,
            down_block_types=("DownEncoderBlock2D",) * len(shape.vae),
            up_block_types=("UpDecoderBlock2D",) * len(shape.vae),
            layers_per_block=shape.layers,
            latent_channels=4,
            sample_size=shape.side * 2 ** (len(shape.vae) - 1),
        )
    return vae.requires_grad_(False).eval()


def inputs(shape: Shape, device: str, steps: int = 50) -> Inputs:
    """Random inputs, and Stable Diffusion's noise schedule at that many steps."""
    draw = torch.Generator().manual_seed(SEED)
    size = (shape.frames, 4, shape.side, shape.side)
    config = {
        "num_train_timesteps": 1000,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "set_alpha_to_one": False,
        "steps_offset": 1,
    }
    return Inputs(
        latents=torch.randn(size, generator=draw).to(device),
        depth=torch.rand(size[0], 1, *size[2:], generator=draw).to(device) * 2 - 1,
        text=torch.randn(shape.tokens, shape.cross, generator=draw).to(device),
        schedule=ddim.schedule(config, steps),
    )


def recorder(runtime: Runtime) -> graphs.Recorder | None:
    """What the stages would record with."""
    return network.recorder(runtime)


def our_steps(
    net: Any, given: Inputs, steps: int, runtime: Runtime, *, by: graphs.Recorder | None
) -> Iterator[tuning.Step]:
    """Tuning with a recipe's defaults, in the fastest way that the stage takes at such settings."""
    saving = preflight._ways(runtime)[0]
    recomputing.checkpoint_gradients(net, saving.level)
    unet.use_attention(net, attention.chosen(runtime, net.conv_in.weight.dtype))
    return tuning.train(
        net,
        given.latents,
        given.depth,
        given.text,
        given.schedule,
        steps=steps,
        lr=Tune.lr,
        weight_decay=Tune.weight_decay,
        grad_clip=Tune.grad_clip,
        temporal_weight=Tune.temporal_weight,
        temporal_target=Tune.temporal_target,
        seed=SEED,
        offload=saving.offload,
        by=by,
    )


def plain_steps(net: Any, given: Inputs, steps: int) -> Iterator[float]:
    """The lower bound: the same loss on the image U-Net, of which only the queries are trained."""
    for name, parameter in net.named_parameters():
        if ".to_q." in name:
            parameter.data = parameter.data.float()
            parameter.requires_grad_(True)
    trained = [p for p in net.parameters() if p.requires_grad]
    fused = given.latents.device.type == "cuda"
    optimiser = torch.optim.AdamW(trained, lr=Tune.lr, weight_decay=Tune.weight_decay, fused=fused)
    dtype = net.conv_in.weight.dtype
    for index in range(1, steps + 1):
        draw = torch.Generator().manual_seed(tuning.seed_of(SEED, index))
        t = int(torch.randint(len(given.schedule.train_alphas), (), generator=draw))
        noise = torch.randn(given.latents.shape, generator=draw).to(given.latents.device)
        alpha = given.schedule.alpha(t)
        with torch.autocast(given.latents.device.type, dtype, enabled=dtype != torch.float32):
            output = plain_call(net, ddim.add_noise(given.latents, noise, alpha), t, given)
        parts = tuning.loss(
            output,
            given.latents,
            noise,
            alpha,
            "epsilon",
            temporal_weight=Tune.temporal_weight,
            temporal_target=Tune.temporal_target,
        )
        optimiser.zero_grad(set_to_none=True)
        parts.total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trained, Tune.grad_clip)
        optimiser.step()
        yield float(parts.total.detach())


def plain_call(net: Any, x: Tensor, t: int, given: Inputs) -> Tensor:
    """The image U-Net on all frames as a batch of pictures, float32."""
    dtype = net.conv_in.weight.dtype
    (output,) = net(
        torch.cat([x, given.depth], dim=1).to(dtype),
        t,
        encoder_hidden_states=given.text.to(dtype).expand(len(x), -1, -1),
        return_dict=False,
    )
    return output.float()  # type: ignore[no-any-return]


def our_call(net: Any, x: Tensor, t: int, given: Inputs) -> Tensor:
    """Our network on the clip, float32."""
    return unet.predict(net, x, t, given.text, given.depth)
