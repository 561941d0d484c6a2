"""Folders as they are found in the wild load to the same networks; broken ones are refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import edit_json, write_depth2img, write_estimator
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from dvcli.errors import InputError
from dvcli.models import load

UNET = "unet/diffusion_pytorch_model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_depth2img(tmp_path / "base")


def rewrite(path: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


def hidden(base: Path) -> Tensor:
    encoder = load.text_encoder(base / "text_encoder", "fp32", "cpu")
    found: Tensor = encoder(torch.arange(77)[None]).last_hidden_state
    return found


def mode(base: Path) -> Tensor:
    pixels = torch.linspace(-1, 1, 3 * 32 * 32).reshape(1, 3, 32, 32)
    found: Tensor = load.vae(base / "vae", "fp32", "cpu").encode(pixels).latent_dist.mode()
    return found


def depth(base: Path) -> Tensor:
    processor, model = load.depth_estimator(base / "depth_estimator", "fp32", "cpu")
    image = Image.radial_gradient("L").convert("RGB")
    found: Tensor = model(processor(images=image, return_tensors="pt").pixel_values).predicted_depth
    return found


def eps(base: Path) -> Tensor:
    x = torch.linspace(-2, 2, 5 * 8 * 8).reshape(1, 5, 8, 8)
    network = load.unet(base / "unet", "fp32", "cpu")
    found: Tensor = network(x, 100, torch.ones(1, 7, 32)).sample
    return found


# what comes out


def test_a_loaded_network_is_frozen_and_evaluates(base: Path) -> None:
    for network in (
        load.unet(base / "unet", "fp32", "cpu"),
        load.vae(base / "vae", "fp32", "cpu"),
        load.text_encoder(base / "text_encoder", "fp32", "cpu"),
        load.depth_estimator(base / "depth_estimator", "fp32", "cpu")[1],
    ):
        assert not network.training
        assert not any(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize(("name", "expected"), list(load.DTYPES.items()))
def test_a_network_has_the_precision_asked_for(
    name: Any, expected: torch.dtype, base: Path
) -> None:
    network = load.unet(base / "unet", name, "cpu")
    assert {parameter.dtype for parameter in network.parameters()} == {expected}


def test_loading_prints_nothing(base: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load.unet(base / "unet", "fp32", "cpu")
    depth(base)
    hidden(base)
    load.tokenizer(base / "tokenizer")
    assert capfd.readouterr() == ("", "")


def test_loading_leaves_the_libraries_as_talkative_as_they_were(base: Path) -> None:
    import transformers.utils.logging as theirs

    before = theirs.get_verbosity()
    theirs.set_verbosity_info()
    try:
        hidden(base)
        assert theirs.get_verbosity() == theirs.INFO
        assert theirs.is_progress_bar_enabled()
    finally:
        theirs.set_verbosity(before)


def test_the_schedulers_settings_come_as_they_stand(base: Path) -> None:
    config = load.scheduler_config(base / "scheduler")
    assert config["_class_name"] == "PNDMScheduler"
    assert (config["steps_offset"], config["beta_end"], config["clip_sample"]) == (1, 0.012, False)
    assert "_diffusers_version" not in config


# old and odd folders


def test_text_encoder_keys_may_carry_the_old_prefix(base: Path) -> None:
    before = hidden(base)
    rewrite(base / TEXT, lambda w: {f"text_model.{name}": w[name] for name in w})
    assert torch.equal(hidden(base), before)


def test_text_encoder_positions_saved_by_old_versions_are_passed_over(base: Path) -> None:
    before = hidden(base)
    positions = {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    rewrite(base / TEXT, lambda w: {f"text_model.{name}": w[name] for name in w} | positions)
    assert torch.equal(hidden(base), before)


def test_a_vae_without_scaling_factor_has_that_of_stable_diffusion(base: Path) -> None:
    edit_json(base / "vae" / "config.json", scaling_factor=None, force_upcast=None)
    assert load.vae(base / "vae", "fp32", "cpu").config.scaling_factor == 0.18215


def test_vae_attention_may_have_its_old_names(base: Path) -> None:
    before = mode(base)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def rename(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        found = {}
        for name, tensor in weights.items():
            for new, ancient in old.items():
                name = name.replace(f"attentions.0.{new}.", f"attentions.0.{ancient}.")
            found[name] = tensor
        assert any(".query." in name for name in found)
        return found

    rewrite(base / VAE, rename)
    assert torch.equal(mode(base), before)


def test_half_precision_files_load_where_there_are_no_others(base: Path) -> None:
    before = eps(base)
    rewrite(base / UNET, lambda w: {name: tensor.half() for name, tensor in w.items()})
    (base / UNET).rename(base / UNET.replace(".safetensors", ".fp16.safetensors"))
    rewrite(base / TEXT, lambda w: {name: tensor.half() for name, tensor in w.items()})
    (base / TEXT).rename(base / TEXT.replace(".safetensors", ".fp16.safetensors"))
    assert load.text_encoder(base / "text_encoder", "fp32", "cpu").dtype == torch.float32
    torch.testing.assert_close(eps(base), before, rtol=0, atol=0.01)


@pytest.mark.parametrize("variant", [None, "fp16"])
def test_sharded_files_load(variant: str | None, base: Path) -> None:
    from diffusers import UNet2DConditionModel

    whole = UNet2DConditionModel.from_pretrained(base / "unet")
    (base / UNET).unlink()
    whole.save_pretrained(base / "unet", max_shard_size="1MB", variant=variant)
    assert len(list(base.glob("unet/*.safetensors"))) > 1
    found = load.unet(base / "unet", "fp32", "cpu").state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in whole.state_dict().items())


@pytest.mark.parametrize(
    "old",
    [
        {"feature_extractor_type": "DPTFeatureExtractor", "image_processor_type": None},
        {"image_processor_type": "DPTImageProcessorPil"},
        {"image_processor_type": "DPTImageProcessorFast"},
        {"image_processor_type": None},
        {"size": 32},
        {"do_rescale": None, "rescale_factor": None},
    ],
    ids=lambda old: "-".join(f"{name}={value}" for name, value in old.items()),
)
def test_processor_settings_of_other_versions_mean_the_same(
    old: dict[str, object], base: Path
) -> None:
    before = depth(base)
    edit_json(base / "feature_extractor" / "preprocessor_config.json", **old)
    assert torch.equal(depth(base), before)


def test_a_checkpoint_without_feature_extractor_has_the_estimators_own_size(base: Path) -> None:
    (base / "feature_extractor" / "preprocessor_config.json").unlink()
    processor, model = load.depth_estimator(base / "depth_estimator", "fp32", "cpu")
    pixels = processor(images=Image.new("RGB", (50, 40)), return_tensors="pt").pixel_values
    assert pixels.shape == (1, 3, model.config.image_size, model.config.image_size)


def test_a_processor_far_from_its_estimator_is_not_taken_from_elsewhere(tmp_path: Path) -> None:
    write_estimator(tmp_path / "estimator", processor=tmp_path / "feature_extractor", seed=0)
    edit_json(tmp_path / "feature_extractor" / "preprocessor_config.json", size=64)
    processor, _ = load.depth_estimator(tmp_path / "estimator", "fp32", "cpu")
    assert processor.size["height"] == 32


def test_the_hybrid_estimator_of_stable_diffusion_2_loads_from_an_old_config(
    tmp_path: Path,
) -> None:
    from transformers import DPTConfig, DPTForDepthEstimation

    backbone = {
        "model_type": "bit",
        "layer_type": "bottleneck",
        "depths": [1, 1, 1],
        "hidden_sizes": [8, 8, 16],
        "embedding_size": 8,
        "num_groups": 2,
        "global_padding": "SAME",
        "out_features": ["stage1", "stage2", "stage3"],
        "embedding_dynamic_padding": True,
    }
    torch.manual_seed(0)
    model = DPTForDepthEstimation(
        DPTConfig(
            is_hybrid=True,
            hidden_size=16,
            num_hidden_layers=4,
            num_attention_heads=2,
            intermediate_size=32,
            image_size=32,
            backbone_out_indices=[0, 1, 2, 3],
            neck_hidden_sizes=[8, 8, 8, 8],
            fusion_hidden_size=8,
            reassemble_factors=[1, 1, 1, 0.5],
            backbone_featmap_shape=[1, 16, 2, 2],
            backbone_config=dict(backbone),
        )
    ).eval()
    model.save_pretrained(tmp_path)
    # transformers 4.26 wrote every default of a nested config, and no `out_indices`.
    ancient = backbone | {
        "_name_or_path": "",
        "add_cross_attention": False,
        "bad_words_ids": None,
        "bos_token_id": None,
        "chunk_size_feed_forward": 0,
        "diversity_penalty": 0.0,
        "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
        "is_decoder": False,
        "num_beams": 1,
        "prefix": None,
        "return_dict": True,
        "stage_names": ["stem", "stage1", "stage2", "stage3"],
        "tf_legacy_loss": False,
        "top_k": 50,
        "torch_dtype": None,
        "torchscript": False,
        "transformers_version": "4.26.0.dev0",
        "use_bfloat16": False,
    }
    edit_json(
        tmp_path / "config.json",
        backbone_config=ancient,
        dtype=None,
        torch_dtype="float32",
        transformers_version=None,
        pooler_act=None,
        pooler_output_size=None,
    )
    _, loaded = load.depth_estimator(tmp_path, "fp32", "cpu")
    pixels = torch.linspace(-1, 1, 3 * 32 * 32).reshape(1, 3, 32, 32)
    assert torch.equal(loaded(pixels).predicted_depth, model(pixels).predicted_depth)


# what is refused


def test_a_missing_tensor_is_an_error_and_not_a_random_one(base: Path) -> None:
    name = "conv_in.weight"
    rewrite(base / UNET, lambda w: {n: t for n, t in w.items() if n != name})
    with pytest.raises(InputError, match=name):
        load.unet(base / "unet", "fp32", "cpu")


def test_a_tensor_missing_from_the_text_encoder_is_an_error(base: Path) -> None:
    name = "final_layer_norm.weight"
    rewrite(base / TEXT, lambda w: {n: t for n, t in w.items() if n != name})
    with pytest.raises(InputError, match="final_layer_norm"):
        load.text_encoder(base / "text_encoder", "fp32", "cpu")


def test_weights_of_another_shape_than_the_config_says_are_an_error(base: Path) -> None:
    edit_json(base / "unet" / "config.json", in_channels=4)
    with pytest.raises(InputError, match="unet"):
        load.unet(base / "unet", "fp32", "cpu")


def test_nan_in_the_weights_is_an_error_that_names_the_tensor(base: Path) -> None:
    def spoil(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        weights["conv_out.bias"][1] = float("nan")
        return weights

    rewrite(base / UNET, spoil)
    with pytest.raises(InputError, match=r"conv_out\.bias"):
        load.unet(base / "unet", "fp32", "cpu")


def test_a_truncated_file_is_an_error(base: Path) -> None:
    (base / UNET).write_bytes((base / UNET).read_bytes()[:-100])
    with pytest.raises(InputError, match="unet"):
        load.unet(base / "unet", "fp32", "cpu")


def test_a_pickle_is_never_read(base: Path) -> None:
    (base / UNET).rename(base / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(InputError, match="pickle") as caught:
        load.unet(base / "unet", "fp32", "cpu")
    assert "save_pretrained" in str(caught.value.hint)


def test_code_of_a_checkpoints_own_is_never_run(base: Path) -> None:
    mapping = {"AutoModelForDepthEstimation": "mine.Model"}
    edit_json(base / "depth_estimator" / "config.json", auto_map=mapping)
    (base / "depth_estimator" / "mine.py").write_text("raise SystemExit('it was run')")
    with pytest.raises(InputError, match="code of its own"):
        load.depth_estimator(base / "depth_estimator", "fp32", "cpu")


def test_a_tokenizer_without_a_vocabulary_is_an_error_and_not_an_empty_one(base: Path) -> None:
    (base / "tokenizer" / "merges.txt").unlink()
    with pytest.raises(InputError, match=r"merges\.txt"):
        load.tokenizer(base / "tokenizer")


def test_a_cpu_out_of_memory_is_not_blamed_on_the_checkpoint(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import AutoencoderKL

    def refused(*_: object, **__: object) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 12 bytes")

    monkeypatch.setattr(AutoencoderKL, "from_pretrained", refused)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        load.vae(base / "vae", "fp32", "cpu")
