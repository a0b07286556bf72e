"""Tools that pass on, take apart, change and compare values."""

from collections.abc import Collection
from copy import copy
from typing import Any

from pydantic import BaseModel

from doubleweave.decorators import tool
from doubleweave.errors import ContribError
from doubleweave.models.pointers import PointerResolutionError, parse_pointer, resolve_pointer, resolve_tokens

_LONGEST_REPR = 80

Document = dict[Any, Any]


class Passed(BaseModel):
    """The output of `passthrough` and `json_set`."""

    data: Document


class Plucked(BaseModel):
    """The output of `json_pluck`."""

    value: Any


class Compared(BaseModel):
    """The output of `assert_equal`."""

    equal: bool


@tool
def passthrough(data: Document) -> Passed:
    """Return `data` unchanged."""
    return Passed(data=data)


@tool
def json_pluck(data: Document, pointer: str) -> Plucked:
    """Return the value that a JSON pointer addresses in `data`; the pointer "" addresses all of it.

    Raises `ContribError` when there is no such value.
    """
    try:
        return Plucked(value=resolve_pointer(data, pointer))
    except PointerResolutionError as error:
        raise ContribError("json_pluck", str(error)) from error


@tool
def json_set(data: Document, pointer: str, value: Any) -> Passed:
    """Return a copy of `data` in which the JSON pointer addresses `value`; only the containers on the way are copied.

    What is missing below a dict, or is one value there, becomes a dict. Lists are addressed by an index that exists.
    Raises `ContribError` when the pointer is "", is malformed or leads nowhere.
    """
    if not pointer:
        raise ContribError("json_set", "the root cannot be set, the pointer must name a key")
    try:
        return Passed(data=_with_value(data, pointer, value))
    except PointerResolutionError as error:
        raise ContribError("json_set", str(error)) from error


@tool
def assert_equal(left: Any, right: Any) -> Compared:
    """Return when two values are equal; raise `ContribError` when they differ."""
    if left != right:
        raise ContribError("assert_equal", f"values differ: {_short(left)} != {_short(right)}")
    return Compared(equal=True)


def _with_value(data: Document, pointer: str, value: Any) -> Document:
    tokens = parse_pointer(pointer)
    root = dict(data)
    current: Any = root
    for position in range(1, len(tokens)):
        key = _key(root, current, tokens[:position], pointer)
        below = current[key] if isinstance(current, list) else current.get(key)
        if isinstance(below, dict | list):
            current[key] = copy(below)
        elif isinstance(current, dict) and (isinstance(below, str | bytes) or not isinstance(below, Collection)):
            current[key] = {}
        else:
            # Says that there is no way into this value.
            resolve_tokens(root, tokens[: position + 1], pointer)
        current = current[key]
    current[_key(root, current, tokens, pointer)] = value
    return root


def _key(root: Document, container: Any, way: list[str], pointer: str) -> Any:
    """Return what the last token of the way to a part of `container` means there."""
    if isinstance(container, dict):
        return way[-1]
    # Says when there is no such index.
    resolve_tokens(root, way, pointer)
    return int(way[-1])


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_REPR else f"{text[: _LONGEST_REPR - 3]}..."
