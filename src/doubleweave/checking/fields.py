"""The fields of a schema and their classes, as far as `compile_flow` looks at them."""

import types
from dataclasses import dataclass
from typing import Any, TypeAlias, Union, get_args, get_origin

from pydantic import BaseModel

from doubleweave.models.json_schema import JsonSchema

# None stands for a type that is not known, which fits every other one.
FieldType: TypeAlias = type | None

# Objects and arrays of a document are not of one class: models and dicts, lists and tuples may stand behind them.
_JSON_TYPES: dict[str, type] = {"string": str, "integer": int, "number": float, "boolean": bool}
_WIDENED = {(int, float), (int, complex), (float, complex)}


@dataclass(frozen=True)
class Fields:
    """Fields by name; when they are open there may be others, of which nothing is known."""

    types: dict[str, FieldType]
    required: frozenset[str] = frozenset()
    is_open: bool = False


def input_fields(schema: Any) -> Fields:
    """Return the fields that a schema takes."""
    if isinstance(schema, JsonSchema):
        return _document_fields(schema)
    required = frozenset(name for name, field in schema.model_fields.items() if field.is_required())
    return _model_fields(schema, required)


def output_fields(schema: Any) -> Fields:
    """Return the fields that a schema gives: not those that a model keeps to itself, but those that it computes."""
    if isinstance(schema, JsonSchema):
        return _document_fields(schema)
    fields = _model_fields(schema, frozenset())
    given = {name: kind for name, kind in fields.types.items() if not schema.model_fields[name].exclude}
    computed = {name: field_type(field.return_type) for name, field in schema.model_computed_fields.items()}
    return Fields(given | computed, is_open=fields.is_open)


def field_type(annotation: Any) -> FieldType:
    """Return the class of an annotation: itself, that of an optional one, or that of a generic alias; else None."""
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        others = [each for each in get_args(annotation) if each is not type(None)]
        return field_type(others[0]) if len(others) == 1 else None
    found = annotation if origin is None else origin
    return found if isinstance(found, type) and found is not Any else None


def is_compatible(source: FieldType, target: FieldType) -> bool:
    """Say whether a value of one type can be given where another is wanted; subclasses do not count."""
    return source is None or target is None or source is target or (source, target) in _WIDENED


def _model_fields(model: type[BaseModel], required: frozenset[str]) -> Fields:
    if model.__pydantic_root_model__:
        return Fields({}, is_open=True)
    return Fields({name: field_type(field.annotation) for name, field in model.model_fields.items()}, required)


def _document_fields(schema: JsonSchema) -> Fields:
    document = schema.document
    kinds = {name: _json_type(each) for name, each in document.get("properties", {}).items()}
    return Fields(kinds, frozenset(document.get("required", ())), schema.declared_keys() is None)


def _json_type(schema: Any) -> FieldType:
    named = schema.get("type") if isinstance(schema, dict) else None
    if isinstance(named, list):
        others = [each for each in named if each != "null"]
        named = others[0] if len(others) == 1 else None
    return _JSON_TYPES.get(named) if isinstance(named, str) else None
