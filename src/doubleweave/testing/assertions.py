"""Comparing results, without what differs from run to run."""

from collections.abc import Callable, Collection, Iterator
from itertools import zip_longest
from typing import Any

from pydantic import BaseModel

from doubleweave.models.json_values import Path, json_path

DEFAULT_IGNORE_FIELDS: tuple[str, ...] = ("trace_id", "started_at", "ended_at", "duration_ms", "total_duration_ms")

_SHOWN = 5

Difference = tuple[Path, Any, Any]
Equality = Callable[[Any, Any], bool]


def assert_result_matches(
    actual: BaseModel | dict[str, Any],
    expected: BaseModel | dict[str, Any],
    *,
    ignore: Collection[str] = DEFAULT_IGNORE_FIELDS,
) -> None:
    """Assert that two results, as models or dicts, are equal but for the keys in `ignore`, at any depth.

    Raises:
        AssertionError: They differ; lists the first five differences by their paths.
    """
    title = f"the results differ (ignored: {', '.join(ignore) or 'nothing'})"
    require_equal(title, ("actual", _without(actual, ignore)), ("expected", _without(expected, ignore)), _equal)


def require_equal(title: str, left: tuple[str, Any], right: tuple[str, Any], equal: Equality) -> None:
    """Assert that two labelled values are `equal`.

    Raises:
        AssertionError: They differ; lists the first five differences by their paths.
    """
    (left_word, left_value), (right_word, right_value) = left, right
    found = list(_differences(left_value, right_value, (), equal))
    if not found:
        return
    lines = [title]
    lines += [f"  {json_path(path)}: {left_word} {a!r}, {right_word} {b!r}" for path, a, b in found[:_SHOWN]]
    if len(found) > _SHOWN:
        lines.append(f"  and {len(found) - _SHOWN} more differences")
    raise AssertionError("\n".join(lines))


def identical(left: Any, right: Any) -> bool:
    """Say whether two values are equal in their types too: 1 is neither True nor 1.0, and NaN is NaN.

    Types are looked at inside dicts, lists, tuples and sets; what kind of dict, list or tuple holds them does not matter.
    """
    if isinstance(left, dict) and isinstance(right, dict):
        return _typed(left) == _typed(right) and all(identical(item, right[key]) for key, item in left.items())
    if any(isinstance(left, kind) and isinstance(right, kind) for kind in (list, tuple)):
        return len(left) == len(right) and all(map(identical, left, right))
    if type(left) is not type(right):
        return False
    if isinstance(left, set | frozenset):
        return _typed(left) == _typed(right)
    return _equal(left, right) or bool(left != left and right != right)


def _typed(keys: Collection[Any]) -> set[Any]:
    return {(type(key), key) for key in keys}


def _equal(left: Any, right: Any) -> bool:
    return left is right or bool(left == right)


def _without(value: Any, ignore: Collection[str]) -> Any:
    """Return a value as plain data without the keys in `ignore`, at any depth of dicts, lists and tuples."""
    if isinstance(value, BaseModel):
        value = value.model_dump()
    return _stripped(value, ignore)


def _stripped(value: Any, ignore: Collection[str]) -> Any:
    if isinstance(value, dict):
        return {key: _stripped(item, ignore) for key, item in value.items() if key not in ignore}
    if isinstance(value, list):
        return [_stripped(item, ignore) for item in value]
    if isinstance(value, tuple):
        return tuple(_stripped(item, ignore) for item in value)
    return value


def _differences(left: Any, right: Any, path: Path, equal: Equality) -> Iterator[Difference]:
    if equal(left, right):
        return
    found: list[Difference] = []
    for part, a, b, missing in _pairs(left, right):
        if missing:
            found.append(((*path, part), a, b))
        else:
            found += _differences(a, b, (*path, part), equal)
    # Containers without parts that differ do so themselves, by the types of their keys for example.
    yield from found or [(path, left, right)]


_MISSING: Any = object()


def _pairs(left: Any, right: Any) -> list[tuple[Any, Any, Any, bool]]:
    """Return the parts that two containers of one kind have, None standing for a missing one; anything else has none."""
    if isinstance(left, dict) and isinstance(right, dict):
        both = [(key, left.get(key, _MISSING), right.get(key, _MISSING)) for key in {**left, **right}]
    elif any(isinstance(left, kind) and isinstance(right, kind) for kind in (list, tuple)):
        both = [(index, a, b) for index, (a, b) in enumerate(zip_longest(left, right, fillvalue=_MISSING))]
    else:
        return []
    return [
        (part, None if a is _MISSING else a, None if b is _MISSING else b, a is _MISSING or b is _MISSING)
        for part, a, b in both
    ]
