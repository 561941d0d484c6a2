"""The JSON files of a checkpoint: read with care, refused where they lead elsewhere.

The libraries follow some settings to code, to other models, or to other files of the folder. None
of that is followed here: what is loaded is what the known files hold. Free of torch.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dvcli.errors import InputError
from dvcli.models.opening import content, inside

LARGEST = 32 * 2**20  # bytes
DEEPEST = 32
FOREIGN = ("auto_map", "custom_pipelines", "trust_remote_code", "allow_all_kernels")
# Settings by which the libraries read another file, or other values, than those that stand there.
ELSEWHERE = (
    "_use_default_values",  # diffusers: take no notice of these settings
    "configuration_files",  # transformers: another config for another version of it
    "fast_tokenizer_files",
    "gguf_file",
    "transformers_weights",
)
ATTENTIONS = ("eager", "sdpa")  # another may be fetched as a kernel, and run
# Which library wrote the file, and in which precision it would like to be loaded.
IRRELEVANT = ("transformers_version", "torch_dtype", "dtype")


def read_json(path: Path, root: Path | None = None) -> dict[str, Any]:
    """A JSON object from a file; `InputError` when it is no such thing or leads elsewhere.

    With the resolved `root` of a checkpoint, a link out of that is refused before it is opened.
    """
    try:
        text = content(path if root is None else inside(path, root), LARGEST)
        if text is None:
            raise InputError(f"`{path}` is larger than any settings are")
        found = json.loads(text.decode())
    except FileNotFoundError as error:
        raise InputError(f"`{path.parent}` has no `{path.name}`") from error
    except RecursionError:
        raise _too_deep(path) from None
    except (OSError, ValueError) as error:
        raise InputError(f"`{path}` cannot be read as JSON ({error})") from error
    if not isinstance(found, dict):
        raise InputError(f"`{path}` holds no JSON object")
    _refuse(found, path, 0)
    return found


def significant(value: Any) -> Any:
    """A setting without what does not change the model: private names and library versions."""
    if isinstance(value, Mapping):
        return {
            name: significant(inner)
            for name, inner in value.items()
            if name == "_class_name" or not (name.startswith("_") or name in IRRELEVANT)
        }
    if isinstance(value, list):
        return [significant(inner) for inner in value]
    return value


def _refuse(value: object, path: Path, depth: int) -> None:
    if depth > DEEPEST:
        raise _too_deep(path)
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if not _is_text(name):
                raise InputError(f"`{path}` has a name in it that is no text: {name!r}")
            if inner:
                _refuse_setting(name, inner, path)
        for inner in value.values():
            _refuse(inner, path, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _refuse(inner, path, depth + 1)
    elif isinstance(value, str) and not _is_text(value):
        raise InputError(f"`{path}` has a value in it that is no text: {value[:40]!r}")


def _refuse_setting(name: str, value: object, path: Path) -> None:
    """Raise `InputError` for a setting that says something and may not."""
    if name in FOREIGN:
        raise _foreign(path, name)
    # transformers takes `org/name` there for a kernel on the Hub, and runs it.
    if name.endswith(("attn_implementation", "experts_implementation")) and "/" in str(value):
        raise _foreign(path, name)
    if name == "attn_implementation":
        for one in value.values() if isinstance(value, Mapping) else [value]:
            if one is not None and one not in ATTENTIONS:
                raise _foreign(path, name)
    if name in ELSEWHERE:
        raise InputError(
            f"`{path}` leads to what is not in it (`{name}`), which is not followed",
            hint="take the setting out, and put what is meant into the file itself",
        )
    # The name of another model, whose config transformers would fetch.
    if name in ("backbone", "use_pretrained_backbone"):
        raise InputError(
            f"`{path}` takes its backbone from elsewhere (`{name}`), which is not fetched",
            hint="use a checkpoint whose `backbone_config` says what its backbone is",
        )
    if name == "quantization_config":
        raise InputError(
            f"`{path}` is of a quantised model, which cannot be tuned",
            hint="use the checkpoint that it was made from",
        )


def _is_text(value: str) -> bool:
    """Whether it is Unicode; JSON can write halves of characters, which nothing else can."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _foreign(path: Path, name: str) -> InputError:
    return InputError(
        f"`{path}` asks for code of its own (`{name}`), which is never run",
        hint="use a checkpoint whose classes diffusers and transformers have",
    )


def _too_deep(path: Path) -> InputError:
    return InputError(f"`{path}` is nested deeper than any settings are")
