"""JSON Schema documents (draft 2020-12) as the schema of a tool's input or output."""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator, SchemaError
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from doubleweave.errors import JsonSchemaDefinitionError, JsonSchemaMismatchError
from doubleweave.models.quick_check import Schemas, quick_check, quick_copy

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REFERENCES = ("$ref", "$dynamicRef")
_PLAIN_NAME = re.compile(r"[\w$-]+")
_LONGEST_MESSAGE = 400

_Path = tuple[str | int, ...]


class JsonSchema:
    """A JSON Schema document of draft 2020-12 that describes an object. Immutable; equal documents are equal.

    The document is copied, checked and compiled once, at construction. References stay inside the document: nothing is
    ever fetched. `format` is not asserted and `default` is not applied. Patterns are Python regular expressions and may
    run for as long as those can, so take documents from sources that you trust.

    Raises `JsonSchemaDefinitionError`, naming the JSON path inside the document, when it is not a valid schema or not
    plain JSON data, names another draft, cannot describe an object, or holds a `$ref` or `$dynamicRef` that does not
    start with `#` or leads to no schema.
    """

    __slots__ = ("_document", "_fingerprint", "_matches", "_validator")

    def __init__(self, document: Mapping[str, Any]) -> None:
        try:
            self._document, in_place = _checked_copy(document)
        except JsonSchemaDefinitionError:
            raise
        except Exception as error:  # the checks run into limits of the stack and of `re` in more than one way
            detail = f"the document cannot be checked ({type(error).__name__}: {_shortened(str(error))}); simplify it"
            raise JsonSchemaDefinitionError("$", detail) from error
        self._validator = Draft202012Validator(self._document, registry=Registry())
        self._matches = quick_check(self._document, in_place)
        self._fingerprint: str | None = None

    @property
    def document(self) -> dict[str, Any]:
        """The document. It is the object's own: do not change it."""
        return self._document

    @property
    def fingerprint(self) -> str:
        """The first 16 hex digits of SHA-256 over the document as compact JSON with sorted keys."""
        if self._fingerprint is None:
            text = json.dumps(self._document, sort_keys=True, separators=(",", ":"))
            self._fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]
        return self._fingerprint

    def validate(self, value: Any, *, name: str) -> dict[str, Any]:
        """Return a copy of `value` with containers of its own; `name` says in errors whose schema this is.

        Raises `JsonSchemaMismatchError` with all mismatches, sorted by path. Anything but plain JSON data (dicts with
        string keys, lists, strings, finite numbers, booleans, `None`) is a mismatch, as is a value that is no dict.
        """
        if self._matches is not None and type(value) is dict:
            try:
                quick: dict[str, Any] = quick_copy(value)
                if self._matches(quick):
                    return quick
            except Exception:
                # What is wrong, if anything is, will be said below.
                pass
        if not isinstance(value, dict):
            raise JsonSchemaMismatchError(name, [("$", f"an object (dict) is expected, not {type(value).__name__}")])
        faults: list[tuple[_Path, str]] = []
        try:
            copy: dict[str, Any] = _plain_copy(value, (), faults)
            if not faults:
                found = self._validator.iter_errors(copy)
                faults = [(tuple(error.absolute_path), _shortened(error.message)) for error in found]
        except Exception as error:  # values nested too deeply, numbers that arithmetic cannot handle
            detail = f"the value cannot be checked ({type(error).__name__}: {_shortened(str(error))})"
            raise JsonSchemaMismatchError(name, [("$", detail)]) from error
        if faults:
            faults.sort(key=_order)
            raise JsonSchemaMismatchError(name, [(_json_path(path), message) for path, message in faults])
        return copy

    def declared_keys(self) -> frozenset[str] | None:
        """Return the only keys that a matching object can have, or `None` when others are possible too.

        Known for a document with `additionalProperties: false` and without `patternProperties` at the top: other
        keywords can only narrow that.
        """
        if self._document.get("additionalProperties") is not False or self._document.get("patternProperties"):
            return None
        return frozenset(self._document.get("properties", ()))

    def field_types(self) -> dict[str, str]:
        """Return the JSON type of each property, `"Any"` where the document names none."""
        return {name: _type_of(schema) for name, schema in self._document.get("properties", {}).items()}

    def __eq__(self, other: object) -> bool:
        return self.fingerprint == other.fingerprint if isinstance(other, JsonSchema) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        return f"JsonSchema({self._document.get('title', '')!r}, fingerprint={self.fingerprint!r})"

    def __reduce__(self) -> tuple[type["JsonSchema"], tuple[dict[str, Any]]]:
        return JsonSchema, (self._document,)


def _type_of(schema: Any) -> str:
    named = schema.get("type") if isinstance(schema, dict) else None
    return "Any" if named is None else named if isinstance(named, str) else " | ".join(named)


def _checked_copy(document: Mapping[str, Any]) -> tuple[dict[str, Any], Schemas]:
    """Return a copy of a valid document, and its schemas."""
    if not isinstance(document, Mapping):
        detail = f"a JSON Schema document is a dict, not {type(document).__name__}; pass the parsed document"
        raise JsonSchemaDefinitionError("$", detail)
    faults: list[tuple[_Path, str]] = []
    copy: dict[str, Any] = _plain_copy(dict(document), (), faults)
    if faults:
        path, message = faults[0]
        raise JsonSchemaDefinitionError(_json_path(path), f"{message}; use plain JSON data")
    schemas = _check_schemas(copy)
    types = copy.get("type", "object")
    if "object" not in ([types] if isinstance(types, str) else types):
        detail = f"type {types!r} excludes objects; a tool's data is an object, so let type be or include 'object'"
        raise JsonSchemaDefinitionError("$.type", detail)
    return copy, schemas


def _check_schemas(document: dict[str, Any]) -> Schemas:
    """Check the document, and whatever a reference leads to: that may be a place where no schema is expected.

    Returns each schema object with those that its references lead to.
    """
    found: Schemas = []
    root = DRAFT202012.create_resource(document)
    pending: list[tuple[Any, Any]] = [(document, Registry().resolver_with_root(root))]
    seen: set[int] = set()
    while pending:
        start, resolver = pending.pop()
        _check_against_metaschema(document, start)
        schemas = list(_schemas_in(start, resolver, seen))
        for schema, _ in schemas:
            _check_keywords(document, schema)
        for schema, resolver in schemas:
            targets = [_resolved(document, schema, keyword, resolver) for keyword in _REFERENCES if keyword in schema]
            found.append((schema, [target[0] for target in targets]))
            pending.extend(target for target in targets if id(target[0]) not in seen)
    return found


def _check_against_metaschema(document: dict[str, Any], schema: Any) -> None:
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        path = (*_path_of(document, schema), *error.absolute_path)
        detail = f"{_shortened(error.message)}; correct it according to JSON Schema draft 2020-12"
        raise JsonSchemaDefinitionError(_json_path(path), detail) from error


def _schemas_in(start: Any, resolver: Any, seen: set[int]) -> Iterator[tuple[dict[str, Any], Any]]:
    """Yield each schema object from `start` down that is not yet in `seen`, with the resolver for its references."""
    pending = [(start, resolver)]
    while pending:
        schema, resolver = pending.pop()
        if isinstance(schema, dict) and id(schema) not in seen:
            seen.add(id(schema))
            yield schema, resolver
            for part in DRAFT202012.subresources_of(schema):
                pending.append((part, resolver.in_subresource(DRAFT202012.create_resource(part))))


def _check_keywords(document: dict[str, Any], schema: dict[str, Any]) -> None:
    dialect = schema.get("$schema", _DIALECT)
    if dialect.removesuffix("#") != _DIALECT:
        detail = f"{dialect!r} is not supported; write the document in draft 2020-12 ({_DIALECT}) or leave $schema out"
        raise JsonSchemaDefinitionError(_json_path((*_path_of(document, schema), "$schema")), detail)
    for keyword in _REFERENCES:
        reference = schema.get(keyword, "#")
        if not reference.startswith("#"):
            detail = (
                f"{reference!r} leads out of the document; move its target into $defs and refer to '#/$defs/<name>'"
            )
            raise JsonSchemaDefinitionError(_json_path((*_path_of(document, schema), keyword)), detail)


def _resolved(document: dict[str, Any], schema: dict[str, Any], keyword: str, resolver: Any) -> tuple[Any, Any]:
    """Return the schema that a reference leads to and the resolver for the references in there."""
    try:
        target = resolver.lookup(schema[keyword])
    except Exception as error:  # each way in which a pointer can miss has an exception type of its own
        cause: Exception | None = error
    else:
        if isinstance(target.contents, (dict, bool)):
            return target.contents, target.resolver
        cause = None
    detail = f"{schema[keyword]!r} leads to no schema in this document; define its target or correct the reference"
    raise JsonSchemaDefinitionError(_json_path((*_path_of(document, schema), keyword)), detail) from cause


def _path_of(document: dict[str, Any], wanted: Any) -> _Path:
    """Return the path of a container inside the document, found by identity; the root's for anything else."""
    pending: list[tuple[Any, _Path]] = [(document, ())]
    while pending:
        value, path = pending.pop()
        if value is wanted:
            return path
        parts: Iterable[tuple[str | int, Any]] = value.items() if isinstance(value, dict) else enumerate(value)
        pending.extend((part, (*path, key)) for key, part in parts if isinstance(part, (dict, list)))
    return ()


def _plain_copy(value: Any, path: _Path, faults: list[tuple[_Path, str]]) -> Any:
    """Copy the containers of `value` and add to `faults` whatever in it is not JSON."""
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            faults.append((path, f"{value!r} is not a JSON number"))
        return value
    if isinstance(value, list):
        return [_plain_copy(item, (*path, index), faults) for index, item in enumerate(value)]
    if isinstance(value, dict):
        copy = {}
        for key, item in value.items():
            if isinstance(key, str):
                copy[key] = _plain_copy(item, (*path, key), faults)
            else:
                faults.append((path, f"key {key!r} is of type {type(key).__name__}; JSON keys are strings"))
        return copy
    faults.append((path, f"{type(value).__name__} is not a JSON type"))
    return value


def _order(fault: tuple[_Path, str]) -> tuple[list[tuple[bool, int, str]], str]:
    """Sort key: indices by number, names by text, then messages."""
    path, message = fault
    return [(True, 0, part) if isinstance(part, str) else (False, part, "") for part in path], message


def _json_path(path: _Path) -> str:
    return "$" + "".join(_path_part(part) for part in path)


def _path_part(part: str | int) -> str:
    return f".{part}" if isinstance(part, str) and _PLAIN_NAME.fullmatch(part) else f"[{part!r}]"


def _shortened(message: str) -> str:
    """Cut the middle out of a long message, which quotes the whole value at its start."""
    if len(message) <= _LONGEST_MESSAGE:
        return message
    half = _LONGEST_MESSAGE // 2
    return f"{message[:half]} ... {message[-half:]}"
