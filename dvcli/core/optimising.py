"""AdamW on what is trained, its state as a resumed run needs it, and the gradients it is fed."""

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from dvcli.core.unet import deltas, load_deltas
from dvcli.errors import InputError

State: TypeAlias = dict[str, Tensor]  # flat, for safetensors: `deltas/…`, `exp_avg/…`, `step`

BETAS, EPS = (0.9, 0.999), 1e-8
FUSED = ("cpu", "cuda")  # where torch has a kernel of its own for AdamW that heeds `found_inf`
MOMENTS = ("exp_avg", "exp_avg_sq")
# fp16 gradients underflow below 6e-8; the largest factor without overflow is found anew every
# step, because a factor remembered from earlier steps would be state a resumed run lacks.
FP16_SCALES = (2.0**16, 2.0**12, 2.0**8, 2.0**4, 1.0)


class Optimiser:
    """AdamW that takes no step once `broken` is not zero, and never waits for the device.

    Fused where there is such a kernel. With `offload` the moments, and the arithmetic on them, are
    on the CPU, at the price of moving gradients and weights over and back at each step.
    """

    def __init__(
        self, parameters: list[nn.Parameter], *, lr: float, weight_decay: float, offload: bool
    ) -> None:
        self.parameters = parameters
        device = parameters[0].device
        self.away = offload
        held = (
            [nn.Parameter(p.detach().to("cpu", copy=True)) for p in parameters]
            if self.away
            else parameters
        )
        where = held[0].device.type
        fused = where in FUSED
        self.adamw = torch.optim.AdamW(
            held,
            lr=lr,
            betas=BETAS,
            eps=EPS,
            weight_decay=weight_decay,
            fused=fused or None,
            foreach=None if fused else True,
            capturable=fused and where != "cpu",
        )
        self.broken = torch.zeros((), device=device)
        self.fused = fused and not self.away

    @torch.no_grad()
    def step(self) -> None:
        if self.fused:
            self.adamw.found_inf = self.broken  # type: ignore[attr-defined]
        elif self.broken:
            # With MPS this waits for the device at every step: its kernels take no heed of
            # `found_inf`, and after one step too many there would be no good tensors to keep.
            return
        if not self.away:
            self.adamw.step()
            return
        here = self.adamw.param_groups[0]["params"]
        for kept, parameter in zip(here, self.parameters, strict=True):
            kept.grad = None if parameter.grad is None else parameter.grad.cpu()
        self.adamw.step()
        for kept, parameter in zip(here, self.parameters, strict=True):
            parameter.copy_(kept, non_blocking=True)
            kept.grad = None

    def state(self, unet: UNet2DConditionModel, index: int) -> State:
        """Copies on the CPU of the deltas, AdamW's two moments and the number of finished steps."""
        here = deltas(unet)
        moments = self.adamw.state_dict()["state"]
        flat = {f"deltas/{name}": tensor for name, tensor in here.items()}
        for place, name in enumerate(here):
            for moment in MOMENTS:
                flat[f"{moment}/{name}"] = moments[place][moment].to("cpu", copy=True).contiguous()
        return {**flat, "step": torch.tensor(index)}

    def restore(self, names: list[str], start: Mapping[str, Tensor]) -> None:
        """Take over the moments of `start` and its count of steps."""
        lacking = [f"{m}/{n}" for n in names for m in MOMENTS if f"{m}/{n}" not in start]
        if lacking:
            raise InputError(f"the checkpoint lacks the tensor `{lacking[0]}`")
        fresh: dict[str, Any] = self.adamw.state_dict()
        fresh["state"] = {
            place: {
                "step": start["step"].to(torch.float32),
                **{moment: start[f"{moment}/{name}"] for moment in MOMENTS},
            }
            for place, name in enumerate(names)
        }
        self.adamw.load_state_dict(fresh)


def restore_deltas(unet: UNet2DConditionModel, start: Mapping[str, Tensor]) -> int:
    """The number of steps that `start` has behind it, its deltas loaded."""
    if "step" not in start:
        raise InputError("the checkpoint does not say how many steps it has behind it")
    load_deltas(unet, {n.partition("/")[2]: v for n, v in start.items() if n.startswith("deltas/")})
    return int(start["step"])


def gradients(
    total: Callable[[], Tensor], parameters: list[nn.Parameter], grad_clip: float, *, half: bool
) -> Tensor:
    """The norm of the gradient of `total()`, which stays in `.grad`, clipped to `grad_clip`.

    `half` is for a network in fp16: the loss is scaled up, and less where that overflows.
    """
    norm = parameters[0].new_full((), math.nan)
    for scale in FP16_SCALES if half else (1.0,):
        for parameter in parameters:
            parameter.grad = None
        loss = total()
        if scale == 1:
            loss.backward()  # type: ignore[no-untyped-call]
        else:
            (scale * loss).backward()  # type: ignore[no-untyped-call]
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad /= scale
        norm = nn.utils.clip_grad_norm_(parameters, grad_clip)
        if not half or not loss.isfinite() or norm.isfinite():
            break
    return norm
