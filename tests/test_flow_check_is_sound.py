"""A flow in which the check finds nothing does not fail for what the check covers, and one with an error does fail."""

import asyncio
import os
from typing import Any

from hypothesis import HealthCheck, assume, given, settings

from doubleweave import ExecutionResult, Flow, FlowExecutor, FlowRegistry
from doubleweave.checking.flow_check import check_flow
from random_typed_flows import INPUTS, Typed, typed_flows

EXAMPLES = int(os.environ.get("DOUBLEWEAVE_CHECK_EXAMPLES", "60"))
COVERED = {
    *("InputMappingError", "SchemaValidationError", "PredicateSyntaxError", "OutputMappingError", "ToolNotFoundError"),
    *("ContextKeyCollisionError", "FlowSerializationError", "SchemaRefPolicyError", "DAGDefinitionError"),
}


def runs(case: Typed) -> list[tuple[dict[str, Any], ExecutionResult | Exception]]:
    """Run a flow with each of its inputs a few times, on both lanes."""
    registry = FlowRegistry()
    registry.register_flow(case.flow)
    found: list[tuple[dict[str, Any], ExecutionResult | Exception]] = []

    async def on_both_lanes(inputs: dict[str, Any]) -> None:
        executors = [FlowExecutor(registry), FlowExecutor(registry, max_step_concurrency=3)]
        for executor in executors:
            for tool in case.tools().values():
                executor.register_tool(tool)
        for _ in range(4):
            found.append((inputs, attempt(lambda: executors[0].execute_flow("typed", inputs))))
            try:
                found.append((inputs, await executors[1].execute_flow_async("typed", inputs)))
            except Exception as error:
                found.append((inputs, error))

    for inputs in INPUTS[case.start]:
        asyncio.run(on_both_lanes(inputs))
    return found


def attempt(run: Any) -> Any:
    try:
        return run()
    except Exception as error:
        return error


def covered_failures(outcome: ExecutionResult | Exception) -> list[str]:
    """Return what a run failed with, of the kinds that the check covers."""
    if isinstance(outcome, Exception):
        return [f"{type(outcome).__name__}: {outcome}"] if type(outcome).__name__ in COVERED else []
    return [
        f"{record.tool_name}: {record.error_message}"
        for record in outcome.execution_log
        if record.error_type in COVERED
    ]


def report_of(case: Typed) -> Any:
    return check_flow(case.flow, case.tools(), allowed_modules=["random_typed_flows"])


@settings(
    max_examples=EXAMPLES, derandomize=True, database=None, suppress_health_check=list(HealthCheck), deadline=None
)
@given(typed_flows())
def test_a_flow_with_no_finding_does_not_fail_for_what_is_covered(case: Typed) -> None:
    report = report_of(case)
    assume(report.is_clean)
    for inputs, outcome in runs(case):
        assert covered_failures(outcome) == [], (inputs, case.flow)


@settings(
    max_examples=EXAMPLES, derandomize=True, database=None, suppress_health_check=list(HealthCheck), deadline=None
)
@given(typed_flows())
def test_a_linear_flow_with_an_error_fails_there_when_it_gets_there(case: Typed) -> None:
    report = report_of(case)
    assume(isinstance(case.flow, Flow) and report.errors)
    first = report.errors[0]
    # Whether the fallback is what does not fit, a finding says in words only.
    assume(not 0 <= first.step_index < len(case.flow.steps) or ":" not in case.flow.steps[first.step_index].on_error)
    for inputs, outcome in runs(case):
        if isinstance(outcome, Exception):
            continue
        records = outcome.execution_log
        if len(records) > first.step_index and not records[first.step_index].skipped:
            assert not outcome.success, (str(first), inputs, case.flow)
