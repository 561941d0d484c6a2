"""NaN and infinity in the work: exit 3 within a step, what broke is named, and nothing is stored.

A hook on a network puts them where a half-precision overflow would: into what one call answers.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from program import Dvid

from dvcli.errors import InputError
from dvcli.models import load
from dvcli.stages import finite

BAD = [math.nan, math.inf]


def spoil_at(module: torch.nn.Module, call: int, value: float) -> None:
    """Have the module answer its `call`-th call, from 1, with one number that is none."""
    calls = 0

    def hook(_: torch.nn.Module, __: object, output: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls != call:
            return output
        spoilt = output.clone()
        spoilt[(0,) * spoilt.ndim] = value
        return spoilt

    module.register_forward_hook(hook)


def hooked(
    monkeypatch: pytest.MonkeyPatch,
    loader: str,
    part: Callable[[Any], torch.nn.Module],
    call: int,
    value: float,
) -> None:
    """A network of that loader comes with the hook on one of its parts."""
    whole = getattr(load, loader)

    def loaded(*arguments: Any) -> Any:
        network = whole(*arguments)
        spoil_at(part(network), call, value)
        return network

    monkeypatch.setattr(load, loader, loaded)


def kept(home: Path) -> set[str]:
    """Everything that the cache holds, and every clip that was written."""
    places = [*home.glob("cache/v1/objects/*/*"), *home.glob("cache/v1/actions/*/*")]
    return {
        str(path)
        for path in [*places, *home.glob("work/**/*.mp4"), *home.glob("cache/v1/partial/*/*")]
    }


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_sampling_that_breaks_down_names_its_step(
    step: int, value: float, dvid: Dvid, tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = kept(tuned)
    hooked(monkeypatch, "unet", lambda net: net.conv_out, step, value)
    said = dvid("sample", "-p", "a fox", "--guidance", "1", code=3)
    assert f"sampling broke down at step {step} of 3: the latent is not finite" in said.err
    assert "hint: `--dtype fp32` is steadier" in said.err
    assert said.out == ""
    assert kept(tuned) == before


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (1, "inversion broke down at step 1 of 4"),
        (4, "inversion broke down at step 4 of 4"),
        (5, "the reconstruction broke down at step 1 of 4"),
        (8, "the reconstruction broke down at step 4 of 4"),
    ],
)
def test_an_inversion_that_breaks_down_names_its_step(
    call: int, message: str, dvid: Dvid, tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = kept(tuned)
    hooked(monkeypatch, "unet", lambda net: net.conv_out, call, math.nan)
    assert message in dvid("invert", "--steps", "4", code=3).err
    assert kept(tuned) == before


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("step", [1, 3])
def test_a_tuning_that_breaks_down_names_its_step(
    step: int,
    value: float,
    dvid: Dvid,
    tuned: Path,
    base: Path,
    bikes: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = kept(tuned)
    hooked(monkeypatch, "unet", lambda net: net.conv_out, step, value)
    words = (
        "tune",
        bikes,
        "a man",
        "--model",
        base,
        "--steps",
        "3",
        "--frames",
        "3",
        "--size",
        "64",
    )
    said = dvid(*words, "--checkpoint-grad", "off", code=3)
    assert f"tuning broke down at step {step}: the loss is not finite" in said.err
    assert kept(tuned) == before


def test_a_vae_that_overflows_in_encoding_is_named(
    dvid: Dvid, tuned: Path, base: Path, bikes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = kept(tuned)
    hooked(monkeypatch, "vae", lambda net: net.encoder.conv_out, 1, math.nan)
    words = (
        "tune",
        bikes,
        "a dog",
        "--model",
        base,
        "--steps",
        "1",
        "--frames",
        "3",
        "--size",
        "64",
    )
    assert "the VAE answers with latents that are not finite" in dvid(*words, code=3).err
    assert kept(tuned) == before


@pytest.mark.parametrize("value", BAD)
def test_a_vae_that_overflows_in_decoding_is_named_and_not_shown_as_black(
    value: float, dvid: Dvid, tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = kept(tuned)
    hooked(monkeypatch, "vae", lambda net: net.decoder.conv_out, 1, value)
    said = dvid("sample", "-p", "a wolf", code=3)
    assert "the VAE answers with pixels that are not finite" in said.err
    assert kept(tuned) == before


def test_an_embedding_of_the_prompt_that_is_not_finite_is_named(
    dvid: Dvid, tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = kept(tuned)
    norm: Callable[[Any], torch.nn.Module] = lambda net: net.get_submodule(  # noqa: E731
        next(name for name, _ in net.named_modules() if name.endswith("final_layer_norm"))
    )
    hooked(monkeypatch, "text_encoder", norm, 1, math.nan)
    assert "the prompt's embedding is not finite" in dvid("sample", "-p", "a cat", code=3).err
    assert kept(tuned) == before


def test_a_depth_estimate_that_is_not_finite_is_named(
    dvid: Dvid, base: Path, bikes: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = load.depth_estimator

    def loaded(*arguments: Any) -> Any:
        processor, model = whole(*arguments)
        spoil_at(model.head.head[4], 1, math.nan)
        return processor, model

    monkeypatch.setattr(load, "depth_estimator", loaded)
    words = ("depth", bikes, "--model", base, "--frames", "3", "--size", "64")
    said = dvid(*words, code=3).err
    assert "the depth estimator answers with values that are not finite" in said


@pytest.mark.parametrize("part", ["visual_projection", "text_projection"])
def test_an_embedding_of_the_judge_that_is_not_finite_is_named(
    part: str, dvid: Dvid, tuned: Path, judge: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvcli.models import clip

    (made,) = dvid("sample", "-p", "a fox").lines
    whole = clip.load

    def loaded(*arguments: Any) -> Any:
        found = whole(*arguments)
        spoil_at(getattr(found.model, part), 1, math.nan)
        return found

    monkeypatch.setattr(clip, "load", loaded)
    said = dvid("eval", made, "--prompt", "a fox", "--clip-model", judge, code=3).err
    assert "the CLIP answers with an embedding that is not finite" in said


class Elsewhere(torch.Tensor):
    """A tensor that says it is on a device where looking would wait."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("cuda")


@pytest.mark.parametrize("bad", range(1, 21))
def test_on_a_device_the_first_bad_step_is_named_within_eight(bad: int) -> None:
    watch, at = finite.Watch("sampling", 20), 0

    def work() -> None:
        nonlocal at
        for at in range(1, 21):
            watch.look(torch.full((2,), math.nan if at >= bad else 0.0).as_subclass(Elsewhere))

    with pytest.raises(InputError, match=rf"sampling broke down at step {bad} of 20"):
        work()
    assert bad <= at < bad + finite.EVERY
