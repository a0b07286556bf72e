"""What a flow does to the world, in the worst case that its steps allow."""

from collections.abc import Iterator
from typing import NamedTuple

from doubleweave.errors import FlowNotFoundError
from doubleweave.executor import AsyncFlowExecutor, FlowExecutor
from doubleweave.models.contracts import (
    DeterminismLevel,
    SideEffectLevel,
    StabilityLevel,
    ToolSafetyContract,
    merge_safety,
    side_effect_exceeds,
)
from doubleweave.models.flows import AnyFlow
from doubleweave.models.steps import FlowStep, fallback_tool
from doubleweave.models.tools import ToolBase

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


class Part(NamedTuple):
    """Something that a flow may call, and what is known of its effects."""

    contract: ToolSafetyContract
    told: str


def contract_of(flow: AnyFlow, executor: Executor) -> ToolSafetyContract:
    """Return the most restrictive combination of the contracts of all that a flow may call.

    That is every tool of its steps, their decision candidates and fallbacks, those of its sub-flows, and what the flows
    themselves declare: a flow can say that it does more than its tools, never that it does less. `UNKNOWN` stands for a tool
    without a contract, a tool or flow that is not registered, and a capability step.
    """
    return merge_safety(part.contract for part in _parts(flow, executor))


def first_above(flow: AnyFlow, executor: Executor, ceiling: SideEffectLevel) -> str | None:
    """Say what of a flow may have side effects above a level; None when nothing may."""
    return next(
        (part.told for part in _parts(flow, executor) if side_effect_exceeds(part.contract.side_effects, ceiling)), None
    )


def _parts(flow: AnyFlow, executor: Executor) -> Iterator[Part]:
    tools, pending, seen = executor.registered_tools, [flow], {flow.name}
    while pending:
        each = pending.pop()
        if each.safety is not None:
            yield Part(each.safety, f"flow '{each.name}' declares side effects '{each.safety.side_effects.value}'")
        for step in each.steps:
            if getattr(step, "step_type", "tool") == "capability":
                yield Part(UNKNOWN, f"step '{step.display_name}' calls a capability, whose side effects are not known")
                continue
            for name in _tool_names(step):
                yield _of_tool(name, tools.get(name))
            if step.flow_name is not None and step.flow_name not in seen:
                seen.add(step.flow_name)
                try:
                    pending.append(executor.registry.get_flow(step.flow_name))
                except FlowNotFoundError as error:
                    yield Part(UNKNOWN, str(error).rstrip("."))


def _of_tool(name: str, tool: ToolBase | None) -> Part:
    if tool is None:
        return Part(UNKNOWN, f"tool '{name}' is not registered")
    if not tool.safety_declared:
        return Part(UNKNOWN, f"tool '{name}' has no safety contract (give it safety=ToolSafetyContract(...))")
    return Part(tool.safety, f"tool '{name}' has side effects '{tool.safety.side_effects.value}'")


def _tool_names(step: FlowStep) -> Iterator[str]:
    if step.tool_name is not None:
        yield step.tool_name
    yield from step.decision_candidates or ()
    fallback = fallback_tool(step.on_error)
    if fallback is not None:
        yield fallback
