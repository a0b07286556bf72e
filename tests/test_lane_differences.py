"""Where the two lanes could part: each difference has a case that shows them agreeing, and on what."""

import asyncio
import itertools
import os
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from typing import Any

import pytest

import doubleweave as dw
from doubleweave import DAGFlowStep, FlowStep, RetryPolicy
from executors_under_test import concurrencies, execute, lanes, make_executor
from lanes_under_test import Case, Recorder, Seen, assert_same_on_both_lanes, normalised, number_tool, observe
from parity_scenarios import ASKS, BRANCHING, QUICK, approve, dag, flaky, inc, linear, node, step, tools


def log_of(seen: Seen) -> list[dw.StepRecord]:
    assert seen.result is not None
    return seen.result.execution_log


class Left(BaseException):
    pass


# --- branches, failures and order in a level --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "taken", "output"),
    [(1, "c", {"n": 1, "a": 2, "c": 4, "e": 2}), (5, "b", {"n": 5, "a": 6, "b": 7, "d": 6, "e": 6})],
)
@concurrencies
def test_row_1_dev_1_the_branch_not_taken_leaves_records_without_hooks(
    start: int, taken: str, output: dict[str, int], concurrency: int
) -> None:
    seen = assert_same_on_both_lanes(Case([BRANCHING], tools, {"n": start}), concurrency)
    assert seen.result is not None
    assert seen.result.final_output == output
    skipped = [r.step_index for r in log_of(seen) if r.skipped]
    assert skipped == ([1, 3] if taken == "c" else [2])
    for record in log_of(seen):
        if record.skipped:
            assert (record.success, record.inputs, record.outputs, record.error_type) == (True, {}, {}, None)
            assert (record.duration_ms, record.started_at) == (0.0, record.ended_at)
    assert sorted(call[2] for call in seen.hooks if call[0] == "step_start") == [
        i for i in range(5) if i not in skipped
    ]


@lanes
@pytest.mark.parametrize("asynchronous", [False, True])
def test_row_5_dev_20_at_one_at_a_time_nothing_starts_after_a_failure(lane: str, asynchronous: bool) -> None:
    called: list[int] = []

    def fail_on_two(v: Any) -> dict[str, int]:
        called.append(v.n)
        if v.n == 2:
            raise ValueError("two")
        return {"n": v.n}

    async def fail_on_two_async(v: Any) -> dict[str, int]:
        return fail_on_two(v)

    nodes = [node(f"s{i}", "t", input_mapping={"n": i}) for i in range(5)]
    tool = number_tool("t", fail_on_two_async if asynchronous else fail_on_two)
    seen = observe(Case([dag(*nodes, node("last", "t", after="s0"))], lambda: [tool]), lane)
    assert called == [0, 1, 2]
    assert [(r.step_index, r.success) for r in log_of(seen)] == [(0, True), (1, True), (2, False)]
    assert [call[2] for call in seen.hooks if call[0] == "step_start"] == [0, 1, 2]


@lanes
@pytest.mark.parametrize("limit", [2, 3])
def test_row_6_dev_33_as_many_steps_are_in_flight_as_the_limit_says_and_no_more(lane: str, limit: int) -> None:
    barrier, lock, flying, most = threading.Barrier(limit), threading.Lock(), [0], [0]

    def fly(v: Any) -> dict[str, int]:
        with lock:
            flying[0] += 1
            most[0] = max(most[0], flying[0])
        barrier.wait(timeout=10)  # only a full house goes on
        with lock:
            flying[0] -= 1
        return {"n": v.n}

    flow = dag(*[node(f"s{i}", "fly") for i in range(2 * limit)])
    assert len(log_of(observe(Case([flow], lambda: [number_tool("fly", fly)]), lane, limit))) == 2 * limit
    assert most == [limit]


# Why a step raises out of the run, given what its tool did last.
RAISING: list[tuple[str, dict[str, Any], type[BaseException]]] = [
    ("leave", {}, Left),
    ("come back", {"output_contract": "nowhere:Gone"}, dw.FlowSerializationError),
]


class Siblings:
    """Two tools of one level: the first ends when the second is under way, and then the second must not hold up the run."""

    def __init__(self) -> None:
        self.under_way, self.release = threading.Event(), threading.Event()
        self.ends: list[str] = []
        self.returned: list[str] = []

    def leave(self, v: Any) -> dict[str, int]:
        assert self.under_way.wait(timeout=10)
        raise Left

    def come_back(self, v: Any) -> dict[str, int]:
        assert self.under_way.wait(timeout=10)
        return {"n": v.n}

    def work(self, v: Any) -> dict[str, int]:
        self.under_way.set()
        self.release.wait(timeout=10)
        self.returned.append("returned")
        return {"n": v.n}

    async def work_async(self, v: Any) -> dict[str, int]:
        self.under_way.set()
        try:
            await asyncio.Event().wait()
        finally:
            try:
                for _ in range(5):
                    await asyncio.sleep(0)
            finally:
                self.ends.append("ended")
        return {"n": v.n}


@lanes
@pytest.mark.parametrize("concurrency", [2, 8])
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(("first", "options", "error"), RAISING)
def test_row_8_dev_22_a_sibling_in_flight_is_cancelled_and_awaited_or_left_to_its_thread(
    first: str, options: dict[str, Any], error: type[BaseException], asynchronous: bool, concurrency: int, lane: str
) -> None:
    siblings, hooks = Siblings(), Recorder()
    flow = dag(node("a", "first", **options), node("b", "work"), node("c", after="a b"))
    executor = make_executor(
        [flow],
        [
            number_tool("first", siblings.leave if first == "leave" else siblings.come_back),
            number_tool("work", siblings.work_async if asynchronous else siblings.work),
            number_tool("inc", inc),
        ],
        middleware=[hooks],
        max_step_concurrency=concurrency,
    )
    with pytest.raises(error):
        execute(executor, lane)
    assert siblings.ends == (["ended"] if asynchronous else [])
    assert not siblings.release.is_set(), "the run has not waited for the function in its thread"
    siblings.release.set()
    assert [call[2] for call in hooks.calls if call[0] == "step_start"] == [0, 1]
    assert [call[0] for call in hooks.calls[3:]] == ["flow_end"]


@lanes
@pytest.mark.parametrize("asynchronous", [False, True])
def test_row_8_dev_22_of_two_steps_that_raise_the_first_in_flat_order_is_heard(lane: str, asynchronous: bool) -> None:
    raised = threading.Event()

    class First(BaseException):
        pass

    def first(v: Any) -> dict[str, int]:
        assert raised.wait(timeout=10)
        raise First

    def second(v: Any) -> dict[str, int]:
        raised.set()
        raise Left

    async def second_async(v: Any) -> dict[str, int]:
        return second(v)

    flow = dag(node("a", "first"), node("b", "second"))
    second_tool = number_tool("second", second_async if asynchronous else second)
    executor = make_executor([flow], [number_tool("first", first), second_tool], max_step_concurrency=2)
    with pytest.raises(First):
        execute(executor, lane)


ORDER = """
import asyncio, sys
sys.path[:0] = {path!r}
from executors_under_test import execute, make_executor
from lanes_under_test import number_tool
from parity_scenarios import dag, node

called = []
names = ["walrus", "ant", "moose", "bee", "zebra", "yak", "cat", "owl"]
flow = dag(node("root"), *[node(name, name, after="root") for name in names],
           *[node("end-" + name, name, after=f"{{name}} root {{names[i - 3]}}") for i, name in enumerate(names)])
tools = [number_tool(name, lambda v, name=name: called.append(name) or {{"n": 1}}) for name in [*names, "inc"]]
for concurrency in (1, 2, 8):
    for lane in ("sync", "async"):
        called.clear()
        result = execute(make_executor([flow], tools, max_step_concurrency=concurrency), lane)
        print([(r.step_index, r.tool_name) for r in result.execution_log], list(result.final_output))
        print(called if concurrency == 1 else sorted(called))
"""


def test_dev_18_the_order_in_a_level_is_that_of_declaration_whatever_the_hash_seed() -> None:
    program = ORDER.format(path=sys.path)
    printed = set()
    for seed in ("0", "1", "2", "12345"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False, env=environment
        )
        assert (done.returncode, done.stderr) == (0, "")
        printed.add(done.stdout)
    names = ["walrus", "ant", "moose", "bee", "zebra", "yak", "cat", "owl"]
    order = ["inc", *names, *names]
    lines = printed.pop().splitlines()
    assert printed == set()
    records = list(enumerate(order))
    keys = ["n", "root", *names, *[f"end-{name}" for name in names]]
    assert lines[::2] == [f"{records} {keys}"] * 6
    assert lines[1::2] == [str(order)] * 2 + [str(sorted(order))] * 4


@concurrencies
@pytest.mark.parametrize(("stops", "index"), [("a", 1), ("c", 3)])
def test_dev_34_a_level_of_skipped_steps_alone_is_a_boundary_too(stops: str, index: int, concurrency: int) -> None:
    tokens: list[dw.CancellationToken] = []

    def stop(v: Any) -> dict[str, int]:
        tokens[-1].cancel()
        return {"n": v.n}

    def fresh_token() -> dict[str, Any]:
        tokens.append(dw.CancellationToken())
        return {"cancel_token": tokens[-1]}

    edge = dw.ConditionalEdge(target_step_id="c", predicate="True")
    flow = dag(
        node("a", "stop" if stops == "a" else "inc", branches=[edge]),
        node("b", after="a"),
        node("c", "stop" if stops == "c" else "inc", after="a"),
        node("d", after="b"),
    )
    seen = assert_same_on_both_lanes(
        Case([flow], lambda: [*tools(), number_tool("stop", stop)], run=fresh_token), concurrency
    )
    assert isinstance(seen.error, dw.FlowCancelledError)
    assert seen.error.step_index == index
    assert [(r.step_index, r.skipped) for r in seen.error.result.execution_log] == [(0, False), (1, True), (2, False)][
        :index
    ]


# --- records --------------------------------------------------------------------------------------------------------


FALLBACKS: list[tuple[str, str, dict[str, Any], str | None]] = [
    ("succeeds", "inc", {}, None),
    ("is not registered", "gone", {}, "Tool 'gone' is not registered."),
    ("fails", "wrong", {}, "Schema validation failed for tool 'wrong' at step 0: "),
    (
        "is refused",
        "write",
        {"max_side_effect_level": dw.SideEffectLevel.READ},
        "Tool 'write' at step 0 has side-effect level 'write', above",
    ),
]


@concurrencies
@pytest.mark.parametrize(
    ("fallback", "executor", "message"), [row[1:] for row in FALLBACKS], ids=[row[0] for row in FALLBACKS]
)
def test_row_12_dev_17_the_retry_errors_are_the_attempts_and_the_wrapped_primary(
    fallback: str, executor: dict[str, Any], message: str | None, concurrency: int
) -> None:
    retry = RetryPolicy(max_retries=2, backoff_seconds=0)
    flow = dag(node("a", "boom", retry=retry, on_error=f"fallback:{fallback}"))
    seen = assert_same_on_both_lanes(Case([flow], tools, executor=lambda: executor), concurrency)
    (record,) = log_of(seen)
    assert record.retry_errors == ["boom", "boom", "boom", "Execution error in tool 'boom' at step 0: boom"]
    assert (record.retry_count, record.fallback_used, record.fallback_tool_name) == (2, True, fallback)
    assert (record.tool_name, record.success) == ("boom", message is None)
    assert record.error_message is None if message is None else str(record.error_message).startswith(message)


@lanes
@concurrencies
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("refs", [("builtins:BaseException",), ("builtins:Exception", "builtins:KeyboardInterrupt")])
def test_row_13_dev_13_only_an_exception_is_retried_whatever_the_policy_names(
    refs: tuple[str, ...], asynchronous: bool, concurrency: int, lane: str
) -> None:
    raising: list[BaseException] = [ValueError("once"), KeyboardInterrupt("twice")]
    retry = RetryPolicy(max_retries=5, backoff_seconds=0, retryable_errors=refs)
    ends: list[Any] = []

    class Ends(dw.BaseMiddleware):
        def on_flow_end(self, ctx: dw.FlowEndContext) -> None:
            ends.append(ctx.result.execution_log)

    def fail(v: Any) -> dict[str, int]:
        raise raising.pop(0)

    async def fail_async(v: Any) -> dict[str, int]:
        raise raising.pop(0)

    tool = number_tool("fail", fail_async if asynchronous else fail)
    executor = make_executor(
        [dag(node("a", "fail", retry=retry, on_error="skip"))],
        [tool],
        middleware=[Ends()],
        max_step_concurrency=concurrency,
    )
    with pytest.raises(KeyboardInterrupt, match="twice"):
        execute(executor, lane)
    assert (raising, ends) == ([], [[]])


@lanes
@concurrencies
def test_row_14_the_backoff_follows_one_schedule(lane: str, concurrency: int) -> None:
    calls: list[float] = []

    def fail(v: Any) -> dict[str, int]:
        calls.append(time.perf_counter())
        raise OSError(f"attempt {len(calls)}")

    retry = RetryPolicy(max_retries=3, backoff_seconds=0.02, backoff_multiplier=2)
    flow = dag(node("a", "fail", retry=retry))
    (record,) = log_of(observe(Case([flow], lambda: [number_tool("fail", fail)]), lane, concurrency))
    gaps = [later - earlier for earlier, later in itertools.pairwise(calls)]
    # A clock that an event loop reads may be a tick behind.
    assert all(gap > retry.compute_delay(k) - 0.002 for k, gap in enumerate(gaps, 1))
    assert record.retry_errors == ["attempt 1", "attempt 2", "attempt 3", "attempt 4"]
    assert record.retry_count == 3
    assert record.duration_ms > 138


async def test_row_14_the_event_loop_is_free_during_a_backoff_and_not_left_for_none() -> None:
    calls: list[str] = []
    failed_once = asyncio.Event()

    async def fail(v: Any) -> dict[str, int]:
        if not calls:
            asyncio.get_running_loop().call_soon(calls.append, "somebody else")
        calls.append("attempt")
        failed_once.set()
        raise OSError

    def executor_with(backoff_seconds: float) -> dw.FlowExecutor:
        retry = RetryPolicy(max_retries=1, backoff_seconds=backoff_seconds)
        return make_executor([linear(step("fail", retry=retry))], [number_tool("fail", fail)])

    await executor_with(0).execute_flow_async("main", {"n": 1})
    assert calls == ["attempt", "attempt", "somebody else"]
    calls.pop()
    failed_once.clear()
    task = asyncio.create_task(executor_with(3600).execute_flow_async("main", {"n": 1}))
    await failed_once.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert calls == ["attempt"] * 3


@lanes
@pytest.mark.parametrize("concurrency", [2, 8])
def test_row_14_a_backoff_holds_up_no_sibling(lane: str, concurrency: int) -> None:
    order: list[str] = []
    failed = threading.Event()

    def late(v: Any) -> dict[str, int]:
        order.append("late")
        if order.count("late") == 1:
            failed.set()
            raise OSError
        return {"n": v.n}

    def early(v: Any) -> dict[str, int]:
        assert failed.wait(timeout=10)
        order.append("early")
        return {"n": v.n}

    retry = RetryPolicy(max_retries=1, backoff_seconds=0.5)
    flow = dag(node("a", "late", retry=retry), node("b", "early"), node("c", "early", after="b", source="b"))
    seen = observe(Case([flow], lambda: [number_tool("late", late), number_tool("early", early)]), lane, concurrency)
    assert [r.retry_count for r in log_of(seen)] == [1, 0, 0]
    assert order == ["late", "early", "early", "late"]


def collide(key: str = "a", **options: Any) -> DAGFlowStep:
    return node("b", output_mapping={key: "n"}, **options)


@concurrencies
def test_row_23_dev_19_a_collision_has_one_wording_and_one_error_line(concurrency: int) -> None:
    capability = DAGFlowStep(step_id="b", tool_name="cap", step_type="capability", capability_id="c")
    messages = []
    for second in (collide(), capability.model_copy(update={"output_mapping": {"a": "n"}})):
        lines = []
        for lane in ("sync", "async"):
            handler = Recorder()
            executor = make_executor(
                [dag(node("a"), second)], tools(), Succeeding, middleware=[handler], max_step_concurrency=concurrency
            )
            result = execute(executor, lane)
            record = result.execution_log[1]
            assert (record.success, record.outputs, record.error_type) == (False, None, "FlowExecutionError")
            lines.append(str(record.error_message))
            (end,) = [call[2] for call in handler.calls if call[0] == "step_end" and call[2]["step_index"] == 1]
            assert end["success"] is (concurrency > 1)
        assert lines[0] == lines[1]
        messages.append(lines[0].replace("'cap'", "'inc'"))
    assert messages[0] == messages[1]
    assert "'a'" in messages[0]
    assert "'b'" in messages[0]
    seen = assert_same_on_both_lanes(Case([dag(node("a"), collide())], tools), concurrency)
    errors = [text for level, text in seen.lines if level == "ERROR" and text.startswith("Step")]
    assert errors == [f"Step 1 ERROR | tool=inc | error=FlowExecutionError: {messages[0]}"]


class Succeeding(dw.FlowExecutor):
    def execute_capability_step(
        self, step_index: int, step: FlowStep, context: dict[str, Any], flow_name: str, trace_id: str
    ) -> Any:
        now = dw.FlowExecutor.execute_capability_step(self, step_index, step, context, flow_name, trace_id).started_at
        return dw.StepRecord(
            step_index=step_index,
            tool_name=step.display_name,
            inputs={"n": 1},
            outputs={"n": 9},
            started_at=now,
            ended_at=now,
            duration_ms=0.0,
        )


@lanes
@concurrencies
def test_dev_19_the_record_of_a_collision_keeps_all_that_it_said(lane: str, concurrency: int) -> None:
    second = collide(
        tool="asks", decision_candidates=["asks", "flaky"], retry=QUICK, input_mapping={"n": "n"}, on_error="skip"
    )
    ends: list[dw.StepRecord] = []

    class Ends(dw.BaseMiddleware):
        def on_step_end(self, ctx: dw.StepEndContext) -> None:
            ends.append(ctx.step_record)

    def run(mapping: dict[str, str]) -> tuple[dw.StepRecord, dw.StepRecord]:
        ends.clear()
        flow = dag(node("a"), second.model_copy(update={"output_mapping": mapping}))
        executor = make_executor(
            [flow],
            [number_tool("inc", inc), number_tool("asks", inc), number_tool("flaky", flaky(2), safety=ASKS)],
            decision_callback=lambda ctx: "flaky",
            approval_callback=approve,
            middleware=[Ends()],
            max_step_concurrency=concurrency,
        )
        return execute(executor, lane).execution_log[1], next(r for r in ends if r.step_index == 1)

    changed = {
        "success",
        "outputs",
        "error_type",
        "error_code",
        "error_message",
        "started_at",
        "ended_at",
        "duration_ms",
    }
    kept, told = run({"a": "n"})
    fine, _ = run({"b": "n"})
    same = [fine.model_dump(exclude=changed), kept.model_dump(exclude=changed)]
    for record in same:
        assert record["decision"].pop("duration_ms") >= 0
    assert same[0] == same[1]
    assert (kept.tool_name, kept.inputs, kept.retry_count) == ("flaky", {"n": 1}, 2)
    assert kept.retry_errors == ["not yet", "not yet"]
    assert kept.approval is not None
    assert kept.decision is not None
    assert (kept.error_type, kept.error_code, kept.outputs) == ("FlowExecutionError", "CW-E006", None)
    assert kept.started_at < kept.ended_at
    assert (told == kept) is (concurrency == 1)
    assert told.success is (concurrency > 1)


@lanes
@concurrencies
def test_dev_19_the_record_of_a_composed_step_keeps_its_sub_result(lane: str, concurrency: int) -> None:
    flow = dag(node("a"), DAGFlowStep(step_id="b", flow_name="inner", output_mapping={"a": "n"}))
    result = execute(
        make_executor([flow, linear(step("inc"), name="inner")], tools(), max_step_concurrency=concurrency), lane
    )
    record = result.execution_log[1]
    assert (record.success, record.outputs, record.flow_name, record.tool_name) == (False, None, "inner", "inner")
    assert record.inputs == {"n": 1}
    assert record.sub_result is not None
    assert (record.sub_result.success, record.sub_result.final_output) == (True, {"n": 2})


@lanes
@concurrencies
def test_dev_23_a_composed_step_with_a_mapping_error_tells_its_end_and_no_start(lane: str, concurrency: int) -> None:
    hooks = Recorder()
    flow = dag(node("a"), DAGFlowStep(step_id="b", flow_name="inner", input_mapping={"n": "/gone/x"}, depends_on=["a"]))
    flows: list[dw.AnyFlow] = [flow, linear(step("inc"), name="inner")]
    result = execute(make_executor(flows, tools(), middleware=[hooks], max_step_concurrency=concurrency), lane)
    record = result.execution_log[1]
    assert (record.tool_name, record.flow_name, record.inputs, record.sub_result) == ("inner", "inner", {}, None)
    assert (record.error_type, record.error_code) == ("InputMappingError", "CW-E005")
    assert [call[0] for call in hooks.calls] == ["flow_start", "step_start", "step_end", "step_end", "flow_end"]
    assert hooks.calls[3] == ("step_end", "main", normalised(record))


# --- threads of the async lane ----------------------------------------------------------------------------------------


@lanes
def test_row_15_dev_42_functions_left_behind_stall_no_later_step(lane: str) -> None:
    """Many more than any shared pool of threads would hold."""
    release, many = threading.Event(), 40

    def hang(v: Any) -> dict[str, int]:
        release.wait(timeout=30)
        return {"n": 0}

    hanging = [node(f"h{i}", "hang", on_error="skip") for i in range(many)]
    flow = dag(*hanging, node("last", "inc", after=" ".join(f"h{i}" for i in range(many))))
    case = Case([flow], lambda: [number_tool("hang", hang, timeout_seconds=0.05), number_tool("inc", inc)])
    seen = observe(case, lane, many)
    assert not release.is_set()
    release.set()
    assert [r.error_type for r in log_of(seen)] == ["ToolTimeoutError"] * many + [None]


@lanes
@pytest.mark.parametrize("left_by", ["timeout", "sibling"])
def test_dev_42_a_thread_left_behind_does_not_count_against_the_limit(
    left_by: str, lane: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("doubleweave._lanes.workers.MAX_JOBS", 2)
    siblings, timed = Siblings(), {"timeout_seconds": 0.05 if left_by == "timeout" else None}
    flow: dw.AnyFlow = linear(step("work", on_error="skip"))
    if left_by == "sibling":
        flow = dag(node("a", "leave"), node("b", "work"))
    executor = make_executor(
        [flow, dag(node("a"), node("b"), name="other")],
        [
            number_tool("leave", siblings.leave),
            number_tool("work", siblings.work, **timed),
            number_tool("inc", inc, timeout_seconds=30),
        ],
        max_step_concurrency=2,
    )
    for _ in range(3):
        with nullcontext() if left_by == "timeout" else pytest.raises(Left):
            execute(executor, lane)
        siblings.under_way.clear()
    assert execute(executor, lane, name="other").final_output == {"n": 1, "a": 2, "b": 2}
    assert siblings.returned == [], "those left behind still run"
    siblings.release.set()
