"""Async tools run wherever the caller is: no loop, a thread, inside a running loop, a notebook, many threads at once.

A run of the blocking lane starts one loop of its own at the first async tool and closes it at its end (3.8, DEV-35); a run
of the other lane uses the loop that awaits it.
"""

import asyncio
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import AsyncKernelManager

import doubleweave as dw
from doubleweave import ExecutionResult, FlowExecutor, FlowRegistry, Tool
from lane_twins import SyncBarrier, SyncTaskGroup
from lanes_under_test import number_tool
from parity_scenarios import ASKS, WRITES, dag, double, inc, linear, node, step

MARK: ContextVar[str] = ContextVar("MARK", default="none")


def make_executor(flow: dw.AnyFlow, *tools: Tool, **settings: Any) -> FlowExecutor:
    registry = FlowRegistry()
    registry.register_flow(flow)
    executor = FlowExecutor(registry, **settings)
    for tool in tools:
        executor.register_tool(tool)
    return executor


def plainly(executor: FlowExecutor, n: int = 1, **options: Any) -> ExecutionResult:
    return executor.execute_flow("main", {"n": n}, **options)


def in_a_thread(executor: FlowExecutor, **options: Any) -> ExecutionResult:
    call = partial(copy_context().run, plainly, executor, **options)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()


def in_a_coroutine(executor: FlowExecutor, **options: Any) -> ExecutionResult:
    async def call() -> ExecutionResult:
        await asyncio.sleep(0)
        return plainly(executor, **options)

    return asyncio.run(call())


def in_a_callback(executor: FlowExecutor, **options: Any) -> ExecutionResult:
    async def call() -> ExecutionResult:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[ExecutionResult] = loop.create_future()

        def callback() -> None:
            try:
                future.set_result(plainly(executor, **options))
            except BaseException as error:
                future.set_exception(error)

        loop.call_soon(callback)
        return await future

    return asyncio.run(call())


def awaited(executor: FlowExecutor, n: int = 1, **options: Any) -> ExecutionResult:
    return asyncio.run(executor.execute_flow_async("main", {"n": n}, **options))


Place = Callable[..., ExecutionResult]
BLOCKING: list[Place] = [plainly, in_a_thread, in_a_coroutine, in_a_callback]
blocking_anywhere = pytest.mark.parametrize("place", BLOCKING)
anywhere = pytest.mark.parametrize("place", [*BLOCKING, awaited])
on_both_lanes = pytest.mark.parametrize("place", [plainly, awaited])


class Loops:
    """The function of an async tool that notes the loop of each call."""

    def __init__(self) -> None:
        self.seen: list[asyncio.AbstractEventLoop] = []

    async def __call__(self, v: Any) -> dict[str, int]:
        self.seen.append(asyncio.get_running_loop())
        await asyncio.sleep(0)
        return {"n": v.n + 1}


@anywhere
def test_dev_35_a_client_that_is_bound_to_its_loop_lives_for_the_whole_run(place: Place) -> None:
    ours, theirs = socket.socketpair()
    streams: list[Any] = []

    async def connect(v: Any) -> dict[str, int]:
        streams.extend(await asyncio.open_connection(sock=ours))
        return {"n": v.n}

    async def send(v: Any) -> dict[str, int]:
        streams[1].write(b"%d\n" % v.n)
        await streams[1].drain()
        return {"n": v.n}

    def answer(v: Any) -> dict[str, int]:
        theirs.sendall(b"%d\n" % (int(theirs.recv(10)) + 41))
        return {"n": 0}

    async def receive(v: Any) -> dict[str, int]:
        n = int(await streams[0].readline())
        streams[1].close()
        await streams[1].wait_closed()
        return {"n": n}

    tools = [number_tool(function.__name__, function) for function in (connect, send, answer, receive)]
    executor = make_executor(linear(*(step(tool.name) for tool in tools)), *tools)
    with theirs:
        assert place(executor).final_output == {"n": 42}


@anywhere
@pytest.mark.parametrize("concurrency", [1, 2])
def test_row_16_dev_35_all_tools_of_a_run_share_a_loop_and_no_two_runs_do(place: Place, concurrency: int) -> None:
    loops = Loops()
    flow = dag(node("a", "note"), node("b", "note"), node("c", "note", after="a b"))
    executor = make_executor(flow, number_tool("note", loops), max_step_concurrency=concurrency)
    for _ in range(2):
        assert place(executor).final_output == {"n": 1, "a": 2, "b": 2, "c": 2}
    first, second = set(loops.seen[:3]), set(loops.seen[3:])
    assert (len(first), len(second), len(first | second)) == (1, 1, 2)


@anywhere
def test_dev_33_dev_35_async_tools_of_one_run_overlap(place: Place) -> None:
    barrier = asyncio.Barrier(2)

    async def meet(v: Any) -> dict[str, int]:
        async with asyncio.timeout(10):
            await barrier.wait()
        return {"n": v.n}

    flow = dag(node("a", "meet"), node("b", "meet"))
    executor = make_executor(flow, number_tool("meet", meet), max_step_concurrency=2)
    assert place(executor).final_output == {"n": 1, "a": 1, "b": 1}


class Left(BaseException):
    pass


def succeed(token: dw.CancellationToken) -> None: ...
def fail(token: dw.CancellationToken) -> None:
    raise ValueError


def cancel(token: dw.CancellationToken) -> None:
    token.cancel()


def leave(token: dw.CancellationToken) -> None:
    raise Left


# What the second of three tools does, and what the run then gives or raises.
ENDINGS: list[tuple[Callable[[dw.CancellationToken], None], Any]] = [
    (succeed, {"n": 3}),
    (fail, None),
    (cancel, dw.FlowCancelledError),
    (leave, Left),
]


@blocking_anywhere
@pytest.mark.parametrize(("second", "outcome"), ENDINGS)
def test_dev_35_the_loop_is_closed_with_the_run_however_that_ends(
    place: Place, second: Callable[[dw.CancellationToken], None], outcome: Any
) -> None:
    loops, token = Loops(), dw.CancellationToken()

    async def act(v: Any) -> dict[str, int]:
        second(token)
        return {"n": v.n}

    flow = linear(step("note"), step("act"), step("note"))
    executor = make_executor(flow, number_tool("note", loops), number_tool("act", act))
    if isinstance(outcome, type):
        with pytest.raises(outcome):
            place(executor, cancel_token=token)
    else:
        assert place(executor, cancel_token=token).final_output == outcome
    assert [loop.is_closed() for loop in loops.seen] == [True] * (2 if second is succeed else 1)


async def test_row_16_the_other_lane_awaits_on_the_running_loop_and_leaves_it_open() -> None:
    loops = Loops()
    executor = make_executor(linear(step("note")), number_tool("note", loops))
    assert (await executor.execute_flow_async("main", {"n": 1})).final_output == {"n": 2}
    assert loops.seen == [asyncio.get_running_loop()]


@blocking_anywhere
def test_dev_35_what_a_tool_left_running_on_the_loop_ends_with_it(place: Place) -> None:
    tasks: list[asyncio.Task[bool]] = []

    async def spawn(v: Any) -> dict[str, int]:
        tasks.append(asyncio.create_task(asyncio.Event().wait()))
        return {"n": v.n}

    assert place(make_executor(linear(step("spawn")), number_tool("spawn", spawn))).final_output == {"n": 1}
    assert [task.cancelled() for task in tasks] == [True]


@anywhere
def test_dev_37_an_awaitable_callback_shares_the_loop_of_the_tools(place: Place) -> None:
    loops = Loops()

    async def approve(ctx: dw.ApprovalContext) -> dw.ApprovalDecision:
        loops.seen.append(asyncio.get_running_loop())
        return dw.ApprovalDecision.APPROVE

    tool = number_tool("note", loops, safety=ASKS)
    executor = make_executor(linear(step("note"), step("note")), tool, approval_callback=approve)
    assert place(executor).final_output == {"n": 3}
    assert (len(loops.seen), len(set(loops.seen))) == (4, 1)


@anywhere
def test_dev_9_an_async_tool_sees_the_context_variables_of_the_caller(place: Place) -> None:
    seen: list[str] = []

    async def look(v: Any) -> dict[str, int]:
        seen.append(MARK.get())
        await asyncio.sleep(0)
        seen.append(MARK.get())
        return {"n": v.n}

    executor = make_executor(linear(step("look")), number_tool("look", look))
    reset = MARK.set("the caller's")
    try:
        place(executor)
    finally:
        MARK.reset(reset)
    assert seen == ["the caller's"] * 2


@anywhere
@pytest.mark.parametrize("blocks", [True, False])
def test_dev_9_a_flow_that_an_async_tool_runs_inherits_the_scope(place: Place, blocks: bool) -> None:
    written: list[int] = []

    async def nest(v: Any) -> dict[str, int]:
        if blocks:
            result = executor.execute_flow("inner", {"n": v.n})
        else:
            result = await executor.execute_flow_async("inner", {"n": v.n})
        assert result.dry_run
        return {"n": result.final_output["n"]} if result.final_output else {}

    async def write(v: Any) -> dict[str, int]:
        written.append(v.n)
        return {"n": 0}

    tools = number_tool("nest", nest), number_tool("write", write, safety=WRITES), number_tool("double", double)
    executor = make_executor(linear(step("nest")), *tools)
    executor.registry.register_flow(linear(step("double"), step("write"), name="inner"))
    assert place(executor, dry_run=True).final_output == {"n": 2}
    assert written == []


@anywhere
def test_3_8_a_late_async_tool_is_cancelled_and_the_run_goes_on(place: Place) -> None:
    ended: list[str] = []

    async def hang(v: Any) -> dict[str, int]:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return {"n": 0}

    flow = linear(step("hang", on_error="skip"), step("inc"))
    executor = make_executor(flow, number_tool("hang", hang, timeout_seconds=0.01), number_tool("inc", inc))
    result = place(executor)
    assert (result.execution_log[0].error_type, result.final_output, ended) == (
        "ToolTimeoutError",
        {"n": 2},
        ["cancelled"],
    )


@on_both_lanes
def test_dev_35_many_threads_at_once_have_a_loop_each(place: Place) -> None:
    barrier, runs = SyncBarrier(8), 8
    loops: dict[int, list[asyncio.AbstractEventLoop]] = {}

    async def note(v: Any) -> dict[str, int]:
        loops.setdefault(v.n // 10, []).append(asyncio.get_running_loop())
        barrier.wait()  # holds its own loop only, or nobody would ever pass
        return {"n": v.n + 1}

    executor = make_executor(linear(step("note"), step("note")), number_tool("note", note))
    with SyncTaskGroup() as group:
        started = [group.start(place, executor, n=10 * i) for i in range(runs)]
    assert [run.result().final_output for run in started] == [{"n": 10 * i + 2} for i in range(runs)]
    assert [len(set(loops[i])) for i in range(runs)] == [1] * runs
    assert len({loop for seen in loops.values() for loop in seen}) == runs
    assert all(loop.is_closed() for seen in loops.values() for loop in seen)


def test_section_10_threads_and_tasks_share_one_executor() -> None:
    barrier, loops = SyncBarrier(16), Loops()

    def meet(v: Any) -> dict[str, int]:
        barrier.wait()
        return {"n": v.n}

    async def many() -> list[ExecutionResult]:
        runs = [executor.execute_flow_async("main", {"n": i}) for i in range(8)]
        return await asyncio.gather(*runs)

    executor = make_executor(linear(step("meet"), step("note")), number_tool("meet", meet), number_tool("note", loops))
    with SyncTaskGroup() as group:
        tasks = group.start(asyncio.run, many())
        threads = [group.start(plainly, executor, n=i) for i in range(8, 16)]
    results = [*tasks.result(), *(run.result() for run in threads)]
    assert [result.final_output for result in results] == [{"n": i + 1} for i in range(16)]
    assert len({result.trace_id for result in results}) == 16
    assert len(set(loops.seen)) == 9


def test_t_14_3_8_a_tool_alone_has_a_loop_of_its_own_for_each_call() -> None:
    loops = Loops()
    tool = number_tool("note", loops)
    assert [tool.run({"n": 1}), tool.run({"n": 2})] == [{"n": 2}, {"n": 3}]
    assert (len(set(loops.seen)), [loop.is_closed() for loop in loops.seen]) == (2, [True, True])


async def test_t_14_t_15_3_8_a_tool_alone_refuses_to_block_a_running_loop_and_can_be_awaited() -> None:
    loops = Loops()
    tool = number_tool("note", loops)
    with pytest.raises(dw.ToolDefinitionError, match=r"'note'.*run_async"):
        tool.run({"n": 1})
    assert await tool.run_async({"n": 1}) == {"n": 2}
    assert loops.seen == [asyncio.get_running_loop()]


PROGRAM = """
import asyncio
import doubleweave as dw
from pydantic import BaseModel

class Number(BaseModel):
    n: int

loops = set()

async def double(v):
    loops.add(asyncio.get_running_loop())
    await asyncio.sleep(0)
    return {"n": v.n * 2}

registry = dw.FlowRegistry()
steps = [dw.FlowStep(tool_name="double")] * 2
registry.register_flow(dw.Flow(name="main", description="", steps=steps, on_context_collision="overwrite"))
executor = dw.FlowExecutor(registry)
executor.register_tool(dw.Tool(name="double", description="", input_schema=Number, output_schema=Number, fn=double))
"""
BLOCKING_CELL = """
loops.clear()
result = executor.execute_flow("main", {"n": 3})
print(asyncio.get_running_loop().is_running(), result.final_output, [loop.is_closed() for loop in loops])
"""
AWAITING_CELL = """
loops.clear()
result = await executor.execute_flow_async("main", {"n": 4})
print(result.final_output, [loop is asyncio.get_running_loop() for loop in loops])
"""
FORK = """
import os
timed = dw.Tool(name="timed", description="", input_schema=Number, output_schema=Number, fn=dict, timeout_seconds=30)

def run():
    return timed.run({"n": 5}), executor.execute_flow("main", {"n": 1}).final_output

run()
child = os.fork()
outcome = run()
if child:
    assert os.waitpid(child, 0)[1] == 0
print(outcome, flush=True)
"""


async def test_dev_35_both_lanes_work_in_the_cells_of_a_notebook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(variable, str(tmp_path))
    printed: list[str] = []

    def show(message: dict[str, Any]) -> None:
        if message["msg_type"] in ("stream", "error"):
            printed.append(message["content"].get("text") or "\n".join(message["content"]["traceback"]))

    kernel = AsyncKernelManager()
    await kernel.start_kernel()
    client = kernel.client()
    client.start_channels()
    try:
        await client.wait_for_ready(timeout=60)
        for cell in (PROGRAM, BLOCKING_CELL, AWAITING_CELL, BLOCKING_CELL):
            await client.execute_interactive(cell, timeout=60, output_hook=show)
    finally:
        client.stop_channels()
        await kernel.shutdown_kernel(now=True)
    blocking = "True {'n': 12} [True]\n"
    assert printed == [blocking, "{'n': 16} [True]\n", blocking]


def test_both_sides_of_a_fork_go_on() -> None:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM + FORK], capture_output=True, text=True, timeout=60, check=False
    )
    assert (run.returncode, run.stdout) == (0, "({'n': 5}, {'n': 4})\n" * 2), run.stderr
