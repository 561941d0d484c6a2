"""Pretrained networks from their component folders, checked, frozen and quiet.

Only safetensors are read and no code from a checkpoint is run. What a file lacks is an error: the
libraries would fill it with random numbers. Folders as old versions of the libraries wrote them
load as well.
"""

import contextlib
import importlib
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dvcli.errors import DvidError, InputError, MissingError, ResourceError
from dvcli.models.alone import alone
from dvcli.models.configs import read_json
from dvcli.models.layout import (
    DIFFUSERS_WEIGHTS,
    TRANSFORMERS_WEIGHTS,
    Weights,
    processor_folder,
    require_pieces,
    require_tokenizer,
    require_weights,
)
from dvcli.models.tokens import max_tokens
from dvcli.recipes import DType

DTYPES: dict[DType, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


def unet(folder: Path, dtype: DType, device: str) -> Any:
    """The `UNet2DConditionModel` of a checkpoint, in evaluation mode and frozen."""
    with quiet("transformers", "diffusers"):
        from diffusers import UNet2DConditionModel

        return _diffusers(UNet2DConditionModel, folder, DTYPES[dtype], device)


def vae(folder: Path, dtype: DType, device: str) -> Any:
    """The `AutoencoderKL` of a checkpoint.

    A config without a scaling factor has Stable Diffusion's 0.18215.
    """
    in_dtype = vae_dtype(read_json(folder / "config.json"), dtype)
    with quiet("transformers", "diffusers"):
        from diffusers import AutoencoderKL

        return _diffusers(AutoencoderKL, folder, in_dtype, device)


def vae_dtype(config: Mapping[str, Any], dtype: DType) -> torch.dtype:
    """What a VAE with this config is loaded in.

    One that asks to be upcast overflows in half precision and is in float32 where `fp16` is asked
    for.
    """
    upcast = dtype == "fp16" and config.get("force_upcast", True)
    return DTYPES["fp32" if upcast else dtype]


def video_transformer(folder: Path, dtype: DType, device: str) -> Any:
    """The `CogVideoXTransformer3DModel` of a checkpoint."""
    with quiet("transformers", "diffusers"):
        from diffusers import CogVideoXTransformer3DModel

        return _diffusers(CogVideoXTransformer3DModel, folder, DTYPES[dtype], device)


def video_vae(folder: Path, dtype: DType, device: str) -> Any:
    """The `AutoencoderKLCogVideoX` of a checkpoint."""
    with quiet("transformers", "diffusers"):
        from diffusers import AutoencoderKLCogVideoX

        return _diffusers(AutoencoderKLCogVideoX, folder, DTYPES[dtype], device)


def t5_encoder(folder: Path, dtype: DType, device: str) -> Any:
    """The `T5EncoderModel` of a checkpoint."""
    with quiet("transformers"):
        from transformers import T5EncoderModel

        return transformer(T5EncoderModel, folder, "text_encoder", DTYPES[dtype], device)


def t5_tokenizer(folder: Path) -> Any:
    """The `T5Tokenizer` of a checkpoint; a SentencePiece file takes two packages of its own."""
    require_pieces(folder)
    pieces = not (folder / "tokenizer.json").is_file()
    if pieces and not all(find_spec(name) for name in ("sentencepiece", "google")):
        raise MissingError(
            f"`{folder}` is a SentencePiece tokenizer, which takes two packages more",
            hint="`pip install sentencepiece protobuf`, or `dvid[cogvideox]`",
        )
    with quiet("transformers"), alone(folder) as place, telling(folder, place):
        from transformers import T5Tokenizer

        return T5Tokenizer.from_pretrained(place, local_files_only=True, trust_remote_code=False)


def text_encoder(folder: Path, dtype: DType, device: str) -> Any:
    """The `CLIPTextModel` of a checkpoint."""
    with quiet("transformers"):
        from transformers import CLIPTextModel

        return transformer(CLIPTextModel, folder, "text_encoder", DTYPES[dtype], device)


def tokenizer(folder: Path) -> Any:
    """The `CLIPTokenizer` of a checkpoint."""
    require_tokenizer(folder)
    with quiet("transformers"), alone(folder) as place, telling(folder, place):
        from transformers import CLIPTokenizer

        found = CLIPTokenizer.from_pretrained(place, local_files_only=True, trust_remote_code=False)
    # Else a folder that names no limit would have every prompt padded to 10³⁰ tokens.
    found.model_max_length = max_tokens(folder)
    return found


def scheduler_config(folder: Path) -> dict[str, Any]:
    """The scheduler's settings as they stand in the file, its class name among them."""
    config = read_json(folder / "scheduler_config.json")
    return {n: v for n, v in config.items() if n == "_class_name" or not n.startswith("_")}


def depth_estimator(folder: Path, dtype: DType, device: str) -> tuple[Any, Any]:
    """The image processor and the model of a depth estimator.

    The processor's settings lie in the folder itself or, in a checkpoint, in `feature_extractor`
    beside it. Where both are absent a DPT has the processor its own image size calls for.
    """
    with quiet("transformers"):
        from transformers import AutoModelForDepthEstimation

        model = transformer(
            AutoModelForDepthEstimation, folder, "depth_estimator", DTYPES[dtype], device
        )
        place = processor_folder(folder)
        if (place / "preprocessor_config.json").is_file():
            return image_processor(place, model.config), model
        if model.config.model_type == "dpt":
            from transformers import DPTImageProcessorPil

            side = model.config.image_size
            return DPTImageProcessorPil(size={"height": side, "width": side}), model
    raise InputError(f"`{folder}` has no `preprocessor_config.json`")


def image_processor(folder: Path, config: Any) -> Any:
    """The image processor of a folder, always the one made with Pillow.

    The other resizes with torchvision where that happens to be installed and gives other pixels.
    """
    with alone(folder) as place, telling(folder, place):
        from transformers import AutoImageProcessor

        return AutoImageProcessor.from_pretrained(
            place, config=config, backend="pil", local_files_only=True, trust_remote_code=False
        )


def transformer(kind: Any, folder: Path, component: str, dtype: torch.dtype, device: str) -> Any:
    """A transformers model of that class from its folder."""
    weights = _weights(folder, component)
    with alone(folder, weights, TRANSFORMERS_WEIGHTS) as place, telling(folder, place):
        model, info = kind.from_pretrained(
            place,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    return _checked(model, info, folder, weights, device)


def _diffusers(kind: Any, folder: Path, dtype: torch.dtype, device: str) -> Any:
    weights = _weights(folder, "unet")
    with alone(folder, weights, DIFFUSERS_WEIGHTS) as place, telling(folder, place):
        model, info = kind.from_pretrained(
            place,
            torch_dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            low_cpu_mem_usage=True,
            output_loading_info=True,
        )
    return _checked(model, info, folder, weights, device)


def _weights(folder: Path, component: str) -> Weights:
    return require_weights([path.name for path in folder.iterdir()], component, str(folder))


def _checked(
    model: nn.Module, info: Mapping[str, Any], folder: Path, weights: Weights, device: str
) -> nn.Module:
    """The model on its device, once every number it needs has come out of the file."""
    file = folder / weights.files[0]
    for lack in ("missing_keys", "mismatched_keys", "error_msgs"):
        found = [str(name) for name in info.get(lack) or ()]
        if found:
            words = "lacks" if lack == "missing_keys" else "does not fit its config at"
            raise InputError(f"`{file}` {words} `{min(found)}` ({len(found)} such)")
    try:
        model = model.to(device)
    except torch.OutOfMemoryError as error:
        raise ResourceError(
            f"`{folder.name}` does not fit into the memory of `{device}`",
            hint="`--dtype fp16` takes half of it, `--device cpu` takes none",
        ) from error
    for name, tensor in model.state_dict().items():
        # A sum tells of any NaN or infinity in one pass; only a large one has to be looked through.
        suspect = tensor.is_floating_point() and not tensor.sum(dtype=torch.float32).isfinite()
        if suspect and not tensor.isfinite().all():
            raise InputError(f"`{file}` holds NaN or infinity in `{name}`")
    return model.requires_grad_(False).eval()


@contextlib.contextmanager
def telling(folder: Path, place: Path | None = None) -> Iterator[None]:
    """Turn whatever the libraries raise about a folder's content into an `InputError`.

    `place` is where the content was shown to them; what they say of it is said of the folder.
    """
    try:
        yield
    except (DvidError, MemoryError, KeyboardInterrupt, SystemExit, torch.OutOfMemoryError):
        raise
    except BaseException as error:  # a stranger's files may have a library raise anything
        # The allocator of the CPU has no error of its own.
        if "can't allocate memory" in str(error):
            raise
        # Not an `Exception`: what a library written in Rust says when it panics.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        first = first if place is None else first.replace(str(place), str(folder))
        raise InputError(f"`{folder}` cannot be used: {first}") from error


@contextlib.contextmanager
def quiet(*libraries: str) -> Iterator[None]:
    """Keep the libraries' bars and advice off the terminal, and everything off stdout."""
    with contextlib.redirect_stdout(sys.stderr), contextlib.ExitStack() as after:
        for library in libraries:
            logging = importlib.import_module(f"{library}.utils.logging")
            after.callback(logging.set_verbosity, logging.get_verbosity())
            logging.set_verbosity_error()
            if logging.is_progress_bar_enabled():
                after.callback(logging.enable_progress_bar)
                logging.disable_progress_bar()
        yield
