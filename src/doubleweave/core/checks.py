"""What a step asks before its tool runs: which tool, whether it is allowed, whether its inputs are."""

import copy
from collections.abc import Callable
from typing import Any

from doubleweave.core.draft import Draft
from doubleweave.core.effects import Invoke, InvokeExpired, Life
from doubleweave.errors import (
    ApprovalDeniedError,
    DecisionBudgetExceededError,
    DecisionCallbackError,
    DecisionTimeoutError,
    GuardrailViolationError,
    SafetyCeilingError,
)
from doubleweave.models.callbacks import (
    ApprovalContext,
    ApprovalDecision,
    ApprovalRecord,
    DecisionContext,
    DecisionPolicy,
    DecisionRecord,
    GuardrailContext,
)
from doubleweave.models.contracts import side_effect_exceeds
from doubleweave.models.log_lines import text_of
from doubleweave.models.product import PRODUCT
from doubleweave.models.tools import ToolBase

_NO_LIMITS = DecisionPolicy()


def choose_tool(draft: Draft, context: dict[str, Any]) -> Life[None]:
    """Let the decision callback choose the step's tool among its candidates.

    Raises:
        DecisionBudgetExceededError: The run has made as many decisions as it may; leaves the run.
        DecisionCallbackError, DecisionTimeoutError: There is no usable decision; becomes the step's record.
    """
    run, step = draft.run, draft.step
    limits = run.policies.decision_policy or _NO_LIMITS
    candidates = list(step.candidates or ())
    run.decisions += 1
    if limits.max_decisions_per_flow is not None and run.decisions > limits.max_decisions_per_flow:
        raise DecisionBudgetExceededError(run.flow.name, limits.max_decisions_per_flow)
    question = DecisionContext.model_construct(
        trace_id=run.trace_id,
        flow_name=run.flow.name,
        step_index=step.index,
        step_id=step.step_id,
        default_tool_name=step.name,
        candidates=list(candidates),
        context=dict(context),
    )
    name = f"{PRODUCT}-decision-{run.flow.name}"
    start = run.perf_counter()
    timed_out = False
    try:
        decide = run.policies.decision_callback.decide
        chosen = yield Invoke(decide, (question,), run.call_context, name, limits.timeout_s)
    except InvokeExpired as error:
        if limits.on_timeout == "error":
            raise DecisionTimeoutError(step.name, step.index, limits.timeout_s or 0.0) from error
        chosen, timed_out = step.name, True
    except Exception as error:
        detail = f"{type(error).__name__}: {text_of(error)}"
        raise DecisionCallbackError(step.name, step.index, detail) from error
    duration_ms = (run.perf_counter() - start) * 1000.0
    if not isinstance(chosen, str) or chosen not in candidates:
        detail = f"it returned {chosen!r}, which is not one of decision_candidates {candidates!r}."
        raise DecisionCallbackError(step.name, step.index, detail)
    draft.choose(chosen)
    draft.record.decision = DecisionRecord(
        candidates=candidates,
        chosen=chosen,
        default_tool_name=step.name,
        duration_ms=duration_ms,
        timed_out=timed_out,
    )


def ask_approval(draft: Draft, tool: ToolBase) -> Life[None]:
    """Hold the tool's safety contract against the executor's ceiling and, where it asks for it, the approval callback.

    Raises:
        SafetyCeilingError, ApprovalDeniedError: The tool must not run; becomes the step's record.
    """
    run, step, safety = draft.run, draft.step, tool.safety
    ceiling = run.policies.max_side_effect_level
    if ceiling is not None and side_effect_exceeds(safety.side_effects, ceiling):
        raise SafetyCeilingError(tool.name, step.index, safety.side_effects.value, ceiling.value)
    if not safety.requires_approval:
        return
    callback = run.policies.approval_callback
    if callback is None:
        if run.policies.strict_safety:
            raise _denial(draft, tool, "the tool requires approval and no approval_callback is set")
        return
    question = ApprovalContext.model_construct(
        trace_id=run.trace_id,
        flow_name=run.flow.name,
        step_index=step.index,
        step_id=step.step_id,
        tool_name=tool.name,
        inputs=_shown(draft, dict),
        safety=safety,
    )
    try:
        answer = yield Invoke(callback.approve, (question,), run.call_context, f"{PRODUCT}-approval-{run.flow.name}")
    except Exception as error:
        reason = f"the approval callback raised {type(error).__name__}: {text_of(error)}"
        raise _denial(draft, tool, reason) from error
    if not isinstance(answer, ApprovalDecision):
        raise _denial(draft, tool, f"the approval callback returned {answer!r}, which is no ApprovalDecision")
    if answer is ApprovalDecision.DENY:
        raise _denial(draft, tool, safety.approval_reason or "the approval callback denied it")
    draft.record.approval = ApprovalRecord(decision=ApprovalDecision.APPROVE)


def ask_guardrail(draft: Draft, tool: ToolBase) -> Life[None]:
    """Show the tool's inputs to the guardrail callback.

    Raises:
        GuardrailViolationError: It raised; becomes the step's record.
    """
    run, step = draft.run, draft.step
    try:
        question = GuardrailContext.model_construct(
            trace_id=run.trace_id,
            flow_name=run.flow.name,
            step_index=step.index,
            step_id=step.step_id,
            tool_name=tool.name,
            stage="input",
            inputs=_shown(draft, copy.deepcopy),
        )
        check = run.policies.guardrail_callback.check
        yield Invoke(check, (question,), run.call_context, f"{PRODUCT}-guardrail-{run.flow.name}")
    except Exception as error:
        reason = text_of(error) or type(error).__name__
        raise GuardrailViolationError(tool.name, step.index, "input", reason) from error


def _shown(draft: Draft, duplicate: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """Return what a callback is shown of a step's inputs: redacted where there is a policy, else a copy."""
    policy = draft.run.policies.redaction_policy
    return duplicate(draft.inputs) if policy is None else policy.redact(draft.inputs)


def _denial(draft: Draft, tool: ToolBase, reason: str) -> ApprovalDeniedError:
    draft.record.approval = ApprovalRecord(decision=ApprovalDecision.DENY, reason=reason)
    return ApprovalDeniedError(tool.name, draft.step.index, reason)
