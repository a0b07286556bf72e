"""Checking and compiling JSON Schema documents with `jsonschema`; imported when the first one is made, for it is large."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator, SchemaError
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from doubleweave.errors import JsonSchemaDefinitionError
from doubleweave.models.json_values import Path, json_path, plain_copy, shortened
from doubleweave.models.quick_check import Schemas

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REFERENCES = ("$ref", "$dynamicRef")


def compiled(document: dict[str, Any]) -> Any:
    """Return the validator of a checked document; nothing is ever fetched for it."""
    return Draft202012Validator(document, registry=Registry())


def checked_copy(document: Mapping[str, Any]) -> tuple[dict[str, Any], Schemas]:
    """Return a copy of a valid document, and its schemas."""
    if not isinstance(document, Mapping):
        detail = f"a JSON Schema document is a dict, not {type(document).__name__}; pass the parsed document"
        raise JsonSchemaDefinitionError("$", detail)
    faults: list[tuple[Path, str]] = []
    copy: dict[str, Any] = plain_copy(dict(document), (), faults)
    if faults:
        path, message = faults[0]
        raise JsonSchemaDefinitionError(json_path(path), f"{message}; use plain JSON data")
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
        detail = f"{shortened(error.message)}; correct it according to JSON Schema draft 2020-12"
        raise JsonSchemaDefinitionError(json_path(path), detail) from error


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
        raise JsonSchemaDefinitionError(json_path((*_path_of(document, schema), "$schema")), detail)
    for keyword in _REFERENCES:
        reference = schema.get(keyword, "#")
        if not reference.startswith("#"):
            detail = (
                f"{reference!r} leads out of the document; move its target into $defs and refer to '#/$defs/<name>'"
            )
            raise JsonSchemaDefinitionError(json_path((*_path_of(document, schema), keyword)), detail)


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
    raise JsonSchemaDefinitionError(json_path((*_path_of(document, schema), keyword)), detail) from cause


def _path_of(document: dict[str, Any], wanted: Any) -> Path:
    """Return the path of a container inside the document, found by identity; the root's for anything else."""
    pending: list[tuple[Any, Path]] = [(document, ())]
    while pending:
        value, path = pending.pop()
        if value is wanted:
            return path
        parts: Iterable[tuple[str | int, Any]] = value.items() if isinstance(value, dict) else enumerate(value)
        pending.extend((part, (*path, key)) for key, part in parts if isinstance(part, (dict, list)))
    return ()
