"""The trace of a run: one record a step, one result a run."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from doubleweave.errors import error_code_for
from doubleweave.models.callbacks import ApprovalRecord, DecisionRecord
from doubleweave.models.cost import CostReport
from doubleweave.models.versions import TRACE_SCHEMA_VERSION


class StepRecord(BaseModel):
    """What one step did. Errors are kept as text: class name, stable code and message; durations are milliseconds.

    ``error_code`` follows from ``error_type`` unless given.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

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


class ExecutionResult(BaseModel):
    """What one run did: its records in order, its final context, its times and, when asked for, its cost estimate."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

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
        return f"<ExecutionResult of '{self.flow_name}': {outcome}, {len(self.execution_log)} records, trace {self.trace_id}>"


StepRecord.model_rebuild()

# A run makes one record a step, from values it has just produced itself; validating them again would take longer than
# all the rest that a run does around a cheap tool. A model instance is its four slots, so they are filled directly, and
# the values start as a copy of a template, which is cheaper than writing out a dict of this size.
_new = object.__new__
_set_values = BaseModel.__dict__["__dict__"].__set__
_set_fields_set = BaseModel.__dict__["__pydantic_fields_set__"].__set__
_set_extra = BaseModel.__dict__["__pydantic_extra__"].__set__
_set_private = BaseModel.__dict__["__pydantic_private__"].__set__
_copy_of_template = {name: field.get_default() for name, field in StepRecord.model_fields.items()}.copy
_copy_of_all_fields = set(StepRecord.model_fields).copy


def trusted_step_record(
    step_index: int,
    tool_name: str,
    inputs: dict[str, Any],
    outputs: dict[str, Any] | None,
    started_at: datetime,
    ended_at: datetime,
    duration_ms: float,
    *,
    error_type: str | None = None,
    error_message: str | None = None,
    success: bool = True,
    retry_count: int = 0,
    retry_errors: list[str] | None = None,
    skipped: bool = False,
    cached: bool = False,
    fallback_used: bool = False,
    fallback_tool_name: str | None = None,
    flow_name: str | None = None,
    sub_result: ExecutionResult | None = None,
    approval: ApprovalRecord | None = None,
    decision: DecisionRecord | None = None,
) -> StepRecord:
    """Return the record that the validating constructor would return, without validating.

    The caller vouches for the types. The record keeps the given dicts and list themselves, not copies; all its fields
    count as set.
    """
    values = _copy_of_template()
    values["step_index"] = step_index
    values["tool_name"] = tool_name
    values["inputs"] = inputs
    values["outputs"] = outputs
    if error_type is not None:
        values["error_type"] = error_type
        values["error_code"] = error_code_for(error_type)
    values["error_message"] = error_message
    values["success"] = success
    values["started_at"] = started_at
    values["ended_at"] = ended_at
    values["duration_ms"] = duration_ms
    values["retry_count"] = retry_count
    values["retry_errors"] = [] if retry_errors is None else retry_errors
    values["skipped"] = skipped
    values["cached"] = cached
    values["fallback_used"] = fallback_used
    values["fallback_tool_name"] = fallback_tool_name
    values["flow_name"] = flow_name
    values["sub_result"] = sub_result
    values["approval"] = approval
    values["decision"] = decision
    record = _new(StepRecord)
    _set_values(record, values)
    _set_fields_set(record, _copy_of_all_fields())
    _set_extra(record, None)
    _set_private(record, None)
    return record


def failed_capability_record(step_index: int, name: str, error: Exception, now: datetime) -> StepRecord:
    """Return the record of a capability step that nobody could run."""
    return trusted_step_record(
        step_index,
        name,
        {},
        None,
        now,
        now,
        0.0,
        success=False,
        error_type=type(error).__name__,
        error_message=str(error),
    )
