"""Making a failing input small: FZ-5."""

import asyncio
from typing import Any

import pytest
from hypothesis import given

from doubleweave import (
    FlowProperty,
    FuzzConfigError,
    Tool,
    minimize_failure,
    minimize_failure_async,
)
from executors_under_test import make_executor
from fuzz_under_test import OBJECTS, SUCCEEDS, each_lane, echo, executor_on, tool_of
from parity_scenarios import linear, step

# --- FZ-5 -------------------------------------------------------------------------------------------------------------


def minimized(lane: str, flow: Any, tool: Tool, inputs: dict[str, Any], prop: FlowProperty, **options: Any) -> Any:
    executor = executor_on(lane, flow, [tool])
    if lane == "run":
        return minimize_failure(executor, flow, inputs, prop, **options)
    return asyncio.run(minimize_failure_async(executor, flow, inputs, prop, **options))


def too_many(value: Any) -> dict[str, Any]:
    given = value.model_dump()
    if len(given.get("items", [])) + given.get("n", 0) > 3:
        raise ValueError("too many")
    return {}


@each_lane
def test_fz_5_keys_are_dropped_and_values_made_simple(lane: str) -> None:
    given_input = {"n": 5, "word": "abc", "flag": True, "x": 1.5, "items": [1, 2], "deep": {"y": 1}, "none": None}
    assert minimized(lane, linear(step("t")), tool_of(too_many), given_input, SUCCEEDS) == {"n": 5}
    assert given_input["items"] == [1, 2]


class NeedsAll:
    """Fails as long as every key is there with a value of its type; tells what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def __call__(self, value: Any) -> dict[str, Any]:
        given = value.model_dump()
        self.asked.append(given)
        if set(given) >= {"a", "b", "c", "d", "e", "f"}:
            raise ValueError("all there")
        return {}


@each_lane
def test_fz_5_the_simplest_of_each_type(lane: str) -> None:
    given_input = {"a": True, "b": 7, "c": 2.5, "d": "word", "e": [1], "f": {"x": 1}, "g": None}
    smallest = minimized(lane, linear(step("t")), tool_of(NeedsAll()), given_input, SUCCEEDS)
    assert smallest == {"a": False, "b": 0, "c": 0.0, "d": "", "e": [], "f": {}}
    assert [type(value) for value in smallest.values()] == [bool, int, float, str, list, dict]


@each_lane
def test_fz_5_keys_first_and_in_sorted_order_then_values_in_rounds_until_nothing_changes(lane: str) -> None:
    asked: list[Any] = []

    def fails(value: Any) -> dict[str, Any]:
        given = value.model_dump()
        asked.append(given)
        # `a` can go only when `b` is simple.
        if "b" in given and ("a" in given or given["b"] == 0):
            raise ValueError("bad")
        return {}

    assert minimized(lane, linear(step("t")), tool_of(fails), {"b": 1, "a": 0}, SUCCEEDS) == {"b": 0}
    assert asked == [
        {"b": 1, "a": 0},
        *({"b": 1}, {"a": 0}, {"b": 0, "a": 0}),
        *({"b": 0}, {}),
        {},
    ]


@each_lane
def test_fz_5_no_more_than_max_rounds(lane: str) -> None:
    given_input = {"b": 1, "a": 0}

    def fails(value: Any) -> dict[str, Any]:
        given = value.model_dump()
        if "b" in given and ("a" in given or given["b"] == 0):
            raise ValueError("bad")
        return {}

    flow, tool = linear(step("t")), tool_of(fails)
    assert minimized(lane, flow, tool, given_input, SUCCEEDS, max_rounds=0) == {"b": 1, "a": 0}
    assert minimized(lane, flow, tool, given_input, SUCCEEDS, max_rounds=1) == {"b": 0, "a": 0}
    assert minimized(lane, flow, tool, given_input, SUCCEEDS, max_rounds=2) == {"b": 0}


@given(OBJECTS)
def test_fz_5_the_result_still_violates_and_nothing_more_can_go(data: dict[str, Any]) -> None:
    flow = linear(step("t"))

    def fails(value: Any) -> dict[str, Any]:
        if len(value.model_dump()) > 1:
            raise ValueError("bad")
        return {}

    executor = make_executor([flow], [tool_of(fails)])

    def is_bad(inputs: dict[str, Any]) -> bool:
        return not executor.execute_flow("main", inputs).success

    if not is_bad(data):
        with pytest.raises(FuzzConfigError):
            minimize_failure(executor, flow, data, SUCCEEDS)
        return
    smallest = minimize_failure(executor, flow, data, SUCCEEDS)
    assert is_bad(smallest)
    assert not any(is_bad({k: v for k, v in smallest.items() if k != key}) for key in smallest)
    assert all(value in (None, False, 0, 0.0, "", [], {}) for value in smallest.values())


@each_lane
def test_fz_5_a_check_that_raises_is_a_violation_here_too(lane: str) -> None:
    prop = FlowProperty("has_m", lambda result: (result.final_output or {})["m"])
    assert minimized(lane, linear(step("t")), tool_of(echo), {"n": 1}, prop) == {}


@each_lane
def test_fz_5_an_input_that_does_not_violate_is_refused(lane: str) -> None:
    with pytest.raises(FuzzConfigError, match="does not violate the property 'flow_succeeds'"):
        minimized(lane, linear(step("t")), tool_of(echo), {"n": 1}, SUCCEEDS)
