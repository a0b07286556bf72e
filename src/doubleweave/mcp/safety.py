"""What a flow does to the world, in the worst case that its steps allow."""

from collections.abc import Iterator

from doubleweave.errors import FlowNotFoundError
from doubleweave.executor import AsyncFlowExecutor, FlowExecutor
from doubleweave.models.contracts import (
    DeterminismLevel,
    SideEffectLevel,
    StabilityLevel,
    ToolSafetyContract,
    merge_safety,
)
from doubleweave.models.flows import AnyFlow
from doubleweave.models.steps import FlowStep, fallback_tool

UNKNOWN = ToolSafetyContract(
    side_effects=SideEffectLevel.DESTRUCTIVE,
    stability=StabilityLevel.UNSTABLE,
    determinism_level=DeterminismLevel.NONE,
    idempotent=False,
    cacheable=False,
    safe_to_retry=False,
)
"""What is assumed of whoever says nothing: the worst."""

Executor = FlowExecutor | AsyncFlowExecutor


def contract_of(flow: AnyFlow, executor: Executor) -> ToolSafetyContract:
    """Return the most restrictive combination of the contracts of all that a flow may call.

    That is every tool of its steps, their decision candidates and fallbacks, those of its sub-flows, and what the flows
    themselves declare: a flow can say that it does more than its tools, never that it does less. `UNKNOWN` stands for a tool
    without a contract, a tool or flow that is not registered, and a capability step.
    """
    return merge_safety(_contracts(flow, executor))


def _contracts(flow: AnyFlow, executor: Executor) -> Iterator[ToolSafetyContract]:
    tools, pending, seen = executor.registered_tools, [flow], {flow.name}
    while pending:
        each = pending.pop()
        if each.safety is not None:
            yield each.safety
        for step in each.steps:
            for name in _tool_names(step):
                tool = tools.get(name)
                yield tool.safety if tool is not None and tool.safety_declared else UNKNOWN
            if getattr(step, "step_type", "tool") == "capability":
                yield UNKNOWN
            elif step.flow_name is not None and step.flow_name not in seen:
                seen.add(step.flow_name)
                try:
                    pending.append(executor.registry.get_flow(step.flow_name))
                except FlowNotFoundError:
                    yield UNKNOWN


def _tool_names(step: FlowStep) -> Iterator[str]:
    if step.tool_name is not None:
        yield step.tool_name
    yield from step.decision_candidates or ()
    fallback = fallback_tool(step.on_error)
    if fallback is not None:
        yield fallback
