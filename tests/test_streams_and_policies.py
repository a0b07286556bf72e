"""T-31: what is and is not applied to a step whose tool streams: cache, retry policy and time limit."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest

import doubleweave as dw
from doubleweave import StreamingTool, ToolChunk
from doubleweave._lanes.performers import AsyncPerformer, SyncPerformer
from doubleweave.core.effects import OpenStream
from doubleweave.core.fibers import Fibers
from doubleweave.core.life import life_of_run
from executors_under_test import concurrencies, execute, lanes, make_executor
from lanes_under_test import Number, Recorder
from parity_scenarios import QUICK, count_up, linear, step


def stream_tool(stream_fn: Callable[[Any], AsyncIterator[ToolChunk]], **options: Any) -> StreamingTool:
    return StreamingTool(
        name="s", description="", input_schema=Number, output_schema=Number, stream_fn=stream_fn, **options
    )


async def endless(v: Any) -> AsyncIterator[ToolChunk]:
    """Yield at once and for ever, so that no wait for one chunk is long."""
    while True:
        yield ToolChunk(data="more")
        await asyncio.sleep(0)


class Noting(dw.InMemoryStepCache):
    """A cache that notes each use."""

    def __init__(self) -> None:
        super().__init__()
        self.uses: list[str] = []

    def get(self, key: dw.StepCacheKey) -> dict[str, Any] | None:
        self.uses.append("get")
        return super().get(key)

    def set(self, key: dw.StepCacheKey, value: dict[str, Any]) -> None:
        self.uses.append("set")
        super().set(key, value)


@lanes
@concurrencies
@pytest.mark.parametrize("hooks", [[], [Recorder()]])
def test_t_31_a_kept_output_is_not_served_and_none_is_kept(lane: str, concurrency: int, hooks: list[Any]) -> None:
    cache, made = Noting(), stream_tool(count_up)
    digest = dw.compute_input_value_hash(Number(n=1))
    key = dw.StepCacheKey(tool_name="s", schema_hash=made.schema_hash, input_value_hash=digest)
    cache.set(key, {"n": 99})
    cache.uses.clear()
    executor = make_executor(
        [linear(step("s"))], [made], step_cache=cache, middleware=hooks, max_step_concurrency=concurrency
    )
    result = execute(executor, lane)
    assert (result.final_output, result.execution_log[0].cached, cache.uses) == ({"n": 1}, False, [])


@lanes
@concurrencies
def test_t_31_a_stream_that_would_succeed_the_second_time_is_not_tried_again(lane: str, concurrency: int) -> None:
    calls: list[int] = []

    async def flaky(v: Any) -> AsyncIterator[ToolChunk]:
        calls.append(v.n)
        if len(calls) == 1:
            raise OSError("not yet")
        yield ToolChunk(data={"n": v.n}, is_final=True)

    executor = make_executor([linear(step("s", retry=QUICK))], [stream_tool(flaky)], max_step_concurrency=concurrency)
    (record,) = execute(executor, lane).execution_log
    assert (record.success, record.retry_count, record.retry_errors, calls) == (False, 0, ["not yet"], [1])


def run(tool: StreamingTool) -> Any:
    return tool.run({"n": 1})


def run_async(tool: StreamingTool) -> Any:
    return asyncio.run(tool.run_async({"n": 1}))


@pytest.mark.parametrize("call", [run, run_async])
def test_t_31_the_limit_bounds_the_sum_of_many_short_waits(call: Callable[[StreamingTool], Any]) -> None:
    with pytest.raises(dw.ToolTimeoutError) as caught:
        call(stream_tool(endless, timeout_seconds=0.05))
    assert (caught.value.tool_name, caught.value.timeout_seconds) == ("s", 0.05)


@lanes
@concurrencies
def test_t_31_the_limit_bounds_the_whole_stream_of_a_step(lane: str, concurrency: int) -> None:
    recorder = Recorder()
    executor = make_executor(
        [linear(step("s"))],
        [stream_tool(endless, timeout_seconds=0.05)],
        middleware=[recorder],
        max_step_concurrency=concurrency,
    )
    (record,) = execute(executor, lane).execution_log
    assert (record.error_type, record.error_message) == ("ToolTimeoutError", "Tool 's' exceeded timeout of 0.05s.")
    shown = {call[3:] for call in recorder.calls if call[0] == "step_chunk"}
    assert shown == {("more", False)}


def ticking(begun: Callable[[], None], stopped: Callable[[], None]) -> dw.StreamingTool:
    """Return a streaming tool that goes on until it is stopped."""

    async def tick(given: Any) -> Any:
        try:
            while True:
                yield dw.ToolChunk(data=1)
                begun()
                await asyncio.sleep(0.001)
        finally:
            stopped()

    return dw.StreamingTool(name="tick", description="", input_schema=Number, output_schema=Number, stream_fn=tick)


def life_with(tool: dw.StreamingTool) -> Callable[[Any], Any]:
    executor = make_executor([linear(step("tick"))], [tool])
    request = executor._request("main", {"n": 1}, None, False, None, None, False, "skip", None)
    return partial(life_of_run, executor._setup, request)


def test_a_stream_whose_step_is_closed_before_it_has_it_is_stopped_sync() -> None:
    begun, stopped = threading.Event(), threading.Event()
    performer = SyncPerformer()
    fibers = Fibers(life_with(ticking(begun.set, stopped.set))(performer))
    while (request := fibers.next_request()) is not None:
        fiber, effect = request
        value = performer.perform(effect)
        if type(effect) is OpenStream:
            break
        fibers.resume(fiber, value, None)
    assert begun.wait(10)
    fiber.close()
    assert stopped.wait(10)
    performer.close()


async def test_a_stream_whose_step_is_closed_before_it_has_it_is_stopped_async() -> None:
    begun, stopped = asyncio.Event(), asyncio.Event()
    performer = AsyncPerformer()
    fibers = Fibers(life_with(ticking(begun.set, stopped.set))(performer))
    while (request := fibers.next_request()) is not None:
        fiber, effect = request
        value = await performer.perform(effect)
        if type(effect) is OpenStream:
            break
        fibers.resume(fiber, value, None)
    await asyncio.wait_for(begun.wait(), 10)
    fiber.close()
    await asyncio.wait_for(stopped.wait(), 10)
    await performer.close()
