"""What a safetensors file says it holds, and a config measured by it, before anything is allocated.

Free of torch and numpy. The libraries build a network from its config first and look into the file
afterwards: a config of 10⁹ channels or layers would take all memory before anyone saw that the file
has a thousandth of that.
"""

import json
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvcli.errors import InputError
from dvcli.models.opening import opened

LONGEST = 16 * 2**20  # bytes of a header, 100,000 tensors; those of real models are far below
DIMENSIONS = 16
# Bits of one number; a file with another type cannot be a network that is loaded here.
BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "U16": 16, "I16": 16,
    "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64,
}  # fmt: skip
# Settings that are a width of some tensor, and so no wider than the widest that is there.
WIDTHS = (
    "block_out_channels", "cross_attention_dim", "hidden_size", "hidden_sizes", "in_channels",
    "intermediate_size", "latent_channels", "max_position_embeddings", "neck_hidden_sizes",
    "out_channels", "projection_dim", "fusion_hidden_size",
)  # fmt: skip
NARROWEST = 4096  # a width up to this is taken unseen, for settings that nothing reads
MOST_BLOCKS = 4096  # modules with weights, by the layers a config asks for: tensors are cheap
UNSEEN = 3 * 10**8  # as many numbers, for the same reason: some nets leave a part of theirs unread
# Settings of one network whose product is the size of something it makes, in numbers.
PRODUCTS = (
    ("num_hidden_layers", "hidden_size", "intermediate_size"),
    ("num_hidden_layers", "hidden_size", "hidden_size"),
    ("vocab_size", "hidden_size"),
    ("max_position_embeddings", "hidden_size"),
    ("hidden_size", "projection_dim"),
    ("num_layers", "d_model", "d_ff"),
    ("num_layers", "d_model", "num_heads", "d_kv"),
    ("vocab_size", "d_model"),
    ("sample_width", "sample_height", "sample_frames"),
    ("num_layers", *("num_attention_heads", "attention_head_dim") * 2),
)


@dataclass(frozen=True, kw_only=True)
class Header:
    """The tensors of one or several files: their names, all numbers, the widest side."""

    names: tuple[str, ...]
    numbers: int
    widest: int

    @property
    def tensors(self) -> int:
        return len(self.names)


def read_header(path: Path) -> Header:
    """What the file says it holds. Raises `InputError` unless that is what its length allows."""
    try:
        with opened(path) as file:
            size = os.fstat(file.fileno()).st_size
            (length,) = struct.unpack("<Q", file.read(8))
            if not 2 <= length <= min(LONGEST, size - 8):
                raise ValueError(f"its header would be {length} bytes long")
            entries = json.loads(file.read(length))
        if not isinstance(entries, dict):
            raise ValueError("its header is no JSON object")
        entries.pop("__metadata__", None)
        return _measured(entries, size - 8 - length)
    except FileNotFoundError as error:
        raise InputError(f"`{path.parent}` has no `{path.name}`") from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError, struct.error) as error:
        said = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise InputError(
            f"`{path}` is no whole safetensors file: {said}",
            hint="was its download finished? fetch it again",
        ) from error


def _measured(entries: Mapping[str, Any], room: int) -> Header:
    numbers, widest, places = 0, 1, []
    for name, entry in entries.items():
        shape, (start, stop) = entry["shape"], entry["data_offsets"]
        if len(shape) > DIMENSIONS:
            raise ValueError(f"`{name[:80]}` has {len(shape)} dimensions")
        if not all(type(n) is int and n >= 0 for n in (*shape, start, stop)):
            raise ValueError(f"`{name[:80]}` has no proper shape or place")
        if 0 in shape:
            raise ValueError(f"`{name[:80]}` is of no numbers at all")
        if stop > room:
            raise ValueError(f"`{name[:80]}` ends beyond the file")
        many = 1
        for side in shape:
            many *= min(side, room + 1)
        bits = BITS.get(entry["dtype"])
        if bits is None or max(shape, default=1) > room or many * bits != (stop - start) * 8:
            raise ValueError(f"`{name[:80]}` is not as large as its shape says")
        numbers, widest = numbers + many, max([widest, *shape])
        places.append((start, stop))
    end = 0
    for start, stop in sorted(places):
        if start != end:
            raise ValueError(f"its tensors do not follow one another at byte {end}")
        end = stop
    if end != room:
        raise ValueError(f"its tensors end at byte {end} of {room}")
    return Header(names=tuple(entries), numbers=numbers, widest=widest)


def together(headers: Sequence[Header]) -> Header:
    """Several shards as one."""
    return Header(
        names=tuple(name for held in headers for name in held.names),
        numbers=sum(h.numbers for h in headers),
        widest=max((h.widest for h in headers), default=1),
    )


def require_fitting(config: Mapping[str, Any], held: Header, path: Path) -> None:
    """Refuse a config that asks for more than the weights beside it hold.

    A width is at most that of the widest tensor; a number of layers, or the length of a
    list, at most the number of tensors; no number but a float is beyond what the file has of them.
    """
    _require_possible(config, held, path)
    for name, value in _settings(config):
        if isinstance(value, list) and len(value) > max(min(held.tensors, MOST_BLOCKS), 64):
            raise _too_much(name, f"{len(value)} entries", path)
        if not isinstance(value, int):
            continue
        counts = "layer" in name or name in ("depths", "num_stages", "num_blocks")
        wide = name in WIDTHS and value > max(held.widest, NARROWEST)
        many = counts and value > max(held.tensors, 64)
        if wide or many or value > max(held.numbers, 10**6):
            raise _too_much(name, str(value), path)


def _require_possible(config: Mapping[str, Any], held: Header, path: Path) -> None:
    """Refuse what only together is too much: settings that multiply, in each nested config."""
    most = max(held.numbers, UNSEEN)
    for names in PRODUCTS:
        _require_product(names, [_largest(config.get(name)) for name in names], most, path)
    side, patch = _largest(config.get("image_size")), _largest(config.get("patch_size"))
    places = (side // patch) ** 2
    hidden = _largest(config.get("hidden_size"))
    _require_product(("image_size", "patch_size", "hidden_size"), [places, hidden], most, path)
    longest = max((len(value) for value in config.values() if isinstance(value, list)), default=1)
    layers = {n: _largest(value) for n, value in config.items() if "layer" in n or n == "depths"}
    if layers:
        _require_product(tuple(layers), [longest, *layers.values()], MOST_BLOCKS, path)
    for inner in config.values():
        if isinstance(inner, Mapping):
            _require_possible(inner, held, path)


def _require_product(names: Sequence[str], factors: Sequence[int], most: int, path: Path) -> None:
    found = 1
    for factor in factors:
        found *= min(factor, most + 1)
    if found > most:
        raise _too_much(
            "` × `".join(dict.fromkeys(names)), "too many" if found > 10**15 else str(found), path
        )


def _largest(value: object) -> int:
    """The largest whole number of a setting or of its list, and at least 1."""
    found = [_largest(inner) for inner in value] if isinstance(value, list) else [1]
    return max(1, value) if type(value) is int else max(found, default=1)


def _settings(config: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """Every setting with its name, those of lists and nested configs too."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _settings(value)
            continue
        yield name, value
        if isinstance(value, list):
            for inner in value:
                yield from _settings({name: inner})


def _too_much(name: str, value: str, path: Path) -> InputError:
    return InputError(
        f"`{path}` asks for more than its weights hold: `{name}` is {value[:40]}",
        hint="the config and the weights are not of one model",
    )
