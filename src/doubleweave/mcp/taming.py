"""JSON Schemas of strangers, brought down to what can be checked in a time that their authors cannot stretch."""

from collections.abc import Mapping
from typing import Any

from doubleweave.errors import JsonSchemaDefinitionError
from doubleweave.models.pointers import PointerResolutionError, resolve_pointer

_KEPT = frozenset(
    "title description default examples deprecated type enum const required minimum maximum exclusiveMinimum exclusiveMaximum "
    "multipleOf minLength maxLength minItems maxItems minProperties maxProperties".split()
)
_NODES, _DEPTH, _CHOICES = 2_000, 40, 20


def tamed(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema that every value matches that matches `document`, without what may take for ever to check.

    Types, names, required keys, enumerations and bounds stay, at every depth, and references are put in place. Patterns and
    formats go, conditions, negations, uniqueness, what recurs, and whatever is beyond 2,000 parts or 40 levels; of `oneOf`
    stays that one at least has to match.

    Raises:
        JsonSchemaDefinitionError: A reference leads out of the document or to no schema.
    """
    made: dict[str, Any] = _Taming(document).tame(document, (), 0)
    return made


class _Taming:
    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = dict(document)
        self._nodes = 0

    def tame(self, schema: Any, refs: tuple[str, ...], depth: int) -> Any:
        self._nodes += 1
        if not isinstance(schema, Mapping):
            return schema
        if self._nodes > _NODES or depth > _DEPTH:
            return {}
        made = {key: value for key, value in schema.items() if key in _KEPT}
        for key, value in schema.items():
            kept = self._part(key, value, schema, refs, depth + 1)
            if kept is not None:
                made["anyOf" if key == "oneOf" and "anyOf" not in schema else key] = kept
        ref = schema.get("$ref")
        if ref is not None:
            return self._referred(ref, made, refs, depth + 1)
        return made

    def _part(self, key: str, value: Any, around: Mapping[str, Any], refs: tuple[str, ...], depth: int) -> Any:
        """Return what stays of a keyword that holds schemas; None for nothing."""
        if key == "properties" and isinstance(value, Mapping):
            return {name: self.tame(each, refs, depth) for name, each in value.items()}
        if key == "items" and isinstance(value, Mapping | bool) and "prefixItems" not in around:
            return self.tame(value, refs, depth)
        if key == "additionalProperties" and "patternProperties" not in around:
            return self.tame(value, refs, depth)
        is_choice = key in ("anyOf", "allOf") or (key == "oneOf" and "anyOf" not in around)
        if is_choice and isinstance(value, list) and len(value) <= _CHOICES:
            return [self.tame(each, refs, depth) for each in value]
        return None

    def _referred(self, ref: Any, beside: dict[str, Any], refs: tuple[str, ...], depth: int) -> dict[str, Any]:
        if not isinstance(ref, str) or not (ref == "#" or ref.startswith("#/")):
            raise JsonSchemaDefinitionError("$", f"the reference {ref!r} leads out of the document")
        if ref in refs or ref == "#":
            return beside
        try:
            target = resolve_pointer(self._document, ref[1:])
        except PointerResolutionError as error:
            raise JsonSchemaDefinitionError("$", f"the reference {ref!r} leads nowhere: {error.detail}") from error
        made = self.tame(target, (*refs, ref), depth)
        if not isinstance(made, dict) or not beside:
            return made if isinstance(made, dict) else beside
        return {**made, **beside} if made.keys().isdisjoint(beside) else {"allOf": [made, beside]}
