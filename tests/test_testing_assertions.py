"""Comparing results and lanes: TK-9 to TK-11, and `assert_lanes_agree`."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

import doubleweave as dw
from doubleweave import Flow, FlowRegistry, FlowStep, RetryPolicy, StreamingTool, Tool, ToolChunk
from doubleweave.testing import DEFAULT_IGNORE_FIELDS, assert_lanes_agree, assert_result_matches
from executors_under_test import execute, make_executor
from lanes_under_test import Anything, Number, number_tool
from parity_scenarios import dag, double, inc, linear, node, step

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=3),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(st.sampled_from(["a", "b", "duration_ms"]), JSON, max_size=3)


def message_of(check: Callable[[], None]) -> str:
    with pytest.raises(AssertionError) as caught:
        check()
    return str(caught.value)


# --- 4. assert_result_matches -----------------------------------------------------------------------------------------


def test_tk_9_the_default_ignores_ids_and_times() -> None:
    assert DEFAULT_IGNORE_FIELDS == ("trace_id", "started_at", "ended_at", "duration_ms", "total_duration_ms")
    executor = make_executor([linear(step("inc"), step("inc"))], [number_tool("inc", inc)])
    first, second = execute(executor, "sync"), execute(executor, "async")
    assert first.trace_id != second.trace_id
    assert_result_matches(first, second)


def test_tk_9_a_given_ignore_takes_the_place_of_the_default() -> None:
    one, other = {"trace_id": "a", "n": 1}, {"trace_id": "b", "n": 2}
    assert_result_matches(one, other, ignore=["n", "trace_id"])
    assert "$.trace_id" in message_of(lambda: assert_result_matches(one, other, ignore=["n"]))
    assert "(ignored: nothing)" in message_of(lambda: assert_result_matches(one, other, ignore=()))


def test_tk_10_models_are_dumped_and_dicts_are_taken_as_they_are() -> None:
    executor = make_executor([linear(step("inc"))], [number_tool("inc", inc)])
    result = execute(executor, "sync")
    assert_result_matches(result, result.model_dump())
    assert_result_matches(result.model_dump(), execute(executor, "async"))
    message = message_of(lambda: assert_result_matches({"a": Number(n=1)}, {"a": {"n": 1}}))
    assert "$.a: actual Number(n=1), expected {'n': 1}" in message


def test_tk_10_ignored_keys_go_at_every_depth_of_dicts_lists_and_tuples() -> None:
    assert_result_matches(
        {"a": [{"duration_ms": 1, "b": ({"trace_id": 1, "c": 3},)}], "ended_at": 1},
        {"a": [{"duration_ms": 2, "b": ({"c": 3},)}]},
    )


def test_tk_10_plain_equality_decides() -> None:
    assert_result_matches({"a": 1}, {"a": 1.0})
    assert_result_matches(OrderedDict(a=1, b=2), OrderedDict(b=2, a=1))
    message = message_of(lambda: assert_result_matches({"a": [1]}, {"a": (1,)}))
    assert "$.a: actual [1], expected (1,)" in message


def test_tk_11_a_mismatch_lists_what_was_ignored_and_the_paths_of_the_differences() -> None:
    actual = {"a": {"b": 1}, "list": [1, 2, 3], "same": 0, "odd key": "x", "only": 5}
    expected = {"a": {"b": 2}, "list": [1, 2], "same": 0, "odd key": "y", "other": None}
    assert message_of(lambda: assert_result_matches(actual, expected, ignore=["x", "y"])).splitlines() == [
        "the results differ (ignored: x, y)",
        "  $.a.b: actual 1, expected 2",
        "  $.list[2]: actual 3, expected None",
        "  $['odd key']: actual 'x', expected 'y'",
        "  $.only: actual 5, expected None",
        "  $.other: actual None, expected None",
    ]


@pytest.mark.parametrize(
    ("number", "tail"), [(5, None), (6, "  and 1 more differences"), (9, "  and 4 more differences")]
)
def test_tk_11_more_than_five_differences_are_counted(number: int, tail: str | None) -> None:
    lines = message_of(lambda: assert_result_matches({"a": [0] * number}, {"a": [1] * number})).splitlines()
    shown = [f"  $.a[{index}]: actual 0, expected 1" for index in range(5)]
    assert lines[1:] == ([*shown, tail] if tail else shown)


@given(DOCUMENTS, DOCUMENTS)
def test_tk_11_it_raises_exactly_when_the_stripped_values_differ(actual: Any, expected: Any) -> None:
    def stripped(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: stripped(item) for key, item in value.items() if key != "duration_ms"}
        return [stripped(item) for item in value] if isinstance(value, list) else value

    try:
        assert_result_matches(actual, expected)
    except AssertionError:
        assert stripped(actual) != stripped(expected)
    else:
        assert stripped(actual) == stripped(expected)


# --- assert_lanes_agree -----------------------------------------------------------------------------------------------


async def fail_later(value: Any) -> dict[str, int]:
    await asyncio.sleep(0)
    raise OSError("away")


def loud() -> StreamingTool:
    async def chunks(value: Number) -> AsyncIterator[ToolChunk]:
        yield ToolChunk(data="half")
        yield ToolChunk(data={"n": value.n + 1}, is_final=True)

    return StreamingTool(name="t", description="", input_schema=Number, output_schema=Number, stream_fn=chunks)


AGREEING: dict[str, tuple[Any, list[Tool], dict[str, Any], dict[str, Any]]] = {
    "plain and async tools": (
        linear(step("inc"), step("double"), step("inc")),
        [number_tool("inc", inc), number_tool("double", double)],
        {"n": 1},
        {},
    ),
    "failed step": (linear(step("t")), [number_tool("t", fail_later)], {"n": 1}, {}),
    "retried step": (
        linear(step("t", retry=RetryPolicy(max_retries=2, backoff_seconds=0.0))),
        [number_tool("t", fail_later)],
        {"n": 1},
        {},
    ),
    "invalid input": (linear(step("inc")), [number_tool("inc", inc)], {"n": "none"}, {}),
    "missing tool": (linear(step("inc")), [], {"n": 1}, {}),
    "raised error": (linear(step("inc", output_mapping={"a": "b"})), [number_tool("inc", inc)], {"n": 1}, {}),
    "raised before the start": (linear(step("inc"), status=dw.FlowStatus.DISABLED), [], {"n": 1}, {}),
    "streaming tool": (linear(step("t")), [loud()], {"n": 1}, {}),
    "overlapping steps": (
        dag(node("a"), *(node(f"s{n}", "inc", "a", source="a") for n in range(5))),
        [number_tool("inc", inc)],
        {"n": 1},
        {"max_step_concurrency": 4},
    ),
    "cost report": (linear(step("inc")), [number_tool("inc", inc)], {"n": 1}, {"cost_profile": dw.CostProfile()}),
}


@pytest.mark.parametrize("case", AGREEING.values(), ids=AGREEING)
def test_lanes_agree_on_every_kind_of_flow(case: tuple[Any, list[Tool], dict[str, Any], dict[str, Any]]) -> None:
    flow, tools, inputs, settings = case
    assert_lanes_agree(flow, tools, inputs, **settings)


@pytest.mark.parametrize("case", AGREEING.values(), ids=AGREEING)
async def test_lanes_agree_while_an_event_loop_runs(
    case: tuple[Any, list[Tool], dict[str, Any], dict[str, Any]],
) -> None:
    flow, tools, inputs, settings = case
    assert_lanes_agree(flow, iter(tools), inputs, **settings)


def test_lanes_agree_on_a_flow_of_flows_from_a_registry() -> None:
    registry = FlowRegistry()
    registry.register_flow(linear(step("inc"), name="inner"))
    outer = Flow(name="main", description="", steps=[FlowStep(flow_name="inner"), FlowStep(tool_name="inc")])
    assert_lanes_agree(outer, [number_tool("inc", inc)], {"n": 1}, registry=registry)


class Items(BaseModel):
    items: list[str] = []


def test_both_lanes_are_really_run_with_the_same_tools_and_copies_of_the_inputs() -> None:
    inputs: dict[str, Any] = {"items": ["a"]}
    seen: list[tuple[bool, Any]] = []

    def is_awaited() -> bool:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return False
        return True

    def note(given: Any) -> dict[str, Any]:
        seen.append((is_awaited(), given.items))
        given.items.append("b")
        return {}

    class Adding(dw.BaseMiddleware):
        def on_flow_start(self, ctx: dw.FlowStartContext) -> None:
            ctx.initial_input["items"].append("hook")

    tool = Tool(name="t", description="", input_schema=Items, output_schema=Items, fn=note, inline=True)
    assert_lanes_agree(linear(step("t")), [tool], inputs, middleware=[Adding()])
    assert [awaited for awaited, _ in seen] == [False, True]
    assert seen[0][1] == seen[1][1] == ["a", "hook", "b"]
    assert inputs == {"items": ["a"]}


def counting() -> Tool:
    numbers = count()
    return number_tool("t", lambda value: {"n": next(numbers)})


def test_lanes_that_differ_in_results_are_told_by_path() -> None:
    message = message_of(lambda: assert_lanes_agree(linear(step("t")), [counting()], {"n": 7}))
    assert message.splitlines() == [
        "the lanes differ on flow 'main' (ignored: trace_id, started_at, ended_at, duration_ms, total_duration_ms, "
        "actual_execution_ms)",
        "  $.result.final_output.n: blocking 0, awaited 1",
        "  $.result.execution_log[0].outputs.n: blocking 0, awaited 1",
        "  $.hooks[2].StepEndContext.step_record.outputs.n: blocking 0, awaited 1",
        "  $.hooks[3].FlowEndContext.result.final_output.n: blocking 0, awaited 1",
        "  $.hooks[3].FlowEndContext.result.execution_log[0].outputs.n: blocking 0, awaited 1",
    ]


def on_loops_only(value: Any) -> dict[str, int]:
    asyncio.get_running_loop()
    return {"n": 1}


def test_lanes_that_differ_in_errors_are_told_by_path() -> None:
    class Rare(Exception):
        pass

    class Missing(dw.FlowRegistry):
        calls = count()

        def get_flow(self, name: str, *, version: str | None = None) -> Any:
            if next(self.calls) == 1:
                raise Rare("gone")
            return super().get_flow(name, version=version)

    message = message_of(
        lambda: assert_lanes_agree(linear(step("t")), [number_tool("t", inc)], {"n": 1}, registry=Missing())
    )
    assert "$.error: blocking None, awaited {'type': '" in message
    assert "Rare', 'message': 'gone'}" in message


def test_lanes_that_differ_in_hook_calls_alone_are_told() -> None:
    calls = count()

    async def chunks(value: Number) -> AsyncIterator[ToolChunk]:
        yield ToolChunk(data=next(calls))
        yield ToolChunk(data={"n": 1}, is_final=True)

    tool = StreamingTool(name="t", description="", input_schema=Number, output_schema=Number, stream_fn=chunks)
    lines = message_of(lambda: assert_lanes_agree(linear(step("t")), [tool], {"n": 1})).splitlines()
    assert lines[1:] == ["  $.hooks[2].StepChunkContext.chunk.data: blocking 0, awaited 1"]


def test_every_hook_is_compared() -> None:
    calls = count()

    def fail(value: Any) -> dict[str, int]:
        raise OSError(f"call {next(calls)}")

    flow = linear(step("t", retry=RetryPolicy(max_retries=1, backoff_seconds=0.0)))
    message = message_of(lambda: assert_lanes_agree(flow, [number_tool("t", fail)], {"n": 1}))
    assert "$.hooks[2].AttemptEndContext.error_message: blocking 'call 0', awaited 'call 2'" in message


def test_a_tool_that_tells_the_lanes_apart_is_found() -> None:
    tool = number_tool("t", on_loops_only, inline=True)
    message = message_of(lambda: assert_lanes_agree(linear(step("t")), [tool], {"n": 1}))
    assert "$.result.success: blocking False, awaited True" in message


IGNORED = [*DEFAULT_IGNORE_FIELDS, "actual_execution_ms"]


def answering(*answers: Any) -> Tool:
    """Return a tool that gives one answer on the first lane and another on the second."""
    left = iter(answers)
    return Tool(name="t", description="", input_schema=Anything, output_schema=Anything, fn=lambda value: next(left))


def differing(*answers: Any) -> list[str]:
    lines = message_of(lambda: assert_lanes_agree(linear(step("t")), [answering(*answers)], {})).splitlines()
    return [line.strip() for line in lines[1:]]


@pytest.mark.parametrize("name", IGNORED)
def test_lanes_that_differ_in_data_named_as_a_time_are_told(name: str) -> None:
    assert differing({name: 1}, {name: 2})[:2] == [
        f"$.result.final_output.{name}: blocking 1, awaited 2",
        f"$.result.execution_log[0].outputs.{name}: blocking 1, awaited 2",
    ]
    assert differing({"deep": [{name: 1}]}, {"deep": [{name: 2}]})[0] == (
        f"$.result.final_output.deep[0].{name}: blocking 1, awaited 2"
    )


@pytest.mark.parametrize("name", IGNORED)
def test_lanes_that_differ_in_chunks_named_as_a_time_are_told(name: str) -> None:
    calls = count()

    async def chunks(value: Any) -> AsyncIterator[ToolChunk]:
        yield ToolChunk(data={name: next(calls)})
        yield ToolChunk(data={}, is_final=True)

    tool = StreamingTool(name="t", description="", input_schema=Anything, output_schema=Anything, stream_fn=chunks)
    lines = message_of(lambda: assert_lanes_agree(linear(step("t")), [tool], {})).splitlines()
    assert lines[1:] == [f"  $.hooks[2].StepChunkContext.chunk.data.{name}: blocking 0, awaited 1"]


@pytest.mark.parametrize("name", IGNORED)
def test_lanes_that_differ_in_inputs_named_as_a_time_are_told(name: str) -> None:
    calls = count()

    class Adding(dw.BaseMiddleware):
        def on_flow_start(self, ctx: dw.FlowStartContext) -> None:
            ctx.initial_input["deep"][name] = next(calls)

    tool = Tool(name="t", description="", input_schema=Anything, output_schema=Anything, fn=lambda value: {})
    lines = message_of(
        lambda: assert_lanes_agree(linear(step("t")), [tool], {"deep": {}}, middleware=[Adding()])
    ).splitlines()
    assert f"  $.result.execution_log[0].inputs.deep.{name}: blocking 0, awaited 1" in lines
    assert f"  $.result.initial_input.deep.{name}: blocking 0, awaited 1" in lines


@pytest.mark.parametrize(
    ("left", "right"),
    [(1, True), (1, 1.0), (0, False), ({1}, {True}), (frozenset({1}), frozenset({1.0})), ({1: "a"}, {True: "a"})],
)
def test_lanes_that_differ_in_types_are_told(left: Any, right: Any) -> None:
    for one, other in ((left, right), (right, left)):
        assert differing({"x": one}, {"x": other})[0] == (
            f"$.result.final_output.x: blocking {one!r}, awaited {other!r}"
        )
        assert differing({"x": [0, one]}, {"x": [0, other]})[0] == (
            f"$.result.final_output.x[1]: blocking {one!r}, awaited {other!r}"
        )


def test_lanes_agree_on_nan() -> None:
    def nans() -> dict[str, Any]:
        return {"x": float("nan"), "deep": [{"y": (float("nan"),)}]}

    assert_lanes_agree(linear(step("t")), [answering(nans(), nans())], {})
    assert differing(nans(), {**nans(), "x": 0.5})[0] == "$.result.final_output.x: blocking nan, awaited 0.5"


def test_lanes_agree_on_a_decision_however_long_it_took() -> None:
    flow = linear(FlowStep(tool_name="t", decision_candidates=["t", "u"]))
    asked: list[str] = []

    def decide(ctx: dw.DecisionContext) -> str:
        asked.append(ctx.flow_name)
        return "t"

    assert_lanes_agree(flow, [number_tool("t", inc), number_tool("u", inc)], {"n": 1}, decision_callback=decide)
    assert asked == ["main", "main"]
