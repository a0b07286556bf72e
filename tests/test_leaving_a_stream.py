"""Event streams whose reader is late, slow, or leaves before the end."""

import asyncio
import gc
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import doubleweave as dw
from doubleweave import AnyFlow, DAGFlowStep, FlowStep
from lanes_under_test import Case, number_tool
from parity_scenarios import dag, linear, node, step, tools
from streams_under_test import ENTRIES, executor_for

THREAD = "doubleweave-stream-main"
ASYNC_ENTRIES = [entry for entry, (_, _, is_async) in ENTRIES.items() if is_async]
# Each has a first boundary behind the tool `gate` and something behind that boundary.
FLOWS: dict[str, list[AnyFlow]] = {
    "linear": [linear(step("gate"), step("inc"))],
    "DAG": [dag(node("a", "gate"), node("b", after="a"))],
    "sub-flow": [
        dag(DAGFlowStep(step_id="s", flow_name="inner"), node("b", after="s")),
        linear(step("gate"), step("inc"), name="inner"),
    ],
    "sub-flow two deep": [
        linear(FlowStep(flow_name="middle"), step("inc")),
        linear(FlowStep(flow_name="inner"), step("inc"), name="middle"),
        linear(step("gate"), step("inc"), name="inner"),
    ],
}
each_flow = pytest.mark.parametrize("flows", FLOWS.values(), ids=FLOWS)


def stream_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD]


class Watch(dw.BaseMiddleware):
    """Notes the tools that were started and the ends of flows."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.ends: list[tuple[str, bool, list[str | None]]] = []

    def on_step_start(self, ctx: Any) -> None:
        self.started.append(ctx.tool_name)

    def on_flow_end(self, ctx: Any) -> None:
        records = ctx.result.execution_log
        self.ends.append((ctx.flow_name, ctx.result.success, [record.error_type for record in records]))


class OnWarning(logging.Handler):
    """Calls a function at the first warning and keeps all of them."""

    def __init__(self, act: Callable[[], None]) -> None:
        super().__init__(logging.WARNING)
        self.act = act
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno == logging.WARNING:
            self.texts.append(record.getMessage())
            self.act()


@pytest.fixture
def warned() -> Iterator[OnWarning]:
    """The warnings of the executor; the first one sets `warned.act` going."""
    logger = logging.getLogger("doubleweave.executor")
    handler = OnWarning(lambda: None)
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def gated(
    flows: list[AnyFlow], kind: type[Any] = dw.FlowExecutor
) -> tuple[Any, Watch, threading.Event, threading.Event]:
    """Return an executor whose tool `gate` says that it has begun and waits to be let through."""
    watch, begun, let_through = Watch(), threading.Event(), threading.Event()

    def gate(v: Any) -> dict[str, int]:
        begun.set()
        assert let_through.wait(timeout=10)
        return {"n": v.n}

    executor = executor_for(Case(flows, lambda: [*tools(), number_tool("gate", gate)]), kind, middleware=[watch])
    return executor, watch, begun, let_through


@each_flow
@pytest.mark.parametrize("leave", ["close", "drop"])
def test_row_26_dev_32_closing_early_stops_at_the_next_boundary(
    flows: list[AnyFlow], leave: str, warned: OnWarning
) -> None:
    executor, watch, begun, let_through = gated(flows)
    warned.act = let_through.set
    token = dw.CancellationToken()
    stream = executor.stream_flow("main", {"n": 1}, cancel_token=token)
    assert next(stream).kind == "flow_start"
    assert begun.wait(timeout=10)
    if leave == "close":
        stream.close()
    del stream
    gc.collect()
    assert stream_threads() == []
    assert warned.texts == [f"The reader of {THREAD} has left; its run stops at the next step boundary"]
    assert watch.started[-1] == "gate"
    assert [(name, success) for name, success, _ in watch.ends] == [(flow.name, False) for flow in reversed(flows)]
    assert watch.ends[-1][2] == ([None] if len(flows) == 1 else ["FlowCancelledError"])
    assert not token.is_cancelled


def test_an_error_while_reading_stops_the_run_too(warned: OnWarning) -> None:
    executor, watch, _, let_through = gated(FLOWS["linear"])
    warned.act = let_through.set

    def read() -> None:
        for event in executor.stream_flow("main", {"n": 1}):
            if event.kind == "step_start":
                raise LookupError("the reader's own")

    with pytest.raises(LookupError, match="the reader's own"):
        read()
    gc.collect()
    assert stream_threads() == []
    assert watch.started == ["gate"]


@pytest.mark.parametrize("last", ["flow_end", "flow_start"])
def test_leaving_a_run_that_has_ended_gives_no_warning(last: str, warned: OnWarning) -> None:
    executor, watch, _, let_through = gated(FLOWS["linear"])
    let_through.set()
    stream = executor.stream_flow("main", {"n": 1})
    for event in stream:
        if event.kind == last:
            break
    if last == "flow_start":
        for thread in stream_threads():
            thread.join(timeout=10)
    stream.close()
    assert warned.texts == []
    assert watch.ends == [("main", True, [None, None])]


def test_leaving_at_the_end_of_the_flow_gives_no_warning_while_the_run_still_tidies_up(warned: OnWarning) -> None:
    """The run ends while an async sibling of the step that raised still cleans up after itself."""
    entered, may_end, cleans_up = threading.Event(), threading.Event(), threading.Event()

    class Leave(BaseException):
        pass

    def leave(v: Any) -> dict[str, int]:
        assert entered.wait(timeout=10)
        raise Leave

    async def wait(v: Any) -> dict[str, int]:
        try:
            entered.set()
            await asyncio.sleep(60)
        finally:
            cleans_up.set()
            assert may_end.wait(timeout=3)
        return {"n": v.n}

    more = [number_tool("leave", leave), number_tool("wait", wait)]
    executor = executor_for(Case([dag(node("a", "leave"), node("b", "wait"))], lambda: more), max_step_concurrency=2)
    stream = executor.stream_flow("main", {"n": 1})
    kinds = [next(stream).kind for _ in range(4)]
    assert kinds == ["flow_start", "step_start", "step_start", "flow_end"]
    assert cleans_up.wait(timeout=10)
    threading.Thread(target=may_end.set).start()
    stream.close()
    assert warned.texts == []
    assert stream_threads() == []


@pytest.mark.parametrize("entry", ASYNC_ENTRIES)
@pytest.mark.parametrize("leave", ["aclose", "drop", "cancel the reader"])
async def test_row_26_closing_early_cancels_the_task_of_the_run(entry: str, leave: str) -> None:
    watch, begun, seen = Watch(), asyncio.Event(), []

    async def wait(v: Any) -> dict[str, int]:
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            seen.append("cancelled and cleaned up")
            raise
        return {"n": v.n}

    kind, method, _ = ENTRIES[entry]
    case = Case([linear(step("inc"), step("wait"), step("inc"))], lambda: [*tools(), number_tool("wait", wait)])
    executor = executor_for(case, kind, middleware=[watch])
    stream = getattr(executor, method)("main", {"n": 1})

    async def read() -> None:
        async for _ in stream:
            pass

    if leave == "cancel the reader":
        reader = asyncio.create_task(read())
        await asyncio.wait_for(begun.wait(), 10)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        del reader
    else:
        assert (await anext(stream)).kind == "flow_start"
        await asyncio.wait_for(begun.wait(), 10)
        if leave == "aclose":
            await stream.aclose()
        else:
            del stream, read
            gc.collect()
            for _ in range(2):
                await asyncio.sleep(0)  # the loop begins to close a dropped generator at its next turn
                others = asyncio.all_tasks() - {asyncio.current_task()}
                await asyncio.gather(*others, return_exceptions=True)
    assert seen == ["cancelled and cleaned up"]
    assert watch.ends == [("main", False, [None])]
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("entry", ASYNC_ENTRIES)
async def test_closing_early_does_not_wait_for_a_plain_function(entry: str) -> None:
    kind, method, _ = ENTRIES[entry]
    executor, watch, begun, let_through = gated(FLOWS["linear"], kind)
    stream = getattr(executor, method)("main", {"n": 1})
    while (await anext(stream)).kind != "step_start":
        pass
    assert begun.wait(timeout=10)
    await asyncio.wait_for(stream.aclose(), 10)
    assert watch.ends == [("main", False, [])]
    assert asyncio.all_tasks() == {asyncio.current_task()}
    let_through.set()


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("leave", ["close", "drop"])
async def test_nothing_begins_before_the_first_event_is_asked_for(entry: str, leave: str) -> None:
    kind, method, is_async = ENTRIES[entry]
    executor, watch, begun, _ = gated(FLOWS["linear"], kind)
    stream = getattr(executor, method)("main", {"n": 1})
    await asyncio.sleep(0)
    assert stream_threads() == []
    assert asyncio.all_tasks() == {asyncio.current_task()}
    if leave == "close":
        await stream.aclose() if is_async else stream.close()
    del stream
    gc.collect()
    await asyncio.sleep(0)
    assert (watch.started, watch.ends, begun.is_set()) == ([], [], False)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_blocking_lane_runs_on_a_daemon_thread_named_for_its_flow(asynchronous: bool) -> None:
    found: list[Any] = []

    class Look(dw.BaseMiddleware):
        def on_step_end(self, ctx: Any) -> None:
            thread = threading.current_thread()
            found.append((thread.name, thread.daemon, thread is not threading.main_thread()))

    tool = "double" if asynchronous else "inc"
    executor = executor_for(Case([linear(step(tool))], tools), middleware=[Look()])
    assert len(list(executor.stream_flow("main", {"n": 1}))) == 4
    assert found == [(THREAD, True, True)]
    assert stream_threads() == []


def test_the_run_does_not_wait_for_a_slow_reader_on_a_thread() -> None:
    finished = threading.Event()

    def last(v: Any) -> dict[str, int]:
        finished.set()
        return {"n": v.n}

    case = Case([linear(*[step("inc")] * 300, step("last"))], lambda: [*tools(), number_tool("last", last)])
    stream = executor_for(case).stream_flow("main", {"n": 1})
    first = next(stream)
    assert finished.wait(timeout=10)
    rest = list(stream)
    assert (first.kind, len(rest), rest[-1].kind) == ("flow_start", 603, "flow_end")
    assert [event.step_index for event in rest[:-1]] == [index for index in range(301) for _ in range(2)]


@pytest.mark.parametrize("entry", ASYNC_ENTRIES)
async def test_the_run_does_not_wait_for_a_slow_reader_in_a_task(entry: str) -> None:
    finished = asyncio.Event()

    async def last(v: Any) -> dict[str, int]:
        finished.set()
        return {"n": v.n}

    kind, method, _ = ENTRIES[entry]
    case = Case(
        [linear(*[step("double")] * 300, step("last"))], lambda: [*tools(), number_tool("last", last)], {"n": 0}
    )
    stream = getattr(executor_for(case, kind), method)("main", {"n": 0})
    first = await anext(stream)
    await asyncio.wait_for(finished.wait(), 10)
    rest = [event async for event in stream]
    assert (first.kind, len(rest), rest[-1].kind) == ("flow_start", 603, "flow_end")


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_ended_stream_stays_ended(entry: str) -> None:
    kind, method, is_async = ENTRIES[entry]
    executor = executor_for(Case([linear(step("inc", output_mapping={"m": "gone"}))], tools), kind)

    async def read_async() -> None:
        stream = getattr(executor, method)("main", {"n": 1})
        with pytest.raises(dw.OutputMappingError):
            [event async for event in stream]
        with pytest.raises(StopAsyncIteration):
            await anext(stream)

    if is_async:
        asyncio.run(read_async())
        return
    stream = getattr(executor, method)("main", {"n": 1})
    with pytest.raises(dw.OutputMappingError):
        list(stream)
    with pytest.raises(StopIteration):
        next(stream)


@pytest.mark.parametrize("flow", [linear(step("gate"), step("inc")), dag(node("a", "gate"), node("b", after="a"))])
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("by_hand", [False, True], ids=["collected as garbage", "closed by a tool"])
def test_a_stream_may_be_left_from_inside_its_own_run(
    flow: AnyFlow, asynchronous: bool, by_hand: bool, warned: OnWarning
) -> None:
    """The garbage collector works on any thread, also on one that the end of the run waits for."""
    go, watch = threading.Event(), Watch()
    held: list[Any] = []

    def gate(v: Any) -> dict[str, int]:
        assert go.wait(timeout=10)
        if by_hand:
            held[0].close()
        else:
            gc.collect()
        return {"n": v.n}

    async def gate_async(v: Any) -> dict[str, int]:
        return gate(v)

    more = [*tools(), number_tool("gate", gate_async if asynchronous else gate)]
    executor = executor_for(Case([flow], lambda: more), middleware=[watch], max_step_concurrency=2)
    stream = executor.stream_flow("main", {"n": 1})
    assert next(stream).kind == "flow_start"
    cycle: list[Any] = [stream]
    cycle.append(cycle)
    held.extend([stream] if by_hand else [])
    [thread] = stream_threads()
    del stream, cycle
    go.set()
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert (watch.started, watch.ends) == (["gate"], [("main", False, [None])])
    assert len(warned.texts) == 1


@pytest.mark.parametrize("begins", [True, False], ids=["once it runs", "before it runs"])
def test_an_interrupt_while_the_thread_begins_stops_the_run(
    begins: bool, warned: OnWarning, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor, watch, begun, let_through = gated(FLOWS["linear"])
    warned.act = let_through.set
    begin = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        if begins:
            begin(thread)
            assert begun.wait(timeout=10)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(executor.stream_flow("main", {"n": 1}))
    assert stream_threads() == []
    assert watch.started == (["gate"] if begins else [])
    assert warned.texts == [f"The reader of {THREAD} has left; its run stops at the next step boundary"]
