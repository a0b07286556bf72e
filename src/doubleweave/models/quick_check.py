"""Saying in a hundredth of the time that a value matches a JSON Schema, with the extra `jsonschema-rs`.

Where that is not sure, or the value does not match, the slower validator has the word: results and errors are the same with the
extra and without.
"""

import math
from collections.abc import Callable, Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any

Schemas = list[tuple[dict[str, Any], list[Any]]]

_UNDERSTOOD_ALIKE = frozenset(
    [
        "$schema",
        "$comment",
        "$defs",
        "$ref",
        "title",
        "description",
        "default",
        "examples",
        "deprecated",
        "readOnly",
        "writeOnly",
        "format",
        "type",
        "enum",
        "const",
        "properties",
        "required",
        "additionalProperties",
        "propertyNames",
        "minProperties",
        "maxProperties",
        "dependentRequired",
        "dependentSchemas",
        "items",
        "prefixItems",
        "minItems",
        "maxItems",
        "contains",
        "minContains",
        "maxContains",
        "minLength",
        "maxLength",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "allOf",
        "anyOf",
        "oneOf",
        "not",
        "if",
        "then",
        "else",
    ]
)
"""Keywords that mean the same to both validators. Patterns do not: each has a dialect of its own."""

_LARGEST_EXACT = 2**53
"""Integers up to this one are exact as floats too, so that comparing them gives the same everywhere."""


class NotQuick(Exception):
    """A value is not such that it can be told quickly what it is."""


def quick_check(document: dict[str, Any], schemas: Schemas) -> Callable[[Any], bool] | None:
    """Return a function that says whether a quick copy matches; None when the two validators might not agree.

    `schemas` are those of the document, each with the schemas that its references lead to.
    """
    if not all(schema.keys() <= _UNDERSTOOD_ALIKE for schema, _ in schemas) or _loops(schemas):
        return None
    try:
        import jsonschema_rs
    except ImportError:
        return None
    try:
        quick_copy(document)
        return jsonschema_rs.Draft202012Validator(document, validate_formats=False).is_valid
    except Exception:
        return None


def _loops(schemas: Schemas) -> bool:
    """Say whether a schema applies itself to the same value, which one validator follows for ever."""
    graph = {id(schema): [id(part) for part in (*targets, *_in_place(schema))] for schema, targets in schemas}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError:
        return True
    return False


def _in_place(schema: dict[str, Any]) -> Iterator[Any]:
    for keyword in ("allOf", "anyOf", "oneOf"):
        yield from schema.get(keyword, ())
    for keyword in ("not", "if", "then", "else"):
        if keyword in schema:
            yield schema[keyword]
    yield from schema.get("dependentSchemas", {}).values()


def quick_copy(value: Any) -> Any:
    """Copy the containers of plain JSON data.

    Raises:
        NotQuick: Something in there is not plain, or a number that not every validator holds exactly.
    """
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return value
    if kind is int and -_LARGEST_EXACT <= value <= _LARGEST_EXACT:
        return value
    if kind is float and math.isfinite(value):
        return value
    if kind is list:
        return [quick_copy(item) for item in value]
    if kind is dict:
        if not all(type(key) is str for key in value):
            raise NotQuick
        return {key: quick_copy(item) for key, item in value.items()}
    raise NotQuick
