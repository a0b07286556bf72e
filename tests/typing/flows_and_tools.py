"""Tools, flows and builders as users write them; read by type checkers, never run."""

from typing import Any, assert_type

from pydantic import BaseModel

from doubleweave import (
    AnyFlow,
    ConditionalEdge,
    DAGFlow,
    DAGFlowStep,
    Flow,
    FlowBuilder,
    FlowRegistry,
    FlowStep,
    RetryPolicy,
    SideEffectLevel,
    StreamingTool,
    Tool,
    ToolChunk,
    ToolSafetyContract,
    check_flow,
    tool,
)


class Order(BaseModel):
    item: str
    count: int


class Total(BaseModel):
    total: float


@tool
def add_up(item: str, count: int) -> Total:
    return Total(total=2.5 * count)


@tool(name="other", timeout_seconds=1.5, cacheable=False)
async def add_up_elsewhere(item: str, count: int) -> Total:
    return Total(total=2.5 * count)


def of_model(order: Order) -> dict[str, Any]:
    return {"total": 2.5 * order.count}


contract = ToolSafetyContract(side_effects=SideEffectLevel.READ)
made = Tool(
    name="made", description="", input_schema=Order, output_schema=Total, fn=of_model, safety=contract, cacheable=True
)
tools: list[Tool] = [add_up, add_up_elsewhere, made]
# Tools of different functions are of one type, so that a loop over them needs no annotation.
assert_type([each.name for each in (add_up, add_up_elsewhere, made)], list[str])
assert_type(made.run({"item": "lamp", "count": 2}), dict[str, Any])
assert_type(add_up.name, str)


async def called_by_hand() -> None:
    # A decorated function is still called as the function that it was.
    total: Total = add_up("lamp", count=2)
    awaited: Total = await add_up_elsewhere("lamp", 2)
    assert total == awaited
    assert_type(await made.run_async({"item": "lamp", "count": 2}), dict[str, Any])


retry = RetryPolicy(max_retries=2, backoff_seconds=0.1)
linear = Flow(
    name="order",
    description="",
    steps=[FlowStep(tool_name="add_up", input_mapping={"item": "item", "count": 2}, retry=retry, on_error="skip")],
    input_schema_ref=Flow.schema_ref_from(Order),
)
branch = ConditionalEdge(target_step_id="b", predicate="total > 10")
graph = DAGFlow(
    name="orders",
    version="1.0",
    description="",
    steps=[
        DAGFlowStep(step_id="a", tool_name="add_up", branches=[branch]),
        DAGFlowStep(step_id="b", flow_name="order", depends_on=["a"]),
    ],
)
built = FlowBuilder("order", "").with_input_schema(Order).step("add_up", item="item", count="count").build()
assert_type(built, Flow)
flows: list[AnyFlow] = [linear, graph, built]

registry = FlowRegistry()
registry.register_flow(linear)
assert_type(registry.get_flow("order"), AnyFlow)
assert_type([each.name for each in registry.list_flows()], list[str])
assert_type(linear.to_json(), str)
report = check_flow(linear, {each.name: each for each in tools}, registry=registry)
assert_type(report.is_clean, bool)
assert_type([finding.field for finding in report], list[str | None])

streaming = StreamingTool
chunk = ToolChunk(data={"total": 1.0}, is_final=True)
assert_type(chunk.is_final, bool)
