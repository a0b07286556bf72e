"""What a flow looks like from outside: the input, output and safety contract that its steps give it."""

from collections.abc import Mapping
from typing import Any

from doubleweave.errors import FlowExecutionError, FlowSerializationError, ToolDefinitionError
from doubleweave.models.contracts import ToolSafetyContract, merge_safety
from doubleweave.models.flows import AnyFlow, DAGFlow
from doubleweave.models.records import ExecutionResult
from doubleweave.models.steps import FlowStep, fallback_tool
from doubleweave.models.tools import ToolBase


def derive_input_schema(flow: AnyFlow, tools: Mapping[str, ToolBase], tool_name: str) -> Any:
    """Return the flow's input schema: its own, else that of its first step's tool.

    Raises:
        ToolDefinitionError: It cannot be derived.
        SchemaRefPolicyError: The flow's schema ref is refused.
    """
    if not flow.steps:
        raise ToolDefinitionError(tool_name, f"flow '{flow.name}' has no steps")
    declared = _declared(flow, "input_schema", tool_name)
    return declared or _tool_of(flow.steps[0], tools, tool_name, "first").input_schema


def derive_output_schema(flow: AnyFlow, tools: Mapping[str, ToolBase], tool_name: str) -> Any:
    """Return the flow's output schema: its own, else that of its terminal step's tool.

    The terminal step is the last one of a linear flow, the only sink of a DAG.

    Raises:
        ToolDefinitionError: It cannot be derived.
        SchemaRefPolicyError: The flow's schema ref is refused.
    """
    declared = _declared(flow, "output_schema", tool_name)
    return declared or _tool_of(_terminal_step(flow, tool_name), tools, tool_name, "terminal").output_schema


def derive_safety(flow: AnyFlow, tools: Mapping[str, ToolBase]) -> tuple[ToolSafetyContract, bool]:
    """Return the flow's safety contract, and whether it was declared throughout rather than assumed.

    The contract is the flow's own, else the most restrictive combination of its registered tools' contracts, those that a step
    may choose or fall back to included; that one promises no dry run, because a flow as a tool has no dry-run function.
    """
    if flow.safety is not None:
        return flow.safety, True
    used = [None if name is None else tools.get(name) for step in flow.steps for name in _tools_of(step)]
    merged = merge_safety(tool.safety for tool in used if tool is not None)
    declared = all(tool is not None and tool.safety_declared for tool in used)
    return merged.model_copy(update={"supports_dry_run": False}), declared


def _tools_of(step: FlowStep) -> list[str | None]:
    """Return the names of the tools that a step may call; None for a sub-flow, whose tools are not known."""
    fallback = fallback_tool(step.on_error)
    return [step.tool_name, *(step.decision_candidates or ()), *([] if fallback is None else [fallback])]


def output_of(result: ExecutionResult, flow: AnyFlow, tool_name: str) -> dict[str, Any]:
    """Return the final output of a run.

    Raises:
        FlowExecutionError: The run failed; carries the index and the message of its first failed record.
    """
    if result.success:
        if result.final_output is None:
            raise FlowExecutionError(tool_name, len(flow.steps), f"flow '{flow.name}' has no final output")
        return result.final_output
    failed = next((record for record in result.execution_log if not record.success), None)
    if failed is None:
        raise FlowExecutionError(tool_name, -1, f"flow '{flow.name}' failed without a failed record")
    detail = failed.error_message or failed.error_type or f"flow '{flow.name}' failed"
    raise FlowExecutionError(tool_name, failed.step_index, detail)


def _declared(flow: AnyFlow, field: str, tool_name: str) -> Any:
    try:
        return getattr(flow, field)
    except FlowSerializationError as error:
        raise ToolDefinitionError(tool_name, f"{field}_ref of flow '{flow.name}': {error}") from error


def _terminal_step(flow: AnyFlow, tool_name: str) -> FlowStep:
    if not isinstance(flow, DAGFlow):
        return flow.steps[-1]
    needed = {name for step in flow.steps for name in step.depends_on}
    sinks = [step for step in flow.steps if step.step_id not in needed]
    if len(sinks) == 1:
        return sinks[0]
    names = ", ".join(step.step_id for step in sinks)
    problem = f"multiple sink steps ({names})" if sinks else "no sink step"
    raise ToolDefinitionError(tool_name, f"flow '{flow.name}' has {problem}; give output_schema")


def _tool_of(step: FlowStep, tools: Mapping[str, ToolBase], tool_name: str, place: str) -> ToolBase:
    if step.tool_name is None:
        detail = f"its {place} step is the sub-flow '{step.display_name}', whose schema is not known; give the schema"
        raise ToolDefinitionError(tool_name, detail)
    try:
        return tools[step.tool_name]
    except KeyError:
        detail = f"the tool '{step.tool_name}' of its {place} step is not registered on the executor"
        raise ToolDefinitionError(tool_name, detail) from None
