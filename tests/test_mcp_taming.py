"""What is taken of the schemas of strangers: nothing that refuses more, nothing that takes for ever."""

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from doubleweave import JsonSchema, JsonSchemaDefinitionError, JsonSchemaMismatchError
from doubleweave.mcp.taming import tamed

NAMES = st.sampled_from(["a", "b", "c"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "aa", "b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
TYPES = st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"])


def schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(inner, min_size=1, max_size=3)
    named = st.dictionaries(NAMES, inner, max_size=3)
    keywords: dict[str, st.SearchStrategy[Any]] = {
        **dict.fromkeys(("allOf", "anyOf", "oneOf", "prefixItems"), several),
        **dict.fromkeys(("not", "if", "then", "else", "items", "contains", "additionalProperties"), inner),
        **dict.fromkeys(("properties", "dependentSchemas"), named),
        **dict.fromkeys(("unevaluatedProperties", "unevaluatedItems", "propertyNames"), inner),
        "patternProperties": st.dictionaries(st.sampled_from(["^a", "b$"]), inner, max_size=2),
        "required": st.lists(NAMES, unique=True),
        "type": TYPES | st.lists(TYPES, min_size=1, unique=True),
        "enum": st.lists(VALUES, min_size=1, max_size=3),
        "pattern": st.sampled_from(["^a+$", "b"]),
        "$ref": st.sampled_from(["#", "#/$defs/x", "#/$defs/y"]),
        "minItems": st.integers(0, 2),
        "uniqueItems": st.just(True),
        "maxLength": st.integers(0, 2),
    }
    return st.fixed_dictionaries({}, optional=keywords)


SCHEMAS: st.SearchStrategy[Any] = st.recursive(st.booleans() | st.just({}), schemas, max_leaves=5)


@settings(max_examples=60, deadline=None)
@given(st.fixed_dictionaries({"x": SCHEMAS, "y": SCHEMAS}), schemas(SCHEMAS), VALUES)
def test_what_matches_a_schema_matches_what_is_taken_of_it(defs: Any, schema: Any, value: Any) -> None:
    document = {**schema, "$defs": defs}
    taken = tamed(document)
    Draft202012Validator.check_schema(taken)
    try:
        matches = Draft202012Validator(document).is_valid(value)
    except RecursionError:
        return  # it refers to itself and nothing else
    assert not matches or Draft202012Validator(taken).is_valid(value)


def test_what_people_write_stays() -> None:
    document = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "title": "Order",
        "properties": {
            "pattern": {"type": "string", "minLength": 1, "description": "A property that is called so"},
            "kind": {"enum": ["a", "b"]},
            "lines": {"type": "array", "items": {"$ref": "#/definitions/line"}, "maxItems": 9},
            "when": {"oneOf": [{"type": "string", "format": "date"}, {"type": "null"}]},
        },
        "required": ["kind"],
        "additionalProperties": False,
        "definitions": {"line": {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}}},
    }
    assert tamed(document) == {
        "type": "object",
        "title": "Order",
        "properties": {
            "pattern": {"type": "string", "minLength": 1, "description": "A property that is called so"},
            "kind": {"enum": ["a", "b"]},
            "lines": {
                "type": "array",
                "items": {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}},
                "maxItems": 9,
            },
            "when": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        },
        "required": ["kind"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("ref", "told"),
    [
        ("http://example.com/s.json", "the reference 'http://example.com/s.json' leads out of the document"),
        ("other.json#/a", "the reference 'other.json#/a' leads out of the document"),
        ("#/$defs/none", "the reference '#/$defs/none' leads nowhere"),
        (7, "the reference 7 leads out of the document"),
    ],
)
def test_a_reference_that_leads_elsewhere_is_refused(ref: Any, told: str) -> None:
    with pytest.raises(JsonSchemaDefinitionError, match=told.replace("$", r"\$")):
        tamed({"type": "object", "properties": {"a": {"$ref": ref}}})


def laughs(levels: int) -> dict[str, Any]:
    """A schema of a few lines that is checked in `2 ** levels` steps."""
    defs = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(levels)}
    return {"type": "object", "properties": {"a": {"$ref": "#/$defs/d0"}}, "$defs": {**defs, f"d{levels}": {}}}


@pytest.mark.parametrize(
    ("document", "value"),
    [
        (laughs(60), {"a": 1}),
        ({"properties": {"a": {"pattern": "^(a+)+$"}}}, {"a": "a" * 60 + "!"}),
        ({"properties": {"a": {"uniqueItems": True}}}, {"a": [*range(20_000), *map(str, range(20_000)), {}]}),
        ({"properties": {"a": {"items": {"enum": [*range(100_000)]}}}}, {"a": [100_000] * 5_000}),
        (
            {"$defs": {"t": {"additionalProperties": {"allOf": [{"$ref": "#/$defs/t"}] * 3}}}, "$ref": "#/$defs/t"},
            {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {}}}}}}}}}}}}},
        ),
    ],
)
def test_checking_takes_no_time_that_the_author_can_stretch(document: Any, value: Any) -> None:
    started = time.monotonic()
    schema = JsonSchema(tamed(document))
    assert schema.validate(value, name="x") == value
    assert time.monotonic() - started < 5


def test_deep_and_endless_schemas_end() -> None:
    deep: dict[str, Any] = {}
    for _ in range(300):
        deep = {"properties": {"a": deep}}
    JsonSchema(tamed(deep))
    JsonSchema(tamed({"$ref": "#"}))
    tree = {"$ref": "#/$defs/t", "$defs": {"t": {"properties": {"n": {"type": "null"}, "t": {"$ref": "#/$defs/t"}}}}}
    with pytest.raises(JsonSchemaMismatchError):
        JsonSchema(tamed(tree)).validate({"n": 1}, name="x")


def often(schema: Any) -> dict[str, Any]:
    """A document that refers to one and the same schema many times."""
    return {"type": "object", "anyOf": [{"$ref": "#/$defs/x"}] * 400, "$defs": {"x": schema}}


@pytest.mark.parametrize(
    "document",
    [
        often({"properties": {f"p{n}": True for n in range(50_000)}}),
        often({"properties": {"p" * 50_000: {}}}),
        often({"const": list(range(50_000))}),
        often({"enum": [{"a": list(range(50_000))}]}),
        often({"description": "x" * 50_000}),
        often({"anyOf": [True] * 5_000}),
        {"type": "object", "properties": {f"p{n}": {} for n in range(50_000)}, "additionalProperties": False},
    ],
)
def test_what_is_taken_is_short_however_often_a_document_refers_to_its_longest_part(document: Any) -> None:
    taken = tamed(document)
    assert len(json.dumps(taken)) < 1_200_000
    assert JsonSchema(taken).validate({"p0": 1}, name="x") == {"p0": 1}


def test_an_error_quotes_a_long_reference_in_short() -> None:
    with pytest.raises(JsonSchemaDefinitionError) as caught:
        tamed({"$ref": "#/" + "a" * 10_000})
    assert len(str(caught.value)) < 1_000
