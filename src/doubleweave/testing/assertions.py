"""Comparing results, without what differs from run to run."""

from collections.abc import Collection, Iterator
from itertools import zip_longest
from typing import Any

from pydantic import BaseModel

from doubleweave.models.json_values import Path, json_path

DEFAULT_IGNORE_FIELDS: tuple[str, ...] = ("trace_id", "started_at", "ended_at", "duration_ms", "total_duration_ms")

_SHOWN = 5

Difference = tuple[Path, Any, Any]


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
    require_equal("the results differ", ("actual", actual), ("expected", expected), ignore)


def require_equal(title: str, left: tuple[str, Any], right: tuple[str, Any], ignore: Collection[str]) -> None:
    """Assert that two labelled values are equal but for the keys in `ignore`, at any depth.

    Raises:
        AssertionError: They differ; lists the first five differences by their paths.
    """
    (left_word, left_value), (right_word, right_value) = left, right
    found = list(_differences(without(left_value, ignore), without(right_value, ignore), ()))
    if not found:
        return
    lines = [f"{title} (ignored: {', '.join(ignore) or 'nothing'})"]
    lines += [f"  {json_path(path)}: {left_word} {a!r}, {right_word} {b!r}" for path, a, b in found[:_SHOWN]]
    if len(found) > _SHOWN:
        lines.append(f"  and {len(found) - _SHOWN} more differences")
    raise AssertionError("\n".join(lines))


def without(value: Any, ignore: Collection[str]) -> Any:
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


def _differences(left: Any, right: Any, path: Path) -> Iterator[Difference]:
    if left is right or left == right:
        return
    pairs = _pairs(left, right)
    if pairs is None:
        yield path, left, right
        return
    for part, a, b, missing in pairs:
        if missing:
            yield (*path, part), a, b
        else:
            yield from _differences(a, b, (*path, part))


_MISSING: Any = object()


def _pairs(left: Any, right: Any) -> list[tuple[Any, Any, Any, bool]] | None:
    """Return the parts that two containers of one kind have, None standing for a missing one; None for anything else."""
    if isinstance(left, dict) and isinstance(right, dict):
        both = [(key, left.get(key, _MISSING), right.get(key, _MISSING)) for key in {**left, **right}]
    elif any(isinstance(left, kind) and isinstance(right, kind) for kind in (list, tuple)):
        both = [(index, a, b) for index, (a, b) in enumerate(zip_longest(left, right, fillvalue=_MISSING))]
    else:
        return None
    return [
        (part, None if a is _MISSING else a, None if b is _MISSING else b, a is _MISSING or b is _MISSING)
        for part, a, b in both
    ]
