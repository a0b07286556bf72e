"""What a schema declares about values, as JSON Schema and what JSON Schema cannot say.

`declared` reads a model class or a JSON Schema document. Of a model it asks pydantic for the JSON Schema, with three notes
added where they matter: `python` names the type of a value that is not JSON (a datetime, an enum's member, a set), `limits` holds
what pydantic checks but does not write into the schema, and `strict` says that nothing is converted.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from doubleweave.models.json_schema import JsonSchema

Origin = Literal["output", "input", "raw", "document", "plain"]
"""Where a type stands: what a model's output has (`output`), what a model takes (`input`), what has been checked but not
converted (`raw`), what a JSON Schema document takes and gives (`document`), and a value that is known (`plain`)."""

ANYTHING: dict[str, Any] = {}


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
            yield self.part(ANYTHING if schema is True else {"kind": "opaque"})
        elif "python" in schema:
            yield self.part(schema)
        elif "$ref" in schema:
            yield from self._referred(schema, seen)
        elif branches := schema.get("anyOf") or schema.get("oneOf"):
            rest = {key: value for key, value in schema.items() if key not in _ANNOTATIONS and key not in _UNIONS}
            for branch in branches:
                yield from self._alternatives({"kind": "opaque"} if rest else branch, seen)
        elif "enum" in schema:
            yield from (self.part({"const": value}) for value in schema["enum"])
        elif isinstance(schema.get("type"), list):
            yield from (self.part({**schema, "type": name}) for name in schema["type"])
        else:
            yield self.part(schema)

    def _referred(self, schema: dict[str, Any], seen: set[str]) -> Iterator["Declared"]:
        ref = schema["$ref"]
        rest = schema.keys() - _ANNOTATIONS - {"$ref"}
        target = None if rest or ref in seen else _target(self.document, ref)
        if target is None:
            yield self.part({"kind": "opaque"})
        else:
            yield from self._alternatives(target, {*seen, ref})

    @property
    def kind(self) -> str:
        """What the values of an alternative are: a JSON type, `python`, `const`, `any` or, where that is not known, `opaque`."""
        schema = self.schema
        if "kind" in schema:
            return str(schema["kind"])
        if "python" in schema:
            return "python"
        if "const" in schema:
            return "const"
        # What narrows a type in a way that is not looked into here.
        if not _OPAQUE.isdisjoint(schema):
            return "opaque"
        named = schema.get("type")
        return str(named) if named else "any" if schema.keys() <= _ANNOTATIONS else "opaque"

    @property
    def is_loose(self) -> bool:
        """Whether a value has been checked but not converted, so that it may be of another type that converts."""
        return self.origin == "raw" and not (isinstance(self.schema, dict) and self.schema.get("strict"))

    @property
    def converts(self) -> bool:
        """Whether a taker of this type converts what it is given, as pydantic does unless it is strict."""
        return self.origin == "input" and not self.schema.get("strict")


_UNIONS = {"anyOf", "oneOf", "discriminator"}
_ANNOTATIONS = {
    *("title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment", "$defs"),
    *("definitions", "$schema", "$id", "strict", "limits"),
}
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


def _target(document: Any, ref: str) -> Any:
    if not ref.startswith("#"):
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
    schema = _schema_of(source, origin)
    return Declared(schema, schema, origin)


@lru_cache(maxsize=1024)
def _schema_of(model: type[BaseModel], origin: Origin) -> dict[str, Any]:
    mode: Literal["serialization", "validation"] = "serialization" if origin == "output" else "validation"
    try:
        return model.model_json_schema(mode=mode, schema_generator=_Annotated)
    except Exception:
        # Whatever a class makes of its own schema, of it nothing is known.
        return {"kind": "opaque"}


class _Annotated(GenerateJsonSchema):
    """JSON Schemas with `python`, `limits` and `strict`."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._configs: list[dict[str, Any]] = [{}]

    def generate_inner(self, schema: Any) -> Any:
        kind = schema["type"]
        if kind == "model":
            with self._inside(schema.get("config", {})):
                document = super().generate_inner(schema)
        else:
            document = super().generate_inner(schema)
        if "$ref" in document or kind in _WRAPPERS or self._is_serialized_otherwise(schema):
            return document
        return {**document, **self._notes(kind, schema, document)}

    def enum_schema(self, schema: Any) -> Any:
        return {**super().enum_schema(schema), **self._notes("enum", schema, {})}

    def model_schema(self, schema: Any) -> Any:
        config = schema.get("config", {})
        by_name = config.get("populate_by_name") or config.get("validate_by_name")
        # Then a field has two names, of which a JSON Schema can only have one.
        return {**super().model_schema(schema), **({"by_name": True} if by_name else {})}

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> Any:
        return {"python": f"not JSON: {error_info}", "unserialisable": True}

    def emit_warning(self, kind: Any, detail: str) -> None:
        """Say nothing: a default that has no JSON form does not matter here."""

    def field_is_required(self, field: Any, total: bool) -> bool:
        # Every field of a model is written out, defaults too.
        written = self.mode == "serialization" and field["type"] != "typed-dict-field"
        return written or super().field_is_required(field, total)

    def ser_schema(self, schema: Any) -> Any:
        # A serializer for JSON only says nothing of what `model_dump` gives.
        return None if str(schema.get("when_used", "")).startswith("json") else super().ser_schema(schema)

    @contextmanager
    def _inside(self, config: dict[str, Any]) -> Iterator[None]:
        """Describe a model by its own settings: what its fields are called, and whether it is strict."""
        outer = self.by_alias
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
        config = self._configs[-1]
        notes: dict[str, Any] = {}
        if "format" in document:
            # A class of its own, like an IP address or a path, that pydantic describes as a text.
            notes["python"] = f"format {document['format']}"
        if kind in _PYTHON_TYPES:
            cls = schema.get("cls")
            notes["python"] = kind if cls is None else f"{kind} {cls.__module__}.{cls.__qualname__}"
        if kind == "dict" and (keys := schema.get("keys_schema", {"type": "any"})["type"]) != "str":
            notes["python"] = f"dict of {keys}"
        if schema.get("strict", config.get("strict", False)):
            notes["strict"] = True
        limits = {key: schema[key] for key in schema.keys() - _VISIBLE.get(kind, set()) - _NO_LIMITS}
        if kind == "str":
            limits |= {key: value for key, value in config.items() if key.startswith("str_")}
        if limits and kind in {*_VISIBLE, *_PYTHON_TYPES}:
            notes["limits"] = repr(sorted(limits.items()))
        return notes


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
    *("microseconds_precision", "variadic_item_index"),
}
