"""Keeping secrets out of log lines, callbacks and stored traces."""

import re
from typing import Any

from pydantic import BaseModel, ConfigDict

from doubleweave.models.records import ExecutionResult, StepRecord

DEFAULT_REDACT_KEYS: frozenset[str] = frozenset({"password", "token", "api_key", "apikey", "secret", "authorization"})

_RECOMMENDED_KEYS = DEFAULT_REDACT_KEYS | {
    "access_token",
    "refresh_token",
    "client_secret",
    "private_key",
    "credential",
    "credentials",
    "session_token",
    "cookie",
    "set-cookie",
}
_STRICT_KEYS = _RECOMMENDED_KEYS | {"email", "phone", "ssn", "account", "account_number", "card", "card_number", "pin"}

# The flag is written into the pattern so that it outlives JSON, which keeps only the pattern's text.
_RECOMMENDED_PATTERN = re.compile(
    r"(?i)(?<![a-z0-9])(?:"
    r"bearer\s+[a-z0-9._~+/=-]+"
    r"|[srp]k-[a-z0-9_-]{16,}"
    r"|gh[pousr]_[a-z0-9]{20,}"
    r"|AKIA[a-z0-9]{16}"
    r"|xox[abpsr]-[a-z0-9-]{10,}"
    r")"
)

_DEEPEST = 200
_TRUNCATED = "…(truncated)"


class RedactionPolicy(BaseModel):
    """What to mask: values under certain keys (in any case) entirely, parts of other strings by pattern and length.

    No method changes its argument.
    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    redact_keys: frozenset[str] = DEFAULT_REDACT_KEYS
    redact_pattern: re.Pattern[str] | None = None
    max_value_length: int | None = None
    redact_replacement: str = "***REDACTED***"

    @classmethod
    def recommended(cls) -> "RedactionPolicy":
        """Return a policy for common credentials, by key and by shape, that cuts strings at 4096 characters."""
        return cls(redact_keys=_RECOMMENDED_KEYS, redact_pattern=_RECOMMENDED_PATTERN, max_value_length=4096)

    @classmethod
    def strict(cls) -> "RedactionPolicy":
        """Return the recommended policy with keys of personal data added, cutting strings at 256 characters."""
        return cls(redact_keys=_STRICT_KEYS, redact_pattern=_RECOMMENDED_PATTERN, max_value_length=256)

    def redact(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return a redacted copy of ``data``; dicts, lists and tuples are followed.

        What contains itself, or is nested deeper than 200 levels, is replaced whole.
        """
        keys = frozenset(key.lower() for key in self.redact_keys)
        return self._redact_dict(data, keys)

    def redact_text(self, text: str) -> str:
        """Return ``text`` with pattern and length applied."""
        if self.redact_pattern is not None:
            # A function, because a replacement string would have its backslashes interpreted.
            text = self.redact_pattern.sub(lambda _: self.redact_replacement, text)
        if self.max_value_length is not None and len(text) > self.max_value_length:
            text = text[: self.max_value_length] + _TRUNCATED
        return text

    def redact_step_record(self, record: StepRecord) -> StepRecord:
        """Return a copy of ``record`` with inputs, outputs and the result of its sub-flow redacted."""
        return record.model_copy(
            update={
                "inputs": self.redact(record.inputs),
                "outputs": self._redact_optional(record.outputs),
                "sub_result": None if record.sub_result is None else self.redact_execution_result(record.sub_result),
            }
        )

    def redact_execution_result(self, result: ExecutionResult) -> ExecutionResult:
        """Return a copy of ``result`` with its records, initial input and final output redacted."""
        return result.model_copy(
            update={
                "execution_log": [self.redact_step_record(record) for record in result.execution_log],
                "initial_input": self.redact(result.initial_input),
                "final_output": self._redact_optional(result.final_output),
            }
        )

    def _redact_optional(self, data: dict[str, Any] | None) -> dict[str, Any] | None:
        return None if data is None else self.redact(data)

    def _redact_dict(self, data: dict[Any, Any], keys: frozenset[str], above: tuple[int, ...] = ()) -> dict[Any, Any]:
        inside = (*above, id(data))
        return {
            key: self.redact_replacement
            if isinstance(key, str) and key.lower() in keys
            else self._redact_value(value, keys, inside)
            for key, value in data.items()
        }

    def _redact_value(self, value: Any, keys: frozenset[str], above: tuple[int, ...]) -> Any:
        if isinstance(value, str):
            return self.redact_text(value)
        if not isinstance(value, dict | list | tuple):
            return value
        if id(value) in above or len(above) >= _DEEPEST:
            return self.redact_replacement
        if isinstance(value, dict):
            return self._redact_dict(value, keys, above)
        items = [self._redact_value(item, keys, (*above, id(value))) for item in value]
        return items if isinstance(value, list) else tuple(items)
