"""Tunings as processes of their own, to be stopped, killed and gone on with; what they leave."""

import re
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from faults.nursery import Child, Ended, Nursery, environment
from program import copy_state

from dvcli.runs import Runs
from dvcli.store import Store

STEPS = 24
PROGRAM = """
import os
os.environ["HF_HUB_OFFLINE"] = "1"
import torch
torch.set_num_threads(1)
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer
from transformers import AutoModelForDepthEstimation, AutoImageProcessor
import dvcli.stages.depth, dvcli.stages.tune, dvcli.stages.extract
from dvcli.cli.main import main
from dvcli.core import memory
from dvcli.runtime import Runtime

# Not what is tried here, and a second of each child: whether it fits.
memory.tuning_bytes = lambda *_, **__: 0

def serve(words):
    # The seconds between two checkpoints are no option of the command line.
    Runtime.__init__.__kwdefaults__["checkpoint_seconds"] = float(words[0])
    return main(words[1:])
"""


def start(nursery: Nursery, clip: Path, model: Path, *, interval: float = 60.0) -> Child:
    """`dvid tune` begun; the same words mean the same tuning."""
    return nursery.start([str(interval), *words(clip, model), "-v"], env=dict(environment()))


def words(clip: Path, model: Path) -> list[str]:
    """The command line of the tuning."""
    known = ["tune", str(clip), "a man", "--model", str(model), "--steps", str(STEPS)]
    return [*known, "--frames", "2", "--size", "64", "--device", "cpu"]


def finish(nursery: Nursery, clip: Path, model: Path, *, interval: float = 60.0) -> Ended:
    return start(nursery, clip, model, interval=interval).wait(120)


@dataclass(frozen=True)
class Unbroken:
    """A tuning that nobody stopped: its home, the digest of its deltas, and how long it stepped."""

    home: Path
    deltas: str
    seconds: float

    @property
    def step(self) -> float:
        """What a step took, in seconds."""
        return self.seconds / STEPS

    def without(self, other: Path, patch: pytest.MonkeyPatch) -> Path:
        """Another home from here on: the clip's frames and depth are known, nothing is tuned."""
        copy_state(self.home, other)
        patch.setenv("DVID_CACHE_DIR", str(other / "cache"))
        patch.setenv("DVID_STATE_DIR", str(other / "state"))
        (run,) = Runs.open().all()
        Store.open().rm(run.keys["tune"])
        return other


def stepping(said: str) -> float:
    """The seconds from the first step of a tuning to its last, by what it said."""
    found = re.search(r"([\d.]+) it/s", said)
    assert found is not None, said
    return STEPS / float(found[1])


def deltas() -> str:
    """The SHA-256 of the deltas of the newest run."""
    run = max(Runs.open().all(), key=lambda run: run.updated)
    artifact = Store.open().get(run.keys["tune"])
    assert artifact is not None
    return artifact.digest_of(["deltas"])


def until(child: Child, text: str, seconds: float = 60.0) -> None:
    """Wait until the child has said that."""
    end = time.monotonic() + seconds
    while text not in child.said():
        assert time.monotonic() < end, child.said()
        time.sleep(0.005)


def resumed(said: str) -> int:
    """The step that a tuning went on from; 0 for one that began anew."""
    found = re.search(r"going on from step (\d+)", said)
    return int(found[1]) if found else 0


def checkpoints(home: Path) -> list[Path]:
    """The checkpoints that are there with their side files, oldest first."""
    found = home.glob("cache/v1/partial/*/step-*.safetensors")
    return sorted(path for path in found if path.with_name(path.name + ".json").exists())
