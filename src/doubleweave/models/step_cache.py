"""What a step cache is and what its keys are made of."""

import hashlib
import json
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict

from doubleweave.models.trusted import trusted


class StepCacheKey(BaseModel):
    """Identifies the output of a tool for one input. Any change of a tool's schemas or schema version changes it."""

    model_config = ConfigDict(frozen=True)

    tool_name: str
    schema_hash: str
    input_value_hash: str

    @property
    def digest(self) -> str:
        """The three parts joined with `|`."""
        return f"{self.tool_name}|{self.schema_hash}|{self.input_value_hash}"


_KEY_FIELDS = set(StepCacheKey.model_fields)


def trusted_key(tool_name: str, schema_hash: str, input_value_hash: str) -> StepCacheKey:
    """Return the key that the constructor would, without validating."""
    values = {"tool_name": tool_name, "schema_hash": schema_hash, "input_value_hash": input_value_hash}
    return trusted(StepCacheKey, values, _KEY_FIELDS)


@runtime_checkable
class StepCache(Protocol):
    """Keeps the validated outputs of tools.

    Methods may be plain or coroutine functions; plain ones are called where they may block. A cache that never blocks may
    say so with an attribute `inline = True`, and is then called on the thread that drives the run.

    What `get` returns is validated by the tool's output schema, so that text becomes a date again; a cache that gives back
    the objects themselves says `keeps_objects = True`. A cache may have `read_back(output)`, which returns what `get` would
    give for an output without keeping it: an output that would come back as another one is then not kept.
    """

    def get(self, key: StepCacheKey) -> Any:
        """Return the output kept under a key, or None."""
        ...

    def set(self, key: StepCacheKey, output: dict[str, Any]) -> Any:
        """Keep an output."""
        ...

    def clear(self) -> Any:
        """Forget everything."""
        ...


def compute_input_value_hash(validated: Any) -> str:
    """Return the SHA-256 hex digest of a validated input: of a model's JSON, or of the canonical JSON of plain data.

    Raises:
        ValueError, TypeError: The input has no JSON form (`pydantic_core.PydanticSerializationError` is a `ValueError`).
    """
    if isinstance(validated, BaseModel):
        text = validated.model_dump_json()
    else:
        text = json.dumps(validated, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
