"""JSON pointers: what is one, how it splits, what it finds, and where it fails."""

import copy
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doubleweave.errors import DoubleweaveError
from doubleweave.models.pointers import (
    POINTER_PREFIX,
    PointerResolutionError,
    is_pointer,
    parse_pointer,
    resolve_pointer,
    resolve_tokens,
)

DATA: dict[str, Any] = {
    "a": {"b": [10, {"c": None}], "": "empty", "1": "text one"},
    "": "root empty",
    "/raw": "slash",
    "m~n": "tilde",
    "~1": "literal tilde one",
    "01": "padded",
    "t": (1, 2),
    "s": "text",
    "n": 5,
    "none": None,
    "list": list(range(12)),
}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("/a", True),
        ("/", True),
        ("//", True),
        ("", False),
        ("a", False),
        ("a/b", False),
        ("a.b", False),
        (" /a", False),
    ],
)
def test_jp_1_a_pointer_is_a_text_that_starts_with_a_slash(source: str, expected: bool) -> None:
    assert is_pointer(source) is expected
    assert POINTER_PREFIX == "/"


@pytest.mark.parametrize(
    ("pointer", "tokens"),
    [
        ("", []),
        ("/", [""]),
        ("/a", ["a"]),
        ("/a/b", ["a", "b"]),
        ("/a/", ["a", ""]),
        ("//", ["", ""]),
        ("/~1raw", ["/raw"]),
        ("/m~0n", ["m~n"]),
        ("/~01", ["~1"]),
        ("/~10", ["/0"]),
        ("/~00", ["~0"]),
        ("/~", ["~"]),
        ("/~2", ["~2"]),
    ],
)
def test_jp_2_a_pointer_splits_into_decoded_tokens(pointer: str, tokens: list[str]) -> None:
    assert parse_pointer(pointer) == tokens


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("/", "root empty"),
        ("/a/", "empty"),
        ("/a/1", "text one"),
        ("/a/b/0", 10),
        ("/a/b/1/c", None),
        ("/none", None),
        ("/~1raw", "slash"),
        ("/m~0n", "tilde"),
        ("/~01", "literal tilde one"),
        ("/01", "padded"),
        ("/list/01", 1),
        ("/list/+1", 1),
        ("/list/ 1 ", 1),
        ("/list/-0", 0),
        ("/list/1_1", 11),
        ("/t", (1, 2)),
    ],
)
def test_jp_3_a_pointer_finds_its_value(pointer: str, value: Any) -> None:
    assert resolve_pointer(DATA, pointer) == value


def test_jp_3_the_empty_pointer_is_the_whole_document() -> None:
    assert resolve_pointer(DATA, "") is DATA
    assert resolve_pointer(7, "") == 7


def test_jp_6_a_found_value_is_not_copied() -> None:
    assert resolve_pointer(DATA, "/a/b") is DATA["a"]["b"]


@pytest.mark.parametrize(
    ("pointer", "failed_at", "detail"),
    [
        ("/x", "/x", "key 'x' not found"),
        ("/x/y/z", "/x", "key 'x' not found"),
        ("/a/x/y", "/a/x", "key 'x' not found"),
        ("/a/~1x/y", "/a//x", "key '/x' not found"),
        ("/a/01", "/a/01", "key '01' not found"),
        ("/list/x", "/list/x", "list index 'x' is not an integer"),
        ("/list/-", "/list/-", "list index '-' is not an integer"),
        ("/list/", "/list/", "list index '' is not an integer"),
        ("/list/1.0", "/list/1.0", "list index '1.0' is not an integer"),
        ("/list/12", "/list/12", "list index 12 is out of range for list of length 12"),
        ("/list/-1", "/list/-1", "list index -1 is out of range for list of length 12"),
        ("/a/b/1/c/d", "/a/b/1/c/d", "cannot descend into NoneType"),
        ("/s/0", "/s/0", "cannot descend into str"),
        ("/n/0", "/n/0", "cannot descend into int"),
        ("/t/0", "/t/0", "cannot descend into tuple"),
        ("a", "a", "must start with '/'"),
    ],
)
def test_jp_3_jp_4_a_miss_says_where_and_why(pointer: str, failed_at: str, detail: str) -> None:
    with pytest.raises(PointerResolutionError) as caught:
        resolve_pointer(DATA, pointer)
    assert (caught.value.pointer, caught.value.failed_at, caught.value.detail) == (pointer, failed_at, detail)
    assert str(caught.value) == f"Pointer '{pointer}' failed at '{failed_at}': {detail}"


def test_jp_3_an_index_with_too_many_digits_is_not_an_integer() -> None:
    with pytest.raises(PointerResolutionError, match="is not an integer"):
        resolve_pointer([1], "/" + "9" * 5000)


def test_a_dict_that_makes_up_missing_keys_is_not_asked_to() -> None:
    class Inventive(dict[str, int]):
        def __missing__(self, key: str) -> int:
            self[key] = 1
            return 1

    data = Inventive()
    with pytest.raises(PointerResolutionError, match="not found"):
        resolve_pointer(data, "/a")
    assert data == {}


def test_known_tokens_resolve_like_their_pointer() -> None:
    assert resolve_tokens(DATA, ("a", "b", "0"), "/a/b/0") == 10
    with pytest.raises(PointerResolutionError) as caught:
        resolve_tokens(DATA, ("a", "q", "0"), "/a/q/0")
    assert (caught.value.pointer, caught.value.failed_at) == ("/a/q/0", "/a/q")


def test_jp_4_a_miss_is_a_private_error_that_can_be_pickled_and_copied() -> None:
    error = PointerResolutionError("/a/b", "/a", "key 'a' not found")
    assert PointerResolutionError.__bases__ == (Exception,)
    assert not isinstance(error, DoubleweaveError)
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (twin.pointer, twin.failed_at, twin.detail) == ("/a/b", "/a", "key 'a' not found")


@given(st.lists(st.text(), min_size=1, max_size=5))
def test_jp_2_every_key_can_be_addressed(keys: list[str]) -> None:
    pointer = "".join("/" + key.replace("~", "~0").replace("/", "~1") for key in keys)
    data: Any = "found"
    for key in reversed(keys):
        data = {key: data}
    assert parse_pointer(pointer) == keys
    assert resolve_pointer(data, pointer) == "found"
