"""A checkpoint's identity is its content: names and places are out, every number is in."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from checkpoints import edit_json, write_clip, write_depth2img, write_estimator, write_json
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save as serialize

from dvcli.errors import InputError, UsageError
from dvcli.models.fingerprint import Checkpoint, canonical, checkpoint, validate_size

UNET = "unet/diffusion_pytorch_model.safetensors"
EMPTY = b"\x02" + b"\0" * 7 + b"{}"  # the shortest safetensors file there is


def hashed(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def digests(folder: Path, digest_file: Callable[[Path], str] = hashed) -> dict[str, str]:
    found = checkpoint("any/name", folder, digest_file)
    return {name: part.digest for name, part in found.components.items()}


def changed(one: dict[str, str], other: dict[str, str]) -> set[str]:
    return {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_depth2img(tmp_path_factory.mktemp("original"))


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "copy" / "of-it"))


@pytest.fixture(scope="module")
def found(original: Path) -> Checkpoint:
    return checkpoint("a/b", original, hashed)


# what is in the digest and what is not


def test_the_components_are_those_that_results_depend_on(found: Checkpoint) -> None:
    assert set(found.components) == {
        "unet",
        "vae",
        "text_encoder",
        "tokenizer",
        "scheduler",
        "depth_estimator",
    }
    assert len({part.digest for part in found.components.values()}) == 6


def test_only_networks_have_weights(found: Checkpoint) -> None:
    without = {name for name, part in found.components.items() if not part.weights}
    assert without == {"tokenizer", "scheduler"}


def test_another_folder_and_another_name_change_nothing(original: Path, copy: Path) -> None:
    here = checkpoint("one/name", original, hashed).components
    there = checkpoint("another/name@v2", copy, hashed).components
    assert {n: p.digest for n, p in here.items()} == {n: p.digest for n, p in there.items()}


@pytest.mark.parametrize(
    ("file", "component"),
    [
        (UNET, "unet"),
        ("vae/diffusion_pytorch_model.safetensors", "vae"),
        ("text_encoder/model.safetensors", "text_encoder"),
        ("depth_estimator/model.safetensors", "depth_estimator"),
        ("tokenizer/merges.txt", "tokenizer"),
        ("tokenizer/vocab.json", "tokenizer"),
    ],
)
def test_one_flipped_byte_changes_its_component_and_no_other(
    file: str, component: str, original: Path, copy: Path
) -> None:
    content = bytearray((copy / file).read_bytes())
    content[-1] ^= 1
    (copy / file).write_bytes(content)
    assert changed(digests(original), digests(copy)) == {component}


@pytest.mark.parametrize(
    ("file", "setting", "component"),
    [
        ("unet/config.json", {"norm_eps": 1e-6}, "unet"),
        ("vae/config.json", {"scaling_factor": 0.18216}, "vae"),
        ("text_encoder/config.json", {"hidden_act": "quick_gelu"}, "text_encoder"),
        ("scheduler/scheduler_config.json", {"steps_offset": 0}, "scheduler"),
        ("scheduler/scheduler_config.json", {"_class_name": "DDIMScheduler"}, "scheduler"),
        ("tokenizer/special_tokens_map.json", {"pad_token": "<|endoftext|>"}, "tokenizer"),
        ("feature_extractor/preprocessor_config.json", {"resample": 3}, "depth_estimator"),
    ],
)
def test_a_setting_changes_its_component_and_no_other(
    file: str, setting: dict[str, object], component: str, original: Path, copy: Path
) -> None:
    edit_json(copy / file, **setting)
    assert changed(digests(original), digests(copy)) == {component}


@pytest.mark.parametrize(
    ("file", "setting"),
    [
        ("unet/config.json", {"_diffusers_version": "9.9", "_name_or_path": "elsewhere"}),
        ("text_encoder/config.json", {"transformers_version": "4.0", "dtype": "float16"}),
        ("vae/config.json", {"scaling_factor": 0.182150}),
        ("model_index.json", {"_diffusers_version": "9.9"}),
    ],
)
def test_what_the_libraries_note_about_themselves_changes_nothing(
    file: str, setting: dict[str, object], original: Path, copy: Path
) -> None:
    edit_json(copy / file, **setting)
    assert digests(copy) == digests(original)


def test_the_layout_of_a_json_file_changes_nothing(original: Path, copy: Path) -> None:
    file = copy / "unet" / "config.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps(dict(reversed(settings.items()))))
    assert digests(copy) == digests(original)


def test_other_files_in_the_folder_change_nothing(original: Path, copy: Path) -> None:
    for name in ("README.md", "unet/.gitattributes", "unet/diffusion_pytorch_model.bin"):
        (copy / name).write_bytes(b"anything")
    shutil.copy(copy / UNET, copy / "unet" / "diffusion_pytorch_model.fp16.safetensors")
    assert digests(copy) == digests(original)


def test_the_name_of_a_weight_file_changes_nothing(original: Path, copy: Path) -> None:
    (copy / UNET).rename(copy / "unet" / "diffusion_pytorch_model.fp16.safetensors")
    assert digests(copy) == digests(original)


def test_the_order_of_shards_counts(original: Path, copy: Path) -> None:
    (copy / UNET).unlink()
    shards = [f"unet/diffusion_pytorch_model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    index = copy / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    seen = []
    for content in (["one", "two"], ["two", "one"]):
        for name, word in zip(shards, content, strict=True):
            (copy / name).write_bytes(serialize({word: np.frombuffer(word.encode(), np.uint8)}))
        names = [Path(name).name for name in shards]
        write_json(index, {"weight_map": dict(zip(content, names, strict=True))})
        seen.append(digests(copy))
    assert changed(*seen) == {"unet"}


def test_an_estimator_in_a_checkpoint_and_by_itself_is_the_same(
    original: Path, tmp_path: Path
) -> None:
    shutil.copytree(original / "depth_estimator", tmp_path, dirs_exist_ok=True)
    shutil.copy(original / "feature_extractor" / "preprocessor_config.json", tmp_path)
    assert digests(tmp_path) == {"depth_estimator": digests(original)["depth_estimator"]}


def test_of_an_estimator_alone_nothing_else_is_read(original: Path) -> None:
    read: list[Path] = []

    def noted(path: Path) -> str:
        read.append(path)
        return hashed(path)

    found = checkpoint("x", original, noted, only=("depth_estimator",))
    assert set(found.components) == {"depth_estimator"}
    assert [path.parent.name for path in read] == ["depth_estimator"]


def test_a_clip_is_one_component(tmp_path: Path) -> None:
    write_clip(tmp_path)
    before = digests(tmp_path)
    edit_json(tmp_path / "preprocessor_config.json", resample=2)
    assert changed(before, digests(tmp_path)) == {"clip"}


def test_the_canonical_form_has_known_bytes(tmp_path: Path) -> None:
    """A golden digest: when it moves, every key of every user's store moves with it."""
    for name, config in {"unet": {"a": 1.0, "_class_name": "U", "_b": 2}}.items():
        write_json(tmp_path / name / "config.json", config)
        (tmp_path / UNET).write_bytes(EMPTY)
    from dvcli.models.fingerprint import component

    content = b'{"config.json":{"_class_name":"U","a":1},"weights":["%s"]}'
    content %= sha256(EMPTY).hexdigest().encode()
    expected = sha256(b"dvid-component-v1\0" + content).hexdigest()
    assert component("unet", tmp_path / "unet", tmp_path, hashed).digest == expected


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
    )
)
def test_any_setting_has_a_canonical_form(value: object) -> None:
    import rfc8785

    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return  # no JSON file can hold a lone surrogate
    assert rfc8785.dumps(canonical(value))  # type: ignore[arg-type]


# the Hub's cache


def hub_copy(original: Path, root: Path, mark: Callable[[Path], str] = hashed) -> Path:
    """The checkpoint as huggingface_hub keeps it: links into `blobs`, named by SHA-256."""
    snapshot = root / "models--org--name" / "snapshots" / ("0" * 40)
    blobs = root / "models--org--name" / "blobs"
    blobs.mkdir(parents=True)
    for path in [path for path in original.rglob("*") if path.is_file()]:
        link = snapshot / path.relative_to(original)
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, blobs / mark(path))
        link.symlink_to(os.path.relpath(blobs / mark(path), link.parent))
    return snapshot


def test_a_model_in_the_hubs_cache_is_what_it_is_elsewhere(original: Path, tmp_path: Path) -> None:
    assert digests(hub_copy(original, tmp_path)) == digests(original)


def test_weights_in_the_layout_of_the_hubs_cache_are_known_by_their_bytes_not_their_name(
    original: Path, tmp_path: Path
) -> None:
    snapshot = hub_copy(original, tmp_path)
    blob = (snapshot / UNET).resolve()
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    assert changed(digests(original), digests(snapshot)) == {"unet"}


def test_the_checkpoint_itself_may_be_a_link(original: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(original)
    assert digests(tmp_path / "link") == digests(original)


@pytest.mark.parametrize("file", [UNET, "unet/config.json", "tokenizer/vocab.json"])
def test_a_link_that_leaves_the_checkpoint_is_refused(
    file: str, copy: Path, tmp_path: Path
) -> None:
    (copy / file).rename(tmp_path / "elsewhere")
    (copy / file).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="leaves the checkpoint"):
        digests(copy)


# what is refused


def test_custom_code_is_refused(copy: Path) -> None:
    edit_json(copy / "unet" / "config.json", auto_map={"AutoModel": "mine.Model"})
    with pytest.raises(InputError, match="auto_map"):
        digests(copy)


def test_a_quantised_model_is_refused(copy: Path) -> None:
    edit_json(copy / "unet" / "config.json", quantization_config={"quant_method": "gguf"})
    with pytest.raises(InputError, match="quantised"):
        digests(copy)


def test_a_config_that_is_no_json_is_refused_by_name(copy: Path) -> None:
    (copy / "vae" / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"vae/config\.json"):
        digests(copy)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"in_channels": 9}, "takes 9 channels"),
        ({"cross_attention_dim": 48}, "reads text 48 wide"),
        ({"cross_attention_dim": [32, 32]}, "not those of a Stable Diffusion"),
        ({"block_out_channels": None}, "not those of a Stable Diffusion"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(
    settings: dict[str, object], words: str, copy: Path
) -> None:
    edit_json(copy / "unet" / "config.json", **settings)
    with pytest.raises(InputError, match=words):
        digests(copy)


# facts


def test_the_facts_are_read_from_the_configs(found: Checkpoint) -> None:
    assert found.has_depth
    assert (found.vae_factor, found.unet_factor, found.latent_channels) == (8, 2, 4)
    assert (found.cross_dim, found.prediction_type) == (32, "epsilon")


def test_a_base_without_depth_says_so(tmp_path: Path) -> None:
    found = checkpoint("x", write_depth2img(tmp_path, depth=False), hashed)
    assert not found.has_depth
    assert "depth_estimator" not in found.components


def test_v_prediction_is_told_by_the_scheduler(tmp_path: Path) -> None:
    folder = write_depth2img(tmp_path, prediction="v_prediction")
    assert checkpoint("x", folder, hashed).prediction_type == "v_prediction"


@pytest.mark.parametrize("size", [(64, 64), (48, 16), (512, 320)])
def test_a_size_the_networks_can_take_is_accepted(size: tuple[int, int], found: Checkpoint) -> None:
    validate_size(found, size)


@pytest.mark.parametrize(
    ("size", "near"),
    [((64, 40), "`64×32` or `64×48`"), ((500, 300), "`496×288` or `512×304`"), ((7, 7), "`16×16`")],
)
def test_a_size_between_two_names_the_nearest(
    size: tuple[int, int], near: str, found: Checkpoint
) -> None:
    with pytest.raises(UsageError, match="multiples of 16") as caught:
        validate_size(found, size)
    assert near in str(caught.value.hint)


def test_fingerprints_and_names_are_had_without_torch(original: Path) -> None:
    script = (
        "import sys, hashlib, pathlib\n"
        "from dvcli.models import fingerprint, resolve, tokens\n"
        f"folder = resolve.resolve({str(original)!r})\n"
        "hashed = lambda path: hashlib.sha256(path.read_bytes()).hexdigest()\n"
        "fingerprint.checkpoint('x', folder, hashed)\n"
        "tokens.overflow(folder / 'tokenizer', 'a bear')\n"
        "heavy = {'torch', 'numpy', 'transformers', 'diffusers', 'huggingface_hub'}\n"
        "sys.exit(str(heavy & sys.modules.keys()) if heavy & sys.modules.keys() else 0)"
    )
    root = str(Path(__file__).parent.parent)
    ended = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


def test_an_estimators_folder_needs_no_more_than_itself(tmp_path: Path) -> None:
    write_estimator(tmp_path, seed=0)
    assert set(digests(tmp_path)) == {"depth_estimator"}
