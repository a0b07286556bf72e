"""The bundled tools: what each gives, every way to fail, and the two that run flows, on both lanes."""

import asyncio
import subprocess
import sys
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

import doubleweave as dw
from doubleweave import ContribError, FlowStep, Tool
from doubleweave.contrib import assert_equal, filter_list, json_pluck, json_set, map_list, passthrough
from executors_under_test import execute, lanes, make_executor
from parity_scenarios import linear, step

READY = {"passthrough": passthrough, "json_pluck": json_pluck, "json_set": json_set, "assert_equal": assert_equal}


def run(tool: Tool, raw: dict[str, Any]) -> Any:
    return tool.run(raw)


def run_async(tool: Tool, raw: dict[str, Any]) -> Any:
    return asyncio.run(tool.run_async(raw))


directly = pytest.mark.parametrize("call", [run, run_async])


@pytest.mark.parametrize("name", READY)
def test_the_first_four_are_tools_made_of_functions(name: str) -> None:
    tool = READY[name]
    assert (tool.name, tool.cacheable, tool.is_async, repr(tool)) == (name, True, False, f"Tool(name='{name}')")
    assert tool.description
    assert tool.input_schema.__name__ == f"{name}_input"


def test_they_can_be_called_as_the_functions_that_they_are() -> None:
    data = {"a": [1]}
    assert passthrough(data).data == data
    assert json_pluck(data, "/a").value is data["a"]
    assert json_set(data, "/b", 2).data == {"a": [1], "b": 2}
    assert assert_equal(1, 1.0).equal is True


# --- passthrough ----------------------------------------------------------------------------------------------------


@directly
@pytest.mark.parametrize("data", [{}, {"a": None, "b": [1, {"c": "x"}], "": 1.5}, {1: 2}])
def test_passthrough_returns_its_data_unchanged(call: Any, data: dict[Any, Any]) -> None:
    assert call(passthrough, {"data": data}) == {"data": data}


# --- json_pluck -----------------------------------------------------------------------------------------------------

DATA = {"a": {"b": [10, {"c": None}]}, "": "empty", "x/y": 1, "m~n": 2, "text": "abc"}


@directly
@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("", DATA),
        ("/a/b", [10, {"c": None}]),
        ("/a/b/0", 10),
        ("/a/b/01", {"c": None}),
        ("/a/b/1/c", None),
        ("/", "empty"),
        ("/x~1y", 1),
        ("/m~0n", 2),
    ],
)
def test_json_pluck_returns_what_the_pointer_addresses(call: Any, pointer: str, value: Any) -> None:
    assert call(json_pluck, {"data": DATA, "pointer": pointer}) == {"value": value}


BAD_POINTERS = [
    ("a", "must start with '/'"),
    ("a/b", "must start with '/'"),
    ("/a/b/-/d", "failed at '/a/b/-': list index '-' is not an integer"),
    ("/a/b/2/d", "failed at '/a/b/2': list index 2 is out of range for list of length 2"),
    ("/a/b/-1/d", "failed at '/a/b/-1': list index -1 is out of range for list of length 2"),
    ("/a/b/0/d", "failed at '/a/b/0/d': cannot descend into int"),
]


@directly
@pytest.mark.parametrize(
    ("pointer", "fragment"),
    [
        *BAD_POINTERS,
        ("/gone", "failed at '/gone': key 'gone' not found"),
        ("/a/gone/b", "failed at '/a/gone': key 'gone' not found"),
        ("/text/0", "failed at '/text/0': cannot descend into str"),
        ("/a/b/1/c/d", "failed at '/a/b/1/c/d': cannot descend into NoneType"),
    ],
)
def test_json_pluck_fails_as_pointers_do(call: Any, pointer: str, fragment: str) -> None:
    with pytest.raises(ContribError) as caught:
        call(json_pluck, {"data": DATA, "pointer": pointer})
    assert (caught.value.tool_name, fragment in caught.value.detail) == ("json_pluck", True)


# --- json_set -------------------------------------------------------------------------------------------------------


@directly
@pytest.mark.parametrize(
    ("data", "pointer", "expected"),
    [
        ({}, "/a", {"a": 9}),
        ({"a": 1, "b": 2}, "/a", {"a": 9, "b": 2}),
        ({"a": {"b": 1, "c": 2}}, "/a/b", {"a": {"b": 9, "c": 2}}),
        ({"a": [1, 2, 3]}, "/a/1", {"a": [1, 9, 3]}),
        ({"a": [[1], {"b": 2}]}, "/a/0/0", {"a": [[9], {"b": 2}]}),
        ({"a": [[1], {"b": 2}]}, "/a/1/c/d", {"a": [[1], {"b": 2, "c": {"d": 9}}]}),
        ({}, "/a/b/c", {"a": {"b": {"c": 9}}}),
        ({"a": 1}, "/a/b", {"a": {"b": 9}}),
        ({"a": None}, "/a/b", {"a": {"b": 9}}),
        ({"a": "text"}, "/a/0", {"a": {"0": 9}}),
        ({}, "/", {"": 9}),
        ({}, "/x~1y/m~0n", {"x/y": {"m~n": 9}}),
        ({}, "/0/-", {"0": {"-": 9}}),
    ],
)
def test_json_set_ct_1_sets_one_value_and_makes_the_dicts_on_the_way(
    call: Any, data: dict[str, Any], pointer: str, expected: dict[str, Any]
) -> None:
    before = deepcopy(data)
    assert call(json_set, {"data": data, "pointer": pointer, "value": 9}) == {"data": expected}
    assert data == before


@directly
@pytest.mark.parametrize(
    ("pointer", "fragment"),
    [
        *BAD_POINTERS,
        ("", "root"),
        ("/a/b/2", "failed at '/a/b/2': list index 2 is out of range for list of length 2"),
        ("/a/b/-", "failed at '/a/b/-': list index '-' is not an integer"),
        ("/a/b/0/d/e", "failed at '/a/b/0/d': cannot descend into int"),
    ],
)
def test_json_set_ct_1_fails_for_the_root_and_for_bad_pointers_and_indices(
    call: Any, pointer: str, fragment: str
) -> None:
    with pytest.raises(ContribError) as caught:
        call(json_set, {"data": DATA, "pointer": pointer, "value": 9})
    assert (caught.value.tool_name, fragment in caught.value.detail) == ("json_set", True)


@directly
def test_json_set_ct_1_does_not_replace_what_holds_values_and_is_neither_a_dict_nor_a_list(call: Any) -> None:
    with pytest.raises(ContribError, match="failed at '/a/0': cannot descend into tuple"):
        call(json_set, {"data": {"a": (1, 2)}, "pointer": "/a/0", "value": 9})


def test_json_set_ct_1_copies_only_the_containers_on_the_path() -> None:
    data: dict[str, Any] = {"way": {"list": [{"x": 1}, {"y": 2}], "beside": []}, "other": {}}
    made = json_set(data, "/way/list/0/x", 9).data
    assert data == {"way": {"list": [{"x": 1}, {"y": 2}], "beside": []}, "other": {}}
    assert made["other"] is data["other"]
    assert made["way"]["beside"] is data["way"]["beside"]
    assert made["way"]["list"][1] is data["way"]["list"][1]


json_data = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "0", ""]), inner),
    max_leaves=8,
)
documents = st.dictionaries(st.sampled_from(["a", "b", "0", ""]), json_data, max_size=4)
pointers = st.lists(st.sampled_from(["a", "b", "0", "1", ""]), min_size=1, max_size=4).map(lambda t: "/" + "/".join(t))


@settings(deadline=None)
@given(documents, pointers, json_data)
def test_what_json_set_has_set_json_pluck_finds(data: dict[str, Any], pointer: str, value: Any) -> None:
    before, detail, made = deepcopy(data), "", {}
    try:
        made = json_set.run({"data": data, "pointer": pointer, "value": value})["data"]
    except ContribError as error:
        detail = error.detail
    if detail:
        assert "list index" in detail or "cannot descend" in detail
    else:
        assert json_pluck.run({"data": made, "pointer": pointer}) == {"value": value}
    assert data == before


# --- assert_equal ---------------------------------------------------------------------------------------------------


@directly
@pytest.mark.parametrize(("left", "right"), [(1, 1), (1, 1.0), (None, None), ({"a": [1]}, {"a": [1]}), ("", "")])
def test_assert_equal_says_true_of_equal_values(call: Any, left: Any, right: Any) -> None:
    assert call(assert_equal, {"left": left, "right": right}) == {"equal": True}


@directly
@pytest.mark.parametrize(
    ("left", "right", "detail"),
    [
        (1, "1", "values differ: 1 != '1'"),
        ({"a": 1}, {"a": 2}, "values differ: {'a': 1} != {'a': 2}"),
        ("x" * 78, None, f"values differ: '{'x' * 78}' != None"),
        ("x" * 79, "y" * 200, f"values differ: '{'x' * 76}... != '{'y' * 76}..."),
    ],
)
def test_assert_equal_shows_what_differs_and_cuts_what_is_long(call: Any, left: Any, right: Any, detail: str) -> None:
    with pytest.raises(ContribError) as caught:
        call(assert_equal, {"left": left, "right": right})
    assert (caught.value.tool_name, caught.value.detail) == ("assert_equal", detail)


# --- ContribError ---------------------------------------------------------------------------------------------------


@lanes
def test_contrib_error_names_the_tool_and_fails_a_run_like_any_error(lane: str) -> None:
    error = ContribError("assert_equal", "values differ: 1 != 2")
    assert (error.code, str(error)) == ("CW-E023", "Contrib tool 'assert_equal' failed: values differ: 1 != 2.")
    flow = linear(step("json_pluck"), step("assert_equal", input_mapping={"left": "value", "right": 2}))
    executor = make_executor([flow], READY.values())
    result = execute(executor, lane, {"data": {"a": 1}, "pointer": "/a"})
    record = result.execution_log[-1]
    assert (result.success, record.tool_name, record.error_type) == (False, "assert_equal", "FlowExecutionError")
    assert record.error_message == f"Execution error in tool 'assert_equal' at step 1: {error}"
    passed = execute(executor, lane, {"data": {"a": 2}, "pointer": "/a"})
    assert passed.final_output == {"data": {"a": 2}, "pointer": "/a", "value": 2, "equal": True}


# --- map_list and filter_list ---------------------------------------------------------------------------------------


class Item(BaseModel):
    item: int


class Judged(BaseModel):
    item: int
    keep: Any = None


def halve(v: Any) -> dict[str, Any]:
    if v.item < 0:
        raise ValueError("below zero")
    return {"item": v.item // 2, "keep": [] if v.item % 2 else "even"}


async def halve_async(v: Any) -> dict[str, Any]:
    await asyncio.sleep(0)
    return halve(v)


def half(name: str = "half", fn: Any = halve) -> Tool:
    return Tool(name=name, description="", input_schema=Item, output_schema=Judged, fn=fn)


HALVE = linear(step("half", output_mapping={"half": "item", "keep": "keep"}), name="halve")
ASYNC = linear(step("half_async", output_mapping={"half": "item", "keep": "keep"}), name="halve_async")
BARE = linear(step("half", output_mapping={}), name="bare")
GONE = linear(step("gone"), name="broken")
MAIN = linear(step("lists"))
FACTORIES: list[Any] = [map_list, filter_list]
KINDS: list[Any] = [dw.FlowExecutor, dw.AsyncFlowExecutor]
factories = pytest.mark.parametrize("factory", FACTORIES)
kinds = pytest.mark.parametrize("kind", KINDS)
flows = pytest.mark.parametrize("flow", ["halve", "halve_async"])


class Started:
    """Writes down the input of each run."""

    def __init__(self) -> None:
        self.inputs: list[Any] = []

    def on_flow_start(self, ctx: Any) -> None:
        self.inputs.append((ctx.flow_name, ctx.initial_input))


def executor_of(kind: Any, *middleware: Any) -> Any:
    tools = [half(), half("half_async", halve_async)]
    return make_executor([HALVE, ASYNC, BARE, GONE, MAIN], tools, kind, middleware=middleware)


@kinds
@directly
@flows
def test_map_list_ct_2_runs_the_flow_for_each_item_in_order(kind: Any, call: Any, flow: str) -> None:
    started = Started()
    tool = map_list(subflow_name=flow, executor=executor_of(kind, started))
    assert call(tool, {"items": [4, 7]}) == {
        "items": [{"item": 4, "half": 2, "keep": "even"}, {"item": 7, "half": 3, "keep": []}]
    }
    assert started.inputs == [(flow, {"item": 4}), (flow, {"item": 7})]
    assert call(tool, {"items": []}) == {"items": []}


@kinds
@directly
@flows
def test_filter_list_ct_2_keeps_the_items_whose_run_gives_something_true(kind: Any, call: Any, flow: str) -> None:
    executor = executor_of(kind)
    tool = filter_list(subflow_name=flow, executor=executor)
    assert call(tool, {"items": [4, 7, 0, 4]}) == {"items": [4, 0, 4]}
    halves = filter_list(subflow_name=flow, executor=executor, predicate_key="half")
    assert call(halves, {"items": [1, 2, 0]}) == {"items": [2]}


@factories
@kinds
def test_ct_2_the_factories_give_plain_tools_that_are_not_cached(factory: Any, kind: Any) -> None:
    executor = executor_of(kind)
    tool = factory(subflow_name="halve", executor=executor)
    assert type(tool) is Tool
    assert (tool.name, tool.cacheable) == (f"{factory.__name__}[halve]", False)
    assert (tool.is_async, "'halve'" in tool.description) == (kind is dw.AsyncFlowExecutor, True)
    named = factory(subflow_name="halve", executor=executor, name="each", description="")
    assert (named.name, named.description) == ("each", "")
    assert (tool.input_fields(), tool.output_fields()) == ({"items": "list"}, {"items": "list"})


@factories
@kinds
@directly
def test_ct_2_the_item_goes_under_its_key(factory: Any, kind: Any, call: Any) -> None:
    started = Started()
    tool = factory(subflow_name="halve", executor=executor_of(kind, started), item_key="one", name="each")
    with pytest.raises(ContribError, match="'each' failed: flow 'halve' failed on item index 0: "):
        call(tool, {"items": [4]})
    assert started.inputs == [("halve", {"one": 4})]


@factories
@kinds
@directly
def test_ct_2_the_first_failure_stops_it(factory: Any, kind: Any, call: Any) -> None:
    started = Started()
    tool = factory(subflow_name="halve", executor=executor_of(kind, started))
    with pytest.raises(ContribError) as caught:
        call(tool, {"items": [2, -1, 4]})
    assert (caught.value.tool_name, caught.value.detail) == (
        f"{factory.__name__}[halve]",
        "flow 'halve' failed on item index 1: Execution error in tool 'half' at step 0: below zero",
    )
    assert [inputs for _, inputs in started.inputs] == [{"item": 2}, {"item": -1}]


@factories
@kinds
@directly
def test_the_detail_ends_without_a_stop_of_its_own(factory: Any, kind: Any, call: Any) -> None:
    with pytest.raises(ContribError) as caught:
        call(factory(subflow_name="broken", executor=executor_of(kind)), {"items": [1]})
    assert caught.value.detail == (
        "flow 'broken' failed on item index 0: Tool 'gone' is not registered. "
        "Step 0 of flow 'broken' names it: register it with register_tool"
    )


@kinds
@directly
def test_filter_list_fails_when_the_key_is_absent(kind: Any, call: Any) -> None:
    started = Started()
    tool = filter_list(subflow_name="bare", executor=executor_of(kind, started))
    with pytest.raises(ContribError) as caught:
        call(tool, {"items": [1, 2]})
    assert caught.value.detail == "flow 'bare' did not produce key 'keep' for item index 0"
    assert len(started.inputs) == 1


@factories
@kinds
@directly
def test_a_flow_that_cannot_be_run_is_the_executor_s_error(factory: Any, kind: Any, call: Any) -> None:
    tool = factory(subflow_name="nowhere", executor=executor_of(kind))
    with pytest.raises(dw.FlowNotFoundError):
        call(tool, {"items": [1]})
    with pytest.raises(ValidationError):
        call(tool, {"items": 1})


class Silent(dw.FlowExecutor):
    """An executor of somebody's own, whose results lack what those of the library always have."""

    success = False

    def execute_flow(self, *args: Any, **kwargs: Any) -> dw.ExecutionResult:
        result = super().execute_flow(*args, **kwargs)
        return result.model_copy(update={"success": self.success, "final_output": None})


@factories
@pytest.mark.parametrize("success", [True, False])
def test_a_result_that_says_less_is_a_failure_too(factory: Any, success: bool) -> None:
    executor = executor_of(Silent)
    executor.success = success
    with pytest.raises(ContribError, match=r"failed on item index 0: its result does not say why\.$"):
        factory(subflow_name="halve", executor=executor).run({"items": [1]})


@lanes
@kinds
@flows
def test_inside_a_flow_they_work_on_both_lanes_with_both_executors(lane: str, kind: Any, flow: str) -> None:
    inner = executor_of(kind)
    outer = linear(
        step("map"),
        FlowStep(tool_name="filter", input_mapping={"items": "numbers"}, output_mapping={"even": "items"}),
    )
    tools = [
        map_list(subflow_name=flow, executor=inner, name="map"),
        filter_list(subflow_name=flow, executor=inner, name="filter"),
    ]
    executor = make_executor([outer], tools)
    result = execute(executor, lane, {"items": [2, 3], "numbers": [2, 3]})
    assert result.success
    assert result.final_output == {
        "items": [{"item": 2, "half": 1, "keep": "even"}, {"item": 3, "half": 1, "keep": []}],
        "numbers": [2, 3],
        "even": [2],
    }


def test_contrib_is_reached_from_the_package_but_not_in_its_root() -> None:
    code = (
        "import sys, doubleweave\n"
        "assert 'doubleweave.contrib' not in sys.modules\n"
        "print(doubleweave.contrib.json_pluck.name, hasattr(doubleweave, 'json_pluck'))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "json_pluck False\n"
