"""The life of one step, from its inputs to its record."""

from itertools import count
from typing import Any

from pydantic import BaseModel, ValidationError

from doubleweave.core.caching import cache_key, keep, look_up
from doubleweave.core.checks import ask_approval, ask_guardrail, choose_tool
from doubleweave.core.draft import Draft, Outcome, Settled
from doubleweave.core.effects import CallTool, Carried, Invoke, Life, NextChunk, OpenStream, Pause, unwrapped
from doubleweave.core.plan import PlannedStep
from doubleweave.core.run import Request, Run
from doubleweave.core.setup import logger
from doubleweave.errors import (
    ApprovalDeniedError,
    DecisionCallbackError,
    DecisionTimeoutError,
    FlowCancelledError,
    FlowExecutionError,
    GuardrailViolationError,
    InputMappingError,
    JsonSchemaMismatchError,
    SafetyCeilingError,
    SchemaValidationError,
    ToolNotFoundError,
    ToolOutputSizeError,
    ToolTimeoutError,
)
from doubleweave.models.contracts import SideEffectLevel
from doubleweave.models.hints import misfit_hint
from doubleweave.models.hooks import StepChunkContext
from doubleweave.models.log_lines import log_step_end, log_step_start, text_of
from doubleweave.models.product import PRODUCT
from doubleweave.models.records import StepRecord
from doubleweave.models.steps import RetryPolicy
from doubleweave.models.tools import ToolBase

# What stands between a step and its tool; each of these becomes the step's record, whatever its `on_error` says.
REFUSALS = (
    ApprovalDeniedError,
    DecisionCallbackError,
    DecisionTimeoutError,
    GuardrailViolationError,
    InputMappingError,
    SafetyCeilingError,
    SchemaValidationError,
    ToolNotFoundError,
)

_WITHOUT_EFFECT = (SideEffectLevel.NONE, SideEffectLevel.READ)


def life_of_step(run: Run, step: PlannedStep, context: dict[str, Any]) -> Life[Outcome]:
    """Run one step against `context` and return its record; a failure is a record too.

    Raises out of the step: a refused or unresolvable class ref of a contract, an exhausted decision budget, the
    cancellation of a sub-flow and whatever leaves a sub-flow, and every `BaseException` that is not an `Exception`.
    """
    draft = Draft(run, step)
    if step.is_capability:
        return (yield from _run_capability(draft, context))
    if step.flow_name is not None:
        return (yield from _run_sub_flow(draft, context))
    try:
        if step.candidates is not None and run.policies.decision_callback is not None:
            yield from choose_tool(draft, context)
        name = draft.tool_name
        tool = run.setup.tools.get(name) or draft.registered(name)
        inputs = draft.take_inputs(context)
        if step.has_contracts:
            _check_contract(draft, step.model.resolved_input_contract, inputs, "step_input_contract", tool.name)
        if run.hooks.step_start:
            run.step_started(step, draft.tool_name, inputs, draft.started_at)
        if run.logs_steps:
            log_step_start(logger, step.index, draft.tool_name, inputs, redaction=run.policies.redaction_policy)
        if run.limits_effects or tool.safety.requires_approval:
            yield from ask_approval(draft, tool)
        if run.guards_tools:
            yield from ask_guardrail(draft, tool)
    except REFUSALS as error:
        return draft.failed(error)
    if run.scope.dry_run and tool.safety.side_effects not in _WITHOUT_EFFECT:
        return (yield from _dry_run(draft, tool))
    key = None if run.step_cache is None else cache_key(draft, tool)
    if key is not None:
        cached = yield from look_up(run, tool, key)
        if cached is not None:
            draft.cached = True
            return _succeeded(draft, tool, cached)
    try:
        if tool.is_streaming:
            outputs = yield from _stream(draft, tool)
        elif step.retry is not None:
            outputs = yield from _call_with_retries(draft, tool, step.retry)
        else:
            # What `_call` does, without another generator on the way of every step.
            accept, call = tool.accept_input, run.call_tool
            raw_output = call(tool, accept(inputs), run.call_context)
            outputs = tool._validate_output((yield raw_output) if type(raw_output) is CallTool else raw_output)
    except Exception as raised:
        failure = unwrapped(raised)
        if step.retry is None or tool.is_streaming:
            draft.record.retry_errors.append(text_of(failure))
        return (yield from _after_failure(draft, tool, failure))
    heeded = run.logs_steps or step.has_contracts
    outcome = _succeeded(draft, tool, outputs) if heeded else draft.succeeded(outputs)
    if key is not None and outcome.success:
        yield from keep(run, key, outputs)
    return outcome


def _check_contract(
    draft: Draft, contract: type[BaseModel] | None, data: dict[str, Any], word: str, tool_name: str
) -> None:
    if contract is None:
        return
    try:
        contract.model_validate(data)
    except Exception as error:
        raise SchemaValidationError(tool_name, draft.step.index, text_of(error), context=word) from error


def _call(run: Run, tool: ToolBase, argument: Any) -> Life[Any]:
    try:
        raw_output = run.call_tool(tool, argument, run.call_context)
        return (yield raw_output) if type(raw_output) is CallTool else raw_output
    except StopIteration as error:
        raise Carried(error) from error


def _call_with_retries(draft: Draft, tool: ToolBase, policy: RetryPolicy) -> Life[dict[str, Any]]:
    run = draft.run
    suppressed = run.policies.strict_safety and _unsafe_to_retry(tool)
    retryable: tuple[type[BaseException], ...] = ()
    attempts = 1
    if not suppressed:
        retryable = policy.resolved_retryable_errors()
        attempts += policy.max_retries
    for attempt in count(1):
        draft.record.retry_count = attempt - 1
        started = run.time()
        try:
            raw_output = yield from _call(run, tool, tool.validate_input(draft.inputs))
            outputs = tool._validate_output(raw_output)
        except Exception as raised:
            error = unwrapped(raised)
            run.attempt_ended(draft.step.index, tool.name, attempt, started, error)
            note = " (retry suppressed: the tool is not declared safe to retry)" if suppressed else ""
            draft.record.retry_errors.append(text_of(error) + note)
            if attempt >= attempts or not isinstance(error, retryable):
                if isinstance(raised, StopIteration):
                    raise Carried(raised) from raised
                raise
        else:
            run.attempt_ended(draft.step.index, tool.name, attempt, started, None)
            return outputs
        delay = policy.compute_delay(attempt)
        if delay > 0:
            yield Pause(delay)
    raise AssertionError("unreachable")


def _unsafe_to_retry(tool: ToolBase) -> bool:
    safety = tool.safety
    return not safety.safe_to_retry or (not safety.idempotent and not safety.read_only)


def _stream(draft: Draft, tool: ToolBase) -> Life[dict[str, Any]]:
    run = draft.run
    opening = OpenStream(tool, draft.inputs, run.call_context)
    outputs: dict[str, Any] = {}
    try:
        stream = yield opening
        while (chunk := (yield NextChunk(stream))) is not None:
            if chunk.is_final:
                outputs = chunk.data
            if run.hooks.step_chunk:
                run.tell(
                    run.hooks.step_chunk,
                    StepChunkContext,
                    step_index=draft.step.index,
                    tool_name=draft.tool_name,
                    chunk=chunk,
                )
        return outputs
    finally:
        if opening.stream is not None:
            opening.stream.cancel()


def _after_failure(draft: Draft, tool: ToolBase, error: BaseException) -> Life[Outcome]:
    """Apply the step's `on_error` policy to a tool call that failed for good."""
    step = draft.step
    wrapped = wrap_error(draft, error, tool.name)
    if step.skips_errors:
        draft.log_failure(wrapped)
        return draft.skip(wrapped)
    if step.fallback is None:
        return draft.failed(wrapped)
    draft.log_failure(wrapped)
    draft.record.retry_errors.append(text_of(wrapped))
    draft.record.fallback_used = True
    draft.record.fallback_tool_name = step.fallback
    return (yield from _fall_back(draft, step.fallback))


def _fall_back(draft: Draft, name: str) -> Life[Outcome]:
    run = draft.run
    try:
        tool = draft.registered(name)
        yield from ask_approval(draft, tool)
        if run.policies.guardrail_callback is not None:
            yield from ask_guardrail(draft, tool)
    except REFUSALS as error:
        return draft.failed(error)
    if run.scope.dry_run and tool.safety.side_effects not in _WITHOUT_EFFECT:
        return (yield from _dry_run(draft, tool))
    try:
        raw_output = yield from _call(run, tool, tool.validate_input(draft.inputs))
        outputs = tool._validate_output(raw_output)
    except Exception as error:
        return draft.failed(wrap_error(draft, unwrapped(error), tool.name))
    return _succeeded(draft, tool, outputs)


def _succeeded(draft: Draft, tool: ToolBase, outputs: dict[str, Any]) -> Outcome:
    run, step = draft.run, draft.step
    if run.logs_steps:
        log_step_end(logger, step.index, draft.tool_name, outputs, redaction=run.policies.redaction_policy)
    if step.has_contracts:
        try:
            _check_contract(draft, step.model.resolved_output_contract, outputs, "step_output_contract", tool.name)
        except SchemaValidationError as error:
            return draft.failed(error)
    return draft.succeeded(outputs)


def _dry_run(draft: Draft, tool: ToolBase) -> Life[Outcome]:
    """Stand in for a tool with effects: its own dry run, or what the run's policy says for tools that have none."""
    run, step = draft.run, draft.step
    if tool.supports_dry_run and tool.dry_run_fn is not None:
        try:
            raw_output = yield Invoke(
                tool.dry_run_fn,
                (tool.validate_input(draft.inputs),),
                run.call_context,
                f"{PRODUCT}-tool-{tool.name}",
                on_caller=False,
            )
            outputs = tool._validate_output(raw_output)
        except Exception as error:
            return draft.failed(wrap_error(draft, error, tool.name))
        if run.logs_steps:
            log_step_end(logger, step.index, draft.tool_name, outputs, redaction=run.policies.redaction_policy)
        return draft.succeeded(outputs)
    if run.scope.dry_run_unsupported == "skip":
        return draft.skip()
    detail = (
        f"a dry run would have the side effects '{tool.safety.side_effects.value}', and the tool has no dry_run_fn. "
        "Give it one, or use dry_run_unsupported='skip'."
    )
    return draft.failed(FlowExecutionError(tool.name, step.index, detail))


def _run_sub_flow(draft: Draft, context: dict[str, Any]) -> Life[Outcome]:
    run, step = draft.run, draft.step
    try:
        inputs = draft.take_inputs(context)
    except InputMappingError as error:
        return draft.failed(error)
    run.step_started(step, step.name, inputs, draft.started_at)
    if run.logs_steps:
        log_step_start(logger, step.index, step.name, inputs, redaction=run.policies.redaction_policy)
    request = Request(
        flow_name=step.name,
        initial_input=inputs,
        deadline=run.deadline,
        cancel_token=run.cancel_token,
        scope=run.scope,
        composition_checked=True,
        call_tool=run.call_tool,
    )
    try:
        result = yield from run.life_of_run(run.setup, request, run.lane)
    except FlowCancelledError as error:
        raise SubFlowCancelled(draft.interrupted(error), error) from error
    draft.record.sub_result = result
    if result.success:
        outputs = result.final_output
        if run.logs_steps:
            log_step_end(logger, step.index, step.name, outputs, redaction=run.policies.redaction_policy)
        return draft.succeeded(outputs)
    return draft.failed(FlowExecutionError(step.name, step.index, _sub_flow_failure(result)))


class SubFlowCancelled(Exception):
    """A sub-flow was cancelled; `step` is what this leaves in the parent's log."""

    def __init__(self, step: Settled, error: FlowCancelledError) -> None:
        super().__init__(str(error))
        self.step = step
        self.error = error


def _sub_flow_failure(result: Any) -> str:
    failed = next((record for record in result.execution_log if not record.success), None)
    where = "" if failed is None else f" at its step {failed.step_index} '{failed.tool_name}': {failed.error_message}"
    return f"sub-flow '{result.flow_name}' failed{where}"


def _run_capability(draft: Draft, context: dict[str, Any]) -> Life[Outcome]:
    run, step = draft.run, draft.step
    arguments = (step.index, step.model, dict(context), run.flow.name, run.trace_id)
    name = f"{PRODUCT}-capability-{step.name}"
    try:
        record = yield Invoke(run.setup.run_capability, arguments, run.call_context, name, on_caller=False)
        if not isinstance(record, StepRecord):
            raise TypeError(f"execute_capability_step must return a StepRecord, not {type(record).__name__}")
    except Exception as error:
        return draft.failed(FlowExecutionError(step.name, step.index, text_of(error)))
    if record.success or record.inputs:
        run.step_started(step, record.tool_name, record.inputs, record.started_at)
    if not record.success:
        _log_failure_of(draft.step, record)
    return Settled(record)


def _log_failure_of(step: PlannedStep, record: StepRecord) -> None:
    """Write the ERROR line of a record that somebody else made."""
    logger.error(
        "Step %d ERROR | tool=%s | error=%s: %s", step.index, record.tool_name, record.error_type, record.error_message
    )


def wrap_error(draft: Draft, error: BaseException, tool_name: str) -> Exception:
    """Return the typed error that a record keeps for what a tool raised."""
    step_index = draft.step.index
    if isinstance(error, ValidationError | JsonSchemaMismatchError):
        hint = misfit_hint(draft.run.flow.name, step_index, tool_name)
        return SchemaValidationError(tool_name, step_index, text_of(error), hint=hint)
    if isinstance(error, ToolTimeoutError | ToolOutputSizeError):
        return error
    return FlowExecutionError(tool_name, step_index, text_of(error))
