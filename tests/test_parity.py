"""The same flows on both lanes: results, records, hooks, log lines and errors agree, and are what they should be."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from pydantic import BaseModel

import doubleweave as dw
from doubleweave import ConditionalEdge, DAGFlow, DAGFlowStep, Flow, FlowStep, RetryPolicy, Tool, ToolSafetyContract
from lanes_under_test import Anything, Case, Number, assert_same_on_both_lanes, number_tool, observe


def inc(v: Any) -> dict[str, int]:
    return {"n": v.n + 1}


async def double(v: Any) -> dict[str, int]:
    await asyncio.sleep(0)
    return {"n": v.n * 2}


def boom(v: Any) -> dict[str, int]:
    raise ValueError("boom")


def stop(v: Any) -> dict[str, int]:
    raise StopIteration("no more")


def wrong(v: Any) -> dict[str, str]:
    return {"n": "many"}


def flaky(times: int) -> Callable[[Any], dict[str, int]]:
    calls = iter(range(times))

    def fn(v: Any) -> dict[str, int]:
        if next(calls, None) is not None:
            raise OSError("not yet")
        return {"n": v.n + 10}

    return fn


async def count_up(v: Any) -> AsyncIterator[dw.ToolChunk]:
    for i in range(v.n):
        yield dw.ToolChunk(data=i)
    yield dw.ToolChunk(data={"n": v.n}, is_final=True)


WRITES = ToolSafetyContract(side_effects=dw.SideEffectLevel.WRITE, safe_to_retry=False)
ASKS = ToolSafetyContract(requires_approval=True)


def tools() -> list[Tool]:
    return [
        number_tool("inc", inc),
        number_tool("double", double),
        number_tool("boom", boom),
        number_tool("stop", stop),
        number_tool("wrong", wrong),
        number_tool("flaky", flaky(2)),
        number_tool("write", inc, safety=WRITES),
        number_tool("asks", inc, safety=ASKS),
        number_tool("big", inc, max_output_size=3),
        dw.StreamingTool(name="stream", description="", input_schema=Number, output_schema=Number, stream_fn=count_up),
    ]


def linear(*steps: FlowStep, name: str = "main", **options: Any) -> Flow:
    return Flow(name=name, description="", steps=list(steps), **{"on_context_collision": "overwrite", **options})


def dag(*steps: DAGFlowStep, name: str = "main", **options: Any) -> DAGFlow:
    return DAGFlow(name=name, version="1.0", description="", steps=list(steps), **options)


def node(step_id: str, tool: str = "inc", after: str = "", source: str = "n", **options: Any) -> DAGFlowStep:
    values: dict[str, Any] = {"input_mapping": {"n": source}, "output_mapping": {step_id: "n"}, "tool_name": tool}
    return DAGFlowStep(step_id=step_id, depends_on=after.split(), **{**values, **options})


def step(tool: str, **options: Any) -> FlowStep:
    return FlowStep(tool_name=tool, **options)


def approve(ctx: Any) -> dw.ApprovalDecision:
    return dw.ApprovalDecision.APPROVE


async def deny(ctx: Any) -> dw.ApprovalDecision:
    return dw.ApprovalDecision.DENY


def block(ctx: Any) -> None:
    raise PermissionError("not these inputs")


QUICK = RetryPolicy(max_retries=3, backoff_seconds=0.001)
BRANCHING = dag(
    node("a", branches=[ConditionalEdge(target_step_id="b", predicate="a > 5")], default_next="c"),
    node("b", after="a", source="a"),
    node("c", "double", after="a", source="a"),
    node("d", after="b"),
    node("e", after="b c"),
)
THREE_DEEP = [
    linear(step("inc"), FlowStep(flow_name="middle"), step("inc")),
    linear(FlowStep(flow_name="inner"), step("double"), name="middle"),
    linear(step("double"), step("inc"), name="inner"),
]

# Name, case, then: success, final output (None: not compared), per record (index, tool, error type).
SCENARIOS: list[tuple[str, Case, bool, dict[str, Any] | None, list[tuple[int, str, str | None]]]] = [
    ("empty flow", Case([linear()], tools), True, {"n": 1}, []),
    (
        "linear flow",
        Case([linear(step("inc"), step("double"))], tools),
        True,
        {"n": 4},
        [(0, "inc", None), (1, "double", None)],
    ),
    ("failing tool", Case([linear(step("boom"))], tools), False, None, [(0, "boom", "FlowExecutionError")]),
    ("missing tool", Case([linear(step("gone"))], tools), False, None, [(0, "gone", "ToolNotFoundError")]),
    ("wrong output", Case([linear(step("wrong"))], tools), False, None, [(0, "wrong", "SchemaValidationError")]),
    ("output too big", Case([linear(step("big"))], tools), False, None, [(0, "big", "ToolOutputSizeError")]),
    (
        "mapping error",
        Case([linear(step("inc", input_mapping={"n": "/a/b"}))], tools),
        False,
        None,
        [(0, "inc", "InputMappingError")],
    ),
    ("DEV-38 StopIteration", Case([linear(step("stop"))], tools), False, None, [(0, "stop", "FlowExecutionError")]),
    (
        "on_error skip",
        Case([linear(step("boom", on_error="skip"))], tools),
        True,
        {"n": 1},
        [(0, "boom", "FlowExecutionError")],
    ),
    (
        "DEV-17 row 12 fallback",
        Case([linear(step("boom", on_error="fallback:inc", retry=QUICK))], tools),
        True,
        {"n": 2},
        [(0, "boom", None)],
    ),
    (
        "fallback not registered",
        Case([linear(step("boom", on_error="fallback:gone"))], tools),
        False,
        None,
        [(0, "boom", "ToolNotFoundError")],
    ),
    ("retries that succeed", Case([linear(step("flaky", retry=QUICK))], tools), True, {"n": 11}, [(0, "flaky", None)]),
    (
        "retry suppressed",
        Case([linear(step("write", retry=QUICK))], tools, executor=lambda: {"strict_safety": True}),
        True,
        {"n": 2},
        [(0, "write", None)],
    ),
    (
        "row 1 DEV-1 branches",
        Case([BRANCHING], tools),
        True,
        {"n": 1, "a": 2, "c": 4, "e": 2},
        [(0, "inc", None), (1, "inc", None), (2, "double", None), (3, "inc", None), (4, "inc", None)],
    ),
    (
        "row 2 DEV-1 decisions",
        Case(
            [linear(step("inc", decision_candidates=["inc", "double"]))],
            tools,
            {"n": 5},
            executor=lambda: {"decision_callback": lambda ctx: "double"},
        ),
        True,
        {"n": 10},
        [(0, "double", None)],
    ),
    (
        "DEV-37 awaitable decision",
        Case(
            [linear(step("inc", decision_candidates=["inc", "double"]))],
            tools,
            executor=lambda: {"decision_callback": choose_nothing},
        ),
        False,
        None,
        [(0, "inc", "DecisionCallbackError")],
    ),
    (
        "row 3 DEV-3 dry run",
        Case([linear(step("write"), step("inc"))], tools, run=lambda: {"dry_run": True}),
        True,
        {"n": 2},
        [(0, "write", None), (1, "inc", None)],
    ),
    (
        "dry run that aborts",
        Case([linear(step("write"))], tools, run=lambda: {"dry_run": True, "dry_run_unsupported": "abort"}),
        False,
        None,
        [(0, "write", "FlowExecutionError")],
    ),
    (
        "row 4 DEV-7 context schema",
        Case([linear(step("inc"), context_schema_ref="test_parity:Strict")], tools),
        False,
        None,
        [(0, "inc", None), (1, "main", "SchemaValidationError")],
    ),
    (
        "input schema",
        Case([linear(step("inc"), input_schema_ref="test_parity:Strict")], tools),
        False,
        None,
        [(-1, "main", "SchemaValidationError")],
    ),
    (
        "row 5 DEV-20 level failure",
        Case([dag(node("a", "boom"), node("b"))], tools),
        False,
        None,
        [(0, "boom", "FlowExecutionError")],
    ),
    (
        "row 23 sibling collision",
        Case([dag(node("a"), node("b", output_mapping={"a": "n"}))], tools),
        False,
        None,
        [(0, "inc", None), (1, "inc", "FlowExecutionError")],
    ),
    (
        "row 9 DEV-24 capability step",
        Case(
            [dag(node("a"), DAGFlowStep(step_id="k", tool_name="cap", step_type="capability", capability_id="c"))],
            tools,
        ),
        False,
        None,
        [(0, "inc", None), (1, "cap", "FlowExecutionError")],
    ),
    (
        "row 11 DEV-11 streaming tool",
        Case([linear(step("stream", retry=QUICK))], tools, {"n": 3}),
        True,
        {"n": 3},
        [(0, "stream", None)],
    ),
    (
        "DEV-21 predicate of wrong types",
        Case(
            [dag(node("a", branches=[ConditionalEdge(target_step_id="b", predicate="a < 'x'")]), node("b", after="a"))],
            tools,
        ),
        False,
        None,
        [(0, "inc", "PredicateSyntaxError")],
    ),
    (
        "row 29 DEV-41 unknown on_error",
        Case([linear(step("boom").model_copy(update={"on_error": "explode:now"}))], tools),
        False,
        None,
        [(0, "boom", "FlowExecutionError")],
    ),
    (
        "sub-flows three deep",
        Case(THREE_DEEP, tools, {"n": 1}),
        True,
        {"n": 11},
        [(0, "inc", None), (1, "middle", None), (2, "inc", None)],
    ),
    (
        "DEV-23 sub-flow with a mapping error",
        Case([linear(FlowStep(flow_name="inner", input_mapping={"n": "gone"})), THREE_DEEP[2]], tools),
        False,
        None,
        [(0, "inner", "InputMappingError")],
    ),
    (
        "approved",
        Case([linear(step("asks"))], tools, executor=lambda: {"approval_callback": approve}),
        True,
        {"n": 2},
        [(0, "asks", None)],
    ),
    (
        "DEV-37 denied by an awaitable",
        Case([linear(step("asks", on_error="skip"))], tools, executor=lambda: {"approval_callback": deny}),
        False,
        None,
        [(0, "asks", "ApprovalDeniedError")],
    ),
    (
        "strict safety without a callback",
        Case([linear(step("asks"))], tools, executor=lambda: {"strict_safety": True}),
        False,
        None,
        [(0, "asks", "ApprovalDeniedError")],
    ),
    (
        "ceiling",
        Case([linear(step("write"))], tools, executor=lambda: {"max_side_effect_level": dw.SideEffectLevel.READ}),
        False,
        None,
        [(0, "write", "SafetyCeilingError")],
    ),
    (
        "guardrail",
        Case([linear(step("inc"))], tools, executor=lambda: {"guardrail_callback": block}),
        False,
        None,
        [(0, "inc", "GuardrailViolationError")],
    ),
    (
        "DEV-15 skipped step with an output mapping",
        Case([linear(step("boom", on_error="skip", output_mapping={"m": "gone"}))], tools),
        True,
        {"n": 1},
        [(0, "boom", "FlowExecutionError")],
    ),
    (
        "DEV-14 output contract of a fallback",
        Case([linear(step("boom", on_error="fallback:inc", output_contract="test_parity:Strict"))], tools),
        False,
        None,
        [(0, "boom", "SchemaValidationError")],
    ),
]


async def choose_nothing(ctx: Any) -> str:
    return "elsewhere"


class Strict(BaseModel):
    word: str


@pytest.mark.parametrize("concurrency", [1, 2, 8])
@pytest.mark.parametrize(
    ("case", "success", "output", "records"), [row[1:] for row in SCENARIOS], ids=[row[0] for row in SCENARIOS]
)
def test_both_lanes_show_the_same(case: Case, success: bool, output: Any, records: list[Any], concurrency: int) -> None:
    result = assert_same_on_both_lanes(case, concurrency).result
    assert result is not None
    assert [(r.step_index, r.tool_name, r.error_type) for r in result.execution_log] == records
    assert (result.success, result.final_output) == (success, output)


# Name, case, error class, step index of the error where it has one, number of records kept in the partial result.
RAISED: list[tuple[str, Case, type[Exception]]] = [
    ("unknown flow", Case([linear()], tools, run=lambda: {"version": "9"}), dw.FlowNotFoundError),
    ("status", Case([linear(status=dw.FlowStatus.DISABLED)], tools), dw.FlowStatusError),
    ("bad dry run word", Case([linear()], tools, run=lambda: {"dry_run_unsupported": "maybe"}), ValueError),
    ("self-containing flow", Case([linear(FlowStep(flow_name="main"))], tools), dw.FlowCompositionError),
    ("output mapping", Case([linear(step("inc", output_mapping={"m": "gone"}))], tools), dw.OutputMappingError),
    ("collision", Case([linear(step("inc"), on_context_collision="error")], tools), dw.ContextKeyCollisionError),
    ("contract ref", Case([linear(step("inc", input_contract="nowhere:X"))], tools), dw.FlowSerializationError),
    ("deadline", Case([linear(step("inc"))], tools, run=lambda: {"deadline": 0.0}), dw.FlowCancelledError),
    (
        "budget",
        Case(
            [linear(*[step("inc", decision_candidates=["inc"])] * 2)],
            tools,
            executor=lambda: {
                "decision_callback": lambda ctx: "inc",
                "decision_policy": dw.DecisionPolicy(max_decisions_per_flow=1),
            },
        ),
        dw.DecisionBudgetExceededError,
    ),
]


@pytest.mark.parametrize(("case", "error"), [row[1:] for row in RAISED], ids=[row[0] for row in RAISED])
def test_both_lanes_raise_the_same_and_close_their_hooks(case: Case, error: type[Exception]) -> None:
    seen = assert_same_on_both_lanes(case)
    assert type(seen.error) is error
    starts = sum(call[0] == "flow_start" for call in seen.hooks)
    assert starts == sum(call[0] == "flow_end" for call in seen.hooks)


@pytest.mark.parametrize("lane", ["sync", "async"])
@pytest.mark.parametrize("concurrency", [1, 4])
def test_row_7_dev_25_a_cancelled_sub_flow_is_anchored_in_its_parents(lane: str, concurrency: int) -> None:
    token = dw.CancellationToken()

    def cancel(v: Any) -> dict[str, int]:
        token.cancel()
        return {"n": v.n}

    flows = [
        dag(node("a"), DAGFlowStep(step_id="s", flow_name="middle", depends_on=["a"])),
        linear(FlowStep(flow_name="inner"), name="middle"),
        linear(step("cancel"), step("inc"), name="inner"),
    ]
    seen = observe(
        Case(flows, lambda: [*tools(), number_tool("cancel", cancel)], run=lambda: {"cancel_token": token}),
        lane,
        concurrency,
    )
    error = seen.error
    assert isinstance(error, dw.FlowCancelledError)
    assert (error.flow_name, error.step_index, error.token_cancelled) == ("main", 1, True)
    outer = error.result.execution_log
    assert [(r.tool_name, r.error_type) for r in outer] == [("inc", None), ("middle", "FlowCancelledError")]
    assert [r.tool_name for r in outer[1].sub_result.execution_log[0].sub_result.execution_log] == ["cancel"]
    assert [call[1] for call in seen.hooks if call[0] == "flow_end"] == ["inner", "middle", "main"]


@pytest.mark.parametrize("lane", ["sync", "async"])
def test_row_6_dev_33_independent_steps_overlap(lane: str) -> None:
    barrier = threading.Barrier(4)

    def meet(v: Any) -> dict[str, int]:
        barrier.wait(timeout=10)
        return {"n": v.n}

    flow = dag(*[node(f"s{i}", "meet") for i in range(4)])
    seen = observe(Case([flow], lambda: [number_tool("meet", meet)]), lane, 4)
    assert seen.result is not None
    assert seen.result.final_output == {"n": 1, "s0": 1, "s1": 1, "s2": 1, "s3": 1}


@pytest.mark.parametrize("lane", ["sync", "async"])
def test_dev_34_a_slow_sibling_does_not_hold_back_an_unrelated_branch(lane: str) -> None:
    reached = threading.Event()

    def slow(v: Any) -> dict[str, int]:
        assert reached.wait(timeout=10)
        return {"n": v.n}

    def last(v: Any) -> dict[str, int]:
        reached.set()
        return {"n": v.n}

    flow = dag(node("slow", "slow"), node("a"), node("b", "last", after="a", source="a"))
    seen = observe(Case([flow], lambda: [*tools(), number_tool("slow", slow), number_tool("last", last)]), lane, 2)
    assert seen.result is not None
    assert seen.result.success
    assert [r.tool_name for r in seen.result.execution_log] == ["slow", "inc", "last"]


@pytest.mark.parametrize("lane", ["sync", "async"])
def test_a_step_with_an_empty_mapping_waits_for_the_levels_before_it(lane: str) -> None:
    order: list[str] = []

    def note(name: str) -> Tool:
        def fn(v: Any) -> dict[str, int]:
            order.append(name)
            return {name: 1}

        return Tool(name=name, description="", input_schema=Anything, output_schema=Anything, fn=fn)

    flow = dag(
        DAGFlowStep(step_id="a", tool_name="a"),
        DAGFlowStep(step_id="b", tool_name="b"),
        DAGFlowStep(step_id="c", tool_name="c", depends_on=["b"]),
    )
    seen = observe(Case([flow], lambda: [note("a"), note("b"), note("c")]), lane, 4)
    assert seen.result is not None
    assert seen.result.execution_log[2].inputs == {"n": 1, "a": 1, "b": 1}
    assert order[2] == "c"


@pytest.mark.parametrize("lane", ["sync", "async"])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_row_15_dev_12_dev_42_a_timed_out_tool_returns_control_and_is_recorded(lane: str, asynchronous: bool) -> None:
    release = threading.Event()

    def hang(v: Any) -> dict[str, int]:
        release.wait(timeout=10)
        return {"n": 0}

    async def hang_async(v: Any) -> dict[str, int]:
        await asyncio.sleep(10)
        return {"n": 0}

    start = time.monotonic()
    fn = hang_async if asynchronous else hang
    seen = observe(Case([linear(step("hang"))], lambda: [number_tool("hang", fn, timeout_seconds=0.05)]), lane)
    assert time.monotonic() - start < 5
    release.set()
    assert seen.result is not None
    record = seen.result.execution_log[0]
    assert (record.error_type, record.error_message) == ("ToolTimeoutError", "Tool 'hang' exceeded timeout of 0.05s.")


@pytest.mark.parametrize("lane", ["sync", "async"])
def test_dev_39_a_tools_own_timeout_error_is_no_tool_timeout(lane: str) -> None:
    async def own(v: Any) -> dict[str, int]:
        raise TimeoutError("the database is slow")

    seen = observe(Case([linear(step("own"))], lambda: [number_tool("own", own, timeout_seconds=5)]), lane)
    assert seen.result is not None
    assert seen.result.execution_log[0].error_type == "FlowExecutionError"
    assert "the database is slow" in str(seen.result.execution_log[0].error_message)


@pytest.mark.parametrize("lane", ["sync", "async"])
def test_row_16_dev_35_async_tools_of_one_run_share_a_loop(lane: str) -> None:
    loops: list[int] = []

    async def note(v: Any) -> dict[str, int]:
        loops.append(id(asyncio.get_running_loop()))
        return {"n": v.n}

    seen = observe(Case([linear(step("note"), step("note"))], lambda: [number_tool("note", note)]), lane)
    assert seen.result is not None
    assert seen.result.success
    assert len(set(loops)) == 1
    assert len(loops) == 2


async def test_an_async_tool_on_the_blocking_lane_works_inside_a_running_loop() -> None:
    seen = observe(Case([linear(step("double"))], tools), "sync")
    assert seen.result is not None
    assert seen.result.final_output == {"n": 2}


@pytest.mark.parametrize("lane", ["sync", "async"])
def test_dev_5_a_base_exception_leaves_a_partial_result_and_a_usable_executor(lane: str) -> None:
    class Leave(BaseException):
        pass

    registry = dw.FlowRegistry()
    registry.register_flow(linear(step("inc"), step("leave")))
    registry.register_flow(linear(step("inc"), name="other"))
    ends: list[Any] = []

    class Ends(dw.BaseMiddleware):
        def on_flow_end(self, ctx: Any) -> None:
            ends.append((ctx.result.success, [r.tool_name for r in ctx.result.execution_log]))

    def leave(v: Any) -> dict[str, int]:
        raise Leave

    executor = dw.FlowExecutor(registry, middleware=[Ends()])
    executor.register_tool(number_tool("inc", inc))
    executor.register_tool(number_tool("leave", leave))

    def run(name: str) -> Any:
        if lane == "sync":
            return executor.execute_flow(name, {"n": 1})
        return asyncio.run(executor.execute_flow_async(name, {"n": 1}))

    with pytest.raises(Leave):
        run("main")
    assert run("other").final_output == {"n": 2}
    assert ends == [(False, ["inc"]), (True, ["inc"])]


async def test_7_4_cancelling_the_task_ends_the_run_once_with_its_partial_result() -> None:
    entered = asyncio.Event()
    ends: list[Any] = []

    class Ends(dw.BaseMiddleware):
        def on_flow_end(self, ctx: Any) -> None:
            ends.append((ctx.result.success, len(ctx.result.execution_log)))

    async def wait(v: Any) -> dict[str, int]:
        entered.set()
        await asyncio.sleep(60)
        return {"n": 0}

    registry = dw.FlowRegistry()
    registry.register_flow(dag(node("a"), node("b", "wait", after="a"), node("c", "wait", after="a")))
    executor = dw.AsyncFlowExecutor(registry, middleware=[Ends()], max_step_concurrency=2)
    executor.register_tool(number_tool("inc", inc))
    executor.register_tool(number_tool("wait", wait))
    task = asyncio.create_task(executor.execute_flow("main", {"n": 1}))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ends == [(False, 1)]
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("lane", ["sync", "async"])
@pytest.mark.parametrize("timeout", [None, 5.0])
def test_dev_9_a_dry_run_reaches_the_flow_behind_a_tool(lane: str, timeout: float | None) -> None:
    effects: list[str] = []
    registry = dw.FlowRegistry()
    inner = linear(step("write"), name="inner")
    registry.register_flow(inner)
    registry.register_flow(linear(step("wrapped")))

    def write(v: Any) -> dict[str, int]:
        effects.append("written")
        return {"n": v.n}

    executor = dw.FlowExecutor(registry)
    executor.register_tool(number_tool("write", write, safety=WRITES))
    wrapped = Tool.from_flow(inner, executor, name="wrapped", safety=ToolSafetyContract())
    wrapped.timeout_seconds = timeout
    executor.register_tool(wrapped)
    if lane == "sync":
        result = executor.execute_flow("main", {"n": 1}, dry_run=True)
    else:
        result = asyncio.run(executor.execute_flow_async("main", {"n": 1}, dry_run=True))
    assert (result.success, result.final_output, effects) == (True, {"n": 1}, [])
