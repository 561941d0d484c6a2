"""Files made to harm: nothing opens a second file, hangs, crashes or swells; each is one line."""

import json
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from media import count_clip
from PIL import Image

from dvcli.errors import InputError
from dvcli.video import apart
from dvcli.video.digest import source_digest
from dvcli.video.metadata import read_metadata
from dvcli.video.probe import probe
from dvcli.video.read import read


def eight(path: Path) -> object:
    return read(path, frames=2, size=(32, 32), fit="crop")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return count_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", 10)


DISGUISES = {
    "x.mp4": "ffconcat version 1.0\nfile 'clip.mp4'\n",
    "x.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{clip}\n#EXT-X-ENDLIST\n",
    "y.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{clip}\n#EXT-X-ENDLIST\n",
    "x.mpd": '<?xml version="1.0"?><MPD><Period><BaseURL>{clip}</BaseURL></Period></MPD>',
    "x.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
}


@pytest.mark.parametrize("name", DISGUISES)
@pytest.mark.parametrize("task", [eight, probe, read_metadata])
def test_a_playlist_never_opens_another_file(
    name: str, task: Callable[[Path], object], clip: Path, tmp_path: Path
) -> None:
    disguise = tmp_path / name
    disguise.write_text(DISGUISES[name].format(clip=clip))
    (tmp_path / "clip.mp4").write_bytes(clip.read_bytes())
    with pytest.raises(InputError, match="cannot be read as a video"):
        task(disguise)


@pytest.mark.parametrize(
    "address",
    [
        "https://example.org/x.mp4",
        "concat:a.mp4|b.mp4",
        "file:///etc/passwd",
        "pipe:0",
        "data:video",
    ],
)
def test_an_address_is_not_a_path(address: str) -> None:
    with pytest.raises(InputError, match="is an address, not a file"):
        eight(Path(address))


@pytest.mark.parametrize("name", ["concat:a|b.mp4", "12:30 clip.mp4", "-i.mp4", "häßlich\n.mp4"])
def test_a_file_may_have_any_name(
    name: str, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(clip.read_bytes())
    assert probe(Path(name)).frames == 10


def test_a_name_that_is_not_utf8_is_opened(clip: Path, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.mp4"))
    path.write_bytes(clip.read_bytes())
    assert probe(path).frames == 10


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.mp4")
    with pytest.raises(InputError, match="is not a regular file"):
        eight(tmp_path / "x.mp4")


def test_a_pipe_in_a_folder_of_images_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "1.png")
    with pytest.raises(InputError, match=r"1.png` is not a regular file"):
        eight(tmp_path)


def test_a_loop_of_links_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").symlink_to(tmp_path / "b.mp4")
    (tmp_path / "b.mp4").symlink_to(tmp_path / "a.mp4")
    with pytest.raises(InputError, match="cannot be opened: too many levels of symbolic links"):
        eight(tmp_path / "a.mp4")


def png_header(width: int, height: int) -> bytes:
    import zlib

    data = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + data + struct.pack(">I", zlib.crc32(data))


def wide(folder: Path, kind: str) -> Path:
    """A file whose header says 100,000 pixels across."""
    if kind == "png":
        path = folder / "x.png"
        path.write_bytes(
            png_header(100_000, 100_000) + struct.pack(">I", 99) + b"IDAT" + b"\0" * 99
        )
    elif kind == "avi":
        path = count_clip(folder / "x.avi", 3, codec="rawvideo")
        data = path.read_bytes().replace(
            struct.pack("<ii", 96, 64), struct.pack("<ii", 100_000, 64)
        )
        path.write_bytes(data)
    else:
        path = folder / "x.y4m"
        path.write_bytes(b"YUV4MPEG2 W100000 H100 F25:1 Ip A1:1 C420jpeg\nFRAME\n" + b"\0" * 1000)
    return path


@pytest.mark.parametrize("kind", ["png", "avi", "y4m"])
def test_a_header_of_giant_pictures_is_refused_before_decoding(kind: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"100000×\d+, larger than the limit of 8192×4320"):
        eight(wide(tmp_path, kind))


def test_a_zip_bomb_of_an_image_meets_the_size_limit(tmp_path: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(tmp_path / "x.png")
    with pytest.raises(InputError, match="20000×20000, larger than the limit"):
        eight(tmp_path / "x.png")


def test_more_frames_than_memory_are_refused(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"10 frames of 20000×20000 .* more than 4 GiB") as refusal:
        read(clip, frames=10, size=(20_000, 20_000), fit="crop")
    assert refusal.value.hint


def test_a_decoder_that_takes_too_much_memory_is_stopped(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "MEMORY", 30 * 2**20)
    with pytest.raises(InputError, match=r"`.*` (needs more than 0.0293 GiB of memory|failed)"):
        read(clip, frames=2, size=(6000, 6000), fit="crop")


def test_a_decoder_that_takes_too_long_is_stopped(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "SECONDS", 0.05)
    with pytest.raises(InputError, match=r"took longer than 0\.05 s"):
        eight(clip)


@pytest.mark.parametrize(
    ("ending", "message"),
    [
        ("os.kill(os.getpid(), 11)", "SIGSEGV"),
        ("os._exit(3)", "status 3"),
        ("os.abort()", "SIGABRT"),
    ],
)
def test_a_decoder_that_crashes_is_one_line(
    ending: str, message: str, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lowest seam: the command line of the child."""
    run = subprocess.run

    def crash(_: list[str], **settings: object) -> object:
        return run([sys.executable, "-c", f"import os; {ending}"], **settings)  # type: ignore[call-overload]

    monkeypatch.setattr(apart.subprocess, "run", crash)
    with pytest.raises(InputError, match=f"reading `.*` failed: the decoder ended with {message}"):
        eight(clip)


def test_an_answer_that_is_no_answer_is_one_line(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nonsense(command: list[str], **_: object) -> object:
        (Path(command[-1]) / "answer.json").write_text("{not json")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(apart.subprocess, "run", nonsense)
    with pytest.raises(InputError, match="the decoder ended with status 0"):
        eight(clip)


def test_the_child_says_nothing(
    clip: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "x.mp4"
    broken.write_bytes(clip.read_bytes()[:-300])
    with pytest.raises(InputError):
        eight(broken)
    assert capfd.readouterr() == ("", "")


def test_tags_that_are_not_text_do_not_matter(clip: Path, tmp_path: Path) -> None:
    tagged = count_clip(tmp_path / "x.mkv", 5, tag_metadata={"title": "TITLEXYZ"})
    data = tagged.read_bytes()
    assert b"TITLEXYZ" in data
    tagged.write_bytes(data.replace(b"TITLEXYZ", b"\xff\xfe\xfa\x80XYZ\xff"))
    assert probe(tagged).frames == 5


@pytest.mark.parametrize("step", [7, 131])
def test_flipped_bits_never_get_past_one_line(step: int, clip: Path, tmp_path: Path) -> None:
    data = bytearray(clip.read_bytes())
    for place in range(step, len(data), step * 3):
        data[place] ^= 0x55
    path = tmp_path / "x.mp4"
    path.write_bytes(data)
    try:
        said = str(read(path, frames=1, size=(32, 32), fit="crop", tolerate_errors=True).notes)
    except InputError as refusal:
        said = refusal.message
    assert "\n" not in said


def test_the_module_that_names_clips_imports_nothing_heavy() -> None:
    code = "import sys, json, dvcli.video.digest; print(json.dumps(sorted(sys.modules)))"
    modules = json.loads(subprocess.check_output([sys.executable, "-c", code], env=env()))
    assert not {"torch", "numpy", "av", "PIL"} & set(modules)


def test_the_child_never_imports_torch() -> None:
    code = "import sys, dvcli.video.child; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], env=env()).strip() == b"False"


def env() -> dict[str, str]:
    import dvcli

    return {**os.environ, "PYTHONPATH": str(Path(dvcli.__file__).parents[1])}


def test_a_files_digest_is_the_one_given() -> None:
    assert source_digest(Path(__file__), lambda path: "d" * 64) == "d" * 64


def folder_digest(folder: Path, contents: dict[str, str]) -> str:
    folder.mkdir()
    for name, text in contents.items():
        (folder / name).write_text(text)
    return source_digest(folder, lambda path: path.read_text())


def test_a_folders_digest_is_of_its_images_in_order_not_of_their_names(tmp_path: Path) -> None:
    first = folder_digest(tmp_path / "a", {"2.png": "x", "10.png": "y", "notes.txt": "z"})
    assert len(first) == 64
    assert folder_digest(tmp_path / "b", {"a.jpg": "x", "b.jpg": "y"}) == first
    assert folder_digest(tmp_path / "c", {"2.png": "y", "10.png": "x"}) != first
    assert folder_digest(tmp_path / "d", {"1.png": "x"}) != first


def test_reading_works_from_several_threads(clip: Path) -> None:
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(probe(clip).frames)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [10, 10, 10]
