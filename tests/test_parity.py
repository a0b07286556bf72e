"""The same flows on both lanes: results, records, hooks, log lines and errors agree, and are what they should be."""

import asyncio
import threading
import time
from typing import Any

import pytest

import doubleweave as dw
from doubleweave import DAGFlowStep, FlowStep, Tool, ToolSafetyContract
from lanes_under_test import Anything, Case, assert_same_on_both_lanes, number_tool, observe
from parity_scenarios import SCENARIOS, WRITES, dag, inc, linear, node, step, tools


@pytest.mark.parametrize("concurrency", [1, 2, 8])
@pytest.mark.parametrize(
    ("case", "success", "output", "records"), [row[1:] for row in SCENARIOS], ids=[row[0] for row in SCENARIOS]
)
def test_both_lanes_show_the_same(case: Case, success: bool, output: Any, records: list[Any], concurrency: int) -> None:
    result = assert_same_on_both_lanes(case, concurrency).result
    assert result is not None
    assert [(r.step_index, r.tool_name, r.error_type) for r in result.execution_log] == records
    assert (result.success, result.final_output) == (success, output)


# Name, case, error class.
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
        "output mapping in a level",
        Case([dag(node("a"), node("b", output_mapping={"m": "gone"}))], tools),
        dw.OutputMappingError,
    ),
    ("collision of a level", Case([dag(node("n"), on_context_collision="error")], tools), dw.ContextKeyCollisionError),
    (
        "contract ref in a level",
        Case([dag(node("a"), node("b", output_contract="nowhere:X"))], tools),
        dw.FlowSerializationError,
    ),
    (
        "schema ref",
        Case([dag(node("a"), output_schema_ref="nowhere:X")], tools),
        dw.FlowSerializationError,
    ),
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
@pytest.mark.parametrize("concurrency", [1, 2, 8])
def test_both_lanes_raise_the_same_and_close_their_hooks(case: Case, error: type[Exception], concurrency: int) -> None:
    seen = assert_same_on_both_lanes(case, concurrency)
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

    flows: list[dw.AnyFlow] = [
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
