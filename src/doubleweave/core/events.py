"""The hook calls of a run as a series of events."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from doubleweave.models.events import FlowEvent, FlowEventKind
from doubleweave.models.hooks import (
    FlowEndContext,
    FlowStartContext,
    StepChunkContext,
    StepEndContext,
    StepStartContext,
)
from doubleweave.models.trusted import trusted


class EventCollector:
    """Middleware that passes each hook call of a run, and of the runs below it, on as an event.

    Some may come after the end of the outermost run, from flows that a tool runs which was left behind.
    """

    def __init__(self, put: Callable[[FlowEvent], None], now: Callable[[], datetime]) -> None:
        self._put = put
        self._now = now

    def on_flow_start(self, ctx: FlowStartContext) -> None:
        """Pass on the start of a run."""
        self._pass_on(
            "flow_start",
            ctx,
            flow_version=ctx.flow_version,
            initial_input=dict(ctx.initial_input),
            total_steps=ctx.total_steps,
        )

    def on_step_start(self, ctx: StepStartContext) -> None:
        """Pass on the start of a step."""
        self._pass_on("step_start", ctx, step_index=ctx.step_index, tool_name=ctx.tool_name, inputs=dict(ctx.inputs))

    def on_step_chunk(self, ctx: StepChunkContext) -> None:
        """Pass on a chunk of a streaming tool."""
        self._pass_on("step_chunk", ctx, step_index=ctx.step_index, tool_name=ctx.tool_name, chunk=ctx.chunk)

    def on_step_end(self, ctx: StepEndContext) -> None:
        """Pass on the end of a step."""
        record = ctx.step_record
        self._pass_on("step_end", ctx, step_index=record.step_index, tool_name=record.tool_name, step_record=record)

    def on_flow_end(self, ctx: FlowEndContext) -> None:
        """Pass on the end of a run."""
        self._pass_on("flow_end", ctx, result=ctx.result)

    def _pass_on(self, kind: FlowEventKind, ctx: Any, **fields: Any) -> None:
        given = {"kind": kind, "flow_name": ctx.flow_name, "trace_id": ctx.trace_id, "timestamp": self._now(), **fields}
        # Events of a kind share it.
        fields_set = _FIELDS_SET.get(kind) or _FIELDS_SET.setdefault(kind, set(given))
        self._put(trusted(FlowEvent, {**_NOTHING, **given}, fields_set))


_NOTHING = dict.fromkeys(FlowEvent.model_fields)
_FIELDS_SET: dict[FlowEventKind, set[str]] = {}
