"""The flows that the benchmarks run, and executors for them."""

from collections.abc import Callable
from typing import Any

from bench_floors import Level, Value
from doubleweave import AnyFlow, DAGFlow, DAGFlowStep, Flow, FlowExecutor, FlowRegistry, FlowStep, Tool

X = {"x": 0}


def chain_of(length: int) -> Flow:
    """Return a chain of steps that each read and write the key `x`."""
    step = FlowStep(tool_name="work", input_mapping={"x": "x"})
    return Flow(name="flow", description="", on_context_collision="overwrite", steps=[step] * length)


def dag_of(shape: list[Level]) -> DAGFlow:
    """Return a DAG in which each step depends on the whole level before it."""
    steps: list[DAGFlowStep] = []
    before: list[str] = []
    for level in shape:
        for source, target in level:
            mappings: dict[str, Any] = {"input_mapping": {"x": source}, "output_mapping": {target: "x"}}
            steps.append(DAGFlowStep(step_id=target, tool_name="work", depends_on=before, **mappings))
        before = [target for _, target in level]
    return DAGFlow(name="flow", version="1.0.0", description="", steps=steps)


def executor_for(flow: AnyFlow, fn: Callable[[Any], Any], *, schema: Any = Value, **settings: Any) -> FlowExecutor:
    """Return an executor that knows a flow and its one tool."""
    registry = FlowRegistry()
    registry.register_flow(flow)
    executor = FlowExecutor(registry, **settings)
    executor.register_tool(Tool(name="work", description="", input_schema=schema, output_schema=schema, fn=fn))
    return executor
