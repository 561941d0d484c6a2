"""One-shot tuning: the loss of eq. 5 and 8, and the loop that minimises it, resumable at any step.

The randomness of step k is a function of (seed, k) alone, so a resumed run needs no generator state
and goes on exactly as the unbroken one would have.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from diffusers import UNet2DConditionModel
from jaxtyping import Float
from torch import Tensor

from dvcli.core.ddim import Clip, Power, Prediction, Schedule, add_noise, root, x0_from
from dvcli.core.depth import Depth
from dvcli.core.graphs import Recorder, Replayed
from dvcli.core.optimising import Optimiser, State, gradients, restore_deltas
from dvcli.core.unet import Text, constant, predict, trainable
from dvcli.errors import InputError
from dvcli.recipes import TemporalTarget

PATIENCE = 16  # steps between two looks at whether all is well, where looking waits for the device


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
    it did, it raises `Torn`. `figures` are the loss, its two parts and the gradient's norm, where
    the device has them; to read one of them on a GPU is to wait for the step.
    """

    index: int
    figures: Float[Tensor, "4"]
    t: int
    state: Callable[[], State]

    @property
    def loss(self) -> float:
        return float(self.figures[0])

    @property
    def denoising(self) -> float:
        return float(self.figures[1])

    @property
    def temporal(self) -> float:
        return float(self.figures[2])

    @property
    def gradient_norm(self) -> float:
        return float(self.figures[3])


def loss(
    output: Clip,
    latents: Clip,
    noise: Clip,
    alpha: Power,
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
        "v_prediction": root(alpha) * noise - root(1 - alpha) * latents,
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
        # A scalar ᾱ in float64 would make a scalar float64 too, but not a row.
        (temporal,) = alpha * torch.mean(difference**2).reshape(1)
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
    offload: bool = False,
    by: Recorder | None = None,
) -> Iterator[Step]:
    """Every step of tuning an inflated network in place, from `start` or from the beginning.

    Of the schedule only the prediction type and the training ᾱ are used. Tensors are on the
    network's device. A loss or gradient that is not finite is an `InputError` that names the step;
    on a GPU it comes a few steps late, and no step after the last good one has changed a tensor.
    `offload` keeps the optimiser's state on the CPU; `by` records the step and replays it.
    """
    parameters = trainable(unet)
    done = restore_deltas(unet, start) if start is not None else 0
    trained = list(parameters.values())
    optimiser = Optimiser(trained, lr=lr, weight_decay=weight_decay, offload=offload)
    if start is not None and done:
        optimiser.restore(list(parameters), start)
    latents = latents.float()
    half = unet.conv_in.weight.dtype == torch.float16
    draw = Draw(latents, schedule)
    known = constant(unet, text)
    figures = latents.new_zeros(4)
    good = latents.new_zeros(())  # steps of this run before the first broken one
    whole: int | None = done  # the step whose tensors the network has

    def total() -> Tensor:
        x = add_noise(latents, draw.noise, draw.alpha)
        output = predict(unet, x, draw.t, text, depth, known)
        parts = loss(
            output,
            latents,
            draw.noise,
            draw.alpha,
            schedule.prediction,
            temporal_weight=temporal_weight,
            temporal_target=temporal_target,
        )
        found = (parts.total, parts.denoising, parts.temporal)
        figures[:3].copy_(torch.stack(found).detach())
        return parts.total

    def differentiate() -> None:
        figures[3].copy_(gradients(total, trained, grad_clip, half=half))
        finite = (figures[0] + figures[3]).isfinite()
        optimiser.broken.copy_(torch.where(finite, optimiser.broken, 1.0))
        good.add_(1 - optimiser.broken)

    def advance() -> None:
        differentiate()
        optimiser.step()

    def check() -> None:
        if optimiser.broken:
            what = "gradient" if figures[0].isfinite() else "loss"
            raise ran_away(done + int(good) + 1, what)

    def state(index: int) -> State:
        if whole != index:
            raise Torn(f"the tensors are those of step {whole}, not {index}")
        check()
        return optimiser.state(unet, index)

    replayed = None if by is None or half or optimiser.away else Replayed(advance, by)
    waits = asynchronous(latents.device)
    for index in range(done + 1, steps + 1):
        t = draw.next(seed, index)
        if replayed is not None:
            whole = None
            replayed()
        else:
            differentiate()
            if not waits:
                check()
            whole = None
            optimiser.step()
        whole = index
        if waits and (index % PATIENCE == 0 or index == steps):
            check()
        yield Step(index=index, figures=figures.clone(), t=t, state=partial(state, index))
    for parameter in trained:
        parameter.grad = None


def asynchronous(device: torch.device) -> bool:
    """Whether the host runs ahead of this device, so that to look at a result is to wait."""
    return device.type != "cpu"


class Draw:
    """The noise, the time-step and its ᾱ of one step, in buffers on the device of the latents."""

    def __init__(self, latents: Clip, schedule: Schedule) -> None:
        self.schedule = schedule
        self.noise = torch.zeros_like(latents)
        device = latents.device
        exact = torch.float32 if device.type == "mps" else torch.float64
        self.alpha = torch.zeros((), dtype=exact, device=device)
        self.t = torch.zeros((), dtype=torch.int64, device=device)

    def next(self, seed: int, index: int) -> int:
        """The time-step of step `index`, once all of it is drawn, on the CPU, and on its way."""
        generator = torch.Generator().manual_seed(seed_of(seed, index))
        t = int(torch.randint(len(self.schedule.train_alphas), (), generator=generator))
        noise = torch.randn(self.noise.shape, generator=generator)
        # From pinned memory the copy waits for nothing; torch keeps it until the copy is done.
        pinned = noise.pin_memory() if self.noise.is_cuda else noise
        self.noise.copy_(pinned, non_blocking=True)
        self.alpha.fill_(self.schedule.alpha(t))
        self.t.fill_(t)
        return t


def ran_away(index: int, what: str) -> InputError:
    """The error for a tuning that ran away."""
    return InputError(
        f"tuning broke down at step {index}: the {what} is not finite",
        hint="a lower `--lr` or `--dtype fp32` is steadier",
    )


def seed_of(seed: int, index: int) -> int:
    """The 32-bit seed of one step; torch's CPU generator looks at no more than 32 bits."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{index}".encode()).digest()[:4])
