"""One-shot tuning: the loss of eq. 5 and 8, and the loop that minimises it, resumable at any step.

The randomness of step k is a function of (seed, k) alone, so a resumed run needs no generator state
and goes on exactly as the unbroken one would have.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import torch
import torch.utils.checkpoint
from diffusers import UNet2DConditionModel
from jaxtyping import Float
from torch import Tensor, nn

from dvcli.core.ddim import Clip, Prediction, Schedule, add_noise, x0_from
from dvcli.core.unet import Depth, Text, deltas, load_deltas, predict, trainable
from dvcli.errors import InputError
from dvcli.recipes import TemporalTarget

State: TypeAlias = dict[str, Tensor]  # flat, for safetensors: `deltas/…`, `exp_avg/…`, `step`

BETAS, EPS = (0.9, 0.999), 1e-8
MOMENTS = ("exp_avg", "exp_avg_sq")
# fp16 gradients underflow below 6e-8; the largest factor without overflow is found anew every
# step, because a factor remembered from earlier steps would be state a resumed run lacks.
FP16_SCALES = (2.0**16, 2.0**12, 2.0**8, 2.0**4, 1.0)


@dataclass(frozen=True, kw_only=True)
class Loss:
    """The loss and its two parts, scalars; `total = denoising + λ · temporal`."""

    total: Float[Tensor, ""]
    denoising: Float[Tensor, ""]
    temporal: Float[Tensor, ""]


class Torn(Exception):
    """The network's tensors are not those of the step that they were asked for."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One finished step, counted from 1; `state()` is all that a resumed run needs.

    It is there until the next step changes the tensors; then, and when that step broke off while
    it did, it raises `Torn`.
    """

    index: int
    loss: float
    denoising: float
    temporal: float
    gradient_norm: float
    t: int
    state: Callable[[], State]


def loss(
    output: Clip,
    latents: Clip,
    noise: Clip,
    alpha: float,
    prediction: Prediction,
    *,
    temporal_weight: float,
    temporal_target: TemporalTarget,
) -> Loss:
    """Eq. 5 on the network's own target, plus λ times eq. 8 on the clean latents it predicts.

    `output` is the network's at `√ᾱ latents + √(1-ᾱ) noise`. Eq. 8 is the mean square of the
    difference of consecutive predicted latents (`zero`), or of how far that is from the clip's own
    difference (`source`), times ᾱ, which cancels the 1/ᾱ in the prediction's error.
    """
    x = add_noise(latents, noise, alpha)
    targets = {
        "epsilon": noise,
        "v_prediction": math.sqrt(alpha) * noise - math.sqrt(1 - alpha) * latents,
        "sample": latents,
    }
    denoising = torch.mean((output - targets[prediction]) ** 2)
    if len(latents) == 1:
        temporal = torch.zeros_like(denoising)
    else:
        predicted = x0_from(prediction, output, x, alpha)
        difference = predicted[1:] - predicted[:-1]
        if temporal_target == "source":
            difference = difference - (latents[1:] - latents[:-1])
        temporal = alpha * torch.mean(difference**2)
    total = denoising + temporal_weight * temporal
    return Loss(total=total, denoising=denoising, temporal=temporal)


def train(
    unet: UNet2DConditionModel,
    latents: Clip,
    depth: Depth | None,
    text: Text,
    schedule: Schedule,
    *,
    steps: int,
    lr: float,
    weight_decay: float,
    grad_clip: float,
    temporal_weight: float,
    temporal_target: TemporalTarget,
    seed: int,
    start: State | None = None,
) -> Iterator[Step]:
    """Every step of tuning an inflated network in place, from `start` or from the beginning.

    Of the schedule only the prediction type and the training ᾱ are used. Tensors are on the
    network's device. A loss or gradient that is not finite is an `InputError` that names the step.
    """
    parameters = trainable(unet)
    done = restore_deltas(unet, start) if start is not None else 0
    optimiser = torch.optim.AdamW(
        list(parameters.values()),
        lr=lr,
        betas=BETAS,
        eps=EPS,
        weight_decay=weight_decay,
        fused=latents.device.type == "cuda",
    )
    if start is not None and done:
        restore_moments(optimiser, list(parameters), start)
    latents = latents.float()
    whole: int | None = done  # the step whose tensors the network has

    def state(index: int) -> State:
        if whole != index:
            raise Torn(f"the tensors are those of step {whole}, not {index}")
        return state_of(unet, optimiser, index)

    for index in range(done + 1, steps + 1):
        generator = torch.Generator().manual_seed(seed_of(seed, index))
        t = int(torch.randint(len(schedule.train_alphas), (), generator=generator))
        noise = torch.randn(latents.shape, generator=generator).to(latents.device)
        alpha = schedule.alpha(t)

        def forward(t: int = t, noise: Clip = noise, alpha: float = alpha) -> Loss:
            output = predict(unet, add_noise(latents, noise, alpha), t, text, depth)
            return loss(
                output,
                latents,
                noise,
                alpha,
                schedule.prediction,
                temporal_weight=temporal_weight,
                temporal_target=temporal_target,
            )

        parts, norm = gradients(forward, unet, list(parameters.values()), grad_clip, index)
        whole = None
        optimiser.step()
        whole = index
        yield Step(
            index=index,
            loss=float(parts.total.detach()),
            denoising=float(parts.denoising.detach()),
            temporal=float(parts.temporal.detach()),
            gradient_norm=norm,
            t=t,
            state=partial(state, index),
        )
    optimiser.zero_grad(set_to_none=True)


def gradients(
    forward: Callable[[], Loss],
    unet: UNet2DConditionModel,
    parameters: list[nn.Parameter],
    grad_clip: float,
    index: int,
) -> tuple[Loss, float]:
    """The loss, and the norm of its gradient before clipping; leaves the clipped one in `.grad`."""
    scales = FP16_SCALES if unet.conv_in.weight.dtype == torch.float16 else (1.0,)
    for scale in scales:
        for parameter in parameters:
            parameter.grad = None
        parts = forward()
        if not parts.total.isfinite():
            raise broken(index, "loss")
        (scale * parts.total).backward()  # type: ignore[no-untyped-call]
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad /= scale
        norm = float(nn.utils.clip_grad_norm_(parameters, grad_clip))
        if math.isfinite(norm):
            return parts, norm
    raise broken(index, "gradient")


def broken(index: int, what: str) -> InputError:
    """The error for a tuning that ran away."""
    return InputError(
        f"tuning broke down at step {index}: the {what} is not finite",
        hint="a lower `--lr` or `--dtype fp32` is steadier",
    )


def seed_of(seed: int, index: int) -> int:
    """The 32-bit seed of one step; torch's CPU generator looks at no more than 32 bits."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{index}".encode()).digest()[:4])


def state_of(unet: UNet2DConditionModel, optimiser: torch.optim.AdamW, index: int) -> State:
    """Copies on the CPU of the deltas, AdamW's two moments and the number of finished steps."""
    here = deltas(unet)
    moments = optimiser.state_dict()["state"]
    flat = {f"deltas/{name}": tensor for name, tensor in here.items()}
    for place, name in enumerate(here):
        for moment in MOMENTS:
            flat[f"{moment}/{name}"] = moments[place][moment].to("cpu", copy=True).contiguous()
    return {**flat, "step": torch.tensor(index)}


def restore_deltas(unet: UNet2DConditionModel, start: Mapping[str, Tensor]) -> int:
    """The number of steps that `start` has behind it, its deltas loaded."""
    if "step" not in start:
        raise InputError("the checkpoint does not say how many steps it has behind it")
    load_deltas(unet, {n.partition("/")[2]: v for n, v in start.items() if n.startswith("deltas/")})
    return int(start["step"])


def restore_moments(
    optimiser: torch.optim.AdamW, names: list[str], start: Mapping[str, Tensor]
) -> None:
    """Give AdamW the moments of `start` and its count of steps."""
    lacking = [f"{m}/{n}" for n in names for m in MOMENTS if f"{m}/{n}" not in start]
    if lacking:
        raise InputError(f"the checkpoint lacks the tensor `{lacking[0]}`")
    fresh: dict[str, Any] = optimiser.state_dict()
    fresh["state"] = {
        place: {
            "step": start["step"].to(torch.float32),
            **{moment: start[f"{moment}/{name}"] for moment in MOMENTS},
        }
        for place, name in enumerate(names)
    }
    optimiser.load_state_dict(fresh)


def checkpoint_gradients(unet: UNet2DConditionModel, on: bool) -> None:
    """Let the network recompute activations in the backward pass, or keep them.

    Non-reentrant: the reentrant kind gives no gradient to a block whose input needs none, which is
    every trainable tensor of the down blocks here.
    """
    if on:
        unet.enable_gradient_checkpointing(recomputed)
    else:
        unet.disable_gradient_checkpointing()


def recomputed(module: nn.Module, *args: object) -> Any:
    """What the module gives, computed again when the backward pass needs its inside."""
    return torch.utils.checkpoint.checkpoint(
        module, *args, use_reentrant=False, preserve_rng_state=False
    )
