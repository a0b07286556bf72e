"""What users' tests and other programs use; read by type checkers, never run."""

from collections.abc import Callable
from typing import Any, assert_type

from flows_and_tools import linear

from doubleweave import (
    BUILTIN_PROPERTIES,
    AttestationReport,
    ExecutionResult,
    FlowFuzzer,
    FuzzReport,
    attest_flow,
    attest_flow_async,
    flow_to_mermaid,
)
from doubleweave.contrib import passthrough
from doubleweave.export import flow_to_callable, flow_to_openai_function
from doubleweave.testing import FlowTestRunner, assert_lanes_agree, assert_result_matches, capture_steps, fake_tool

runner = FlowTestRunner(linear)
runner.fake_tool("add_up", {"total": 2.5})
runner.fake_tool("add_up", lambda given: {"total": 2.5 * given["count"]})
with capture_steps(runner.executor) as steps:
    result = runner.execute("order", {"count": 2})
assert_type(result, ExecutionResult)
assert_type([step.tool_name for step in steps], list[str])
assert_type(runner.calls_to("add_up"), int)
assert_type(runner.inputs_to("add_up"), list[dict[str, Any]])
assert_result_matches(result, result)
fake = fake_tool("other", {"total": 1.0})
assert_lanes_agree(linear, [fake], {"count": 2}, max_step_concurrency=2)

assert_type(attest_flow(executor=runner.executor, flow=linear, n=1, repeats=2, seed=0), AttestationReport)
fuzzer = FlowFuzzer(runner.executor, linear, [BUILTIN_PROPERTIES["flow_succeeds"]])
assert_type(fuzzer.run(runs=10, seed=0, base_input={"count": 2}), FuzzReport)
assert_type(flow_to_openai_function(linear, runner.executor), dict[str, Any])
assert_type(flow_to_callable(linear, runner.executor), Callable[[dict[str, Any]], Any])
assert_type(flow_to_mermaid(linear), str)
assert_type(passthrough.name, str)


async def awaited() -> None:
    assert_type(await runner.execute_async("order", {"count": 2}), ExecutionResult)
    assert_type(
        await attest_flow_async(executor=runner.executor, flow=linear, n=1, repeats=2, seed=0), AttestationReport
    )
    assert_type(await fuzzer.run_async(runs=10, seed=0), FuzzReport)
