"""A clip or a model that is replaced while it is in use spoils no artifact."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from media import images, make_clip, numbered
from program import Dvid
from test_stages import _tuned_run

from dvcli import stages
from dvcli.cli.sources import Sources
from dvcli.errors import InputError
from dvcli.models import load
from dvcli.recipes import Extract, Sample
from dvcli.runtime import Runtime
from dvcli.stages import choice, extract, outside
from dvcli.store import Partial, Store
from dvcli.video.digest import source_digest

FRAMES = ["--frames", "2", "--size", "64"]
CHANGED = "was changed while it was in use"
Act = Callable[[], object]


@pytest.fixture
def clips(tmp_path: Path) -> tuple[Path, Path]:
    """Two clips that differ in every frame."""
    one = make_clip(tmp_path / "A.mp4", [numbered(i) for i in range(4)])
    other = make_clip(tmp_path / "B.mp4", [numbered(4095 - i) for i in range(4)])
    return one, other


def before(patch: pytest.MonkeyPatch, where: object, name: str, *acts: Act) -> None:
    """Each of the next calls of that name is preceded by an act."""
    real, left = getattr(where, name), list(acts)

    def call(*arguments: object, **named: object) -> object:
        if left:
            left.pop(0)()
        return real(*arguments, **named)

    patch.setattr(where, name, call)


def artifacts() -> dict[str, dict[str, str]]:
    """The SHA-256 of every output in the cache, by key."""
    return {
        entry.key: {name: output.sha256 for name, output in entry.outputs.items()}
        for entry in Store.open().entries()
    }


@pytest.mark.parametrize(
    ("where", "name"),
    [(Sources, "locate"), (extract, "read_choice")],
    ids=["before it is located", "before it is read"],
)
def test_a_clip_replaced_after_it_was_hashed_gives_no_artifact(
    dvid: Dvid,
    clips: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    where: object,
    name: str,
) -> None:
    one, other = clips
    clip = Path("V.mp4")
    shutil.copy(one, clip)
    with monkeypatch.context() as patch:
        before(patch, where, name, lambda: shutil.copy(other, clip))
        said = dvid("extract", clip, *FRAMES, "-o", "o.png", code=3)
    assert said.err.startswith(f"error: `{clip.resolve()}` {CHANGED}")
    assert "hint: run the same command again" in said.err
    assert artifacts() == {}
    assert not Path("o.png").exists()
    shutil.copy(one, clip)
    dvid("extract", clip, *FRAMES, "-o", "again.png", "--no-metadata")
    dvid("extract", one, *FRAMES, "-o", "right.png", "--no-metadata", "--no-cache")
    assert Path("again.png").read_bytes() == Path("right.png").read_bytes()


@pytest.mark.parametrize("by", ["copy", "name"])
def test_a_clip_that_was_another_only_while_it_was_read_gives_no_artifact(
    dvid: Dvid, clips: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    one, other = clips
    clip, aside = Path("V.mp4"), Path("aside.mp4")
    shutil.copy(one, clip)
    real = choice.read_choice

    def meanwhile(*arguments: object) -> object:
        if by == "name":
            clip.rename(aside)
        shutil.copy(other, clip)
        picked = real(*arguments)  # type: ignore[arg-type]
        aside.replace(clip) if by == "name" else shutil.copy(one, clip)
        return picked

    monkeypatch.setattr(extract, "read_choice", meanwhile)
    assert CHANGED in dvid("extract", clip, *FRAMES, "-o", "o.png", code=3).err
    assert artifacts() == {}


def test_a_folder_of_images_is_watched_and_what_else_lies_in_it_is_not(
    dvid: Dvid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = images(tmp_path / "images", ["1.png", "2.png", "3.png"])
    (folder / "config.json").write_text("{}")
    with monkeypatch.context() as patch:
        before(patch, extract, "read_choice", lambda: (folder / "notes.txt").write_text("x"))
        dvid("extract", folder, *FRAMES, "-o", "o.png")
    before(patch := monkeypatch, extract, "read_choice", lambda: shutil.copy(*_two(folder)))
    dvid("extract", folder, "--frames", "3", "--size", "64", "-o", "p.png", code=3)
    assert patch is monkeypatch


def _two(folder: Path) -> tuple[Path, Path]:
    return folder / "1.png", folder / "2.png"


def weights(model: Path) -> Path:
    (found,) = (model / "unet").glob("*.safetensors")
    return found


def other_weights(model: Path) -> bytes:
    """The same network with other numbers in it."""
    data = bytearray(weights(model).read_bytes())
    for place in range(len(data) - 4000, len(data), 4):
        data[place] ^= 0xFF
    return bytes(data)


def tune(model: Path, clip: Path) -> list[str | Path]:
    return ["tune", clip, "a man", "--model", model, "--steps", "3", "-q", *FRAMES]


@pytest.mark.parametrize("file", ["unet", "unet/config.json", "text_encoder", "tokenizer", "vae"])
def test_a_model_replaced_after_it_was_hashed_gives_no_deltas(
    dvid: Dvid, base: Path, bikes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    model = Path(shutil.copytree(base, tmp_path / "model"))
    place = model / file
    if place.is_dir():
        kinds = ("*.safetensors", "merges.txt")
        (place,) = [found for kind in kinds for found in place.glob(kind)]
    good = place.read_bytes()
    with monkeypatch.context() as patch:
        before(patch, load, "unet", lambda: place.write_bytes(good))  # the same, but not the file
        assert CHANGED in dvid(*tune(model, bikes), code=3).err
    assert {entry.stage for entry in Store.open().entries()} == {"extract", "depth"}
    assert not list((Store.open().home / "partial").glob("*/*"))
    dvid(*tune(model, bikes))


def test_weights_replaced_while_they_are_tuned_leave_no_checkpoint_and_no_deltas(
    dvid: Dvid, base: Path, bikes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dvid(*tune(base, bikes))
    right = artifacts()
    model = Path(shutil.copytree(base, tmp_path / "model"))
    good, bad = weights(model).read_bytes(), other_weights(model)
    monkeypatch.setenv("DVID_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(Runtime.__init__, "__kwdefaults__", _eager())
    with monkeypatch.context() as patch:
        before(patch, Partial, "save", lambda: None, lambda: weights(model).write_bytes(bad))
        assert CHANGED in dvid(*tune(model, bikes), code=3).err
    assert {entry.stage for entry in Store.open().entries()} == {"extract", "depth"}
    kept = list((Store.open().home / "partial").glob("*/*.safetensors"))
    assert [path.name for path in kept] == ["step-0000001.safetensors"]
    weights(model).write_bytes(good)
    dvid(*tune(model, bikes))
    assert artifacts() == right


def _eager() -> dict[str, object]:
    """The defaults of a runtime that keeps a checkpoint after every step."""
    defaults = Runtime.__init__.__kwdefaults__
    assert defaults is not None
    return {**defaults, "checkpoint_seconds": 0.0}


def test_new_rights_and_names_of_weights_after_they_were_read_end_no_tuning(
    dvid: Dvid, base: Path, bikes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Path(shutil.copytree(base, tmp_path / "model"))
    monkeypatch.setattr(Runtime.__init__, "__kwdefaults__", _eager())

    def meddle() -> None:
        weights(model).chmod(0o600)
        os.link(weights(model), tmp_path / "backup")

    before(monkeypatch, Partial, "save", lambda: None, meddle)
    dvid(*tune(model, bikes))
    assert (tmp_path / "backup").exists()


def on(store: Store, model: Path) -> Runtime:
    """What a command works with that has looked at the model."""
    sources = Sources(store, offline=True)
    sources.model(str(model))
    return Runtime(locate=sources.locate)


def test_a_loaded_network_whose_weights_changed_since_is_not_used_on(
    dvid: Dvid, tuned: Path, base: Path, tmp_path: Path
) -> None:
    """On the CPU its numbers are those in the file, so they have changed with it."""
    model = Path(shutil.copytree(base, tmp_path / "model"))
    store, _, inverted = _tuned_run()
    runtime = on(store, model)
    stages.realise(Sample(inverted=inverted, prompt="a fox"), store, runtime)
    good, bad = weights(model).read_bytes(), other_weights(model)
    with weights(model).open("r+b") as file:
        file.write(bad)
    for _ in range(2):
        with pytest.raises(InputError, match=CHANGED):
            stages.realise(Sample(inverted=inverted, prompt="a wolf"), store, runtime)
    with weights(model).open("r+b") as file:
        file.write(good)
    made = stages.realise(Sample(inverted=inverted, prompt="a wolf"), store, runtime)
    afresh = on(store, base)
    again = stages.realise(Sample(inverted=inverted, prompt="a wolf"), store, afresh, refresh=True)
    assert again.outputs == made.outputs


def test_a_stage_that_failed_on_a_replaced_model_leaves_nothing_of_it_to_the_next(
    dvid: Dvid, tuned: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Path(shutil.copytree(base, tmp_path / "model"))
    store, _, inverted = _tuned_run()
    runtime = on(store, model)

    def broken(*_: object) -> None:
        os.utime(weights(model))
        raise RuntimeError("of something else")

    with monkeypatch.context() as patch:
        patch.setattr("dvcli.models.latents.decode", broken)
        with pytest.raises(RuntimeError, match="of something else"):
            stages.realise(Sample(inverted=inverted, prompt="a fox"), store, runtime)
    loads: list[object] = []
    before(monkeypatch, load, "unet", lambda: loads.append(1))
    stages.realise(Sample(inverted=inverted, prompt="a fox"), store, runtime)
    assert loads == [1]


def test_a_hit_looks_at_no_input(
    dvid: Dvid, clips: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Extract(
        clip=source_digest(clips[0], Store.open().digest_file), frames=2, size=(64, 64)
    )
    stages.realise(recipe, Store.open(), Runtime(locate=lambda _: clips[0]))
    monkeypatch.setattr(outside, "look", lambda _: pytest.fail("looked"))
    stages.realise(recipe, Store.open(), Runtime())
