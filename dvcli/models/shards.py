"""The index of sharded weights: believed only where it says what the shards themselves say.

The libraries open whatever file an index names, a pickle or a file of another folder too. Free of
torch.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from dvcli.errors import InputError
from dvcli.models.configs import read_json
from dvcli.models.header import Header


def require_index(path: Path, root: Path, held: Mapping[str, Header]) -> None:
    """Raise `InputError` unless the index leads to these shards, all of them, and nowhere else.

    `held` is what each shard holds, by its file name.
    """
    said = read_json(path, root).get("weight_map")
    if not isinstance(said, dict):
        raise _wrong(path, "it has no `weight_map`")
    # Each name once, so that no shard's tensor stands in for another's.
    there = weight_map(path, held)
    for name, file in said.items():
        if not isinstance(file, str) or file not in held:
            raise _wrong(path, f"it leads to `{str(file)[:80]}`, which is none of the shards")
        if there.get(name) != file:
            raise _wrong(path, f"it looks for `{name[:80]}` in `{file}`, which does not hold it")
    if unnamed := held.keys() - set(said.values()):
        raise _wrong(path, f"it does not lead to `{min(unnamed)}`")


def weight_map(path: Path, held: Mapping[str, Header]) -> dict[str, str]:
    """Which shard holds each tensor. Raises `InputError` where two hold the same."""
    found: dict[str, str] = {}
    for file, header in held.items():
        for name in header.names:
            if found.setdefault(name, file) != file:
                raise _wrong(path, f"`{found[name]}` and `{file}` both hold `{name[:80]}`")
    return found


def index_of(path: Path, held: Mapping[str, Header]) -> str:
    """The text of an index made from the shards alone."""
    total = sum(header.numbers for header in held.values())
    return json.dumps(
        {"metadata": {"total_parameters": total}, "weight_map": weight_map(path, held)}
    )


def _wrong(path: Path, why: str) -> InputError:
    return InputError(
        f"`{path}` is not the index of the weights beside it: {why}",
        hint="fetch the checkpoint again, or save the model anew with `save_pretrained`",
    )
