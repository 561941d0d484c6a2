"""What a safetensors file says it holds, and a config measured by it, before anything is allocated.

Free of torch and numpy. The libraries build a network from its config first and look into the file
afterwards: a config of 10⁹ channels or layers would take all memory before anyone saw that the file
has a thousandth of that.
"""

import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvcli.errors import InputError

LONGEST = 100_000_000  # bytes of a header, as safetensors itself allows
# Bits of one number; a file with another type cannot be a network that is loaded here.
BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "U16": 16, "I16": 16,
    "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64,
}  # fmt: skip
# Settings that are a width of some tensor, and so no wider than the widest that is there.
WIDTHS = (
    "block_out_channels", "cross_attention_dim", "hidden_size", "hidden_sizes", "in_channels",
    "intermediate_size", "latent_channels", "max_position_embeddings", "neck_hidden_sizes",
    "out_channels", "projection_dim", "vocab_size", "fusion_hidden_size",
)  # fmt: skip
NARROWEST = 2048  # a width up to this is taken unseen, for settings that nothing reads


@dataclass(frozen=True, kw_only=True)
class Header:
    """The tensors of one or several files: how many, of how many numbers, how wide the widest."""

    tensors: int
    numbers: int
    widest: int


def read_header(path: Path) -> Header:
    """What the file says it holds. Raises `InputError` unless that is what its length allows."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
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
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"`{path}` is no whole safetensors file: {said}",
            hint="was its download finished? fetch it again",
        ) from error


def _measured(entries: Mapping[str, Any], room: int) -> Header:
    numbers, widest, end = 0, 1, 0
    for name, entry in entries.items():
        shape, (start, stop) = entry["shape"], entry["data_offsets"]
        if not all(type(n) is int and n >= 0 for n in (*shape, start, stop)):
            raise ValueError(f"`{name[:80]}` has no proper shape or place")
        many = math.prod(shape)
        if entry["dtype"] not in BITS or many * BITS[entry["dtype"]] != (stop - start) * 8:
            raise ValueError(f"`{name[:80]}` is not as large as its shape says")
        numbers, end = numbers + many, max(end, stop)
        widest = max([widest, *shape])
    if end != room:
        raise ValueError(f"its tensors end at byte {end} of {room}")
    return Header(tensors=len(entries), numbers=numbers, widest=widest)


def together(headers: Sequence[Header]) -> Header:
    """Several shards as one."""
    return Header(
        tensors=sum(h.tensors for h in headers),
        numbers=sum(h.numbers for h in headers),
        widest=max((h.widest for h in headers), default=1),
    )


def require_fitting(config: Mapping[str, Any], held: Header, path: Path) -> None:
    """Refuse a config that asks for more than the weights beside it hold.

    A width is at most that of the widest tensor; a number of layers, or the length of a
    list, at most the number of tensors; no number but a float is beyond what the file has of them.
    """
    for name, value in _settings(config):
        if isinstance(value, list) and len(value) > max(held.tensors, 64):
            raise _too_much(name, f"{len(value)} entries", path)
        if not isinstance(value, int):
            continue
        counts = "layer" in name or name in ("depths", "num_stages", "num_blocks")
        wide = name in WIDTHS and value > max(held.widest, NARROWEST)
        many = counts and value > max(held.tensors, 64)
        if wide or many or value > max(held.numbers, 10**6):
            raise _too_much(name, str(value), path)


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
