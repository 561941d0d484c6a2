"""The one training loop all phases share: seeded, resumable, logged, with a running average.

A phase gives its modules and a function `step -> loss`; the loop does the rest. A checkpoint holds
modules, averages, optimiser and generator, so that a stopped run goes on as if it had not stopped.
"""

import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long and how fast: `cool` is how many of the last steps the rate falls to zero over."""

    steps: int
    batch: int
    lr: float
    cool: int
    warm: int = 200
    average: float = 0.999
    weight_decay: float = 1e-3
    save_every: int = 250
    seed: int = 0
    device: str = "cpu"
    half: bool = False  # bfloat16 arithmetic under float32 weights


def rate(plan: Plan, step: int) -> float:
    """The learning rate: a linear start, a plateau, then a fall to zero over `cool` steps."""
    start = min(1.0, (step + 1) / plan.warm)
    end = min(1.0, max(0.0, (plan.steps - step) / max(plan.cool, 1)))
    return plan.lr * start * end


class Trainer:
    """Modules in training under a plan, kept in `folder`; `slower` scales some modules' rates."""

    def __init__(
        self,
        folder: Path,
        plan: Plan,
        modules: Mapping[str, nn.Module],
        slower: Mapping[str, float] | None = None,
    ) -> None:
        self.folder, self.plan, self.modules = folder, plan, dict(modules)
        folder.mkdir(parents=True, exist_ok=True)
        scale = slower or {}
        self.scales = [scale.get(name, 1.0) for name in self.modules]
        self.optimiser = torch.optim.AdamW(
            [{"params": list(m.parameters())} for m in self.modules.values()],
            lr=plan.lr,
            betas=(0.9, 0.99),
            weight_decay=plan.weight_decay,
        )
        self.generator = torch.Generator().manual_seed(plan.seed)
        self.averages = {
            name: {k: v.detach().clone() for k, v in module.state_dict().items()}
            for name, module in self.modules.items()
        }
        self.step = 0
        if self.checkpoint.exists():
            self._resume()

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    def _resume(self) -> None:
        held = torch.load(self.checkpoint, map_location=self.plan.device, weights_only=True)
        for name, module in self.modules.items():
            module.load_state_dict(held["modules"][name])
        self.averages = held["averages"]
        self.optimiser.load_state_dict(held["optimiser"])
        self.generator.set_state(held["generator"].cpu())
        self.step = held["step"]

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        held = {
            "modules": {name: m.state_dict() for name, m in self.modules.items()},
            "averages": self.averages,
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "step": self.step,
        }
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(held, partial)
        partial.replace(self.checkpoint)

    def note(self, **figures: object) -> None:
        """Append figures to the phase's log and show them."""
        line = {"step": self.step, "seen": self.step * self.plan.batch, **figures}
        shown = json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in line.items()})
        with (self.folder / "log.jsonl").open("a") as log:
            log.write(shown + "\n")
        os.write(2, (shown + "\n").encode())

    def _average(self) -> None:
        keep = min(self.plan.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, module in self.modules.items():
                for key, value in module.state_dict().items():
                    held = self.averages[name][key]
                    if value.is_floating_point():
                        held.lerp_(value, 1 - keep)
                    else:
                        held.copy_(value)

    def run(
        self,
        loss: Callable[[int], Tensor],
        probe: Callable[[], dict[str, float]] | None = None,
        probe_every: int = 500,
    ) -> None:
        """Train to the plan's last step, from wherever the checkpoint stands."""
        if self.step < self.plan.steps:
            self.note(plan=asdict(self.plan), machine=machine(self.plan.device))
        began, since, total = time.monotonic(), self.step, 0.0
        for module in self.modules.values():
            module.train()
        kind = self.plan.device.split(":")[0]
        while self.step < self.plan.steps:
            for group, scale in zip(self.optimiser.param_groups, self.scales, strict=True):
                group["lr"] = rate(self.plan, self.step) * scale
            with torch.autocast(kind, torch.bfloat16, enabled=self.plan.half):
                value = loss(self.step)
            torch.autograd.backward(value)
            for group in self.optimiser.param_groups:
                nn.utils.clip_grad_norm_(group["params"], 1.0)
            self.optimiser.step()
            self.optimiser.zero_grad(set_to_none=True)
            self.step += 1
            self._average()
            total += float(value.detach())
            if self.step % 100 == 0:
                pace = (self.step - since) * self.plan.batch / (time.monotonic() - began)
                self.note(loss=total / 100, pace=pace, lr=rate(self.plan, self.step))
                total = 0.0
            if self.step % self.plan.save_every == 0 or self.step == self.plan.steps:
                self.save()
            if probe is not None and self.step % probe_every == 0:
                self.note(**probe())


def machine(device: str) -> str:
    """What trains, in words."""
    if device != "cpu":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    kind = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return f"{torch.get_num_threads()} threads of {kind}, torch {torch.__version__}"


def spent(log: str) -> float:
    """The seconds of training that a phase's log tells of: every hundred steps over their pace."""
    rows = [json.loads(line) for line in log.splitlines()]
    return sum(
        100.0 * float(row["seen"]) / float(row["step"]) / float(row["pace"])
        for row in rows
        if "pace" in row
    )


def average_of(folder: Path, name: str) -> dict[str, Tensor]:
    """The running average of one module's weights, from the newest checkpoint of a phase."""
    held = torch.load(folder / "checkpoint.pt", map_location="cpu", weights_only=True)
    state: dict[str, Tensor] = held["averages"][name]
    return state
