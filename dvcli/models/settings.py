"""Settings of a checkpoint that must make sense before anything is loaded or computed by them.

Free of torch. What a library finds wrong by itself is left to it; here is what would be taken at
its word: a schedule that is no schedule, a scale of nothing, pictures of 10⁹ pixels a side.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeGuard

from dvcli.errors import InputError

MOST_STEPS = 100_000
LARGEST_SIDE = 8192  # of the pictures that an estimator or a judge is shown
# What transformers would take in the place of the vocabulary's own files.
VOCABULARIES = ("vocab", "merges", "init_inputs", "tokenizer_object")
UNLIMITED = 10_000  # a tokenizer that says more has no limit of its own
COUNTS = (
    "layers_per_block", "norm_num_groups", "attention_head_dim", "num_attention_heads",
    "patch_size", "num_hidden_layers", "hidden_size", "image_size",
)  # fmt: skip


def require_sensible(file: str, settings: Mapping[str, Any], path: Path) -> None:
    """Raise `InputError`, naming the setting, unless those of a known file can be worked with."""
    check = _CHECKS.get(file)
    if check is not None:
        check(settings, path)


def token_limit(settings: Mapping[str, Any]) -> int:
    """How many tokens a tokenizer with these settings keeps; CLIP's 77 where it does not say."""
    found = settings.get("model_max_length")
    return int(found) if _is_finite(found) and found < UNLIMITED else 77


def _network(settings: Mapping[str, Any], path: Path) -> None:
    for inner in settings.values():
        if isinstance(inner, Mapping):
            _network(inner, path)
    channels = settings.get("block_out_channels")
    if channels is not None and not (
        isinstance(channels, list) and channels and all(_is_whole(n, 1) for n in channels)
    ):
        _refuse("block_out_channels", channels, path)
    for name in COUNTS:
        value = settings.get(name)
        several = value if isinstance(value, list) else [value]
        if value is not None and not all(n is None or _is_count(n) for n in several):
            _refuse(name, value, path)
    scale, shift = settings.get("scaling_factor"), settings.get("shift_factor")
    if scale is not None and not (_is_finite(scale) and scale > 0):
        _refuse("scaling_factor", scale, path)
    if shift is not None and not _is_finite(shift):
        _refuse("shift_factor", shift, path)


def _is_count(value: object) -> bool:
    """A number from 1, or a list of them: some settings are one a block, some one a layer."""
    if isinstance(value, list):
        return all(_is_count(inner) for inner in value)
    return _is_whole(value, 1)


def _scheduler(settings: Mapping[str, Any], path: Path) -> None:
    steps = settings.get("num_train_timesteps", 1000)
    if not (_is_whole(steps, 1) and steps <= MOST_STEPS):
        _refuse("num_train_timesteps", steps, path)
    for name in ("beta_start", "beta_end"):
        if name in settings and not _is_beta(settings[name]):
            _refuse(name, settings[name], path)
    trained = settings.get("trained_betas")
    if trained is not None and not (isinstance(trained, list) and all(map(_is_beta, trained))):
        _refuse("trained_betas", trained, path)
    offset = settings.get("steps_offset", 0)
    if not (_is_whole(offset, 0) and offset < steps):
        _refuse("steps_offset", offset, path)


def _tokenizer(settings: Mapping[str, Any], path: Path) -> None:
    longest = settings.get("model_max_length")
    if longest is not None and not (_is_finite(longest) and longest >= 3):
        _refuse("model_max_length", longest, path)  # a start, an end, and something between
    for name in VOCABULARIES:
        if settings.get(name):
            _refuse(name, settings[name], path)


def _special_tokens(settings: Mapping[str, Any], path: Path) -> None:
    for name, value in settings.items():
        # transformers would take any other as said to the tokenizer: the path of a vocabulary too.
        if not name.endswith(("_token", "_tokens")):
            _refuse(name, value, path)


def _processor(settings: Mapping[str, Any], path: Path) -> None:
    nested = settings.get("image_processor")
    if isinstance(nested, Mapping):
        _processor(nested, path)
    for name in ("size", "crop_size"):
        value = settings.get(name)
        sides = list(value.values()) if isinstance(value, Mapping) else [value]
        if value is not None and not all(_is_whole(n, 1) and n <= LARGEST_SIDE for n in sides):
            _refuse(name, value, path)


_CHECKS: dict[str, Callable[[Mapping[str, Any], Path], None]] = {
    "config.json": _network,
    "scheduler_config.json": _scheduler,
    "tokenizer_config.json": _tokenizer,
    "special_tokens_map.json": _special_tokens,
    "preprocessor_config.json": _processor,
    "processor_config.json": _processor,
}


def _is_finite(value: object) -> TypeGuard[float]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer of hundreds of digits
        return True


def _is_whole(value: object, least: int) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_beta(value: object) -> bool:
    return _is_finite(value) and 0 <= value < 1


def _refuse(name: str, value: object, path: Path) -> NoReturn:
    raise InputError(
        f"`{path}` cannot be worked with: `{name}` is {str(value)[:40]}",
        hint="fetch the checkpoint again, or correct the file",
    )
