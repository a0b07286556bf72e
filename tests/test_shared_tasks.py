"""Steps of the async lane share a task for as long as none of them waits: nobody must notice.

Where the sync lane has a counterpart, it is held against it.
"""

import asyncio
import time
from typing import Any

import pytest

from doubleweave import (
    BaseMiddleware,
    DAGFlow,
    DAGFlowStep,
    Flow,
    FlowExecutor,
    FlowRegistry,
    FlowStep,
    OutputMappingError,
    Tool,
)
from lanes_under_test import Number, number_tool


def dag(*steps: DAGFlowStep, name: str = "main") -> DAGFlow:
    return DAGFlow(name=name, version="1.0.0", description="", steps=list(steps))


def executor_of(flows: list[Any], tools: list[Tool], concurrency: int = 4, **settings: Any) -> FlowExecutor:
    registry = FlowRegistry()
    for flow in flows:
        registry.register_flow(flow)
    executor = FlowExecutor(registry, max_step_concurrency=concurrency, **settings)
    for tool in tools:
        executor.register_tool(tool)
    return executor


def independent(*tools: str) -> DAGFlow:
    return dag(*(DAGFlowStep(step_id=name, tool_name=name, output_mapping={name: "n"}) for name in tools))


class Pairs(BaseMiddleware):
    def __init__(self) -> None:
        self.open: list[str] = []

    def on_flow_start(self, ctx: Any) -> None:
        self.open.append(ctx.trace_id)

    def on_flow_end(self, ctx: Any) -> None:
        self.open.remove(ctx.trace_id)


async def pass_on(value: Number) -> dict[str, int]:
    for _ in range(3):
        await asyncio.sleep(0)
    return {"n": value.n + 1}


async def fail_a_group(value: Number) -> dict[str, int]:
    async def fail() -> None:
        raise LookupError("child")

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            # Not in the body but at its end: up to Python 3.12 the task then keeps a count of one cancellation.
    except* LookupError:
        pass
    return {"n": 7}


async def cancel_itself(value: Number) -> dict[str, int]:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        return {"n": 5}
    raise AssertionError("not cancelled")


@pytest.mark.parametrize(("name", "tool", "left"), [("group", fail_a_group, 7), ("itself", cancel_itself, 5)])
def test_a_cancellation_that_a_step_leaves_behind_harms_no_other_step(name: str, tool: Any, left: int) -> None:
    flow = dag(
        *(DAGFlowStep(step_id=f"{i}", tool_name=name, output_mapping={f"a{i}": "n"}) for i in range(3)),
        *(
            DAGFlowStep(
                step_id=f"after{i}", tool_name="pass", output_mapping={f"b{i}": "n"}, depends_on=["0", "1", "2"]
            )
            for i in range(3)
        ),
    )
    executor = executor_of([flow], [number_tool(name, tool), number_tool("pass", pass_on)])
    blocking = executor.execute_flow("main", {"n": 1})
    awaited = asyncio.run(executor.execute_flow_async("main", {"n": 1}))
    expected = {"n": 1, **{f"a{i}": left for i in range(3)}, **{f"b{i}": 2 for i in range(3)}}
    assert blocking.final_output == awaited.final_output == expected


@pytest.mark.parametrize(("name", "tool", "left"), [("group", fail_a_group, 7), ("itself", cancel_itself, 5)])
def test_a_cancellation_that_a_tool_leaves_behind_is_none_of_a_linear_run(name: str, tool: Any, left: int) -> None:
    flow = Flow(name="main", description="", steps=[FlowStep(tool_name=name), FlowStep(tool_name="pass")])
    executor = executor_of([flow], [number_tool(name, tool), number_tool("pass", pass_on)])
    blocking = executor.execute_flow("main", {"n": 1})
    awaited = asyncio.run(executor.execute_flow_async("main", {"n": 1}))
    assert blocking.final_output == awaited.final_output == {"n": left + 1}


@pytest.mark.parametrize("concurrency", [1, 4])
def test_tools_that_never_wait_let_the_loop_have_its_turns(concurrency: int) -> None:
    async def keep_busy(value: Number) -> dict[str, int]:
        end = time.perf_counter() + 0.002
        while time.perf_counter() < end:
            pass
        return {"n": 1}

    flow = dag(*(DAGFlowStep(step_id=f"{i}", tool_name="busy", output_mapping={f"{i}": "n"}) for i in range(500)))
    executor = executor_of([flow], [number_tool("busy", keep_busy)], concurrency=concurrency)

    async def run_within(seconds: float) -> None:
        async with asyncio.timeout(seconds):
            await executor.execute_flow_async("main", {"n": 1})

    # All of it takes at least a second.
    with pytest.raises(TimeoutError):
        asyncio.run(run_within(0.05))


@pytest.mark.parametrize("turns", range(30))
def test_a_run_cancelled_at_any_turn_of_the_loop_tells_the_end_of_each_flow_that_it_began(turns: int) -> None:
    inner = Flow(name="inner", description="", steps=[FlowStep(tool_name="pass"), FlowStep(tool_name="pass")])
    nested = dag(
        *(DAGFlowStep(step_id=f"{i}", flow_name="inner", input_mapping={"n": "n"}) for i in range(3)), name="nested"
    )
    outer = dag(
        DAGFlowStep(step_id="a", flow_name="nested", input_mapping={"n": "n"}),
        DAGFlowStep(step_id="b", tool_name="pass", output_mapping={"b": "n"}),
    )
    pairs = Pairs()
    executor = executor_of([inner, nested, outer], [number_tool("pass", pass_on)], middleware=[pairs])

    async def cancelled() -> bool:
        task = asyncio.ensure_future(executor.execute_flow_async("main", {"n": 1}))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert pairs.open == []
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return task.cancelled()

    assert asyncio.run(cancelled()) or turns > 10


@pytest.mark.parametrize("turns", range(1, 8))
def test_a_sub_flow_that_is_given_up_calls_no_more_tools(turns: int) -> None:
    called: list[str] = []

    async def slow(value: Number) -> dict[str, int]:
        for _ in range(turns):
            await asyncio.sleep(0)
        called.append("failed")
        return {"n": 1}

    async def effect(value: Number) -> dict[str, int]:
        called.append("effect")
        await asyncio.sleep(0)
        return {"n": 1}

    inner = Flow(name="inner", description="", steps=[FlowStep(tool_name="pass"), FlowStep(tool_name="effect")])
    nested = dag(
        *(DAGFlowStep(step_id=f"{i}", flow_name="inner", input_mapping={"n": "n"}) for i in range(8)), name="nested"
    )
    outer = dag(
        DAGFlowStep(step_id="a", tool_name="slow", output_mapping={"b": "gone"}),
        DAGFlowStep(step_id="b", flow_name="nested", input_mapping={"n": "n"}),
    )
    tools = [number_tool("pass", pass_on), number_tool("slow", slow), number_tool("effect", effect)]
    executor = executor_of([inner, nested, outer], tools)

    async def left() -> None:
        with pytest.raises(OutputMappingError):
            await executor.execute_flow_async("main", {"n": 1})
        before = called.copy()
        for _ in range(20):
            await asyncio.sleep(0)
        assert called == before

    asyncio.run(left())
    assert "effect" not in called[called.index("failed") :]
