"""Artifacts that are not what their stage writes are refused by name before any heavy work."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from program import Dvid
from safetensors import safe_open
from safetensors.torch import load, save
from torch import Tensor

from dvcli.models import load as models
from dvcli.runs import Runs
from dvcli.store import Artifact, Store

Change = Callable[[bytes], bytes]


def of_run(stage: str) -> Artifact:
    found = Store.open().get(Runs.open().get("bikes").keys[stage])
    assert found is not None
    return found


def replace_output(stage: str, name: str, change: Change) -> str:
    """The key of the run's artifact, which now has another output, as an archive might bring it."""
    artifact, store = of_run(stage), Store.open()
    with store.draft(artifact.record["preimage"]) as draft:
        draft.info.update(artifact.info)
        for other in artifact.outputs:
            data = artifact.path(other).read_bytes()
            draft.path(other).write_bytes(change(data) if other == name else data)
        made = draft.publish()
    assert made.key == artifact.key
    return made.key


def tensor(name: str, change: Callable[[Tensor], Tensor]) -> Change:
    return lambda data: save({name: change(load(data)[name]).contiguous()})


def deltas(change: Callable[[Tensor], Tensor]) -> Change:
    """Every trained tensor changed, with the note of what it was trained on."""

    def changed(data: bytes) -> bytes:
        place = Path("deltas.safetensors")
        place.write_bytes(data)
        with safe_open(place, framework="pt") as file:
            note = file.metadata()
        return save({name: change(x).contiguous() for name, x in load(data).items()}, note)

    return changed


def nan(x: Tensor) -> Tensor:
    return x * float("nan")


CASES: dict[str, tuple[str, str, Change, str]] = {
    "latents of junk": ("tune", "latents", lambda _: b"junk", "no safetensors file"),
    "latents under another name": (
        "tune",
        "latents",
        lambda data: save({"foo": load(data)["latents"]}),
        "it holds foo, not `latents`",
    ),
    "latents of no tensor": ("tune", "latents", lambda _: save({}), "it holds nothing"),
    "latents of one frame": ("tune", "latents", tensor("latents", lambda x: x[0]), "not [3, 4, "),
    "latents of too few": ("tune", "latents", tensor("latents", lambda x: x[:2]), "it is [2, 4, "),
    "latents of another size": (
        "tune",
        "latents",
        tensor("latents", lambda x: x[..., :2]),
        ", 2], not [",
    ),
    "latents of integers": (
        "tune",
        "latents",
        tensor("latents", lambda x: x.long()),
        "`latents` is int64, not float32",
    ),
    "latents that are no numbers": ("tune", "latents", tensor("latents", nan), "is not finite"),
    "deltas of junk": ("tune", "deltas", lambda _: b"junk", "does not say what it was tuned on"),
    "deltas that are no numbers": ("tune", "deltas", deltas(nan), "is not finite"),
    "deltas of halves": ("tune", "deltas", deltas(lambda x: x.half()), "is float16, not float32"),
    "depth of junk": ("depth", "disparity", lambda _: b"junk", "no safetensors file"),
    "depth under another name": (
        "depth",
        "disparity",
        lambda _: save({"zz": torch.zeros(3)}),
        "it holds zz, not `disparity`",
    ),
    "depth of too few": ("depth", "disparity", tensor("disparity", lambda x: x[:1]), "it is [1, "),
    "depth in a line": (
        "depth",
        "disparity",
        tensor("disparity", torch.flatten),
        "not [3, 1, any, any]",
    ),
    "depth that is no number": ("depth", "disparity", tensor("disparity", nan), "is not finite"),
    "frames of junk": ("extract", "frames", lambda _: b"junk", "is not a file of frames"),
    "frames of floats": ("extract", "frames", tensor("frames", Tensor.float), "not uint8 RGB"),
    "no frames": ("extract", "frames", tensor("frames", lambda x: x[:0]), "it holds no frame"),
    "too few frames": (
        "extract",
        "frames",
        tensor("frames", lambda x: x[:2]),
        "it holds 2 frames, not 3",
    ),
    "smaller frames": (
        "extract",
        "frames",
        tensor("frames", lambda x: x[:, :32]),
        "its frames are 64×32, not 64×64",
    ),
    "an end of another size": (
        "invert",
        "latents",
        tensor("latents", lambda x: x[..., :2]),
        ", 2], not [3, 4, ",
    ),
}


@pytest.mark.parametrize("what", CASES)
def test_what_its_stage_cannot_have_written_is_refused_by_name_before_a_network_is_loaded(
    dvid: Dvid, tuned: Path, base: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    stage, name, change, why = CASES[what]
    for loader in ("unet", "vae", "depth_estimator"):
        monkeypatch.setattr(models, loader, lambda *_: pytest.fail("a network was loaded"))
    key = replace_output(stage, name, change)
    command = ["sample", "-p", "a fox"] if stage == "invert" else ["invert", "--steps", "2"]
    if stage == "extract":
        command = ["depth", "bikes", "--estimator", str(base)]
        Store.open().rm(of_run("depth").key)
    said = dvid(*command, code=3)
    assert said.err.count(f"error: `{name}` of the {stage} artifact {key[:12]} is not what") == 1
    assert why in said.err
    assert f"hint: `dvid cache rm {key[:12]}` lets it be made again" in said.err


def test_what_was_refused_is_made_again_once_it_is_removed(dvid: Dvid, tuned: Path) -> None:
    dvid("sample", "-p", "a fox", "-o", "right.mp4", "--no-metadata")
    Store.open().rm(of_run("invert").key)
    key = replace_output("tune", "latents", lambda _: b"junk")
    dvid("sample", "-p", "a fox", "-o", "again.mp4", "--no-metadata", code=3)
    dvid("cache", "rm", key[:12])
    dvid("sample", "-p", "a fox", "-o", "again.mp4", "--no-metadata")
    assert Path("again.mp4").read_bytes() == Path("right.mp4").read_bytes()


@pytest.mark.parametrize("what", ["depth of too few", "frames of junk"])
def test_a_tuning_looks_at_what_it_is_given_before_it_loads_anything(
    dvid: Dvid, tuned: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    stage, name, change, why = CASES[what]
    for loader in ("unet", "vae", "text_encoder"):
        monkeypatch.setattr(models, loader, lambda *_: pytest.fail("a network was loaded"))
    replace_output(stage, name, change)
    if stage == "extract":
        Store.open().rm(of_run("depth").key)
    said = dvid("tune", "--run", "bikes", "--refresh", "--steps", "2", code=3)
    assert why in said.err


def test_a_render_names_what_it_cannot_show(dvid: Dvid, tuned: Path, bikes: Path) -> None:
    replace_output("extract", "frames", tensor("frames", Tensor.float))
    said = dvid("extract", bikes, "--frames", "3", "--size", "64", "-o", "o.png", code=3)
    assert "`frames` of the extract artifact" in said.err
    assert not Path("o.png").exists()
