"""Tools that stream: their chunks, their rules, and what a run makes of them."""

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextvars import ContextVar
from typing import Any

import pytest
from pydantic import ValidationError

import doubleweave as dw
from doubleweave import StreamingTool, ToolChunk
from lanes_under_test import Case, Number, Seen, assert_same_on_both_lanes, number_tool
from parity_scenarios import QUICK, count_up, dag, inc, linear, node, step

StreamFn = Callable[[Any], AsyncIterator[ToolChunk]]
lanes = pytest.mark.parametrize("lane", ["sync", "async"])
concurrencies = pytest.mark.parametrize("concurrency", [1, 2])


def stream_tool(stream_fn: StreamFn, name: str = "stream", **options: Any) -> StreamingTool:
    return StreamingTool(
        **{"name": name, "description": "", "input_schema": Number, "output_schema": Number, **options},
        stream_fn=stream_fn,
    )


async def nothing(v: Any) -> AsyncIterator[ToolChunk]:
    for chunk in list[ToolChunk]():
        yield chunk


async def open_ended(v: Any) -> AsyncIterator[ToolChunk]:
    yield ToolChunk(data="a")
    yield ToolChunk(data={"n": 1})


async def talks_on(v: Any) -> AsyncIterator[ToolChunk]:
    yield ToolChunk(data={"n": 1}, is_final=True)
    yield ToolChunk(data="late")


async def twice(v: Any) -> AsyncIterator[ToolChunk]:
    yield ToolChunk(data={"n": 1}, is_final=True)
    yield ToolChunk(data={"n": 2}, is_final=True)


async def wrong(v: Any) -> AsyncIterator[ToolChunk]:
    yield ToolChunk(data="a")
    yield ToolChunk(data={"n": "many"}, is_final=True)


async def breaks(v: Any) -> AsyncIterator[ToolChunk]:
    yield ToolChunk(data="a")
    raise OSError("the line broke")


async def breaks_late(v: Any) -> AsyncIterator[ToolChunk]:
    yield ToolChunk(data={"n": 1}, is_final=True)
    raise OSError("the line broke")


async def big(v: Any) -> AsyncIterator[ToolChunk]:
    yield ToolChunk(data="x" * 1000)
    yield ToolChunk(data={"n": 1, "more": "x"}, is_final=True)


class Closing:
    """Streams its first chunk and then nothing for ever; writes down when it is closed."""

    def __init__(self) -> None:
        self.ends: list[str] = []

    async def __call__(self, v: Any) -> AsyncGenerator[ToolChunk, None]:
        try:
            yield ToolChunk(data="first")
            await asyncio.Event().wait()
        finally:
            self.ends.append("closed")


async def drained(tool: StreamingTool, raw: Any) -> list[tuple[Any, bool]]:
    return [(chunk.data, chunk.is_final) async for chunk in tool.run_streaming(raw)]


def run(tool: StreamingTool, raw: dict[str, Any]) -> Any:
    return tool.run(raw)


def run_async(tool: StreamingTool, raw: dict[str, Any]) -> Any:
    return asyncio.run(tool.run_async(raw))


def run_streaming(tool: StreamingTool, raw: dict[str, Any]) -> Any:
    return asyncio.run(drained(tool, raw))


directly = pytest.mark.parametrize("call", [run, run_async])
in_every_way = pytest.mark.parametrize("call", [run, run_async, run_streaming])


# --- the tool itself ------------------------------------------------------------------------------------------------


def test_a_chunk_is_frozen_and_not_final_by_default() -> None:
    chunk = ToolChunk(data={"any": object})
    assert (chunk.data, chunk.is_final) == ({"any": object}, False)
    with pytest.raises(ValidationError, match="frozen"):
        setattr(chunk, "is_final", True)  # noqa: B010  # as a plain assignment the type checker refuses it
    with pytest.raises(ValidationError, match="data"):
        ToolChunk.model_validate({})


@pytest.mark.parametrize("option", [{"fn": inc}, {"dry_run_fn": inc}, {"inline": True}])
def test_the_constructor_takes_no_other_function(option: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=next(iter(option))):
        stream_tool(count_up, **option)


def test_the_constructor_takes_what_that_of_a_tool_takes() -> None:
    safety = dw.ToolSafetyContract(side_effects=dw.SideEffectLevel.READ, cacheable=False)
    made = stream_tool(
        count_up, timeout_seconds=1.5, max_output_size=8, schema_version="2", safety=safety, metadata={"a": 1}
    )
    assert (made.stream_fn, made.timeout_seconds, made.max_output_size) == (count_up, 1.5, 8)
    assert (made.schema_version, made.safety, made.cacheable, made.metadata) == ("2", safety, False, {"a": 1})
    assert (repr(made), made.safety_declared, made.supports_dry_run) == ("Tool(name='stream')", True, False)
    assert made.schema_hash == number_tool("other", inc, schema_version="2").schema_hash
    with pytest.raises(ValueError, match="conflicting cacheable"):
        stream_tool(count_up, safety=safety, cacheable=True)
    with pytest.raises(dw.ToolDefinitionError, match="no dry_run_fn was given"):
        stream_tool(count_up, safety=dw.ToolSafetyContract(supports_dry_run=True))
    with pytest.raises(dw.ToolDefinitionError, match="input_schema must be"):
        stream_tool(count_up, input_schema=int)


@directly
def test_t_28_run_drains_the_stream_and_returns_the_validated_terminal_data(call: Any) -> None:
    made = stream_tool(count_up)
    assert made.is_async is True
    assert call(made, {"n": "3"}) == {"n": 3}


async def test_t_28_run_inside_a_loop_is_refused() -> None:
    with pytest.raises(dw.ToolDefinitionError, match="execute_flow_async"):
        stream_tool(count_up).run({"n": 1})


async def test_t_29_chunks_come_unchanged_and_the_terminal_one_with_validated_data() -> None:
    first, last = ToolChunk(data=["any"]), ToolChunk(data={"n": "7", "dropped": 1}, is_final=True)

    async def two(v: Any) -> AsyncIterator[ToolChunk]:
        yield first
        yield last

    seen = [chunk async for chunk in stream_tool(two).run_streaming({"n": 1})]
    assert seen[0] is first
    assert seen == [first, ToolChunk(data={"n": 7}, is_final=True)]
    assert last.data == {"n": "7", "dropped": 1}


@in_every_way
def test_t_29_a_wrong_input_fails_before_the_stream_starts(call: Any) -> None:
    def never(v: Any) -> AsyncIterator[ToolChunk]:
        raise AssertionError("called")

    with pytest.raises(ValidationError) as caught:
        call(stream_tool(never), {"n": "one"})
    assert caught.value.title == "Number"


@in_every_way
@pytest.mark.parametrize(
    ("stream_fn", "detail"),
    [
        (nothing, "its stream ended with no terminal chunk (is_final=True)"),
        (open_ended, "its stream ended with no terminal chunk (is_final=True)"),
        (talks_on, "its stream yielded a chunk after its terminal chunk"),
        (twice, "its stream yielded a chunk after its terminal chunk"),
    ],
)
def test_t_30_the_rules_of_a_stream_hold_in_every_way(call: Any, stream_fn: StreamFn, detail: str) -> None:
    with pytest.raises(dw.ToolDefinitionError) as caught:
        call(stream_tool(stream_fn), {"n": 1})
    assert (caught.value.function_name, caught.value.detail) == ("stream", detail)


@in_every_way
def test_t_29_the_terminal_data_is_validated_and_alone_counts_for_the_size(call: Any) -> None:
    with pytest.raises(ValidationError):
        call(stream_tool(wrong), {"n": 1})
    with pytest.raises(dw.ToolOutputSizeError) as caught:
        call(stream_tool(big, max_output_size=20), {"n": 1})
    assert (caught.value.size, caught.value.max_size) == (21, 20)
    expected = {"n": 1}
    outcome = call(stream_tool(big, max_output_size=21), {"n": 1})
    assert outcome == ([("x" * 1000, False), (expected, True)] if call is run_streaming else expected)


@in_every_way
def test_an_error_of_the_stream_is_raised_unchanged(call: Any) -> None:
    for stream_fn in (breaks, breaks_late):
        with pytest.raises(OSError, match=r"^the line broke$"):
            call(stream_tool(stream_fn), {"n": 1})


@in_every_way
def test_a_stream_of_json_schema_data_is_checked_alike(call: Any) -> None:
    document = {"properties": {"n": {"type": "integer"}}}
    made = stream_tool(wrong, input_schema=document, output_schema=document)
    with pytest.raises(dw.JsonSchemaMismatchError, match="output of tool 'stream'"):
        call(made, {"n": 1})
    with pytest.raises(dw.JsonSchemaMismatchError, match="input of tool 'stream'"):
        call(made, {"n": "1"})


@directly
def test_t_31_the_time_limit_bounds_the_whole_stream_and_closes_it(call: Any) -> None:
    closing = Closing()
    with pytest.raises(dw.ToolTimeoutError) as caught:
        call(stream_tool(closing, timeout_seconds=0.02), {"n": 1})
    assert (caught.value.tool_name, caught.value.timeout_seconds) == ("stream", 0.02)
    assert closing.ends == ["closed"]


async def test_a_reader_that_leaves_early_closes_the_stream() -> None:
    closing = Closing()
    chunks = stream_tool(closing).run_streaming({"n": 1})
    assert await anext(chunks) == ToolChunk(data="first")
    await chunks.aclose()
    assert closing.ends == ["closed"]


async def test_an_asynchronous_iterator_without_aclose_is_a_stream_too() -> None:
    class Single:
        def __init__(self, v: Any) -> None:
            self.chunks = iter([ToolChunk(data={"n": v.n}, is_final=True)])

        def __aiter__(self) -> "Single":
            return self

        async def __anext__(self) -> ToolChunk:
            for chunk in self.chunks:
                return chunk
            raise StopAsyncIteration

    assert await stream_tool(Single).run_async({"n": 5}) == {"n": 5}


# --- 6.3: in a run --------------------------------------------------------------------------------------------------


def in_flow(stream_fn: StreamFn, inputs: int = 1, *, options: Any = None, **settings: Any) -> Case:
    def tools() -> list[dw.Tool]:
        return [stream_tool(stream_fn, **(options or {})), number_tool("inc", inc), stream_tool(count_up, "other")]

    return Case([linear(step("stream", **settings))], tools, {"n": inputs})


def names(seen: Seen) -> list[str]:
    return [call[0] for call in seen.hooks]


def chunks(seen: Seen) -> list[Any]:
    return [call[3:] for call in seen.hooks if call[0] == "step_chunk"]


@concurrencies
def test_row_11_dev_11_hooks_see_every_chunk_between_start_and_end(concurrency: int) -> None:
    seen = assert_same_on_both_lanes(in_flow(count_up, 2), concurrency)
    assert names(seen) == ["flow_start", "step_start", "step_chunk", "step_chunk", "step_chunk", "step_end", "flow_end"]
    assert [call for call in seen.hooks if call[0] == "step_chunk"] == [
        ("step_chunk", "main", 0, 0, False),
        ("step_chunk", "main", 0, 1, False),
        ("step_chunk", "main", 0, {"n": 2}, True),
    ]
    assert seen.result is not None
    (record,) = seen.result.execution_log
    assert (record.outputs, record.retry_count, record.retry_errors) == ({"n": 2}, 0, [])


def test_the_chunk_hook_is_told_which_run_and_tool_and_is_optional() -> None:
    told: list[Any] = []

    class Chunks:
        def on_step_chunk(self, ctx: dw.StepChunkContext) -> None:
            told.append((ctx.trace_id, ctx.flow_name, ctx.step_index, ctx.tool_name, ctx.chunk))

    registry = dw.FlowRegistry()
    registry.register_flow(linear(step("inc"), step("stream")))
    executor = dw.FlowExecutor(registry, middleware=[object(), Chunks()])
    executor.register_tool(number_tool("inc", inc))
    executor.register_tool(stream_tool(count_up))
    for lane in ("sync", "async"):
        result = execute(executor, lane, n=0)
        where = (result.trace_id, "main", 1, "stream")
        assert told == [(*where, ToolChunk(data=0)), (*where, ToolChunk(data={"n": 1}, is_final=True))]
        told.clear()


FAILURES: list[tuple[StreamFn, dict[str, Any], str, str, list[Any]]] = [
    (nothing, {}, "FlowExecutionError", "no terminal chunk", []),
    (open_ended, {}, "FlowExecutionError", "no terminal chunk", [("a", False), ({"n": 1}, False)]),
    (talks_on, {}, "FlowExecutionError", "after its terminal", [({"n": 1}, True)]),
    (breaks, {}, "FlowExecutionError", "the line broke", [("a", False)]),
    (breaks_late, {}, "FlowExecutionError", "the line broke", [({"n": 1}, True)]),
    (wrong, {}, "SchemaValidationError", "for tool 'stream' at step 0", [("a", False)]),
    (big, {"max_output_size": 20}, "ToolOutputSizeError", "size 21 exceeds max 20", [("x" * 1000, False)]),
    (Closing(), {"timeout_seconds": 0.02}, "ToolTimeoutError", "exceeded timeout of 0.02s", [("first", False)]),
]
failures = pytest.mark.parametrize(("stream_fn", "options", "error", "text", "shown"), FAILURES)


@failures
@concurrencies
def test_t_31_row_11_dev_11_a_failure_is_recorded_after_one_attempt_whatever_the_retry_policy(
    stream_fn: StreamFn, options: Any, error: str, text: str, shown: list[Any], concurrency: int
) -> None:
    seen = assert_same_on_both_lanes(in_flow(stream_fn, options=options, retry=QUICK), concurrency)
    assert seen.result is not None
    (record,) = seen.result.execution_log
    assert (record.success, record.outputs, record.error_type) == (False, None, error)
    assert text in str(record.error_message)
    assert record.retry_count == 0
    assert len(record.retry_errors) == 1
    assert record.retry_errors[0] in str(record.error_message)
    assert chunks(seen) == shown
    assert names(seen)[-2:] == ["step_end", "flow_end"]


@failures
def test_a_failure_goes_through_on_error(
    stream_fn: StreamFn, options: Any, error: str, text: str, shown: list[Any]
) -> None:
    seen = assert_same_on_both_lanes(in_flow(stream_fn, 4, options=options, on_error="skip"))
    assert seen.result is not None
    (record,) = seen.result.execution_log
    assert (record.success, record.skipped, record.outputs, record.error_type) == (True, True, {}, error)
    seen = assert_same_on_both_lanes(in_flow(stream_fn, 4, options=options, on_error="fallback:inc"))
    assert seen.result is not None
    (record,) = seen.result.execution_log
    assert (record.success, record.outputs, record.fallback_tool_name) == (True, {"n": 5}, "inc")
    assert len(record.retry_errors) == 2
    assert chunks(seen) == shown


def test_row_11_a_streaming_fallback_is_drained_without_chunks() -> None:
    seen = assert_same_on_both_lanes(in_flow(breaks, 3, on_error="fallback:other"))
    assert seen.result is not None
    assert seen.result.final_output == {"n": 3}
    assert chunks(seen) == [("a", False)]


@pytest.mark.parametrize(
    ("contract", "success"), [("lanes_under_test:Number", True), ("parity_scenarios:Strict", False)]
)
def test_6_3_the_output_contract_applies(contract: str, success: bool) -> None:
    seen = assert_same_on_both_lanes(in_flow(count_up, 0, output_contract=contract))
    assert seen.result is not None
    assert seen.result.success is success
    assert chunks(seen) == [({"n": 0}, True)]


@pytest.mark.parametrize(
    ("inputs", "dry_run", "outcome"),
    [({"n": "one"}, False, (False, "SchemaValidationError")), ({"n": 1}, True, (True, None))],
)
def test_6_3_3_6_a_stream_is_not_started_for_a_wrong_input_or_for_a_dry_run_of_effects(
    inputs: dict[str, Any], dry_run: bool, outcome: tuple[bool, str | None]
) -> None:
    case = in_flow(breaks, options={"safety": dw.ToolSafetyContract(side_effects=dw.SideEffectLevel.WRITE)})
    case.inputs, case.run = inputs, lambda: {"dry_run": dry_run}
    seen = assert_same_on_both_lanes(case)
    assert seen.result is not None
    assert [(r.skipped, r.error_type) for r in seen.result.execution_log] == [outcome]
    assert chunks(seen) == []


# --- chunks as they are produced, on the driving thread ---------------------------------------------------------------

MARK: ContextVar[str] = ContextVar("MARK", default="unset")


class Chunks(dw.BaseMiddleware):
    """Hands each chunk of a run to a function, and writes down the threads it is called on."""

    def __init__(self, on_chunk: Callable[[ToolChunk], None]) -> None:
        self.on_chunk = on_chunk
        self.threads: set[threading.Thread] = set()

    def on_step_chunk(self, ctx: dw.StepChunkContext) -> None:
        self.threads.add(threading.current_thread())
        self.on_chunk(ctx.chunk)


def executor_of(*tools: dw.Tool, flow: dw.AnyFlow, middleware: Any, concurrency: int = 1) -> dw.FlowExecutor:
    registry = dw.FlowRegistry()
    registry.register_flow(flow)
    executor = dw.FlowExecutor(registry, middleware=[middleware], max_step_concurrency=concurrency)
    for tool in tools:
        executor.register_tool(tool)
    return executor


def execute(executor: dw.FlowExecutor, lane: str, n: int = 3, **options: Any) -> dw.ExecutionResult:
    if lane == "sync":
        return executor.execute_flow("main", {"n": n}, **options)
    return asyncio.run(executor.execute_flow_async("main", {"n": n}, **options))


@lanes
@concurrencies
def test_6_3_each_chunk_is_shown_before_the_next_is_produced(lane: str, concurrency: int) -> None:
    """The stream waits after each chunk until the hook has seen it; a lane that collects first would never end."""
    seen: dict[int, Callable[[], object]] = {}

    async def in_step(v: Any) -> AsyncIterator[ToolChunk]:
        loop = asyncio.get_running_loop()
        for i in range(v.n):
            shown = asyncio.Event()
            seen[i] = lambda shown=shown: loop.call_soon_threadsafe(shown.set)  # type: ignore[misc]  # bound here
            yield ToolChunk(data=i)
            async with asyncio.timeout(10):
                await shown.wait()
        yield ToolChunk(data={"n": v.n}, is_final=True)

    middleware = Chunks(lambda chunk: None if chunk.is_final else (seen[chunk.data](), None)[1])
    flow = dag(node("a", "stream"), node("b", "inc"))
    executor = executor_of(
        stream_tool(in_step), number_tool("inc", inc), flow=flow, middleware=middleware, concurrency=concurrency
    )
    result = execute(executor, lane)
    assert result.final_output == {"n": 3, "a": 3, "b": 4}
    assert middleware.threads == {threading.current_thread()}


@concurrencies
@lanes
def test_two_streams_of_one_level_interleave(lane: str, concurrency: int) -> None:
    order = ["a0", "a1", "b0", "b1"] if concurrency == 1 else ["a0", "b0", "a1", "b1"]
    told: list[str] = []
    events: dict[str, Callable[[], object]] = {}

    def stream(name: str) -> StreamFn:
        async def stream_fn(v: Any) -> AsyncIterator[ToolChunk]:
            loop = asyncio.get_running_loop()
            for i in range(2):
                turn, event = order.index(f"{name}{i}"), asyncio.Event()
                events[f"{name}{i}"] = lambda event=event: loop.call_soon_threadsafe(event.set)  # type: ignore[misc]
                if turn == len(told):
                    event.set()
                async with asyncio.timeout(10):
                    await event.wait()
                yield ToolChunk(data=f"{name}{i}")
            yield ToolChunk(data={"n": v.n}, is_final=True)

        return stream_fn

    def tell(chunk: ToolChunk) -> None:
        if not chunk.is_final:
            told.append(chunk.data)
            if len(told) < len(order) and order[len(told)] in events:
                events[order[len(told)]]()

    executor = executor_of(
        stream_tool(stream("a"), "a"),
        stream_tool(stream("b"), "b"),
        flow=dag(node("x", "a"), node("y", "b")),
        middleware=Chunks(tell),
        concurrency=concurrency,
    )
    assert execute(executor, lane).final_output == {"n": 3, "x": 3, "y": 3}
    assert told == order


@lanes
@concurrencies
def test_dev_9_a_stream_sees_a_copy_of_the_caller_s_context(lane: str, concurrency: int) -> None:
    marks: list[str] = []

    async def note(v: Any) -> AsyncIterator[ToolChunk]:
        marks.append(MARK.get())
        MARK.set("stream")
        yield ToolChunk(data={"n": v.n}, is_final=True)

    MARK.set("caller")
    middleware = Chunks(lambda chunk: marks.append(MARK.get()))
    executor = executor_of(
        stream_tool(note), flow=linear(step("stream")), middleware=middleware, concurrency=concurrency
    )
    assert execute(executor, lane).success
    assert marks == ["caller", "caller"]
    assert MARK.get() == "caller"


@lanes
def test_2_3_a_chunk_hook_that_fails_is_logged_and_the_stream_goes_on(
    lane: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(chunk: ToolChunk) -> None:
        raise ValueError("not my day")

    executor = executor_of(stream_tool(count_up), flow=linear(step("stream")), middleware=Chunks(fail))
    assert execute(executor, lane).final_output == {"n": 3}
    lines = [r for r in caplog.records if r.name == "doubleweave.middleware"]
    assert [r.levelname for r in lines] == ["WARNING"] * 4
    assert all("on_step_chunk" in r.getMessage() and "Chunks" in r.getMessage() for r in lines)


# --- cancellation while streaming -----------------------------------------------------------------------------------


@lanes
@concurrencies
def test_dev_5_leaving_from_a_chunk_hook_closes_the_stream_and_ends_the_run(lane: str, concurrency: int) -> None:
    class Leave(BaseException):
        pass

    def leave(chunk: ToolChunk) -> None:
        raise Leave

    closing, ends = Closing(), list[Any]()

    class Ends(Chunks):
        def on_flow_end(self, ctx: dw.FlowEndContext) -> None:
            ends.append((ctx.result.success, [r.tool_name for r in ctx.result.execution_log]))

    flow = dag(node("a"), node("b", "stream", after="a", source="a"))
    executor = executor_of(
        stream_tool(closing), number_tool("inc", inc), flow=flow, middleware=Ends(leave), concurrency=concurrency
    )
    with pytest.raises(Leave):
        execute(executor, lane)
    assert closing.ends == ["closed"]
    assert ends == [(False, ["inc"])]


@concurrencies
async def test_7_4_cancelling_the_task_closes_the_stream_and_leaves_no_record(concurrency: int) -> None:
    closing, reached, ends = Closing(), asyncio.Event(), list[Any]()

    class Ends(Chunks):
        def on_step_end(self, ctx: dw.StepEndContext) -> None:
            ends.append(ctx.step_record.tool_name)

        def on_flow_end(self, ctx: dw.FlowEndContext) -> None:
            ends.append((ctx.result.success, len(ctx.result.execution_log)))

    flow = linear(step("inc"), step("stream"))
    executor = executor_of(
        stream_tool(closing),
        number_tool("inc", inc),
        flow=flow,
        middleware=Ends(lambda chunk: reached.set()),
        concurrency=concurrency,
    )
    task = asyncio.create_task(executor.execute_flow_async("main", {"n": 1}))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert closing.ends == ["closed"]
    assert ends == ["inc", (False, 1)]


@lanes
def test_7_2_a_token_set_while_streaming_lets_the_stream_finish(lane: str) -> None:
    token = dw.CancellationToken()
    executor = executor_of(
        stream_tool(count_up),
        number_tool("inc", inc),
        flow=linear(step("stream"), step("inc")),
        middleware=Chunks(lambda chunk: token.cancel()),
    )
    with pytest.raises(dw.FlowCancelledError) as caught:
        execute(executor, lane, cancel_token=token)
    assert caught.value.step_index == 1
    assert [(r.tool_name, r.outputs) for r in caught.value.result.execution_log] == [("stream", {"n": 3})]


@lanes
def test_row_8_dev_22_an_error_raised_beside_a_stream_closes_it(lane: str) -> None:
    release, closing = threading.Event(), Closing()

    def hold(v: Any) -> dict[str, int]:
        assert release.wait(timeout=10)
        return {"n": v.n}

    executor = executor_of(
        stream_tool(closing),
        number_tool("hold", hold),
        flow=dag(node("a", "hold", output_contract="nowhere:Number"), node("b", "stream")),
        middleware=Chunks(lambda chunk: release.set()),
        concurrency=2,
    )
    with pytest.raises(dw.FlowSerializationError, match="Cannot import module"):
        execute(executor, lane)
    assert closing.ends == ["closed"]
