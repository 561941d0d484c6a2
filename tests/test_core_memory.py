"""The estimate of memory against a measured run, and what it must grow with."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from dvcli.core.memory import bound, decoding_bytes, encoding_bytes, sampling_bytes, tuning_bytes
from dvcli.core.recomputing import LEVELS, Level
from dvcli.core.unet import inflate, trainable, video_blocks
from dvcli.recipes import Seen

ROOT = Path(__file__).parent.parent
SHAPE = """
shape = dict(
    in_channels=5, out_channels=4, block_out_channels=(64, 128), attention_head_dim=(1, 2),
    layers_per_block=1, cross_attention_dim=32, norm_num_groups=8, use_linear_projection=True,
    down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
)
"""


def tiny_autoencoder() -> AutoencoderKL:
    with torch.device("meta"):
        return AutoencoderKL(
            block_out_channels=(8, 16),
            norm_num_groups=4,
            layers_per_block=1,
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
        )


@pytest.mark.parametrize(
    ("passing", "channels", "side"), [(decoding_bytes, 4, 32), (encoding_bytes, 3, 64)]
)
def test_the_autoencoder_takes_its_weights_and_more_with_more_frames_and_larger_ones(
    passing: Callable[..., int], channels: int, side: int
) -> None:
    vae = tiny_autoencoder()
    weights = 4 * sum(p.numel() for p in vae.parameters())

    def needed(frames: int, side: int, dtype: torch.dtype = torch.float32) -> int:
        return passing(vae, frames=frames, size=(channels, side, side), dtype=dtype)

    small, frames, large = (
        needed(1, side) - weights,
        needed(4, side) - weights,
        needed(1, 2 * side) - weights,
    )
    assert frames == pytest.approx(4 * small, rel=0.05)
    assert large == pytest.approx(4 * small, rel=0.05)
    # What comes in is in float32 whatever the weights are.
    assert needed(4, side, torch.bfloat16) == pytest.approx(needed(4, side) / 2, rel=0.2)
    # The narrowest maps at full size, 8 channels, are in and out of a convolution.
    assert small >= 2 * 8 * 64 * 64 * 4


def meta(**shape: object) -> UNet2DConditionModel:
    with torch.device("meta"):
        unet = UNet2DConditionModel(**shape)
    return inflate(unet, torch.Generator())


def shaped() -> UNet2DConditionModel:
    found: dict[str, dict[str, object]] = {}
    exec(SHAPE, {}, found)
    return meta(**found["shape"])


def tuning(
    unet: UNet2DConditionModel,
    *,
    frames: int = 4,
    side: int = 16,
    dtype: torch.dtype = torch.float32,
    level: Level = "none",
) -> int:
    return tuning_bytes(
        unet,
        frames=frames,
        size=(4, side, side),
        tokens=8,
        dtype=dtype,
        level=level,
    )


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("level", LEVELS)
def test_the_estimate_for_tuning_is_within_15_percent_of_the_memory_a_process_takes(
    level: Level,
) -> None:
    measure = SHAPE + textwrap.dedent(
        rf"""
        import re, torch
        from pathlib import Path
        torch.set_num_threads(1)
        from diffusers import AutoencoderKL, UNet2DConditionModel
        from dvcli.core.ddim import schedule
        from dvcli.core.recomputing import checkpoint_gradients
        from dvcli.core.tuning import train
        from dvcli.core.unet import inflate

        def run(side):
            unet = inflate(UNet2DConditionModel(**shape).eval(), torch.Generator())
            checkpoint_gradients(unet, "{level}")
            for _ in train(
                unet, torch.zeros(4, 4, side, side), torch.zeros(4, 1, side, side),
                torch.zeros(8, 32), schedule({{}}, 1), steps=1, lr=1e-5, weight_decay=0.0,
                grad_clip=1.0, temporal_weight=0.1, temporal_target="source", seed=1,
            ):
                pass

        run(8)  # libraries load and allocate on first use
        # ru_maxrss would start at what the parent process holds.
        def status(field):
            text = Path("/proc/self/status").read_text()
            return 1024 * int(re.search(field + r":\s+(\d+)", text)[1])
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
        before = status("VmRSS")
        run(32)
        print(status("VmHWM") - before)
        """
    )
    out = subprocess.run(
        [sys.executable, "-c", measure],
        capture_output=True,
        text=True,
        check=True,
        # glibc then returns what is freed, so the figure is what lives and not how it is scattered.
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "PYTHONPATH": str(ROOT)},
    )
    measured = int(out.stdout)
    estimate = tuning_bytes(
        shaped(),
        frames=4,
        size=(4, 32, 32),
        tokens=8,
        dtype=torch.float32,
        level=level,
    )
    assert estimate == pytest.approx(measured, rel=0.15)


def test_checkpointing_takes_less_memory() -> None:
    unet = shaped()
    assert tuning(unet, level="all") < 0.7 * tuning(unet, level="none")


def test_more_frames_and_larger_ones_take_more_memory() -> None:
    unet = shaped()
    assert tuning(unet, frames=4) < tuning(unet, frames=8) < tuning(unet, frames=8, side=32)


def test_a_network_without_pixels_to_speak_of_takes_its_weights_gradients_and_moments() -> None:
    unet = meta(
        in_channels=5,
        block_out_channels=(320, 640),
        attention_head_dim=(5, 10),
        cross_attention_dim=1024,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )
    every = sum(p.numel() for p in unet.parameters())
    trained = sum(p.numel() for p in trainable(unet).values())
    exact = 2 * (every - trained) + 4 * trained * 4
    assert exact < tuning(unet, frames=1, side=2, dtype=torch.bfloat16) < 1.1 * exact
    sampled = sampling_bytes(unet, frames=1, size=(4, 2, 2), tokens=8, dtype=torch.float32)
    assert 4 * every < sampled < 1.05 * 4 * every


def test_sampling_takes_less_than_tuning() -> None:
    unet = shaped()
    sampled = sampling_bytes(unet, frames=4, size=(4, 16, 16), tokens=8, dtype=torch.float32)
    assert sampled < tuning(unet)


def test_an_estimate_leaves_the_network_as_it_was() -> None:
    unet = shaped()
    wanted = {name for name, p in unet.named_parameters() if p.requires_grad}
    tuning(unet, level="all")
    assert not unet.is_gradient_checkpointing
    assert {name for name, p in unet.named_parameters() if p.requires_grad} == wanted
    assert all(p.is_meta and p.grad is None for p in unet.parameters())


@pytest.mark.parametrize(
    ("channels", "heads", "frames", "side", "sees"),
    [
        ((32, 64), (1, 2), 4, 16, "first-previous"),
        ((32, 64), (1, 2), 1, 8, "first"),
        ((32, 64, 64), (8, 16, 16), 4, 16, "first-previous"),
        ((64, 64), (1, 1), 5, 24, "full"),
        ((16, 128), (2, 4), 3, 10, "first-previous"),
    ],
    ids=str,
)
def test_the_bound_is_above_the_estimate_whatever_the_shape_and_not_far(
    channels: tuple[int, ...], heads: tuple[int, ...], frames: int, side: int, sees: Seen
) -> None:
    unet = meta(
        in_channels=5,
        block_out_channels=channels,
        attention_head_dim=heads,
        cross_attention_dim=32,
        norm_num_groups=8,
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * (len(channels) - 1) + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (len(channels) - 1),
    )
    for _, block in video_blocks(unet):
        block.sees = sees
    most = bound(unet, frames=frames, size=(4, side, side), tokens=77)
    need = tuning_bytes(
        unet,
        frames=frames,
        size=(4, side, side),
        tokens=77,
        dtype=torch.float32,
        level="none",
    )
    assert need < most < 4.5 * need


def test_a_network_with_and_without_depth_are_both_estimated() -> None:
    unet = meta(
        in_channels=4,
        block_out_channels=(8, 8),
        attention_head_dim=1,
        cross_attention_dim=8,
        norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )
    assert tuning(unet) > 0
