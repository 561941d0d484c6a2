"""Mutated real clips: refused with exit 3 or decoded; no crash, no hang, no surprise.

Every file goes through the same doors as a user's (`read`, `probe`, `read_metadata`), and is opened
in a process of its own with the limits of `dvcli.video.child`; that process is forked from one that
has loaded the libraries already, which is what makes some thousands of files affordable.
"""

import os
import random
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from faults import clips, counts
from faults.nursery import Nursery
from PIL import Image
from program import Dvid

from dvcli.errors import InputError
from dvcli.video import apart
from dvcli.video.metadata import read_metadata
from dvcli.video.probe import probe
from dvcli.video.read import read

SECONDS = 20.0
PROGRAM = """
from pathlib import Path
import numpy
from PIL import Image
from dvcli.video import child
Image.init()
child._end_with = lambda parent: None  # its parent is the nursery
def serve(words):
    child.main(Path(words[0]))
    return 0
"""
TASKS: dict[str, Callable[[Path], object]] = {
    "some": lambda path: read(path, frames=3, size=(32, 32), fit="crop"),
    "all": lambda path: read(path, frames=None, size=(32, 32), fit="pad", tolerate_errors=True),
    "probe": probe,
    "metadata": read_metadata,
}


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    with Nursery(PROGRAM, tmp_path_factory.mktemp("nursery")) as found:
        yield found


@pytest.fixture
def ends(nursery: Nursery, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How the children ended that did not end well; they come from the nursery."""
    bad: list[str] = []

    def forked(command: list[str], **_: object) -> object:
        ended = nursery.run([command[-1]], SECONDS)
        if ended.hung:
            bad.append("hung")
            raise subprocess.TimeoutExpired(command, SECONDS)
        if ended.status:
            bad.append(f"ended with {ended.status}: {ended.said[-2000:]}")
        return subprocess.CompletedProcess(command, ended.status)

    monkeypatch.setattr(apart, "SECONDS", SECONDS)
    monkeypatch.setattr(apart.subprocess, "run", forked)
    return bad


@pytest.mark.parametrize("name", clips.NAMES)
def test_a_sound_clip_of_this_kind_is_read(name: str, ends: list[str], tmp_path: Path) -> None:
    """Else its mutations would all be refused for a reason that has nothing to do with them."""
    path = clips.make(tmp_path, name)
    picked = read(path, frames=1, size=(32, 32), fit="crop")
    assert picked.frames.std() > 10
    assert probe(path).frames == (1 if name == "x.png" else clips.FRAMES)
    assert ends == []


@pytest.mark.parametrize("name", clips.NAMES)
def test_a_mutated_clip_is_refused_or_decoded(
    name: str, ends: list[str], nursery: Nursery, tmp_path: Path
) -> None:
    whole = clips.make(tmp_path, name).read_bytes()
    share, more = divmod(counts.count("media"), len(clips.NAMES))
    bad: list[str] = []
    for number in range(share + (clips.NAMES.index(name) < more)):
        rng = random.Random(f"{counts.SEED}/{name}/{number}")
        way, task = clips.WAYS[number % len(clips.WAYS)], rng.choice(list(TASKS))
        path = tmp_path / f"{number}-{name}"
        path.write_bytes(clips.damage(whole, way, rng))
        ends.clear()
        try:
            TASKS[task](path)
            outcome = "decoded"
        except InputError as refusal:
            outcome = "refused"
            if "failed:" in refusal.message or "\n" in refusal.message:
                ends.append("\n".join([refusal.message, *getattr(refusal, "__notes__", ())]))
        counts.tally("media", mutations=1, **{outcome: 1, "not_as_promised": len(ends)})
        bad += [f"{number} ({way}, {task}): {end}" for end in ends]
        path.unlink()
    assert bad == []
    assert nursery.alive


# limits


def test_a_small_machine_gives_a_decoder_half_of_its_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for whole, allowed in ((64, 6), (12, 6), (8, 4), (4, 2), (1, 1)):
        monkeypatch.setattr(apart, "machine_memory", lambda whole=whole: whole * 2**30)
        assert apart.memory_limit() == allowed * 2**30


def test_a_container_counts_as_the_machine_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "_CGROUP", tmp_path / "memory.max")
    (tmp_path / "memory.max").write_text("max\n")
    whole = apart.machine_memory()
    (tmp_path / "memory.max").write_text(f"{3 * 2**30}\n")
    assert apart.machine_memory() == min(3 * 2**30, whole)


@pytest.mark.skipif(sys.platform != "linux", reason="what is asked of Linux")
def test_the_limits_are_set_in_the_child() -> None:
    program = (
        "import os, resource as r\n"
        "from dvcli.video.child import limit\n"
        "limit(memory=2**31, seconds=5, parent=os.getppid())\n"
        "print(r.getrlimit(r.RLIMIT_AS)[1], r.getrlimit(r.RLIMIT_CORE)[1],"
        " r.getrlimit(r.RLIMIT_FSIZE)[1], r.getrlimit(r.RLIMIT_CPU)[1],"
        " open('/proc/self/oom_score_adj').read())\n"
        "try: bytearray(2**31 + 2**30)\n"
        "except MemoryError: print('refused')\n"
    )
    home = str(Path(apart.__file__).parents[2])
    said = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": home},
    ).stdout.split()
    assert 2**31 < int(said[0]) < 2**31 + 2**33
    assert int(said[1]) == 0
    assert int(said[2]) == 2**32 + 2**20
    assert int(said[3]) == 5 * (os.cpu_count() or 1) + 1
    assert said[4:] == ["1000", "refused"]


def test_a_decoder_whose_parent_has_gone_ends_at_once() -> None:
    program = "from dvcli.video.child import limit; limit(memory=2**31, seconds=5, parent=1)"
    home = str(Path(apart.__file__).parents[2])
    ended = subprocess.run(
        [sys.executable, "-c", program], check=False, env={**os.environ, "PYTHONPATH": home}
    )
    assert ended.returncode == (1 if sys.platform == "linux" else 0)


# bombs


def gif(path: Path, width: int, height: int, frames: int, side: int = 1) -> Path:
    """A GIF of so many frames, each of one pixel on a screen of that size."""
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, side, side, 0) + b"\x02\x02\x44\x01\x00"
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    path.write_bytes(screen + frame * frames + b";")
    return path


def apng(path: Path, frames: int) -> Path:
    """A PNG of one frame that claims to be an animation of that many."""
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(path, format="PNG")
    data = path.read_bytes()
    control = b"acTL" + struct.pack(">II", frames, 0)
    chunk = struct.pack(">I", 8) + control + struct.pack(">I", zlib.crc32(control))
    path.write_bytes(data[:33] + chunk + data[33:])
    return path


@pytest.mark.parametrize("task", list(TASKS))
def test_an_endless_gif_is_refused_before_it_is_decoded(
    task: str, ends: list[str], tmp_path: Path
) -> None:
    bomb = gif(tmp_path / "x.gif", 8192, 4320, 100_000)
    assert bomb.stat().st_size < 2**21
    if task == "metadata":
        assert TASKS[task](bomb) is None
    else:
        message = r"is an animation of 100000 frames of 8192×4320, more than can be read"
        with pytest.raises(InputError, match=message):
            TASKS[task](bomb)
    assert ends == []


def test_a_gif_whose_frame_is_larger_than_its_screen_meets_the_limit(
    ends: list[str], tmp_path: Path
) -> None:
    path = gif(tmp_path / "x.gif", 64, 64, 1)
    data = path.read_bytes()[:-1]
    giant = b"\x2c" + struct.pack("<HHHHB", 0, 0, 60_000, 60_000, 0) + b"\x02\x02\x44\x01\x00"
    path.write_bytes(data + giant + b";")
    with pytest.raises(InputError, match="60000×60000, larger than the limit"):
        probe(path)
    assert ends == []


def test_an_animation_that_claims_frames_without_end_is_refused(
    ends: list[str], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="more than can be read"):
        probe(apng(tmp_path / "x.png", 2**31 - 1))
    assert ends == []


def settled(path: Path) -> None:
    """Described or refused, but not because something unforeseen was raised."""
    said = ""
    try:
        probe(path)
    except InputError as refusal:
        said = refusal.message
    assert "failed:" not in said


@pytest.mark.parametrize("box", [b"stsz", b"stts", b"stco", b"stsc", b"ctts"])
def test_an_index_of_two_thousand_million_entries_is_no_harm(
    box: bytes, ends: list[str], tmp_path: Path
) -> None:
    data = bytearray(clips.make(tmp_path, "h264.mp4").read_bytes())
    place = data.find(box)
    assert place > 0
    for offset in (8, 12) if box == b"stsz" else (8,):  # the count; before it a size for all
        data[place + offset : place + offset + 4] = struct.pack(
            ">I", 2**31 - 1 if offset == 12 or box != b"stsz" else 1
        )
    (tmp_path / "x.mp4").write_bytes(data)
    settled(tmp_path / "x.mp4")
    assert ends == []


def test_a_stream_that_turns_up_late_is_damage_and_no_surprise(
    ends: list[str], tmp_path: Path
) -> None:
    """PyAV has no name for a packet of it."""
    whole = clips.make(tmp_path, "flv1.swf").read_bytes()
    rng = random.Random("0/flv1.swf/130")
    rng.choice(list(TASKS))  # as the test above, which found this one, does
    (tmp_path / "x.swf").write_bytes(clips.damage(whole, "duplicate", rng))
    settled(tmp_path / "x.swf")
    assert ends == []


@pytest.mark.parametrize("number", [6, 9, 11, 31])
def test_a_child_that_is_killed_is_exit_3_with_the_signal_named(
    number: int, bikes: Path, dvid: Dvid, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not mocked but for the program: a real process that dies of a real signal."""
    run = subprocess.run

    def dying(_: list[str], **settings: object) -> object:
        code = (
            "import os, resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0));"
            f"os.kill(os.getpid(), {number})"
        )
        return run([sys.executable, "-c", code], **settings)  # type: ignore[call-overload]

    monkeypatch.setattr(apart.subprocess, "run", dying)
    said = dvid("extract", bikes, "--size", "64", code=3)
    assert f"the decoder ended with {signal.Signals(number).name}" in said.err
    assert ("perhaps for lack of memory" in said.err) == (number == 9)
    assert "hint: convert it first" in said.err
    assert len(said.err.splitlines()) == 2
