"""JSON Schema documents (draft 2020-12) as the schema of a tool's input or output."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from doubleweave.errors import JsonSchemaDefinitionError, JsonSchemaMismatchError
from doubleweave.models.json_values import Path, fault_order, json_path, plain_copy, shortened
from doubleweave.models.quick_check import quick_check, quick_copy


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
        from doubleweave.models.json_schema_check import checked_copy, compiled

        try:
            self._document, in_place = checked_copy(document)
        except JsonSchemaDefinitionError:
            raise
        except Exception as error:  # the checks run into limits of the stack and of `re` in more than one way
            detail = f"the document cannot be checked ({type(error).__name__}: {shortened(str(error))}); simplify it"
            raise JsonSchemaDefinitionError("$", detail) from error
        self._validator = compiled(self._document)
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
        faults: list[tuple[Path, str]] = []
        try:
            copy: dict[str, Any] = plain_copy(value, (), faults)
            if not faults:
                found = self._validator.iter_errors(copy)
                faults = [(tuple(error.absolute_path), shortened(error.message)) for error in found]
        except Exception as error:  # values nested too deeply, numbers that arithmetic cannot handle
            detail = f"the value cannot be checked ({type(error).__name__}: {shortened(str(error))})"
            raise JsonSchemaMismatchError(name, [("$", detail)]) from error
        if faults:
            faults.sort(key=fault_order)
            raise JsonSchemaMismatchError(name, [(json_path(path), message) for path, message in faults])
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
