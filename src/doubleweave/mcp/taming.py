"""JSON Schemas of strangers, brought down to what can be checked in a time that their authors cannot stretch."""

from collections.abc import Mapping
from typing import Any

from doubleweave.errors import JsonSchemaDefinitionError
from doubleweave.models.json_values import shortened
from doubleweave.models.pointers import PointerResolutionError, resolve_pointer

_NOTES = ("title", "description", "default", "examples", "deprecated")
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength")
_COUNTS = ("minItems", "maxItems", "minProperties", "maxProperties")
_KEPT = frozenset({*_NOTES, *_BOUNDS, *_COUNTS, "type", "const", "enum", "required"})
_CHOICES = frozenset({"anyOf", "allOf", "oneOf"})
_PARTS, _DEPTH = 1_000, 40
_LETTERS = 1_000
"""So many letters count as a part."""


def tamed(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema that every value matches that matches `document`, without what may take for ever to check.

    Types, names, required keys, enumerations and bounds stay, at every depth, and references are put in place. Patterns and
    formats go, conditions, negations, uniqueness, what recurs, and whatever is beyond 1,000 parts (of 1,000 letters at most)
    or 40 levels; of `oneOf` stays that one at least has to match.

    Raises:
        JsonSchemaDefinitionError: A reference leads out of the document or to no schema.
    """
    made: dict[str, Any] = _Taming(document).tame(document, (), 0)
    return made


class _Taming:
    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = dict(document)
        self._left = _PARTS

    def tame(self, schema: Any, refs: tuple[str, ...], depth: int) -> Any:
        if depth > _DEPTH or not self._has_room_for(1):
            return {}
        if not isinstance(schema, Mapping):
            return schema
        kept = (key for key in schema if key in _KEPT)
        made = {key: schema[key] for key in kept if self._has_room_for(_weight(schema[key], self._left))}
        made.update(self._parts(schema, refs, depth + 1))
        ref = schema.get("$ref")
        return made if ref is None else self._referred(ref, made, refs, depth + 1)

    def _has_room_for(self, parts: int) -> bool:
        if parts > self._left:
            return False
        self._left -= parts
        return True

    def _has_room_to_name(self, properties: Mapping[str, Any]) -> bool:
        # Each takes a part of its own, later.
        return len(properties) <= self._left and self._has_room_for(sum(map(len, properties)) // _LETTERS)

    def _parts(self, schema: Mapping[str, Any], refs: tuple[str, ...], depth: int) -> dict[str, Any]:
        """Return the keywords of a schema that hold others."""
        made: dict[str, Any] = {}
        properties = schema.get("properties")
        has_names = isinstance(properties, Mapping) and self._has_room_to_name(properties)
        if isinstance(properties, Mapping) and has_names:
            made["properties"] = {name: self.tame(each, refs, depth) for name, each in properties.items()}
        # What these two say depends on keywords that go.
        if "items" in schema and "prefixItems" not in schema and not isinstance(schema["items"], list):
            made["items"] = self.tame(schema["items"], refs, depth)
        depends = "patternProperties" in schema or (properties is not None and not has_names)
        if "additionalProperties" in schema and not depends:
            made["additionalProperties"] = self.tame(schema["additionalProperties"], refs, depth)
        for key in _CHOICES & schema.keys():
            is_long = not isinstance(schema[key], list) or len(schema[key]) > self._left
            if not is_long and not (key == "oneOf" and "anyOf" in schema):
                choices = [self.tame(each, refs, depth) for each in schema[key]]
                made["anyOf" if key == "oneOf" else key] = choices
        return made

    def _referred(self, ref: Any, beside: dict[str, Any], refs: tuple[str, ...], depth: int) -> Any:
        if not isinstance(ref, str) or not (ref == "#" or ref.startswith("#/")):
            raise JsonSchemaDefinitionError("$", f"the reference {shortened(repr(ref))} leads out of the document")
        if ref in refs or ref == "#":
            return beside
        try:
            target = resolve_pointer(self._document, ref[1:])
        except PointerResolutionError as error:
            raise JsonSchemaDefinitionError(
                "$", f"the reference {shortened(repr(ref))} leads nowhere: {shortened(error.detail)}"
            ) from error
        made = self.tame(target, (*refs, ref), depth)
        return {"allOf": [made, beside]} if beside else made


def _weight(value: Any, most: int) -> int:
    """Return how many parts are in a value, or any number above `most` where there are more."""
    pending, weight = [value], 0
    while pending and weight <= most:
        each = pending.pop()
        if isinstance(each, str):
            weight += len(each) // _LETTERS
        elif isinstance(each, list | Mapping):
            weight += len(each)
            if weight <= most:
                pending += [*each, *each.values()] if isinstance(each, Mapping) else each
    return weight
