"""What is exported from the result of a run is what the middleware told of it while it ran, for any flow."""

import asyncio
import os
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from doubleweave import AnyFlow, ContextKeyCollisionError, ExecutionResult, InMemoryStepCache, StepRecord
from doubleweave.integrations.opentelemetry import (
    OTelMetricsMiddleware,
    OTelTraceExporter,
    export_result_to_otel,
    export_result_to_otel_metrics,
)
from executors_under_test import execute, lanes, make_executor
from parity_scenarios import linear, step
from random_flows import INNER, dag_flows, linear_flows, tools
from telemetry_under_test import Kept, Key, Measurements, Spans, attributes_of, kept_by, logged

EXAMPLES = max(1, int(os.environ.get("DOUBLEWEAVE_PARITY_EXAMPLES", "2000")) // 20)
LIVE, AFTERWARDS = Spans(), Spans()


def run(flow: AnyFlow, start: int, lane: str, concurrency: int, cache: InMemoryStepCache) -> tuple[Kept, Measurements]:
    """Run a flow with both middlewares; the spans are in `LIVE`."""
    LIVE.clear()
    kept, measurements = Kept(), Measurements()
    middleware = [kept, OTelTraceExporter(LIVE.tracer), OTelMetricsMiddleware(measurements.meter)]
    executor = make_executor(
        [flow, INNER], tools(), middleware=middleware, max_step_concurrency=concurrency, step_cache=cache
    )
    # A flow that forbids collisions: it has a result all the same.
    with suppress(ContextKeyCollisionError):
        execute(executor, lane, {"n": start})
    assert [kept_by(each) for each in middleware[1:]] == [0, 0]
    return kept, measurements


def exported(result: ExecutionResult) -> dict[Key, dict[str, Any]]:
    AFTERWARDS.clear()
    export_result_to_otel(result, tracer=AFTERWARDS.tracer)
    return AFTERWARDS.by_key()


def measured(result: ExecutionResult) -> Any:
    measurements = Measurements()
    export_result_to_otel_metrics(result, meter=measurements.meter)
    return measurements.all()


def without_unknown(spans: dict[Key, dict[str, Any]]) -> dict[Key, dict[str, Any]]:
    """Leave out what the result of a failed run does not tell: how many steps its flow has."""
    for span in spans.values():
        if span["attributes"].get("success") is False:
            span["attributes"].pop("total_steps", None)
    return spans


def keys_of(result: ExecutionResult) -> set[Key]:
    """Return what has a span in an export."""
    records = logged(result)
    runs = [result, *(record.sub_result for record in records.values() if record.sub_result is not None)]
    return {*records, *((run.trace_id, None) for run in runs)}


def same(told: StepRecord | None, record: StepRecord) -> bool:
    return told is None or told == record


@settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True, database=None
)
@given(
    flow=st.one_of(linear_flows(), dag_flows()),
    start=st.integers(0, 9),
    lane=st.sampled_from(["sync", "async"]),
    concurrency=st.sampled_from([1, 3, 8]),
)
def test_export_result_to_otel_and_export_result_to_otel_metrics_tell_what_was_told_while_it_ran(
    flow: AnyFlow, start: int, lane: str, concurrency: int
) -> None:
    cache = InMemoryStepCache()
    for _ in range(2):
        kept, measurements = run(flow, start, lane, concurrency, cache)
        result = kept.results[-1]
        live, later = without_unknown(LIVE.by_key()), without_unknown(exported(result))
        records = logged(result)
        assert later.keys() == records.keys() | {(trace_id, None) for trace_id, _ in records} | {
            (result.trace_id, None)
        }
        if concurrency == 1 or result.success:
            assert live == later
            assert measurements.all() == measured(result)
            continue
        # The log of a failed run ends with the first failure; steps that ran beside it were told all the same, as they ended.
        cut = {key: kept.records[key] for key in kept.records.keys() - records.keys() if (key[0], None) in later}
        below = [record.sub_result for record in cut.values() if record.sub_result is not None]
        assert live.keys() - later.keys() == set(cut).union(*map(keys_of, below))
        for key, span in later.items():
            if key[1] is None or same(kept.records.get(key), records[key]):
                assert live[key] == span
            else:
                assert not records[key].success


def test_an_export_hangs_below_the_current_span_and_leaves_nothing_there() -> None:
    result = asyncio.run(make_executor([INNER], tools()).execute_flow_async("inner", {"n": 1}))
    spans = Spans()
    with spans.tracer.start_as_current_span("doubleweave.request") as request:
        export_result_to_otel(result, tracer=spans.tracer)
        assert spans.tracer.start_span("doubleweave.after").parent == request.get_span_context()  # type: ignore[attr-defined] # of the SDK
    assert spans.parent_of(spans.named("flow.inner")) is spans.named("request")


def test_a_result_that_was_kept_as_json_is_exported_as_the_result_itself() -> None:
    kept, _ = run(INNER.model_copy(update={"name": "main"}), 3, "sync", 1, InMemoryStepCache())
    result = kept.results[-1]
    again = ExecutionResult.model_validate_json(result.model_dump_json())
    assert exported(again) == exported(result)
    assert measured(again) == measured(result)


def test_the_result_of_a_replay_from_a_step_on_tells_how_many_steps_its_flow_has() -> None:
    flow = INNER.model_copy(update={"name": "main", "steps": INNER.steps * 3})
    executor = make_executor([flow], tools())
    replayed = executor.replay_flow(execute(executor, "sync"), resume_from_step=1).new_result
    spans = exported(replayed)
    assert {key[1] for key in spans} == {None, 1, 2}
    assert spans[replayed.trace_id, None]["attributes"]["total_steps"] == 3


@pytest.mark.parametrize("way", ["live", "exported"])
@lanes
def test_span_tool_name_tells_the_names_of_inputs_of_mixed_types_as_texts(lane: str, way: str) -> None:
    spans = Spans()
    middleware = [OTelTraceExporter(spans.tracer)] if way == "live" else []
    executor = make_executor([linear(step("inc"))], tools(), middleware=middleware)
    inputs: dict[Any, Any] = {2: 0, "b": 0, 10: 0, "a": 3, None: 0, "n": 1}
    result = execute(executor, lane, inputs)
    if way == "exported":
        export_result_to_otel(result, tracer=spans.tracer)
    names = [span.name for span in spans.ended]
    assert names == ["doubleweave.tool.inc", "doubleweave.flow.main"]
    assert attributes_of(spans.named("tool.inc"))["step.input_keys"] == ("10", "2", "None", "a", "b", "n")
