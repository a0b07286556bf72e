"""Measurements of runs, as OpenTelemetry's SDK collects them: while they run, and from their results."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

import doubleweave as dw
from doubleweave import ExecutionResult, FlowStep
from doubleweave.integrations.opentelemetry import OTelMetricsMiddleware, export_result_to_otel_metrics
from executors_under_test import execute, lanes, make_executor
from parity_scenarios import BRANCHING, QUICK, THREE_DEEP, linear, step, tools
from telemetry_under_test import Measurements, kept_by

Run = Callable[..., ExecutionResult]
FLOW = "doubleweave.flow_name=main"


def measure_live(
    measurements: Measurements, lane: str, flows: Sequence[dw.AnyFlow], **settings: Any
) -> ExecutionResult:
    metrics = OTelMetricsMiddleware(measurements.meter)
    result = execute(make_executor(flows, tools(), middleware=[metrics], **settings), lane)
    assert kept_by(metrics) == 0
    return result


def measure_then(
    measurements: Measurements, lane: str, flows: Sequence[dw.AnyFlow], **settings: Any
) -> ExecutionResult:
    result = execute(make_executor(flows, tools(), **settings), lane)
    export_result_to_otel_metrics(result, meter=measurements.meter)
    return result


measuring = pytest.mark.parametrize("run", [measure_live, measure_then], ids=["live", "exported"])


@lanes
@measuring
def test_instruments_flow_executions_flow_duration_step_executions_step_duration_step_cache_step_retries(
    run: Run, lane: str
) -> None:
    measurements = Measurements()
    result = run(measurements, lane, [linear(step("flaky", retry=QUICK), step("boom"))])
    flaky, boom = result.execution_log
    tools_of = {name: f"doubleweave.tool_name={name}" for name in ("flaky", "boom")}
    assert measurements.all() == {
        ("doubleweave.flow.executions", FLOW, "doubleweave.success=False"): ("counter", "", 1, 0),
        ("doubleweave.flow.duration", FLOW): ("histogram", "ms", round(result.total_duration_ms, 9), 1),
        ("doubleweave.step.executions", FLOW, "doubleweave.success=True", tools_of["flaky"]): ("counter", "", 1, 0),
        ("doubleweave.step.executions", FLOW, "doubleweave.success=False", tools_of["boom"]): ("counter", "", 1, 0),
        ("doubleweave.step.duration", FLOW, "doubleweave.success=True", tools_of["flaky"]): (
            *("histogram", "ms"),
            *(round(flaky.duration_ms, 9), 1),
        ),
        ("doubleweave.step.duration", FLOW, "doubleweave.success=False", tools_of["boom"]): (
            *("histogram", "ms"),
            *(round(boom.duration_ms, 9), 1),
        ),
        ("doubleweave.step.cache", "doubleweave.cache_hit=False", FLOW, tools_of["flaky"]): ("counter", "", 1, 0),
        ("doubleweave.step.cache", "doubleweave.cache_hit=False", FLOW, tools_of["boom"]): ("counter", "", 1, 0),
        ("doubleweave.step.retries", FLOW, tools_of["flaky"]): ("counter", "", 2, 0),
    }


@lanes
def test_instrument_step_cache_counts_hits_and_misses(lane: str) -> None:
    measurements = Measurements()
    metrics = OTelMetricsMiddleware(measurements.meter)
    executor = make_executor([linear(step("inc"))], tools(), middleware=[metrics], step_cache=dw.InMemoryStepCache())
    for _ in range(3):
        execute(executor, lane)
    hits = {key[1]: value[2] for key, value in measurements.all().items() if key[0] == "doubleweave.step.cache"}
    assert hits == {"doubleweave.cache_hit=False": 1, "doubleweave.cache_hit=True": 2}


@lanes
@measuring
def test_instruments_count_each_sub_flow_as_a_run_and_its_step_as_a_step(run: Run, lane: str) -> None:
    measurements = Measurements()
    run(measurements, lane, list(THREE_DEEP))
    counts = {key[:3]: value[2] for key, value in measurements.all().items() if key[0].endswith("executions")}
    names = ["main", "middle", "inner"]
    assert {key[1] for key in counts if key[0] == "doubleweave.flow.executions"} == {
        f"doubleweave.flow_name={name}" for name in names
    }
    steps = sum(value[2] for key, value in measurements.all().items() if key[0] == "doubleweave.step.executions")
    assert steps == 3 + 2 + 2


@lanes
@measuring
@pytest.mark.parametrize("field", ["input_schema_ref", "output_schema_ref"])
def test_instruments_count_a_failed_check_as_the_record_that_it_is(run: Run, lane: str, field: str) -> None:
    measurements = Measurements()
    run(measurements, lane, [linear(step("inc"), **{field: "parity_scenarios:Strict"})])
    key = ("doubleweave.step.executions", FLOW, "doubleweave.success=False", "doubleweave.tool_name=main")
    assert measurements.all()[key] == ("counter", "", 1, 0)


@lanes
@measuring
def test_ot_3_skipped_records_give_no_measurement(run: Run, lane: str) -> None:
    measurements = Measurements()
    result = run(measurements, lane, [linear(step("boom", on_error="skip", retry=QUICK))])
    assert (result.success, result.execution_log[0].skipped) == (True, True)
    assert {key[0] for key in measurements.all()} == {"doubleweave.flow.executions", "doubleweave.flow.duration"}
    branches = Measurements()
    run(branches, lane, [BRANCHING])
    steps = sum(value[2] for key, value in branches.all().items() if key[0] == "doubleweave.step.executions")
    assert steps == 3


@lanes
@measuring
def test_ot_3_trace_ids_inputs_and_outputs_are_no_attributes(run: Run, lane: str) -> None:
    measurements = Measurements()
    flows = [linear(step("inc", input_mapping={"n": 41234567}), step("flaky", retry=QUICK), FlowStep(flow_name="inner")),
             linear(step("boom"), name="inner")]  # fmt: skip
    run(measurements, lane, flows)
    names = {word.partition("=")[0] for key in measurements.all() for word in key[1:]}
    assert names == {f"doubleweave.{name}" for name in ("flow_name", "tool_name", "success", "cache_hit")}
    assert "4123456" not in repr(measurements.all().keys())
