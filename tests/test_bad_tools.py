"""Tools that do what no tool should: the record says everything, and the executor is as good as new."""

import asyncio
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from datetime import UTC
from typing import Any

import pytest
from pydantic import BaseModel

import doubleweave as dw
from doubleweave import ToolChunk
from executors_under_test import concurrencies, execute, lanes, make_executor
from lanes_under_test import Anything, Case, Number, Recorder, assert_same_on_both_lanes, normalised, number_tool
from parity_scenarios import dag, inc, linear, node, step

Fn = Callable[[Any], Any]


def plain(name: str, fn: Fn) -> dw.Tool:
    return number_tool(name, fn)


def inline(name: str, fn: Fn) -> dw.Tool:
    return number_tool(name, fn, inline=True)


def awaited(name: str, fn: Fn) -> dw.Tool:
    async def call(v: Any) -> Any:
        await asyncio.sleep(0)
        return fn(v)

    return number_tool(name, call)


def streamed(name: str, fn: Fn) -> dw.Tool:
    async def stream(v: Any) -> AsyncIterator[ToolChunk]:
        yield ToolChunk(data="first")
        yield ToolChunk(data=fn(v), is_final=True)

    return stream_tool(stream, name)


def stream_tool(stream_fn: Callable[[Any], AsyncIterator[ToolChunk]], name: str = "t") -> dw.Tool:
    return dw.StreamingTool(name=name, description=name, input_schema=Number, output_schema=Number, stream_fn=stream_fn)


Make = Callable[[str, Fn], dw.Tool]
ways = pytest.mark.parametrize("make", [plain, inline, awaited, streamed])
FLOW = dag(node("a"), node("b", "t", after="a", source="a"), node("c", after="b", source="b"))


def once(bad: Fn) -> Fn:
    """Behave badly at the first call and well at any later one."""
    calls: list[Any] = []

    def fn(v: Any) -> Any:
        calls.append(v)
        return bad(v) if len(calls) == 1 else {"n": v.n * 10}

    return fn


def assert_as_good_as_new(executor: dw.FlowExecutor, make: Make, lane: str) -> None:
    fresh = make_executor([FLOW], [number_tool("inc", inc), make("t", lambda v: {"n": v.n * 10})])
    again = execute(executor, lane)
    assert again.final_output == {"n": 1, "a": 2, "b": 20, "c": 21}
    assert normalised(again) == normalised(execute(fresh, lane))


def assert_says_all(record: dw.StepRecord, error_type: str, message: str, retry_error: str | None = None) -> None:
    """Check every field of the record of a step that failed in its tool."""
    values = record.model_dump()
    started, ended, duration_ms = (values.pop(name) for name in ("started_at", "ended_at", "duration_ms"))
    assert (started.tzinfo, ended.tzinfo) == (UTC, UTC)
    assert started <= ended
    assert duration_ms >= 0
    assert values == {
        "step_index": 1,
        "tool_name": "t",
        "inputs": {"n": 2},
        "outputs": None,
        "error_type": error_type,
        "error_code": dw.error_code_for(error_type),
        "error_message": message,
        "success": False,
        "retry_count": 0,
        "retry_errors": [retry_error or message.removeprefix("Execution error in tool 't' at step 1: ")],
        "skipped": False,
        "cached": False,
        "fallback_used": False,
        "fallback_tool_name": None,
        "flow_name": None,
        "sub_result": None,
        "approval": None,
        "decision": None,
    }
    assert dw.StepRecord.model_validate_json(record.model_dump_json()) == record


def run_bad(tool: dw.Tool, lane: str, concurrency: int) -> tuple[dw.FlowExecutor, dw.StepRecord]:
    """Run the flow whose second step is the tool; return the record of that step, which is the last."""
    hooks = Recorder()
    executor = make_executor(
        [FLOW], [number_tool("inc", inc), tool], middleware=[hooks], max_step_concurrency=concurrency
    )
    result = execute(executor, lane)
    assert (result.success, result.final_output) == (False, None)
    assert [r.success for r in result.execution_log] == [True, False]
    record = result.execution_log[1]
    assert hooks.calls[-2:] == [("step_end", "main", normalised(record)), ("flow_end", "main", normalised(result))]
    return executor, record


# --- what a tool returns ----------------------------------------------------------------------------------------------


class Other(BaseModel):
    word: str = "no number"


WRONG: list[Any] = [None, [1], "text", 5, object(), {}, {"m": 1}, {"n": "many"}, {"n": None}, Other(), Number]


@ways
@lanes
@concurrencies
@pytest.mark.parametrize("value", WRONG, ids=lambda value: repr(value)[:12])
def test_t_18_a_wrong_output_is_a_schema_failure(value: Any, concurrency: int, lane: str, make: Make) -> None:
    executor, record = run_bad(make("t", once(lambda v: value)), lane, concurrency)
    message = str(record.error_message)
    start = "Schema validation failed for tool 't' at step 1: "
    assert message.startswith(f"{start}1 validation error for Number")
    fault, _, hint = message.rpartition("\n")
    assert hint.startswith("Step 1 of flow 'main': ")
    assert_says_all(record, "SchemaValidationError", message, fault.removeprefix(start))
    assert_as_good_as_new(executor, make, lane)


def circle(v: Any) -> dict[str, Any]:
    value: dict[str, Any] = {"n": 1}
    value["self"] = value
    return value


class Mute:
    def __str__(self) -> str:
        raise LookupError("no words")

    __repr__ = __str__


# What the tool returns, the schema, the error and its message; the limit is 100 bytes.
UNFIT: list[tuple[str, Fn, type[BaseModel], str, str]] = [
    (
        "oversized",
        lambda v: {"n": 1, "text": "x" * 100},
        Number,
        "ToolOutputSizeError",
        "Tool 't' output size 120 exceeds max 100.",
    ),
    (
        "oversized in UTF-8",
        lambda v: {"text": "é" * 20},
        Anything,
        "ToolOutputSizeError",
        "Tool 't' output size 132 exceeds max 100.",
    ),
    (
        "oversized and wrong",
        lambda v: "x" * 100,
        Number,
        "ToolOutputSizeError",
        "Tool 't' output size 102 exceeds max 100.",
    ),
    ("circular", circle, Anything, "FlowExecutionError", "Circular reference detected"),
    (
        "keys",
        lambda v: {(1, 2): 3},
        Anything,
        "FlowExecutionError",
        "keys must be str, int, float, bool or None, not tuple",
    ),
    ("mute", lambda v: {"n": Mute()}, Anything, "FlowExecutionError", "no words"),
]


@pytest.mark.parametrize("make", [plain, awaited, streamed])
@lanes
@concurrencies
@pytest.mark.parametrize(
    ("bad", "schema", "error_type", "message"), [row[1:] for row in UNFIT], ids=[row[0] for row in UNFIT]
)
def test_t_11_an_output_too_large_or_impossible_to_measure_is_recorded(
    bad: Fn, schema: type[BaseModel], error_type: str, message: str, concurrency: int, lane: str, make: Make
) -> None:
    def limited(name: str, fn: Fn) -> dw.Tool:
        made = make(name, fn)
        made.output_schema, made.max_output_size = schema, 100
        return made

    executor, record = run_bad(limited("t", once(bad)), lane, concurrency)
    prefix = "Execution error in tool 't' at step 1: " if error_type == "FlowExecutionError" else ""
    assert_says_all(record, error_type, prefix + message)
    assert_as_good_as_new(executor, limited, lane)


# --- what a tool raises -----------------------------------------------------------------------------------------------


class Wordless(Exception):
    def __str__(self) -> str:
        raise LookupError("no words")


def endless(v: Any) -> Any:
    return endless(v)


def raising(error: BaseException) -> Fn:
    def fn(v: Any) -> Any:
        raise error

    return fn


# What a tool raises and the text that the record has for it.
ERRORS: list[tuple[Exception, str]] = [
    (ValueError("bad"), "bad"),
    (ValueError(), ""),
    (KeyError("key"), "'key'"),
    (TimeoutError("mine"), "mine"),
    (MemoryError("full"), "full"),
    (ExceptionGroup("several", [ValueError("one")]), "several (1 sub-exception)"),
    (Wordless(), "<Wordless without readable text>"),
    (dw.FlowExecutionError("x", 7, "mine"), "Execution error in tool 'x' at step 7: mine"),
    (
        dw.FlowCancelledError("main", 1, result=None),
        "Flow 'main' cancelled before step 1 (cancellation requested).",
    ),
    (dw.DecisionBudgetExceededError("main", 1), str(dw.DecisionBudgetExceededError("main", 1))),
]


@ways
@lanes
@concurrencies
@pytest.mark.parametrize(("error", "text"), ERRORS, ids=lambda value: type(value).__name__)
def test_an_error_of_a_tool_is_recorded_whatever_its_class(
    error: Exception, text: str, concurrency: int, lane: str, make: Make
) -> None:
    executor, record = run_bad(make("t", once(raising(error))), lane, concurrency)
    assert_says_all(record, "FlowExecutionError", f"Execution error in tool 't' at step 1: {text}")
    assert_as_good_as_new(executor, make, lane)


@ways
@lanes
@concurrencies
@pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration])
def test_dev_38_an_iterator_s_end_is_recorded_and_ends_nothing_else(
    kind: type[Exception], concurrency: int, lane: str, make: Make
) -> None:
    executor, record = run_bad(make("t", once(raising(kind("no more")))), lane, concurrency)
    # Python itself gives a generator's, or a coroutine's, another class and text.
    foreign = make is streamed or (make is awaited and kind is StopIteration)
    word = "async generator" if make is streamed else "coroutine"
    text = f"{word} raised {kind.__name__}" if foreign else "no more"
    assert_says_all(record, "FlowExecutionError", f"Execution error in tool 't' at step 1: {text}")
    assert_as_good_as_new(executor, make, lane)


@ways
@lanes
@concurrencies
def test_a_tool_that_calls_itself_without_end_is_recorded(concurrency: int, lane: str, make: Make) -> None:
    executor, record = run_bad(make("t", once(endless)), lane, concurrency)
    message = str(record.error_message)
    assert message.startswith("Execution error in tool 't' at step 1: maximum recursion depth exceeded")
    assert_says_all(record, "FlowExecutionError", message)
    assert_as_good_as_new(executor, make, lane)


class Leave(BaseException):
    pass


LEAVING = [KeyboardInterrupt("now"), SystemExit(3), Leave("now"), GeneratorExit("now"), asyncio.CancelledError("now")]


@ways
@lanes
@concurrencies
@pytest.mark.parametrize("error", LEAVING, ids=lambda error: type(error).__name__)
def test_dev_5_what_is_no_exception_leaves_the_run_after_its_end_was_told(
    error: BaseException, concurrency: int, lane: str, make: Make
) -> None:
    hooks = Recorder()
    executor = make_executor(
        [FLOW, linear(step("inc"), dw.FlowStep(flow_name="main", input_mapping={"n": 1}), name="outer")],
        [number_tool("inc", inc), make("t", once(raising(error)))],
        middleware=[hooks],
        max_step_concurrency=concurrency,
    )
    with pytest.raises(type(error)) as caught:
        execute(executor, lane, name="outer")
    if not isinstance(error, asyncio.CancelledError):
        assert caught.value is error or str(caught.value) == str(error)
    error.__traceback__ = None
    ends = [call[1:] for call in hooks.calls if call[0] == "flow_end"]
    assert [(name, result["success"], result["final_output"]) for name, result in ends] == [
        ("main", False, None),
        ("outer", False, None),
    ]
    assert [[(r["tool_name"], r["success"]) for r in result["execution_log"]] for _, result in ends] == [
        [("inc", True)]
    ] * 2
    assert [call[2]["step_index"] for call in hooks.calls if call[0] == "step_end"] == [0, 0]
    assert_as_good_as_new(executor, make, lane)


@lanes
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("concurrency", [2, 8])
def test_row_8_dev_22_a_sub_flow_beside_a_tool_that_leaves_is_closed_with_all_its_steps(
    concurrency: int, asynchronous: bool, lane: str
) -> None:
    under_way, release, ends, hooks = threading.Barrier(3), threading.Event(), list[str](), Recorder()

    def leave(v: Any) -> dict[str, int]:
        under_way.wait(timeout=10)
        raise Leave

    def work(v: Any) -> dict[str, int]:
        under_way.wait(timeout=10)
        release.wait(timeout=10)
        return {"n": v.n}

    async def work_async(v: Any) -> dict[str, int]:
        try:
            await asyncio.to_thread(under_way.wait, 10)
            await asyncio.Event().wait()
        finally:
            ends.append("cancelled")
        return {"n": v.n}

    outer = dag(node("a", "leave"), dw.DAGFlowStep(step_id="s", flow_name="inner"))
    inner = dag(node("x", "work"), node("y", "work"), name="inner")
    tools = [number_tool("leave", leave), number_tool("work", work_async if asynchronous else work)]
    executor = make_executor([outer, inner], tools, middleware=[hooks], max_step_concurrency=concurrency)
    with pytest.raises(Leave):
        execute(executor, lane)
    assert ends == (["cancelled"] * 2 if asynchronous else [])
    release.set()
    flow_ends = [(call[1], call[2]["execution_log"]) for call in hooks.calls if call[0] == "flow_end"]
    assert flow_ends == [("inner", []), ("main", [])]


# --- what a tool does to its time -------------------------------------------------------------------------------------


class Hanging:
    """A tool in each way whose first call outlasts every limit; `release` ends the thread that it may have left behind."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.calls = 0

    def _first(self) -> bool:
        self.calls += 1
        return self.calls == 1

    def plain(self, v: Any) -> dict[str, int]:
        if self._first():
            self.release.wait(timeout=30)
        return {"n": v.n * 10}

    async def awaited(self, v: Any) -> dict[str, int]:
        if self._first():
            await asyncio.Event().wait()
        return {"n": v.n * 10}

    async def stubborn(self, v: Any) -> dict[str, int]:
        if self._first():
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return {"n": 0}
        return {"n": v.n * 10}

    async def converting(self, v: Any) -> dict[str, int]:
        if self._first():
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError as error:
                raise ValueError("I was cancelled") from error
        return {"n": v.n * 10}

    async def streamed(self, v: Any) -> AsyncIterator[ToolChunk]:
        yield ToolChunk(data="first")
        if self._first():
            await asyncio.Event().wait()
        yield ToolChunk(data={"n": v.n * 10}, is_final=True)


@lanes
@concurrencies
@pytest.mark.parametrize("way", ["plain", "awaited", "stubborn", "converting", "streamed"])
def test_t_13_t_15_t_16_a_tool_past_its_time_is_recorded_and_may_be_called_again(
    way: str, concurrency: int, lane: str
) -> None:
    hanging = Hanging()
    if way == "streamed":
        tool: dw.Tool = stream_tool(hanging.streamed)
    else:
        tool = number_tool("t", getattr(hanging, way))
    tool.timeout_seconds = 0.05
    try:
        executor, record = run_bad(tool, lane, concurrency)
        message = "Tool 't' exceeded timeout of 0.05s."
        assert_says_all(record, "ToolTimeoutError", message)
        assert record.duration_ms > 45
        tool.timeout_seconds = 30
        assert_as_good_as_new(executor, streamed if way == "streamed" else plain, lane)
    finally:
        hanging.release.set()


# --- what a tool does to the event loop ---------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [awaited, streamed])
@lanes
@concurrencies
def test_a_tool_that_closes_its_loop_is_refused_by_the_loop(concurrency: int, lane: str, make: Make) -> None:
    executor, record = run_bad(make("t", once(lambda v: asyncio.get_running_loop().close())), lane, concurrency)
    assert_says_all(
        record, "FlowExecutionError", "Execution error in tool 't' at step 1: Cannot close a running event loop"
    )
    assert_as_good_as_new(executor, make, lane)


def stop_the_loop(v: Any) -> dict[str, int]:
    asyncio.get_running_loop().stop()
    return {"n": 20}


@pytest.mark.parametrize("make", [awaited, streamed])
@concurrencies
def test_a_tool_that_stops_the_loop_of_a_blocking_run_stops_nothing(concurrency: int, make: Make) -> None:
    executor = make_executor(
        [FLOW], [number_tool("inc", inc), make("t", stop_the_loop)], max_step_concurrency=concurrency
    )
    assert execute(executor, "sync").final_output == {"n": 1, "a": 2, "b": 20, "c": 21}
    assert_as_good_as_new(executor, make, "sync")


@pytest.mark.parametrize("make", [inline, awaited, streamed])
@concurrencies
def test_a_run_goes_on_when_the_loop_that_a_tool_stopped_does(concurrency: int, make: Make) -> None:
    executor = make_executor(
        [FLOW], [number_tool("inc", inc), make("t", stop_the_loop)], max_step_concurrency=concurrency
    )
    with closing(asyncio.new_event_loop()) as loop:
        task = loop.create_task(executor.execute_flow_async("main", {"n": 1}))
        with pytest.raises(RuntimeError, match="stopped before Future completed"):
            loop.run_until_complete(task)
        assert loop.run_until_complete(task).final_output == {"n": 1, "a": 2, "b": 20, "c": 21}


@pytest.mark.parametrize("make", [awaited, streamed])
@lanes
@concurrencies
def test_a_tool_that_cancels_every_task_of_its_loop_takes_the_run_with_it(
    concurrency: int, lane: str, make: Make
) -> None:
    hooks = Recorder()

    calls = iter([True])

    async def bad(v: Any) -> dict[str, int]:
        if next(calls, None):
            for task in asyncio.all_tasks():
                task.cancel()
            await asyncio.sleep(0)
        return {"n": v.n * 10}

    async def stream(v: Any) -> AsyncIterator[ToolChunk]:
        yield ToolChunk(data=await bad(v), is_final=True)

    tool = number_tool("t", bad)
    if make is streamed:
        tool = stream_tool(stream)
    executor = make_executor(
        [FLOW], [number_tool("inc", inc), tool], middleware=[hooks], max_step_concurrency=concurrency
    )
    with pytest.raises(asyncio.CancelledError):
        execute(executor, lane)
    (end,) = [call[2] for call in hooks.calls if call[0] == "flow_end"]
    assert (end["success"], [r["tool_name"] for r in end["execution_log"]]) == (False, ["inc"])
    assert_as_good_as_new(executor, make, lane)


@lanes
@concurrencies
def test_a_client_that_a_tool_closes_is_closed_for_the_tools_after_it_in_that_run_only(
    concurrency: int, lane: str
) -> None:
    ends: list[socket.socket] = []
    clients: list[Any] = []
    first_time = iter([True])

    async def connect(v: Any) -> dict[str, int]:
        ours, theirs = socket.socketpair()
        ends.append(theirs)
        clients.append((await asyncio.open_connection(sock=ours))[1])
        return {"n": v.n}

    async def close(v: Any) -> dict[str, int]:
        if next(first_time, None):
            clients[-1].close()
            await clients[-1].wait_closed()
        return {"n": v.n}

    async def use(v: Any) -> dict[str, int]:
        clients[-1].write(b"x")
        await clients[-1].drain()
        clients[-1].close()
        await clients[-1].wait_closed()
        return {"n": v.n}

    flow = dag(node("a", "connect"), node("b", "close", after="a"), node("c", "use", after="b"))
    tools = [number_tool("connect", connect), number_tool("close", close), number_tool("use", use)]
    executor = make_executor([flow], tools, max_step_concurrency=concurrency)
    first, second = execute(executor, lane), execute(executor, lane)
    assert [(r.tool_name, r.error_type) for r in first.execution_log] == [
        ("connect", None),
        ("close", None),
        ("use", "FlowExecutionError"),
    ]
    assert first.execution_log[2].error_message == "Execution error in tool 'use' at step 2: Connection lost"
    assert second.success
    for end in ends:
        end.close()


# --- bad stand-ins ----------------------------------------------------------------------------------------------------

EFFECTS = dw.ToolSafetyContract(side_effects=dw.SideEffectLevel.WRITE, supports_dry_run=True)


@concurrencies
@pytest.mark.parametrize("on_error", ["fail", "skip", "fallback:inc"])
@pytest.mark.parametrize(
    ("preview", "error_type", "text"),
    [
        (raising(ValueError("bad")), "FlowExecutionError", "Execution error in tool 't' at step 0: bad"),
        (raising(StopIteration("bad")), "FlowExecutionError", "Execution error in tool 't' at step 0: bad"),
        (lambda v: None, "SchemaValidationError", "Schema validation failed for tool 't' at step 0: 1 validation"),
        (lambda v: {"m": 1}, "SchemaValidationError", "Schema validation failed for tool 't' at step 0: 1 validation"),
    ],
)
def test_3_6_a_bad_dry_run_is_a_failure_whatever_on_error_says(
    preview: Fn, error_type: str, text: str, on_error: str, concurrency: int
) -> None:
    def never(v: Any) -> Any:
        sys.exit("called in a dry run")

    def tools() -> list[dw.Tool]:
        return [number_tool("t", never, safety=EFFECTS, dry_run_fn=preview), number_tool("inc", inc)]

    flow = dag(node("a", "t", on_error=on_error))
    seen = assert_same_on_both_lanes(Case([flow], tools, run=lambda: {"dry_run": True}), concurrency)
    assert seen.result is not None
    (record,) = seen.result.execution_log
    assert (record.success, record.outputs, record.fallback_used, record.error_type) == (False, None, False, error_type)
    assert str(record.error_message).startswith(text)
