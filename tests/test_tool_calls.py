"""Calling a tool directly, blocking or awaited: threads, loops, time limits and errors."""

import asyncio
import concurrent.futures
import contextvars
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

import doubleweave as dw
from doubleweave import Tool
from lanes_under_test import Case, Number, assert_same_on_both_lanes, number_tool, observe
from parity_scenarios import count_up, double, inc, linear, step

Call = Callable[[Tool, dict[str, Any]], Any]


def run(tool: Tool, raw: dict[str, Any]) -> Any:
    return tool.run(raw)


def run_async(tool: Tool, raw: dict[str, Any]) -> Any:
    return asyncio.run(tool.run_async(raw))


def in_thread(call: Call) -> Call:
    def elsewhere(tool: Tool, raw: dict[str, Any]) -> Any:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            return pool.submit(call, tool, raw).result(timeout=20)

    return elsewhere


def run_in_loop(tool: Tool, raw: dict[str, Any]) -> Any:
    async def main() -> Any:
        return tool.run(raw)

    return asyncio.run(main())


BOTH: dict[str, Call] = {"run": run, "async run_async": run_async}
EVERYWHERE: dict[str, Call] = {
    **BOTH,
    "run in a thread": in_thread(run),
    "run_async in a thread": in_thread(run_async),
    "run in a loop": run_in_loop,
}
both = pytest.mark.parametrize("call", BOTH.values(), ids=BOTH)
everywhere = pytest.mark.parametrize("call", EVERYWHERE.values(), ids=EVERYWHERE)
limits = pytest.mark.parametrize("timeout", [None, 10.0])


@everywhere
@limits
def test_a_plain_function_may_be_called_from_anywhere(call: Call, timeout: float | None) -> None:
    assert call(number_tool("inc", inc, timeout_seconds=timeout), {"n": "1"}) == {"n": 2}


@pytest.mark.parametrize("call", [run, run_async, in_thread(run), in_thread(run_async)])
@limits
def test_t_14_an_async_function_may_be_called_where_no_loop_runs(call: Call, timeout: float | None) -> None:
    assert call(number_tool("double", double, timeout_seconds=timeout), {"n": "2"}) == {"n": 4}


@limits
def test_t_14_run_of_an_async_function_inside_a_loop_is_refused_before_the_call(timeout: float | None) -> None:
    calls: list[Any] = []

    async def note(v: Any) -> dict[str, int]:
        calls.append(v)
        return {"n": 1}

    with pytest.raises(dw.ToolDefinitionError, match="execute_flow_async") as caught:
        run_in_loop(number_tool("note", note, timeout_seconds=timeout), {"n": 1})
    assert caught.value.function_name == "note"
    assert calls == []


@everywhere
@pytest.mark.parametrize("asynchronous", [False, True])
def test_t_10_a_wrong_input_fails_before_the_call(call: Call, asynchronous: bool) -> None:
    calls: list[Any] = []

    async def note_async(v: Any) -> dict[str, int]:
        calls.append(v)
        return {"n": 1}

    def note(v: Any) -> dict[str, int]:
        calls.append(v)
        return {"n": 1}

    made = number_tool("note", note_async if asynchronous else note, timeout_seconds=10)
    with pytest.raises(ValidationError) as caught:
        call(made, {"n": "one"})
    assert (caught.value.title, caught.value.error_count(), calls) == ("Number", 1, [])


@both
@pytest.mark.parametrize("asynchronous", [False, True])
def test_t_10_the_function_receives_the_validated_input_and_the_raw_one_is_left_alone(
    call: Call, asynchronous: bool
) -> None:
    received: list[Any] = []

    def note(v: Any) -> dict[str, int]:
        received.append(v)
        return {"n": v.n}

    async def note_async(v: Any) -> dict[str, int]:
        return note(v)

    raw = {"n": "1", "more": 2}
    assert call(number_tool("note", note_async if asynchronous else note), raw) == {"n": 1}
    assert received == [Number(n=1)]
    assert raw == {"n": "1", "more": 2}


@both
@pytest.mark.parametrize(
    ("raw", "error"),
    [({"n": "many"}, ValidationError), (None, ValidationError), ({"n": 12345678}, dw.ToolOutputSizeError)],
)
def test_t_11_the_output_is_checked_on_both(call: Call, raw: Any, error: type[Exception]) -> None:
    async def give(v: Any) -> Any:
        return raw

    for fn in (lambda v: raw, give):
        with pytest.raises(error):
            call(number_tool("t", fn, max_output_size=13), {"n": 1})


# --- which thread, which loop, which context ------------------------------------------------------------------------

MARK: contextvars.ContextVar[str] = contextvars.ContextVar("MARK", default="unset")


def where(threads: list[threading.Thread]) -> Callable[[Any], dict[str, int]]:
    def fn(v: Any) -> dict[str, int]:
        threads.append(threading.current_thread())
        assert MARK.get() == "caller"
        MARK.set("tool")
        names.append(threading.current_thread().name)
        daemons.append(threading.current_thread().daemon)
        return {"n": v.n}

    names: list[str] = []
    daemons: list[bool] = []
    fn.names, fn.daemons = names, daemons  # type: ignore[attr-defined]  # what the function has seen
    return fn


def test_t_12_without_a_limit_run_calls_on_the_caller_s_thread_and_context() -> None:
    threads: list[threading.Thread] = []
    MARK.set("caller")
    run(number_tool("where", where(threads)), {"n": 1})
    assert threads == [threading.current_thread()]
    assert MARK.get() == "tool"


@pytest.mark.parametrize(("call", "timeout"), [(run, 10.0), (run_async, None), (run_async, 10.0)])
def test_t_13_t_16_dev_9_otherwise_on_a_named_daemon_with_a_copy_of_the_context(
    call: Call, timeout: float | None
) -> None:
    threads: list[threading.Thread] = []
    fn: Any = where(threads)
    MARK.set("caller")
    made = number_tool("my tool", fn, timeout_seconds=timeout)
    for _ in range(2):
        call(made, {"n": 1})
        assert "doubleweave-tool-my tool" not in {thread.name for thread in threading.enumerate()}
    assert fn.names == ["doubleweave-tool-my tool"] * 2
    assert fn.daemons == [True, True]
    assert threading.current_thread() not in threads
    assert MARK.get() == "caller"


async def test_t_15_an_async_function_is_awaited_on_the_running_loop() -> None:
    loops: list[Any] = []

    async def note(v: Any) -> dict[str, int]:
        loops.append(asyncio.get_running_loop())
        return {"n": MARK.get() == "caller"}

    MARK.set("caller")
    for timeout in (None, 10.0):
        assert await number_tool("note", note, timeout_seconds=timeout).run_async({"n": 1}) == {"n": 1}
    assert loops == [asyncio.get_running_loop()] * 2


def test_an_inline_tool_is_called_on_the_loop_itself_unless_it_has_a_limit() -> None:
    threads: list[threading.Thread] = []
    MARK.set("caller")
    for timeout in (None, 10.0):
        run_async(number_tool("where", where(threads), inline=True, timeout_seconds=timeout), {"n": 1})
    assert [thread is threading.current_thread() for thread in threads] == [True, False]


async def test_t_16_the_loop_stays_free_while_a_plain_function_blocks() -> None:
    release = threading.Event()

    def wait(v: Any) -> dict[str, int]:
        assert release.wait(timeout=10)
        return {"n": v.n}

    task = asyncio.create_task(number_tool("wait", wait).run_async({"n": 1}))
    await asyncio.sleep(0)
    release.set()
    assert await task == {"n": 1}


# --- time limits ----------------------------------------------------------------------------------------------------


@both
def test_t_13_t_16_dev_12_a_plain_function_that_takes_too_long_is_left_behind(call: Call) -> None:
    release, threads = threading.Event(), list[threading.Thread]()

    def hang_once(v: Any) -> dict[str, int]:
        threads.append(threading.current_thread())
        if len(threads) == 1:
            release.wait(timeout=30)
        return {"n": v.n}

    made = number_tool("hang", hang_once, timeout_seconds=0.05)
    start = time.monotonic()
    with pytest.raises(dw.ToolTimeoutError) as caught:
        call(made, {"n": 1})
    assert time.monotonic() - start < 10
    assert (caught.value.tool_name, caught.value.timeout_seconds) == ("hang", 0.05)
    assert str(caught.value) == "Tool 'hang' exceeded timeout of 0.05s."
    assert threads[0].name == "doubleweave-tool-hang", "it still runs"
    made.timeout_seconds = 10
    assert call(made, {"n": 2}) == {"n": 2}, "and may be called again at once"
    release.set()
    deadline = time.monotonic() + 10
    while threads[0].name == "doubleweave-tool-hang" and threads[0].is_alive():
        assert time.monotonic() < deadline
        threads[0].join(0.001)


@both
def test_t_15_an_async_function_that_takes_too_long_is_cancelled(call: Call) -> None:
    ends: list[str] = []

    async def hang(v: Any) -> dict[str, int]:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise
        return {"n": 0}

    with pytest.raises(dw.ToolTimeoutError) as caught:
        call(number_tool("hang", hang, timeout_seconds=0.02), {"n": 1})
    assert (caught.value.tool_name, caught.value.timeout_seconds, ends) == ("hang", 0.02, ["cancelled"])
    assert isinstance(caught.value.__cause__, TimeoutError)


def test_t_16_the_time_limit_of_a_plain_function_is_chained_from_the_loop_s_error() -> None:
    release = threading.Event()
    with pytest.raises(dw.ToolTimeoutError) as caught:
        run_async(number_tool("hang", lambda v: {"n": release.wait(timeout=30)}, timeout_seconds=0.02), {"n": 1})
    release.set()
    assert isinstance(caught.value.__cause__, TimeoutError)


@pytest.mark.parametrize("way", ["tool.run({'n': 1})", "asyncio.run(tool.run_async({'n': 1}))"])
def test_t_13_t_16_dev_12_a_function_left_behind_does_not_hold_up_the_interpreter_s_exit(way: str) -> None:
    program = f"""
import asyncio, threading
from pydantic import BaseModel
from doubleweave import Tool, ToolTimeoutError

class Number(BaseModel):
    n: int

tool = Tool(name="hang", description="", input_schema=Number, output_schema=Number,
            fn=lambda v: threading.Event().wait(), timeout_seconds=0.05)
try:
    {way}
except ToolTimeoutError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "Tool 'hang' exceeded timeout of 0.05s.\n")


@pytest.mark.parametrize("timeout", [0, -1])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_limit_of_nothing_is_exceeded_by_whatever_waits(timeout: float, asynchronous: bool) -> None:
    release = threading.Event()

    def wait(v: Any) -> dict[str, int]:
        return {"n": release.wait(timeout=30)}

    async def wait_async(v: Any) -> dict[str, int]:
        await asyncio.Event().wait()
        return {"n": 0}

    fn = wait_async if asynchronous else wait
    case = Case([linear(step("wait"))], lambda: [number_tool("wait", fn, timeout_seconds=timeout)])
    seen = assert_same_on_both_lanes(case)
    release.set()
    assert seen.result is not None
    assert seen.result.execution_log[0].error_message == f"Tool 'wait' exceeded timeout of {timeout}s."


# --- errors of the function -----------------------------------------------------------------------------------------


class Leave(BaseException):
    pass


@both
@limits
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(
    "error",
    [ValueError("mine"), TimeoutError("mine"), dw.ToolTimeoutError("other", 1), Leave("mine"), SystemExit(3)],
    ids=lambda error: type(error).__name__,
)
def test_t_13_dev_39_an_error_of_the_function_is_raised_unchanged_with_its_traceback(
    call: Call, timeout: float | None, asynchronous: bool, error: BaseException
) -> None:
    def fails(v: Any) -> dict[str, int]:
        raise error

    async def fails_async(v: Any) -> dict[str, int]:
        raise error

    fn = fails_async if asynchronous else fails
    with pytest.raises(type(error)) as caught:
        call(number_tool("fails", fn, timeout_seconds=timeout), {"n": 1})
    assert caught.value is error
    assert fn.__name__ in [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    error.__traceback__ = None


@limits
def test_t_13_dev_38_an_iterator_s_end_is_raised_unchanged_too(timeout: float | None) -> None:
    end = StopIteration("no more")

    def fails(v: Any) -> dict[str, int]:
        raise end

    with pytest.raises(StopIteration) as caught:
        run(number_tool("fails", fails, timeout_seconds=timeout), {"n": 1})
    assert caught.value is end
    assert "fails" in [frame.name for frame in traceback.extract_tb(end.__traceback__)]
    end.__traceback__ = None


@limits
async def test_cancelling_the_caller_cancels_an_async_function(timeout: float | None) -> None:
    entered, ends = asyncio.Event(), list[str]()

    async def wait(v: Any) -> dict[str, int]:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            ends.append("ended")
        return {"n": 0}

    task = asyncio.create_task(number_tool("wait", wait, timeout_seconds=timeout).run_async({"n": 1}))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ends == ["ended"]


@limits
async def test_cancelling_the_caller_leaves_a_plain_function_running(timeout: float | None) -> None:
    loop, entered, release = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    returned = threading.Event()

    def wait(v: Any) -> dict[str, int]:
        loop.call_soon_threadsafe(entered.set)
        assert release.wait(timeout=10)
        returned.set()
        return {"n": 0}

    task = asyncio.create_task(number_tool("wait", wait, timeout_seconds=timeout).run_async({"n": 1}))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not returned.is_set()
    release.set()
    assert returned.wait(timeout=10)


# --- T-17: the seam that recording and replaying hold on to ---------------------------------------------------------


def stream_tool() -> Tool:
    return dw.StreamingTool(name="t", description="", input_schema=Number, output_schema=Number, stream_fn=count_up)


@pytest.mark.parametrize("timeout", [None, 10.0])
@pytest.mark.parametrize("concurrency", [1, 2])
@pytest.mark.parametrize(
    ("asynchronous", "lane", "expected"),
    [
        (False, "sync", ["_call_fn", "_validate_output"]),
        (False, "async", ["_call_fn_async", "_validate_output"]),
        (True, "sync", ["_call_fn_async", "_validate_output"]),
        (True, "async", ["_call_fn_async", "_validate_output"]),
    ],
)
def test_t_17_the_seam_is_looked_up_on_the_class_and_passed_once(
    monkeypatch: pytest.MonkeyPatch,
    asynchronous: bool,
    lane: str,
    expected: list[str],
    concurrency: int,
    timeout: float | None,
) -> None:
    calls: list[str] = []

    def replaced(self: Tool, validated_input: Any) -> Any:
        calls.append("_call_fn")
        return {"n": validated_input.n + 100}

    async def replaced_async(self: Tool, validated_input: Any) -> Any:
        calls.append("_call_fn_async")
        return {"n": validated_input.n + 100}

    validate = Tool._validate_output

    def noted(self: Tool, raw_output: Any) -> dict[str, Any]:
        calls.append("_validate_output")
        return validate(self, raw_output)

    monkeypatch.setattr(Tool, "_call_fn", replaced)
    monkeypatch.setattr(Tool, "_call_fn_async", replaced_async)
    monkeypatch.setattr(Tool, "_validate_output", noted)
    fn = double if asynchronous else inc
    case = Case([linear(step("t"))], lambda: [number_tool("t", fn, timeout_seconds=timeout)])
    seen = observe(case, lane, concurrency)
    assert seen.result is not None
    assert (seen.result.final_output, calls) == ({"n": 101}, expected)


@pytest.mark.parametrize("make", [lambda: number_tool("t", double), stream_tool])
def test_t_17_run_of_an_async_tool_passes_the_async_seam_once(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], Tool]
) -> None:
    calls: list[Any] = []
    original = Tool._call_fn_async

    async def noted(self: Tool, validated_input: Any) -> Any:
        calls.append(validated_input)
        return await original(self, validated_input)

    monkeypatch.setattr(Tool, "_call_fn_async", noted)
    for call in BOTH.values():
        call(make(), {"n": 1})
    assert calls == [Number(n=1)] * 2


@pytest.mark.parametrize("lane", ["sync", "async"])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_time_limit_that_is_no_number_is_no_time_at_all(lane: str, asynchronous: bool) -> None:
    release = threading.Event()

    def hang(v: Any) -> dict[str, int]:
        release.wait(10)
        return {"n": 1}

    async def hang_async(v: Any) -> dict[str, int]:
        await asyncio.sleep(10)
        return {"n": 1}

    fn = hang_async if asynchronous else hang
    case = Case([linear(step("t"))], lambda: [number_tool("t", fn, timeout_seconds=float("nan"))])
    result = observe(case, lane).result
    release.set()
    assert result is not None
    assert result.execution_log[0].error_type == "ToolTimeoutError"
