"""Checkpoints made to harm: refused in two lines with exit 3 or 4, and nothing of theirs is run.

Base models, depth estimators and CLIPs alike. The planted code would leave a mark.
"""

import io
import json
import math
import os
import pickle
import resource
import shutil
import struct
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import edit_json
from media import count_clip
from program import Dvid
from safetensors.torch import load_file, save_file

from dvcli.errors import InputError
from dvcli.models import opening
from dvcli.models.header import read_header

UNET = "unet/diffusion_pytorch_model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"
DEPTH = "depth_estimator/model.safetensors"
CLIP = "model.safetensors"
EVERY = (UNET, VAE, TEXT, DEPTH)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return count_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", 4)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """The file that any planted code writes."""
    return tmp_path / "it-was-run"


@pytest.fixture
def model(base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(base, tmp_path / "model"))


@pytest.fixture
def eye(judge: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(judge, tmp_path / "eye"))


class Payload:
    """What unpickles by running code."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, (f"open({str(self.mark)!r}, 'w').close()",)


def plant(path: Path, mark: Path) -> None:
    path.write_bytes(pickle.dumps(Payload(mark)))


def tune(dvid: Dvid, clip: Path, model: Path, code: int = 3) -> str:
    """stderr of a tuning on that model, which must fail so."""
    words = ("tune", clip, "a clip", "--steps", "1", "--frames", "2", "--size", "64", "-q")
    said = dvid(*words, "--model", model, code=code)
    if code:
        assert "Traceback" not in said.err
        assert said.err.startswith("error: "), said.err
        assert len(said.err.splitlines()) <= 2, said.err
    assert said.out == "" or not code
    return said.err


def score(dvid: Dvid, clip: Path, eye: Path, code: int = 3) -> str:
    said = dvid("eval", clip, "--prompt", "a clip", "--clip-model", eye, "-q", code=code)
    assert "Traceback" not in said.err
    assert not code or len(said.err.splitlines()) <= 2, said.err
    return said.err


def test_the_planted_code_would_leave_its_mark(tmp_path: Path, mark: Path) -> None:
    plant(tmp_path / "x.bin", mark)
    pickle.loads((tmp_path / "x.bin").read_bytes())
    assert mark.exists()


# pickles


@pytest.mark.parametrize("ending", ["bin", "ckpt", "pt", "pth"])
@pytest.mark.parametrize("part", EVERY)
def test_a_part_that_is_only_a_pickle_is_refused_unopened(
    part: str, ending: str, dvid: Dvid, clip: Path, model: Path, mark: Path
) -> None:
    (model / part).unlink()
    plant((model / part).with_suffix(f".{ending}"), mark)
    assert "only as a pickle, which can run any code" in tune(dvid, clip, model)
    assert not mark.exists()


def test_pickles_beside_the_weights_are_never_opened(
    dvid: Dvid, clip: Path, model: Path, mark: Path
) -> None:
    for part in EVERY:
        for name in ("diffusion_pytorch_model.bin", "pytorch_model.bin", "model.ckpt", "x.pkl"):
            plant((model / part).with_name(name), mark)
    for name in ("scheduler", "tokenizer", "feature_extractor"):
        plant(model / name / "pytorch_model.bin", mark)
        plant(model / name / "tokenizer.pkl", mark)
    tune(dvid, clip, model, code=0)
    assert not mark.exists()


def test_a_pickle_called_safetensors_is_refused(
    dvid: Dvid, clip: Path, model: Path, mark: Path
) -> None:
    plant(model / UNET, mark)
    assert "is no whole safetensors file" in tune(dvid, clip, model)
    assert not mark.exists()


def test_a_judge_that_is_a_pickle_is_refused(dvid: Dvid, clip: Path, eye: Path, mark: Path) -> None:
    (eye / CLIP).unlink()
    plant(eye / "pytorch_model.bin", mark)
    assert "only as a pickle" in score(dvid, clip, eye)
    assert not mark.exists()


# code


CODE = {
    "auto_map": {"AutoModel": "mine.Model", "AutoModelForDepthEstimation": "mine.Model"},
    "custom_pipelines": "mine",
    "trust_remote_code": True,
    "attn_implementation": "stranger/kernel",
    "_attn_implementation": "kernels-community/flash-attn",
    "allow_all_kernels": True,
    "backbone": "stranger/backbone",
    "use_pretrained_backbone": True,
}
CONFIGS = (
    "model_index.json",
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "tokenizer/tokenizer_config.json",
    "scheduler/scheduler_config.json",
    "depth_estimator/config.json",
    "feature_extractor/preprocessor_config.json",
)


@pytest.mark.parametrize(
    ("file", "name"),
    [(CONFIGS[n % len(CONFIGS)], name) for n, name in enumerate(CODE)]
    + [(file, "auto_map") for file in CONFIGS[1:]],
)
def test_a_config_that_asks_for_code_or_another_model_is_refused(
    file: str, name: str, dvid: Dvid, clip: Path, model: Path, mark: Path
) -> None:
    (model / file).with_name("mine.py").write_text(f"open({str(mark)!r}, 'w').close()")
    edit_json(model / file, **{name: CODE[name]})
    said = tune(dvid, clip, model)
    assert f"(`{name}`), which is n" in said
    assert not mark.exists()


def test_code_deep_inside_a_config_is_refused(dvid: Dvid, clip: Path, model: Path) -> None:
    edit_json(model / "text_encoder" / "config.json", inner=[{"more": {"auto_map": {"A": "b.C"}}}])
    assert "asks for code of its own" in tune(dvid, clip, model)


@pytest.mark.parametrize(
    "file", ["config.json", "preprocessor_config.json", "tokenizer_config.json"]
)
def test_a_judge_that_asks_for_code_is_refused(
    file: str, dvid: Dvid, clip: Path, eye: Path, mark: Path
) -> None:
    (eye / "mine.py").write_text(f"open({str(mark)!r}, 'w').close()")
    edit_json(eye / file, auto_map={"AutoModel": "mine.Model", "AutoImageProcessor": "mine.P"})
    assert "asks for code of its own" in score(dvid, clip, eye)
    assert not mark.exists()


def test_code_asked_for_in_the_other_processor_file_is_refused(
    dvid: Dvid, clip: Path, eye: Path, mark: Path
) -> None:
    (eye / "mine.py").write_text(f"open({str(mark)!r}, 'w').close()")
    nested = {"image_processor": {"auto_map": {"AutoImageProcessor": "mine.P"}}}
    (eye / "processor_config.json").write_text(json.dumps(nested))
    assert "asks for code of its own" in score(dvid, clip, eye)
    assert not mark.exists()


def test_an_adapter_beside_the_weights_is_refused(
    dvid: Dvid, clip: Path, model: Path, mark: Path
) -> None:
    plant(model / "text_encoder" / "adapter_model.bin", mark)
    adapter = {"peft_type": "LORA", "base_model_name_or_path": "stranger/model"}
    (model / "text_encoder" / "adapter_config.json").write_text(json.dumps(adapter))
    assert "has an adapter beside its weights" in tune(dvid, clip, model)
    assert not mark.exists()


def test_a_part_from_a_module_of_the_folder_is_refused(
    dvid: Dvid, clip: Path, model: Path, mark: Path
) -> None:
    (model / "unet" / "mine.py").write_text(f"open({str(mark)!r}, 'w').close()")
    edit_json(model / "model_index.json", unet=["mine", "UNet2DConditionModel"])
    assert "takes its unet from the module `mine`" in tune(dvid, clip, model)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["torch.py", "diffusers.py", "safetensors.py", "sitecustomize.py"])
def test_modules_in_the_working_folder_are_not_imported_by_the_decoder(
    name: str, clip: Path, tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvcli.video.probe import probe

    monkeypatch.chdir(tmp_path)
    for planted in (name, "av.py", "numpy.py", "PIL.py", "json.py"):
        Path(planted).write_text(f"open({str(mark)!r}, 'w').close()")
    assert probe(clip).frames == 4
    assert not mark.exists()


# weight files


def header(path: Path, entries: Mapping[str, object], data: bytes = b"") -> None:
    text = json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def tensor(shape: list[int], start: int, stop: int, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


FILES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "seven bytes": lambda path: path.write_bytes(b"1234567"),
    "a header of 2⁶³ bytes": lambda path: path.write_bytes(struct.pack("<Q", 2**63) + b"{}"),
    "a header longer than the file": lambda path: path.write_bytes(struct.pack("<Q", 999) + b"{}"),
    "a header that is no JSON": lambda path: path.write_bytes(struct.pack("<Q", 4) + b"\xff\0{}"),
    "a header nested 100,000 deep": lambda path: path.write_bytes(
        struct.pack("<Q", 200_000) + b"[" * 100_000 + b"]" * 100_000
    ),
    "a list for a header": lambda path: path.write_bytes(struct.pack("<Q", 2) + b"[]"),
    "a tensor beyond the end": lambda path: header(path, {"x": tensor([4], 0, 16)}),
    "a tensor before the start": lambda path: header(path, {"x": tensor([4], -16, 0)}, bytes(16)),
    "a tensor larger than its place": lambda path: header(
        path, {"x": tensor([2**40, 2**40], 0, 16)}, bytes(16)
    ),
    "a shape below zero": lambda path: header(path, {"x": tensor([-4], 0, 16)}, bytes(16)),
    "a shape that is no number": lambda path: header(
        path, {"x": {"dtype": "F32", "shape": ["4"], "data_offsets": [0, 16]}}, bytes(16)
    ),
    "an unknown type": lambda path: header(path, {"x": tensor([4], 0, 16, "PICKLE")}, bytes(16)),
    "bytes that no tensor has": lambda path: header(path, {"x": tensor([4], 0, 16)}, bytes(32)),
    "cut in its middle": lambda path: path.write_bytes(
        path.read_bytes()[: path.stat().st_size // 2]
    ),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("part", [UNET, DEPTH])
def test_a_broken_weight_file_is_refused_before_any_work(
    part: str, kind: str, dvid: Dvid, clip: Path, model: Path, home: Path
) -> None:
    FILES[kind](model / part)
    assert "is no whole safetensors file" in tune(dvid, clip, model)
    assert not list(home.rglob("*.safetensors"))


@pytest.mark.parametrize("kind", FILES)
def test_a_broken_weight_file_of_a_judge_is_refused(
    kind: str, dvid: Dvid, clip: Path, eye: Path
) -> None:
    FILES[kind](eye / CLIP)
    assert "is no whole safetensors file" in score(dvid, clip, eye)


def respoil(path: Path, spoil: Callable[[dict[str, torch.Tensor]], None]) -> None:
    weights = load_file(path)
    spoil(weights)
    save_file(weights, path, metadata={"format": "pt"})


def drop(weights: dict[str, torch.Tensor]) -> None:
    del weights[sorted(weights)[3]]


def reshape(weights: dict[str, torch.Tensor]) -> None:
    name = max(weights, key=lambda n: weights[n].numel())
    weights[name] = weights[name].flatten()[: weights[name].numel() // 2].clone()


def poison(value: float) -> Callable[[dict[str, torch.Tensor]], None]:
    def spoil(weights: dict[str, torch.Tensor]) -> None:
        name = max(weights, key=lambda n: weights[n].numel())
        weights[name].view(-1)[7] = value

    return spoil


SPOILT = {
    "a tensor is missing": drop,
    "a tensor of another shape": reshape,
    "NaN": poison(math.nan),
    "infinity": poison(math.inf),
}


@pytest.mark.parametrize("kind", SPOILT)
@pytest.mark.parametrize("part", EVERY)
def test_spoilt_weights_are_refused(
    part: str, kind: str, dvid: Dvid, clip: Path, model: Path
) -> None:
    respoil(model / part, SPOILT[kind])
    said = tune(dvid, clip, model)
    assert str(model / part.split("/")[0]) in said


@pytest.mark.parametrize("kind", SPOILT)
def test_a_judge_of_spoilt_weights_is_refused(kind: str, dvid: Dvid, clip: Path, eye: Path) -> None:
    respoil(eye / CLIP, SPOILT[kind])
    assert str(eye) in score(dvid, clip, eye)


# links


@pytest.mark.parametrize(
    "file",
    [UNET, "unet/config.json", "tokenizer/vocab.json", "scheduler/scheduler_config.json", DEPTH],
)
def test_a_file_that_is_a_link_out_of_the_folder_is_refused(
    file: str, dvid: Dvid, clip: Path, model: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "elsewhere"
    (model / file).rename(moved)
    (model / file).symlink_to(moved)
    assert "is a link that leaves the checkpoint's folder" in tune(dvid, clip, model)


@pytest.mark.parametrize("part", ["unet", "tokenizer", "depth_estimator", "feature_extractor"])
def test_a_part_that_is_a_link_out_of_the_folder_is_refused(
    part: str, dvid: Dvid, clip: Path, model: Path, tmp_path: Path
) -> None:
    (model / part).rename(tmp_path / "elsewhere")
    (model / part).symlink_to(tmp_path / "elsewhere")
    assert "is a link that leaves the checkpoint's folder" in tune(dvid, clip, model)


def test_a_link_to_nowhere_is_refused(dvid: Dvid, clip: Path, model: Path) -> None:
    (model / UNET).unlink()
    (model / UNET).symlink_to("/nowhere/at/all.safetensors")
    tune(dvid, clip, model)


# configs


def nested(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


@pytest.mark.parametrize("depth", [40, 100_000])
@pytest.mark.parametrize("file", CONFIGS)
def test_deep_json_is_refused(file: str, depth: int, dvid: Dvid, clip: Path, model: Path) -> None:
    (model / file).write_text(nested(depth))
    assert "is nested deeper than any settings are" in tune(dvid, clip, model)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "nul",
        '{"a": 1',
        '"\\ud800"',
        '{"_class_name": "\\ud800"}',
        '{"\\udfff": 1}',
        '{"a": ' + "9" * 5000 + "}",
        "\xff",
    ],
    ids=range(9),
)
@pytest.mark.parametrize("file", ["unet/config.json", "scheduler/scheduler_config.json"])
def test_what_is_no_json_of_settings_is_refused(
    file: str, text: str, dvid: Dvid, clip: Path, model: Path
) -> None:
    (model / file).write_bytes(text.encode("latin-1"))
    assert str(model / file) in tune(dvid, clip, model)


def test_a_giant_config_is_refused_unread(dvid: Dvid, clip: Path, model: Path) -> None:
    with (model / "unet" / "config.json").open("r+b") as file:
        file.truncate(2**40)  # sparse
    assert "is larger than any settings are" in tune(dvid, clip, model)


GIANTS: dict[str, tuple[str, dict[str, object]]] = {
    "channels": ("unet/config.json", {"block_out_channels": [10**9, 10**9]}),
    "input channels": ("unet/config.json", {"in_channels": 10**9}),
    "layers a block": ("unet/config.json", {"layers_per_block": 10**9}),
    "a few layers too many": ("unet/config.json", {"layers_per_block": 10_000}),
    "layers a transformer": ("unet/config.json", {"transformer_layers_per_block": 10**9}),
    "heads": ("unet/config.json", {"attention_head_dim": 10**9}),
    "text width": ("unet/config.json", {"cross_attention_dim": 10**9}),
    "many blocks": ("unet/config.json", {"block_out_channels": [32] * 100_000}),
    "size of samples": ("unet/config.json", {"sample_size": 10**9}),
    "VAE channels": ("vae/config.json", {"block_out_channels": [8, 8, 8, 10**9]}),
    "VAE latent channels": ("vae/config.json", {"latent_channels": 10**9}),
    "VAE layers": ("vae/config.json", {"layers_per_block": 10**9}),
    "VAE blocks": ("vae/config.json", {"block_out_channels": [8] * 4096}),
    "words": ("text_encoder/config.json", {"vocab_size": 10**10}),
    "text hidden": ("text_encoder/config.json", {"hidden_size": 10**9}),
    "text layers": ("text_encoder/config.json", {"num_hidden_layers": 10**9}),
    "text positions": ("text_encoder/config.json", {"max_position_embeddings": 10**9}),
    "text intermediate": ("text_encoder/config.json", {"intermediate_size": 10**9}),
    "a wide text encoder": ("text_encoder/config.json", {"intermediate_size": 60_000}),
    "depth hidden": ("depth_estimator/config.json", {"hidden_size": 10**9}),
    "depth layers": ("depth_estimator/config.json", {"num_hidden_layers": 10**9}),
    "depth image": ("depth_estimator/config.json", {"image_size": 10**9}),
    "depth neck": ("depth_estimator/config.json", {"neck_hidden_sizes": [10**9] * 4}),
    "steps of the scheduler": ("scheduler/scheduler_config.json", {"num_train_timesteps": 10**10}),
    "betas of the scheduler": ("scheduler/scheduler_config.json", {"beta_end": 10**400}),
}


@pytest.mark.parametrize("kind", GIANTS)
def test_a_gigantic_number_is_refused_before_anything_is_allocated(
    kind: str, dvid: Dvid, clip: Path, model: Path
) -> None:
    file, change = GIANTS[kind]
    edit_json(model / file, **change)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    said = tune(dvid, clip, model)
    assert "asks for more than its weights hold" in said or "cannot be worked with" in said, said
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200_000 * (1024 if sys.platform == "darwin" else 1)  # KiB, loading itself is 100


@pytest.mark.parametrize(
    "change", [{"hidden_size": 10**9}, {"num_hidden_layers": 10**9}, {"patch_size": -1}]
)
def test_a_judge_of_gigantic_numbers_is_refused(
    change: dict[str, int], dvid: Dvid, clip: Path, eye: Path
) -> None:
    config = json.loads((eye / "config.json").read_text())
    for tower in ("text_config", "vision_config"):
        config[tower].update(change)
    (eye / "config.json").write_text(json.dumps(config))
    score(dvid, clip, eye)


SENSELESS: dict[str, tuple[str, dict[str, object]]] = {
    "channels are a word": ("unet/config.json", {"block_out_channels": "wide"}),
    "channels are nested": ("unet/config.json", {"block_out_channels": [[32], {"a": 64}]}),
    "no channels": ("unet/config.json", {"block_out_channels": []}),
    "unknown blocks": ("unet/config.json", {"down_block_types": ["Mine", "Yours"]}),
    "blocks are a number": ("unet/config.json", {"down_block_types": 3}),
    "heads below zero": ("unet/config.json", {"attention_head_dim": [-2, 0]}),
    "heads are a word": ("unet/config.json", {"attention_head_dim": "many"}),
    "unknown activation": ("unet/config.json", {"act_fn": "mine"}),
    "groups of none": ("unet/config.json", {"norm_num_groups": 0}),
    "layers below zero": ("unet/config.json", {"layers_per_block": -3}),
    "VAE groups of none": ("vae/config.json", {"norm_num_groups": 0}),
    "VAE blocks unknown": ("vae/config.json", {"down_block_types": ["Mine"] * 4}),
    "VAE scale is a word": ("vae/config.json", {"scaling_factor": "large"}),
    "VAE scale is nothing": ("vae/config.json", {"scaling_factor": 0}),
    "VAE scale is NaN": ("vae/config.json", {"scaling_factor": math.nan}),
    "text width is a word": ("text_encoder/config.json", {"hidden_size": "wide"}),
    "text heads of none": ("text_encoder/config.json", {"num_attention_heads": 0}),
    "text activation unknown": ("text_encoder/config.json", {"hidden_act": "mine"}),
    "depth of another kind": ("depth_estimator/config.json", {"model_type": "llama"}),
    "depth of no kind": ("depth_estimator/config.json", {"model_type": "mine"}),
    "depth patches of none": ("depth_estimator/config.json", {"patch_size": 0}),
    "depth patches below zero": ("depth_estimator/config.json", {"patch_size": -16}),
    "depth indices wrong": ("depth_estimator/config.json", {"backbone_out_indices": [99] * 4}),
    "processor size zero": (
        "feature_extractor/preprocessor_config.json",
        {"size": {"height": 0, "width": 0}},
    ),
    "processor size giant": (
        "feature_extractor/preprocessor_config.json",
        {"size": {"height": 10**9, "width": 10**9}},
    ),
    "processor size word": ("feature_extractor/preprocessor_config.json", {"size": "large"}),
    "scheduler steps a word": ("scheduler/scheduler_config.json", {"num_train_timesteps": "many"}),
    "scheduler steps below zero": ("scheduler/scheduler_config.json", {"num_train_timesteps": -5}),
    "scheduler betas NaN": ("scheduler/scheduler_config.json", {"beta_start": math.nan}),
    "scheduler betas beyond one": ("scheduler/scheduler_config.json", {"beta_end": 7.5}),
    "scheduler betas listed": ("scheduler/scheduler_config.json", {"trained_betas": [["a"]]}),
    "scheduler offset": ("scheduler/scheduler_config.json", {"steps_offset": -400}),
    "tokens a word": ("tokenizer/tokenizer_config.json", {"model_max_length": "long"}),
    "tokens of none": ("tokenizer/tokenizer_config.json", {"model_max_length": 0}),
    "tokens below zero": ("tokenizer/tokenizer_config.json", {"model_max_length": -7}),
    "tokens more than positions": ("tokenizer/tokenizer_config.json", {"model_max_length": 5000}),
}


@pytest.mark.parametrize("kind", SENSELESS)
def test_a_senseless_config_is_refused(kind: str, dvid: Dvid, clip: Path, model: Path) -> None:
    file, change = SENSELESS[kind]
    edit_json(model / file, **change)
    tune(dvid, clip, model)


VOCABULARIES: dict[str, tuple[str, str]] = {
    "no JSON": ("vocab.json", "{"),
    "a list": ("vocab.json", "[1, 2]"),
    "numbers below zero": ("vocab.json", '{"a": -1, "b": -2}'),
    "numbers beyond all": ("vocab.json", '{"a": 99999999999999999999}'),
    "words for numbers": ("vocab.json", '{"a": "b"}'),
    "nothing": ("vocab.json", "{}"),
    "deep": ("vocab.json", nested(100_000)),
    "merges of one word": ("merges.txt", "#version: 0.2\na\nb\n"),
    "merges unknown": ("merges.txt", "#version: 0.2\nqq zz\n"),
    "merges not text": ("merges.txt", "\xff\xfe\x00"),
}


@pytest.mark.parametrize("kind", VOCABULARIES)
def test_a_broken_vocabulary_is_refused(kind: str, dvid: Dvid, clip: Path, model: Path) -> None:
    file, text = VOCABULARIES[kind]
    (model / "tokenizer" / "tokenizer.json").unlink(missing_ok=True)
    (model / "tokenizer" / file).write_bytes(text.encode("latin-1"))
    tune(dvid, clip, model)


@pytest.mark.parametrize("kind", VOCABULARIES)
def test_a_broken_vocabulary_of_a_judge_is_refused(
    kind: str, dvid: Dvid, clip: Path, eye: Path
) -> None:
    file, text = VOCABULARIES[kind]
    (eye / "tokenizer.json").unlink(missing_ok=True)
    (eye / file).write_bytes(text.encode("latin-1"))
    score(dvid, clip, eye)


def test_a_vocabulary_with_numbers_beyond_the_embedding_is_refused(
    dvid: Dvid, clip: Path, model: Path
) -> None:
    (model / "tokenizer" / "tokenizer.json").unlink(missing_ok=True)
    vocabulary = json.loads((model / "tokenizer" / "vocab.json").read_text())
    moved = {word: number + 100_000 for word, number in vocabulary.items()}
    (model / "tokenizer" / "vocab.json").write_text(json.dumps(moved))
    tune(dvid, clip, model)


def test_frames_are_what_the_tests_think_they_are(clip: Path) -> None:
    from dvcli.video.read import read

    assert read(clip, frames=2, size=(64, 64), fit="crop").frames.dtype == np.uint8


# settings that lead elsewhere


ELSEWHERE: dict[str, tuple[str, dict[str, object]]] = {
    "another config of an encoder": (
        "text_encoder/config.json",
        {"configuration_files": ["c.json"]},
    ),
    "another config of an estimator": (
        "depth_estimator/config.json",
        {"configuration_files": ["config.4.0.0.json"]},
    ),
    "other weights of an encoder": (
        "text_encoder/config.json",
        {"transformers_weights": "evil.safetensors"},
    ),
    "other weights, deep inside": (
        "depth_estimator/config.json",
        {"inner": [{"transformers_weights": "../evil.safetensors"}]},
    ),
    "another tokenizer": (
        "tokenizer/tokenizer_config.json",
        {"fast_tokenizer_files": ["tokenizer.4.0.0.json"]},
    ),
    "a tokenizer of a GGUF": ("tokenizer/tokenizer_config.json", {"gguf_file": "/x.gguf"}),
    "a vocabulary": ("tokenizer/tokenizer_config.json", {"vocab": "/somewhere/vocab.json"}),
    "merges": ("tokenizer/tokenizer_config.json", {"merges": "/somewhere/merges.txt"}),
    "inputs": ("tokenizer/tokenizer_config.json", {"init_inputs": ["/somewhere/vocab.json"]}),
    "a vocabulary of the marks": (
        "tokenizer/special_tokens_map.json",
        {"vocab_file": "/somewhere/vocab.json"},
    ),
    "values that do not count": ("vae/config.json", {"_use_default_values": ["scaling_factor"]}),
    "values of a U-Net": ("unet/config.json", {"_use_default_values": ["norm_eps"]}),
    "a fetched attention": ("text_encoder/config.json", {"attn_implementation": "flash_attn3"}),
}


@pytest.mark.parametrize("kind", ELSEWHERE)
def test_a_setting_that_leads_to_what_is_not_hashed_is_refused(
    kind: str, dvid: Dvid, clip: Path, model: Path
) -> None:
    file, change = ELSEWHERE[kind]
    edit_json(model / file, **change)
    said = tune(dvid, clip, model)
    assert str(model / file) in said
    assert f"`{next(iter(change))}`" in said or "transformers_weights" in said


@pytest.mark.parametrize("part", ["depth_estimator", "text_encoder"])
def test_code_in_a_second_config_is_neither_run_nor_asked_about(
    part: str, dvid: Dvid, clip: Path, model: Path, mark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers would ask at the terminal, and take a y from whatever stdin is."""
    config = json.loads((model / part / "config.json").read_text())
    code = {"AutoConfig": "mine.C", "AutoModelForDepthEstimation": "mine.M"}
    second = model / part / "config.4.0.0.json"
    second.write_text(json.dumps(config | {"model_type": "mine", "auto_map": code}))
    (model / part / "mine.py").write_text(f"open({str(mark)!r}, 'w').close()\nC = M = None\n")
    edit_json(model / part / "config.json", configuration_files=[second.name])
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))
    assert "(`configuration_files`)" in tune(dvid, clip, model)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("config.json", {"configuration_files": ["config.4.0.0.json"]}),
        ("config.json", {"transformers_weights": "evil.safetensors"}),
        ("tokenizer_config.json", {"fast_tokenizer_files": ["tokenizer.4.0.0.json"]}),
        ("special_tokens_map.json", {"merges_file": "/somewhere/merges.txt"}),
    ],
)
def test_a_judge_that_leads_to_what_is_not_hashed_is_refused(
    file: str, change: dict[str, object], dvid: Dvid, clip: Path, eye: Path
) -> None:
    edit_json(eye / file, **change)
    assert f"`{next(iter(change))}`" in score(dvid, clip, eye)


@pytest.mark.parametrize("entry", [3, {"a": 1}, "mine", ["mine", "Net"]])
def test_a_part_that_is_of_no_known_library_is_refused(
    entry: object, dvid: Dvid, clip: Path, model: Path
) -> None:
    edit_json(model / "model_index.json", unet=entry)
    assert "which is never run" in tune(dvid, clip, model)


# shards


def shard(file: Path) -> dict[str, str]:
    """Put the weights into two shards; what their index says."""
    weights = load_file(file)
    names = sorted(weights)
    said = {}
    for number, few in enumerate((names[::2], names[1::2]), start=1):
        name = f"{file.stem}-0000{number}-of-00002.safetensors"
        save_file({n: weights[n] for n in few}, file.with_name(name), metadata={"format": "pt"})
        said |= dict.fromkeys(few, name)
    file.unlink()
    index(file, said)
    return said


def index(file: Path, said: Mapping[str, object]) -> None:
    text = json.dumps({"metadata": {"total_size": 1}, "weight_map": said})
    file.with_name(f"{file.name}.index.json").write_text(text)


INDICES: dict[str, tuple[str, Callable[[dict[str, str]], Mapping[str, object]]]] = {
    "a pickle": ("leads to `evil.bin`", lambda said: dict.fromkeys(said, "evil.bin")),
    "a pickle for the last tensor": (
        "leads to `evil.bin`",
        lambda said: {**said, max(said): "evil.bin"},
    ),
    "a file outside": (
        "leads to `../../outside.safetensors`",
        lambda said: {**said, max(said): "../../outside.safetensors"},
    ),
    "a file that is no shard": (
        "leads to `other.safetensors`",
        lambda said: {**said, max(said): "other.safetensors"},
    ),
    "no file": ("leads to `7`", lambda said: {**said, max(said): 7}),
    "one shard alone": (
        "does not lead to",
        lambda said: {n: file for n, file in said.items() if "00001" in file},
    ),
    "the wrong shard": (
        "which does not hold it",
        lambda said: {**said, max(said): next(f for f in said.values() if f != said[max(said)])},
    ),
    "a tensor that is nowhere": (
        "which does not hold it",
        lambda said: {**said, "more": next(iter(said.values()))},
    ),
    "nothing": ("does not lead to", lambda said: {}),
}


@pytest.mark.parametrize("kind", INDICES)
@pytest.mark.parametrize("part", [UNET, TEXT])
def test_an_index_that_is_not_of_its_shards_is_refused_before_a_kept_result_is_taken(
    part: str, kind: str, dvid: Dvid, clip: Path, model: Path, mark: Path
) -> None:
    said = shard(model / part)
    tune(dvid, clip, model, code=0)
    words, change = INDICES[kind]
    index(model / part, change(said))
    plant((model / part).with_name("evil.bin"), mark)
    refused = tune(dvid, clip, model)
    assert words in refused
    assert f"{(model / part).name}.index.json" in refused
    assert not mark.exists()


def test_shards_that_hold_the_same_tensor_are_refused(dvid: Dvid, clip: Path, model: Path) -> None:
    said = shard(model / UNET)
    one, two = sorted(set(said.values()))
    shutil.copy(model / "unet" / one, model / "unet" / two)
    assert "both hold" in tune(dvid, clip, model)


# what is no file


SPECIAL: dict[str, Callable[[Path], object]] = {
    "a pipe": lambda path: os.mkfifo(path),
    "a folder": lambda path: path.mkdir(),
}


@pytest.mark.timeout(60)
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize(
    "file",
    [
        UNET,
        DEPTH,
        "unet/config.json",
        "tokenizer/vocab.json",
        "scheduler/scheduler_config.json",
        "feature_extractor/preprocessor_config.json",
        "tokenizer/special_tokens_map.json",
    ],
)
def test_what_is_no_file_is_refused_and_nobody_waits_for_it(
    file: str, kind: str, dvid: Dvid, clip: Path, model: Path
) -> None:
    (model / file).unlink()
    SPECIAL[kind](model / file)
    assert f"`{model / file}` is no regular file" in tune(dvid, clip, model)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "file",
    ["model_index.json", *CONFIGS[1:7], UNET, "tokenizer/vocab.json", "tokenizer/merges.txt"],
)
def test_a_link_to_a_device_without_an_end_is_refused_unread(
    file: str, dvid: Dvid, clip: Path, model: Path
) -> None:
    (model / file).unlink()
    (model / file).symlink_to("/dev/zero")
    said = tune(dvid, clip, model)
    assert "leaves the checkpoint's folder" in said or "has no `model_index.json`" in said


def test_links_in_a_circle_are_refused(dvid: Dvid, clip: Path, model: Path) -> None:
    (model / "unet" / "config.json").unlink()
    (model / "unet" / "config.json").symlink_to("config.json")
    tune(dvid, clip, model)


def test_a_giant_vocabulary_is_refused_unread(dvid: Dvid, clip: Path, model: Path) -> None:
    with (model / "tokenizer" / "vocab.json").open("r+b") as file:
        file.truncate(2**40)  # sparse
    assert "is larger than any vocabulary is" in tune(dvid, clip, model)


class Endless(io.FileIO):
    """An empty file, by its size, that gives as much as anyone reads."""

    def read(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        assert size >= 0, "somebody reads to the end"
        return bytes(size)


def test_no_more_is_read_than_is_allowed_whatever_the_size_is_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x").touch()
    monkeypatch.setattr(opening, "opened", Endless)
    assert opening.content(tmp_path / "x", 100) is None


# headers


@pytest.mark.timeout(20)
def test_a_shape_of_very_many_sides_is_refused_at_once(tmp_path: Path) -> None:
    sides = [10**17] * 500_000
    header(tmp_path / "x", {"x": tensor(sides, 0, 0)})
    with pytest.raises(InputError, match="`x` has 500000 dimensions"):
        read_header(tmp_path / "x")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("shape", [[10**4000], [10**4000] * 16])
def test_numbers_of_thousands_of_digits_make_a_short_message(
    shape: list[int], tmp_path: Path
) -> None:
    for start, stop in ((0, 10**4000), (10**4000, 10**4000), (0, 4)):
        header(tmp_path / "x", {"x": tensor(shape, start, stop)}, b"1234")
        with pytest.raises(InputError) as caught:
            read_header(tmp_path / "x")
        assert len(caught.value.message) < 300 + len(str(tmp_path))


@pytest.mark.parametrize("shape", [[0], [0, 10**6], [10**6, 0, 3]])
def test_a_tensor_of_nothing_is_refused(shape: list[int], tmp_path: Path) -> None:
    header(tmp_path / "x", {"y": tensor([1], 0, 4), "x": tensor(shape, 4, 4)}, bytes(4))
    with pytest.raises(InputError, match="`x` is of no numbers at all"):
        read_header(tmp_path / "x")


@pytest.mark.parametrize("second", [(0, 16), (8, 24), (20, 36)])
def test_tensors_that_overlap_or_leave_gaps_are_refused(
    second: tuple[int, int], tmp_path: Path
) -> None:
    entries = {"x": tensor([4], 0, 16), "y": tensor([4], *second)}
    header(tmp_path / "x", entries, bytes(second[1]))
    with pytest.raises(InputError, match="do not follow one another"):
        read_header(tmp_path / "x")


def test_a_header_longer_than_any_models_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "x").open("wb") as file:
        file.write(struct.pack("<Q", 50_000_000) + b"{}")
        file.truncate(2**30)  # sparse
    with pytest.raises(InputError, match="its header would be 50000000 bytes long"):
        read_header(tmp_path / "x")


def test_many_small_tensors_are_no_leave_for_many_layers(
    dvid: Dvid, clip: Path, model: Path
) -> None:
    more = {f"z{n}": torch.zeros(1) for n in range(20_000)}
    respoil(model / TEXT, lambda weights: weights.update(more))
    edit_json(model / "text_encoder" / "config.json", num_hidden_layers=20_000)
    assert "asks for more than its weights hold" in tune(dvid, clip, model)


def test_one_wide_tensor_is_no_leave_for_a_wide_network(
    dvid: Dvid, clip: Path, model: Path
) -> None:
    respoil(model / TEXT, lambda weights: weights.update(z=torch.zeros(2_000_000)))
    edit_json(model / "text_encoder" / "config.json", hidden_size=2_000_000)
    assert "asks for more than its weights hold: `num_hidden_layers` × `hidden" in tune(
        dvid, clip, model
    )


def test_a_judge_of_very_many_patches_is_refused(dvid: Dvid, clip: Path, eye: Path) -> None:
    config = json.loads((eye / "config.json").read_text())
    config["vision_config"].update(image_size=60_000, patch_size=1)
    (eye / "config.json").write_text(json.dumps(config))
    assert "`image_size` × `patch_size` × `hidden_size`" in score(dvid, clip, eye)
