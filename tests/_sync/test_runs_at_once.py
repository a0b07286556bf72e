# Generated from tests/_async/test_runs_at_once.py by "make generate". Do not edit.
"""Any number of runs at once on one executor: none sees anything of another.

A barrier inside a tool proves that all runs are under way at the same time.
"""

import logging
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any

import pytest

import doubleweave as dw
from doubleweave import FlowExecutor, FlowStep
from lane_twins import SyncBarrier, SyncEvent, SyncTaskGroup
from lanes_under_test import Anything, number_tool
from parity_scenarios import WRITES, dag, inc, linear, node, step

RUNS = 8
MARK: ContextVar[int] = ContextVar("MARK")


def make_executor(
    flows: Iterable[dw.AnyFlow], functions: dict[str, Callable[[Any], Any]], **settings: Any
) -> FlowExecutor:
    registry = dw.FlowRegistry()
    for flow in flows:
        registry.register_flow(flow)
    executor = FlowExecutor(registry, **settings)
    for name, function in functions.items():
        executor.register_tool(number_tool(name, function))
    return executor


class Hooks:
    """Writes down the hook calls of each run by its trace id, and the mark of the context each was called in."""

    def __init__(self) -> None:
        self.calls: dict[str, list[tuple[Any, ...]]] = {}
        self.marks: dict[str, set[int]] = {}

    def note(self, trace_id: str, *call: Any) -> None:
        self.calls.setdefault(trace_id, []).append(call)
        self.marks.setdefault(trace_id, set()).add(MARK.get(-1))

    def on_flow_start(self, ctx: Any) -> None:
        self.note(ctx.trace_id, "flow_start", ctx.flow_name, ctx.initial_input)

    def on_step_start(self, ctx: Any) -> None:
        self.note(ctx.trace_id, "step_start", ctx.step_index, ctx.inputs)

    def on_step_end(self, ctx: Any) -> None:
        self.note(ctx.trace_id, "step_end", ctx.step_record.step_index, ctx.step_record.outputs)

    def on_flow_end(self, ctx: Any) -> None:
        self.note(ctx.trace_id, "flow_end", ctx.result.trace_id, ctx.result.final_output)


def test_each_has_its_own_trace_records_hooks_observed_trace_and_log_lines(
    caplog: pytest.LogCaptureFixture,
) -> None:
    barrier, hooks, recorder = SyncBarrier(RUNS), Hooks(), dw.TraceRecorder()

    def meet(v: Any) -> dict[str, int]:
        barrier.wait()
        return {"n": v.n + 1}

    flow = linear(step("meet"), step("meet"))
    executor = make_executor([flow], {"meet": meet}, middleware=[hooks], trace_recorder=recorder)
    caplog.set_level(logging.INFO, "doubleweave.executor")
    with SyncTaskGroup() as group:
        started = [group.start(executor.execute_flow, "main", {"n": 10 * i}) for i in range(RUNS)]
    results = [run.result() for run in started]
    assert [result.final_output for result in results] == [{"n": 10 * i + 2} for i in range(RUNS)]
    assert [[(r.inputs, r.outputs) for r in result.execution_log] for result in results] == [
        [({"n": 10 * i}, {"n": 10 * i + 1}), ({"n": 10 * i + 1}, {"n": 10 * i + 2})] for i in range(RUNS)
    ]
    assert hooks.calls == {
        result.trace_id: [
            ("flow_start", "main", {"n": 10 * i}),
            ("step_start", 0, {"n": 10 * i}),
            ("step_end", 0, {"n": 10 * i + 1}),
            ("step_start", 1, {"n": 10 * i + 1}),
            ("step_end", 1, {"n": 10 * i + 2}),
            ("flow_end", result.trace_id, {"n": 10 * i + 2}),
        ]
        for i, result in enumerate(results)
    }
    observed = [tuple(seen.outputs["n"] for seen in trace.steps if seen.outputs) for trace in recorder.list_traces()]
    assert sorted(observed) == [(10 * i + 1, 10 * i + 2) for i in range(RUNS)]
    traces = [line.partition("trace_id=")[2] for line in caplog.messages if "trace_id=" in line]
    assert sorted(traces) == sorted(2 * [result.trace_id for result in results])


def test_the_steps_of_all_runs_may_overlap() -> None:
    barrier = SyncBarrier(2 * RUNS)

    def meet(v: Any) -> dict[str, int]:
        barrier.wait()
        return {"n": v.n}

    executor = make_executor([dag(node("a", "meet"), node("b", "meet"))], {"meet": meet}, max_step_concurrency=2)
    with SyncTaskGroup() as group:
        started = [group.start(executor.execute_flow, "main", {"n": i}) for i in range(RUNS)]
    assert [run.result().final_output for run in started] == [{"n": i, "a": i, "b": i} for i in range(RUNS)]


def test_each_has_its_own_version_parameters_and_dry_run() -> None:
    barrier, written = SyncBarrier(RUNS), set()

    def meet(v: Any) -> dict[str, int]:
        barrier.wait()
        return {"n": v.n}

    def write(v: Any) -> dict[str, int]:
        written.add(v.n)
        return {"n": v.n}

    steps = [step("meet"), step("write")]
    executor = make_executor([linear(*steps, version="1.0"), linear(*steps, version="2.0")], {"meet": meet})
    executor.register_tool(number_tool("write", write, safety=WRITES))
    with SyncTaskGroup() as group:
        started = [
            group.start(
                executor.execute_flow,
                "main",
                {"n": i},
                version=["1.0", "2.0"][i % 2],
                dry_run=i < 4,
                dynamic_params={"own": i} if i % 4 else None,
            )
            for i in range(RUNS)
        ]
    results = [run.result() for run in started]
    assert [result.flow_version for result in results] == ["1.0", "2.0"] * 4
    assert [result.dry_run for result in results] == [True] * 4 + [False] * 4
    assert [result.final_output for result in results] == [
        {"n": i, **({"own": i} if i % 4 else {})} for i in range(RUNS)
    ]
    assert written == {4, 5, 6, 7}


def test_each_counts_its_own_decisions() -> None:
    barrier = SyncBarrier(RUNS)

    def meet(v: Any) -> dict[str, int]:
        barrier.wait()
        return {"n": v.n}

    choice = step("meet", decision_candidates=["meet", "inc"])
    executor = make_executor(
        [linear(step("meet"), choice, step("meet"), choice)],
        {"meet": meet, "inc": inc},
        decision_callback=lambda ctx: "inc",
        decision_policy=dw.DecisionPolicy(max_decisions_per_flow=2),
    )
    with SyncTaskGroup() as group:
        started = [group.start(executor.execute_flow, "main", {"n": i}) for i in range(RUNS)]
    assert [run.result().final_output for run in started] == [{"n": i + 2} for i in range(RUNS)]


def test_each_sees_the_context_of_its_caller() -> None:
    barrier, hooks = SyncBarrier(RUNS), Hooks()

    def meet(v: Any) -> dict[str, int]:
        barrier.wait()
        MARK.set(MARK.get() + 1000)  # of no effect outside this call
        return {"n": v.n}

    def mark(v: Any) -> dict[str, int]:
        return {"n": MARK.get()}

    def call(i: int) -> tuple[str, Any, int]:
        MARK.set(i)
        result = executor.execute_flow("main", {"n": 0})
        return result.trace_id, result.final_output, MARK.get()

    executor = make_executor([linear(step("meet"), step("mark"))], {"meet": meet, "mark": mark}, middleware=[hooks])
    with SyncTaskGroup() as group:
        started = [group.start(call, i) for i in range(RUNS)]
    outcomes = [run.result() for run in started]
    assert [outcome[1:] for outcome in outcomes] == [({"n": i}, i) for i in range(RUNS)]
    assert hooks.marks == {trace_id: {i} for i, (trace_id, *_) in enumerate(outcomes)}


def test_a_token_cancels_only_its_run() -> None:
    barrier, tokens, hooks = SyncBarrier(RUNS), [dw.CancellationToken() for _ in range(RUNS)], Hooks()

    def meet(v: Any) -> dict[str, int]:
        barrier.wait()
        if v.n in (2, 5):
            tokens[v.n].cancel()
        barrier.wait()
        return {"n": v.n}

    executor = make_executor([linear(step("meet"), step("inc"))], {"meet": meet, "inc": inc}, middleware=[hooks])

    def call(i: int) -> Any:
        try:
            return (executor.execute_flow("main", {"n": i}, cancel_token=tokens[i])).final_output
        except dw.FlowCancelledError as error:
            log = error.result.execution_log
            return error.step_index, error.token_cancelled, [record.outputs for record in log]

    with SyncTaskGroup() as group:
        started = [group.start(call, i) for i in range(RUNS)]
    assert [run.result() for run in started] == [
        (1, True, [{"n": i}]) if i in (2, 5) else {"n": i + 1} for i in range(RUNS)
    ]
    assert sorted(calls[-1][0] for calls in hooks.calls.values()) == ["flow_end"] * RUNS


def test_one_that_fails_leaves_the_others_alone() -> None:
    barrier = SyncBarrier(RUNS)

    def meet(v: Any) -> dict[str, int]:
        barrier.wait()
        if v.n == 3:
            raise ValueError("not three")
        return {"n": v.n}

    executor = make_executor([linear(step("meet"), step("inc"))], {"meet": meet, "inc": inc})
    with SyncTaskGroup() as group:
        started = [group.start(executor.execute_flow, "main", {"n": i}) for i in range(RUNS)]
    results = [run.result() for run in started]
    assert [result.final_output for result in results] == [None if i == 3 else {"n": i + 1} for i in range(RUNS)]
    assert [record.error_type for record in results[3].execution_log] == ["FlowExecutionError"]


def test_a_tool_registered_while_runs_are_under_way_serves_those_that_start_later() -> None:
    under_way, go = SyncBarrier(RUNS + 1), SyncEvent()

    def hold(v: Any) -> dict[str, int]:
        under_way.wait()
        go.wait()
        return {"n": v.n}

    executor = make_executor([linear(step("hold"), step("inc")), linear(step("late"), name="later")], {"inc": inc})
    executor.register_tool(number_tool("hold", hold))
    with SyncTaskGroup() as group:
        started = [group.start(executor.execute_flow, "main", {"n": i}) for i in range(RUNS)]
        under_way.wait()
        before = executor.execute_flow("later", {"n": 1})
        executor.register_tool(number_tool("late", lambda v: {"n": -v.n}))
        after = executor.execute_flow("later", {"n": 1})
        go.set()
    assert [record.error_type for record in before.execution_log] == ["ToolNotFoundError"]
    assert after.final_output == {"n": -1}
    assert [run.result().final_output for run in started] == [{"n": i + 1} for i in range(RUNS)]


NESTED: list[dw.AnyFlow] = [
    linear(step("inc"), FlowStep(flow_name="middle"), step("inc")),
    dag(node("a", "inc"), node("b", "again", after="a", source="a"), name="middle"),
    linear(step("meet"), step("own"), name="inner"),
    linear(step("own"), name="alone"),
]


@pytest.mark.parametrize("concurrency", [1, 4])
def test_nested_flows_belong_to_the_run_that_started_them(concurrency: int) -> None:
    barrier, hooks = SyncBarrier(RUNS), Hooks()
    inner: dict[int, Any] = {}

    def meet(v: Any) -> dict[str, int]:
        barrier.wait()
        return {"n": v.n}

    def again(v: Any) -> dict[str, int]:
        result = executor.execute_flow("inner", {"n": v.n})
        inner[v.n] = result
        assert result.final_output is not None
        return {"n": result.final_output["n"]}

    def own(v: Any) -> dict[str, int]:
        return {"n": v.n + v.own}

    def call(i: int) -> dw.ExecutionResult:
        result = executor.execute_flow("main", {"n": 10 * i}, dynamic_params={"own": 1000 * i})
        afterwards = executor.execute_flow("alone", {"n": 1, "own": 2})
        assert afterwards.final_output == {"n": 3, "own": 2}, "what a run hands down goes with it"
        hooks.calls.pop(afterwards.trace_id)
        return result

    executor = make_executor(
        NESTED, {"inc": inc, "meet": meet, "again": again}, middleware=[hooks], max_step_concurrency=concurrency
    )
    executor.register_tool(dw.Tool(name="own", description="", input_schema=Anything, output_schema=Anything, fn=own))
    with SyncTaskGroup() as group:
        started = [group.start(call, i) for i in range(RUNS)]
    results = [run.result() for run in started]
    middle: list[Any] = [result.execution_log[1].sub_result for result in results]
    assert [result.final_output for result in middle] == [
        {"n": 10 * i + 1, "own": 1000 * i, "a": 10 * i + 2, "b": 1010 * i + 2} for i in range(RUNS)
    ]
    deepest = [inner[10 * i + 2] for i in range(RUNS)]
    traces = [run.trace_id for runs in (results, middle, deepest) for run in runs]
    assert len(set(traces)) == 3 * RUNS
    assert hooks.calls.keys() == set(traces)
    assert [[call[0] for call in hooks.calls[run.trace_id]] for run in deepest] == [
        ["flow_start", "step_start", "step_end", "step_start", "step_end", "flow_end"]
    ] * RUNS
