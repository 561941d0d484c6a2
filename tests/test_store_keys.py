"""The pre-image of a key has one spelling, and the key is its digest."""

import hashlib
import math
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvcli.store.keys import canonical, difference, key_of, preimage

A, B = "a" * 64, "b" * 64
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
)
NAMES = st.text("abcdefgh_", min_size=1)
PARAMS = st.dictionaries(
    NAMES,
    st.recursive(SCALARS, lambda part: st.lists(part) | st.dictionaries(NAMES, part), max_leaves=8),
)


def key(**params: object) -> str:
    return key_of(preimage("s", 1, {"x": A}, params))


def test_the_key_is_the_digest_of_prefix_and_canonical_json() -> None:
    asked = preimage("tune", 3, {"frames": A}, {"lr": 1e-5, "prompt": "ä", "steps": 7.0})
    text = (
        f'{{"inputs":{{"frames":"{A}"}},"params":{{"lr":0.00001,"prompt":"ä","steps":7}},'
        '"stage":"tune","version":3}'
    )
    assert canonical(asked) == text.encode()
    assert key_of(asked) == hashlib.sha256(b"dvid-key-v1\0" + text.encode()).hexdigest()


def test_a_golden_key_stays() -> None:
    asked = preimage("tune", 3, {"frames": A}, {"lr": 1e-5, "size": (8, 9), "x": None, "y": True})
    assert key_of(asked) == "3feed73c51823a64922cbbd115bba4098f77ffb069035a0f027b400be025680b"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (7, 7.0),
        (0, -0.0),
        (2**60, float(2**60)),
        ((1, 2), [1, 2]),
        (unicodedata.normalize("NFC", "é가"), unicodedata.normalize("NFD", "é가")),
        ({"a": 1, "b": 2}, {"b": 2.0, "a": 1.0}),
    ],
)
def test_two_spellings_of_one_value_have_one_key(one: object, other: object) -> None:
    assert key(v=one) == key(v=other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (2**53, 2**53 + 1),
        (2**63 - 1, 2**63 - 2),
        (2**60, str(2**60)),
        (1, True),
        (0, None),
        ("1", 1),
        ("", None),
        (0.1, 0.1 + 2**-56),
        ([], {}),
        ("ab", "a\0b"),
    ],
)
def test_two_values_have_two_keys(one: object, other: object) -> None:
    assert key(v=one) != key(v=other)


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, -math.inf, "\ud800", b"x", {1: 2}, {"": 1}, object(), {1}, [math.nan]],
)
def test_a_value_without_a_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="params"):
        key(v=value)


@pytest.mark.parametrize("digest", ["", "a" * 63, "A" * 64, "g" * 64, "a" * 64 + "\n"])
def test_what_is_no_digest_is_refused(digest: str) -> None:
    with pytest.raises(ValueError, match=r"inputs\.frames"):
        preimage("s", 1, {"frames": digest}, {})


@pytest.mark.parametrize("version", [0, -1, True])
def test_what_is_no_version_is_refused(version: int) -> None:
    with pytest.raises(ValueError, match="version"):
        preimage("s", version, {}, {})


@given(PARAMS)
def test_a_pre_image_is_its_own_canonical_form(params: dict[str, object]) -> None:
    asked = preimage("s", 1, {"x": A}, params)
    again = preimage("s", 1, {"x": A}, asked["params"])  # type: ignore[arg-type]
    assert again == asked


@given(PARAMS)
def test_the_order_of_parameters_does_not_matter(params: dict[str, object]) -> None:
    turned = dict(reversed(params.items()))
    assert key_of(preimage("s", 1, {}, params)) == key_of(preimage("s", 1, {}, turned))


@given(PARAMS, PARAMS)
def test_no_line_of_difference_means_the_same_key(
    a: dict[str, object], b: dict[str, object]
) -> None:
    one, other = preimage("s", 1, {}, a), preimage("s", 1, {}, b)
    assert (difference(one, other) == []) == (key_of(one) == key_of(other))


def test_a_difference_says_what_changed_from_what_to_what() -> None:
    one = preimage("tune", 1, {"frames": A}, {"steps": 500, "prompt": "a", "c": {"gain": 1}})
    other = preimage("tune", 2, {"frames": B}, {"steps": 200, "prompt": "a", "c": {"gain": 1.5}})
    assert difference(one, other) == [
        f"inputs.frames: {A[:12]} → {B[:12]}",
        "params.c.gain: 1 → 1.5",
        "params.steps: 500 → 200",
        "version: 1 → 2",
    ]


def test_a_difference_names_what_only_one_side_has() -> None:
    one, other = preimage("s", 1, {}, {"x": None}), preimage("s", 1, {}, {"y": "absent"})
    assert difference(one, other) == ["params.x: null → absent", 'params.y: absent → "absent"']
