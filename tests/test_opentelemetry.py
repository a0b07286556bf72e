"""Spans and measurements of runs, as OpenTelemetry's SDK collects them."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

import pytest
from opentelemetry import trace

import doubleweave as dw
from doubleweave import DAGFlowStep, ExecutionResult, FlowExecutor, FlowStep, Tool
from doubleweave.integrations.opentelemetry import (
    OTelMetricsMiddleware,
    OTelTraceExporter,
    export_result_to_otel,
    export_result_to_otel_metrics,
)
from executors_under_test import execute, lanes, make_executor
from lanes_under_test import number_tool
from parity_scenarios import BRANCHING, QUICK, THREE_DEEP, dag, linear, node, step, tools
from telemetry_under_test import Kept, Measurements, Spans, attributes_of, context_of, is_attempt, kept_by


@pytest.fixture
def spans(caplog: pytest.LogCaptureFixture) -> Iterator[Spans]:
    yield Spans()
    assert [record.getMessage() for record in caplog.records if record.name.startswith("opentelemetry")] == []


def traced(
    spans: Spans, flows: Sequence[dw.AnyFlow], *more: Tool, **settings: Any
) -> tuple[FlowExecutor, OTelTraceExporter]:
    exporter = OTelTraceExporter(spans.tracer)
    return make_executor(flows, [*tools(), *more], middleware=[exporter], **settings), exporter


def nanoseconds(time: datetime) -> int:
    return round(time.timestamp() * 1e6) * 1000


def run_live(spans: Spans, lane: str, flows: Sequence[dw.AnyFlow], **settings: Any) -> ExecutionResult:
    executor, exporter = traced(spans, flows, **settings)
    result = execute(executor, lane)
    assert kept_by(exporter) == 0
    return result


def run_then_export(spans: Spans, lane: str, flows: Sequence[dw.AnyFlow], **settings: Any) -> ExecutionResult:
    result = execute(make_executor(flows, tools(), **settings), lane)
    export_result_to_otel(result, tracer=spans.tracer)
    return result


ways = pytest.mark.parametrize("run", [run_live, run_then_export], ids=["live", "exported"])
Run = Callable[..., ExecutionResult]


@lanes
@ways
def test_span_flow_flow_name_has_these_attributes(spans: Spans, run: Run, lane: str) -> None:
    result = run(spans, lane, [linear(step("inc"), step("double"), version="1.2.3")])
    span = spans.named("flow.main")
    assert attributes_of(span) == {
        "trace_id": result.trace_id,
        "flow_name": "main",
        "flow_version": "1.2.3",
        "total_steps": 2,
        "success": True,
        "total_duration_ms": result.total_duration_ms,
    }
    assert (span.status.status_code, span.parent, list(span.events)) == (trace.StatusCode.UNSET, None, [])


@lanes
@ways
def test_span_tool_tool_name_has_these_attributes_one_per_record(spans: Spans, run: Run, lane: str) -> None:
    result = run(spans, lane, [linear(step("inc"), step("double", input_mapping={"n": "n"}))])
    for index, name in enumerate(["inc", "double"]):
        span = spans.named(f"tool.{name}")
        assert attributes_of(span) == {
            "trace_id": result.trace_id,
            "flow_name": "main",
            "step_index": index,
            "tool_name": name,
            "step.input_keys": ("n",),
            "step.success": True,
            "step.duration_ms": result.execution_log[index].duration_ms,
            "step.retry_count": 0,
            "step.cached": False,
            "step.skipped": False,
        }
    assert len(spans.ended) == 3


@lanes
@ways
def test_span_tool_name_tells_the_names_of_inputs_in_order_and_never_values(spans: Spans, run: Run, lane: str) -> None:
    run(spans, lane, [linear(step("inc", input_mapping={"z": "n", "n": "n", "a": 41234567}))])
    span = spans.named("tool.inc")
    assert attributes_of(span)["step.input_keys"] == ("a", "n", "z")
    assert "41234567" not in span.to_json()


@lanes
@ways
def test_ot_1_times_are_those_of_the_records_and_the_result(spans: Spans, run: Run, lane: str) -> None:
    result = run(spans, lane, list(THREE_DEEP))
    middle = result.execution_log[1].sub_result
    assert middle is not None
    for span, timed in (
        (spans.named("flow.main"), result),
        (spans.named("tool.middle"), result.execution_log[1]),
        (spans.named("flow.middle"), middle),
        (spans.named("tool.inner"), middle.execution_log[0]),
    ):
        assert (span.start_time, span.end_time) == (nanoseconds(timed.started_at), nanoseconds(timed.ended_at))


@lanes
@ways
def test_ot_1_a_failed_step_and_its_flow_are_errors_without_an_exception(spans: Spans, run: Run, lane: str) -> None:
    result = run(spans, lane, [linear(step("inc"), step("boom"), step("inc"))])
    failed, flow = spans.named("tool.boom"), spans.named("flow.main")
    assert attributes_of(failed)["step.error_type"] == "FlowExecutionError"
    assert attributes_of(failed)["step.success"] is False
    message = result.execution_log[1].error_message
    assert message is not None
    assert (failed.status.status_code, failed.status.description) == (trace.StatusCode.ERROR, message)
    assert (flow.status.status_code, flow.status.description) == (trace.StatusCode.ERROR, None)
    assert attributes_of(flow)["success"] is False
    assert [list(span.events) for span in spans.ended] == [[]] * 3


@lanes
@ways
@pytest.mark.parametrize("name", ["gone", "inc"])
def test_ot_1_a_step_that_ends_without_a_start_has_a_span(spans: Spans, run: Run, lane: str, name: str) -> None:
    result = run(spans, lane, [linear(step(name, input_mapping={"n": "missing"}))])
    span, record = spans.named(f"tool.{name}"), result.execution_log[0]
    assert "step.input_keys" not in attributes_of(span)
    assert attributes_of(span)["step.error_type"] == record.error_type
    assert (span.start_time, span.end_time) == (nanoseconds(record.started_at), nanoseconds(record.ended_at))
    assert spans.parent_of(span) is not None


@lanes
@ways
@pytest.mark.parametrize(
    ("field", "names", "index"), [("input_schema_ref", ["main"], -1), ("output_schema_ref", ["inc", "main"], 1)]
)
def test_ot_1_a_failed_check_of_the_flow_is_a_record_and_has_a_span(
    spans: Spans, run: Run, lane: str, field: str, names: list[str], index: int
) -> None:
    run(spans, lane, [linear(step("inc"), **{field: "parity_scenarios:Strict"})])
    assert [span.name for span in spans.ended] == [
        *(f"doubleweave.tool.{name}" for name in names),
        "doubleweave.flow.main",
    ]
    check = spans.named("tool.main")
    assert attributes_of(check)["step_index"] == index
    assert check.status.status_code is trace.StatusCode.ERROR


@lanes
@ways
@pytest.mark.parametrize("concurrency", [1, 8])
def test_span_of_a_step_on_a_branch_not_taken(spans: Spans, run: Run, lane: str, concurrency: int) -> None:
    result = run(spans, lane, [BRANCHING], max_step_concurrency=concurrency)
    found = {attributes_of(s)["step_index"]: attributes_of(s)["step.skipped"] for s in spans.ended[:-1]}
    assert found == {record.step_index: record.skipped for record in result.execution_log}
    assert list(found.values()).count(True) == 2


@lanes
def test_attempts_are_spans_of_their_step_with_times_of_their_own(spans: Spans, lane: str) -> None:
    result = run_live(spans, lane, [linear(step("flaky", retry=QUICK))])
    owner, record = spans.named("tool.flaky"), result.execution_log[0]
    attempts = [span for span in spans.ended if is_attempt(span)]
    assert attributes_of(owner)["step.retry_count"] == 2
    assert [
        (span.name, attributes_of(span), span.status.status_code.name, span.status.description) for span in attempts
    ] == [
        *(
            (
                "doubleweave.attempt.flaky",
                {"attempt.number": number, "attempt.error": "not yet", "attempt.error_type": "OSError"},
                "ERROR",
                "not yet",
            )
            for number in (1, 2)
        ),
        ("doubleweave.attempt.flaky", {"attempt.number": 3}, "UNSET", None),
    ]
    assert [spans.parent_of(span) for span in attempts] == [owner] * 3
    moments = [time for span in attempts for time in (span.start_time or 0, span.end_time or 0)]
    assert moments == sorted(moments)
    assert nanoseconds(record.started_at) <= moments[0]
    assert list(owner.events) == []


@lanes
def test_attempts_are_events_when_a_result_is_exported(spans: Spans, lane: str) -> None:
    result = run_then_export(spans, lane, [linear(step("flaky", retry=QUICK))])
    span, record = spans.named("tool.flaky"), result.execution_log[0]
    assert [(event.name, dict(event.attributes or {}), event.timestamp) for event in span.events] == [
        (
            "doubleweave.attempt",
            {"doubleweave.attempt.number": number, **({"doubleweave.attempt.error": "not yet"} if number < 3 else {})},
            nanoseconds(record.ended_at),
        )
        for number in (1, 2, 3)
    ]


@lanes
@pytest.mark.parametrize(("fallback", "success"), [("inc", True), ("boom", False)])
def test_the_call_of_a_fallback_is_no_attempt(spans: Spans, lane: str, fallback: str, success: bool) -> None:
    retry = dw.RetryPolicy(max_retries=1, backoff_seconds=0)
    flow = linear(step("boom", retry=retry, on_error=f"fallback:{fallback}"))
    result = run_then_export(spans, lane, [flow])
    assert result.success is success
    found = [dict(event.attributes or {}) for event in spans.named("tool.boom").events]
    assert found == [{"doubleweave.attempt.number": n, "doubleweave.attempt.error": "boom"} for n in (1, 2)]
    spans.clear()
    run_live(spans, lane, [flow])
    assert [attributes_of(span)["attempt.number"] for span in spans.ended if is_attempt(span)] == [1, 2]


@lanes
@ways
@pytest.mark.parametrize("policy", [None, QUICK])
def test_only_steps_that_may_be_retried_have_attempts(spans: Spans, run: Run, lane: str, policy: Any) -> None:
    run(spans, lane, [linear(step("inc", retry=policy), step("double"))])
    assert [list(span.events) for span in spans.ended if not is_attempt(span)] == [[]] * 3
    assert len(spans.ended) == 3 + (policy is not None and run is run_live)


@lanes
@ways
def test_span_of_a_step_whose_error_was_skipped_is_no_error(spans: Spans, run: Run, lane: str) -> None:
    result = run(spans, lane, [linear(step("boom", on_error="skip"))])
    assert result.execution_log[0].error_type == "FlowExecutionError"
    span = spans.named("tool.boom")
    told = attributes_of(span)
    assert (told["step.success"], told["step.skipped"], "step.error_type" in told) == (True, True, False)
    assert span.status.status_code is trace.StatusCode.UNSET


@lanes
def test_span_of_a_failed_flow_has_total_steps_only_where_they_are_known(spans: Spans, lane: str) -> None:
    result = run_live(spans, lane, [linear(step("boom"), step("inc"))])
    assert attributes_of(spans.named("flow.main"))["total_steps"] == 2
    spans.clear()
    export_result_to_otel(result, tracer=spans.tracer)
    assert "total_steps" not in attributes_of(spans.named("flow.main"))


@lanes
@ways
def test_ot_2_parents_of_steps_and_sub_flows(spans: Spans, run: Run, lane: str) -> None:
    run(spans, lane, list(THREE_DEEP))
    chain = [spans.named("flow.inner")]
    while (parent := spans.parent_of(chain[-1])) is not None:
        chain.append(parent)
    assert [span.name.removeprefix("doubleweave.") for span in chain] == [
        *("flow.inner", "tool.inner", "flow.middle", "tool.middle", "flow.main")
    ]
    parents = {span.name: spans.parent_of(span) for span in spans.ended if attributes_of(span)["flow_name"] == "inner"}
    assert {name: parent and parent.name for name, parent in parents.items()} == {
        "doubleweave.flow.inner": "doubleweave.tool.inner",
        "doubleweave.tool.inc": "doubleweave.flow.inner",
        "doubleweave.tool.double": "doubleweave.flow.inner",
    }


def assert_whole(spans: Spans, result: ExecutionResult) -> None:
    """Assert that each span of a run, and of those below it, is there once and hangs where it belongs."""
    found = spans.by_key()
    below = {record.step_index: record.sub_result for record in result.execution_log}
    for index, sub_result in below.items():
        assert found[result.trace_id, index]["parent"] == (result.trace_id, None)
        if sub_result is not None:
            assert found[sub_result.trace_id, None]["parent"] == (result.trace_id, index)
            assert_whole(spans, sub_result)
    assert {index for trace_id, index in found if trace_id == result.trace_id} == {None, *below}


def meeting_tool(parties: int) -> Tool:
    """Return a tool whose calls wait for each other, by groups of so many."""
    barrier = threading.Barrier(parties)

    def meet(v: Any) -> dict[str, int]:
        barrier.wait(timeout=10)
        return {"n": v.n}

    return number_tool("meet", meet)


@lanes
def test_ot_2_sub_flows_side_by_side_hang_below_their_own_steps(spans: Spans, lane: str) -> None:
    flows: list[dw.AnyFlow] = [
        dag(*[DAGFlowStep(step_id=f"s{i}", flow_name="inner", output_mapping={f"k{i}": "n"}) for i in range(4)]),
        linear(step("meet"), step("meet"), name="inner"),
    ]
    executor, exporter = traced(spans, flows, meeting_tool(4), max_step_concurrency=8)
    result = execute(executor, lane)
    assert result.success
    assert_whole(spans, result)
    assert kept_by(exporter) == 0


def test_ot_2_one_instance_serves_runs_in_one_loop_and_in_a_thread_at_once(spans: Spans) -> None:
    flows = [linear(step("meet"), FlowStep(flow_name="inner"), step("meet")), linear(step("meet"), name="inner")]
    measurements = Measurements()
    exporter, metrics = OTelTraceExporter(spans.tracer), OTelMetricsMiddleware(measurements.meter)
    meet = meeting_tool(3)
    executors = [make_executor(flows, [meet], middleware=[exporter, metrics]) for _ in range(2)]
    results: list[ExecutionResult] = []

    async def two() -> list[ExecutionResult]:
        return await asyncio.gather(*(executors[0].execute_flow_async("main", {"n": 1}) for _ in range(2)))

    thread = threading.Thread(target=lambda: results.append(executors[1].execute_flow("main", {"n": 1})))
    thread.start()
    results += asyncio.run(two())
    thread.join()
    assert [result.success for result in results] == [True] * 3
    for result in results:
        assert_whole(spans, result)
    assert len({context_of(span).trace_id for span in spans.ended}) == 3
    assert (kept_by(exporter), kept_by(metrics)) == (0, 0)
    expected = Measurements()
    for result in results:
        export_result_to_otel_metrics(result, meter=expected.meter)
    assert measurements.all() == expected.all()


def in_span(spans: Spans, work: Callable[[], Any]) -> Any:
    """Do something where the span `request` is the current one."""
    with spans.tracer.start_as_current_span("doubleweave.request"):
        return work()


@lanes
@ways
def test_ot_2_the_current_span_is_the_parent_of_a_flow(spans: Spans, run: Run, lane: str) -> None:
    in_span(spans, lambda: run(spans, lane, list(THREE_DEEP)))
    request = spans.named("request")
    assert {context_of(span).trace_id for span in spans.ended} == {context_of(request).trace_id}
    children = [span.name for span in spans.ended if spans.parent_of(span) is request]
    assert children == ["doubleweave.flow.main"]


@pytest.mark.parametrize("lane", ["sync", "async"])
def test_ot_2_the_current_span_where_a_stream_is_read_first_is_the_parent(spans: Spans, lane: str) -> None:
    executor, _ = traced(spans, [linear(step("inc"))])

    async def read() -> int:
        return len([event async for event in executor.stream_flow_async("main", {"n": 1})])

    stream = executor.stream_flow("main", {"n": 1})
    assert in_span(spans, lambda: len(list(stream)) if lane == "sync" else asyncio.run(read())) == 4
    assert spans.parent_of(spans.named("flow.main")) is spans.named("request")


@lanes
@pytest.mark.parametrize("concurrency", [1, 8])
def test_ot_2_nothing_is_left_in_the_ambient_context(spans: Spans, lane: str, concurrency: int) -> None:
    seen: list[trace.Span] = []

    def look(v: Any) -> dict[str, int]:
        seen.append(trace.get_current_span())
        return {"n": v.n}

    async def look_async(v: Any) -> dict[str, int]:
        return look(v)

    outer = dag(node("a", "look"), node("b", "look_async"), DAGFlowStep(step_id="c", flow_name="inner"))
    flows: list[dw.AnyFlow] = [outer, linear(step("look"), name="inner")]
    executor, _ = traced(
        spans, flows, number_tool("look", look), number_tool("look_async", look_async), max_step_concurrency=concurrency
    )
    assert execute(executor, lane).success
    assert seen == [trace.INVALID_SPAN] * 3
    with spans.tracer.start_as_current_span("doubleweave.request") as request:
        assert execute(executor, lane).success
        assert trace.get_current_span() is request
    assert seen[3:] == [request] * 3


@lanes
@pytest.mark.parametrize("times", [1, 2])
def test_ot_2_a_flow_that_a_tool_runs_is_a_run_of_its_own(spans: Spans, lane: str, times: int) -> None:
    """Also where tool and flow have one name and the tool is called at once, on the thread that drives the outer run."""

    def call(v: Any) -> dict[str, int]:
        for _ in range(times):
            executor.execute_flow("inner", {"n": v.n})
        return {"n": v.n}

    flows = [linear(step("inner")), linear(step("inc"), name="inner")]
    executor, exporter = traced(spans, flows, number_tool("inner", call))
    execute(executor, lane)
    inner = [span for span in spans.ended if span.name == "doubleweave.flow.inner"]
    assert [span.parent for span in inner] == [None] * times
    spans.clear()
    in_span(spans, lambda: execute(executor, lane))
    inner = [span for span in spans.ended if span.name == "doubleweave.flow.inner"]
    assert [spans.parent_of(span) for span in inner] == [spans.named("request")] * times
    assert kept_by(exporter) == 0


def test_ot_2_a_run_that_begins_while_a_step_of_the_same_name_waits_is_not_below_it(spans: Spans) -> None:
    waiting, go = asyncio.Event(), asyncio.Event()

    async def wait(v: Any) -> dict[str, int]:
        waiting.set()
        await go.wait()
        return {"n": v.n}

    flows = [linear(step("inner")), linear(step("inc"), name="inner")]
    executor, _ = traced(spans, flows, number_tool("inner", wait))

    async def main() -> None:
        first = asyncio.create_task(executor.execute_flow_async("main", {"n": 1}))
        await waiting.wait()
        await executor.execute_flow_async("inner", {"n": 1})
        go.set()
        await first

    asyncio.run(main())
    assert spans.named("flow.inner").parent is None


@lanes
def test_two_exporters_see_the_same(lane: str) -> None:
    first, second = Spans(), Spans()
    middleware = [OTelTraceExporter(first.tracer), OTelTraceExporter(second.tracer)]
    result = execute(make_executor(THREE_DEEP, tools(), middleware=middleware), lane)
    assert_whole(first, result)
    assert first.by_key() == second.by_key()


class Leave(BaseException):
    pass


def leave(v: Any) -> dict[str, int]:
    raise Leave


UNFINISHED = (trace.StatusCode.ERROR, "The run ended before the step did.")


@lanes
@pytest.mark.parametrize("concurrency", [1, 8])
def test_a_step_that_the_run_does_not_wait_for_has_a_span_that_ends_with_the_run(
    spans: Spans, lane: str, concurrency: int
) -> None:
    flows: list[dw.AnyFlow] = [
        dag(DAGFlowStep(step_id="a", flow_name="inner")),
        linear(step("inc"), step("leave"), name="inner"),
    ]
    kept = Kept()
    executor, exporter = traced(spans, flows, number_tool("leave", leave), max_step_concurrency=concurrency)
    executor.add_middleware(kept)
    with pytest.raises(Leave):
        execute(executor, lane)
    inner, main = kept.results
    for name, result in (("leave", inner), ("inner", main)):
        span = spans.named(f"tool.{name}")
        assert (span.status.status_code, span.status.description) == UNFINISHED
        assert span.end_time == nanoseconds(result.ended_at)
        assert attributes_of(span).keys() == {*("trace_id", "flow_name", "step_index", "tool_name", "step.input_keys")}
    assert spans.parent_of(spans.named("flow.inner")) is spans.named("tool.inner")
    assert kept_by(exporter) == 0


def test_nothing_is_kept_of_a_run_whose_task_is_cancelled(spans: Spans) -> None:
    measurements = Measurements()

    async def main() -> None:
        started = asyncio.Event()

        async def hang(v: Any) -> dict[str, int]:
            started.set()
            await asyncio.Event().wait()
            return {"n": v.n}

        flows = [linear(FlowStep(flow_name="inner")), linear(step("hang"), name="inner")]
        executor, exporter = traced(spans, flows, number_tool("hang", hang))
        metrics = OTelMetricsMiddleware(measurements.meter)
        executor.add_middleware(metrics)
        task = asyncio.create_task(executor.execute_flow_async("main", {"n": 1}))
        await started.wait()
        assert (kept_by(exporter) > 0, kept_by(metrics)) == (True, 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (kept_by(exporter), kept_by(metrics)) == (0, 0)

    asyncio.run(main())
    assert [(span.name, span.status.description) for span in spans.ended] == [
        ("doubleweave.tool.hang", UNFINISHED[1]),
        ("doubleweave.flow.inner", None),
        ("doubleweave.tool.inner", UNFINISHED[1]),
        ("doubleweave.flow.main", None),
    ]
    assert {key[0] for key in measurements.all()} == {"doubleweave.flow.executions", "doubleweave.flow.duration"}


@lanes
def test_nothing_is_kept_of_a_run_that_is_cancelled_in_its_sub_flow(spans: Spans, lane: str) -> None:
    token = dw.CancellationToken()

    def cancel(v: Any) -> dict[str, int]:
        token.cancel()
        return {"n": v.n}

    flows = [linear(FlowStep(flow_name="inner")), linear(step("cancel"), step("inc"), name="inner")]
    executor, exporter = traced(spans, flows, number_tool("cancel", cancel))
    with pytest.raises(dw.FlowCancelledError) as raised:
        execute(executor, lane, cancel_token=token)
    assert_whole(spans, raised.value.result)
    span = spans.named("tool.inner")
    assert attributes_of(span)["step.error_type"] == "FlowCancelledError"
    # Its record has neither inputs nor a start of its own.
    assert attributes_of(span)["step.input_keys"] == ("n",)
    assert (span.start_time or 0) <= (spans.named("flow.inner").start_time or 0)
    assert kept_by(exporter) == 0


@lanes
@pytest.mark.parametrize("text", ["deadline", "sub-flow status"])
def test_nothing_is_kept_of_a_run_that_fails_before_its_first_step_ends(spans: Spans, lane: str, text: str) -> None:
    flows = [linear(FlowStep(flow_name="inner")), linear(name="inner", status=dw.FlowStatus.DISABLED)]
    executor, exporter = traced(spans, flows)
    terms: dict[str, Any] = {"deadline": 0.0} if text == "deadline" else {}
    with pytest.raises((dw.FlowCancelledError, dw.FlowStatusError)):
        execute(executor, lane, **terms)
    names = [] if text == "deadline" else ["doubleweave.tool.inner"]
    assert [span.name for span in spans.ended] == [*names, "doubleweave.flow.main"]
    assert kept_by(exporter) == 0


class BadTracer(trace.NoOpTracer):
    def start_span(self, *arguments: Any, **named: Any) -> trace.Span:
        raise RuntimeError("no spans today")


@lanes
def test_a_tracer_that_fails_disturbs_no_run(lane: str, caplog: pytest.LogCaptureFixture) -> None:
    exporter = OTelTraceExporter(BadTracer())
    with caplog.at_level(logging.WARNING, "doubleweave.middleware"):
        assert execute(make_executor([linear(step("inc"))], tools(), middleware=[exporter]), lane).success
    assert [record.getMessage() for record in caplog.records] == [
        "Middleware hook on_flow_start of OTelTraceExporter failed"
    ]
    assert kept_by(exporter) == 0


@lanes
def test_a_resumed_run_tells_only_of_what_it_did_itself(spans: Spans, lane: str) -> None:
    measurements, door = Measurements(), threading.Event()

    def pay(v: Any) -> dict[str, int]:
        if not door.is_set():
            raise OSError("closed")
        return {"n": v.n}

    executor, exporter = traced(
        spans,
        [
            linear(step("boom", on_error="skip"), FlowStep(flow_name="inner"), step("pay")),
            linear(step("inc"), name="inner"),
        ],
        number_tool("pay", pay),
        checkpointer=dw.InMemoryCheckpointer(),
    )
    failed = execute(executor, lane)
    spans.clear()
    executor.add_middleware(OTelMetricsMiddleware(measurements.meter))
    door.set()
    resumed = (
        executor.resume_flow(failed.trace_id)
        if lane == "sync"
        else asyncio.run(executor.resume_flow_async(failed.trace_id))
    )
    assert (resumed.success, len(resumed.execution_log)) == (True, 3)
    assert [span.name for span in spans.ended] == ["doubleweave.tool.pay", "doubleweave.flow.main"]
    assert spans.ended[-1].start_time == nanoseconds(failed.started_at)
    steps = [key for key in measurements.all() if key[0] == "doubleweave.step.executions"]
    assert [[word for word in key if "tool_name" in word] for key in steps] == [["doubleweave.tool_name=pay"]]
    assert kept_by(exporter) == 0
    spans.clear()
    export_result_to_otel(resumed, tracer=spans.tracer)
    assert_whole(spans, resumed)
