"""What the models promise of steps, flows and registries, seen in runs on both lanes."""

import random
from typing import Any

import pytest
from pydantic import BaseModel

import doubleweave as dw
from doubleweave import DAGFlow, Flow, FlowStep, RetryPolicy, Tool
from executors_under_test import concurrencies, execute, lanes, make_executor
from lanes_under_test import Anything, normalised, number_tool
from parity_scenarios import dag, flaky, inc, linear, node, step, tools


class Large(BaseModel):
    n: int = 0
    at_least: bool


def echo() -> Tool:
    return Tool(
        name="echo",
        description="",
        input_schema=Anything,
        output_schema=Anything,
        fn=lambda value: {"n": 2, "more": 3},
    )


# --- steps -----------------------------------------------------------------------------------------------------------


@lanes
@pytest.mark.parametrize("jitter", [False, True])
def test_s_1_a_run_draws_random_numbers_for_jitter_alone(lane: str, jitter: bool) -> None:
    policy = RetryPolicy(max_retries=2, backoff_seconds=0.0001, jitter=jitter)
    executor = make_executor([linear(step("flaky", retry=policy))], [number_tool("flaky", flaky(2))])
    random.seed(7)
    (record,) = execute(executor, lane).execution_log
    after = random.getstate()
    random.seed(7)
    delays = [policy.compute_delay(attempt) for attempt in (1, 2)]
    assert (record.retry_count, record.outputs) == (2, {"n": 11})
    assert random.getstate() == after
    assert (delays == [0.0001, 0.0002]) is not jitter


@lanes
@pytest.mark.parametrize(
    ("ref", "found"), [("gone_module:X", "Cannot import module"), ("builtins:int", "not a subclass")]
)
def test_s_2_retryable_errors_are_resolved_when_a_step_runs_and_not_when_its_flow_is_loaded(
    lane: str, ref: str, found: str
) -> None:
    text = linear(step("flaky", retry=RetryPolicy(retryable_errors=(ref,)))).to_json()
    executor = make_executor([Flow.from_json(text)], [number_tool("flaky", flaky(1))])
    (record,) = execute(executor, lane).execution_log
    assert (record.success, record.error_type, record.retry_count) == (False, "FlowExecutionError", 0)
    assert found in str(record.error_message)
    assert f"'{ref}'" in str(record.error_message)


@lanes
@pytest.mark.parametrize("contract", ["input_contract", "output_contract"])
@pytest.mark.parametrize("on_error", ["fail", "skip", "fallback:double"])
def test_s_4_a_contract_that_fails_bypasses_on_error(lane: str, contract: str, on_error: str) -> None:
    ref = FlowStep.contract_ref_from(Large)
    flow = linear(step("inc", on_error=on_error, **{contract: ref}), step("inc"))
    result = execute(make_executor([flow], tools()), lane)
    (record,) = result.execution_log
    assert (result.success, record.tool_name, record.error_type) == (False, "inc", "SchemaValidationError")
    assert f"Schema validation failed for step_{contract} 'inc' at step 0" in str(record.error_message)
    assert (record.skipped, record.fallback_used) == (False, False)


@lanes
@pytest.mark.parametrize(
    ("on_error", "success", "output", "logged"),
    [
        ("fail", False, None, ["boom"]),
        ("skip", True, {"n": 2}, ["boom", "inc"]),
        ("fallback:double", True, {"n": 3}, ["boom", "inc"]),
    ],
)
def test_s_4_each_value_of_on_error_does_what_it_says(
    lane: str, on_error: str, success: bool, output: dict[str, int] | None, logged: list[str]
) -> None:
    result = execute(make_executor([linear(step("boom", on_error=on_error), step("inc"))], tools()), lane)
    assert (result.success, result.final_output) == (success, output)
    assert [record.tool_name for record in result.execution_log] == logged


CONTEXT = {"n": 1, "deep": {"list": [5, 6]}, "a/b": 7}


@lanes
@pytest.mark.parametrize(
    ("mapping", "inputs"),
    [
        ({}, CONTEXT),
        ({"x": "n", "y": "a/b"}, {"x": 1, "y": 7}),
        ({"x": "/deep/list/1", "y": "/a~1b"}, {"x": 6, "y": 7}),
        ({"x": 2.5, "y": None, "z": True}, {"x": 2.5, "y": None, "z": True}),
        ({"x": ["n", "/n"], "y": {"n": "n"}}, {"x": ["n", "/n"], "y": {"n": "n"}}),
    ],
)
def test_s_6_texts_are_looked_up_in_the_context_and_other_values_are_constants(
    lane: str, mapping: dict[str, Any], inputs: dict[str, Any]
) -> None:
    result = execute(make_executor([linear(step("echo", input_mapping=mapping))], [echo()]), lane, CONTEXT)
    assert result.success
    assert result.execution_log[0].inputs == inputs


@lanes
@pytest.mark.parametrize(
    ("mapping", "output"),
    [
        (None, {"n": 2, "k": 0, "more": 3}),
        ({}, {"n": 1, "k": 0}),
        ({"k": "more"}, {"n": 1, "k": 3}),
        ({"m": "more", "again": "more"}, {"n": 1, "k": 0, "m": 3, "again": 3}),
    ],
)
def test_s_7_an_output_mapping_merges_what_it_lists_under_its_keys(
    lane: str, mapping: dict[str, str] | None, output: dict[str, int]
) -> None:
    flow = linear(step("echo", output_mapping=mapping))
    result = execute(make_executor([flow], [echo()]), lane, {"n": 1, "k": 0})
    assert result.final_output == output
    assert result.execution_log[0].outputs == {"n": 2, "more": 3}


@lanes
def test_s_8_records_name_a_step_by_its_tool_or_flow(lane: str) -> None:
    flows = [linear(step("inc"), FlowStep(flow_name="inner")), linear(name="inner")]
    result = execute(make_executor(flows, tools()), lane)
    assert [record.tool_name for record in result.execution_log] == [each.display_name for each in flows[0].steps]


# --- flows -----------------------------------------------------------------------------------------------------------


METADATA: list[dict[str, Any]] = [
    {"deterministic": False},
    {"trigger_conditions": {"when": ["now"]}},
    {"capability_id": "billing"},
    {"dynamic_params": ("n", "colour")},
    {"governance": dw.FlowGovernance(lifecycle=dw.FlowLifecycle.ARCHIVED, owner="me", replaces_tools=("inc",))},
]


@lanes
@pytest.mark.parametrize("metadata", METADATA, ids=lambda fields: next(iter(fields)))
def test_f_7_metadata_of_a_flow_changes_nothing_in_its_run(lane: str, metadata: dict[str, Any]) -> None:
    def run(flow: Flow | DAGFlow) -> Any:
        return normalised(execute(make_executor([flow], tools()), lane))

    for plain in (linear(step("inc"), step("double")), dag(node("a"), node("b", "double", after="a", source="a"))):
        first = run(plain)
        assert (first["success"], len(first["execution_log"])) == (True, 2)
        assert run(plain.model_copy(update=metadata)) == first


@lanes
@concurrencies
@pytest.mark.parametrize(("after", "reason"), [("b", "cycle"), ("x", "unknown_dependency")])
def test_d_2_a_topology_is_checked_again_before_a_run(lane: str, concurrency: int, after: str, reason: str) -> None:
    calls: list[int] = []

    def note(value: Any) -> dict[str, int]:
        calls.append(value.n)
        return inc(value)

    flow = dag(node("a"), node("b", after="a"))
    executor = make_executor([], [number_tool("inc", note)], max_step_concurrency=concurrency)
    executor.registry.register_flow(flow)
    flow.steps[0].depends_on = [after]
    with pytest.raises(dw.DAGDefinitionError) as caught:
        execute(executor, lane)
    assert (caught.value.flow_name, caught.value.reason, calls) == ("main", reason, [])


@lanes
@concurrencies
def test_d_1_a_dependency_may_be_listed_twice(lane: str, concurrency: int) -> None:
    flow = dag(node("a"), node("b", after="a a", source="a"))
    executor = make_executor([flow], tools(), max_step_concurrency=concurrency)
    assert execute(executor, lane).final_output == {"n": 1, "a": 2, "b": 3}


# --- class refs ------------------------------------------------------------------------------------------------------


@lanes
@concurrencies
@pytest.mark.parametrize("timeout", [None, 30.0])
def test_r_4_tools_on_worker_threads_see_the_policy_of_the_caller(
    lane: str, concurrency: int, timeout: float | None
) -> None:
    seen: list[Any] = []
    policy = dw.SchemaRefAllowlist(["builtins"])

    def look(value: Any) -> dict[str, int]:
        seen.append(dw.get_schema_ref_policy())
        return {"n": value.n}

    tool = number_tool("look", look, timeout_seconds=timeout)
    executor = make_executor([dag(node("a", "look"), node("b", "look"))], [tool], max_step_concurrency=concurrency)
    with dw.schema_ref_policy(policy):
        assert execute(executor, lane).success
    assert execute(executor, lane).success
    assert seen == [policy, policy, None, None]


@lanes
@concurrencies
def test_r_4_refs_of_steps_that_run_at_once_are_held_against_the_policy_of_the_caller(
    lane: str, concurrency: int
) -> None:
    retry = RetryPolicy(max_retries=1, backoff_seconds=0.0, retryable_errors=("builtins:OSError",))
    flow = dag(node("a", "flaky", retry=retry), node("b", on_error="skip"))

    def run() -> list[tuple[bool, str]]:
        tools = [number_tool("flaky", flaky(1)), number_tool("inc", inc)]
        log = execute(make_executor([flow], tools, max_step_concurrency=concurrency), lane).execution_log
        return [(record.success, record.error_message or "") for record in log if record.tool_name == "flaky"]

    assert run() == [(True, "")]
    with dw.schema_ref_policy(dw.SchemaRefAllowlist(["elsewhere"])):
        ((success, message),) = run()
    assert not success
    assert "'builtins' is not permitted" in message


# --- registries ------------------------------------------------------------------------------------------------------


@lanes
def test_g_7_a_flow_runs_by_name_in_its_latest_version(lane: str) -> None:
    flows = [
        linear(*[step("inc")] * count, version=version) for version, count in [("1.9", 1), ("1.10", 3), ("0.5", 2)]
    ]
    executor = make_executor(flows, tools())
    result = execute(executor, lane)
    assert (result.flow_version, result.final_output) == ("1.10", {"n": 4})
    for version, count in [("1.9", 1), ("1.10", 3), ("0.5", 2)]:
        named = execute(executor, lane, version=version)
        assert (named.flow_version, named.final_output) == (version, {"n": 1 + count})


@lanes
@pytest.mark.parametrize("status", [dw.FlowStatus.DISABLED, dw.FlowStatus.NEEDS_REVIEW])
@pytest.mark.parametrize("guarded", ["1.0", "2.0"])
def test_g_7_the_status_of_the_version_that_runs_counts(lane: str, status: dw.FlowStatus, guarded: str) -> None:
    flows = [linear(step("inc"), version=version) for version in ("1.0", "2.0")]
    executor = make_executor(flows, tools())
    executor.registry.set_flow_status("main", status, version=guarded)
    for asked, runs in [(None, "2.0"), ("1.0", "1.0"), ("2.0", "2.0")]:
        if runs == guarded:
            with pytest.raises(dw.FlowStatusError) as caught:
                execute(executor, lane, version=asked)
            assert (caught.value.flow_name, caught.value.status) == ("main", status.value)
        else:
            assert execute(executor, lane, version=asked).final_output == {"n": 2}
        assert execute(executor, lane, version=asked, force=True).flow_version == runs


@lanes
def test_g_9_k_5_a_run_under_way_keeps_the_state_that_its_flow_had(lane: str) -> None:
    def disable(value: Any) -> dict[str, int]:
        executor.registry.set_flow_status("main", dw.FlowStatus.DISABLED)
        return {"n": value.n + 1}

    executor = make_executor([linear(step("inc"), step("inc"))], [number_tool("inc", disable)])
    handed_out = executor.registry.get_flow("main")
    assert execute(executor, lane).final_output == {"n": 3}
    assert handed_out.status is dw.FlowStatus.ACTIVE
    with pytest.raises(dw.FlowStatusError):
        execute(executor, lane)
