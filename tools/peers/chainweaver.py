"""ChainWeaver: flows of tools with pydantic models, a record a step."""

from collections.abc import Awaitable, Callable
from typing import Any

from chainweaver import DAGFlow, DAGFlowStep, Flow, FlowExecutor, FlowRegistry, FlowStep, Tool

from bench_floors import Level, Value, increment, increment_awaited


def chain(length: int) -> Callable[[Any], Any]:
    return _blocking(_flow(length), "x")


def chain_awaited(length: int) -> Callable[[Any], Awaitable[Any]]:
    return _awaited(_flow(length), "x")


def layers(shape: list[Level]) -> Callable[[Any], Any]:
    return _blocking(_dag(shape), shape[-1][-1][1])


def layers_awaited(shape: list[Level]) -> Callable[[Any], Awaitable[Any]]:
    return _awaited(_dag(shape), shape[-1][-1][1])


def _flow(length: int) -> Any:
    step = FlowStep(tool_name="work", input_mapping={"x": "x"})
    # Its default writes a warning a step.
    settings: dict[str, Any] = {"on_context_collision": "overwrite"}
    return Flow(name="flow", version="1.0.0", description="-", steps=[step] * length, **settings)


def _dag(shape: list[Level]) -> Any:
    steps, before = [], list[str]()
    for level in shape:
        for source, target in level:
            mappings: dict[str, Any] = {"input_mapping": {"x": source}, "output_mapping": {target: "x"}}
            steps.append(DAGFlowStep(step_id=target, tool_name="work", depends_on=before, **mappings))
        before = [target for _, target in level]
    return DAGFlow(name="flow", version="1.0.0", description="-", steps=steps)


def _executor(flow: Any, fn: Callable[[Any], Any], **settings: Any) -> Any:
    registry = FlowRegistry()
    registry.register_flow(flow)
    executor = FlowExecutor(registry, **settings)
    executor.register_tool(Tool(name="work", description="-", input_schema=Value, output_schema=Value, fn=fn))
    return executor


def _blocking(flow: Any, output: str) -> Callable[[Any], Any]:
    executor = _executor(flow, increment)
    return lambda x: executor.execute_flow("flow", {"x": x}).final_output[output]


def _awaited(flow: Any, output: str) -> Callable[[Any], Awaitable[Any]]:
    executor = _executor(flow, increment_awaited, max_step_concurrency=1000)

    async def run(x: Any) -> Any:
        return (await executor.execute_flow_async("flow", {"x": x})).final_output[output]

    return run
