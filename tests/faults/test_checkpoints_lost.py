"""A tuning that is killed, and whose newest checkpoint is then damaged: the one before serves."""

import math
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from faults import counts, tuning
from faults.nursery import Nursery
from program import Dvid

from dvcli.core import tuning as train
from dvcli.runtime import Runtime


def writable(path: Path) -> Path:
    path.chmod(0o600)
    return path


def flip(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    writable(path).write_bytes(data)


def zero(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    start = rng.randrange(len(data))
    data[start : start + 4096] = bytes(len(data[start : start + 4096]))
    data[start] ^= 0 if any(path.read_bytes()[start : start + 4096]) else 1
    writable(path).write_bytes(data)


def truncate(path: Path, rng: random.Random) -> None:
    os.truncate(writable(path), rng.randrange(path.stat().st_size))


def side(path: Path) -> Path:
    return path.with_name(path.name + ".json")


DAMAGE: dict[str, Callable[[Path, random.Random], object]] = {
    "a bit of it flipped": flip,
    "some of it zeroed": zero,
    "cut short": truncate,
    "empty": lambda path, _: writable(path).write_bytes(b""),
    "gone": lambda path, _: path.unlink(),
    "its side file flipped": lambda path, rng: flip(side(path), rng),
    "its side file empty": lambda path, _: writable(side(path)).write_bytes(b""),
    "its side file gone": lambda path, _: side(path).unlink(),
}


def killed(
    tuner: Nursery, clip: Path, base: Path, home: Path, rng: random.Random, step: float
) -> list[Path]:
    """The checkpoints that a tuning killed at a random moment of its first half leaves.

    `step` is what a step takes, in seconds.
    """
    child = tuning.start(tuner, clip, base, interval=0.0)  # one after every step
    wanted = rng.randint(2, tuning.STEPS // 2)
    end = time.monotonic() + 60
    while not (found := tuning.checkpoints(home)) or step_of(found[-1]) < wanted:
        assert time.monotonic() < end, child.said()
        time.sleep(0.001)
    time.sleep(rng.random() * step)
    child.kill(signal.SIGKILL)
    ended = child.wait(30)
    assert ended.status == -signal.SIGKILL, ended.said
    return tuning.checkpoints(home)


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.stem.removeprefix("step-"))


def test_after_a_kill_and_damage_the_checkpoint_before_serves(
    tuner: Nursery,
    bikes: Path,
    base: Path,
    home: Path,
    unbroken: tuning.Unbroken,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for number in range(counts.count("checkpoints")):
        rng = random.Random(f"{counts.SEED}/checkpoints/{number}")
        other = unbroken.without(home / f"again-{number}", monkeypatch)
        left = killed(tuner, bikes, base, other, rng, unbroken.step)
        assert len(left) >= 2  # or a third, whose side file had been written and no old one removed
        kind = list(DAMAGE)[number % len(DAMAGE)]
        DAMAGE[kind](left[-1], rng)
        ended = tuning.finish(tuner, bikes, base)
        assert ended.status == 0, ended.said
        assert "Traceback" not in ended.said
        assert tuning.resumed(ended.said) == step_of(left[-2]), f"{kind}\n{ended.said}"
        assert tuning.deltas() == unbroken.deltas, kind
        counts.tally("checkpoints", killed=1, fell_back=1)


def test_a_kill_alone_loses_no_step_that_has_a_checkpoint(
    tuner: Nursery,
    bikes: Path,
    base: Path,
    home: Path,
    unbroken: tuning.Unbroken,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for number in range(2):
        rng = random.Random(f"{counts.SEED}/kill/{number}")
        other = unbroken.without(home / f"again-{1000 + number}", monkeypatch)
        left = killed(tuner, bikes, base, other, rng, unbroken.step)
        ended = tuning.finish(tuner, bikes, base)
        assert tuning.resumed(ended.said) == step_of(left[-1]), ended.said
        assert tuning.deltas() == unbroken.deltas


def test_with_every_checkpoint_damaged_it_begins_anew_and_ends_the_same(
    tuner: Nursery,
    bikes: Path,
    base: Path,
    home: Path,
    unbroken: tuning.Unbroken,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = random.Random(counts.SEED)
    other = unbroken.without(home / f"again-{2000}", monkeypatch)
    for checkpoint in killed(tuner, bikes, base, other, rng, unbroken.step):
        truncate(checkpoint, rng)
    ended = tuning.finish(tuner, bikes, base)
    assert ended.status == 0, ended.said
    assert "is damaged and passed over" in ended.said
    assert tuning.resumed(ended.said) == 0
    assert tuning.deltas() == unbroken.deltas


class Killed(BaseException):
    """Nobody gets to act after it."""


@pytest.mark.parametrize("interval", [1.0, 2.5, 7.0])
def test_a_kill_loses_no_more_than_the_time_between_two_checkpoints(
    dvid: Dvid,
    bikes: Path,
    base: Path,
    home: Path,
    unbroken: tuning.Unbroken,
    monkeypatch: pytest.MonkeyPatch,
    interval: float,
) -> None:
    """By a clock on which a step takes a second; a step that is not done is lost in any case."""
    unbroken.without(home / "again", monkeypatch)
    now, last, real = [0.0], [0], train.train
    step_by_step = SimpleNamespace(monotonic=lambda: now[0])

    def killed_after(*arguments: Any, **named: Any) -> Iterator[train.Step]:
        for step in real(*arguments, **named):
            now[0] += 1
            if step.index == last[0]:
                raise Killed
            yield step

    monkeypatch.setattr("dvcli.stages.tune.time", step_by_step)
    monkeypatch.setattr(train, "train", killed_after)
    defaults = {**(Runtime.__init__.__kwdefaults__ or {}), "checkpoint_seconds": interval}
    monkeypatch.setattr(Runtime.__init__, "__kwdefaults__", defaults)
    words = [*tuning.words(bikes, base), "-q"]
    rng = random.Random(f"{counts.SEED}/interval/{interval}")
    for kill in sorted(rng.sample(range(2, tuning.STEPS), min(counts.count("intervals"), 20))):
        last[0] = kill
        with pytest.raises(Killed):
            dvid(*words)
        found = tuning.checkpoints(home / "again")
        kept = step_of(found[-1]) if found else 0
        assert kill - math.ceil(interval) <= kept < kill
        counts.tally("checkpoints", killed=1, lost_steps=kill - 1 - kept)
    last[0] = 0
    dvid(*words)
    assert tuning.deltas() == unbroken.deltas
