"""What a schema declares about values, as JSON Schema and what JSON Schema cannot say.

`declared` reads a model class or a JSON Schema document. Of a model it asks pydantic for the JSON Schema, with notes
added where they matter: `python` names the type of a value that is not JSON (a datetime, an enum's member, a set), `limits` holds
what pydantic checks but does not write into the schema, and `strict` says that nothing is converted.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from doubleweave.models.json_schema import JsonSchema

Origin = Literal["output", "input", "raw", "document", "plain"]
"""Where a type stands: what a model's output has (`output`), what a model takes (`input`), what has been checked but not
converted (`raw`), what a JSON Schema document takes and gives (`document`), and a value that is known (`plain`)."""

ANYTHING: dict[str, Any] = {}

# Notes stand among the keywords of a schema, under names that no document can have.
NOTE_KIND, NOTE_PYTHON, NOTE_LIMITS, NOTE_STRICT = "\0kind", "\0python", "\0limits", "\0strict"
NOTE_BY_NAME, NOTE_UNSERIALISABLE, NOTE_STRIPS, NOTE_COERCES = "\0by name", "\0not JSON", "\0strips", "\0coerces"


@dataclass(frozen=True)
class Declared:
    """A schema inside its document, whose definitions `$ref` leads to."""

    schema: Any
    document: Any
    origin: Origin

    def part(self, schema: Any) -> "Declared":
        """Return another schema of the same document."""
        return Declared(schema, self.document, self.origin)

    def alternatives(self) -> Iterator["Declared"]:
        """Yield the schemas of which a value matches one; each has a kind."""
        yield from self._alternatives(self.schema, set())

    def _alternatives(self, schema: Any, seen: set[str]) -> Iterator["Declared"]:
        if not isinstance(schema, dict):
            yield self.part(ANYTHING if schema is True else {NOTE_KIND: "opaque"})
        elif NOTE_PYTHON in schema:
            yield self.part(schema)
        elif "$ref" in schema:
            yield from self._referred(schema, seen)
        elif branches := schema.get("anyOf") or schema.get("oneOf"):
            # Of the branches of a document's `oneOf` only one may match.
            narrowed = schema.keys() & _ASSERTIONS or ("oneOf" in schema and self.origin == "document")
            for branch in [{NOTE_KIND: "opaque"}] if narrowed or {"anyOf", "oneOf"} <= schema.keys() else branches:
                yield from self._alternatives(branch, seen)
        elif "enum" in schema or "const" in schema:
            narrowed = (
                bool(schema.keys() & (_ASSERTIONS - {"enum", "const", "type"}))
                or len(schema.keys() & {"enum", "const"}) > 1
            )
            for value in schema.get("enum", [schema.get("const")]):
                yield self.part({NOTE_KIND: "opaque"} if narrowed else {"const": value})
        elif isinstance(schema.get("type"), list):
            yield from (self.part({**schema, "type": name}) for name in schema["type"])
        else:
            yield self.part(schema)

    def _referred(self, schema: dict[str, Any], seen: set[str]) -> Iterator["Declared"]:
        ref = schema["$ref"]
        rest = schema.keys() & (_ASSERTIONS - {"$ref"})
        target = None if rest or ref in seen else _target(self.document, ref)
        if target is None:
            yield self.part({NOTE_KIND: "opaque"})
        elif target == {} and ref.endswith("/JsonValue"):
            # pydantic describes it as anything.
            yield self.part({NOTE_KIND: "JSON"})
        else:
            yield from self._alternatives(target, {*seen, ref})

    @property
    def kind(self) -> str:
        """What the values of an alternative are: a JSON type, `python`, `const`, `any` or, where that is not known, `opaque`."""
        schema = self.schema
        if NOTE_KIND in schema:
            return str(schema[NOTE_KIND])
        if NOTE_PYTHON in schema:
            return "python"
        if "const" in schema:
            return "const"
        # What narrows a type in a way that is not looked into here.
        if not _OPAQUE.isdisjoint(schema):
            return "opaque"
        named = schema.get("type")
        return str(named) if named else "opaque" if schema.keys() & _ASSERTIONS else "any"

    @property
    def is_loose(self) -> bool:
        """Whether a value has been checked but not converted, so that it may be of another type that converts."""
        return self.origin == "raw" and not (isinstance(self.schema, dict) and self.schema.get(NOTE_STRICT))

    @property
    def converts(self) -> bool:
        """Whether a taker of this type converts what it is given, as pydantic does unless it is strict."""
        return self.origin == "input" and not self.schema.get(NOTE_STRICT)


_OPAQUE = {
    *("allOf", "not", "if", "then", "else", "$dynamicRef", "dependentSchemas", "dependentRequired", "contains"),
    *(
        "unevaluatedProperties",
        "unevaluatedItems",
        "patternProperties",
        "propertyNames",
        "minProperties",
        "maxProperties",
    ),
}


_ASSERTIONS = {
    *(
        "type",
        "enum",
        "const",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minLength",
        "maxLength",
    ),
    *(
        "pattern",
        "items",
        "prefixItems",
        "minItems",
        "maxItems",
        "uniqueItems",
        "properties",
        "required",
        "additionalProperties",
    ),
    *("$ref", NOTE_KIND, NOTE_PYTHON, NOTE_LIMITS, *_OPAQUE),
}


def _target(document: Any, ref: str) -> Any:
    if ref != "#" and not ref.startswith("#/"):
        return None
    found = document
    for token in ref[1:].split("/")[1:]:
        token = token.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, dict) or token not in found:
            return None
        found = found[token]
    return found


def declared(source: type[BaseModel] | JsonSchema, origin: Origin) -> Declared:
    """Return what a tool's schema declares; nothing of the tool is called."""
    if isinstance(source, JsonSchema):
        return Declared(source.document, source.document, "document")
    own = source.model_dump if origin == "output" else source.model_validate
    plain = own is BaseModel.model_dump if origin == "output" else getattr(own, "__func__", None) is _VALIDATE
    # What a class of one's own makes of it is not in its schema.
    schema = _schema_of(source, origin) if plain else {NOTE_KIND: "opaque"}
    return Declared(schema, schema, origin)


_VALIDATE = getattr(BaseModel.model_validate, "__func__", None)


@lru_cache(maxsize=1024)
def _schema_of(model: type[BaseModel], origin: Origin) -> dict[str, Any]:
    mode: Literal["serialization", "validation"] = "serialization" if origin == "output" else "validation"
    try:
        return model.model_json_schema(mode=mode, schema_generator=_Annotated)
    except Exception:
        # Whatever a class makes of its own schema, of it nothing is known.
        return {NOTE_KIND: "opaque"}


class _Annotated(GenerateJsonSchema):
    """JSON Schemas with `python`, `limits` and `strict`."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._configs: list[dict[str, Any]] = [{}]

    def generate_inner(self, schema: Any) -> Any:
        kind = schema["type"]
        if kind in ("model", "dataclass", "typed-dict"):
            with self._inside(schema.get("config", {}), kind == "model"):
                document = super().generate_inner(schema)
        else:
            document = super().generate_inner(schema)
        if kind == "default" and self.mode == "serialization" and schema.get("default", ...) is None:
            # A default is not validated.
            return {"anyOf": [document, {"type": "null"}]}
        if not document and kind != "any" and kind not in _WRAPPERS and not kind.startswith("function"):
            # What is described as anything, and is not.
            return {NOTE_KIND: "opaque", **({NOTE_UNSERIALISABLE: True} if kind in _NO_JSON else {})}
        if "$ref" in document or kind in _WRAPPERS or self._is_serialized_otherwise(schema):
            return document
        return {**document, **self._notes(kind, schema, document)}

    def call_schema(self, schema: Any) -> Any:
        # A named tuple.
        return {**super().call_schema(schema), NOTE_PYTHON: f"call {schema.get('function_name', '')}"}

    def dataclass_schema(self, schema: Any) -> Any:
        # A strict one takes instances only.
        strict = schema.get("config", {}).get("strict") and self.mode == "validation"
        return {**super().dataclass_schema(schema), **({NOTE_KIND: "opaque"} if strict else {})}

    def enum_schema(self, schema: Any) -> Any:
        return {**super().enum_schema(schema), **self._notes("enum", schema, {})}

    def model_schema(self, schema: Any) -> Any:
        config = schema.get("config", {})
        fields = schema["schema"].get("fields", {}) if isinstance(schema.get("schema"), dict) else {}
        by_name = config.get("populate_by_name") or config.get("validate_by_name")
        by_name = by_name or any(isinstance(each.get("validation_alias"), list) for each in fields.values())
        # Then a field has two names, of which a JSON Schema can only have one.
        return {**super().model_schema(schema), **({NOTE_BY_NAME: True} if by_name else {})}

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> Any:
        return {NOTE_PYTHON: f"not JSON: {error_info}", NOTE_UNSERIALISABLE: True}

    def emit_warning(self, kind: Any, detail: str) -> None:
        """Say nothing: a default that has no JSON form does not matter here."""

    def field_is_required(self, field: Any, total: bool) -> bool:
        # Every field of a model is written out, defaults too.
        written = self.mode == "serialization" and field["type"] != "typed-dict-field"
        if "serialization_exclude_if" in field:
            return False
        return written or super().field_is_required(field, total)

    def ser_schema(self, schema: Any) -> Any:
        # A serializer for JSON only says nothing of what `model_dump` gives.
        usual = "json-unless-none" if schema.get("type") in ("to-string", "format") else "always"
        if str(schema.get("when_used", usual)).startswith("json"):
            return None
        found = super().ser_schema(schema)
        # What a function without a return type writes, nobody knows.
        own = not _is_of_pydantic(schema.get("function"))
        writes = found is None and own and schema.get("type") in ("function-plain", "function-wrap")
        return {NOTE_KIND: "opaque"} if writes else found

    @contextmanager
    def _inside(self, config: dict[str, Any], is_model: bool) -> Iterator[None]:
        """Describe a class by its own settings: what its fields are called, and whether it is strict."""
        outer = self.by_alias
        config = {**({} if is_model else self._configs[-1]), **config}
        by_name = config.get("populate_by_name") or config.get("validate_by_name")
        self.by_alias = bool(config.get("serialize_by_alias")) if self.mode == "serialization" else not by_name
        self._configs.append(config)
        try:
            yield
        finally:
            self._configs.pop()
            self.by_alias = outer

    def _is_serialized_otherwise(self, schema: Any) -> bool:
        return (
            self.mode == "serialization" and self.ser_schema(schema.get("serialization", {"type": "none"})) is not None
        )

    def _notes(self, kind: str, schema: Any, document: Any) -> dict[str, Any]:
        config = {**self._configs[-1], **schema}
        notes: dict[str, Any] = {}
        if (python := self._python_type(kind, schema, document)) is not None:
            notes[NOTE_PYTHON] = python
        if config.get("strict", False):
            notes[NOTE_STRICT] = True
        if kind == "str":
            notes |= {NOTE_COERCES: True} if config.get("coerce_numbers_to_str") else {}
            rewritten = any(config.get(f"{prefix}{key}") for prefix in ("", "str_") for key in _REWRITES)
            notes |= {NOTE_STRIPS: True} if rewritten else {}
        if kind in _NO_JSON:
            notes[NOTE_UNSERIALISABLE] = True
        limits = {key: schema[key] for key in schema.keys() - _VISIBLE.get(kind, set()) - _NO_LIMITS}
        if kind == "str":
            limits |= {key: config[key] for key in ("str_max_length", "str_min_length") if key in config}
        if limits and kind in {*_VISIBLE, *_PYTHON_TYPES}:
            notes[NOTE_LIMITS] = repr(sorted(limits.items()))
        return notes

    def _python_type(self, kind: str, schema: Any, document: Any) -> str | None:
        """Name the type of a value that is not JSON, or may not be."""
        if "format" in document and kind != "str":
            # A class of its own, like an IP address or a path, that pydantic describes as a text.
            classes = sorted(set(re.findall(r"<class '([^']+)'>", repr(schema))))
            return f"format {' '.join([document['format'], *classes])}"
        if kind == "json" and self.mode == "serialization":
            # What was read out of the text is written.
            return None
        if kind in _PYTHON_TYPES:
            cls = schema.get("cls")
            return kind if cls is None else f"{kind} {cls.__module__}.{cls.__qualname__}"
        if kind == "literal" and any(
            not isinstance(each, _JSON_CLASSES) or isinstance(each, Enum) for each in schema["expected"]
        ):
            return f"literal {schema['expected']!r}"
        if kind == "dict":
            keys = {
                key: value for key, value in schema.get("keys_schema", {"type": "any"}).items() if key != "metadata"
            }
            return None if keys["type"] == "str" else f"dict of {keys if len(keys) > 1 else keys['type']}"
        unclear = kind not in _CLEAR or (
            kind.startswith("function-") and _is_of_pydantic(schema["function"]["function"])
        )
        if unclear and NOTE_PYTHON not in document:
            return f"{kind} {json.dumps(document, sort_keys=True, default=str)}"
        return None


def _is_of_pydantic(function: Any) -> bool:
    return str(getattr(function, "__module__", "")).startswith("pydantic")


_NO_JSON = {"bytes", "is-subclass", "is-instance", "callable", "generator"}
_REWRITES = ("strip_whitespace", "to_lower", "to_upper")
_JSON_CLASSES = (str, int, float, type(None))
# What a JSON Schema describes as it is, or what says nothing of its own.
_CLEAR = {
    *(
        "str",
        "int",
        "float",
        "bool",
        "none",
        "any",
        "literal",
        "list",
        "dict",
        "model",
        "typed-dict",
        "dataclass",
        "json",
    ),
    *("function-before", "function-after", "function-wrap", "function-plain", "definition-ref", "model-fields"),
    *(
        "model-field",
        "dataclass-args",
        "dataclass-field",
        "typed-dict-field",
        "default",
        "nullable",
        "union",
        "tagged-union",
    ),
    *("definitions", "computed-field", "missing-sentinel"),
}
_PYTHON_TYPES = {
    *("datetime", "date", "time", "timedelta", "uuid", "url", "multi-host-url", "decimal", "bytes", "complex", "enum"),
    *("set", "frozenset", "tuple", "is-instance", "is-subclass", "callable", "generator", "call", "json"),
}
_WRAPPERS = {"model-field", "default", "nullable", "union", "model", "model-fields", "definitions", "tagged-union"}
_VISIBLE = {
    "str": {"min_length", "max_length", "pattern"},
    "int": {"ge", "gt", "le", "lt", "multiple_of"},
    "float": {"ge", "gt", "le", "lt", "multiple_of", "allow_inf_nan"},
    "bool": set(),
    "list": {"min_length", "max_length"},
    "dict": {"min_length", "max_length"},
    "set": {"min_length", "max_length"},
    "frozenset": {"min_length", "max_length"},
    "tuple": {"min_length", "max_length"},
}
# What says nothing of the values, or is said elsewhere.
_NO_LIMITS = {
    *("type", "ref", "metadata", "serialization", "strict", "schema", "items_schema", "keys_schema", "values_schema"),
    *("cls", "cls_repr", "members", "missing", "sub_type", "coerce_numbers_to_str", "regex_engine", "fail_fast"),
    *("microseconds_precision", "variadic_item_index", *_REWRITES),
}
