"""Middleware: the hooks of a run and what each is given.

Hooks are plain functions, called on the thread or task that drives the run. The dicts in a context are the hook's own
shallow copies; changing them does not reach the run.
"""

from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict

from doubleweave.models.chunks import ToolChunk
from doubleweave.models.records import ExecutionResult, StepRecord


class _Context(BaseModel):
    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)


class FlowStartContext(_Context):
    """Given to ``on_flow_start``, before the first step of a run."""

    trace_id: str
    flow_name: str
    flow_version: str
    initial_input: dict[str, Any]
    started_at: datetime
    total_steps: int


class StepStartContext(_Context):
    """Given to ``on_step_start``, when a step's inputs are known and its tool has not been called yet."""

    trace_id: str
    flow_name: str
    step_index: int
    tool_name: str
    inputs: dict[str, Any]
    started_at: datetime


class StepChunkContext(_Context):
    """Given to ``on_step_chunk``, for each chunk of a streaming tool, the final one included."""

    trace_id: str
    flow_name: str
    step_index: int
    tool_name: str
    chunk: ToolChunk


class AttemptEndContext(_Context):
    """Given to ``on_attempt_end``, for each call of the tool of a step that has a retry policy; `attempt` counts from 1."""

    trace_id: str
    flow_name: str
    step_index: int
    tool_name: str
    attempt: int
    started_at: datetime
    ended_at: datetime
    error_type: str | None
    error_message: str | None


class StepEndContext(_Context):
    """Given to ``on_step_end``, once for each executed step, whatever its outcome."""

    trace_id: str
    flow_name: str
    step_record: StepRecord


class FlowEndContext(_Context):
    """Given to ``on_flow_end``, once for each run, whatever its outcome."""

    trace_id: str
    flow_name: str
    result: ExecutionResult


@runtime_checkable
class FlowExecutorMiddleware(Protocol):
    """The hooks of a middleware. ``on_step_chunk`` and ``on_attempt_end`` are optional and therefore not among them."""

    def on_flow_start(self, ctx: FlowStartContext) -> None:
        """Called before the first step."""
        ...

    def on_step_start(self, ctx: StepStartContext) -> None:
        """Called before a step's tool."""
        ...

    def on_step_end(self, ctx: StepEndContext) -> None:
        """Called after a step."""
        ...

    def on_flow_end(self, ctx: FlowEndContext) -> None:
        """Called after the last step, or when the run stops earlier."""
        ...


class BaseMiddleware:
    """A middleware whose hooks do nothing; override those of interest."""

    def on_flow_start(self, ctx: FlowStartContext) -> None:
        """Called before the first step."""

    def on_step_start(self, ctx: StepStartContext) -> None:
        """Called before a step's tool."""

    def on_step_chunk(self, ctx: StepChunkContext) -> None:
        """Called for each chunk of a streaming tool."""

    def on_attempt_end(self, ctx: AttemptEndContext) -> None:
        """Called after each call of a tool that may be retried, before the delay."""

    def on_step_end(self, ctx: StepEndContext) -> None:
        """Called after a step."""

    def on_flow_end(self, ctx: FlowEndContext) -> None:
        """Called after the last step, or when the run stops earlier."""
