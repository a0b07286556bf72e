"""What a flow would do, worked out from its mappings and schemas alone."""

from typing import Any

from doubleweave.core.setup import Setup
from doubleweave.errors import FlowNotFoundError
from doubleweave.models.plans import ExecutionPlan, StepPlan
from doubleweave.models.pointers import is_pointer, parse_pointer
from doubleweave.models.schemas import bind_schema
from doubleweave.models.steps import FlowStep


def explain(setup: Setup, flow_name: str, initial_input: dict[str, Any]) -> ExecutionPlan:
    """Return what each step of a flow would read and add; no tool is called.

    Raises:
        FlowNotFoundError: The flow is not registered.
        DAGDefinitionError: Its topology is not valid.
    """
    flow = setup.registry.get_flow(flow_name)
    shape = {key: type(value).__name__ for key, value in initial_input.items()}
    steps: list[StepPlan] = []
    for level in setup.plan_for(flow).levels:
        # Steps of one level do not see what the others add.
        added: dict[str, str] = {}
        steps += [_explain_step(setup, step.model, step.index, shape, added) for step in level.steps]
        shape.update(added)
    return ExecutionPlan(
        flow_name=flow.name,
        step_count=len(steps),
        steps=steps,
        final_context_shape=shape,
        all_resolvable=not any(step.unresolved_keys or step.warnings for step in steps),
    )


def _explain_step(setup: Setup, step: FlowStep, index: int, shape: dict[str, str], added: dict[str, str]) -> StepPlan:
    """Explain one step against the shape of the context before it, and put into `added` what the step adds."""
    plan = StepPlan(step_index=index, tool_name=step.display_name, input_sources={})
    _explain_sources(step, shape, plan)
    if step.flow_name is not None:
        _explain_sub_flow(setup, step.flow_name, plan)
    elif (tool := setup.tools.get(step.display_name)) is None:
        plan.warnings.append(f"tool '{step.display_name}' is not registered")
    else:
        plan.input_schema = tool.input_fields()
        plan.output_schema = tool.output_fields()
    if step.output_mapping is None:
        added.update(plan.output_schema)
    elif not plan.warnings:
        added.update({key: plan.output_schema.get(source, "Any") for key, source in step.output_mapping.items()})
    return plan


def _explain_sources(step: FlowStep, shape: dict[str, str], plan: StepPlan) -> None:
    if not step.input_mapping:
        plan.input_sources["<all>"] = "context (full)"
    for name, source in step.input_mapping.items():
        if not isinstance(source, str):
            plan.input_sources[name] = f"literal({source!r})"
        elif _first_key(source) in shape:
            plan.input_sources[name] = f"context['{source}']"
        else:
            plan.input_sources[name] = f"context['{source}'] (UNRESOLVED)"
            plan.unresolved_keys.append(source)


def _first_key(source: str) -> str:
    return parse_pointer(source)[0] if is_pointer(source) else source


def _explain_sub_flow(setup: Setup, name: str, plan: StepPlan) -> None:
    try:
        schema = setup.registry.get_flow(name).output_schema
    except FlowNotFoundError:
        plan.warnings.append(f"flow '{name}' is not registered")
        return
    if schema is not None:
        plan.output_schema = bind_schema(schema, f"output of flow '{name}'").field_types()
