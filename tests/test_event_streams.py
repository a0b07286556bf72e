"""Event streams: which events a run gives, in which order, and what comes after them."""

import asyncio
import contextvars
import os
import sys
import threading
import time
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import doubleweave as dw
from doubleweave import AnyFlow, DAGFlowStep, FlowEvent, FlowEventKind, FlowStep, Tool
from lanes_under_test import Anything, Case, Recorder, normalised, number_tool, observe
from parity_scenarios import BRANCHING, QUICK, THREE_DEEP, dag, linear, node, step, tools
from random_flows import INNER, dag_flows, linear_flows
from random_flows import tools as random_tools
from streams_under_test import ENTRIES, as_hook_calls, executor_for, read

EXAMPLES = max(1, int(os.environ.get("DOUBLEWEAVE_PARITY_EXAMPLES", "2000")) // 10)
both = pytest.mark.parametrize("entry", ENTRIES)


def steps_of(*names: str, flow: str = "main", first: int = 0) -> list[tuple[Any, ...]]:
    """Return the events of steps that start and end one after the other."""
    kinds = ("step_start", "step_end")
    return [(kind, flow, index, name) for index, name in enumerate(names, first) for kind in kinds]


def whole(*events: tuple[Any, ...], flow: str = "main") -> list[tuple[Any, ...]]:
    return [("flow_start", flow), *events, ("flow_end", flow)]


# Name, case, the events between the start and the end of the flow, whether it succeeds.
SEQUENCES: list[tuple[str, Case, list[tuple[Any, ...]], bool]] = [
    ("empty flow", Case([linear()], tools), [], True),
    ("linear flow", Case([linear(step("inc"), step("double"))], tools), steps_of("inc", "double"), True),
    (
        "DAG in the order of its levels",
        Case([dag(node("last", "inc", after="a b"), node("a", "double"), node("b"))], tools),
        steps_of("double", "inc", "inc"),
        True,
    ),
    (
        "steps on a branch not taken give nothing",
        Case([BRANCHING], tools),
        [*steps_of("inc"), *steps_of("double", first=2), *steps_of("inc", first=4)],
        True,
    ),
    (
        "sub-flows, nested",
        Case(THREE_DEEP, tools),
        [
            *steps_of("inc"),
            ("step_start", "main", 1, "middle"),
            *whole(
                ("step_start", "middle", 0, "inner"),
                *whole(*steps_of("double", "inc", flow="inner"), flow="inner"),
                ("step_end", "middle", 0, "inner"),
                *steps_of("double", flow="middle", first=1),
                flow="middle",
            ),
            ("step_end", "main", 1, "middle"),
            *steps_of("inc", first=2),
        ],
        True,
    ),
    (
        "streaming tool",
        Case([linear(step("stream"))], tools, {"n": 2}),
        [
            ("step_start", "main", 0, "stream"),
            *[("step_chunk", "main", 0, "stream")] * 3,
            ("step_end", "main", 0, "stream"),
        ],
        True,
    ),
    ("a failing step is the last", Case([linear(step("boom"), step("inc"))], tools), steps_of("boom"), False),
    (
        "a step that fails before its inputs are known only ends",
        Case([linear(step("inc", input_mapping={"n": "gone"}))], tools),
        [("step_end", "main", 0, "inc")],
        False,
    ),
    ("a missing tool", Case([linear(step("gone"))], tools), [("step_end", "main", 0, "gone")], False),
    (
        "an error that is skipped",
        Case([linear(step("boom", on_error="skip"), step("inc"))], tools),
        steps_of("boom", "inc"),
        True,
    ),
    ("retries give no events", Case([linear(step("flaky", retry=QUICK))], tools), steps_of("flaky"), True),
    ("a fallback", Case([linear(step("boom", on_error="fallback:inc"))], tools), steps_of("boom"), True),
    ("failed input check", Case([linear(step("inc"), input_schema_ref="parity_scenarios:Strict")], tools), [], False),
    (
        "failed output check",
        Case([linear(step("inc"), output_schema_ref="parity_scenarios:Strict")], tools),
        steps_of("inc"),
        False,
    ),
    (
        "row 27 a dry run",
        Case([linear(step("write"), step("inc"))], tools, run=lambda: {"dry_run": True}),
        steps_of("write", "inc"),
        True,
    ),
]


@both
@pytest.mark.parametrize(
    ("case", "between", "success"), [row[1:] for row in SEQUENCES], ids=[row[0] for row in SEQUENCES]
)
def test_the_events_of_a_run(case: Case, between: list[tuple[Any, ...]], success: bool, entry: str) -> None:
    found = read(case, entry)
    assert found.error is None
    assert found.sequence == whole(*between)
    assert found.events[-1].result.success is success  # type: ignore[union-attr] # its kind is flow_end


def given_fields(event: FlowEvent) -> set[str]:
    return {name for name, value in event if value is not None}


@both
def test_9_4_each_kind_of_event_has_its_own_fields(entry: str) -> None:
    assert get_args(FlowEventKind) == ("flow_start", "step_start", "step_chunk", "step_end", "flow_end")
    before = time.time()
    start, step_start, chunk, final, step_end, end = read(Case([linear(step("stream"))], tools), entry).events
    common = {"kind", "flow_name", "trace_id", "timestamp"}
    assert given_fields(start) == common | {"flow_version", "initial_input", "total_steps"}
    assert (start.flow_version, start.initial_input, start.total_steps) == ("0.1.0", {"n": 1}, 1)
    assert given_fields(step_start) == common | {"step_index", "tool_name", "inputs"}
    assert step_start.inputs == {"n": 1}
    assert given_fields(chunk) == given_fields(final) == common | {"step_index", "tool_name", "chunk"}
    assert (chunk.chunk, final.chunk) == (dw.ToolChunk(data=0), dw.ToolChunk(data={"n": 1}, is_final=True))
    assert given_fields(step_end) == common | {"step_index", "tool_name", "step_record"}
    assert given_fields(end) == common | {"result"}
    assert end.result is not None
    assert end.result.execution_log == [step_end.step_record]
    events = [start, step_start, chunk, final, step_end, end]
    assert {event.trace_id for event in events} == {end.result.trace_id}
    times = [before, *(event.timestamp.timestamp() for event in events), time.time()]
    assert times == sorted(times)
    assert {str(event.timestamp.tzinfo) for event in events} == {"UTC"}
    with pytest.raises(ValueError, match="frozen"):
        start.kind = "flow_end"  # type: ignore[misc] # that it is read-only is what is tested
    assert [FlowEvent.model_validate_json(event.model_dump_json()) for event in events] == events


@both
def test_each_sub_flow_has_a_trace_id_of_its_own(entry: str) -> None:
    events = read(Case(THREE_DEEP, tools), entry).events
    ids = {
        name: {event.trace_id for event in events if event.flow_name == name} for name in ("main", "middle", "inner")
    }
    assert [len(found) for found in ids.values()] == [1, 1, 1]
    assert len(set.union(*ids.values())) == 3
    ends = {event.flow_name: event.result for event in events if event.result is not None}
    assert {name: {result.trace_id} for name, result in ends.items()} == ids


@both
def test_a_failed_input_check_is_told_with_the_end(entry: str) -> None:
    case = Case([linear(step("inc"), input_schema_ref="parity_scenarios:Strict")], tools)
    result = read(case, entry).events[-1].result
    assert result is not None
    assert [(r.step_index, r.tool_name, r.error_type) for r in result.execution_log] == [
        (-1, "main", "SchemaValidationError")
    ]


# Name, case, error, what is between start and end of the flow.
RAISED: list[tuple[str, Case, type[Exception], list[tuple[Any, ...]]]] = [
    (
        "output mapping",
        Case([linear(step("inc", output_mapping={"m": "gone"}))], tools),
        dw.OutputMappingError,
        steps_of("inc"),
    ),
    (
        "collision",
        Case([linear(step("inc"), on_context_collision="error")], tools),
        dw.ContextKeyCollisionError,
        steps_of("inc"),
    ),
    ("contract ref", Case([linear(step("inc", input_contract="nowhere:X"))], tools), dw.FlowSerializationError, []),
    (
        "status of a sub-flow",
        Case([linear(FlowStep(flow_name="inner")), linear(name="inner", status=dw.FlowStatus.DISABLED)], tools),
        dw.FlowStatusError,
        [("step_start", "main", 0, "inner")],
    ),
    ("token", Case([linear(step("inc"))], tools, run=lambda: {"cancel_token": cancelled()}), dw.FlowCancelledError, []),
    ("deadline", Case([linear(step("inc"))], tools, run=lambda: {"deadline": 0.0}), dw.FlowCancelledError, []),
]


def cancelled() -> dw.CancellationToken:
    token = dw.CancellationToken()
    token.cancel()
    return token


@both
@pytest.mark.parametrize(("case", "error", "between"), [row[1:] for row in RAISED], ids=[row[0] for row in RAISED])
def test_an_error_of_the_run_is_raised_after_all_events(
    case: Case, error: type[Exception], between: list[tuple[Any, ...]], entry: str
) -> None:
    found = read(case, entry)
    assert type(found.error) is error
    assert found.sequence == whole(*between)
    result = found.events[-1].result
    assert result is not None
    assert (result.success, result.final_output) == (False, None)


@both
@pytest.mark.parametrize(
    ("case", "error"),
    [
        (Case([linear()], tools, run=lambda: {"version": "9"}), dw.FlowNotFoundError),
        (Case([linear(status=dw.FlowStatus.DISABLED)], tools), dw.FlowStatusError),
        (Case([linear(FlowStep(flow_name="main"))], tools), dw.FlowCompositionError),
        (Case([linear()], tools, run=lambda: {"dry_run_unsupported": "maybe"}), ValueError),
    ],
)
def test_an_error_from_before_the_start_comes_without_events(case: Case, error: type[Exception], entry: str) -> None:
    found = read(case, entry)
    assert (found.events, type(found.error)) == ([], error)


@both
def test_an_unknown_flow_is_an_error_of_the_first_event_asked_for(entry: str) -> None:
    executor = executor_for(Case([linear()], tools), ENTRIES[entry][0])
    stream = getattr(executor, ENTRIES[entry][1])("gone", {})
    with pytest.raises(dw.FlowNotFoundError):
        asyncio.run(anext(stream)) if ENTRIES[entry][2] else next(stream)


@both
@pytest.mark.parametrize("how", ["token", "deadline"])
def test_a_cancelled_run_ends_its_events_with_the_partial_result(entry: str, how: str) -> None:
    token = dw.CancellationToken()
    deadline = time.time() + (0.2 if how == "deadline" else 60)

    def stop(v: Any) -> dict[str, int]:
        if how == "token":
            token.cancel()
        else:
            wait_until(lambda: time.time() >= deadline)
        return {"n": v.n}

    case = Case(
        [linear(step("stop"), step("inc"))],
        lambda: [*tools(), number_tool("stop", stop)],
        run=lambda: {"cancel_token": token, "deadline": deadline},
    )
    found = read(case, entry)
    assert found.sequence == whole(*steps_of("stop"))
    error = found.error
    assert isinstance(error, dw.FlowCancelledError)
    assert (error.flow_name, error.step_index) == ("main", 1)
    assert (error.token_cancelled, error.deadline_exceeded) == (how == "token", how == "deadline")
    assert error.result == found.events[-1].result


def wait_until(condition: Any) -> None:
    """Wait, ten seconds at most, for something that has no event: the clock."""
    give_up = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < give_up
        threading.Event().wait(0.01)


class Leave(BaseException):
    pass


@both
def test_a_base_exception_of_a_tool_comes_after_the_end_of_the_flow(entry: str) -> None:
    def leave(v: Any) -> dict[str, int]:
        raise Leave

    found = read(Case([linear(step("inc"), step("leave"))], lambda: [*tools(), number_tool("leave", leave)]), entry)
    assert found.sequence == whole(*steps_of("inc"), ("step_start", "main", 1, "leave"))
    assert type(found.error) is Leave


@both
def test_shared_middleware_is_called_too_and_none_is_left_behind(entry: str) -> None:
    recorder = Recorder()
    executor = executor_for(Case(THREE_DEEP, tools), ENTRIES[entry][0], middleware=[recorder])
    assert as_hook_calls(consume(executor, entry)) == recorder.calls
    assert executor.middleware == (recorder,)


def consume(executor: Any, entry: str, **run: Any) -> list[FlowEvent]:
    _, method, is_async = ENTRIES[entry]
    stream = getattr(executor, method)("main", {"n": 1}, **run)

    async def all_of_it() -> list[FlowEvent]:
        return [event async for event in stream]

    return asyncio.run(all_of_it()) if is_async else list(stream)


@both
def test_a_failing_hook_disturbs_no_stream(entry: str, caplog: pytest.LogCaptureFixture) -> None:
    class Bad:
        def on_step_start(self, ctx: Any) -> None:
            raise ValueError("bad hook")

    found = read(Case([linear(step("inc"))], tools), entry, middleware=[Bad()])
    assert found.sequence == whole(*steps_of("inc"))
    assert [r.getMessage() for r in caplog.records if r.name == "doubleweave.middleware"] == [
        "Middleware hook on_step_start of Bad failed"
    ]


@both
@pytest.mark.parametrize("timeout", [None, 5.0])
def test_a_flow_that_a_tool_runs_is_part_of_the_stream(entry: str, timeout: float | None) -> None:
    inner = linear(step("inc"), name="inner")
    executor = executor_for(Case([linear(step("wrapped")), inner], tools))
    wrapped = Tool.from_flow(inner, executor, name="wrapped")
    wrapped.timeout_seconds = timeout
    executor.register_tool(wrapped)
    if entry.startswith("Async"):
        outer = dw.AsyncFlowExecutor(executor.registry)
        outer.register_tool(wrapped)
        events = consume(outer, entry)
    else:
        events = consume(executor, entry)
    assert [(e.kind, e.flow_name) for e in events] == [
        ("flow_start", "main"),
        ("step_start", "main"),
        *[(kind, "inner") for kind in ("flow_start", "step_start", "step_end", "flow_end")],
        ("step_end", "main"),
        ("flow_end", "main"),
    ]


@both
def test_a_stream_that_a_tool_reads_is_part_of_the_outer_one(entry: str) -> None:
    read_inside: list[str] = []

    def reads(v: Any) -> dict[str, int]:
        read_inside.extend(f"{event.kind} {event.flow_name}" for event in executor.stream_flow("inner", {"n": v.n}))
        return {"n": v.n}

    case = Case(
        [linear(step("reads")), linear(step("inc"), name="inner")], lambda: [*tools(), number_tool("reads", reads)]
    )
    executor = executor_for(case)
    inner = [f"{kind} inner" for kind in ("flow_start", "step_start", "step_end", "flow_end")]
    found = [f"{event.kind} {event.flow_name}" for event in read(case, entry).events]
    assert read_inside == inner
    assert found == ["flow_start main", "step_start main", *inner, "step_end main", "flow_end main"]


@both
def test_row_27_a_stream_takes_the_terms_of_a_run(entry: str) -> None:
    case = Case([linear(step("write"), version="1.0.0", status=dw.FlowStatus.DISABLED), linear(version="2.0.0")], tools)
    executor = executor_for(case, ENTRIES[entry][0])
    terms = {"version": "1.0.0", "force": True, "dry_run": True, "dynamic_params": {"extra": 5}}
    events = consume(executor, entry, **terms)
    result = events[-1].result
    assert result is not None
    assert (events[0].flow_version, events[0].initial_input) == ("1.0.0", {"n": 1})
    assert (result.flow_version, result.dry_run, result.final_output) == ("1.0.0", True, {"n": 1, "extra": 5})
    with pytest.raises(dw.FlowStatusError):
        consume(executor, entry, version="1.0.0")
    abort = consume(executor, entry, **terms, dry_run_unsupported="abort")[-1].result
    assert abort is not None
    assert [record.error_type for record in abort.execution_log] == ["FlowExecutionError"]


VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@both
@pytest.mark.parametrize("asynchronous", [False, True])
def test_row_26_dev_9_the_run_sees_the_context_variables_of_its_reader(entry: str, asynchronous: bool) -> None:
    seen: list[str] = []

    def look(v: Any) -> dict[str, int]:
        seen.append(VARIABLE.get())
        VARIABLE.set("changed by the tool")
        return {"n": v.n}

    async def look_async(v: Any) -> dict[str, int]:
        return look(v)

    token = VARIABLE.set("set by the reader")
    fn = look_async if asynchronous else look
    case = Case([linear(step("look"), step("look"))], lambda: [number_tool("look", fn)])
    try:
        assert read(case, entry).error is None
        assert VARIABLE.get() == "set by the reader"
    finally:
        VARIABLE.reset(token)
    assert seen == ["set by the reader"] * 2


@both
def test_a_tool_left_behind_by_its_timeout_adds_nothing_after_the_end(entry: str) -> None:
    """Its flow begins while the run goes on, and so is part of it, and ends when the run has ended."""
    go, inner_began, finish, done = (threading.Event() for _ in range(4))

    def slow(v: Any) -> dict[str, int]:
        assert go.wait(timeout=10)
        executor.execute_flow("inner", {"n": v.n})
        done.set()
        return {"n": v.n}

    def hold(v: Any) -> dict[str, int]:
        inner_began.set()
        assert finish.wait(timeout=10)
        return {"n": v.n}

    def let_go(v: Any) -> dict[str, int]:
        go.set()
        assert inner_began.wait(timeout=10)
        return {"n": v.n}

    steps = [step("slow", on_error="skip"), step("let_go")]
    more = [number_tool("slow", slow, timeout_seconds=0.05), number_tool("let_go", let_go), number_tool("hold", hold)]
    case = Case([linear(*steps), linear(step("hold"), name="inner")], lambda: more)
    executor = executor_for(case)
    if entry.startswith("Async"):
        outer = dw.AsyncFlowExecutor(executor.registry)
        for tool in more:
            outer.register_tool(tool)
        events = consume(outer, entry)
    else:
        events = consume(executor, entry)
    finish.set()
    assert done.wait(timeout=10)
    sequence = [(e.kind, e.flow_name, e.step_index) for e in events]
    assert [event for event in sequence if event[1] == "main"] == [
        ("flow_start", "main", None),
        *[(kind, "main", index) for index in (0, 1) for kind in ("step_start", "step_end")],
        ("flow_end", "main", None),
    ]
    assert [event for event in sequence if event[1] == "inner"] == [
        ("flow_start", "inner", None),
        ("step_start", "inner", 0),
    ]
    assert sequence[-1][:2] == ("flow_end", "main")


@both
def test_what_a_dropped_step_still_runs_comes_not_after_the_end(entry: str) -> None:
    """An async tool that runs a flow when it is cancelled, which is after what its sibling raised has ended the run."""
    entered, cleaned_up = threading.Event(), threading.Event()

    def leave(v: Any) -> dict[str, int]:
        assert entered.wait(timeout=10)
        raise Leave

    async def wait(v: Any) -> dict[str, int]:
        try:
            entered.set()
            await asyncio.sleep(60)
        finally:
            inner_executor.execute_flow("inner", {"n": v.n})
            cleaned_up.set()
        return {"n": v.n}

    more = [*tools(), number_tool("leave", leave), number_tool("wait", wait)]
    case = Case([dag(node("a", "leave"), node("b", "wait")), linear(step("inc"), name="inner")], lambda: more)
    inner_executor = executor_for(case)
    found = read(case, entry, max_step_concurrency=2)
    assert cleaned_up.is_set()
    assert found.sequence == whole(("step_start", "main", 0, "leave"), ("step_start", "main", 1, "wait"))
    assert type(found.error) is Leave


@both
def test_the_end_is_the_last_event_also_when_a_left_behind_tool_speaks_at_that_moment(entry: str) -> None:
    class Meet(dw.BaseMiddleware):
        """Lets the end of the run and a step of the left-behind flow happen at once."""

        def on_flow_end(self, ctx: Any) -> None:
            if ctx.flow_name == "main" and in_inner.is_set():
                barrier.wait(timeout=10)

        def on_step_start(self, ctx: Any) -> None:
            if ctx.flow_name == "inner":
                in_inner.set()
                barrier.wait(timeout=10)

    def slow(v: Any) -> dict[str, int]:
        begun.set()
        assert go.wait(timeout=10)
        executor.execute_flow("inner", {"n": v.n})
        done.set()
        return {"n": v.n}

    def let_go(v: Any) -> dict[str, int]:
        # On a busy machine its time may be over before it begins, and then it never does.
        if begun.wait(0.5):
            go.set()
            assert in_inner.wait(timeout=10)
        return {"n": v.n}

    steps = [step("slow", on_error="skip"), step("let_go")]
    more = [number_tool("slow", slow, timeout_seconds=0.001), number_tool("let_go", let_go), *tools()]
    case = Case([linear(*steps), linear(step("inc"), name="inner")], lambda: more)
    executor = executor_for(case, middleware=[Meet()])
    outer = executor
    if entry.startswith("Async"):
        outer = dw.AsyncFlowExecutor(executor.registry, middleware=[Meet()])
        for tool in more:
            outer.register_tool(tool)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        met = 0
        while met < 200:
            barrier = threading.Barrier(2)
            begun, go, in_inner, done = (threading.Event() for _ in range(4))
            last = consume(outer, entry)[-1]
            assert (last.kind, last.flow_name) == ("flow_end", "main")
            if in_inner.is_set():
                met += 1
                assert done.wait(timeout=10)
    finally:
        sys.setswitchinterval(interval)


@settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True, database=None
)
@given(flow=st.one_of(linear_flows(), dag_flows()), start=st.integers(0, 9))
def test_the_events_of_any_flow_are_the_hook_calls_of_a_run(flow: AnyFlow, start: int) -> None:
    case = Case([flow, INNER], random_tools, {"n": start})
    for entry, lane in (("stream_flow", "sync"), ("stream_flow_async", "async")):
        found, seen = read(case, entry), observe(case, lane)
        assert as_hook_calls(found.events) == seen.hooks
        assert (type(found.error), str(found.error)) == (type(seen.error), str(seen.error))
        result = found.events[-1].result
        assert seen.result is None or normalised(result) == normalised(seen.result)


def test_anything_may_be_streamed_from_a_tool_with_open_schemas() -> None:
    echo = Tool(name="echo", description="", input_schema=Anything, output_schema=Anything, fn=lambda v: v.model_dump())
    case = Case([dag(DAGFlowStep(step_id="e", tool_name="echo"))], lambda: [echo], {"word": "x"})
    results = [read(case, entry).events[-1].result for entry in ENTRIES]
    assert [result.final_output for result in results if result is not None] == [{"word": "x"}] * 3
