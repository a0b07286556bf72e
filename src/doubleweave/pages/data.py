"""A run as the page is told of it: plain data, in which every value is already the text that is shown.

Values are JSON texts as Python writes them, for a browser would change large numbers and could not read `NaN`.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from pydantic_core import to_jsonable_python

from doubleweave.models.records import ExecutionResult, StepRecord
from doubleweave.models.redaction import RedactionPolicy
from doubleweave.models.step_index import FLOW_INPUT_STEP_INDEX

Data = dict[str, Any]
# Shorter ones stand in too many words by chance.
_SHORTEST_SECRET = 4


class Curtain:
    """What may be seen of a run: every value and text passes through here, values before the messages that may quote them.

    Args:
        policy: What is masked; None for nothing.
    """

    def __init__(self, policy: RedactionPolicy | None) -> None:
        self._policy = policy
        self._secrets: set[str] = set()

    def plain(self, value: dict[str, Any] | None) -> Any:
        """Return a value in its JSON form, redacted; a text that says why where it has none."""
        plain = _plain(value)
        if self._policy is None or not isinstance(plain, dict):
            return plain
        redacted = self._policy.redact(plain)
        if redacted != plain:
            self._secrets.update(_differing_texts(plain, redacted))
        return redacted

    def value(self, value: dict[str, Any] | None) -> str | None:
        """Return the text of a value, redacted; None for None."""
        return None if value is None else text_of(self.plain(value))

    def text(self, text: str) -> str:
        """Return a message, redacted. What was masked in a value before is masked in it too: errors quote what they refuse."""
        if self._policy is None:
            return text
        # The longest first, for one may be part of another.
        for secret in sorted((each for each in self._secrets if each in text), key=len, reverse=True):
            text = text.replace(secret, self._policy.redact_replacement)
        return self._policy.redact_text(text)


def _plain(value: Any) -> Any:
    try:
        return to_jsonable_python(value, inf_nan_mode="constants", fallback=lambda each: f"<{type(each).__name__}>")
    except (ValueError, RecursionError) as error:
        return f"(cannot be shown: {error})"


def _differing_texts(plain: Any, masked: Any) -> Iterator[str]:
    """Yield the texts below `plain` that are not the same in its redacted copy."""
    if isinstance(plain, dict) and isinstance(masked, dict):
        for key, value in plain.items():
            yield from _differing_texts(value, masked[key])
    elif isinstance(plain, list) and isinstance(masked, list):
        for value, other in zip(plain, masked, strict=True):
            yield from _differing_texts(value, other)
    elif plain != masked:
        yield from (text for text in _texts(plain) if len(text) >= _SHORTEST_SECRET)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def text_of(plain: Any) -> str:
    """Return plain data as indented JSON."""
    return json.dumps(plain, indent=2, ensure_ascii=False)


def offset_ms(time: datetime, start: datetime) -> float:
    """Return the milliseconds from `start` to `time`; a time without a zone is taken for UTC."""
    return round((_aware(time) - _aware(start)).total_seconds() * 1000, 3)


def _aware(time: datetime) -> datetime:
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def run_data(result: ExecutionResult, curtain: Curtain) -> Data:
    """Return what the head of the page says of a run."""
    run = {
        "flow": result.flow_name,
        "version": result.flow_version,
        "state": "ok" if result.success else "failed",
        "dryRun": result.dry_run,
        "trace": result.trace_id,
        "started": _aware(result.started_at).isoformat(timespec="milliseconds"),
        "ended": _aware(result.ended_at).isoformat(timespec="milliseconds"),
        "ms": result.total_duration_ms,
        "inputs": curtain.value(result.initial_input),
        "outputs": curtain.value(result.final_output),
        "cost": _cost(result),
    }
    return {key: value for key, value in run.items() if value not in (None, False)}


def _cost(result: ExecutionResult) -> Data | None:
    report = result.cost_report
    if report is None:
        return None
    profile = report.profile
    model = f"{profile.provider}/{profile.model}" if profile.provider and profile.model else None
    return {
        "steps": report.steps_executed,
        "calls": report.llm_calls_avoided,
        "ms": report.latency_saved_ms,
        "usd": report.cost_saved_usd,
        "model": model,
        "asOf": profile.price_as_of,
    }


def rows_data(result: ExecutionResult, curtain: Curtain) -> list[Data]:
    """Return a row for each record in the order of the log, the records of a sub-flow after that of its step."""
    return list(_rows(result, curtain, result.started_at, "", 0))


def _rows(result: ExecutionResult, curtain: Curtain, start: datetime, prefix: str, depth: int) -> Iterator[Data]:
    seen: dict[str, int] = {}
    for record in result.execution_log:
        id = unused_id(f"{prefix}{record.step_index}", seen)
        yield row_data(record, curtain, start, id, depth)
        if record.sub_result is not None:
            yield from _rows(record.sub_result, curtain, start, f"{id}/", depth + 1)


def unused_id(id: str, seen: dict[str, int]) -> str:
    """Return an id for a row; the second row that wants the same one gets another."""
    seen[id] = count = seen.get(id, 0) + 1
    return id if count == 1 else f"{id}~{count}"


def row_data(record: StepRecord, curtain: Curtain, start: datetime, id: str, depth: int) -> Data:
    """Return the row of a record, without what is not there; times are milliseconds since `start`."""
    row = {
        "id": id,
        "depth": depth,
        "index": record.step_index,
        "name": record.tool_name,
        "check": _check(record),
        "state": _state(record),
        "at": offset_ms(record.started_at, start),
        "end": offset_ms(record.ended_at, start),
        "ms": record.duration_ms,
        "inputs": curtain.value(record.inputs),
        "outputs": curtain.value(record.outputs),
        "retries": record.retry_count,
        "retryErrors": [curtain.text(text) for text in record.retry_errors],
        "cached": record.cached,
        "fallback": record.fallback_used and (record.fallback_tool_name or "yes"),
        "flow": record.flow_name,
        "trace": record.sub_result and record.sub_result.trace_id,
        "error": _error(record, curtain),
        "approval": record.approval and text_of(record.approval.model_dump(mode="json")),
        "decision": record.decision and text_of(record.decision.model_dump(mode="json")),
    }
    needed = ("depth", "index", "at", "end", "ms")
    return {key: value for key, value in row.items() if value or key in needed}


def _check(record: StepRecord) -> str | None:
    """Return which check of the flow a record tells of that is no step."""
    if record.step_index == FLOW_INPUT_STEP_INDEX:
        return "input"
    for what in ("output", "context"):
        if f"flow_{what} '{record.tool_name}'" in (record.error_message or ""):
            return what
    return None


def _state(record: StepRecord) -> str:
    if not record.success:
        return "failed"
    return "skipped" if record.skipped else "ok"


def _error(record: StepRecord, curtain: Curtain) -> Data | None:
    if record.error_type is None and record.error_message is None:
        return None
    return {"type": record.error_type, "code": record.error_code, "message": curtain.text(record.error_message or "")}
