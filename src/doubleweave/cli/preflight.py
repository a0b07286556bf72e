"""Whether the steps of a flow can find their tools and what they read, told before it is run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import doubleweave as dw

if TYPE_CHECKING:
    from doubleweave.models.flows import AnyFlow

Issue = dict[str, str]


def preflight(flow: AnyFlow, tools: Mapping[str, dw.Tool] | None) -> list[Issue]:
    """Return what keeps a flow from running, as far as names tell, each with its `type` and `detail`.

    The class that the flow names as its input schema is imported. Fallback tools and candidates of a decision count as tools
    of their step.

    Args:
        flow: The flow; nothing of it is run.
        tools: The tools that it will run with. When None none is missing, and of none it is known what it returns.
    """
    issues = list(_missing_tools(flow, tools))
    try:
        given = _input_keys(flow)
    # A module runs whatever is in it when it is imported.
    except (Exception, SystemExit) as error:
        given = None
        issues.append(_issue("unresolved_input_schema", _import_failure(flow, error)))
    try:
        levels = _levels(flow)
    except dw.DAGDefinitionError as error:
        return [*issues, _issue("invalid_topology", str(error))]
    if given is not None:
        issues += _unresolved_mappings(flow, levels, given, tools or {})
    return issues


def _issue(kind: str, detail: str) -> Issue:
    return {"type": kind, "detail": detail}


def _import_failure(flow: AnyFlow, error: BaseException) -> str:
    if isinstance(error, dw.DoubleweaveError):
        return str(error)
    return f"The module of class ref '{flow.input_schema_ref}' fails: {type(error).__name__}: {error}"


def _input_keys(flow: AnyFlow) -> set[str] | None:
    """Return the keys that the input of a flow is declared to have; None when it may have others."""
    schema = flow.input_schema
    if schema is None:
        return set()
    if schema.model_config.get("extra") == "allow" or schema.__pydantic_root_model__:
        return None
    aliases = [field.validation_alias for field in schema.model_fields.values() if field.validation_alias is not None]
    names = {*schema.model_fields, *(alias for alias in aliases if isinstance(alias, str))}
    # Others are choices of aliases, or paths into the input.
    return names if all(isinstance(alias, str) for alias in aliases) else None


def _missing_tools(flow: AnyFlow, tools: Mapping[str, dw.Tool] | None) -> Iterator[Issue]:
    if tools is None:
        return
    for position, step in enumerate(flow.steps):
        for role, name in _tools_of(step):
            if name not in tools:
                detail = f"{_place(position, step)}: {role} '{name}' is in none of the modules given with --tools"
                yield _issue("missing_tool", detail)


def _tools_of(step: dw.FlowStep) -> Iterator[tuple[str, str]]:
    from doubleweave.models.steps import fallback_tool

    if step.tool_name is None or _is_capability(step):
        return
    yield "tool", step.tool_name
    for name in step.decision_candidates or ():
        if name != step.tool_name:
            yield "candidate", name
    if (fallback := fallback_tool(step.on_error)) is not None:
        yield "fallback tool", fallback


def _is_capability(step: dw.FlowStep) -> bool:
    return isinstance(step, dw.DAGFlowStep) and step.step_type == "capability"


def _levels(flow: AnyFlow) -> list[list[int]]:
    """Return the positions of the steps, those together that do not see each other's outputs."""
    if not isinstance(flow, dw.DAGFlow):
        return [[position] for position in range(len(flow.steps))]
    from doubleweave.models.topology import dag_levels

    positions = {step.step_id: position for position, step in enumerate(flow.steps)}
    return [[positions[step.step_id] for step in level] for level in dag_levels(flow)]


def _unresolved_mappings(
    flow: AnyFlow, levels: list[list[int]], given: set[str], tools: Mapping[str, dw.Tool]
) -> Iterator[Issue]:
    known = {*given, *flow.dynamic_params}
    for number, level in enumerate(levels):
        # What the first steps read without an input schema is the input, and nobody can say that it is not.
        if number > 0 or flow.input_schema_ref is not None:
            yield from _unresolved_of(flow, level, known)
        for outputs in (_outputs_of(flow.steps[position], tools) for position in level):
            if outputs is None:
                return
            known |= outputs


def _unresolved_of(flow: AnyFlow, level: list[int], known: set[str]) -> Iterator[Issue]:
    for position in level:
        step = flow.steps[position]
        for key, source in step.input_mapping.items():
            if isinstance(source, str) and _first_token(source) not in known:
                detail = (
                    f"{_place(position, step)}: input '{key}' is read from '{source}', which neither the flow's input schema "
                    "nor an earlier step declares"
                )
                yield _issue("unresolved_mapping", detail)


def _first_token(source: str) -> str:
    from doubleweave.models.pointers import is_pointer, parse_pointer

    return parse_pointer(source)[0] if is_pointer(source) else source


def _outputs_of(step: dw.FlowStep, tools: Mapping[str, dw.Tool]) -> set[str] | None:
    """Return the context keys that a step may write; None when they cannot be known."""
    if step.output_mapping is not None:
        return set(step.output_mapping)
    if step.tool_name is None or _is_capability(step):
        return None
    found: set[str] = set()
    for name in step.decision_candidates or [step.tool_name]:
        declared = tools[name].declared_outputs() if name in tools else None
        if declared is None:
            return None
        found |= declared
    return found


def _place(position: int, step: dw.FlowStep) -> str:
    name = step.step_id if isinstance(step, dw.DAGFlowStep) else step.display_name
    return f"step {position} '{name}'"
