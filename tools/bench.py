"""What a step costs: chains of trivial tools as a ratio to the bare loop that only validates, calls and merges.

Ours and the loop are measured in alternation in one process; the median of the paired ratios is printed. Then, in the same
way, what a snapshot after each step adds.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from pydantic import BaseModel

from doubleweave import (
    Checkpointer,
    FileCheckpointer,
    Flow,
    FlowExecutor,
    FlowRegistry,
    FlowStep,
    InMemoryCheckpointer,
    Tool,
)

PAIRS = 15


class Value(BaseModel):
    x: int


def increment(value: Value) -> dict[str, int]:
    return {"x": value.x + 1}


async def increment_async(value: Value) -> dict[str, int]:
    return {"x": value.x + 1}


def floor(length: int) -> None:
    context = {"x": 0}
    for _ in range(length):
        given = Value.model_validate({"x": context["x"]})
        context.update(Value.model_validate(increment(given)).model_dump())


async def floor_async(length: int) -> None:
    context = {"x": 0}
    for _ in range(length):
        given = Value.model_validate({"x": context["x"]})
        context.update(Value.model_validate(await increment_async(given)).model_dump())


def executor_for(fn: Callable[[Any], Any], length: int, **settings: Any) -> FlowExecutor:
    step = FlowStep(tool_name="increment", input_mapping={"x": "x"})
    flow = Flow(name="chain", description="", on_context_collision="overwrite", steps=[step] * length)
    registry = FlowRegistry()
    registry.register_flow(flow)
    executor = FlowExecutor(registry, **settings)
    executor.register_tool(Tool(name="increment", description="", input_schema=Value, output_schema=Value, fn=fn))
    return executor


def seconds(work: Callable[[], Any], repeat: int) -> float:
    start = time.perf_counter()
    for _ in range(repeat):
        work()
    return (time.perf_counter() - start) / repeat


def row(label: str, ours: Callable[[], Any], bare: Callable[[], Any], length: int) -> None:
    repeat = max(1, 1000 // length)
    ours()
    pairs = [(seconds(ours, repeat), seconds(bare, repeat)) for _ in range(PAIRS)]
    ratio = statistics.median(mine / loop for mine, loop in pairs)
    mine = statistics.median(pair[0] for pair in pairs) / length * 1e6
    print(f"{label:<6} {length:>6} steps  {mine:>7.2f} us a step  {ratio:>5.2f} x the bare loop")


def run_anew(runner: asyncio.Runner, make: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    runner.run(make())


def snapshot_row(store: str, checkpointer: Checkpointer, length: int, pairs: int) -> None:
    plain, saving = executor_for(increment, length), executor_for(increment, length, checkpointer=checkpointer)
    runs = [partial(each.execute_flow, "chain", {"x": 0}) for each in (saving, plain)]
    repeat = max(1, 1000 // length)
    more = statistics.median(seconds(runs[0], repeat) - seconds(runs[1], repeat) for _ in range(pairs)) / length * 1e6
    print(f"{store:<6} {length:>6} steps  {more:>7.1f} us a step more with a snapshot after each")


def main() -> None:
    with asyncio.Runner() as runner:
        for length in (10, 100, 1000):
            blocking, awaited = executor_for(increment, length), executor_for(increment_async, length)
            row("sync", partial(blocking.execute_flow, "chain", {"x": 0}), partial(floor, length), length)
            awaited_run = partial(run_anew, runner, partial(awaited.execute_flow_async, "chain", {"x": 0}))
            row("async", awaited_run, partial(run_anew, runner, partial(floor_async, length)), length)
    for length in (20, 200, 2000):
        snapshot_row("memory", InMemoryCheckpointer(), length, PAIRS)
    with tempfile.TemporaryDirectory() as folder:
        for length in (20, 200, 2000):
            snapshot_row("file", FileCheckpointer(folder), length, 1)


if __name__ == "__main__":
    main()
