"""Fuzzing flows: FZ-1 to FZ-4."""

import asyncio
import copy
import dataclasses
import json
import pickle
import random
from collections.abc import AsyncIterator
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AliasPath, BaseModel, Field

import doubleweave as dw
from doubleweave import (
    BUILTIN_PROPERTIES,
    BaseMiddleware,
    DoubleweaveError,
    FaultConfig,
    FlowExecutor,
    FlowFuzzer,
    FlowProperty,
    FuzzCase,
    FuzzConfigError,
    FuzzFailure,
    FuzzReport,
    InMemoryStepCache,
    RetryPolicy,
    StreamingTool,
    Tool,
    ToolChunk,
    fuzz,
    minimize_failure,
)
from doubleweave.fuzz.mutations import mutated
from executors_under_test import concurrencies, make_executor
from fuzz_under_test import LANES, OBJECTS, PRESENT, SUCCEEDS, each_lane, echo, executor_on, tool_of
from lanes_under_test import Number, number_tool
from parity_scenarios import dag, inc, linear, node, step

NUMBER = "lanes_under_test:Number"
BASE = {"n": 1, "word": "ab", "deep": {"items": [1, {"x": None}], "y": 0.5}}


def run(lane: str, fuzzer: FlowFuzzer, **options: Any) -> FuzzReport:
    values: dict[str, Any] = {"runs": 30, "seed": 0, **options}
    return fuzzer.run(**values) if lane == "run" else asyncio.run(fuzzer.run_async(**values))


def fuzzer_on(lane: str, flow: Any, tools: list[Tool], *properties: FlowProperty, **options: Any) -> FlowFuzzer:
    return FlowFuzzer(executor_on(lane, flow, tools), flow, properties or (SUCCEEDS,), **options)


# --- the table --------------------------------------------------------------------------------------------------------


def test_flowproperty_holds_when_its_check_is_truthy() -> None:
    result: Any = object()
    assert FlowProperty("p", lambda given: [given]).holds(result) is True
    assert FlowProperty("p", lambda given: []).holds(result) is False
    assert FlowProperty("p", bool).description == ""
    with pytest.raises(dataclasses.FrozenInstanceError):
        FlowProperty("p", bool).name = "q"  # type: ignore[misc]  # frozen


@each_lane
def test_a_check_that_is_async_is_no_check(lane: str) -> None:
    async def holds(_: Any) -> bool:
        return True

    flow = linear(step("t"))
    report = run(lane, fuzzer_on(lane, flow, [tool_of(echo)], FlowProperty("p", holds)), runs=1, base_input={})
    assert [failure.check_error for failure in report.failures] == [
        "TypeError: the check of property 'p' is async; give a plain function"
    ]


def test_builtin_properties_are_by_name() -> None:
    assert list(BUILTIN_PROPERTIES) == ["flow_succeeds", "final_output_present"]
    assert all(prop.name == name and prop.description for name, prop in BUILTIN_PROPERTIES.items())
    good = make_executor([linear(step("t"))], [tool_of(echo)]).execute_flow("main", {})
    bad = make_executor([linear(step("t"))], []).execute_flow("main", {})
    assert [prop.holds(good) for prop in BUILTIN_PROPERTIES.values()] == [True, True]
    assert [prop.holds(bad) for prop in BUILTIN_PROPERTIES.values()] == [False, False]
    assert not PRESENT.holds(good.model_copy(update={"final_output": None}))
    assert PRESENT.holds(good.model_copy(update={"final_output": {}, "success": False}))


def test_faultconfig_takes_a_probability() -> None:
    assert [FaultConfig(value).active for value in (0.0, 0.5, 1.0)] == [False, True, True]
    assert FaultConfig() == FaultConfig(output_fault_probability=0.0)
    for value in (-0.1, 1.1, float("nan"), float("inf")):
        with pytest.raises(FuzzConfigError, match="within 0 and 1"):
            FaultConfig(value)
    with pytest.raises(dataclasses.FrozenInstanceError):
        FaultConfig().output_fault_probability = 1.0  # type: ignore[misc]  # frozen


def test_flowfuzzer_needs_a_property() -> None:
    executor, flow = make_executor([], []), linear(step("t"))
    with pytest.raises(FuzzConfigError, match="at least one property of flow 'main'"):
        FlowFuzzer(executor, flow, [])
    fuzzer = FlowFuzzer(executor, flow, [SUCCEEDS])
    assert (fuzzer.fault_config, fuzzer.fault_hook) == (FaultConfig(), None)
    assert [field.name for field in dataclasses.fields(fuzzer)] == [
        *("executor", "flow", "properties", "fault_config", "fault_hook")
    ]


@each_lane
def test_run_gives_a_fuzzreport_in_which_each_fuzzfailure_has_its_fuzzcase(lane: str) -> None:
    flow = linear(step("t"))
    fuzzer = fuzzer_on(lane, flow, [number_tool("t", inc)], SUCCEEDS, PRESENT)
    report = run(lane, fuzzer, runs=40, seed=3, base_input={"n": 1})
    assert (report.flow_name, report.runs, report.seed) == ("main", 40, 3)
    assert list(report.property_names) == ["flow_succeeds", "final_output_present"]
    assert report.num_failures == len(report.failures) > 0
    assert not report.passed
    cases = list(fuzzer.cases(runs=40, seed=3, base_input={"n": 1}))
    assert [case.index for case in cases] == list(range(40))
    for failure in report.failures:
        assert FuzzCase(failure.case_index, failure.initial_input) == cases[failure.case_index]
        assert failure.result.initial_input == failure.initial_input
        assert (failure.result.success, failure.check_error) == (False, None)
    assert FuzzReport("f", 1, 0, [], []).passed
    assert FuzzFailure("p", 0, {}, report.failures[0].result).check_error is None


def test_fuzz_config_error_is_its_detail() -> None:
    made = FuzzConfigError("no good")
    for error in (made, pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):
        assert (type(error), error.code, error.detail, str(error)) == (
            *(FuzzConfigError, "CW-E038", "no good", "no good"),
        )
    assert FuzzConfigError.__bases__ == (DoubleweaveError,)
    assert set(fuzz.__all__) <= set(dw.__all__)


# --- FZ-1 to FZ-3 -----------------------------------------------------------------------------------------------------


@each_lane
@pytest.mark.parametrize(
    ("ref", "options", "fragment"),
    [
        (NUMBER, {"runs": 0}, "runs must be >= 1, got 0"),
        (NUMBER, {"runs": -1, "base_input": {}}, "runs must be >= 1, got -1"),
        (None, {}, "no input of flow 'main' can be generated, give a base_input"),
        ("test_attest:Dated", {}, "'day'"),
    ],
)
def test_fz_1_a_run_that_cannot_be_set_up_is_refused(
    lane: str, ref: str | None, options: dict[str, Any], fragment: str
) -> None:
    fuzzer = fuzzer_on(lane, linear(step("t"), input_schema_ref=ref), [number_tool("t", inc)])
    with pytest.raises(FuzzConfigError, match=fragment):
        run(lane, fuzzer, **options)


def changed_keys(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return the keys that are gone, new, or have another value, as JSON sees it."""
    texts = [{key: json.dumps(value, allow_nan=False) for key, value in each.items()} for each in (before, after)]
    return [key for key in {**before, **after} if texts[0].get(key) != texts[1].get(key)]


@given(OBJECTS, st.integers(0, 2**32))
def test_fz_2_a_mutation_is_one_change_and_stays_json(data: dict[str, Any], seed: int) -> None:
    kept = copy.deepcopy(data)
    twin = mutated(data, random.Random(seed))
    assert data == kept
    assert len(changed_keys(data, twin)) == 1
    assert mutated(data, random.Random(seed)) == twin
    assert all(key.startswith("__fuzz_") for key in twin.keys() - data.keys())


def kind_of_change(before: dict[str, Any], after: dict[str, Any]) -> str:
    if after.keys() != before.keys():
        return "dropped" if len(after) < len(before) else "added"
    (key,) = changed_keys(before, after)
    is_container = isinstance(before[key], dict | list)
    return "nested" if is_container and type(after[key]) is type(before[key]) else "scalar"


def test_fz_2_there_are_four_kinds_of_mutation() -> None:
    rng = random.Random(0)
    found = [kind_of_change(BASE, mutated(BASE, rng)) for _ in range(400)]
    assert {kind: found.count(kind) > 50 for kind in set(found)} == dict.fromkeys(
        ("dropped", "added", "nested", "scalar"), True
    )
    assert {kind_of_change({}, mutated({}, rng)) for _ in range(20)} == {"added"}


@each_lane
def test_fz_2_case_0_is_the_base_input_and_each_later_one_has_one_mutation_of_it(lane: str) -> None:
    seen: list[Any] = []
    base = copy.deepcopy(BASE)

    class Inputs(BaseMiddleware):
        def on_flow_start(self, ctx: dw.FlowStartContext) -> None:
            seen.append(copy.deepcopy(ctx.initial_input))
            if isinstance(deep := ctx.initial_input.get("deep"), dict):
                deep.clear()

    flow = linear(step("t"))
    fuzzer = FlowFuzzer(executor_on(lane, flow, [tool_of(echo)], middleware=[Inputs()]), flow, [SUCCEEDS])
    never = FlowProperty("never", lambda result: False)
    report = run(lane, dataclasses.replace(fuzzer, properties=[never]), runs=50, base_input=base)
    assert seen[0] == base == BASE
    assert [failure.initial_input for failure in report.failures] == seen
    assert report.failures[0].initial_input is not base
    assert [len(changed_keys(BASE, each)) for each in seen[1:]] == [1] * 49
    assert seen == [case.initial_input for case in fuzzer.cases(runs=50, seed=0, base_input=base)]


def test_fz_2_without_a_base_input_half_of_the_later_cases_are_mutated() -> None:
    flow = linear(step("t"), input_schema_ref=NUMBER)
    fuzzer = FlowFuzzer(make_executor([flow], []), flow, [SUCCEEDS])

    def is_generated(inputs: dict[str, Any]) -> bool:
        return list(inputs) == ["n"] and type(inputs["n"]) is int and -100 <= inputs["n"] <= 100

    for seed in range(20):
        (first,) = fuzzer.cases(runs=1, seed=seed)
        assert is_generated(first.initial_input)
    generated = [is_generated(case.initial_input) for case in fuzzer.cases(runs=2000, seed=0)]
    # A mutation may look like a generated value too.
    assert 0.45 < generated.count(True) / 2000 < 0.65


@each_lane
def test_fz_2_the_same_seed_gives_the_same_cases_and_failures(lane: str) -> None:
    flow = linear(step("t"), input_schema_ref=NUMBER)

    def failures(seed: int) -> list[Any]:
        report = run(lane, fuzzer_on(lane, flow, [number_tool("t", inc)]), seed=seed)
        return [(each.property_name, each.case_index, each.initial_input) for each in report.failures]

    assert failures(1) == failures(1) != failures(2)
    assert failures(1)


@each_lane
def test_fz_3_each_case_runs_once_and_failures_are_by_case_then_by_property(lane: str) -> None:
    runs: list[Any] = []

    def note(value: Any) -> dict[str, Any]:
        runs.append(value)
        return {"n": "none"}

    properties = [FlowProperty(name, lambda result: False) for name in "ba"]
    fuzzer = fuzzer_on(lane, linear(step("t")), [tool_of(note)], *properties)
    report = run(lane, fuzzer, runs=3, base_input={})
    assert len(runs) == 3
    assert [(each.case_index, each.property_name) for each in report.failures] == [
        *((0, "b"), (0, "a"), (1, "b"), (1, "a"), (2, "b"), (2, "a"))
    ]


@each_lane
def test_fz_3_a_check_that_raises_is_a_violation(lane: str) -> None:
    properties = [
        FlowProperty("broken", lambda result: (result.final_output or {})["missing"]),
        FlowProperty("good", lambda result: True),
    ]
    report = run(lane, fuzzer_on(lane, linear(step("t")), [tool_of(echo)], *properties), runs=1, base_input={})
    assert [(each.property_name, each.check_error) for each in report.failures] == [("broken", "KeyError: 'missing'")]


@each_lane
def test_fz_3_a_run_that_raises_is_checked_by_its_partial_result(lane: str) -> None:
    flow = linear(step("t", output_mapping={"m": "n"}))

    def only_small(value: Any) -> dict[str, Any]:
        return {"n": 1} if getattr(value, "n", None) == 1 else {}

    report = run(lane, fuzzer_on(lane, flow, [tool_of(only_small)], SUCCEEDS), runs=30, base_input={"n": 1})
    assert report.failures
    for failure in report.failures:
        assert failure.initial_input.get("n") != 1
        assert failure.result.success is False
        assert failure.check_error is not None
        assert failure.check_error.startswith("OutputMappingError: Output mapping key 'n' not produced by tool 't'")


@each_lane
def test_fz_3_an_error_from_before_a_run_is_raised(lane: str) -> None:
    flow = linear(step("t"))
    fuzzer = FlowFuzzer(executor_on(lane, flow, []), flow.model_copy(update={"name": "other"}), [SUCCEEDS])
    with pytest.raises(dw.FlowNotFoundError):
        run(lane, fuzzer, base_input={})


# --- FZ-4 -------------------------------------------------------------------------------------------------------------


async def inc_later(value: Any) -> dict[str, int]:
    await asyncio.sleep(0)
    return {"n": value.n + 1}


async def stream(value: Any) -> AsyncIterator[ToolChunk]:
    yield ToolChunk(data="half")
    yield ToolChunk(data={"n": value.n + 1}, is_final=True)


TOOLS: dict[str, Tool] = {
    "plain": number_tool("t", inc),
    "async": number_tool("t", inc_later),
    "timed": number_tool("t", inc, timeout_seconds=60.0),
    "model": number_tool("t", lambda value: Number(n=value.n + 1)),
    "streaming": StreamingTool(name="t", description="", input_schema=Number, output_schema=Number, stream_fn=stream),
}
each_tool = pytest.mark.parametrize("tool", TOOLS.values(), ids=TOOLS)


@each_lane
@each_tool
def test_fz_4_the_hook_changes_raw_outputs_before_they_are_validated(tool: Tool, lane: str) -> None:
    seen: list[Any] = []

    def hook(name: str, outputs: Any, rng: random.Random) -> Any:
        seen.append((name, outputs, type(rng)))
        return {**outputs, "n": str(outputs["n"] + 10) if outputs["n"] == 2 else "broken"}

    flow = linear(step("t"), step("t"))
    report = run(lane, fuzzer_on(lane, flow, [tool], fault_hook=hook), runs=1, base_input={"n": 1})
    assert seen == [("t", {"n": 2}, random.Random), ("t", {"n": 13}, random.Random)]
    (failure,) = report.failures
    assert [record.outputs for record in failure.result.execution_log] == [{"n": 12}, None]
    assert failure.result.execution_log[1].error_type == "SchemaValidationError"


@each_lane
def test_fz_4_async_tools_stay_async_and_the_rest_of_the_executor_as_it_is(lane: str) -> None:
    class Notes(BaseMiddleware):
        def __init__(self) -> None:
            self.flows: list[str] = []

        def on_flow_end(self, ctx: dw.FlowEndContext) -> None:
            self.flows.append(ctx.flow_name)

    def refuse(context: dw.GuardrailContext) -> None:
        if context.tool_name == "t" and context.inputs["n"] == 5:
            raise ValueError("five")

    notes, flow = Notes(), linear(step("t"))
    tool = number_tool("t", inc_later)
    executor = executor_on(lane, flow, [tool], middleware=[notes], guardrail_callback=refuse)
    loops: list[bool] = []

    def hook(name: str, outputs: Any, rng: random.Random) -> Any:
        loops.append(asyncio.get_running_loop().is_running())
        return outputs

    report = run(lane, FlowFuzzer(executor, flow, [SUCCEEDS], fault_hook=hook), runs=1, base_input={"n": 1})
    assert (report.passed, loops, notes.flows) == (True, [True], ["main"])
    report = run(lane, FlowFuzzer(executor, flow, [SUCCEEDS], fault_hook=hook), runs=1, base_input={"n": 5})
    assert report.failures[0].result.execution_log[0].error_type == "GuardrailViolationError"
    assert executor.get_tool("t") is tool
    assert executor.middleware == (notes,)


@each_lane
@concurrencies
def test_fz_4_the_random_numbers_depend_on_seed_and_case_not_on_what_runs_at_once(lane: str, concurrency: int) -> None:
    flow = dag(*(node(f"s{n}", "t", input_mapping={"n": n}) for n in range(6)), node("r", "t", "s0 s1", source="s0"))

    def numbers(seed: int) -> dict[Any, list[float]]:
        found: dict[Any, list[float]] = {}

        def hook(name: str, outputs: Any, rng: random.Random) -> Any:
            found.setdefault(outputs["n"], []).append(rng.random())
            return outputs

        executor = executor_on(lane, flow, [number_tool("t", inc)], max_step_concurrency=concurrency)
        run(lane, FlowFuzzer(executor, flow, [SUCCEEDS], fault_hook=hook), runs=2, seed=seed, base_input={})
        return found

    first, again, other = numbers(1), numbers(1), numbers(2)
    assert first == again != other
    assert all(len(set(values)) == len(values) for values in first.values())
    assert len({number for values in first.values() for number in values}) == 14


@each_lane
def test_fz_4_the_default_hook_mutates_with_the_given_probability(lane: str) -> None:
    flow = linear(*(step("t") for _ in range(10)))

    def faults(probability: float) -> int:
        total = 0

        def count_changed(result: Any) -> bool:
            nonlocal total
            total += sum(json.dumps(record.outputs) != '{"a": 1, "b": 2}' for record in result.execution_log)
            return True

        tool = tool_of(lambda value: {"a": 1, "b": 2})
        checking = FlowProperty("count", count_changed)
        fuzzer = fuzzer_on(lane, flow, [tool], checking, fault_config=FaultConfig(probability))
        assert run(lane, fuzzer, runs=20, base_input={}).passed
        return total

    assert (faults(0.0), faults(1.0)) == (0, 200)
    assert 60 < faults(0.5) < 140


@each_lane
def test_fz_4_the_same_seed_gives_the_same_faults(lane: str) -> None:
    flow = linear(step("t"), step("t"))

    def failures(seed: int) -> list[Any]:
        fuzzer = fuzzer_on(lane, flow, [number_tool("t", inc)], fault_config=FaultConfig(0.5))
        report = run(lane, fuzzer, seed=seed, base_input={"n": 1})
        return [(each.case_index, [r.error_message for r in each.result.execution_log]) for each in report.failures]

    assert failures(1) == failures(1) != failures(2)


@each_lane
def test_fz_4_a_retry_is_another_chance(lane: str) -> None:
    draws: list[float] = []

    def hook(name: str, outputs: Any, rng: random.Random) -> Any:
        draws.append(rng.random())
        return outputs if len(draws) == 3 else {}

    flow = linear(step("t", retry=RetryPolicy(max_retries=2, backoff_seconds=0.0)))
    assert run(lane, fuzzer_on(lane, flow, [TOOLS["plain"]], fault_hook=hook), runs=1, base_input={"n": 1}).passed
    assert len(set(draws)) == 3


@each_lane
def test_fz_4_no_step_cache_keeps_or_gives_a_fault(lane: str) -> None:
    cache, flow = InMemoryStepCache(), linear(step("t"))
    executor = executor_on(lane, flow, [TOOLS["plain"]], step_cache=cache)
    calls = count()

    def hook(name: str, outputs: Any, rng: random.Random) -> Any:
        next(calls)
        return {"n": 0}

    fuzzer = FlowFuzzer(executor, flow, [SUCCEEDS], fault_hook=hook)
    for _ in range(2):
        assert run(lane, fuzzer, runs=1, base_input={"n": 1}).passed
    assert (next(calls), len(cache)) == (2, 0)


@each_lane
def test_fz_4_a_hook_that_raises_fails_the_step(lane: str) -> None:
    def hook(name: str, outputs: Any, rng: random.Random) -> Any:
        raise OSError("torn")

    report = run(
        lane, fuzzer_on(lane, linear(step("t")), [TOOLS["plain"]], fault_hook=hook), runs=1, base_input={"n": 1}
    )
    assert report.failures[0].result.execution_log[0].error_message == "Execution error in tool 't' at step 0: torn"


# --- the two kinds of executor ----------------------------------------------------------------------------------------


def test_blocking_calls_with_an_awaited_executor_say_what_to_do() -> None:
    flow = linear(step("t"))
    executor: Any = executor_on("AsyncFlowExecutor", flow, [tool_of(echo)])
    with pytest.raises(TypeError, match=r"use `await FlowFuzzer.run_async\(\.\.\.\)`, or a FlowExecutor"):
        FlowFuzzer(executor, flow, [SUCCEEDS]).run(runs=1, seed=0, base_input={})
    with pytest.raises(TypeError, match=r"use `await minimize_failure_async\(\.\.\.\)`, or a FlowExecutor"):
        minimize_failure(executor, flow, {}, SUCCEEDS)


def test_every_lane_finds_the_same() -> None:
    flow = linear(step("t"), step("t"), input_schema_ref=NUMBER)
    found = [
        [
            (failure.case_index, failure.property_name, failure.initial_input, failure.check_error)
            for failure in run(
                lane, fuzzer_on(lane, flow, [TOOLS["async"]], SUCCEEDS, PRESENT, fault_config=FaultConfig(0.3))
            ).failures
        ]
        for lane in LANES
    ]
    assert found[0] == found[1] == found[2] != []
    assert isinstance(executor_on("run", flow, []), FlowExecutor)


class Aliased(BaseModel):
    n: int = Field(alias="theNumber")
    items: list[int] = Field(validation_alias=AliasPath("deep", "items"))


@each_lane
def test_fz_2_cases_are_generated_under_the_keys_that_validation_reads(lane: str) -> None:
    flow = linear(step("t"), input_schema_ref="test_fuzz:Aliased")
    fuzzer = fuzzer_on(lane, flow, [tool_of(echo)])
    first, *others = list(fuzzer.cases(runs=30, seed=0))
    assert first.initial_input.keys() == {"theNumber", "deep"}
    assert first.initial_input["deep"].keys() == {"items"}
    assert sum(each.initial_input.keys() == {"theNumber", "deep"} for each in others) > 14
    report = run(lane, fuzzer, runs=1)
    assert report.failures == []
