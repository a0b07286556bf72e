"""One run: its identity, its state, and the one way in which it ends."""

import logging
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from doubleweave.core.effects import Lane
from doubleweave.core.hooks import Hook, call_hooks, hooks_of
from doubleweave.core.merge import heeds_collisions
from doubleweave.core.plan import Plan, PlannedStep
from doubleweave.core.scope import CURRENT_SCOPE, Scope
from doubleweave.core.setup import Setup, logger, moment
from doubleweave.errors import FlowCancelledError
from doubleweave.models.cancellation import CancellationToken
from doubleweave.models.cost import CostReport, compute_cost_report
from doubleweave.models.flows import AnyFlow
from doubleweave.models.hooks import (
    AttemptEndContext,
    FlowEndContext,
    FlowStartContext,
    StepEndContext,
    StepStartContext,
)
from doubleweave.models.log_lines import text_of
from doubleweave.models.records import ExecutionResult, Recorded, StepRecord, trusted_result
from doubleweave.models.trusted import trusted_of


@dataclass(slots=True)
class Start:
    """Where in a flow a run begins, and with what, when that is not the flow's beginning.

    `level` counts levels of a DAG, or steps of a linear flow. `earlier` are records of the steps before it that belong into
    snapshots but not into the result. The run takes the containers over.
    """

    level: int
    context: dict[str, Any]
    log: list[Recorded]
    earlier: list[StepRecord] = field(default_factory=list)
    deactivated: set[int] = field(default_factory=set)
    trace_id: str | None = None
    started_at: datetime | None = None


@dataclass(slots=True)
class Request:
    """What a caller asks for: a flow, its input, and the terms of the run. Nobody changes it."""

    flow_name: str
    initial_input: dict[str, Any]
    version: str | None = None
    force: bool = False
    deadline: float | None = None
    cancel_token: CancellationToken | None = None
    scope: Scope = field(default_factory=Scope)
    composition_checked: bool = False
    start: Start | None = None
    call_tool: Callable[..., Any] | None = None


class Run:
    """The state of one run. Only the driver of the run touches it; what it hands out are copies or values."""

    __slots__ = (
        "_hashes",
        "_perf_start",
        "call_context",
        "call_tool",
        "cancel_token",
        "cancellable",
        "checkpointer",
        "context",
        "deactivated",
        "deadline",
        "decisions",
        "defers",
        "earlier_log",
        "ended",
        "first_context",
        "first_level",
        "flow",
        "flow_started_at",
        "guards_tools",
        "hooks",
        "initial_input",
        "kept",
        "lane",
        "life_of_run",
        "limits_effects",
        "log",
        "logs_steps",
        "merged",
        "merges_silently",
        "perf_counter",
        "plan",
        "policies",
        "resumed",
        "scope",
        "scope_of_hooks",
        "setup",
        "step_cache",
        "time",
        "trace_id",
    )

    def __init__(
        self, setup: Setup, request: Request, flow: AnyFlow, plan: Plan, life_of_run: Callable[..., Any], lane: Lane
    ) -> None:
        self.setup = setup
        # Handed in, because a step that is a sub-flow needs it and stands below it.
        self.life_of_run = life_of_run
        self.policies = setup.policies
        self.flow = flow
        self.plan = plan
        self.scope = scope = request.scope
        self.scope_of_hooks = replace(scope, middleware=()) if scope.middleware else scope
        self.initial_input = dict(request.initial_input)
        self.deadline = request.deadline
        self.cancel_token = request.cancel_token
        self.cancellable = request.deadline is not None or request.cancel_token is not None
        start = request.start or Start(0, {**request.initial_input, **request.scope.dynamic_params}, [])
        self.resumed = request.start is not None
        self.first_level = start.level
        self.context = start.context
        self.log = start.log
        self.deactivated = start.deactivated
        self.decisions = 0
        self.ended = False
        self.hooks = hooks_of((*setup.middleware, *request.scope.middleware))
        writes = not request.scope.dry_run
        self.checkpointer = setup.policies.checkpointer if writes else None
        # For snapshots: what the context was made of, so that it need not be copied after each step.
        self.earlier_log = start.earlier
        self.first_context = start.context.copy()
        self.merged: list[dict[str, Any]] = []
        self.kept: list[Recorded] = []
        self.defers: bool | None = None
        self.step_cache = setup.policies.step_cache if writes and not request.scope.replay else None
        self.logs_steps = logger.isEnabledFor(logging.INFO)
        # Nobody wants to know what the context is made of, so that a merge is one update of a dict.
        self.merges_silently = self.checkpointer is None and not heeds_collisions(flow.on_context_collision, logger)
        self.guards_tools = setup.policies.guardrail_callback is not None
        self.limits_effects = setup.policies.max_side_effect_level is not None
        self.lane = lane
        self.call_tool: Any = request.call_tool or lane.call_alone
        self.call_context = copy_context()
        self.call_context.run(CURRENT_SCOPE.set, request.scope)
        self.time = setup.clock.time
        self.perf_counter = setup.clock.perf_counter
        self.trace_id = start.trace_id or setup.clock.new_trace_id()
        self.flow_started_at = start.started_at or setup.clock.now()
        self._perf_start = self.perf_counter()
        self._hashes: dict[str, str] | None = None

    def begin(self) -> None:
        """Say that the run has begun, in the log and to the hooks."""
        flow = self.flow
        logger.info("Flow '%s' START | version=%s | trace_id=%s", flow.name, flow.version, self.trace_id)
        if self.hooks.flow_start:
            self.tell(
                self.hooks.flow_start,
                FlowStartContext,
                flow_version=flow.version,
                initial_input=dict(self.initial_input),
                started_at=self.flow_started_at,
                total_steps=len(flow.steps),
            )

    def step_started(self, step: PlannedStep, tool_name: str, inputs: dict[str, Any], started_at: Any) -> None:
        """Tell the hooks that a step starts."""
        if self.hooks.step_start:
            self.tell(
                self.hooks.step_start,
                StepStartContext,
                step_index=step.index,
                tool_name=tool_name,
                inputs=dict(inputs),
                started_at=started_at,
            )

    def attempt_ended(
        self, index: int, tool_name: str, attempt: int, started: float, error: BaseException | None
    ) -> None:
        """Tell the hooks that a tool that may be retried was called, from `started` on, in seconds since the epoch."""
        if self.hooks.attempt_end:
            self.tell(
                self.hooks.attempt_end,
                AttemptEndContext,
                step_index=index,
                tool_name=tool_name,
                attempt=attempt,
                started_at=moment(started),
                ended_at=self.setup.clock.now(),
                error_type=None if error is None else type(error).__name__,
                error_message=None if error is None else text_of(error),
            )

    def step_ended(self, step: Recorded) -> None:
        """Tell the hooks that a step has ended."""
        if self.hooks.step_end:
            self.tell(self.hooks.step_end, StepEndContext, step_record=step.record)

    def tell(self, listeners: tuple[Hook, ...], kind: type[BaseModel], **values: Any) -> None:
        """Call hooks in the context of the run: tools see what they set, and flows that they run inherit its scope.

        They do not inherit its own middleware, for they are not part of what the run does.
        """
        payload = trusted_of(kind, trace_id=self.trace_id, flow_name=self.flow.name, **values)
        self.call_context.run(self._call_hooks, listeners, payload)

    def _call_hooks(self, listeners: tuple[Hook, ...], payload: Any) -> None:
        if self.scope_of_hooks is self.scope:
            call_hooks(listeners, payload)
            return
        token = CURRENT_SCOPE.set(self.scope_of_hooks)
        try:
            call_hooks(listeners, payload)
        finally:
            CURRENT_SCOPE.reset(token)

    def check_cancelled(self, next_index: int) -> None:
        """End the run when its deadline has passed or its token is set.

        Raises:
            FlowCancelledError: One of them is; carries the partial result.
        """
        expired, requested = self.cancellation()
        if expired or requested:
            raise self.cancelled(next_index, expired, requested)

    def cancellation(self) -> tuple[bool, bool]:
        """Say whether the deadline has passed, and whether the token is set."""
        expired = self.deadline is not None and self.setup.clock.time() >= self.deadline
        return expired, self.cancel_token is not None and self.cancel_token.is_cancelled

    def cancelled(self, next_index: int, expired: bool, requested: bool) -> FlowCancelledError:
        """End the run as cancelled before step `next_index` and return the error that says so."""
        result = self.fail()
        return FlowCancelledError(
            self.flow.name, next_index, result=result, deadline_exceeded=expired, token_cancelled=requested
        )

    def fail(self) -> ExecutionResult:
        """End the run as failed: build the partial result, tell everyone who waits for it, and return it."""
        result = self.conclude(False)
        self.announce(result)
        return result

    def tool_schema_hashes(self) -> dict[str, str]:
        """Return the schema hashes of the registered tools that the flow's steps name; tools do not change while it runs.

        A tool whose schema has no JSON form has no hash, and a warning says so.
        """
        if self._hashes is None:
            self._hashes = {}
            for name in dict.fromkeys(step.name for step in self.plan.steps):
                tool = self.setup.tools.get(name)
                try:
                    self._hashes.update({} if tool is None else {name: tool.schema_hash})
                except Exception as error:
                    logger.warning("Tool '%s': its schema has no hash, so drift would not be noticed (%s)", name, error)
        return self._hashes

    def conclude(self, success: bool, tool_steps: int | None = None) -> ExecutionResult:
        """Build the result and show it to the trace recorder; every way out of a run comes through here once."""
        self.ended = True
        result = self._result(success, tool_steps)
        try:
            self._mirror(result)
        except BaseException:
            self.announce(self._result(False, tool_steps))
            raise
        return result

    def _result(self, success: bool, tool_steps: int | None) -> ExecutionResult:
        duration_ms = (self.perf_counter() - self._perf_start) * 1000.0
        return trusted_result(
            flow_name=self.flow.name,
            flow_version=self.flow.version,
            success=success,
            final_output=self.context if success else None,
            # A copy, for a snapshot in memory reads the log itself.
            execution_log=self.log.copy(),
            trace_id=self.trace_id,
            started_at=self.flow_started_at,
            ended_at=self.setup.clock.now(),
            total_duration_ms=duration_ms,
            cost_report=self._cost_report(duration_ms, tool_steps),
            initial_input=self.initial_input,
            dry_run=self.scope.dry_run,
        )

    def _cost_report(self, duration_ms: float, tool_steps: int | None) -> CostReport | None:
        profile = self.setup.cost_profile
        if profile is None:
            return None
        count = (len(self.log) if tool_steps is None else tool_steps) + sum(
            _tool_records(record.sub_result) - 1
            for record in (step.record for step in self.log)
            if record.sub_result is not None
        )
        return compute_cost_report(steps_executed=count, actual_execution_ms=duration_ms, profile=profile)

    def _mirror(self, result: ExecutionResult) -> None:
        recorder = self.policies.trace_recorder
        if recorder is None:
            return
        observed = recorder.start_trace(f"executor:{self.flow.name}")
        for record in result.execution_log:
            recorder.record_step(
                observed,
                record.tool_name,
                inputs=record.inputs,
                outputs=record.outputs,
                duration_ms=record.duration_ms,
            )
        recorder.end_trace(observed)

    def announce(self, result: ExecutionResult) -> None:
        """Say that the run has ended, in the log and to the hooks."""
        outcome = "END  " if result.success else "ABORT"
        level = logging.INFO if result.success else logging.ERROR
        logger.log(
            level, "Flow '%s' %s | records=%d | trace_id=%s", self.flow.name, outcome, len(self.log), self.trace_id
        )
        if self.hooks.flow_end:
            self.tell(self.hooks.flow_end, FlowEndContext, result=result)


def _tool_records(result: ExecutionResult) -> int:
    """Count the tools that ran in a run and below it. Steps that are sub-flows stand for what these contain."""
    total = 0
    for record in result.execution_log:
        if record.sub_result is not None:
            total += _tool_records(record.sub_result)
        elif record.flow_name is None and not _is_check(record):
            total += 1
    return total


def _is_check(record: StepRecord) -> bool:
    """Say whether a record is that of a check of the flow's own data, which no tool made."""
    return (record.error_message or "").startswith("Schema validation failed for flow_")
