"""Runs as OpenTelemetry spans and measurements: while they run, as middleware, or from a finished result.

The parent of a flow's span is the span that is current where the run is asked for, if there is one; that of a step's span is the
flow's; that of a sub-flow's span is the span of its step. No span is ever made the current one. Needs the extra `otel`.
"""

import asyncio
import threading
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from doubleweave.models.hooks import (
    AttemptEndContext,
    BaseMiddleware,
    FlowEndContext,
    FlowStartContext,
    StepEndContext,
    StepStartContext,
)
from doubleweave.models.product import PRODUCT
from doubleweave.models.records import ExecutionResult, StepRecord
from doubleweave.models.step_index import FLOW_INPUT_STEP_INDEX

try:
    from opentelemetry.context import Context, get_current
    from opentelemetry.metrics import Meter
    from opentelemetry.trace import Span, Status, StatusCode, Tracer, set_span_in_context
except ImportError as error:
    raise ImportError(f'{__name__} needs OpenTelemetry: pip install "{PRODUCT}[otel]"', name=error.name) from error

_OfRun = StepStartContext | StepEndContext | FlowEndContext | ExecutionResult


class OTelTraceExporter(BaseMiddleware):
    """Middleware that makes a span of each run and each of its steps, with the times of the records.

    One instance serves any number of runs and executors at once, and keeps nothing of a run that has ended. A step without
    a record, because its run ended before it, has a span too. Steps that a resumed run took over are not told again.

    Args:
        tracer: Makes the spans.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._runs: dict[str, _LiveRun] = {}
        # The step that started last on a thread or task, while it runs.
        self._newest: dict[object, _LiveStep] = {}
        # The run by whose tool a run is called. Hooks and tools are called in the run's own copy of its caller's context, so
        # this is seen there, and not by a sub-flow, which the engine itself calls.
        self._caller: ContextVar[str | None] = ContextVar(f"{PRODUCT}_otel_caller", default=None)

    def on_flow_start(self, ctx: FlowStartContext) -> None:
        """Start the span of a run."""
        caller = self._caller.get()
        parent = self._parent(caller)
        span = _start_flow(self._tracer, parent, ctx, ctx.total_steps)
        self._runs[ctx.trace_id] = _LiveRun(span, parent, caller)
        self._caller.set(ctx.trace_id)

    def on_step_start(self, ctx: StepStartContext) -> None:
        """Start the span of a step."""
        run = self._runs.get(ctx.trace_id)
        if run is None:
            return
        step = _LiveStep(run, _start_step(self._tracer, run.context, ctx, ctx), _strand())
        self._newest[step.strand] = run.open[ctx.step_index] = step

    def on_attempt_end(self, ctx: AttemptEndContext) -> None:
        """Make the span of one call of a step's tool."""
        run = self._runs.get(ctx.trace_id)
        step = None if run is None else run.open.get(ctx.step_index)
        if run is None or step is None:
            return
        attributes = {
            "attempt.number": ctx.attempt,
            "attempt.error": ctx.error_message,
            "attempt.error_type": ctx.error_type,
        }
        parent = set_span_in_context(step.span, run.context)
        span = _start(self._tracer, f"attempt.{ctx.tool_name}", parent, attributes, ctx.started_at)
        if ctx.error_type is not None:
            span.set_status(Status(StatusCode.ERROR, ctx.error_message))
        span.end(_nanoseconds(ctx.ended_at))

    def on_step_end(self, ctx: StepEndContext) -> None:
        """End the span of a step, or make it when its start was not told."""
        run, record = self._runs.get(ctx.trace_id), ctx.step_record
        if run is None:
            return
        run.told.add(record.step_index)
        step = run.open.pop(record.step_index, None)
        if step is None:
            _end_step(_start_step(self._tracer, run.context, ctx, record), record)
        else:
            self._forget(step)
            _end_step(step.span, record)

    def on_flow_end(self, ctx: FlowEndContext) -> None:
        """End the span of a run, after those of steps that did not end and those of records that no hook was told."""
        run, result = self._runs.pop(ctx.trace_id, None), ctx.result
        if run is None:
            return
        for step in run.open.values():
            self._forget(step)
            step.span.set_status(Status(StatusCode.ERROR, "The run ended before the step did."))
            step.span.end(_nanoseconds(result.ended_at))
        for record in result.execution_log:
            if record.step_index not in run.told and _nanoseconds(record.started_at) >= run.began:
                _end_step(_start_step(self._tracer, run.context, ctx, record), record)
        _end_flow(run.span, result)

    def _parent(self, caller: str | None) -> Context:
        """Return the context of a run that starts here.

        A sub-flow starts where its step has just done so, with nothing between the two; and whatever called the one run has
        called the other. A flow that a tool runs is called by its step's run.
        """
        step = self._newest.get(_strand())
        if step is None or step.run.caller != caller:
            return get_current()
        return set_span_in_context(step.span, step.run.context)

    def _forget(self, step: "_LiveStep") -> None:
        if self._newest.get(step.strand) is step:
            del self._newest[step.strand]


class OTelMetricsMiddleware(BaseMiddleware):
    """Middleware that counts and times runs and steps. One instance serves any number of runs and executors at once.

    Args:
        meter: Makes the instruments.
    """

    def __init__(self, meter: Meter) -> None:
        self._instruments = _Instruments(meter)
        self._lengths: dict[str, int] = {}

    def on_flow_start(self, ctx: FlowStartContext) -> None:
        """Take note of the number of steps."""
        self._lengths[ctx.trace_id] = ctx.total_steps

    def on_step_end(self, ctx: StepEndContext) -> None:
        """Measure a step."""
        self._instruments.measure_step(ctx.flow_name, ctx.step_record)

    def on_flow_end(self, ctx: FlowEndContext) -> None:
        """Measure a run, and the failed check of its input or output, which is a record that no hook was told."""
        length = self._lengths.pop(ctx.trace_id, None)
        for record in ctx.result.execution_log[-1:]:
            if record.step_index == FLOW_INPUT_STEP_INDEX or record.step_index == length:
                self._instruments.measure_step(ctx.flow_name, record)
        self._instruments.measure_run(ctx.result)


def export_result_to_otel(result: ExecutionResult, *, tracer: Tracer) -> None:
    """Make the spans of a finished run, those of its sub-flows included, as children of the current span.

    They are those of `OTelTraceExporter`, but for what a result does not tell: how many steps a flow has that failed, steps
    without a record, and when attempts were made, so that these are events of their step instead of spans. Steps that a
    resumed run took over are among them.
    """
    _export_run(tracer, get_current(), result)


def export_result_to_otel_metrics(result: ExecutionResult, *, meter: Meter) -> None:
    """Make the measurements of a finished run, those of its sub-flows included, as `OTelMetricsMiddleware` does."""
    _measure(_Instruments(meter), result)


class _LiveRun:
    """The span of a run that goes on, and what is known of its steps."""

    __slots__ = ("began", "caller", "context", "open", "span", "told")

    def __init__(self, span: Span, parent: Context, caller: str | None) -> None:
        self.span = span
        self.context = set_span_in_context(span, parent)
        self.caller = caller
        # Of records that started earlier, another run has told.
        self.began = _nanoseconds(datetime.now(UTC))
        self.open: dict[int, _LiveStep] = {}
        self.told: set[int] = set()


class _LiveStep:
    """The span of a step that runs, and the thread or task that started it."""

    __slots__ = ("run", "span", "strand")

    def __init__(self, run: _LiveRun, span: Span, strand: object) -> None:
        self.run = run
        self.span = span
        self.strand = strand


class _Instruments:
    """The instruments of a meter."""

    def __init__(self, meter: Meter) -> None:
        self._flow_executions = meter.create_counter(f"{PRODUCT}.flow.executions", description="Runs of flows")
        self._flow_duration = meter.create_histogram(f"{PRODUCT}.flow.duration", unit="ms", description="Time of a run")
        self._executions = meter.create_counter(f"{PRODUCT}.step.executions", description="Steps that ran")
        self._duration = meter.create_histogram(f"{PRODUCT}.step.duration", unit="ms", description="Time of a step")
        self._cache = meter.create_counter(f"{PRODUCT}.step.cache", description="Steps by whether the cache had them")
        self._retries = meter.create_counter(f"{PRODUCT}.step.retries", description="Calls of tools that were repeated")

    def measure_run(self, result: ExecutionResult) -> None:
        """Measure a run as a whole."""
        flow = {"flow_name": result.flow_name}
        self._flow_executions.add(1, _named({**flow, "success": result.success}))
        self._flow_duration.record(result.total_duration_ms, _named(flow))

    def measure_step(self, flow_name: str, record: StepRecord) -> None:
        """Measure a step, unless it was skipped."""
        if record.skipped:
            return
        step = {"flow_name": flow_name, "tool_name": record.tool_name}
        outcome = _named({**step, "success": record.success})
        self._executions.add(1, outcome)
        self._duration.record(record.duration_ms, outcome)
        self._cache.add(1, _named({**step, "cache_hit": record.cached}))
        if record.retry_count > 0:
            self._retries.add(record.retry_count, _named(step))


def _measure(instruments: _Instruments, result: ExecutionResult) -> None:
    for record in result.execution_log:
        instruments.measure_step(result.flow_name, record)
        if record.sub_result is not None:
            _measure(instruments, record.sub_result)
    instruments.measure_run(result)


def _export_run(tracer: Tracer, parent: Context, result: ExecutionResult) -> None:
    log = result.execution_log
    total_steps = (log[-1].step_index + 1 if log else 0) if result.success else None
    span = _start_flow(tracer, parent, result, total_steps)
    context = set_span_in_context(span, parent)
    for record in log:
        step = _start_step(tracer, context, result, record)
        if record.sub_result is not None:
            _export_run(tracer, set_span_in_context(step, context), record.sub_result)
        _add_attempts(step, record)
        _end_step(step, record)
    _end_flow(span, result)


def _start_flow(
    tracer: Tracer, parent: Context, run: FlowStartContext | ExecutionResult, total_steps: int | None
) -> Span:
    attributes = {
        "trace_id": run.trace_id,
        "flow_name": run.flow_name,
        "flow_version": run.flow_version,
        "total_steps": total_steps,
    }
    return _start(tracer, f"flow.{run.flow_name}", parent, attributes, run.started_at)


def _start_step(tracer: Tracer, parent: Context, run: _OfRun, step: StepStartContext | StepRecord) -> Span:
    attributes = {
        "trace_id": run.trace_id,
        "flow_name": run.flow_name,
        "step_index": step.step_index,
        "tool_name": step.tool_name,
        # A record does not tell inputs that are not known from none.
        "step.input_keys": sorted(map(str, step.inputs)) or None,
    }
    return _start(tracer, f"tool.{step.tool_name}", parent, attributes, step.started_at)


def _start(tracer: Tracer, name: str, parent: Context, attributes: dict[str, Any], started_at: datetime) -> Span:
    given = _named(attributes)
    return tracer.start_span(f"{PRODUCT}.{name}", parent, attributes=given, start_time=_nanoseconds(started_at))


def _end_flow(span: Span, result: ExecutionResult) -> None:
    span.set_attributes(_named({"success": result.success, "total_duration_ms": result.total_duration_ms}))
    if not result.success:
        span.set_status(Status(StatusCode.ERROR))
    span.end(_nanoseconds(result.ended_at))


def _end_step(span: Span, record: StepRecord) -> None:
    attributes = {
        "step.success": record.success,
        "step.duration_ms": record.duration_ms,
        "step.retry_count": record.retry_count,
        "step.cached": record.cached,
        "step.skipped": record.skipped,
        "step.error_type": None if record.success else record.error_type,
    }
    span.set_attributes(_named(attributes))
    ended_at = _nanoseconds(record.ended_at)
    if not record.success:
        span.set_status(Status(StatusCode.ERROR, record.error_message))
    span.end(ended_at)


def _add_attempts(span: Span, record: StepRecord) -> None:
    """Add an event for each call of a retried step's own tool; they bear the time of its end, for a record has no other."""
    ended_at = _nanoseconds(record.ended_at)
    for number in range(record.retry_count + 1 if record.retry_count else 0):
        error = record.retry_errors[number] if number < len(record.retry_errors) else None
        attributes = _named({"attempt.number": number + 1, "attempt.error": error})
        span.add_event(f"{PRODUCT}.attempt", attributes, ended_at)


def _named(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return what is known of some attributes under their full names."""
    return {f"{PRODUCT}.{name}": value for name, value in attributes.items() if value is not None}


def _nanoseconds(time: datetime) -> int:
    """Return a time as OpenTelemetry counts it, exact to the microsecond that it has."""
    return round(time.timestamp() * 1e6) * 1000


def _strand() -> object:
    """Return what cannot do two things at once, and does this one: a task or a thread."""
    try:
        return asyncio.current_task() or threading.get_ident()
    except RuntimeError:
        return threading.get_ident()
