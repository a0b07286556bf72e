"""JSON Schema documents: which are refused and where, what matches, and how mismatches are told."""

import copy
import enum
import hashlib
import json
import math
import pickle
import types
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from doubleweave.errors import JsonSchemaDefinitionError, JsonSchemaMismatchError
from doubleweave.models.json_schema import JsonSchema

ORDER = {
    "title": "Order",
    "type": "object",
    "properties": {
        "id": {"type": "integer"},
        "items": {"type": "array", "items": {"$ref": "#/$defs/item"}},
        "note": {"type": ["string", "null"], "default": "none"},
    },
    "required": ["id"],
    "$defs": {
        "item": {"type": "object", "properties": {"name": {"type": "string"}, "price": {"type": "number"}}},
    },
}


def refused(document: Any) -> JsonSchemaDefinitionError:
    with pytest.raises(JsonSchemaDefinitionError) as caught:
        JsonSchema(document)
    return caught.value


def mismatch(schema: JsonSchema, value: Any) -> JsonSchemaMismatchError:
    with pytest.raises(JsonSchemaMismatchError) as caught:
        schema.validate(value, name="input of tool 'x'")
    assert caught.value.schema_name == "input of tool 'x'"
    return caught.value


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"properties": {"a": value}}
    return value


# --- documents ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"type": "object"},
        {"type": ["null", "object"]},
        ORDER,
        {"$schema": "https://json-schema.org/draft/2020-12/schema"},
        {"$schema": "https://json-schema.org/draft/2020-12/schema#"},
        {"$ref": "#/$defs/a", "$defs": {"a": {"type": "object"}}},
        {"$ref": "#a", "$defs": {"a": {"$anchor": "a"}}},
        {"$dynamicRef": "#a", "$defs": {"a": {"$dynamicAnchor": "a"}}},
        {"properties": {"a": {"$ref": "#"}}},
        {"properties": {"a": {"$ref": "#/components/schemas/a"}}, "components": {"schemas": {"a": {"type": "string"}}}},
        {"properties": {"a": {"$ref": "#/$defs/b~1c%25"}}, "$defs": {"b/c%": {"type": "string"}}},
        {"properties": {"a": {"$ref": "#/$defs/yes"}}, "$defs": {"yes": True}},
        {"properties": {"a": {"$id": "https://a/", "$defs": {"q": True}, "properties": {"z": {"$ref": "#/$defs/q"}}}}},
        # these look like keywords and are data
        {"properties": {"$ref": {"type": "string"}, "$schema": {"type": "string"}}},
        {"const": {"$ref": "https://elsewhere/"}},
        {"enum": [{"$ref": "https://elsewhere/"}], "default": {"$schema": "x"}, "examples": [{"$ref": "x"}]},
        {"x-extension": {"$ref": "https://elsewhere/"}},
        nested(30),
    ],
)
def test_a_valid_document_is_accepted_and_kept_as_it_is(document: dict[str, Any]) -> None:
    before = copy.deepcopy(document)
    schema = JsonSchema(document)
    assert schema.document == before
    assert document == before


@pytest.mark.parametrize(
    ("document", "path", "detail"),
    [
        (
            {"type": "string"},
            "$.type",
            "type 'string' excludes objects; a tool's data is an object, so let type be or include 'object'",
        ),
        (
            {"type": ["array", "null"]},
            "$.type",
            "type ['array', 'null'] excludes objects; a tool's data is an object, so let type be or include 'object'",
        ),
        (
            {"type": "strin"},
            "$.type",
            "'strin' is not valid under any of the given schemas; correct it according to JSON Schema draft 2020-12",
        ),
        (
            {"properties": {"a": {"properties": {"b c": {"minLength": "1"}}}}},
            "$.properties.a.properties['b c'].minLength",
            "'1' is not of type 'integer'; correct it according to JSON Schema draft 2020-12",
        ),
        (
            {"allOf": [{}, {"items": [{}]}]},
            "$.allOf[1].items",
            "[{}] is not of type 'object', 'boolean'; correct it according to JSON Schema draft 2020-12",
        ),
        (
            {"properties": {"a": {"pattern": "("}}},
            "$.properties.a.pattern",
            "'(' is not a 'regex'; correct it according to JSON Schema draft 2020-12",
        ),
        (
            {"properties": {"a": {"$ref": 3}}},
            "$.properties.a.$ref",
            "3 is not of type 'string'; correct it according to JSON Schema draft 2020-12",
        ),
    ],
)
def test_an_invalid_document_is_refused_with_its_path(document: dict[str, Any], path: str, detail: str) -> None:
    error = refused(document)
    assert (error.path, error.detail) == (path, detail)
    assert str(error) == f"Invalid JSON Schema at {path}: {detail}."


@pytest.mark.parametrize("keyword", ["$ref", "$dynamicRef"])
@pytest.mark.parametrize(
    "reference", ["https://elsewhere/schema.json", "https://elsewhere/schema.json#/a", "other.json", "file:///a", ""]
)
@pytest.mark.parametrize(
    ("wrap", "path"),
    [
        (lambda part: part, "$"),
        (lambda part: {"properties": {"a": part}}, "$.properties.a"),
        (lambda part: {"properties": {"a": {"items": {"anyOf": [True, part]}}}}, "$.properties.a.items.anyOf[1]"),
        (lambda part: {"$defs": {"unused": part}}, "$.$defs.unused"),
        (lambda part: {"definitions": {"unused": part}}, "$.definitions.unused"),
        (lambda part: {"if": {"not": part}}, "$.if.not"),
        (lambda part: {"patternProperties": {"^a": part}}, "$.patternProperties['^a']"),
        (lambda part: {"dependentSchemas": {"a": part}}, "$.dependentSchemas.a"),
        (lambda part: {"additionalProperties": part}, "$.additionalProperties"),
        (lambda part: {"unevaluatedProperties": part}, "$.unevaluatedProperties"),
        (lambda part: {"properties": {"a": {"prefixItems": [part]}}}, "$.properties.a.prefixItems[0]"),
        (lambda part: {"properties": {"a": {"$ref": "#/x/0"}}, "x": [part]}, "$.x[0]"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_reference_out_of_the_document_is_refused_wherever_it_stands(
    wrap: Callable[[dict[str, Any]], dict[str, Any]], path: str, reference: str, keyword: str
) -> None:
    error = refused(wrap({keyword: reference}))
    assert error.path == f"{path}.{keyword}"
    assert error.detail == (
        f"{reference!r} leads out of the document; move its target into $defs and refer to '#/$defs/<name>'"
    )


@pytest.mark.parametrize("keyword", ["$ref", "$dynamicRef"])
@pytest.mark.parametrize(
    "reference",
    ["#/$defs/missing", "#missing", "#/type", "#/type/0", "#/required", "#/required/0", "#/required/x", "#/required/9"],
)
def test_a_reference_that_leads_to_no_schema_is_refused(reference: str, keyword: str) -> None:
    error = refused({"type": "object", "required": ["a"], "properties": {"a": {keyword: reference}}})
    assert error.path == f"$.properties.a.{keyword}"
    assert error.detail == (
        f"{reference!r} leads to no schema in this document; define its target or correct the reference"
    )


def test_a_reference_resolves_inside_its_embedded_resource() -> None:
    inner = {"$id": "https://a/", "$defs": {"q": True}, "properties": {"z": {"$ref": "#/$defs/outer"}}}
    error = refused({"properties": {"a": inner}, "$defs": {"outer": True}})
    assert error.path == "$.properties.a.properties.z.$ref"


def test_what_a_reference_leads_to_is_checked_even_where_no_schema_is_expected() -> None:
    error = refused({"properties": {"a": {"$ref": "#/x/b"}}, "x": {"b": {"properties": {"c": {"type": "nope"}}}}})
    assert error.path == "$.x.b.properties.c.type"


@pytest.mark.parametrize(
    "dialect",
    [
        "http://json-schema.org/draft-07/schema#",
        "https://json-schema.org/draft/2019-09/schema",
        "https://example.com/my-own",
    ],
)
@pytest.mark.parametrize(
    ("wrap", "path"),
    [
        (lambda part: part, "$.$schema"),
        (lambda part: {"properties": {"a": part}}, "$.properties.a.$schema"),
        (lambda part: {"$defs": {"a": {"$id": "https://a/", **part}}}, "$.$defs.a.$schema"),
    ],
    ids=["top", "property", "resource"],
)
def test_another_draft_is_refused(wrap: Callable[[dict[str, Any]], dict[str, Any]], path: str, dialect: str) -> None:
    error = refused(wrap({"$schema": dialect}))
    assert error.path == path
    assert error.detail == (
        f"{dialect!r} is not supported; write the document in draft 2020-12 "
        "(https://json-schema.org/draft/2020-12/schema) or leave $schema out"
    )


@pytest.mark.parametrize(
    ("document", "path", "detail"),
    [
        (True, "$", "a JSON Schema document is a dict, not bool; pass the parsed document"),
        ("{}", "$", "a JSON Schema document is a dict, not str; pass the parsed document"),
        (None, "$", "a JSON Schema document is a dict, not NoneType; pass the parsed document"),
        ([], "$", "a JSON Schema document is a dict, not list; pass the parsed document"),
        ({"required": ("a",)}, "$.required", "tuple is not a JSON type; use plain JSON data"),
        ({"enum": [{1}]}, "$.enum[0]", "set is not a JSON type; use plain JSON data"),
        ({"properties": {1: {}}}, "$.properties", "key 1 is of type int; JSON keys are strings; use plain JSON data"),
        ({"maximum": math.nan}, "$.maximum", "nan is not a JSON number; use plain JSON data"),
        ({"maximum": math.inf}, "$.maximum", "inf is not a JSON number; use plain JSON data"),
        ({"const": object}, "$.const", "type is not a JSON type; use plain JSON data"),
    ],
)
def test_a_document_that_is_not_plain_json_is_refused(document: Any, path: str, detail: str) -> None:
    error = refused(document)
    assert (error.path, error.detail) == (path, detail)


def test_documents_that_overrun_the_stack_or_the_regex_compiler_give_the_typed_error() -> None:
    circular: dict[str, Any] = {}
    circular["not"] = circular
    for document, cause in (
        (circular, RecursionError),
        (nested(5000), RecursionError),
        (nested(300), RecursionError),
        ({"pattern": "(" * 5000 + ")" * 5000}, RecursionError),
        ({"pattern": "a{99999999999999999999}"}, OverflowError),
    ):
        error = refused(document)
        assert error.path == "$"
        assert error.detail.startswith(f"the document cannot be checked ({cause.__name__}: ")
        assert isinstance(error.__cause__, cause)


def test_a_document_may_be_any_mapping() -> None:
    assert JsonSchema(types.MappingProxyType({"type": "object"})).document == {"type": "object"}


def test_a_later_change_of_the_given_document_changes_nothing() -> None:
    document = copy.deepcopy(ORDER)
    schema = JsonSchema(document)
    document["properties"]["id"]["type"] = "string"  # type: ignore[index]
    assert schema.document == ORDER
    assert schema.validate({"id": 1}, name="n") == {"id": 1}


# --- values -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        {"id": 1},
        {"id": 1, "items": []},
        {"id": 1.0, "items": [{"name": "a", "price": 0.5}, {}], "note": None},
        {"id": 10**30, "extra": {"deep": [[1, [True, None, "ü"]]]}},
    ],
)
def test_a_matching_value_comes_back_equal(value: dict[str, Any]) -> None:
    assert JsonSchema(ORDER).validate(value, name="n") == value


def test_the_returned_value_has_containers_of_its_own() -> None:
    value = {"id": 1, "items": [{"name": "a"}]}
    result = JsonSchema(ORDER).validate(value, name="n")
    result["items"][0]["name"] = "changed"
    result["items"].append({})
    assert value == {"id": 1, "items": [{"name": "a"}]}


def test_subclasses_of_json_types_are_accepted_and_containers_become_plain() -> None:
    class Colour(enum.StrEnum):
        RED = "red"

    class Level(enum.IntEnum):
        LOW = 1

    result = JsonSchema(ORDER).validate(OrderedDict(id=Level.LOW, note=Colour.RED), name="n")
    assert result == {"id": 1, "note": "red"}
    assert type(result) is dict
    assert result["note"] is Colour.RED


def test_defaults_are_not_applied_and_formats_not_asserted() -> None:
    schema = JsonSchema({"properties": {"d": {"format": "date"}, "n": {"default": 1}}})
    assert schema.validate({"d": "no date"}, name="n") == {"d": "no date"}


def test_a_mismatch_names_schema_path_and_message() -> None:
    error = mismatch(JsonSchema(ORDER), {"id": "1", "items": [{}, {}, {"name": 5}]})
    assert error.errors == (
        ("$.id", "'1' is not of type 'integer'"),
        ("$.items[2].name", "5 is not of type 'string'"),
    )
    assert str(error) == (
        "Value does not match the JSON Schema of input of tool 'x': "
        "$.id: '1' is not of type 'integer'; $.items[2].name: 5 is not of type 'string'"
    )


def test_a_boolean_is_no_integer() -> None:
    assert mismatch(JsonSchema(ORDER), {"id": True}).errors == (("$.id", "True is not of type 'integer'"),)


def test_all_mismatches_are_told_sorted_by_path_with_indices_as_numbers() -> None:
    value = {"items": [{"name": index} for index in range(12)], "note": 1}
    error = mismatch(JsonSchema(ORDER), value)
    assert [path for path, _ in error.errors] == [
        "$",
        *(f"$.items[{index}].name" for index in range(12)),
        "$.note",
    ]
    assert str(error).endswith("$.items[3].name: 3 is not of type 'string'; and 9 more")


@pytest.mark.parametrize(
    ("document", "value", "errors"),
    [
        ({"required": ["a"]}, {}, (("$", "'a' is a required property"),)),
        (
            {"additionalProperties": False},
            {"b": 1, "a": 2},
            (("$", "Additional properties are not allowed ('a', 'b' were unexpected)"),),
        ),
        ({"properties": {"a b": {"type": "null"}}}, {"a b": 1}, (("$['a b']", "1 is not of type 'null'"),)),
        (
            {"$dynamicRef": "#a", "$defs": {"a": {"$dynamicAnchor": "a", "required": ["z"]}}},
            {},
            (("$", "'z' is a required property"),),
        ),
        (
            {"properties": {"a": {"$ref": "#/components/a"}}, "components": {"a": {"type": "string"}}},
            {"a": 1},
            (("$.a", "1 is not of type 'string'"),),
        ),
    ],
)
def test_keywords_are_enforced(document: dict[str, Any], value: Any, errors: tuple[tuple[str, str], ...]) -> None:
    assert mismatch(JsonSchema(document), value).errors == errors


class Model(BaseModel):
    a: int = 1


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "an object (dict) is expected, not NoneType"),
        ([], "an object (dict) is expected, not list"),
        ("text", "an object (dict) is expected, not str"),
        (Model(), "an object (dict) is expected, not Model"),
        (types.MappingProxyType({}), "an object (dict) is expected, not mappingproxy"),
    ],
)
def test_a_value_that_is_no_dict_is_a_mismatch_at_the_top(value: Any, message: str) -> None:
    assert mismatch(JsonSchema({}), value).errors == (("$", message),)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (Model(), "Model is not a JSON type"),
        ({1}, "set is not a JSON type"),
        ((1,), "tuple is not a JSON type"),
        (b"a", "bytes is not a JSON type"),
        (object(), "object is not a JSON type"),
        (1j, "complex is not a JSON type"),
        (math.nan, "nan is not a JSON number"),
        (-math.inf, "-inf is not a JSON number"),
        ({1: 2}, "key 1 is of type int; JSON keys are strings"),
        ({None: 2}, "key None is of type NoneType; JSON keys are strings"),
    ],
)
def test_a_part_that_is_not_json_is_a_mismatch_with_its_path(part: Any, message: str) -> None:
    assert mismatch(JsonSchema({}), {"a": {"b c": [0, part]}}).errors == (("$.a['b c'][1]", message),)


def test_all_parts_that_are_not_json_are_told() -> None:
    error = mismatch(JsonSchema(ORDER), {"z": {1}, "a": [(), {2: 3, None: 4}]})
    assert error.errors == (
        ("$.a[0]", "tuple is not a JSON type"),
        ("$.a[1]", "key 2 is of type int; JSON keys are strings"),
        ("$.a[1]", "key None is of type NoneType; JSON keys are strings"),
        ("$.z", "set is not a JSON type"),
    )


def test_a_message_about_a_large_value_is_cut_in_the_middle() -> None:
    ((path, message),) = mismatch(JsonSchema(ORDER), {"id": "x" * 100_000}).errors
    assert path == "$.id"
    assert len(message) == 405
    assert message.startswith("'xxx")
    assert message.endswith("xxx' is not of type 'integer'")


def test_values_and_schemas_that_overrun_the_checker_give_the_typed_error() -> None:
    circular: dict[str, Any] = {}
    circular["self"] = [circular]
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"a": deep}
    tree = JsonSchema({"properties": {"a": {"$ref": "#"}}})
    shallow: dict[str, Any] = {"a": {"a": {}}}
    assert tree.validate(shallow, name="n") == shallow
    for schema, value, cause in (
        (JsonSchema({}), circular, RecursionError),
        (tree, deep, RecursionError),
        (JsonSchema({"$ref": "#"}), {}, RecursionError),
        (JsonSchema({"properties": {"n": {"multipleOf": 0.5}}}), {"n": 10**400}, OverflowError),
    ):
        error = mismatch(schema, value)
        ((path, message),) = error.errors
        assert path == "$"
        assert message.startswith(f"the value cannot be checked ({cause.__name__}: ")
        assert isinstance(error.__cause__, cause)


def test_the_schema_still_works_after_a_mismatch() -> None:
    schema = JsonSchema(ORDER)
    for _ in range(2):
        mismatch(schema, {})
        assert schema.validate({"id": 1}, name="n") == {"id": 1}


# --- identity -----------------------------------------------------------------------------------------------------


def test_the_fingerprint_is_a_hash_of_the_compact_sorted_document() -> None:
    text = json.dumps(ORDER, sort_keys=True, separators=(",", ":"))
    assert JsonSchema(ORDER).fingerprint == hashlib.sha256(text.encode()).hexdigest()[:16]
    assert JsonSchema({}).fingerprint == "44136fa355b3678a"


def test_schemas_with_the_same_document_are_equal_whatever_its_order() -> None:
    first, second = JsonSchema({"type": "object", "title": "t"}), JsonSchema({"title": "t", "type": "object"})
    assert first == second
    assert len({first, second}) == 1
    assert first != JsonSchema({"type": "object"})
    assert first != {"type": "object", "title": "t"}


def test_a_schema_survives_pickling_and_copying() -> None:
    schema = JsonSchema(ORDER)
    for twin in (pickle.loads(pickle.dumps(schema)), copy.copy(schema), copy.deepcopy(schema)):
        assert twin == schema
        assert twin.document == ORDER
        assert mismatch(twin, {}).errors == (("$", "'id' is a required property"),)


def test_a_schema_shows_its_title_and_fingerprint() -> None:
    schema = JsonSchema(ORDER)
    assert repr(schema) == f"JsonSchema('Order', fingerprint='{schema.fingerprint}')"


@pytest.mark.parametrize(
    ("document", "keys"),
    [
        ({}, None),
        (ORDER, None),
        ({"additionalProperties": True, "properties": {"a": True}}, None),
        ({"additionalProperties": {}, "properties": {"a": True}}, None),
        ({"unevaluatedProperties": False, "properties": {"a": True}}, None),
        ({"additionalProperties": False, "patternProperties": {"^x": True}}, None),
        ({"additionalProperties": False}, set()),
        ({"additionalProperties": False, "properties": {"a": True, "b": {}}}, {"a", "b"}),
        ({"additionalProperties": False, "properties": {"a": True}, "patternProperties": {}}, {"a"}),
        ({"additionalProperties": False, "properties": {"a": True}, "allOf": [{"properties": {"b": True}}]}, {"a"}),
    ],
)
def test_the_declared_keys_are_known_for_a_closed_object(document: dict[str, Any], keys: set[str] | None) -> None:
    assert JsonSchema(document).declared_keys() == (None if keys is None else frozenset(keys))
