"""The trace of a run: one record a step, one result a run."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, model_validator

from doubleweave.errors import error_code_for
from doubleweave.models.callbacks import ApprovalRecord, DecisionRecord
from doubleweave.models.cost import CostReport
from doubleweave.models.flows import Direction
from doubleweave.models.trusted import set_values, trusted, values_of
from doubleweave.models.versions import TRACE_SCHEMA_VERSION


class StepRecord(BaseModel):
    """What one step did. Errors are kept as text: class name, stable code and message; durations are milliseconds.

    ``error_code`` follows from ``error_type`` unless given.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, ser_json_inf_nan="constants")

    step_index: int
    tool_name: str
    inputs: dict[str, Any]
    outputs: dict[str, Any] | None = None
    error_type: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    success: bool = True
    started_at: datetime
    ended_at: datetime
    duration_ms: float
    retry_count: int = 0
    retry_errors: list[str] = Field(default_factory=list)
    skipped: bool = False
    cached: bool = False
    fallback_used: bool = False
    fallback_tool_name: str | None = None
    flow_name: str | None = None
    sub_result: ExecutionResult | None = None
    approval: ApprovalRecord | None = None
    decision: DecisionRecord | None = None

    @model_validator(mode="after")
    def _fill_error_code(self) -> StepRecord:
        if self.error_code is None and self.error_type is not None:
            self.error_code = error_code_for(self.error_type)
        return self

    def _repr_html_(self) -> str:
        """Return what a notebook shows of the record. As `record_to_html`."""
        from doubleweave.models.html import record_to_html

        return record_to_html(self)


class ExecutionResult(BaseModel):
    """What one run did: its records in order, its final context, its times and, when asked for, its cost estimate.

    The records of a run are built when somebody looks at them first.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, ser_json_inf_nan="constants")

    trace_schema_version: str = TRACE_SCHEMA_VERSION
    flow_name: str
    flow_version: str
    success: bool
    final_output: dict[str, Any] | None
    execution_log: list[StepRecord] = Field(default_factory=list)
    trace_id: str
    started_at: datetime
    ended_at: datetime
    total_duration_ms: float
    cost_report: CostReport | None = None
    initial_input: dict[str, Any] = Field(default_factory=dict)
    dry_run: bool = False

    def __repr__(self) -> str:
        # Event loops take the repr of a finished task, result and all, each time they are run; a full one costs 20 us a record.
        outcome = "success" if self.success else "failure"
        records = len(values_of(self)["execution_log"])
        return f"<ExecutionResult of '{self.flow_name}': {outcome}, {records} records, trace {self.trace_id}>"

    def to_mermaid(self, *, direction: Direction = "LR") -> str:
        """Return the records as a Mermaid graph. As `result_to_mermaid`."""
        from doubleweave.models.drawing import result_to_mermaid

        return result_to_mermaid(self, direction=direction)

    def _repr_html_(self) -> str:
        """Return what a notebook shows of the result. As `result_to_html`."""
        from doubleweave.models.html import result_to_html

        return result_to_html(self)

    def model_dump_json(self, **how: Any) -> str:
        """Return the result as JSON. As `pydantic.BaseModel.model_dump_json`."""
        log = values_of(self)["execution_log"]
        if how or type(log) is not UnseenLog or log.is_seen:
            return super().model_dump_json(**how)
        from doubleweave.models.log_json import result_json

        return result_json(self, log.entries)

    # Whatever reads the instance as a whole reads this, pydantic's own serializer too, also when it stands in another model.
    @property
    def __dict__(self) -> dict[str, Any]:
        values: dict[str, Any] = values_of(self)
        if type(values.get("execution_log")) is UnseenLog:
            values["execution_log"] = values["execution_log"].records()
        return values

    @__dict__.setter
    def __dict__(self, values: dict[str, Any]) -> None:
        set_values(self, values)


class Recorded(Protocol):
    """What a record can be built of."""

    @property
    def is_plain(self) -> bool:
        """Whether the record is not built yet, and will say no more than that a tool succeeded: as `core.draft.Draft` does."""

    @property
    def record(self) -> StepRecord:
        """The record; the same one each time."""

    def kept(self) -> Recorded:
        """Return a copy that no later change of the record reaches."""


class UnseenLog:
    """The records of a run before somebody looks at them."""

    __slots__ = ("_built", "entries")

    def __init__(self, entries: list[Any]) -> None:
        self.entries: list[Recorded] = entries
        self._built: list[list[StepRecord]] = []

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def is_seen(self) -> bool:
        """Whether somebody has looked at the records, and may have changed them."""
        return bool(self._built)

    def records(self) -> list[StepRecord]:
        """Return the records; the same list each time, whichever thread asks first."""
        if not self._built:
            self._built.append([entry.record for entry in self.entries])
        return self._built[0]


class _Log:
    """The attribute `execution_log`, read through the instance's `__dict__`."""

    def __get__(self, result: ExecutionResult | None, owner: type) -> list[StepRecord]:
        if result is None:
            # As for every other field.
            raise AttributeError("execution_log")
        log: list[StepRecord] = result.__dict__["execution_log"]
        return log

    def __set__(self, result: ExecutionResult, log: list[StepRecord]) -> None:
        values_of(result)["execution_log"] = log


ExecutionResult.execution_log = _Log()  # type: ignore[assignment]  # reads as the field does
StepRecord.model_rebuild()

# In the order of the fields; what a record must have and `retry_errors` are still to be filled in.
DEFAULTS = {name: field.get_default() for name, field in StepRecord.model_fields.items()}
_RECORD_FIELDS = set(DEFAULTS)
_RESULT_FIELDS = set(ExecutionResult.model_fields)


def trusted_result(
    *,
    flow_name: str,
    flow_version: str,
    success: bool,
    final_output: dict[str, Any] | None,
    execution_log: list[Any],
    trace_id: str,
    started_at: datetime,
    ended_at: datetime,
    total_duration_ms: float,
    cost_report: CostReport | None,
    initial_input: dict[str, Any],
    dry_run: bool,
) -> ExecutionResult:
    """Return the result of a run without validating; the values are kept themselves, not copied.

    `execution_log` holds what is `Recorded`.
    """
    values = {
        "trace_schema_version": TRACE_SCHEMA_VERSION,
        "flow_name": flow_name,
        "flow_version": flow_version,
        "success": success,
        "final_output": final_output,
        "execution_log": UnseenLog(execution_log),
        "trace_id": trace_id,
        "started_at": started_at,
        "ended_at": ended_at,
        "total_duration_ms": total_duration_ms,
        "cost_report": cost_report,
        "initial_input": initial_input,
        "dry_run": dry_run,
    }
    return trusted(ExecutionResult, values, _RESULT_FIELDS)


def trusted_record(values: dict[str, Any]) -> StepRecord:
    """Return the record that has `values` as its own dict."""
    return trusted(StepRecord, values, _RECORD_FIELDS)


def own_copy(record: StepRecord) -> StepRecord:
    """Return a copy of a record with dicts and a list of its own."""
    outputs = None if record.outputs is None else dict(record.outputs)
    own = {"inputs": dict(record.inputs), "outputs": outputs, "retry_errors": list(record.retry_errors)}
    return record.model_copy(update=own)


def trusted_step_record(**given: Any) -> StepRecord:
    """Return the record that the validating constructor would return, without validating.

    A run makes its records in this way, because validating them would take longer than all the rest that it does around a
    cheap tool. The caller vouches for the types. The record keeps the given dicts and list themselves, not copies; all its fields
    count as set.
    """
    record = trusted_record({**DEFAULTS, "retry_errors": [], **given})
    if record.error_type is not None and record.error_code is None:
        record.error_code = error_code_for(record.error_type)
    return record


def failed_step_record(
    step_index: int, name: str, inputs: dict[str, Any], error: Exception, now: datetime, **given: Any
) -> StepRecord:
    """Return the record of something that failed at `now`, in no time."""
    return trusted_step_record(
        step_index=step_index,
        tool_name=name,
        inputs=inputs,
        started_at=now,
        ended_at=now,
        duration_ms=0.0,
        success=False,
        error_type=type(error).__name__,
        error_message=str(error),
        **given,
    )
