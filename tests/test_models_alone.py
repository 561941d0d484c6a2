"""What is loaded is what the digest is of, whatever else lies in a component's folder."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import edit_json, write_clip, write_cogvideox, write_depth2img, write_json
from safetensors.torch import load_file, save_file

from dvcli.errors import InputError, StorageError
from dvcli.models import alone, clip, load
from dvcli.models.fingerprint import checkpoint
from dvcli.models.layout import Weights, choose_weights

UNET = "diffusion_pytorch_model.safetensors"
PAIR = tuple(f"diffusion_pytorch_model-0000{n}-of-00002.safetensors" for n in (1, 2))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_depth2img(tmp_path_factory.mktemp("original"))


@pytest.fixture
def base(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "base"))


@pytest.fixture
def rooms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made."""
    found = tmp_path / "rooms"
    found.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(found))
    return found


def digest(folder: Path, name: str) -> str:
    found = checkpoint("x", folder, lambda path: sha256(path.read_bytes()).hexdigest())
    return found.components[name].digest


def held(folder: Path, weights: Weights | None = None) -> dict[str, str]:
    """What stands in the folder that the libraries are shown."""
    stem = "diffusion_pytorch_model"
    with alone.alone(folder, weights, stem) as place:
        return {path.name: sha256(path.read_bytes()).hexdigest() for path in place.iterdir()}


def split(unet: Path) -> None:
    """The weights in two shards, with their index."""
    weights = load_file(unet / UNET)
    names = sorted(weights)
    said = {}
    for file, few in zip(PAIR, (names[::2], names[1::2]), strict=True):
        save_file({name: weights[name] for name in few}, unet / file, metadata={"format": "pt"})
        said |= dict.fromkeys(few, file)
    (unet / UNET).unlink()
    write_json(unet / f"{UNET}.index.json", {"metadata": {}, "weight_map": said})


def test_the_folder_holds_the_settings_the_data_and_the_chosen_weights(base: Path) -> None:
    chosen = choose_weights(
        [path.name for path in (base / "unet").iterdir()], "diffusion_pytorch_model"
    )
    assert set(held(base / "unet", chosen)) == {"config.json", UNET}
    tokens = {"vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"}
    assert set(held(base / "tokenizer")) == tokens


def test_nothing_else_of_the_folder_is_there(base: Path) -> None:
    before = held(base / "unet", Weights(files=(UNET,)))
    for stray in (
        "config.9.json",
        "adapter_config.json",
        "mine.py",
        "evil.bin",
        f"{UNET}.index.json",
    ):
        write_json(base / "unet" / stray, {"weight_map": {"x": "evil.bin"}})
    shutil.copytree(base / "vae", base / "unet" / "more")
    assert held(base / "unet", Weights(files=(UNET,))) == before


def test_what_the_digest_leaves_out_the_libraries_are_not_shown(base: Path) -> None:
    before = held(base / "unet")
    kept = {"_attn_implementation": "eager", "_diffusers_version": "1", "dtype": "float16"}
    edit_json(base / "unet" / "config.json", **kept, nested=None)
    assert held(base / "unet") == before


def test_half_precision_weights_go_by_the_plain_name(base: Path) -> None:
    half = base / "unet" / "diffusion_pytorch_model.fp16.safetensors"
    (base / "unet" / UNET).rename(half)
    found = held(base / "unet", Weights(files=(half.name,)))
    assert found[UNET] == sha256(half.read_bytes()).hexdigest()


def test_the_index_of_shards_is_made_from_the_shards(base: Path) -> None:
    split(base / "unet")
    said = json.loads((base / "unet" / f"{UNET}.index.json").read_text())["weight_map"]
    write_json(base / "unet" / f"{UNET}.index.json", {"weight_map": {"x": "../evil.bin"}})
    weights = Weights(files=PAIR, index=f"{UNET}.index.json")
    with alone.alone(base / "unet", weights, "diffusion_pytorch_model") as place:
        assert json.loads((place / f"{UNET}.index.json").read_text())["weight_map"] == said


def test_the_folder_is_gone_afterwards_even_when_the_library_fails(base: Path, rooms: Path) -> None:
    load.unet(base / "unet", "fp32", "cpu")
    edit_json(base / "unet" / "config.json", down_block_types=["Mine", "Yours"])
    with pytest.raises(InputError) as caught:
        load.unet(base / "unet", "fp32", "cpu")
    assert str(rooms) not in caught.value.message
    assert not list(rooms.iterdir())


@pytest.mark.parametrize("kinds", [["symlink"], ["symlink", "link"]])
def test_where_links_cannot_be_made_the_same_is_loaded(
    kinds: list[str], base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = held(base / "unet", Weights(files=(UNET,)))

    def refuse(*_: object, **__: object) -> None:
        raise OSError("not here")

    for kind in kinds:
        monkeypatch.setattr(os, kind, refuse)
    assert held(base / "unet", Weights(files=(UNET,))) == before


def test_without_a_place_for_temporary_files_that_is_said(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(StorageError, match="no temporary folder") as caught:
        load.unet(base / "unet", "fp32", "cpu")
    assert "TMPDIR" in str(caught.value.hint)


# one digest, one model


def test_a_stray_index_beside_whole_weights_is_not_followed(base: Path) -> None:
    weights = load_file(base / "unet" / UNET)
    before = digest(base, "unet")
    torch.save({name: tensor * 0 for name, tensor in weights.items()}, base / "unet" / "evil.bin")
    evil = {"metadata": {}, "weight_map": dict.fromkeys(weights, "evil.bin")}
    write_json(base / "unet" / f"{UNET}.index.json", evil)
    assert digest(base, "unet") == before
    found = load.unet(base / "unet", "fp32", "cpu").state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in weights.items())


@pytest.mark.parametrize("stray", ["tokenizer.model", "tiktoken.model", "tekken.json"])
def test_a_vocabulary_under_another_name_is_not_taken(stray: str, base: Path) -> None:
    before, ids = digest(base, "tokenizer"), load.tokenizer(base / "tokenizer").encode("a bear")
    vocabulary = json.loads((base / "tokenizer" / "vocab.json").read_text())
    turned = dict(zip(vocabulary, reversed(vocabulary.values()), strict=True))
    (base / "tokenizer" / stray).write_text(json.dumps(turned))
    assert digest(base, "tokenizer") == before
    assert load.tokenizer(base / "tokenizer").encode("a bear") == ids


@pytest.mark.parametrize("typed", [{}, {"__type": "AddedToken"}])
def test_a_special_token_is_the_same_with_and_without_a_note_of_its_type(
    typed: dict[str, str], base: Path
) -> None:
    before = load.tokenizer(base / "tokenizer")
    token = {"content": "<|endoftext|>", "lstrip": False, "normalized": True, "rstrip": False}
    edit_json(base / "tokenizer" / "tokenizer_config.json", eos_token=token | typed)
    found = load.tokenizer(base / "tokenizer")
    assert (found.eos_token, found.encode("a bear")) == ("<|endoftext|>", before.encode("a bear"))


def test_an_estimator_that_is_named_by_itself_has_the_digest_of_the_checkpoints(
    base: Path,
) -> None:
    within = digest(base, "depth_estimator")
    assert digest(base / "depth_estimator", "depth_estimator") == within
    edit_json(base / "feature_extractor" / "preprocessor_config.json", resample=3)
    assert digest(base / "depth_estimator", "depth_estimator") != within


def test_every_added_word_counts(base: Path) -> None:
    seen = set()
    for word in ("_bear", "_tiger", "dtype"):
        write_json(base / "tokenizer" / "added_tokens.json", {word: 900})
        seen.add(digest(base, "tokenizer"))
    assert len(seen) == 3


# no code


LOADERS: dict[str, tuple[str, Callable[[Path, Path, Path], object]]] = {
    "tokenizer": ("CLIPTokenizer", lambda b, j, v: load.tokenizer(b / "tokenizer")),
    "T5 tokenizer": ("T5Tokenizer", lambda b, j, v: load.t5_tokenizer(v / "tokenizer")),
    "text": ("CLIPTextModel", lambda b, j, v: load.text_encoder(b / "text_encoder", "fp32", "cpu")),
    "T5": ("T5EncoderModel", lambda b, j, v: load.t5_encoder(v / "text_encoder", "fp32", "cpu")),
    "depth": (
        "AutoModelForDepthEstimation",
        lambda b, j, v: load.depth_estimator(b / "depth_estimator", "fp32", "cpu"),
    ),
    "judge": ("CLIPModel", lambda b, j, v: clip.load(j, "fp32", "cpu")),
    "processor": ("AutoImageProcessor", lambda b, j, v: load.image_processor(j, None)),
}


@pytest.mark.parametrize("kind", LOADERS)
def test_no_loader_of_transformers_is_ever_allowed_to_run_code(
    kind: str, original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    asked: list[dict[str, Any]] = []
    name, loading = LOADERS[kind]

    def noted(*_: object, **said: object) -> None:
        asked.append(said)
        raise ValueError("enough")

    monkeypatch.setattr(getattr(transformers, name), "from_pretrained", noted)
    eye, video = write_clip(tmp_path / "eye"), write_cogvideox(tmp_path / "video")
    with pytest.raises(InputError, match="enough"):
        loading(original, eye, video)
    assert [said["trust_remote_code"] for said in asked] == [False]
    assert [said["local_files_only"] for said in asked] == [True]
