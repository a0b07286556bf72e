"""The JSON Schema of flow files, for editors and for checks outside Python."""

import json
from typing import Any

from doubleweave.models.flow_files import KINDS
from doubleweave.models.product import PRODUCT

SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"
SCHEMA_ID = f"https://{PRODUCT}.dev/schemas/flow.schema.json"
FILE_MATCH_PATTERNS = ("**/*.flow.json", "**/*.flow.yaml", "**/*.flow.yml")

_REF = "#/$defs/{model}"
_KIND = "Which kind of flow this is: steps in the order of the list, or by their dependencies."
_FORMAT_VERSION = (
    "The version of the shape of this file, not of the flow. Files with another major version are refused."
)


def flow_schema_json() -> dict[str, Any]:
    """Return the JSON Schema of flow files. Keys that it does not declare are allowed, as reading passes over them.

    Raises:
        ValueError: Two models of one name have different schemas.
    """
    definitions: dict[str, Any] = {}
    for name, model in KINDS.items():
        schema = model.model_json_schema(ref_template=_REF)
        _merge(definitions, schema.pop("$defs", {}))
        _merge(definitions, {name: _as_file(name, schema)})
    return {
        "$schema": SCHEMA_DIALECT,
        "$id": SCHEMA_ID,
        "title": "Flow file",
        "description": f"A flow of {PRODUCT}: named, versioned steps, each of which calls a tool or runs another flow.",
        "oneOf": [{"$ref": _REF.format(model=name)} for name in KINDS],
        "$defs": definitions,
    }


def flow_schema_text() -> str:
    """Return the JSON Schema of flow files as the text of the file that is kept."""
    return json.dumps(flow_schema_json(), indent=2, sort_keys=True) + "\n"


def _as_file(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Add the keys that a file has beside the fields of its model."""
    added = {
        "type": {"type": "string", "const": name, "description": _KIND},
        "format_version": {"type": "string", "description": _FORMAT_VERSION},
    }
    return {
        **schema,
        "title": name,
        "properties": {**schema["properties"], **added},
        "required": [*schema["required"], "type"],
    }


def _merge(definitions: dict[str, Any], more: dict[str, Any]) -> None:
    for name, schema in more.items():
        if definitions.setdefault(name, schema) != schema:
            raise ValueError(f"two models have the name {name!r} and different schemas")
