"""What a result is asked for by: the pre-image of a key, the key, and why two keys differ."""

import math
import re
import unicodedata
from collections.abc import Mapping

_DIGEST = re.compile(r"[0-9a-f]{64}")
_LARGEST = 2**53 - 1  # RFC 8785: a larger integer is not safe as a JSON number


def preimage(
    stage: str, version: int, inputs: Mapping[str, str], params: Mapping[str, object]
) -> dict[str, object]:
    """What the key is the digest of, in its one canonical form.

    `inputs` maps a role to the SHA-256 (64 hex digits) of what is read in it. Prompts become NFC,
    `7.0` becomes `7`, `-0.0` becomes `0`, tuples become lists. Raises `ValueError` for whatever
    has no such form: NaN and infinity, lone surrogates, a digest that is none, other types.
    """
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise ValueError(f"the version of stage {stage!r} is {version!r}, not 1, 2, 3 …")
    for role, digest in inputs.items():
        if not _DIGEST.fullmatch(digest):
            raise ValueError(f"inputs.{role} is {digest!r}, not a SHA-256 in 64 hex digits")
    return {
        "stage": _plain("stage", stage),
        "version": version,
        "inputs": {_name("inputs", role): digest for role, digest in inputs.items()},
        "params": _plain("params", params),
    }


def key_of(preimage: Mapping[str, object]) -> str:
    """The key: `sha256("dvid-key-v1\\0" + RFC 8785 JSON of the pre-image)`, 64 hex digits."""
    import hashlib

    return hashlib.sha256(b"dvid-key-v1\0" + canonical(preimage)).hexdigest()


def canonical(value: object) -> bytes:
    """RFC 8785 JSON: the one spelling of a value."""
    import rfc8785

    return rfc8785.dumps(value)  # type: ignore[arg-type]  # refuses what is not JSON


def difference(a: Mapping[str, object], b: Mapping[str, object]) -> list[str]:
    """One line for every value that two pre-images do not share: `params.steps: 500 → 200`."""
    old, new = dict(_leaves("", a)), dict(_leaves("", b))
    return [
        f"{name}: {_short(old.get(name, 'absent'))} → {_short(new.get(name, 'absent'))}"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]


def _plain(where: str, value: object) -> object:
    match value:
        case None | bool():
            return value
        case str():
            return _text(where, value)
        case int() | float():
            return _number(where, value)
        case tuple() | list():
            return [_plain(f"{where}.{i}", item) for i, item in enumerate(value)]
        case Mapping():
            return {_name(where, k): _plain(f"{where}.{k}", v) for k, v in value.items()}
    raise ValueError(f"{where} is a {type(value).__name__}, which has no place in a key")


def _number(where: str, value: int | float) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} is {value}, which is not a number that can be in a key")
    if value != int(value):
        return float(value)
    whole = int(value)
    # As a string an integer keeps its last digits; in an object of its own it is no other string.
    return whole if abs(whole) <= _LARGEST else {"integer": str(whole)}


def _text(where: str, value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{where} is not valid Unicode text: {value!r}") from None
    return unicodedata.normalize("NFC", value)


def _name(where: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{where} has {value!r} for a name")
    return _text(where, value)


def _leaves(where: str, value: object) -> "list[tuple[str, str]]":
    if isinstance(value, Mapping) and value:
        found: list[tuple[str, str]] = []
        for name, part in value.items():
            found += _leaves(f"{where}.{name}" if where else str(name), part)
        return found
    import json

    return [(where, json.dumps(value, ensure_ascii=False))]


def _short(value: str) -> str:
    digest = value.strip('"')
    return digest[:12] if _DIGEST.fullmatch(digest) else value
