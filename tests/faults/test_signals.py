"""^C and SIGTERM at random moments of a tuning: nothing is lost, nothing comes out otherwise.

Each tuning is a process of its own. The same command afterwards goes on from the very step that was
promised, and the deltas are those of a tuning that nobody stopped, bit for bit.
"""

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults import counts, tuning
from faults.nursery import Nursery
from program import Dvid

from dvcli.store import disk

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def test_a_tuning_stopped_at_any_moment_goes_on_and_ends_the_same(
    tuner: Nursery,
    bikes: Path,
    base: Path,
    home: Path,
    unbroken: tuning.Unbroken,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    began: list[int] = []
    for number in range(counts.count("signals")):
        rng = random.Random(f"{counts.SEED}/signals/{number}")
        other = unbroken.without(home / f"again-{number}", monkeypatch)
        sent = SIGNALS[number % 2]
        last, ended = 0, None
        for _ in range(rng.choice((1, 1, 2))):  # some are stopped twice
            child = tuning.start(tuner, bikes, base)
            tuning.until(child, "tune ")
            time.sleep(rng.random() * unbroken.seconds * 0.8)
            child.kill(sent)
            ended = child.wait(60)
            assert not ended.hung
            assert "Traceback" not in ended.said
            assert tuning.resumed(ended.said) == last, ended.said
            if ended.status == 0:  # it was done before the signal came
                break
            assert ended.status == 128 + sent, ended.said
            assert "hint: the same command goes on from here" in ended.said
            kept = re.search(rf"stopped, step (\d+) of {tuning.STEPS} is kept", ended.said)
            if kept is None:  # the last step was done: all of it is kept
                assert "tune: done" in ended.said, ended.said
                last = 0
                break
            assert int(kept[1]) > last
            last = int(kept[1])
            counts.tally("signals", stopped=1)
        assert ended is not None
        after = tuning.finish(tuner, bikes, base)
        assert after.status == 0, after.said
        assert tuning.resumed(after.said) == (last if ended.status else 0), after.said
        began += [last] if last else []
        assert tuning.deltas() == unbroken.deltas
        assert not list((other / "cache" / "v1").glob("partial/*/*"))
        counts.tally("signals", tunings=1, resumed_bit_for_bit=1)
    assert len(began) > counts.count("signals") // 3
    assert len(set(began)) > 1  # they were not all stopped at one step


@pytest.mark.parametrize("first", SIGNALS)
def test_a_second_signal_ends_it_at_once_and_the_next_run_is_whole(
    first: signal.Signals, tuner: Nursery, bikes: Path, base: Path, home: Path
) -> None:
    child = tuning.start(tuner, bikes, base)
    child.kill(0)
    tuning.until(child, "extract")  # the decoder has been at work; the handler stands
    child.kill(first)
    child.kill(first)
    ended = child.wait(60)
    # Two signals that came as one are the first alone.
    assert ended.status in (-first, 128 + first), ended.said
    assert "Traceback" not in ended.said
    assert tuning.finish(tuner, bikes, base).status == 0


@pytest.mark.parametrize("number", range(4))
def test_a_signal_at_any_moment_of_a_command_ends_it_with_its_own_code(
    number: int, tuner: Nursery, bikes: Path, base: Path
) -> None:
    """From its first line: while it parses, decodes, loads, tunes and publishes."""
    rng = random.Random(f"{counts.SEED}/any/{number}")
    sent = SIGNALS[number % 2]
    child = tuning.start(tuner, bikes, base)
    time.sleep(rng.random() * 2)
    child.kill(sent)
    ended = child.wait(60)
    assert "Traceback" not in ended.said
    # Before the command has set its handlers Python's own act: a KeyboardInterrupt is 130, and
    # SIGTERM ends the process, which a shell shows as 143 too.
    assert ended.status in (0, 128 + sent, -signal.SIGTERM), ended.said
    assert tuning.finish(tuner, bikes, base).status == 0


def test_a_real_command_stopped_while_it_decodes_leaves_no_decoder(
    bikes: Path, base: Path, home: Path
) -> None:
    """The child that decodes ends with its parent, however that ends."""
    program = (
        "import os, sys, time; from dvcli.video.child import limit;"
        "limit(memory=2**33, seconds=60, parent=os.getppid()); print(os.getpid(), flush=True);"
        "time.sleep(60)"
    )
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import subprocess, sys; subprocess.run([sys.executable, '-c', {program!r}])",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    decoder = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    if sys.platform == "linux":
        end = time.monotonic() + 10
        while Path(f"/proc/{decoder}").exists():
            state = Path(f"/proc/{decoder}/stat").read_text().rpartition(")")[2].split()[0]
            if state == "Z":
                break
            assert time.monotonic() < end, "the decoder outlives its parent"
            time.sleep(0.02)
    else:
        os.kill(decoder, signal.SIGKILL)


def test_a_stop_ends_a_command_that_reads_a_long_clip_for_its_digest(
    dvid: Dvid, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, looks = disk.digest, []

    def long(file: Any, waiting: Callable[[], None] | None = None) -> str:
        def counted() -> None:
            looks.append(1)
            if len(looks) == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            assert waiting is not None
            waiting()

        return digest(file, counted)

    monkeypatch.setattr(disk, "digest", long)
    monkeypatch.setattr("dvcli.cli.sources.LONG", 2**50)
    with Path("long.mp4").open("wb") as file:
        file.truncate(2**40)
    assert "stopped" in dvid("extract", "long.mp4", "-o", "o.png", code=143).err
    assert len(looks) <= 3


def test_a_long_file_that_is_no_clip_is_refused_before_all_of_it_is_read(
    dvid: Dvid, home: Path, bikes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Path("long.mp4").open("wb") as file:
        file.truncate(2**40)
    assert "cannot be read as a video" in dvid("extract", "long.mp4", code=3).err
    monkeypatch.setattr("dvcli.cli.sources.LONG", 1000)
    dvid("extract", bikes, "--frames", "2", "--size", "64", "-o", "o.png")
