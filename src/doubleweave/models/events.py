"""The events of a streamed run."""

from datetime import datetime
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from doubleweave.models.chunks import ToolChunk
from doubleweave.models.records import ExecutionResult, StepRecord

FlowEventKind: TypeAlias = Literal["flow_start", "step_start", "step_chunk", "step_end", "flow_end"]


class FlowEvent(BaseModel):
    """One thing that happened in a run; fields that do not belong to its ``kind`` are ``None``."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    kind: FlowEventKind
    flow_name: str
    trace_id: str
    timestamp: datetime
    flow_version: str | None = None
    initial_input: dict[str, Any] | None = None
    total_steps: int | None = None
    step_index: int | None = None
    tool_name: str | None = None
    inputs: dict[str, Any] | None = None
    step_record: StepRecord | None = None
    chunk: ToolChunk | None = None
    result: ExecutionResult | None = None
