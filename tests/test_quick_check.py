"""The extra that checks JSON Schemas faster changes neither results nor errors."""

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doubleweave.errors import JsonSchemaMismatchError
from doubleweave.models.json_schema import JsonSchema

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.integers(),
    st.sampled_from([0.0, -0.0, 1.0, 1.5, 2.0**53, 1e300, 5e-324]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["", "a", "b", "ab", "é", "\U0001f600", "\x00", "\ud800"]),
)
KEYS = st.sampled_from(["a", "b", "c", "$ref", "pattern"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=6,
)
TYPES = ["null", "boolean", "integer", "number", "string", "array", "object"]
SMALL = st.integers(0, 3)
NUMBERS = st.one_of(st.integers(-2, 2), st.sampled_from([0.5, 1.0, -1.5, 2**60]))


def schemas(inner: Any) -> Any:
    parts: dict[str, Any] = {
        "type": st.one_of(
            st.sampled_from(TYPES), st.lists(st.sampled_from(TYPES), min_size=1, max_size=3, unique=True)
        ),
        "enum": st.lists(VALUES, min_size=1, max_size=3),
        "const": VALUES,
        "properties": st.dictionaries(KEYS, inner, max_size=2),
        "required": st.lists(KEYS, max_size=2, unique=True),
        "additionalProperties": inner,
        "propertyNames": inner,
        "items": inner,
        "prefixItems": st.lists(inner, min_size=1, max_size=2),
        "contains": inner,
        "allOf": st.lists(inner, min_size=1, max_size=2),
        "anyOf": st.lists(inner, min_size=1, max_size=2),
        "oneOf": st.lists(inner, min_size=1, max_size=2),
        "not": inner,
        "if": inner,
        "then": inner,
        "else": inner,
        "dependentRequired": st.dictionaries(KEYS, st.lists(KEYS, max_size=1), max_size=1),
        "dependentSchemas": st.dictionaries(KEYS, inner, max_size=1),
        "$ref": st.sampled_from(["#/$defs/x", "#/$defs/y", "#"]),
        "pattern": st.sampled_from(["^a", "\\d", "b$"]),
        "multipleOf": st.sampled_from([1, 0.5, 0.1]),
        "uniqueItems": st.booleans(),
        "format": st.sampled_from(["email", "date"]),
        **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"), SMALL),
        **dict.fromkeys(("minContains", "maxContains"), SMALL),
        **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), NUMBERS),
    }
    chosen = st.lists(st.sampled_from(sorted(parts)), max_size=3, unique=True)
    return chosen.flatmap(lambda names: st.fixed_dictionaries({name: parts[name] for name in names}))


SCHEMAS = st.recursive(st.one_of(st.booleans(), schemas(st.booleans())), schemas, max_leaves=4)
DOCUMENTS = st.builds(
    lambda value, x, y: {"properties": {"v": value}, "$defs": {"x": x, "y": y}}, SCHEMAS, SCHEMAS, SCHEMAS
)


def outcome(schema: JsonSchema, value: dict[str, Any]) -> Any:
    try:
        return repr(schema.validate(value, name="n"))
    except JsonSchemaMismatchError as error:
        return error.errors


@settings(max_examples=600, deadline=None)
@given(document=DOCUMENTS, values=st.lists(VALUES, min_size=1, max_size=5))
def test_quick_or_not_the_outcome_is_the_same(document: dict[str, Any], values: list[Any]) -> None:
    schema, slow = JsonSchema(document), JsonSchema(document)
    slow._matches = None
    for value in values:
        assert outcome(schema, {"v": value}) == outcome(slow, {"v": value})


@pytest.mark.parametrize(
    ("document", "quick"),
    [
        ({"type": "object", "properties": {"x": {"type": "integer"}}}, True),
        ({"properties": {"pattern": {"type": "string"}}}, True),
        ({"properties": {"x": {"pattern": "^a"}}}, False),
        ({"properties": {"x": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"multipleOf": 0.1}}}, False),
        ({"$ref": "#"}, False),
        ({"properties": {"child": {"$ref": "#"}}}, True),
        ({"allOf": [{"$ref": "#/$defs/x"}], "$defs": {"x": {"anyOf": [{"$ref": "#"}]}}}, False),
    ],
)
def test_documents_that_validators_may_read_differently_are_not_checked_quickly(
    document: dict[str, Any], quick: bool
) -> None:
    assert (JsonSchema(document)._matches is not None) == quick


def test_a_quick_copy_has_containers_of_its_own() -> None:
    schema = JsonSchema({"type": "object"})
    value = {"a": [{"b": 1}]}
    copy = schema.validate(value, name="n")
    assert copy == value
    assert copy["a"] is not value["a"]
    assert copy["a"][0] is not value["a"][0]


def test_without_the_extra_everything_works() -> None:
    program = """
import sys
sys.modules["jsonschema_rs"] = None
from doubleweave import JsonSchema, JsonSchemaMismatchError
schema = JsonSchema({"properties": {"x": {"type": "integer"}}})
assert schema._matches is None
print(schema.validate({"x": 1}, name="n"))
try:
    schema.validate({"x": "a"}, name="n")
except JsonSchemaMismatchError as error:
    print(error.errors)
"""
    shown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert shown[0] == "{'x': 1}"
    schema = JsonSchema({"properties": {"x": {"type": "integer"}}})
    with pytest.raises(JsonSchemaMismatchError) as caught:
        schema.validate({"x": "a"}, name="n")
    assert shown[1] == str(caught.value.errors)
    assert json.loads(json.dumps(caught.value.errors)) == [list(error) for error in caught.value.errors]
