"""dvid's own stages on a random checkpoint: what they take from the first step to the last.

Nothing of a stage is written out again here. The stages say when a phase begins and ends; the
stopwatch is where they say it to.
"""

import gc
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import torch

import dvcli
from benchmarks.speed import memory, prompts, shapes
from benchmarks.speed.settings import Settings
from dvcli.api import verbs
from dvcli.api.workspace import Workspace
from dvcli.cli.demo import CLIP
from dvcli.cli.sources import base
from dvcli.core import graphs
from dvcli.models import load
from dvcli.recipes import Recipe, Tune
from dvcli.runtime import Progress
from dvcli.stages import realise

TINY = Path(dvcli.__file__).parent / "bundled" / "tiny"
REPLACED = ("unet", "vae", "text_encoder", "training", "metrics.json", "README.md")


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Seconds of all steps of a phase, and the most memory meanwhile, in bytes."""

    name: str
    seconds: float
    peak: memory.Peak


@dataclass
class Stopwatch:
    """Progress that times each phase; the device is waited for before and after it, not within."""

    settings: Settings
    phases: list[Phase] = field(default_factory=list)

    @contextmanager
    def task(self, name: str, total: int, done: int = 0) -> Iterator["Stopwatch"]:
        fresh(self.settings)
        begun = self.settings.clock()
        yield self
        self.settings.wait(None)
        seconds = self.settings.clock() - begun
        peak = memory.peak(self.settings.device)
        self.phases.append(Phase(name=name, seconds=seconds, peak=peak))

    def advance(self, steps: int = 1, **figures: float) -> None:
        return

    def made(self, stage: str, key: str, seconds: float, *, cached: bool) -> None:
        return

    def last(self, name: str) -> Phase:
        """The phase of that name that ended last."""
        return next(phase for phase in reversed(self.phases) if phase.name == name)


@dataclass(frozen=True, kw_only=True)
class Timed(Workspace):
    """A workspace whose stages report to a stopwatch."""

    watch: Stopwatch

    def _progress(self) -> Progress:
        return self.watch

    def make(self, recipe: Recipe, phase: str) -> Phase:
        """Build the recipe, in the store or not, and tell of that phase of it."""
        realise(recipe, self.store, self.runtime, refresh=True)
        return self.watch.last(phase)


@dataclass
class Tape:
    """A device's recorder that counts what it recorded and what it could not, and in what time."""

    by: graphs.Recorder
    made: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)

    def warm(self, work: graphs.Work) -> None:
        self.by.warm(work)

    def record(self, work: graphs.Work) -> graphs.Work:
        begun = time.perf_counter()
        try:
            replay = self.by.record(work)
        except RuntimeError as error:
            self.failures.append(str(error).partition("\n")[0])
            raise
        self.made += 1
        self.seconds += time.perf_counter() - begun
        return replay


@dataclass
class Taped:
    """Every tape of a piece of work."""

    tapes: list[Tape] = field(default_factory=list)

    @property
    def made(self) -> int:
        return sum(tape.made for tape in self.tapes)

    @property
    def seconds(self) -> float:
        return sum(tape.seconds for tape in self.tapes)

    @property
    def word(self) -> str:
        """Whether it was recorded, in a word, and why not."""
        failures = [why for tape in self.tapes for why in tape.failures]
        if failures:
            return f"no: {failures[0]}"
        return "yes" if self.made else "no"


@contextmanager
def taped() -> Iterator[Taped]:
    """Within this context whatever records does it on a tape."""
    found, real = Taped(), graphs.recorder

    def recorder(device: torch.device) -> graphs.Recorder | None:
        by = real(device)
        if by is None:
            return None
        found.tapes.append(Tape(by))
        return found.tapes[-1]

    with mock.patch.object(graphs, "recorder", recorder):
        yield found


def fresh(settings: Settings) -> None:
    """Nothing that is garbage is held any more, and no peak is known."""
    gc.collect()
    settings.wait(None)
    if settings.device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def workspace(settings: Settings, *, low: bool = False) -> Timed:
    """A workspace in the run's folder, at `--memory low` or as usual."""
    return Timed(
        device=settings.device,
        dtype=settings.dtype,  # type: ignore[arg-type]
        memory="low" if low else "auto",
        cache=settings.folder / "home" / "cache",
        offline=True,
        watch=Stopwatch(settings),
    )


def checkpoint(settings: Settings, shape: shapes.Shape) -> Path:
    """The folder of a checkpoint of that shape, random but for tokenizer and depth estimator."""
    from transformers import CLIPTextConfig, CLIPTextModel

    folder = settings.folder / f"checkpoint {settings.shape} {shape.side}"
    if folder.exists():
        return folder
    shutil.copytree(TINY, folder, ignore=shutil.ignore_patterns(*REPLACED))
    named = folder / "tokenizer" / "tokenizer_config.json"
    told = json.loads(named.read_text())
    named.write_text(json.dumps({**told, "model_max_length": shape.tokens}))
    words = json.loads((TINY / "text_encoder" / "config.json").read_text())
    encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=words["vocab_size"],
            bos_token_id=words["bos_token_id"],
            eos_token_id=words["eos_token_id"],
            pad_token_id=words["pad_token_id"],
            hidden_size=shape.cross,
            intermediate_size=4 * shape.cross,
            num_hidden_layers=2,  # its time is no part of any phase
            num_attention_heads=shape.cross // 32,
            max_position_embeddings=shape.tokens,
        )
    )
    dtype, device = settings.torch_dtype, settings.device
    with load.quiet("transformers", "diffusers"):
        encoder.save_pretrained(folder / "text_encoder")
        shapes.plain(shape, dtype, device).save_pretrained(folder / "unet")
        shapes.decoder(shape, dtype, device).save_pretrained(folder / "vae")
    return folder


def tune(work: Timed, folder: Path, shape: shapes.Shape, steps: int) -> Tune:
    """The recipe of tuning that checkpoint on the demo's clip, whose frames and depth are made."""
    side = shape.side * 2 ** (len(shape.vae) - 1)
    frames = verbs.extract(CLIP, frames=shape.frames, size=side, workspace=work)
    return Tune(
        frames=frames.recipe,
        depth=verbs.depth(frames, model=folder).recipe,
        base=base(work.checkpoint(folder)),
        prompt=prompts.SCENE,
        steps=steps,
        dtype=work.number_format,
    )
