"""What tools, callbacks and hooks may do at the edges of what is usual, and what a run makes of it on both lanes."""

import asyncio
import math
import threading
import time
from contextvars import ContextVar
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, RootModel, computed_field

import doubleweave as dw
from doubleweave import DAGFlowStep, FlowStep, Tool
from executors_under_test import execute, lanes, make_executor
from lanes_under_test import Anything, Case, assert_same_on_both_lanes, number_tool, observe
from parity_scenarios import WRITES, dag, inc, linear, node, step, tools


def any_tool(name: str, fn: Any, output: Any = Anything, **options: Any) -> Tool:
    return Tool(name=name, description="", input_schema=Anything, output_schema=output, fn=fn, **options)


def only_record(case: Case, concurrency: int = 1) -> dw.StepRecord:
    result = assert_same_on_both_lanes(case, concurrency).result
    assert result is not None
    (record,) = result.execution_log
    return record


def ends_with_stop_iteration(v: Any) -> Any:
    try:
        next(iter([]))
    except StopIteration as error:
        raise RuntimeError("no more items in the feed") from error


def stop_with_text(v: Any) -> Any:
    raise StopIteration("nothing left")


RETRY_RUNTIME = dw.RetryPolicy(max_retries=2, backoff_seconds=0, retryable_errors=("builtins:RuntimeError",))
RETRY_STOP = dw.RetryPolicy(max_retries=2, backoff_seconds=0, retryable_errors=("builtins:StopIteration",))


@pytest.mark.parametrize(
    ("fn", "retry", "text"),
    [
        (ends_with_stop_iteration, None, "no more items in the feed"),
        (ends_with_stop_iteration, RETRY_RUNTIME, "no more items in the feed"),
        (stop_with_text, None, "nothing left"),
        (stop_with_text, RETRY_STOP, "nothing left"),
        (stop_with_text, dw.RetryPolicy(max_retries=0), "nothing left"),
    ],
)
@pytest.mark.parametrize("options", [{}, {"inline": True}, {"timeout_seconds": 5}])
def test_dev_38_errors_about_stop_iteration_keep_their_text_and_class(
    fn: Any, retry: Any, text: str, options: dict[str, Any]
) -> None:
    record = only_record(Case([linear(step("t", retry=retry))], lambda: [any_tool("t", fn, **options)]))
    attempts = 1 + (retry.max_retries if retry else 0)
    assert record.retry_errors == [text] * attempts
    assert record.error_message == f"Execution error in tool 't' at step 0: {text}"


def test_a_stream_that_fails_with_an_error_about_stop_iteration_keeps_its_text() -> None:
    async def feed(v: Any) -> Any:
        yield dw.ToolChunk(data=1)
        raise RuntimeError("the feed is empty") from StopIteration()

    def make() -> list[Tool]:
        return [
            dw.StreamingTool(name="t", description="", input_schema=Anything, output_schema=Anything, stream_fn=feed)
        ]

    record = only_record(Case([linear(step("t"))], make))
    assert (record.retry_errors, record.error_message) == (
        ["the feed is empty"],
        "Execution error in tool 't' at step 0: the feed is empty",
    )


@lanes
def test_steps_that_await_at_the_same_time_share_one_loop_which_ends_with_the_run(lane: str) -> None:
    loops: set[int] = set()

    async def choose(ctx: dw.DecisionContext) -> str:
        loops.add(id(asyncio.get_running_loop()))
        return ctx.default_tool_name

    flow = dag(*[node(f"s{i}", "inc", decision_candidates=["inc"]) for i in range(8)])
    settings = {"decision_callback": choose, "decision_policy": dw.DecisionPolicy(timeout_s=5)}
    seen = observe(Case([flow], tools, executor=lambda: settings), lane, 8)
    assert seen.result is not None
    assert seen.result.success
    assert len(loops) == 1
    assert [thread.name for thread in threading.enumerate() if "loop" in thread.name] == []


@pytest.mark.parametrize(("before", "after"), [(1, True), (1, 1.0), (0, False)])
@lanes
def test_a_flow_that_replaces_another_brings_its_own_literals(lane: str, before: Any, after: Any) -> None:
    registry = dw.FlowRegistry()
    executor = dw.FlowExecutor(registry)
    executor.register_tool(any_tool("show", lambda v: {"shown": repr(v.x)}))
    for literal in (before, after):
        registry.register_flow(linear(step("show", input_mapping={"x": literal})), overwrite=True)
        result = execute(executor, lane, {})
        assert result.final_output == {"shown": repr(literal)}


class Incomparable:
    def __eq__(self, other: object) -> Any:
        raise ValueError("no truth value")

    __hash__ = None  # type: ignore[assignment]  # as arrays are


def test_literals_that_cannot_be_compared_are_no_hindrance() -> None:
    registry = dw.FlowRegistry()
    flow = linear(step("show", input_mapping={"x": Incomparable()}))
    registry.register_flow(flow)
    executor = dw.FlowExecutor(registry)
    executor.register_tool(any_tool("show", lambda v: {"shown": type(v.x).__name__}))
    for _ in range(2):
        assert executor.execute_flow("main", {}).final_output == {"shown": "Incomparable"}
        flow.steps[0].input_mapping["x"] = Incomparable()


class Aliased(BaseModel):
    model_config = ConfigDict(extra="forbid")
    x: int = Field(alias="X")


class Wider(Aliased):
    extra: int = 5

    @computed_field  # type: ignore[prop-decorator]  # the checker does not follow decorated properties
    @property
    def double(self) -> int:
        return 2 * self.x


def test_an_instance_of_a_subclass_counts_as_one_of_the_declared_class() -> None:
    record = only_record(Case([linear(step("t"))], lambda: [any_tool("t", lambda v: Wider(X=1), Aliased)]))
    assert (record.error_message, record.outputs) == (None, {"x": 1})


@lanes
def test_a_decision_gets_its_time_once(lane: str) -> None:
    release = threading.Event()

    def decide(ctx: dw.DecisionContext) -> Any:
        release.wait(0.2)

        async def more() -> str:
            await asyncio.sleep(5)
            return "inc"

        return more()

    settings = {"decision_callback": decide, "decision_policy": dw.DecisionPolicy(timeout_s=0.3)}
    start = time.monotonic()
    case = Case([linear(step("inc", decision_candidates=["inc"]))], tools, executor=lambda: settings)
    result = observe(case, lane).result
    assert result is not None
    assert result.execution_log[0].error_type == "DecisionTimeoutError"
    assert time.monotonic() - start < 0.45


@pytest.mark.parametrize("concurrency", [1, 2])
@pytest.mark.parametrize("swallows", [False, True])
async def test_a_cancelled_task_ends_the_run_although_the_tool_converts_its_cancellation(
    concurrency: int, swallows: bool
) -> None:
    entered = asyncio.Event()
    called: list[Any] = []

    async def convert(v: Any) -> dict[str, int]:
        entered.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if not swallows:
                raise ValueError("converted") from None
        return {"n": 0}

    def note(v: Any) -> dict[str, int]:
        called.append(v)
        return {"n": 1}

    registry = dw.FlowRegistry()
    registry.register_flow(dag(node("a", "convert", on_error="skip"), node("b", "after", after="a")))
    executor = dw.AsyncFlowExecutor(registry, max_step_concurrency=concurrency)
    executor.register_tool(number_tool("convert", convert))
    executor.register_tool(number_tool("after", note))
    task = asyncio.create_task(executor.execute_flow("main", {"n": 1}))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert called == []


async def never_in_time(v: Any) -> Any:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        raise ValueError("cleaning up failed") from None


async def streams_never_in_time(v: Any) -> Any:
    await never_in_time(v)
    yield dw.ToolChunk(data={}, is_final=True)


def test_a_tool_that_fails_when_its_time_is_over_has_timed_out() -> None:
    def make() -> list[Tool]:
        schemas = {"input_schema": Anything, "output_schema": Anything, "timeout_seconds": 0.02}
        return [
            any_tool("t", never_in_time, timeout_seconds=0.02),
            dw.StreamingTool(name="s", description="", stream_fn=streams_never_in_time, **schemas),  # type: ignore[arg-type]  # values of several types
        ]

    for name in ("t", "s"):
        record = only_record(Case([linear(step(name))], make))
        assert record.error_message == f"Tool '{name}' exceeded timeout of 0.02s."


@pytest.mark.parametrize("limit", [math.inf, 1e12])
def test_a_time_limit_may_be_as_long_as_one_likes(limit: float) -> None:
    settings = {"decision_callback": lambda ctx: "t", "decision_policy": dw.DecisionPolicy(timeout_s=limit)}
    flow = linear(step("t", decision_candidates=["t"]))
    record = only_record(
        Case([flow], lambda: [any_tool("t", lambda v: {"x": 1}, timeout_seconds=limit)], executor=lambda: settings)
    )
    assert (record.error_message, record.outputs) == (None, {"x": 1})


def test_inputs_that_contain_themselves_can_be_logged_and_shown() -> None:
    shown: list[Any] = []
    loop: dict[str, Any] = {"password": "x"}
    loop["me"] = loop

    def approve(ctx: dw.ApprovalContext) -> dw.ApprovalDecision:
        shown.append(ctx.inputs)
        return dw.ApprovalDecision.APPROVE

    settings = {"redaction_policy": dw.RedactionPolicy(), "approval_callback": approve}
    flow = linear(step("t", input_mapping={"loop": "loop"}))
    contract = dw.ToolSafetyContract(requires_approval=True)
    case = Case(
        [flow], lambda: [any_tool("t", lambda v: {"x": 1}, safety=contract)], {"loop": loop}, executor=lambda: settings
    )
    for lane in ("sync", "async"):
        result = observe(case, lane).result
        assert result is not None
        assert result.success
    assert shown == [{"loop": {"password": "***REDACTED***", "me": "***REDACTED***"}}] * 2


class ByNumber(RootModel[dict[int, str]]):
    pass


class Watching:
    def __init__(self) -> None:
        self.inputs: list[Any] = []

    def on_flow_start(self, ctx: Any) -> None:
        self.inputs.append(ctx.initial_input)

    def on_step_start(self, ctx: Any) -> None:
        self.inputs.append(ctx.inputs)


@lanes
def test_keys_that_are_no_strings_disturb_nobody_who_watches(lane: str) -> None:
    watching, asks = Watching(), dw.ToolSafetyContract(requires_approval=True)
    schemas: dict[str, Any] = {"input_schema": ByNumber, "output_schema": ByNumber, "description": ""}
    executor = make_executor(
        [linear(step("a"), step("b", decision_candidates=["b"]))],
        [
            Tool(name="a", fn=lambda v: {1: "one"}, **schemas),
            Tool(name="b", fn=lambda v: {3: "three"}, safety=asks, **schemas),
        ],
        middleware=[watching],
        trace_recorder=dw.TraceRecorder(),
        decision_callback=lambda ctx: "b",
        approval_callback=lambda ctx: dw.ApprovalDecision.APPROVE,
        guardrail_callback=lambda ctx: None,
    )
    result = execute(executor, lane, {2: "two"})  # type: ignore[dict-item]  # what nobody should do
    assert [record.error_message for record in result.execution_log] == [None, None]
    final: Any = result.final_output
    assert final == {2: "two", 1: "one", 3: "three"}
    assert watching.inputs == [{2: "two"}, {2: "two"}, {2: "two", 1: "one"}]


@lanes
def test_an_output_mapping_error_lists_keys_of_any_kind(lane: str) -> None:
    class Mixed(RootModel[dict[int | str, str]]):
        pass

    mixed = any_tool("a", lambda v: {1: "x", "b": "y"}, Mixed)
    executor = make_executor([linear(step("a", output_mapping={"m": "gone"}))], [mixed])
    with pytest.raises(dw.OutputMappingError) as caught:
        execute(executor, lane, {})
    assert list(caught.value.available) == [1, "b"]


def test_a_decision_that_cannot_be_compared_is_no_candidate() -> None:
    settings = {"decision_callback": lambda ctx: Incomparable()}
    case = Case([linear(step("inc", decision_candidates=["inc"]))], tools, executor=lambda: settings)
    for lane in ("sync", "async"):
        result = observe(case, lane).result
        assert result is not None
        assert result.execution_log[0].error_type == "DecisionCallbackError"


class Leave(BaseException):
    pass


class Calls:
    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_flow_start(self, ctx: Any) -> None:
        self.seen.append("flow_start")

    def on_flow_end(self, ctx: Any) -> None:
        self.seen.append(f"flow_end {ctx.result.success}")


class Leaves:
    def on_flow_start(self, ctx: Any) -> None:
        raise Leave


@lanes
def test_dev_5_a_hook_that_leaves_the_run_at_its_start_ends_it_for_the_others(lane: str) -> None:
    calls = Calls()
    registry = dw.FlowRegistry()
    registry.register_flow(linear(step("inc")))
    executor = dw.FlowExecutor(registry, middleware=[calls, Leaves()])
    with pytest.raises(Leave):
        execute(executor, lane, {"n": 1})
    assert calls.seen == ["flow_start", "flow_end False"]


class BrokenRecorder(dw.TraceRecorder):
    def start_trace(self, source: str) -> str:
        raise OSError("the disk is full")


@lanes
def test_dev_5_a_broken_trace_recorder_does_not_take_the_place_of_an_error(
    lane: str, caplog: pytest.LogCaptureFixture
) -> None:
    flow = linear(step("inc"), on_context_collision="error")
    seen = observe(Case([flow], tools, executor=lambda: {"trace_recorder": BrokenRecorder()}), lane)
    assert isinstance(seen.error, dw.ContextKeyCollisionError)
    assert ("ERROR", "Flow 'main': the trace recorder failed too") in seen.lines
    assert [call[0] for call in seen.hooks if call[0].startswith("flow")] == ["flow_start", "flow_end"]


@lanes
def test_a_stream_that_is_given_up_stops(lane: str) -> None:
    reading, stopped, release = threading.Event(), threading.Event(), threading.Event()

    async def tick(v: Any) -> Any:
        try:
            while True:
                yield dw.ToolChunk(data=1)
                reading.set()
                await asyncio.sleep(0.001)
        finally:
            stopped.set()

    def wait(v: Any) -> dict[str, int]:
        assert release.wait(10)
        return {"n": 1}

    def release_once_stopped() -> None:
        stopped.wait(10)
        release.set()

    def fail_once_it_ticks(v: Any) -> dict[str, int]:
        assert reading.wait(10)
        threading.Thread(target=release_once_stopped).start()
        return {"n": 1}

    flow = dag(
        node("a", "wait"),
        node("b", "fail", output_contract="nowhere.at_all:X"),
        DAGFlowStep(step_id="c", tool_name="tick", input_mapping={"n": "n"}),
    )

    def make() -> list[Tool]:
        stream = dw.StreamingTool(
            name="tick", description="", input_schema=Anything, output_schema=Anything, stream_fn=tick
        )
        return [number_tool("wait", wait), number_tool("fail", fail_once_it_ticks), stream]

    seen = observe(Case([flow], make), lane, 3)
    assert isinstance(seen.error, dw.FlowSerializationError)
    assert stopped.is_set()
    assert release.wait(10)


@lanes
@pytest.mark.parametrize("concurrency", [1, 2])
def test_a_timed_call_has_one_thread_of_its_name(lane: str, concurrency: int) -> None:
    names: list[int] = []

    def count(v: Any) -> dict[str, int]:
        names.append(sum(thread.name == "doubleweave-tool-count" for thread in threading.enumerate()))
        return {"n": 1}

    flow = dag(node("a", "count"), node("b"))
    seen = observe(Case([flow], lambda: [*tools(), number_tool("count", count, timeout_seconds=5)]), lane, concurrency)
    assert seen.result is not None
    assert names == [1]


@lanes
def test_a_tool_whose_output_schema_is_assigned_anew_is_waited_for_anew(lane: str) -> None:
    class Narrow(BaseModel):
        other: str = ""

    def write_late(v: Any) -> dict[str, str]:
        threading.Event().wait(0.05)  # long enough for a reader that does not wait to be early
        return {"key": "new"}

    writer = any_tool("write", lambda v: {"key": "new"}, Narrow)
    registry = dw.FlowRegistry()
    registry.register_flow(
        dag(
            DAGFlowStep(step_id="first", tool_name="first", input_mapping={"key": "key"}),
            DAGFlowStep(step_id="writer", tool_name="write", input_mapping={"key": "key"}),
            DAGFlowStep(step_id="middle", tool_name="first", input_mapping={"key": "key"}, depends_on=["first"]),
            DAGFlowStep(step_id="reader", tool_name="read", input_mapping={"key": "key"}, depends_on=["middle"]),
            on_context_collision="overwrite",
        )
    )
    executor = dw.FlowExecutor(registry, max_step_concurrency=4)
    executor.register_tool(writer)
    executor.register_tool(any_tool("first", lambda v: {}))
    executor.register_tool(any_tool("read", lambda v: {"read": v.key}))

    def run() -> Any:
        return execute(executor, lane, {"key": "old"})

    assert run().final_output == {"key": "old", "other": "", "read": "old"}
    writer.output_schema = Anything
    writer.fn = write_late
    assert run().final_output == {"key": "new", "read": "new"}


def test_sub_flows_are_counted_by_the_tools_in_them() -> None:
    class Strict(BaseModel):
        needed: int

    strict = Tool(name="sub", description="", input_schema=Strict, output_schema=Anything, fn=lambda v: {})
    flows: list[dw.AnyFlow] = [
        linear(FlowStep(flow_name="sub")),
        linear(step("sub"), name="sub"),
    ]
    settings = {"cost_profile": dw.CostProfile()}
    for lane in ("sync", "async"):
        result = observe(Case(flows, lambda: [strict], executor=lambda: settings), lane).result
        assert result is not None
        assert result.cost_report is not None
        assert result.cost_report.steps_executed == 1


@lanes
@pytest.mark.parametrize("concurrency", [1, 2])
def test_what_a_hook_does_to_a_record_does_not_reach_the_context(lane: str, concurrency: int) -> None:
    class Meddler:
        def on_step_end(self, ctx: Any) -> None:
            ctx.step_record.outputs["hack"] = 1

    flows: list[dw.AnyFlow] = [
        linear(step("inc"), name="line"),
        dag(DAGFlowStep(step_id="a", tool_name="inc"), on_context_collision="overwrite"),
    ]
    executor = make_executor(flows, tools(), middleware=[Meddler()], max_step_concurrency=concurrency)
    for name in ("line", "main"):
        result = execute(executor, lane, {"n": 1}, name)
        assert result.final_output == {"n": 2}


@lanes
def test_callbacks_of_independent_steps_that_await_do_so_at_the_same_time(lane: str) -> None:
    met: list[asyncio.Event] = []

    async def approve(ctx: dw.ApprovalContext) -> dw.ApprovalDecision:
        met.append(asyncio.Event())
        if len(met) == 2:
            for event in met:
                event.set()
        async with asyncio.timeout(10):
            await met[ctx.step_index].wait()
        return dw.ApprovalDecision.APPROVE

    case = Case([dag(node("a", "asks"), node("b", "asks"))], tools, executor=lambda: {"approval_callback": approve})
    result = observe(case, lane, 2).result
    assert result is not None
    assert result.success


def test_an_error_text_that_utf_8_cannot_hold_is_kept_in_another_form() -> None:
    def fail(v: Any) -> Any:
        raise ValueError("bad \udc80 path")

    record = only_record(Case([linear(step("t"))], lambda: [any_tool("t", fail)]))
    assert record.error_message == "Execution error in tool 't' at step 0: bad \\udc80 path"
    assert dw.StepRecord.model_validate_json(record.model_dump_json()) == record


MARK: ContextVar[str] = ContextVar("MARK", default="unset")


@lanes
def test_tools_see_the_context_variables_that_hooks_set(lane: str) -> None:
    class Marks:
        def on_step_start(self, ctx: Any) -> None:
            MARK.set(f"step {ctx.step_index}")

    show = any_tool("show", lambda v: {f"seen {MARK.get()}": True})
    executor = make_executor([linear(step("show"), step("show"))], [show], middleware=[Marks()])
    result = execute(executor, lane, {})
    assert result.final_output == {"seen step 0": True, "seen step 1": True}
    assert MARK.get() == "unset"


@lanes
def test_a_flow_that_a_hook_runs_during_a_dry_run_is_a_dry_run(lane: str) -> None:
    effects: list[int] = []

    def write(v: Any) -> dict[str, int]:
        effects.append(v.n)
        return {"n": v.n}

    class Runs:
        def on_step_start(self, ctx: Any) -> None:
            if ctx.flow_name == "main":
                executor.execute_flow("other", {"n": 1})

    flows = [linear(step("inc")), linear(step("write"), name="other")]
    made = [number_tool("inc", inc), number_tool("write", write, safety=WRITES)]
    executor = make_executor(flows, made, middleware=[Runs()])
    execute(executor, lane, dry_run=True)
    assert effects == []


async def test_a_flow_of_either_executor_can_be_a_tool() -> None:
    registry = dw.FlowRegistry()
    inner = linear(step("inc"), name="inner")
    registry.register_flow(inner)
    registry.register_flow(linear(step("wrapped")))
    inside = dw.AsyncFlowExecutor(registry)
    inside.register_tool(number_tool("inc", inc))
    outside = dw.FlowExecutor(registry)
    outside.register_tool(Tool.from_flow(inner, inside, name="wrapped"))
    assert outside.execute_flow("main", {"n": 1}).final_output == {"n": 2}
    assert (await outside.execute_flow_async("main", {"n": 1})).final_output == {"n": 2}


def test_a_status_written_as_text_is_heeded_as_well() -> None:
    registry = dw.FlowRegistry()
    registry.register_flow(linear(step("inc")))
    registry.update_flow_state("main", status="active")  # type: ignore[arg-type]  # text, as from a file
    executor = dw.FlowExecutor(registry)
    executor.register_tool(number_tool("inc", inc))
    assert executor.execute_flow("main", {"n": 1}).success


def test_a_sub_flow_that_was_cancelled_logs_its_one_error_line() -> None:
    token = dw.CancellationToken()

    def cancel(v: Any) -> dict[str, int]:
        token.cancel()
        return {"n": 1}

    flows = [linear(FlowStep(flow_name="inner")), linear(step("cancel"), step("inc"), name="inner")]
    case = Case(flows, lambda: [*tools(), number_tool("cancel", cancel)], run=lambda: {"cancel_token": token})
    lines = observe(case, "sync").lines
    assert [line for level, line in lines if level == "ERROR" and line.startswith("Step")] == [
        "Step 0 ERROR | tool=inner | error=FlowCancelledError: "
        "Flow 'inner' cancelled before step 1 (cancellation requested)."
    ]
