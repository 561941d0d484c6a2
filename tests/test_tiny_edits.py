"""What the built-in model's edits show: colours follow the prompt, shapes follow the depth."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from program import Dvid
from safetensors.torch import load_file

import dvcli
from dvcli.store import Store
from dvcli.video import frames as frame_file

DEMO = Path(dvcli.__file__).parent / "bundled" / "demo.mp4"
CAPTION = "a red ball in front of a blue cube on snow, photorealism style"
TINY = ["--model", "tiny", "--frames", "4"]

pytestmark = pytest.mark.skipif(
    not (DEMO.parent / "tiny" / "model_index.json").exists(), reason="the weights are not here"
)
Frames = NDArray[np.uint8]


def sampled(dvid: Dvid, *wish: str) -> Frames:
    """The frames of a sample of the last run."""
    options = ["--guidance", "4", *wish]
    dvid("sample", *options)
    steps = [json.loads(line) for line in dvid("sample", *options, "-n", "--json").lines]
    found = Store.open().get(steps[-1]["key"])
    assert found is not None
    return frame_file.load(found.path("frames"))


def share(frames: Frames, colour: str) -> float:
    """The share of pixels in which one channel stands out by 40 levels."""
    return float(standing_out(frames, colour).mean())


def standing_out(frames: Frames, colour: str) -> NDArray[np.bool_]:
    channel = ["red", "green", "blue"].index(colour)
    others = np.delete(frames.astype(int), channel, axis=-1).max(axis=-1)
    result: NDArray[np.bool_] = frames[..., channel].astype(int) > others + 40
    return result


@pytest.fixture
def inverted(dvid: Dvid) -> None:
    """The demo's clip, untuned, inverted in 10 steps."""
    dvid("tune", DEMO, CAPTION, *TINY, "--steps", "0")
    dvid("invert", "--steps", "10")


def test_an_edit_to_green_makes_the_balls_pixels_green(dvid: Dvid, inverted: None) -> None:
    prompt = "a green ball in front of a blue cube on snow, photorealism style"
    frames = sampled(dvid, "-p", prompt)
    assert share(frames, "green") > 0.04
    assert share(frames, "red") < 0.01


def test_the_source_prompt_keeps_the_ball_red_and_the_cube_blue(dvid: Dvid, inverted: None) -> None:
    frames = sampled(dvid, "-p", CAPTION)
    assert share(frames, "red") > 0.04
    assert share(frames, "blue") > 0.04
    assert share(frames, "green") < 0.01


def test_another_clips_depth_moves_the_shapes(dvid: Dvid, inverted: None, tmp_path: Path) -> None:
    from dvcli.video.read import read
    from dvcli.video.write import write

    mirrored = read(DEMO, frames=None, size=None, fit="crop").frames[:, :, ::-1]
    clip = tmp_path / "mirrored.mp4"
    write(clip, np.ascontiguousarray(mirrored), fps=8, metadata=None)
    dvid("tune", clip, CAPTION, *TINY, "--steps", "0")

    def ball_at(*wish: str) -> float:
        """Where the red is in the first frame, 0 left to 1 right."""
        seen = standing_out(sampled(dvid, "demo", "-p", CAPTION, "--from-noise", *wish), "red")
        return float(np.nonzero(seen[0])[1].mean()) / seen.shape[2]

    assert ball_at() < 0.4
    assert ball_at("--depth-from", "mirrored", "--depth-blend", "1") > 0.6


def test_tuning_lowers_the_loss_on_noise_it_has_not_seen(dvid: Dvid) -> None:
    from dvcli.core import ddim, tuning, unet
    from dvcli.models import load, text
    from dvcli.stages import network

    dvid("tune", DEMO, CAPTION, *TINY, "--steps", "40", "--lr", "1e-3", "--temporal-weight", "0")
    run = json.loads(dvid("runs", "--json").out)
    found = Store.open().get(run["keys"]["tune"])
    assert found is not None
    tiny = DEMO.parent / "tiny"
    x0 = load_file(found.path("latents"))["latents"]
    plan = ddim.schedule(load.scheduler_config(tiny / "scheduler"), 10)
    words = text.embed(
        load.tokenizer(tiny / "tokenizer"),
        load.text_encoder(tiny / "text_encoder", "fp32", "cpu"),
        CAPTION,
    )
    disparity = Store.open().get(run["keys"]["depth"])
    depth = network.condition(disparity, x0, "clip")

    def loss_of(deltas: dict[str, torch.Tensor]) -> float:
        net = unet.inflate(load.unet(tiny / "unet", "fp32", "cpu"), torch.Generator())
        unet.load_deltas(net, deltas)
        total = 0.0
        for t in (100, 300, 500, 700, 900):
            noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(t))
            x = ddim.add_noise(x0, noise, plan.alpha(t))
            with torch.no_grad():
                output = unet.predict(net, x, t, words, depth)
            part = tuning.loss(
                output,
                x0,
                noise,
                plan.alpha(t),
                plan.prediction,
                temporal_weight=0,
                temporal_target="source",
            )
            total += float(part.total)
        return total

    assert loss_of(load_file(found.path("deltas"))) < 0.97 * loss_of({})


def test_tuning_raises_the_reconstruction(dvid: Dvid) -> None:
    found = []
    for steps in ("0", "40"):
        dvid("tune", DEMO, CAPTION, *TINY, "--steps", steps, "--lr", "1e-3")
        found.append(json.loads(dvid("invert", "--steps", "6", "--json").out)["psnr"])
    assert found[1] > found[0] + 0.1


def test_the_built_in_base_without_depth_is_tuned_and_sampled_by_its_name(dvid: Dvid) -> None:
    dvid("tune", DEMO, CAPTION, "--model", "tiny-t2i", "--frames", "2", "--steps", "1")
    dvid("invert", "--steps", "3")
    assert "depth" not in json.loads(dvid("runs", "--json").out)["stages"]
    assert Path(dvid("sample", "-p", "a green ball on snow").lines[0]).exists()
