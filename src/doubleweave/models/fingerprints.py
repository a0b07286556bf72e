"""Short, stable hashes of schemas, by which a changed tool is noticed."""

import hashlib
import json
from typing import Any

from pydantic import BaseModel


def schema_dict_fingerprint(schema: dict[str, Any]) -> str:
    """Return 16 hex digits that depend on the content of a JSON Schema, not on the order of its keys."""
    text = json.dumps(schema, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def schema_fingerprint(model: type[BaseModel]) -> str:
    """Return the fingerprint of a model's JSON Schema."""
    return schema_dict_fingerprint(model.model_json_schema())
