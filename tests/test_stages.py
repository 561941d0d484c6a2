"""What the stages do that no single room can: attention kernels, preflight, many prompts."""

import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from program import Dvid
from torch import Tensor

from dvcli.errors import MissingError, ResourceError
from dvcli.models import load
from dvcli.runtime import Runtime
from dvcli.stages import attention, preflight

ops = "xformers.ops"


def install(monkeypatch: pytest.MonkeyPatch, kernel: Callable[..., Tensor]) -> None:
    """A stand-in for xformers: there is no CPU path in the real one."""
    package, module = types.ModuleType("xformers"), types.ModuleType(ops)
    module.memory_efficient_attention = kernel  # type: ignore[attr-defined]
    package.ops = module  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "xformers", package)
    monkeypatch.setitem(sys.modules, ops, module)


def right(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)


def test_xformers_is_taken_when_it_gives_the_same_and_is_not_slower(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(monkeypatch, right)
    monkeypatch.setattr(attention, "fastest", lambda work: 1.0)
    attend = attention.chosen(Runtime(attention="xformers"), torch.float32)
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 2, 5, 8, generator=generator) for _ in range(3))
    assert attend is not F.scaled_dot_product_attention
    torch.testing.assert_close(attend(q, k, v), F.scaled_dot_product_attention(q, k, v))


def test_xformers_that_gives_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, lambda q, k, v: right(q, k, v) + 0.5)
    with pytest.raises(ResourceError, match=r"differs by 0\.5"):
        attention.chosen(Runtime(attention="xformers"), torch.float32)


def test_slower_xformers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, right)
    times = iter([2.0, 1.0])
    monkeypatch.setattr(attention, "fastest", lambda work: next(times))
    with pytest.raises(ResourceError, match=r"2\.00 times as long"):
        attention.chosen(Runtime(attention="xformers"), torch.float32)


def test_xformers_asked_for_and_absent_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, ops, None)
    with pytest.raises(MissingError) as caught:
        attention.chosen(Runtime(attention="xformers"), torch.float32)
    assert caught.value.hint is not None
    assert "dvid[xformers]" in caught.value.hint


def test_auto_on_a_cpu_is_torchs_own() -> None:
    assert attention.chosen(Runtime(), torch.float32) is F.scaled_dot_product_attention


def test_many_prompts_cost_one_load_of_each_model(
    dvid: Dvid, tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[str] = []
    for name in ("unet", "vae", "text_encoder"):
        real = getattr(load, name)

        def counted(*arguments: object, name: str = name, real: object = real) -> object:
            loads.append(name)
            return real(*arguments)  # type: ignore[operator]

        monkeypatch.setattr(load, name, counted)
    said = dvid("sample", *[part for p in "abcd" for part in ("-p", f"a bear {p}")])
    assert len(set(said.lines)) == 4
    assert sorted(loads) == ["text_encoder", "unet", "vae"]


def test_tuning_recomputes_activations_only_when_memory_calls_for_it(base: Path) -> None:
    from dvcli.recipes import Base

    parts = dict.fromkeys(("vae", "text_encoder", "tokenizer", "scheduler"), "0" * 64)
    network = Base(unet="1" * 64, **parts)
    x0, text = torch.zeros(8, 4, 16, 16), torch.zeros(77, 32)

    def asked(limit: int) -> bool:
        runtime = Runtime(memory_limit=limit, locate=lambda _: base / "unet")
        return preflight.recompute(network, x0, text, "fp32", runtime)

    assert asked(2**40) is False
    sizes = [2**power for power in range(20, 34)]
    answers: list[bool | None] = []
    for size in sizes:
        try:
            answers.append(asked(size))
        except ResourceError:
            answers.append(None)
    # With growing memory: it does not fit, then it fits recomputed, then it fits as it is.
    assert answers == sorted(answers, key=(None, True, False).index)
    assert answers[0] is None
    assert answers[-1] is False


def test_the_memory_of_a_container_counts_and_not_only_the_machines(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    monkeypatch.setattr(preflight, "CGROUP", tmp_path)
    assert preflight.available(Runtime()) == 600_000
