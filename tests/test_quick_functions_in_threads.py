"""Functions in threads that were quick the time before: the event loop waits a moment for them, and no longer."""

import asyncio
import contextvars
import threading
from typing import Any

from doubleweave import Flow, FlowExecutor, FlowRegistry, FlowStep
from lanes_under_test import Number, number_tool

MARK: contextvars.ContextVar[str] = contextvars.ContextVar("mark", default="unset")


def make_executor(*tools: Any, steps: int = 1) -> FlowExecutor:
    registry = FlowRegistry()
    step = FlowStep(tool_name=tools[0].name, input_mapping={"n": "n"})
    registry.register_flow(Flow(name="flow", description="", on_context_collision="overwrite", steps=[step] * steps))
    executor = FlowExecutor(registry)
    for tool in tools:
        executor.register_tool(tool)
    return executor


async def test_a_long_chain_of_them_runs_in_threads_and_in_contexts_of_their_own() -> None:
    threads: set[str] = set()
    marks: set[str] = set()

    def work(value: Number) -> dict[str, int]:
        threads.add(threading.current_thread().name)
        marks.add(MARK.get())
        MARK.set("set by a step")
        return {"n": value.n + 1}

    executor = make_executor(number_tool("work", work), steps=300)
    MARK.set("of the caller")
    result = await executor.execute_flow_async("flow", {"n": 0})
    assert result.final_output == {"n": 300}
    assert threads == {"doubleweave-tool-work"}
    assert marks == {"of the caller"}
    assert MARK.get() == "of the caller"
    sync_result = executor.execute_flow("flow", {"n": 0})
    assert sync_result.final_output == result.final_output
    assert threads == {"doubleweave-tool-work", threading.current_thread().name}


async def test_one_that_then_needs_the_loop_gets_it() -> None:
    loop = asyncio.get_running_loop()

    async def answer() -> int:
        return 41

    def work(value: Number) -> dict[str, int]:
        if value.n < 100:
            return {"n": value.n + 1}
        # Never answered while the loop stands still.
        return {"n": asyncio.run_coroutine_threadsafe(answer(), loop).result() + 1}

    result = await make_executor(number_tool("work", work), steps=101).execute_flow_async("flow", {"n": 0})
    assert result.final_output == {"n": 42}


async def test_one_that_then_waits_leaves_the_loop_to_others_and_can_be_cancelled() -> None:
    holds, entered = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def work(value: Number) -> dict[str, int]:
        if value.n == 100:
            loop.call_soon_threadsafe(entered.set)
            holds.wait()
        return {"n": value.n + 1}

    run = asyncio.create_task(make_executor(number_tool("work", work), steps=101).execute_flow_async("flow", {"n": 0}))
    try:
        await entered.wait()
        run.cancel()
        assert (await asyncio.gather(run, return_exceptions=True))[0].__class__ is asyncio.CancelledError
    finally:
        holds.set()


async def test_an_error_of_one_is_recorded_as_any_other_is() -> None:
    def work(value: Number) -> dict[str, int]:
        if value.n == 100:
            raise StopIteration("enough")
        return {"n": value.n + 1}

    executor = make_executor(number_tool("work", work), steps=101)
    results = [await executor.execute_flow_async("flow", {"n": 0}), executor.execute_flow("flow", {"n": 0})]
    for result in results:
        last = result.execution_log[-1]
        assert (len(result.execution_log), last.step_index, last.retry_errors) == (101, 100, ["enough"])
        assert last.error_message == results[0].execution_log[-1].error_message


async def test_a_time_limit_shorter_than_that_moment_holds() -> None:
    release = threading.Event()

    def work(value: Number) -> dict[str, int]:
        if tool.timeout_seconds == 0.0:
            release.wait()
        return {"n": value.n + 1}

    tool = number_tool("work", work, timeout_seconds=60.0)
    executor = make_executor(tool, steps=100)
    assert (await executor.execute_flow_async("flow", {"n": 0})).success
    tool.timeout_seconds = 0.0
    try:
        for result in (await executor.execute_flow_async("flow", {"n": 0}), executor.execute_flow("flow", {"n": 0})):
            assert [record.error_type for record in result.execution_log] == ["ToolTimeoutError"]
    finally:
        release.set()
