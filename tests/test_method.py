"""What the method promises of whole runs: parity with the image pipeline, reconstruction, depth."""

import json
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import write_depth2img
from numpy.typing import NDArray
from PIL import Image
from program import Dvid
from safetensors.torch import load_file

from dvcli.store import Artifact, Store
from dvcli.video import frames as frame_file


def artifact(dvid: Dvid, stage: str, *more: str | Path) -> Artifact:
    """The artifact of a stage of the last run's chain, as `sample …` would use or make it."""
    plan = map(json.loads, dvid("sample", *more, "-n", "--json").lines)
    key = next(step["key"] for step in plan if step["stage"] == stage)
    found = Store.open().get(key)
    assert found is not None
    return found


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    return -10 * math.log10(float(np.mean((a.astype(float) - b) ** 2)) / 255**2)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_one_untuned_frame_from_noise_is_what_the_image_pipeline_makes_of_the_same_noise_and_depth(
    dvid: Dvid, bikes: Path, tmp_path: Path, prediction: str
) -> None:
    from diffusers import DDIMScheduler, StableDiffusionDepth2ImgPipeline

    base = write_depth2img(tmp_path / "base", prediction=prediction)  # type: ignore[arg-type]
    framing = ["--frames", "1", "--size", "96x64", "--normalise", "frame"]
    dvid("tune", bikes, "x", "--model", base, "--steps", "0", *framing)
    dvid("invert", "--steps", "6")
    wish = ["-p", "a bear", "--negative", "snow", "--guidance", "7.5", "--from-noise"]
    dvid("sample", *wish, "--seed", "5")
    ours = frame_file.load(artifact(dvid, "sample", *wish, "--seed", "5").path("frames"))[0]

    noise = torch.randn(1, 4, 8, 12, generator=torch.Generator().manual_seed(5))
    depth = load_file(artifact(dvid, "depth", "-p", "x").path("disparity"))["disparity"]
    pipe = StableDiffusionDepth2ImgPipeline.from_pretrained(base)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.prepare_latents = lambda *_, **__: noise  # at strength 1 it would add a trace of the image
    theirs = pipe(
        "a bear",
        image=Image.new("RGB", (96, 64)),
        depth_map=depth[:, 0],
        negative_prompt="snow",
        strength=1.0,
        guidance_scale=7.5,
        num_inference_steps=6,
        output_type="np",
    ).images[0]
    np.testing.assert_allclose(ours, np.round(theirs * 255), atol=1)
    assert np.mean(ours != np.round(theirs * 255)) < 0.01


@pytest.fixture
def own_prompt(dvid: Dvid, tuned: Path) -> tuple[float, NDArray[np.uint8], NDArray[np.uint8]]:
    """(PSNR that `invert` reports, the clip sampled with the inversion's conditions, the best)."""
    from dvcli.models import latents, load

    options = ["--steps", "20", "--refine", "6", "--prompt", "a man"]
    (said,) = map(json.loads, dvid("invert", *options, "--json").lines)
    wish = ["-p", "a man", "--guidance", "1"]
    dvid("sample", *wish)
    ours = frame_file.load(artifact(dvid, "sample", *wish).path("frames"))
    x0 = load_file(artifact(dvid, "tune", *wish).path("latents"))["latents"]
    run = json.loads((tuned / "state" / "runs" / "bikes.json").read_text())
    vae = load.vae(Path(run["model"]) / "vae", "fp32", "cpu")
    return said["psnr"], ours, latents.decode(vae, x0, 4).numpy()


def test_guidance_1_with_the_inversions_own_prompt_reconstructs_the_clip(
    own_prompt: tuple[float, NDArray[np.uint8], NDArray[np.uint8]],
) -> None:
    _, ours, best = own_prompt
    assert psnr(ours, best) > 35


def test_invert_reports_the_psnr_that_sampling_reaches(
    own_prompt: tuple[float, NDArray[np.uint8], NDArray[np.uint8]],
) -> None:
    reported, ours, best = own_prompt
    assert reported == pytest.approx(psnr(ours, best), abs=0.01)


@pytest.mark.parametrize("name", ["bikes.mp4", "bigbuckbunny.mp4", "carphone_pristine.mp4"])
def test_refinement_never_lowers_the_reconstruction_psnr(dvid: Dvid, base: Path, name: str) -> None:
    from media import real_clips

    framing = ["--frames", "3", "--size", "64"]
    dvid("tune", real_clips()[name], "x", "--model", base, "--steps", "0", *framing)
    found = [
        json.loads(dvid("invert", "--steps", "20", "--refine", str(n), "--json").out)["psnr"]
        for n in range(4)
    ]
    assert found == sorted(found)
    assert found[-1] > found[0] + 3


NEUTRAL = (
    *("--depth-gain=1", "--depth-bias=0", "--depth-gamma=1", "--depth-near=1", "--depth-far=-1"),
    *("--depth-blend=0", "--depth-smooth=0", "--depth-active=1", "--strength=1"),
    *("--guidance-from=0", "--guidance-until=1", "--reuse=1", "--eta=0", "--negative="),
)


class Network:
    """The tuned network of the run `bikes` on its clip's latents, with nothing of the controls."""

    def __init__(self, dvid: Dvid, tuned: Path) -> None:
        from dvcli.core import ddim, unet
        from dvcli.core.depth import normalised
        from dvcli.models import load

        made = artifact(dvid, "tune", "-p", "x")
        self.base = Path(json.loads((tuned / "state" / "runs" / "bikes.json").read_text())["model"])
        self.clip = load_file(made.path("latents"))["latents"]
        self.net = load.unet(self.base / "unet", "fp32", "cpu")
        unet.inflate(self.net, torch.Generator().manual_seed(33))
        unet.load_deltas(self.net, load_file(made.path("deltas")))
        disparity = load_file(artifact(dvid, "depth", "-p", "x").path("disparity"))["disparity"]
        self.depth = normalised(disparity, tuple(self.clip.shape[2:]), "clip")
        self.plan = ddim.schedule(load.scheduler_config(self.base / "scheduler"), 3)

    def eps(self, words: str) -> Callable[[torch.Tensor, int], torch.Tensor]:
        """The noise that it sees under those words."""
        from dvcli.core import unet
        from dvcli.models import load, text

        tokenizer = load.tokenizer(self.base / "tokenizer")
        encoder = load.text_encoder(self.base / "text_encoder", "fp32", "cpu")
        return unet.bind(self.net, text.embed(tokenizer, encoder, words), self.depth, self.plan)


def moved(x: torch.Tensor, eps: torch.Tensor, here: float, there: float) -> torch.Tensor:
    """One step of DDIM, formula 12."""
    clean = (x - math.sqrt(1 - here) * eps) / math.sqrt(here)
    return math.sqrt(there) * clean + math.sqrt(1 - there) * eps


@pytest.mark.parametrize("guidance", ["1", "7.5"])
@pytest.mark.parametrize("start", ["inverted", "noise"])
@pytest.mark.parametrize("given", [NEUTRAL, ()], ids=["all neutral", "none given"])
@torch.no_grad()
def test_controls_at_their_neutral_values_leave_the_plain_loop_bit_for_bit(
    dvid: Dvid,
    tuned: Path,
    monkeypatch: pytest.MonkeyPatch,
    guidance: str,
    start: str,
    given: tuple[str, ...],
) -> None:
    from dvcli.models import latents

    decoded: list[torch.Tensor] = []
    decode = latents.decode

    def watched(vae: object, x: torch.Tensor, chunk: int) -> torch.Tensor:
        decoded.append(x)
        return decode(vae, x, chunk)

    monkeypatch.setattr(latents, "decode", watched)
    wish = ["-p", "a fox", "--guidance", guidance]
    wish += ["--from-noise", "--seed=5"] if start == "noise" else []
    dvid("sample", *wish, *given)

    network = Network(dvid, tuned)
    x = load_file(artifact(dvid, "invert", "-p", "x").path("latents"))["latents"].double()
    if start == "noise":
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(5))
        x = noise.double()
    along, without = network.eps("a fox"), network.eps("")
    for t, here, there in network.plan:
        eps = along(x, t)
        if guidance != "1":
            blank = without(x, t)
            eps = blank + 7.5 * (eps - blank)
        x = moved(x, eps, here, there)
    (ours,) = decoded
    assert torch.equal(ours, x)


@torch.no_grad()
def test_an_inversion_without_refinement_is_the_plain_loop_bit_for_bit(
    dvid: Dvid, tuned: Path
) -> None:
    dvid("invert", "--steps", "3", "--refine", "0", "--refresh")
    network = Network(dvid, tuned)
    x, eps = network.clip.double(), network.eps("")
    for t, there, here in reversed(list(network.plan)):
        x = moved(x, eps(x, t), here, there)
    ours = load_file(artifact(dvid, "invert", "-p", "x").path("latents"))["latents"]
    assert torch.equal(ours, x.float())


def test_controls_at_their_neutral_values_make_the_clip_of_no_controls(
    dvid: Dvid, tuned: Path
) -> None:
    assert dvid("sample", "-p", "a fox", *NEUTRAL).lines == dvid("sample", "-p", "a fox").lines


@pytest.mark.parametrize(
    "control",
    [
        "--depth-gain=0.4",
        "--depth-bias=0.3",
        "--depth-gamma=2",
        "--depth-near=0.5",
        "--depth-far=-0.5",
        "--depth-smooth=1.5",
        "--depth-active=0.5",
    ],
)
def test_each_depth_control_changes_the_clip_and_runs_only_the_sampling(
    dvid: Dvid, tuned: Path, control: str
) -> None:
    dvid("sample", "-p", "a fox")
    steps = map(json.loads, dvid("sample", "-p", "a fox", control, "-n", "--json").lines)
    assert [step["stage"] for step in steps if not step["hit"]] == ["sample"]
    dvid("sample", "-p", "a fox", control)
    plain = frame_file.load(artifact(dvid, "sample", "-p", "a fox").path("frames"))
    changed = frame_file.load(artifact(dvid, "sample", "-p", "a fox", control).path("frames"))
    assert not np.array_equal(plain, changed)


SWEEPS = {
    "--depth-gain": (0.5, 1.5),
    "--depth-bias": (-0.5, 0.5),
    "--depth-gamma": (0.5, 1.5),
    "--depth-near": (0.2, 1.0),
    "--depth-far": (-1.0, -0.2),
    "--depth-smooth": (0.5, 2.5),
    "--depth-active": (0.0, 0.3),
    "--strength": (0.4, 1.0),
    "--guidance": (2.0, 6.0),
    "--guidance-until": (0.4, 1.0),
}


@pytest.mark.parametrize("option", SWEEPS)
def test_a_sweep_of_a_control_has_no_jump(dvid: Dvid, tuned: Path, option: str) -> None:
    """Where the clip changes most, halfway is on the way: a jump would be all in one half."""

    def made(value: float) -> NDArray[np.float64]:
        wish = ["-p", "a fox", f"{option}={value:g}"]
        dvid("sample", *wish)
        return frame_file.load(artifact(dvid, "sample", *wish).path("frames")).astype(float)

    low, high = SWEEPS[option]
    values = [low, (low + high) / 2, high]
    clips = [made(value) for value in values]
    whole = [float(np.abs(b - a).mean()) for a, b in pairwise(clips)]
    most = int(np.argmax(whole))
    halfway = made((values[most] + values[most + 1]) / 2)
    halves = [float(np.abs(halfway - clips[most + end]).mean()) for end in (0, 1)]
    assert whole[most] > 0
    assert max(halves) < 0.85 * whole[most]


def test_strength_0_is_the_clip_as_the_autoencoder_gives_it(dvid: Dvid, tuned: Path) -> None:
    from dvcli.models import latents, load

    wish = ["-p", "a fox", "--strength", "0"]
    dvid("sample", *wish)
    ours = frame_file.load(artifact(dvid, "sample", *wish).path("frames"))
    x0 = load_file(artifact(dvid, "tune", *wish).path("latents"))["latents"]
    run = json.loads((tuned / "state" / "runs" / "bikes.json").read_text())
    vae = load.vae(Path(run["model"]) / "vae", "fp32", "cpu")
    assert np.array_equal(ours, latents.decode(vae, x0, 4).numpy())


def test_the_weaker_the_strength_the_nearer_to_the_clip(dvid: Dvid, tuned: Path) -> None:
    def made(strength: str) -> NDArray[np.uint8]:
        wish = ["-p", "a fox", "--strength", strength]
        dvid("sample", *wish)
        return frame_file.load(artifact(dvid, "sample", *wish).path("frames"))

    clip = made("0")
    found = [psnr(made(strength), clip) for strength in ("0.2", "0.5", "0.8", "1")]
    assert found == sorted(found, reverse=True)


def test_a_weaker_strength_inverts_once_and_keeps_the_way(dvid: Dvid, tuned: Path) -> None:
    dvid("sample", "-p", "a fox", "--strength", "0.6")
    steps = map(
        json.loads, dvid("sample", "-p", "a fox", "--strength", "0.4", "-n", "--json").lines
    )
    assert [step["stage"] for step in steps if not step["hit"]] == ["sample"]


def test_a_noised_clip_at_half_strength_is_what_the_image_pipeline_makes_of_it(
    dvid: Dvid, bikes: Path, tmp_path: Path
) -> None:
    from diffusers import DDIMScheduler, StableDiffusionDepth2ImgPipeline

    base = write_depth2img(tmp_path / "base")
    framing = ["--frames", "1", "--size", "96x64", "--normalise", "frame"]
    dvid("tune", bikes, "x", "--model", base, "--steps", "0", *framing)
    dvid("invert", "--steps", "6")
    wish = ["-p", "a bear", "--guidance", "7.5", "--from-noise", "--strength", "0.5"]
    dvid("sample", *wish, "--seed", "5")
    ours = frame_file.load(artifact(dvid, "sample", *wish, "--seed", "5").path("frames"))[0]

    noise = torch.randn(1, 4, 8, 12, generator=torch.Generator().manual_seed(5))
    x0 = load_file(artifact(dvid, "tune", "-p", "x").path("latents"))["latents"]
    depth = load_file(artifact(dvid, "depth", "-p", "x").path("disparity"))["disparity"]
    pipe = StableDiffusionDepth2ImgPipeline.from_pretrained(base)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.prepare_latents = lambda _, t, *__, **___: pipe.scheduler.add_noise(x0, noise, t)
    theirs = pipe(
        "a bear",
        image=Image.new("RGB", (96, 64)),
        depth_map=depth[:, 0],
        strength=0.5,
        guidance_scale=7.5,
        num_inference_steps=6,
        output_type="np",
    ).images[0]
    np.testing.assert_allclose(ours, np.round(theirs * 255), atol=1)
    assert np.mean(ours != np.round(theirs * 255)) < 0.01


def test_a_constant_depth_gives_a_clip_and_no_nan(
    dvid: Dvid, base: Path, bikes: Path, tmp_path: Path
) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for number in range(3):
        Image.new("RGB", (64, 64), (90, 90, 90)).save(flat / f"{number}.png")
    framing = ["--frames", "3", "--size", "64"]
    dvid("tune", bikes, "x", "--model", base, "--steps", "1", "--depth", flat, *framing)
    dvid("invert", "--steps", "2")
    path = dvid("sample", "-p", "a fox", "-o", "x.png").lines[0]
    assert Image.open(path).size == (3 * 64, 64)


def test_a_base_without_depth_is_tuned_and_sampled_without_it(
    dvid: Dvid, bikes: Path, tmp_path: Path
) -> None:
    base = write_depth2img(tmp_path / "t2i", depth=False)
    framing = ["--frames", "3", "--size", "64"]
    dvid("tune", bikes, "x", "--model", base, "--steps", "2", "--temporal-weight", "0", *framing)
    dvid("invert", "--steps", "2")
    stages = [json.loads(line)["stage"] for line in dvid("sample", "-p", "y", "-n", "--json").lines]
    assert "depth" not in stages
    dvid("sample", "-p", "a fox")
    assert "no depth" in dvid("sample", "-p", "a fox", "--depth-gain", "0.5", code=2).err


def test_an_untuned_run_has_no_deltas(dvid: Dvid, base: Path, bikes: Path) -> None:
    options = ["--model", base, "--frames", "2", "--size", "64"]
    dvid("tune", bikes, "x", "--steps", "0", *options)
    deltas = artifact(dvid, "tune", "-p", "x").path("deltas")
    assert load_file(deltas) == {}


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_half_precision_goes_the_whole_way_with_trainables_in_float32(
    dvid: Dvid, base: Path, bikes: Path, dtype: str
) -> None:
    options = ["--model", base, "--frames", "2", "--size", "64", "--dtype", dtype]
    dvid("tune", bikes, "x", "--steps", "2", *options)
    dvid("invert", "--steps", "2", "--dtype", dtype)
    dvid("sample", "-p", "a fox", "--dtype", dtype)
    deltas = load_file(artifact(dvid, "tune", "-p", "x").path("deltas"))
    assert {tensor.dtype for tensor in deltas.values()} == {torch.float32}
    assert all(tensor.isfinite().all() for tensor in deltas.values())
