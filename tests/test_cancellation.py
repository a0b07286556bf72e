"""Cancellation by token and by deadline: at every boundary, nowhere else, with an exact account of what was done."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import doubleweave as dw
from doubleweave import DAGFlowStep, FlowStep, RetryPolicy
from executors_under_test import concurrencies, execute, lanes, make_executor
from lanes_under_test import Recorder, normalised, number_tool
from parity_scenarios import ASKS, dag, inc, linear, node, step

REASONS = {
    "token": "cancellation requested",
    "deadline": "wall-clock deadline exceeded",
    "both": "wall-clock deadline exceeded and cancellation requested",
}
kinds = pytest.mark.parametrize("kind", REASONS)
either = pytest.mark.parametrize("kind", ["token", "deadline"])


class Stop:
    """What ends a run: a token, a deadline, or both. `now` sets the token and goes on working until the deadline is over."""

    def __init__(self, kind: str, seconds: float = 0.15) -> None:
        self.token = None if kind == "deadline" else dw.CancellationToken()
        self.deadline = None if kind == "token" else time.time() + seconds

    @property
    def options(self) -> dict[str, Any]:
        return {"cancel_token": self.token, "deadline": self.deadline}

    def now(self) -> None:
        if self.token is not None:
            self.token.cancel()
        while self.deadline is not None and time.time() < self.deadline:
            time.sleep(0.001)


class Stage:
    """An executor whose tool `t` adds one, and stops the run at its call number `at`."""

    def __init__(self, flows: list[dw.AnyFlow], at: int | None, concurrency: int = 1, **settings: Any) -> None:
        self.at = at
        self.stop = Stop("token")
        self.hooks = Recorder()
        self.observed = dw.TraceRecorder()
        self.executor = make_executor(
            flows,
            [number_tool("t", self._tool), number_tool("fresh", inc)],
            middleware=[self.hooks],
            trace_recorder=self.observed,
            cost_profile=dw.CostProfile(),
            max_step_concurrency=concurrency,
            **settings,
        )
        self.lock = threading.Lock()
        self.calls = 0

    def _tool(self, v: Any) -> dict[str, int]:
        with self.lock:
            number, self.calls = self.calls, self.calls + 1
        if number == self.at:
            self.stop.now()
        return {"n": v.n + 1}

    def run(self, lane: str, kind: str) -> Any:
        """Run `main`; return the error of the cancellation, or the result."""
        self.stop = Stop(kind)
        if self.at == -1:
            self.stop.now()
        try:
            return execute(self.executor, lane, **self.stop.options)
        except dw.FlowCancelledError as error:
            return error

    def assert_usable(self, lane: str) -> None:
        """Nothing of a run is left to disturb the next one."""
        self.at = self.executor.cost_profile = None
        fresh = make_executor([self.executor.registry.get_flow("main"), *INNER], [number_tool("t", inc)])
        assert normalised(execute(self.executor, lane)) == normalised(execute(fresh, lane))


def assert_cancelled(error: Any, flow_name: str, index: int, kind: str, done: list[int]) -> None:
    """Check everything that an error of a cancellation says; `done` are the step indices in its partial result."""
    assert type(error) is dw.FlowCancelledError
    assert (error.code, error.flow_name, error.step_index) == ("CW-E012", flow_name, index)
    assert (error.deadline_exceeded, error.token_cancelled) == (kind != "token", kind != "deadline")
    assert str(error) == f"Flow '{flow_name}' cancelled before step {index} ({REASONS[kind]})."
    result = error.result
    assert (type(result), result.flow_name, result.success) == (dw.ExecutionResult, flow_name, False)
    assert (result.final_output, result.initial_input, result.dry_run) == (None, {"n": 1}, False)
    assert [record.step_index for record in result.execution_log] == done
    assert len(result.trace_id) == 32
    assert result.started_at <= result.ended_at
    assert result.total_duration_ms > 0


INNER: list[dw.AnyFlow] = [
    linear(step("t"), step("t"), name="inner"),
    dag(node("x", "t"), node("y", "t", after="x"), name="inner dag"),
]
LINEAR = linear(step("t"), step("t"), step("t"))
LEVELS = dag(
    node("a", "t"), node("b", "t"), node("c", "t", after="a b"), node("d", "t", after="c"), node("e", "t", after="c")
)


# --- linear flows and levels ------------------------------------------------------------------------------------------


@lanes
@kinds
@pytest.mark.parametrize("at", [-1, 0, 1, 2])
def test_7_2_a_linear_flow_stops_before_its_next_step_and_not_after_its_last(at: int, kind: str, lane: str) -> None:
    stage = Stage([LINEAR, *INNER], at)
    outcome = stage.run(lane, kind)
    assert stage.calls == at + 1
    if at == 2:
        assert (outcome.success, outcome.final_output) == (True, {"n": 4})
        assert [record.outputs for record in outcome.execution_log] == [{"n": 2}, {"n": 3}, {"n": 4}]
    else:
        assert_cancelled(outcome, "main", at + 1, kind, list(range(at + 1)))
        assert [record.outputs for record in outcome.result.execution_log] == [{"n": 2}, {"n": 3}][: at + 1]
        assert outcome.result.cost_report.steps_executed == at + 1
        assert stage.hooks.calls == [
            ("flow_start", "main", {"n": 1}, 3),
            *[
                call
                for record in outcome.result.execution_log
                for call in (
                    ("step_start", "main", record.step_index, "t", record.inputs),
                    ("step_end", "main", normalised(record)),
                )
            ],
            ("flow_end", "main", normalised(outcome.result)),
        ]
        (trace,) = stage.observed.list_traces()
        assert (trace.source, len(trace.steps)) == ("executor:main", at + 1)
    stage.assert_usable(lane)


@lanes
@concurrencies
@either
@pytest.mark.parametrize(("at", "stops_at"), [(-1, 0), (0, 2), (1, 2), (2, 3), (3, None), (4, None)])
def test_7_2_a_dag_stops_between_levels_and_never_between_siblings(
    at: int, stops_at: int | None, kind: str, concurrency: int, lane: str
) -> None:
    stage = Stage([LEVELS, *INNER], at, concurrency)
    outcome = stage.run(lane, kind)
    if stops_at is None:
        assert (outcome.success, len(outcome.execution_log), stage.calls) == (True, 5, 5)
        assert outcome.final_output == {"n": 1, "a": 2, "b": 2, "c": 2, "d": 2, "e": 2}
    else:
        assert stage.calls == stops_at
        assert_cancelled(outcome, "main", stops_at, kind, list(range(stops_at)))
        assert all((r.success, r.outputs) == (True, {"n": 2}) for r in outcome.result.execution_log)
        assert outcome.result.cost_report.steps_executed == stops_at
        assert [call[0] for call in stage.hooks.calls].count("step_end") == stops_at
        assert [call for call in stage.hooks.calls if call[0] == "flow_end"] == [
            ("flow_end", "main", normalised(outcome.result))
        ]
    stage.assert_usable(lane)


@lanes
@either
@pytest.mark.parametrize("flow", [LINEAR, LEVELS])
def test_7_2_the_input_schema_comes_before_the_first_check(flow: dw.AnyFlow, kind: str, lane: str) -> None:
    strict = flow.model_copy(update={"input_schema_ref": "parity_scenarios:Strict"})
    result = Stage([strict], -1).run(lane, kind)
    assert [(r.step_index, r.error_type) for r in result.execution_log] == [(-1, "SchemaValidationError")]


@lanes
@concurrencies
@pytest.mark.parametrize("flow", [linear(), dag()])
def test_7_2_a_flow_without_steps_has_no_boundary(flow: dw.AnyFlow, concurrency: int, lane: str) -> None:
    result = Stage([flow], -1, concurrency).run(lane, "both")
    assert (result.success, result.final_output) == (True, {"n": 1})


@lanes
@either
@concurrencies
@pytest.mark.parametrize("hook", ["on_flow_start", "on_step_start", "on_step_end"])
def test_7_2_what_a_hook_stops_ends_at_the_next_boundary(hook: str, concurrency: int, kind: str, lane: str) -> None:
    stage = Stage([dag(node("a", "t"), node("b", "t", after="a"))], None, concurrency)

    class Stopping:
        pass

    stopping = Stopping()
    setattr(stopping, hook, lambda ctx: stage.stop.now())
    stage.executor.add_middleware(stopping)
    index = 0 if hook == "on_flow_start" else 1
    assert_cancelled(stage.run(lane, kind), "main", index, kind, list(range(index)))


# --- sub-flows --------------------------------------------------------------------------------------------------------


def around(inner: str, parent: str) -> dw.AnyFlow:
    """A flow with a step, a sub-flow of two steps, and a step."""
    if parent == "linear":
        return linear(step("t"), FlowStep(flow_name=inner, input_mapping={"n": 1}), step("t"))
    middle = DAGFlowStep(step_id="s", flow_name=inner, depends_on=["a"], input_mapping={"n": 1}, output_mapping={})
    return dag(node("a", "t"), middle, node("z", "t", after="s"))


@lanes
@concurrencies
@either
@pytest.mark.parametrize(("parent", "inner"), [("linear", "inner dag"), ("dag", "inner"), ("dag", "inner dag")])
@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_7_3_dev_25_a_flow_stops_before_inside_and_after_its_sub_flow(
    at: int, inner: str, parent: str, kind: str, concurrency: int, lane: str
) -> None:
    stage = Stage([around(inner, parent), *INNER], at, concurrency)
    outcome = stage.run(lane, kind)
    ends = [call[1] for call in stage.hooks.calls if call[0] == "flow_end"]
    step_ends = [(call[1], call[2]["step_index"]) for call in stage.hooks.calls if call[0] == "step_end"]
    if at == 3:
        assert (outcome.success, ends) == (True, [inner, "main"])
    elif at == 0:
        assert_cancelled(outcome, "main", 1, kind, [0])
        assert (outcome.__cause__, ends, step_ends) == (None, ["main"], [("main", 0)])
    elif at == 2:
        assert_cancelled(outcome, "main", 2, kind, [0, 1])
        assert [r.success for r in outcome.result.execution_log] == [True, True]
        assert (outcome.__cause__, ends) == (None, [inner, "main"])
    else:
        assert_cancelled(outcome, "main", 1, kind, [0, 1])
        cause = outcome.__cause__
        assert_cancelled(cause, inner, 1, kind, [0])
        assert ends == [inner, "main"]
        assert step_ends == [("main", 0), (inner, 0), ("main", 1)]
        record = outcome.result.execution_log[1]
        assert (record.step_index, record.tool_name, record.flow_name) == (1, inner, inner)
        assert (record.inputs, record.outputs, record.success, record.duration_ms) == ({}, None, False, 0.0)
        assert (record.error_type, record.error_code, record.error_message) == (
            "FlowCancelledError",
            "CW-E012",
            f"Flow '{inner}' cancelled before step 1 ({REASONS[kind]}).",
        )
        assert record.sub_result == cause.result
        assert stage.hooks.calls[-2:] == [
            ("step_end", "main", normalised(record)),
            ("flow_end", "main", normalised(outcome.result)),
        ]
        assert outcome.result.cost_report.steps_executed == 2
        assert [trace.source for trace in stage.observed.list_traces()] == [f"executor:{inner}", "executor:main"]
    stage.assert_usable(lane)


@lanes
@concurrencies
@kinds
@pytest.mark.parametrize("parent", ["linear", "dag"])
def test_7_3_a_sub_flow_stopped_between_its_start_and_its_first_step_has_an_empty_log(
    parent: str, kind: str, concurrency: int, lane: str
) -> None:
    stage = Stage([around("inner", parent), *INNER], None, concurrency)

    class Stopping(dw.BaseMiddleware):
        def on_flow_start(self, ctx: dw.FlowStartContext) -> None:
            if ctx.flow_name == "inner":
                stage.stop.now()

    stage.executor.add_middleware(Stopping())
    outcome = stage.run(lane, kind)
    assert_cancelled(outcome, "main", 1, kind, [0, 1])
    assert_cancelled(outcome.__cause__, "inner", 0, kind, [])
    assert outcome.result.execution_log[1].sub_result.execution_log == []


@lanes
@pytest.mark.parametrize("concurrency", [1, 2, 8])
def test_7_3_dev_25_every_level_of_nesting_is_anchored_in_the_one_above(concurrency: int, lane: str) -> None:
    names = ["main", "f1", "f2", "f3"]
    flows: list[dw.AnyFlow] = []
    for depth, name in enumerate(names[:-1]):
        below = names[depth + 1]
        if depth % 2:
            flows.append(linear(step("fresh"), FlowStep(flow_name=below, input_mapping={"n": 1}), name=name))
        else:
            composed = DAGFlowStep(step_id="s", flow_name=below, input_mapping={"n": 1}, depends_on=["a"])
            flows.append(dag(node("a", "fresh"), node("b", "fresh"), composed, name=name))
    flows.append(linear(step("t"), step("t"), name=names[-1]))
    stage = Stage(flows, 0, concurrency)
    error = stage.run(lane, "token")
    for depth, name in enumerate(names):
        position = (2, 1, 2, 1)[depth]
        done = [0] if depth == 3 else list(range(position + 1))
        assert_cancelled(error, name, position, "token", done)
        records = error.result.execution_log
        if depth < 3:
            assert [r.error_type for r in records] == [None] * position + ["FlowCancelledError"]
            assert records[-1].sub_result == error.__cause__.result
            assert records[-1].error_message == str(error.__cause__)
        error = error.__cause__
    assert error is None
    assert [call[1] for call in stage.hooks.calls if call[0] == "flow_end"] == names[::-1]
    assert [call[1] for call in stage.hooks.calls if call[0] == "flow_start"] == names


@lanes
@pytest.mark.parametrize("concurrency", [1, 2, 8])
@pytest.mark.parametrize("before", ["fresh", "fails"])
@pytest.mark.parametrize("after", [True, False])
def test_7_3_a_cancelled_sub_flow_in_a_level_keeps_the_records_before_it_in_order(
    after: bool, before: str, concurrency: int, lane: str
) -> None:
    composed = DAGFlowStep(step_id="s", flow_name="inner", input_mapping={"n": 1}, depends_on=["r"])
    nodes = [node("r", "fresh"), node("b", before, after="r"), composed]
    if after:
        nodes.append(node("z", "fresh", after="r"))
    stage = Stage([dag(*nodes), INNER[0]], 0, concurrency)
    cancelled = threading.Event()

    class Told(dw.BaseMiddleware):
        def on_flow_end(self, ctx: dw.FlowEndContext) -> None:
            cancelled.set()

    def fails(v: Any) -> dict[str, int]:
        if concurrency > 1:
            assert cancelled.wait(timeout=10), "the sub-flow is cancelled before this step has ended"
        raise ValueError("no")

    stage.executor.add_middleware(Told())
    stage.executor.register_tool(number_tool("fails", fails))
    outcome = stage.run(lane, "token")
    if before == "fails":
        assert [(r.step_index, r.error_type) for r in outcome.execution_log] == [(0, None), (1, "FlowExecutionError")]
    else:
        assert_cancelled(outcome, "main", 2, "token", [0, 1, 2])
        assert [r.tool_name for r in outcome.result.execution_log] == ["fresh", "fresh", "inner"]


# --- no boundary inside a step ----------------------------------------------------------------------------------------


def asked(answer: Any) -> Callable[[Stage], Callable[[Any], Any]]:
    def make(stage: Stage) -> Callable[[Any], Any]:
        def callback(ctx: Any) -> Any:
            stage.stop.now()
            return answer

        return callback

    return make


# What the first step is, beside a mapping; the setting that stops the run, if any; and its record's tool and retry count.
INSIDE: list[tuple[str, dict[str, Any], tuple[str, Any] | None, tuple[str, int, bool]]] = [
    (
        "after a decision",
        {"tool_name": "t", "decision_candidates": ["t"]},
        ("decision_callback", asked("t")),
        ("t", 0, False),
    ),
    (
        "after an approval",
        {"tool_name": "asks"},
        ("approval_callback", asked(dw.ApprovalDecision.APPROVE)),
        ("asks", 0, False),
    ),
    ("after a guardrail", {"tool_name": "t"}, ("guardrail_callback", asked(None)), ("t", 0, False)),
    (
        "during a backoff",
        {"tool_name": "fails once", "retry": RetryPolicy(max_retries=1, backoff_seconds=0.01)},
        None,
        ("fails once", 1, False),
    ),
    (
        "before a retry",
        {"tool_name": "fails once", "retry": RetryPolicy(backoff_seconds=0)},
        None,
        ("fails once", 1, False),
    ),
    ("before a fallback", {"tool_name": "fails once", "on_error": "fallback:t"}, None, ("fails once", 0, True)),
]


@lanes
@either
@pytest.mark.parametrize(("shape", "concurrency"), [("linear", 1), ("dag", 1), ("dag", 2), ("dag", 8)])
@pytest.mark.parametrize(("options", "setting", "kept"), [row[1:] for row in INSIDE], ids=[row[0] for row in INSIDE])
def test_7_2_a_step_that_has_begun_is_finished(
    options: dict[str, Any],
    setting: Any,
    kept: tuple[str, int, bool],
    shape: str,
    kind: str,
    concurrency: int,
    lane: str,
) -> None:
    if shape == "linear":
        flow: dw.AnyFlow = linear(FlowStep(**options), step("t"))
    else:
        flow = dag(node("a", **options), node("b", "t", after="a"))
    holder: list[Stage] = []
    failing = iter([True])

    def fails_once(v: Any) -> dict[str, int]:
        if next(failing, None):
            holder[0].stop.now()
            raise OSError("once")
        return {"n": v.n + 1}

    settings = {setting[0]: lambda ctx: setting[1](holder[0])(ctx)} if setting else {}
    holder.append(Stage([flow], None, concurrency, **settings))
    stage = holder[0]
    stage.executor.register_tool(number_tool("fails once", fails_once))
    stage.executor.register_tool(number_tool("asks", inc, safety=ASKS))
    outcome = stage.run(lane, kind)
    assert_cancelled(outcome, "main", 1, kind, [0])
    (record,) = outcome.result.execution_log
    assert (record.success, record.outputs) == (True, {"n": 2})
    assert (record.tool_name, record.retry_count, record.fallback_used) == kept


@lanes
@either
@concurrencies
def test_7_2_a_failure_that_stops_the_run_too_is_a_failure(kind: str, concurrency: int, lane: str) -> None:
    stage = Stage([dag(node("a", "fails"), node("b", "t", after="a"))], None, concurrency)

    def fails(v: Any) -> dict[str, int]:
        stage.stop.now()
        raise ValueError("no")

    stage.executor.register_tool(number_tool("fails", fails))
    result = stage.run(lane, kind)
    assert (result.success, [r.error_type for r in result.execution_log]) == (False, ["FlowExecutionError"])


# --- from outside while a tool runs -------------------------------------------------------------------------------------


@lanes
@concurrencies
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("last", [False, True])
def test_7_1_a_token_may_be_set_by_another_thread_while_a_tool_runs(
    last: bool, asynchronous: bool, concurrency: int, lane: str
) -> None:
    entered, token = threading.Event(), dw.CancellationToken()

    def wait(v: Any) -> dict[str, int]:
        entered.set()
        while not token.is_cancelled:
            other.join(10)
        return {"n": v.n + 1}

    async def wait_async(v: Any) -> dict[str, int]:
        return await asyncio.to_thread(wait, v)

    def cancel() -> None:
        assert entered.wait(timeout=10)
        token.cancel()
        token.cancel()

    stage = Stage([dag(node("a", "wait"), *([] if last else [node("b", "t", after="a")]))], None, concurrency)
    stage.executor.register_tool(number_tool("wait", wait_async if asynchronous else wait))
    other = threading.Thread(target=cancel)
    other.start()
    try:
        outcome: Any = execute(stage.executor, lane, cancel_token=token)
    except dw.FlowCancelledError as error:
        outcome = error
    other.join()
    if last:
        assert (outcome.success, outcome.final_output) == (True, {"n": 1, "a": 2})
    else:
        assert_cancelled(outcome, "main", 1, "token", [0])


# --- cancelling the task ------------------------------------------------------------------------------------------------


@concurrencies
@pytest.mark.parametrize("shape", ["linear", "dag"])
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_7_4_dev_5_a_cancelled_task_closes_every_run_once_with_what_was_done(
    asynchronous: bool, shape: str, concurrency: int
) -> None:
    loop, entered, release, ended = asyncio.get_running_loop(), asyncio.Event(), threading.Event(), list[str]()

    def wait(v: Any) -> dict[str, int]:
        loop.call_soon_threadsafe(entered.set)
        assert release.wait(timeout=10)
        ended.append("returned")
        return {"n": 0}

    async def wait_async(v: Any) -> dict[str, int]:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")
        return {"n": 0}

    inner: dw.AnyFlow = linear(step("t"), step("wait"), name="inner")
    if shape == "dag":
        inner = dag(node("x", "t"), node("y", "wait", after="x"), name="inner")
    stage = Stage([around("inner", shape), inner, linear(step("t"), name="other")], None, concurrency)
    stage.executor.register_tool(number_tool("wait", wait_async if asynchronous else wait))
    task = asyncio.create_task(stage.executor.execute_flow_async("main", {"n": 1}))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == (["cancelled"] if asynchronous else [])
    assert asyncio.all_tasks() == {asyncio.current_task()}
    release.set()
    results = {call[1]: call[2] for call in stage.hooks.calls if call[0] == "flow_end"}
    assert [call[1] for call in stage.hooks.calls if call[0] == "flow_end"] == ["inner", "main"]
    assert {name: [r["tool_name"] for r in result["execution_log"]] for name, result in results.items()} == {
        "inner": ["t"],
        "main": ["t"],
    }
    assert all((result["success"], result["final_output"]) == (False, None) for result in results.values())
    assert (await stage.executor.execute_flow_async("other", {"n": 1})).final_output == {"n": 2}
