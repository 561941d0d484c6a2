"""The noise schedule of a checkpoint, and deterministic sampling and its inversion along it.

The integration state is float64 (float32 where the device has no float64), whatever the network's
dtype. `ᾱ` is the cumulative signal power: `x_t = √ᾱ x_0 + √(1-ᾱ) ε`. Equations: Song et al.,
Denoising Diffusion Implicit Models, 2020 (formulas 12 and 16).
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from dvcli.errors import InputError, UsageError

Clip: TypeAlias = Float[Tensor, "f c h w"]
Denoiser: TypeAlias = Callable[[Clip, int], Clip]
Pair: TypeAlias = Float[Tensor, "2 f c h w"]
Outputs: TypeAlias = Float[Tensor, "*b f c h w"]
PairDenoiser: TypeAlias = Callable[[Clip, int], Pair]  # of one clip, under two texts
Prediction: TypeAlias = Literal["epsilon", "v_prediction", "sample"]
Power: TypeAlias = float | Float[Tensor, ""]  # ᾱ; on the device where the host must not be asked

# ᾱ = 0 (a terminal SNR of zero) would lose x_0 in ε; diffusers' Euler and DPM schedulers use this.
ALPHA_FLOOR = 2.0**-24


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The steps of a sampler, from noise to clip: at `timesteps[k]`, `alphas[k]` → `landings[k]`.

    As in diffusers a step lands on the ᾱ of `t - T // steps`, which for linspace and trailing
    spacing is not always the ᾱ of the next time-step, so both ends of every step are kept.
    `train_alphas` is ᾱ at all T training steps, float64.
    """

    timesteps: tuple[int, ...]
    alphas: tuple[float, ...]
    landings: tuple[float, ...]
    prediction: Prediction
    train_alphas: Float[Tensor, " T"]

    @property
    def alpha_last(self) -> float:
        """ᾱ that the last step lands on, and that inversion starts from."""
        return self.landings[-1]

    def alpha(self, t: int) -> float:
        """ᾱ at the training step `t`."""
        return float(self.train_alphas[t])

    def __len__(self) -> int:
        return len(self.timesteps)

    def __iter__(self) -> Iterator[tuple[int, float, float]]:
        return zip(self.timesteps, self.alphas, self.landings, strict=True)


def schedule(config: Mapping[str, object], steps: int) -> Schedule:
    """The DDIM schedule of a diffusers `scheduler_config.json`, whichever class wrote it.

    What the file leaves out has `DDIMScheduler`'s default, except that nothing is clipped unless
    the file says so. A value that DDIM on latents cannot honour is an `InputError` that names it;
    a step count that the training steps do not hold is a `UsageError`.
    """
    for flag in ("clip_sample", "thresholding"):
        if config.get(flag):
            raise InputError(f"the scheduler sets `{flag}`, which latents do not allow")
    prediction = config.get("prediction_type", "epsilon")
    if prediction not in get_args(Prediction):
        raise InputError(f"the scheduler's prediction_type `{prediction}` is not supported")
    alphas = training_alphas(config)
    total = len(alphas)
    if not 1 <= steps <= total:
        raise UsageError(f"the number of steps is {steps}, which is not between 1 and {total}")
    timesteps = spaced(config, steps, total)
    if timesteps[0] >= total:
        fitting = next((n for n in range(steps, 0, -1) if spaced(config, n, total)[0] < total), 0)
        raise UsageError(
            f"{steps} steps do not fit into the {total} of this checkpoint",
            hint=f"ask for {fitting} steps",
        )
    last = 1.0 if config.get("set_alpha_to_one", True) else float(alphas[0])
    landed = (t - total // steps for t in timesteps)
    return Schedule(
        timesteps=timesteps,
        alphas=tuple(float(alphas[t]) for t in timesteps),
        landings=tuple(float(alphas[t]) if t >= 0 else last for t in landed),
        prediction=prediction,  # type: ignore[arg-type]
        train_alphas=alphas,
    )


def training_alphas(config: Mapping[str, object]) -> Float[Tensor, " T"]:
    """ᾱ at every training step, float64, computed in float32 as diffusers does."""
    total = int(number(config, "num_train_timesteps", 1000))
    low, high = number(config, "beta_start", 1e-4), number(config, "beta_end", 0.02)
    kind = config.get("beta_schedule", "linear")
    trained = config.get("trained_betas")
    if trained is not None:
        betas = torch.as_tensor(trained, dtype=torch.float32)
        if betas.shape != (total,):
            raise InputError(f"the scheduler has {betas.numel()} trained_betas for {total} steps")
    elif kind == "linear":
        betas = torch.linspace(low, high, total, dtype=torch.float32)
    elif kind == "scaled_linear":
        betas = torch.linspace(low**0.5, high**0.5, total, dtype=torch.float32) ** 2
    elif kind == "squaredcos_cap_v2":
        curve = [math.cos((i / total + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(total + 1)]
        betas = torch.tensor([min(1 - curve[i + 1] / curve[i], 0.999) for i in range(total)])
    else:
        raise InputError(f"the scheduler's beta_schedule `{kind}` is not supported")
    alphas = (1 - betas).cumprod(0)
    if config.get("rescale_betas_zero_snr"):
        # Lin et al. 2023, algorithm 1: √ᾱ shifted to end at 0, scaled to start as it did.
        root = alphas.sqrt()
        root = (root - root[-1]) * (root[0] / (root[0] - root[-1]))
        alphas = root**2
    return alphas.double().clamp(min=ALPHA_FLOOR)


def spaced(config: Mapping[str, object], steps: int, total: int) -> tuple[int, ...]:
    """The time-steps of `steps` sampler steps, descending (Lin et al. 2023, table 2)."""
    kind = config.get("timestep_spacing", "leading")
    if kind == "leading":
        offset = int(number(config, "steps_offset", 0))
        return tuple(k * (total // steps) + offset for k in reversed(range(steps)))
    if kind == "linspace":
        grid = torch.linspace(0, total - 1, steps, dtype=torch.float64)
        return tuple(int(t) for t in grid.round().flip(0))
    if kind == "trailing":
        return tuple(round(total - k * (total / steps)) - 1 for k in range(steps))
    raise InputError(f"the scheduler's timestep_spacing `{kind}` is not supported")


def number(config: Mapping[str, object], name: str, default: float) -> float:
    """A numeric entry of a scheduler's configuration."""
    value = config.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"the scheduler's {name} is `{value}`, which is not a number")
    return value


def root(power: Power) -> Power:
    """The square root, of a number or of a scalar tensor."""
    return power.sqrt() if isinstance(power, Tensor) else math.sqrt(power)


def x0_from(prediction: Prediction, output: Clip, x: Clip, alpha: Power) -> Clip:
    """The clean clip that a network's raw output at `x` and ᾱ implies."""
    if prediction == "epsilon":
        return (x - root(1 - alpha) * output) / root(alpha)
    if prediction == "v_prediction":
        return root(alpha) * x - root(1 - alpha) * output
    return output


def eps_from(prediction: Prediction, output: Outputs, x: Clip, alpha: float) -> Outputs:
    """The noise that a network's raw output at `x` and ᾱ implies, or each of several outputs."""
    if prediction == "epsilon":
        return output
    if prediction == "v_prediction":
        return math.sqrt(alpha) * output + math.sqrt(1 - alpha) * x
    return (x - math.sqrt(alpha) * output) / math.sqrt(1 - alpha)


def add_noise(x_0: Clip, eps: Clip, alpha: Power) -> Clip:
    """The clip with noise of power 1 - ᾱ: √ᾱ x_0 + √(1-ᾱ) ε."""
    return root(alpha) * x_0 + root(1 - alpha) * eps


def ddim_step(x: Clip, eps: Clip, alpha_from: float, alpha_to: float) -> Clip:
    """`x` moved from one ᾱ to another along the noise `eps`; it inverts when ᾱ falls."""
    return add_noise(x0_from("epsilon", eps, x, alpha_from), eps, alpha_to)


def ddim_noise_step(
    x: Clip, eps: Clip, alpha_from: float, alpha_to: float, eta: float, noise: Clip
) -> Clip:
    """`x` moved toward the clip with the share `eta` of DDPM's fresh noise (formula 16)."""
    variance = eta**2 * (1 - alpha_to) / (1 - alpha_from) * (1 - alpha_from / alpha_to)
    x_0 = x0_from("epsilon", eps, x, alpha_from)
    kept = math.sqrt(max(1 - alpha_to - variance, 0.0))
    return math.sqrt(alpha_to) * x_0 + kept * eps + math.sqrt(variance) * noise


def sample(
    denoise: Denoiser,
    x_T: Clip,
    schedule: Schedule,
    *,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
) -> Iterator[Clip]:
    """The clip after every step of the schedule, the last one clean.

    With `eta > 0` fresh noise is drawn from `generator`, on the CPU.
    """
    return sample_last(denoise, lambda k: x_T, schedule, 1.0, eta=eta, generator=generator)


def sample_last(
    denoise: Denoiser,
    passed: Callable[[int], Clip],
    schedule: Schedule,
    strength: float,
    *,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
) -> Iterator[Clip]:
    """The clip after each of the last `strength` of the schedule's steps, the last one clean.

    `passed(k)` is the latent that a known clip has before step `k`, and `passed(len(schedule))`
    that clip. Where the share falls inside a step, the step's result is mixed with what `passed`
    has behind it, so that the outcome changes smoothly with `strength`. None are run at 0.
    """
    if eta > 0 and generator is None:
        raise ValueError("eta > 0 draws noise and needs a generator")
    share = strength * len(schedule)
    first = len(schedule) - math.ceil(share)
    part = share - math.floor(share)
    if share == 0:
        return
    x = in_full_precision(passed(first))
    for k, (t, alpha_from, alpha_to) in tuple(enumerate(schedule))[first:]:
        eps = denoise(x, t)
        if eta > 0:
            noise = torch.randn(x.shape, generator=generator).to(x)
            x = ddim_noise_step(x, eps, alpha_from, alpha_to, eta, noise)
        else:
            x = ddim_step(x, eps, alpha_from, alpha_to)
        if k == first and part:
            x = passed(k + 1).to(x).lerp(x, part)
        yield x


def invert(denoise: Denoiser, x_0: Clip, schedule: Schedule, *, refine: int = 0) -> Iterator[Clip]:
    """The latent after every sampler step undone, last step first; the last one is x_T.

    The step that arrived at `y` solves `x = ddim_step(y, ε(x, t), …)` with `t` the step's own. The
    first guess takes ε at `(y, t)`, which is plain DDIM inversion; every refinement takes it at the
    newest `x`, a fixed-point iteration whose limit the sampler maps back to `y` exactly.
    """
    x = in_full_precision(x_0)
    for t, alpha_from, alpha_to in reversed(tuple(schedule)):
        y = x
        for _ in range(1 + refine):
            x = ddim_step(y, denoise(x, t), alpha_to, alpha_from)
        yield x


def in_turn(cond: Denoiser, uncond: Denoiser) -> PairDenoiser:
    """What both give, one called after the other."""
    return lambda x, t: torch.stack([cond(x, t), uncond(x, t)])


def guide(cond: Denoiser, both: PairDenoiser, scale: float) -> Denoiser:
    """Classifier-free guidance, `uncond + scale · (cond - uncond)`; scale 1 is `cond` itself.

    `both` gives what the prompt and the negative one say, in this order.
    """
    if scale == 1:
        return cond

    def guided(x: Clip, t: int) -> Clip:
        along, without = both(x, t).unbind()
        return without + scale * (along - without)

    return guided


def guide_within(
    cond: Denoiser,
    both: PairDenoiser,
    scale: float,
    schedule: Schedule,
    *,
    start: float,
    until: float,
) -> Denoiser:
    """Guidance in the steps whose share of the way lies in `[start, until)`, elsewhere `cond`.

    A step that the interval cuts has the part of `scale - 1` that lies inside. Over the whole way
    it is `guide` itself. Source: Kynkäänniemi et al., Applying Guidance in a Limited Interval of
    Noise Levels, 2024.
    """
    if (start, until) == (0, 1):
        return guide(cond, both, scale)
    steps = len(schedule)
    inside = (min((k + 1) / steps, until) - max(k / steps, start) for k in range(steps))
    shares = (min(max(part * steps, 0.0), 1.0) for part in inside)
    guided = {
        t: guide(cond, both, 1 + share * (scale - 1))
        for t, share in zip(schedule.timesteps, shares, strict=True)
    }
    return lambda x, t: guided[t](x, t)


def in_full_precision(x: Clip) -> Clip:
    """The clip in float64, or in float32 on a device that has no float64."""
    return x.to(torch.float32 if x.device.type == "mps" else torch.float64)
