"""From raw disparity to the map that conditions the network, and the controls on the way.

Monocular disparity is known only up to a scale and a shift per image. Normalising each frame by
itself would let depth flicker with whatever is nearest, so frames are first brought to one scale.
"""

from typing import TypeAlias

import torch
import torch.nn.functional as F
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor

from dvcli.core.ddim import Clip, Denoiser, Outputs, PairDenoiser, Schedule
from dvcli.errors import InputError
from dvcli.recipes import Controls, Normalise

Disparity: TypeAlias = Float[Tensor, "f 1 a b"]
Depth: TypeAlias = Float[Tensor, "f 1 h w"]

Fading: TypeAlias = Denoiser | PairDenoiser

FIT_SIDE = 64  # a fit looks at about this many rows and columns of a frame
FIT_ROUNDS = 50
TUKEY = 4.685  # in standard deviations: 95 % efficient on Gaussian residuals
FLAT = 1e-6  # a spread below this share of the values is no structure
NEUTRAL = Controls()


def align(disparity: Disparity) -> Disparity:
    """The clip with every frame on one scale and shift, those of its first frame.

    Pairs of frames 1, 2, 4, … apart are fitted robustly (what moves is an outlier); then one scale
    and one shift per frame are solved for all pairs together, so errors do not add up along the
    clip. A frame without structure takes its nearest neighbour's scale and mean.
    """
    refuse_non_finite(disparity)
    frames, _, rows, columns = disparity.shape
    grid = disparity[:, 0, :: -(-rows // FIT_SIDE), :: -(-columns // FIT_SIDE)]
    points = grid.flatten(1).to("cpu", torch.float64)
    rough = (spread(points) > FLAT * points.abs().amax(dim=1)).nonzero().flatten()
    if frames == 1 or len(rough) == 0:
        return disparity
    scale, shift = torch.ones(frames).double(), torch.zeros(frames).double()
    if len(rough) > 1:
        scale[rough], shift[rough] = settle(points[rough])
    for i in sorted(set(range(frames)) - set(rough.tolist())):
        near = int(rough[(rough - i).abs().argmin()])
        scale[i] = scale[near]
        shift[i] = shift[near] + scale[near] * (points[near].mean() - points[i].mean())
    scale, shift = (v.to(disparity)[:, None, None, None] for v in (scale, shift))
    return disparity * scale + shift


def settle(points: Float[Tensor, "f n"]) -> tuple[Float[Tensor, " f"], Float[Tensor, " f"]]:
    """The scale and shift of each frame that agree best with the fits of all its pairs."""
    frames = len(points)
    gaps = [2**k for k in range(frames.bit_length()) if 2**k < frames]
    pairs = torch.tensor([(i, i + gap) for gap in gaps for i in range(frames - gap)])
    i, j = pairs.reshape(-1, 2).T
    slope, offset, trust = fit(points[j], points[i])
    scale = balance(i, j, slope.log(), trust, frames).exp()
    return scale, balance(i, j, scale[i] * offset, trust, frames)


def fit(
    x: Float[Tensor, "p n"], y: Float[Tensor, "p n"]
) -> tuple[Float[Tensor, " p"], Float[Tensor, " p"], Float[Tensor, " p"]]:
    """Slope > 0, offset and trust of `y ≈ slope · x + offset` for every pair of frames.

    Iteratively re-weighted (Tukey's biweight). The slope is the ratio of the inliers' spreads,
    because plain regression shrinks it where `x` is noisy, and shrinking scales fade to nothing.
    """
    slope = (deviation(y) / deviation(x))[:, None]
    offset = median(y) - slope * median(x)
    floor = FLAT * spread(y)[:, None]
    weight = sigma = torch.ones_like(slope)
    for _ in range(FIT_ROUNDS):
        residual = y - slope * x - offset
        sigma = (1.4826 * median(residual.abs())).maximum(floor)
        weight = (1 - (residual / (TUKEY * sigma)) ** 2).clamp(min=0) ** 2
        weight = weight / weight.sum(dim=1, keepdim=True)
        mean_x, mean_y = ((weight * v).sum(dim=1, keepdim=True) for v in (x, y))
        var_x = (weight * (x - mean_x) ** 2).sum(dim=1, keepdim=True)
        var_y = (weight * (y - mean_y) ** 2).sum(dim=1, keepdim=True)
        # Inliers that are all background, and flat, say nothing about the slope.
        told = (var_x.sqrt() > FLAT * spread(x)[:, None]) & (var_y.sqrt() > floor)
        slope = torch.where(told, (var_y / var_x).sqrt(), slope)
        offset = mean_y - slope * mean_x
    trust = (1e-3 + sigma / spread(y)[:, None]) ** -2
    return slope[:, 0], offset[:, 0], trust[:, 0]


def balance(
    i: Int[Tensor, " p"],
    j: Int[Tensor, " p"],
    step: Float[Tensor, " p"],
    trust: Float[Tensor, " p"],
    frames: int,
) -> Float[Tensor, " f"]:
    """The levels `u`, `u[0] = 0`, with the smallest weighted squares of `u[j] - u[i] - step`."""
    rows = torch.arange(len(i))
    design = torch.zeros(len(i), frames, dtype=torch.float64)
    design[rows, j], design[rows, i] = 1.0, -1.0
    root = trust.sqrt()[:, None]
    solution = torch.linalg.lstsq(root * design[:, 1:], root * step[:, None]).solution
    return F.pad(solution[:, 0], (1, 0))


def median(v: Float[Tensor, "p n"]) -> Float[Tensor, "p 1"]:
    """The median of each row."""
    return v.median(dim=1, keepdim=True).values


def spread(v: Float[Tensor, "p n"]) -> Float[Tensor, " p"]:
    """The standard deviation of each row."""
    return v.std(dim=1, correction=0)


def deviation(v: Float[Tensor, "p n"]) -> Float[Tensor, " p"]:
    """A robust spread of each row, or the plain one where most of the row is one value."""
    robust = median((v - median(v)).abs())[:, 0]
    return torch.where(robust > FLAT * spread(v), robust, spread(v))


def to_condition(
    disparity: Disparity,
    size: tuple[int, int],
    normalise: Normalise,
    controls: Controls = NEUTRAL,
    other: Float[Tensor, "g 1 m n"] | None = None,
) -> Depth:
    """The conditioning map, float32 in [-1, 1], near = +1, of `size` (height, width) in latents.

    `clip`: frames aligned, resized, then one range (1st to 99th percentile, clamped) for the clip.
    `frame`: each frame by its own extremes, as in diffusers' `prepare_depth_map`. A constant map
    becomes zeros. `other` is the raw disparity of the clip that `controls.blend` moves toward.
    """
    if other is not None and len(other) != len(disparity):
        raise InputError(
            f"the depth to blend with has {len(other)} frames, the clip {len(disparity)}",
            hint="take the same number of frames from both clips",
        )
    d = normalised(disparity, size, normalise)
    if controls.blend and other is None:
        raise ValueError("a depth blend needs the other clip's depth")
    if controls.blend and other is not None:
        d = d.lerp(normalised(other, size, normalise), controls.blend)
    if controls.smooth:
        d = smoothed(d, controls.smooth)
    if controls.gamma != NEUTRAL.gamma:
        d = ((d + 1) / 2).clamp(0, 1) ** controls.gamma * 2 - 1
    if (controls.gain, controls.bias) != (NEUTRAL.gain, NEUTRAL.bias):
        d = (controls.gain * d + controls.bias).clamp(-1, 1)
    if (controls.near, controls.far) != (NEUTRAL.near, NEUTRAL.far):
        d = controls.far + (d + 1) / 2 * (controls.near - controls.far)
    return d


def normalised(disparity: Disparity, size: tuple[int, int], normalise: Normalise) -> Depth:
    """The map at the size of the latents in [-1, 1], before any control."""
    refuse_non_finite(disparity)
    raw = align(disparity.float()) if normalise == "clip" else disparity.float()
    # Bicubic without anti-aliasing, because that is what the base models were trained on.
    d = F.interpolate(raw, size=size, mode="bicubic", align_corners=False)
    if normalise == "clip":
        low, high = percentile(d, 0.01), percentile(d, 0.99)
        if low == high:  # a small object before a flat ground
            low, high = d.amin(), d.amax()
    else:
        low, high = d.amin(dim=(1, 2, 3), keepdim=True), d.amax(dim=(1, 2, 3), keepdim=True)
    flat = high - low <= FLAT * high.abs().maximum(low.abs())
    scaled = 2.0 * (d - low) / (high - low).where(~flat, 1) - 1.0
    scaled = scaled.clamp(-1, 1) if normalise == "clip" else scaled
    return scaled.where(~flat, 0)


def percentile(d: Depth, share: float) -> Float[Tensor, ""]:
    """The value below which `share` of the map lies, interpolated; of any size, unlike quantile."""
    ordered = d.flatten().sort().values
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below].lerp(ordered[above], place - below)


def smoothed(d: Depth, sigma: float) -> Depth:
    """The map blurred over time by a Gaussian of `sigma` frames, cut off at the clip's ends."""
    at = torch.arange(len(d), dtype=torch.float64)
    weight = torch.exp(-0.5 * ((at[:, None] - at[None]) / sigma) ** 2)
    weight = (weight / weight.sum(dim=1, keepdim=True)).to(d)
    return einsum(weight, d, "f g, g one h w -> f one h w")


def active_weight(step: int, steps: int, active: float) -> float:
    """How much depth counts at a step when the first `active` of all steps see it: 1, a part, 0."""
    return min(max(active * steps - step, 0.0), 1.0)


def fade_depth(seeing: Fading, blind: Fading, schedule: Schedule, active: float) -> Fading:
    """`seeing` for the first `active` of the schedule's steps, then `blind`, mixed at the boundary.

    `blind` is the same network under a map of zeros. Where `active` is 1, it is `seeing` itself.
    """
    if active == 1:
        return seeing
    steps = len(schedule)
    weights = {t: active_weight(k, steps, active) for k, t in enumerate(schedule.timesteps)}

    def faded(x: Clip, t: int) -> Outputs:
        weight = weights[t]
        if weight in (0, 1):
            return seeing(x, t) if weight else blind(x, t)
        return blind(x, t).lerp(seeing(x, t), weight)

    return faded


def refuse_non_finite(disparity: Disparity) -> None:
    """Let NaN and infinity in a depth map be an `InputError` that names the frame."""
    bad = (~disparity.isfinite()).flatten(1).any(dim=1).nonzero().flatten()
    if len(bad):
        raise InputError(f"the depth of frame {int(bad[0]) + 1} has values that are not finite")
