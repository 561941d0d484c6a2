"""A model's name leads to its folder: built in, local, in the Hub's cache, or from the Hub."""

import importlib
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from checkpoints import edit_json, write_clip, write_depth2img, write_estimator
from huggingface_hub import constants, errors

from dvcli.errors import DvidError, InputError, MissingError, StorageError, UsageError
from dvcli.models import layout, resolve
from dvcli.models.resolve import DEFAULT, DELETED, FALLBACK

COMMIT = DEFAULT.split("@")[1]
# What the installed huggingface_hub speaks with: `httpx`, or `httpx2` in its newer versions.
httpx = importlib.import_module(type(huggingface_hub.get_session()).__module__.split(".")[0])


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_depth2img(tmp_path_factory.mktemp("original"))


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "copy"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hub cache. The network is a machine that answers nobody."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def refuse(*_: object, **__: object) -> None:
        raise httpx.ConnectError("no such host")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", refuse)
    return tmp_path / "hub"


@pytest.fixture
def online(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def keep(original: Path, cache: Path, name: str) -> Path:
    """Put the checkpoint into the cache as huggingface_hub does; its snapshot."""
    repo, _, commit = name.partition("@")
    place = cache / f"models--{repo.replace('/', '--')}"
    snapshot = place / "snapshots" / (commit or "f" * 40)
    (place / "blobs").mkdir(parents=True)
    (place / "refs").mkdir()
    if not commit:
        (place / "refs" / "main").write_text("f" * 40)
    for number, path in enumerate(path for path in original.rglob("*") if path.is_file()):
        blob = place / "blobs" / f"{number:064x}"
        shutil.copy(path, blob)
        link = snapshot / path.relative_to(original)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return snapshot


class Hub:
    """A Hub that has the given repositories and notes what is asked of it."""

    def __init__(self, repositories: dict[str, Path], cache: Path) -> None:
        self.repositories, self.cache = repositories, cache
        self.asked: list[str] = []
        self.fetched: list[str] = []

    def model_info(self, repo: str, *, revision: str | None = None) -> SimpleNamespace:
        self.asked.append(repo)
        if repo not in self.repositories:
            raise refusal(errors.RepositoryNotFoundError)
        folder = self.repositories[repo]
        names = [str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()]
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in names])

    def hf_hub_download(self, repo: str, name: str, *, revision: str | None) -> str:
        return str(self.repositories[repo] / name)

    def snapshot_download(
        self, repo: str, *, revision: str | None, allow_patterns: list[str]
    ) -> str:
        self.fetched = sorted(allow_patterns)
        target = self.cache / "snapshot"
        for name in allow_patterns:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.repositories[repo] / name, target / name)
        return str(target)


@pytest.fixture
def hub(online: None, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Hub]:
    def make(**repositories: Path) -> Hub:
        made = Hub({name.replace("__", "/"): path for name, path in repositories.items()}, cache)
        monkeypatch.setattr(huggingface_hub.HfApi, "model_info", staticmethod(made.model_info))
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", made.hf_hub_download)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", made.snapshot_download)
        return made

    return make


def refusal(kind: Any, status: int = 404) -> Exception:
    request = httpx.Request("GET", "https://huggingface.co/api/models/a/b")
    error: Exception = kind("refused", response=httpx.Response(status, request=request))
    return error


# folders


def test_a_folder_is_itself(original: Path) -> None:
    assert resolve.resolve(str(original)) == original


def test_a_folder_relative_to_the_home_is_found(original: Path, home: Path) -> None:
    (home / "model").symlink_to(original)
    assert resolve.resolve("~/model") == original


def test_a_folder_comes_before_a_repository_of_that_name(
    original: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(original, tmp_path / "org" / "name")
    monkeypatch.chdir(tmp_path)
    assert resolve.resolve("org/name") == tmp_path / "org" / "name"


def test_an_absent_folder_is_missing_and_two_ways_on_are_named(cache: Path) -> None:
    with pytest.raises(MissingError, match="no folder") as caught:
        resolve.resolve("./nothing/here")
    assert "--model tiny" in str(caught.value.hint)
    assert "--model PATH" in str(caught.value.hint)


@pytest.mark.parametrize(
    "reference", ["nosuchmodel", "/absolute/nowhere", "a/b/c", "C:\\models", "a b/c"]
)
def test_what_can_be_no_repository_is_an_absent_folder(reference: str, cache: Path) -> None:
    with pytest.raises(MissingError, match="no folder"):
        resolve.resolve(reference)


def test_an_empty_name_is_a_usage_error() -> None:
    with pytest.raises(UsageError):
        resolve.resolve(" ")


def test_a_folder_that_is_no_checkpoint_says_what_lacks(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model_index\.json"):
        resolve.resolve(str(tmp_path))


def test_a_single_file_is_refused_with_a_way_to_convert_it(tmp_path: Path) -> None:
    (tmp_path / "512-depth-ema.ckpt").write_bytes(b"")
    with pytest.raises(InputError) as caught:
        resolve.resolve(str(tmp_path / "512-depth-ema.ckpt"))
    assert "from_single_file" in str(caught.value.hint)


@pytest.mark.parametrize("part", layout.REQUIRED)
def test_a_checkpoint_without_a_part_says_which(part: str, copy: Path) -> None:
    shutil.rmtree(copy / part)
    with pytest.raises(InputError, match=f"no `{part}` folder"):
        resolve.resolve(str(copy))


def test_weights_only_as_pickles_are_refused_with_a_way_to_convert(copy: Path) -> None:
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(InputError, match="only as a pickle") as caught:
        resolve.resolve(str(copy))
    assert "save_pretrained" in str(caught.value.hint)


def test_another_pipeline_is_refused_by_its_name(copy: Path) -> None:
    edit_json(copy / "model_index.json", _class_name="FluxPipeline")
    with pytest.raises(InputError, match="FluxPipeline"):
        resolve.resolve(str(copy))


def test_a_part_from_a_module_of_the_checkpoints_own_is_refused(copy: Path) -> None:
    edit_json(copy / "model_index.json", unet=["my_unet", "MyUNet"])
    with pytest.raises(InputError, match="never run"):
        resolve.resolve(str(copy))


def test_a_single_model_is_found_by_its_kind(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip")
    write_estimator(tmp_path / "depth", seed=0)
    assert resolve.resolve(str(tmp_path / "clip"), kind="clip") == tmp_path / "clip"
    assert resolve.resolve(str(tmp_path / "depth"), kind="depth") == tmp_path / "depth"


def test_a_checkpoint_serves_as_depth_estimator(original: Path) -> None:
    assert resolve.resolve(str(original), kind="depth") == original


# built in


def test_the_built_in_models_lie_beside_the_package(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(original, tmp_path / "tiny")
    write_clip(tmp_path / "tiny-clip")
    monkeypatch.setattr(resolve, "BUNDLED", tmp_path)
    assert resolve.resolve("tiny") == tmp_path / "tiny"
    assert resolve.resolve("tiny", kind="clip") == tmp_path / "tiny-clip"


def test_an_installation_without_them_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolve, "BUNDLED", tmp_path)
    with pytest.raises(MissingError, match="built-in"):
        resolve.resolve("tiny")


# the Hub's cache, no network


def test_a_pinned_copy_at_hand_asks_no_network(original: Path, cache: Path, online: None) -> None:
    snapshot = keep(original, cache, DEFAULT)
    assert resolve.resolve(DEFAULT) == resolve.resolve("sd2-depth") == snapshot


def test_offline_a_branchs_copy_is_taken(original: Path, cache: Path, online: None) -> None:
    snapshot = keep(original, cache, "org/name")
    assert resolve.resolve("org/name", offline=True) == snapshot


def test_a_branchs_copy_is_taken_when_the_hub_is_out_of_reach(
    original: Path, cache: Path, online: None, caplog: pytest.LogCaptureFixture
) -> None:
    snapshot = keep(original, cache, "org/name")
    assert resolve.resolve("org/name") == snapshot
    assert "at hand" in caplog.text


def test_offline_an_absent_model_is_missing_and_never_another(cache: Path) -> None:
    with pytest.raises(MissingError, match="not on this machine") as caught:
        resolve.resolve(DEFAULT, offline=True)
    assert caught.value.exit_code == 4
    assert "--model tiny" in str(caught.value.hint)
    assert "--model PATH" in str(caught.value.hint)


def test_a_model_that_is_absent_from_a_plan_is_not_said_to_lack_a_network(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(MissingError, match="nothing is fetched with `-n` or `--offline`"):
        resolve.resolve(DEFAULT, offline=True)


def test_the_environment_can_take_the_network_away(cache: Path) -> None:
    assert constants.HF_HUB_OFFLINE
    with pytest.raises(MissingError, match="network is off"):
        resolve.resolve("org/name")


def test_an_incomplete_copy_does_not_count(original: Path, cache: Path) -> None:
    snapshot = keep(original, cache, DEFAULT)
    (snapshot / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(MissingError, match="whole"):
        resolve.resolve(DEFAULT, offline=True)


@pytest.mark.parametrize("held", [DEFAULT, FALLBACK])
def test_the_deleted_original_is_stood_in_for_and_that_is_said(
    held: str, original: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    snapshot = keep(original, cache, held)
    with caplog.at_level(logging.WARNING):
        assert resolve.resolve(DELETED, offline=True) == snapshot
    assert held in caplog.text
    assert DELETED in caplog.text


def test_an_old_copy_of_the_deleted_original_is_itself(
    original: Path, cache: Path, online: None, caplog: pytest.LogCaptureFixture
) -> None:
    snapshot = keep(original, cache, DELETED)
    assert resolve.resolve(DELETED) == snapshot
    assert not caplog.text


def test_no_stranger_is_stood_in_for(original: Path, cache: Path) -> None:
    keep(original, cache, DEFAULT)
    with pytest.raises(MissingError):
        resolve.resolve("org/name", offline=True)


# the Hub


def test_only_what_is_needed_is_fetched(copy: Path, hub: Callable[..., Hub]) -> None:
    (copy / "512-depth-ema.safetensors").write_bytes(b"5 GB")
    (copy / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"pickle")
    (copy / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"half")
    (copy / "unet" / "diffusion_pytorch_model.non_ema.safetensors").write_bytes(b"more")
    (copy / "safety_checker").mkdir()
    (copy / "safety_checker" / "model.safetensors").write_bytes(b"unused")
    (copy / "README.md").write_text("words")
    found = hub(org__name=copy)
    folder = resolve.resolve("org/name")
    assert (folder / "unet" / "diffusion_pytorch_model.safetensors").is_file()
    weights = [name for name in found.fetched if name.endswith(".safetensors")]
    assert weights == [
        "depth_estimator/model.safetensors",
        "text_encoder/model.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    ]
    rest = {Path(name).suffix for name in found.fetched} - {".safetensors"}
    assert rest == {".json", ".txt"}
    assert not any("safety_checker" in name for name in found.fetched)


def test_half_precision_is_fetched_where_there_is_no_other(
    copy: Path, hub: Callable[..., Hub]
) -> None:
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(copy / "unet" / "diffusion_pytorch_model.fp16.safetensors")
    found = hub(org__name=copy)
    resolve.resolve("org/name")
    assert "unet/diffusion_pytorch_model.fp16.safetensors" in found.fetched


def test_a_repository_of_pickles_is_refused_before_anything_is_fetched(
    copy: Path, hub: Callable[..., Hub]
) -> None:
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    found = hub(org__name=copy)
    with pytest.raises(InputError, match="pickle"):
        resolve.resolve("org/name")
    assert found.fetched == []


def test_another_pipeline_is_refused_before_its_weights_are_fetched(
    copy: Path, hub: Callable[..., Hub]
) -> None:
    edit_json(copy / "model_index.json", _class_name="StableDiffusionXLPipeline")
    found = hub(org__name=copy)
    with pytest.raises(InputError, match="StableDiffusionXLPipeline"):
        resolve.resolve("org/name")
    assert found.fetched == []


def test_what_was_fetched_is_looked_at_before_it_is_believed(
    copy: Path, hub: Callable[..., Hub]
) -> None:
    (copy / "scheduler" / "scheduler_config.json").unlink()
    hub(org__name=copy)
    with pytest.raises(InputError, match="scheduler"):
        resolve.resolve("org/name")


def test_a_repository_without_an_index_is_no_checkpoint(
    tmp_path: Path, hub: Callable[..., Hub]
) -> None:
    hub(org__name=write_clip(tmp_path / "clip"))
    with pytest.raises(InputError, match=r"model_index\.json"):
        resolve.resolve("org/name")


def test_a_clip_is_fetched_whole(tmp_path: Path, hub: Callable[..., Hub]) -> None:
    found = hub(org__name=write_clip(tmp_path / "clip"))
    resolve.resolve("org/name", kind="clip")
    assert {"config.json", "model.safetensors", "vocab.json", "merges.txt"} <= set(found.fetched)


def test_of_a_checkpoint_only_the_estimator_is_fetched_for_depth(
    original: Path, hub: Callable[..., Hub]
) -> None:
    found = hub(org__name=original)
    resolve.resolve("org/name", kind="depth")
    assert {name.split("/")[0] for name in found.fetched} == {
        "model_index.json",
        "depth_estimator",
        "feature_extractor",
    }


def test_the_fallback_is_asked_when_the_default_is_gone(
    original: Path, hub: Callable[..., Hub], caplog: pytest.LogCaptureFixture
) -> None:
    found = hub(**{FALLBACK.replace("/", "__"): original})
    resolve.resolve("sd2-depth")
    assert found.asked == [DEFAULT.split("@")[0], FALLBACK]
    assert FALLBACK in caplog.text


def test_a_hub_out_of_reach_is_asked_once(
    cache: Path, online: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def refuse(_: object, repo: str, **__: object) -> None:
        asked.append(repo)
        raise httpx.ConnectTimeout("no answer")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", refuse)
    with pytest.raises(MissingError, match="cannot be reached"):
        resolve.resolve(DEFAULT)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("raised", "expected", "words"),
    [
        (refusal(errors.GatedRepoError, 403), MissingError, "accepted its terms"),
        (refusal(errors.RepositoryNotFoundError, 401), MissingError, "no model `org/name`"),
        (refusal(errors.RevisionNotFoundError), MissingError, "no revision `v9`"),
        (refusal(errors.HfHubHTTPError, 503), MissingError, "cannot be reached"),
        (httpx.ReadTimeout("slow"), MissingError, "cannot be reached"),
        (ConnectionResetError(104, "reset"), MissingError, "cannot be reached"),
        (OSError(28, "No space left on device"), StorageError, "no room"),
        (KeyError("a bug"), KeyError, "a bug"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_each_refusal_of_the_hub_is_told_apart(
    raised: Exception,
    expected: type[Exception],
    words: str,
    cache: Path,
    online: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", refuse)
    with pytest.raises(expected, match=words) as caught:
        resolve.resolve("org/name@v9")
    assert not isinstance(caught.value, DvidError) or caught.value.hint


def test_a_name_the_hub_cannot_have_is_a_usage_error(cache: Path, online: None) -> None:
    with pytest.raises(UsageError, match="no name of a model"):
        resolve.resolve("org/na--me")


# which weight files


@pytest.mark.parametrize(
    ("names", "stem", "files"),
    [
        (["model.safetensors", "model.fp16.safetensors"], "model", ("model.safetensors",)),
        (["model.fp16.safetensors", "model.bin"], "model", ("model.fp16.safetensors",)),
        (["model-00001-of-00002.safetensors"], "model", None),
        (["model.bin", "other.safetensors"], "model", None),
        (
            [
                "model-00002-of-00002.safetensors",
                "model-00001-of-00002.safetensors",
                "model.safetensors.index.json",
            ],
            "model",
            ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"),
        ),
        (["model-00001-of-00002.safetensors", "model.safetensors.index.json"], "model", None),
    ],
)
def test_the_weights_are_chosen_by_name(
    names: list[str], stem: str, files: tuple[str, ...] | None
) -> None:
    chosen = layout.choose_weights(names, stem)
    assert (None if chosen is None else chosen.files) == files
