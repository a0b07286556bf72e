"""What fails in a run names flow, step and field, and says what to do, alike on both lanes."""

from typing import Any

import pytest

import doubleweave as dw
from executors_under_test import concurrencies, execute, lanes, make_executor
from lanes_under_test import Number
from parity_scenarios import dag, linear, node, step, tools

CONTEXT = {"number": 1, "prefs": {"currency": "DKK", "a/b~": 1}, "rows": [{"price": 2}], "/odd": 1}

SOURCES = {
    "a key with a near one": ("numbr", "take 'number'"),
    "a key without a near one": ("q", "known there are 'number', 'prefs', 'rows'"),
    "a pointer to a key": ("/numbr", "take '/number'"),
    "a pointer into a dict": ("/prefs/curency", "take '/prefs/currency'"),
    "a pointer to a name with a slash": ("/prefs/ab~1", "take '/prefs/a~1b~0'"),
    "a pointer past a wrong token": ("/pref/currency/x", "take '/prefs'"),
    "a pointer into a list": ("/rows/0/prize", "take '/rows/0/price'"),
    "an index that is not there": ("/rows/1/price", "give it in the flow's input, or write it in a step before"),
    "into what has no keys": ("/number/x", "give it in the flow's input, or write it in a step before"),
}


@lanes
@pytest.mark.parametrize(("source", "advice"), SOURCES.values(), ids=SOURCES)
def test_a_missing_source_is_told_with_flow_field_and_what_is_there(lane: str, source: str, advice: str) -> None:
    flow = linear(step("inc", input_mapping={"z": "number", "n": source}))
    record = execute(make_executor([flow], tools()), lane, CONTEXT).execution_log[0]
    fault, _, hint = str(record.error_message).partition(" at step 0. ")
    assert fault.startswith("Input mapping key '")
    assert hint == f"Flow 'main' maps it to field 'n': {advice}."


@lanes
@pytest.mark.parametrize(
    ("keys", "there"),
    [
        ([], "give it in the flow's input, or write it in a step before"),
        ("abcdef", "known there are 'a', 'b', 'c', 'd', 'e' and 1 more"),
    ],
)
def test_what_is_there_is_told_in_short(lane: str, keys: Any, there: str) -> None:
    flow = linear(step("inc", input_mapping={"n": "number"}))
    record = execute(make_executor([flow], tools()), lane, dict.fromkeys(keys, 1)).execution_log[0]
    assert str(record.error_message).endswith(f" Flow 'main' maps it to field 'n': {there}.")


@lanes
@concurrencies
def test_known_are_the_keys_of_the_input_and_of_the_levels_before_whatever_has_run_already(
    lane: str, concurrency: int
) -> None:
    flow = dag(
        node("a", "inc", output_mapping={"first": "n"}),
        node("c", "inc", output_mapping={"aside": "n"}),
        node("b", "inc", after="a", input_mapping={"n": "zzz"}),
        node("d", "inc", after="b", output_mapping={"last": "n"}),
    )
    executor = make_executor([flow], tools(), max_step_concurrency=concurrency)
    record = execute(executor, lane).execution_log[-1]
    assert str(record.error_message).endswith("known there are 'aside', 'first', 'n'.")


@lanes
@pytest.mark.parametrize(
    ("steps", "index", "name", "instead"),
    [
        ([step("inc"), step("dubble")], 1, "dubble", ", or name 'double', which is registered"),
        ([step("gone")], 0, "gone", ""),
        ([step("boom", on_error="fallback:doubel")], 0, "doubel", ", or name 'double', which is registered"),
    ],
)
def test_a_missing_tool_is_told_with_flow_step_and_the_nearest_tool(
    lane: str, steps: list[dw.FlowStep], index: int, name: str, instead: str
) -> None:
    record = execute(make_executor([linear(*steps)], tools()), lane).execution_log[-1]
    assert record.error_message == (
        f"Tool '{name}' is not registered. "
        f"Step {index} of flow 'main' names it: register it with register_tool{instead}."
    )


@lanes
@pytest.mark.parametrize(("given", "gives"), [("one", 1), (1, "one")])
def test_what_does_not_match_a_tool_is_told_with_flow_step_and_tool(lane: str, given: Any, gives: Any) -> None:
    wrong = dw.Tool(name="t", description="", input_schema=Number, output_schema=Number, fn=lambda number: {"n": gives})
    record = execute(make_executor([linear(step("t"))], [wrong]), lane, {"n": given}).execution_log[0]
    first, field, *_, last = str(record.error_message).splitlines()
    assert first == "Schema validation failed for tool 't' at step 0: 1 validation error for Number"
    assert field == "n"
    assert last == (
        "Step 0 of flow 'main': change what the step is given or what tool 't' declares; "
        "check_flow finds such faults before a run."
    )


def test_a_cycle_is_told_with_what_to_change() -> None:
    steps = [dw.DAGFlowStep(step_id=one, tool_name="inc", depends_on=[other]) for one, other in ("ab", "ba")]
    flow = dw.DAGFlow(name="main", version="1", description="", steps=steps)
    with pytest.raises(dw.DAGDefinitionError) as caught:
        dw.validate_dag_topology(flow)
    assert str(caught.value) == (
        "Invalid DAG flow 'main' (cycle): Steps depend on each other: a -> b -> a. "
        "Take one of these out of another's depends_on."
    )


def test_a_hint_is_an_attribute_and_no_error_needs_one() -> None:
    for error in (
        dw.ToolNotFoundError("t"),
        dw.InputMappingError("t", 1, "k"),
        dw.SchemaValidationError("t", 1, "bad"),
    ):
        assert (error.hint, error.__class__.__name__ in dw.error_code_registry()) == ("", True)
    assert str(dw.ToolNotFoundError("t", hint="Do.")) == "Tool 't' is not registered. Do."
    assert dw.ToolNotFoundError("t", hint="Do.").hint == "Do."
