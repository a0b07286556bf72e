"""Flows and tools as function descriptions and as functions, with both kinds of executor."""

import asyncio
import inspect
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel, Field, ValidationError

import doubleweave as dw
from doubleweave import DAGFlowStep, FlowStep, Tool
from doubleweave.export import (
    derive_flow_input_schema,
    derive_flow_output_schema,
    flow_to_anthropic_tool,
    flow_to_callable,
    flow_to_openai_function,
    tool_to_anthropic_tool,
    tool_to_callable,
    tool_to_openai_function,
)
from lanes_under_test import Number, Recorder, number_tool
from parity_scenarios import boom, dag, double, inc, linear, node, step

KINDS: list[Any] = [dw.FlowExecutor, dw.AsyncFlowExecutor]
GONE = "Tool 'gone' is not registered. Step {} of flow 'main' names it: register it with register_tool."
kinds = pytest.mark.parametrize("kind", KINDS)


class Inner(BaseModel):
    text: str


class Outer(BaseModel):
    """What to do."""

    n: int = Field(description="how many", ge=0)
    parts: list[Inner] = []


OUTER = f"{__name__}:Outer"
NUMBER_JSON = {"type": "object", "properties": {"n": {"title": "N", "type": "integer"}}, "required": ["n"]}
OUTER_JSON = {
    "$defs": {
        "Inner": {
            "type": "object",
            "title": "Inner",
            "properties": {"text": {"title": "Text", "type": "string"}},
            "required": ["text"],
        }
    },
    "description": "What to do.",
    "type": "object",
    "properties": {
        "n": {"title": "N", "description": "how many", "type": "integer", "minimum": 0},
        "parts": {"title": "Parts", "type": "array", "default": [], "items": {"$ref": "#/$defs/Inner"}},
    },
    "required": ["n"],
}
DOCUMENT = {"title": "Document", "type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
DOCUMENT_JSON = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
SUB = FlowStep(flow_name="other")


def tools() -> list[Tool]:
    outer = Tool(name="outer", description="", input_schema=Outer, output_schema=Outer, fn=dict)
    document = Tool(name="document", description="", input_schema=DOCUMENT, output_schema=DOCUMENT, fn=dict)
    return [number_tool("inc", inc), number_tool("double", double), number_tool("boom", boom), outer, document]


def executor_of(kind: Any, *flows: dw.AnyFlow, **settings: Any) -> Any:
    registry = dw.FlowRegistry()
    for flow in flows:
        registry.register_flow(flow)
    executor = kind(registry, **settings)
    for tool in tools():
        executor.register_tool(tool)
    return executor


def called(function: Callable[[dict[str, Any]], Any], data: Any) -> Any:
    answer = function(data)
    return asyncio.run(answer) if inspect.iscoroutine(answer) else answer


# --- The shapes -----------------------------------------------------------------------------------------------------


@kinds
def test_flow_to_openai_function_has_exactly_its_keys(kind: Any) -> None:
    flow = linear(step("inc"), name="add").model_copy(update={"description": "adds one"})
    assert flow_to_openai_function(flow, executor_of(kind)) == {
        "type": "function",
        "function": {"name": "add", "description": "adds one", "parameters": NUMBER_JSON},
    }


@kinds
def test_flow_to_anthropic_tool_has_exactly_its_keys(kind: Any) -> None:
    flow = linear(step("inc"), name="add").model_copy(update={"description": "adds one"})
    assert flow_to_anthropic_tool(flow, executor_of(kind)) == {
        "name": "add",
        "description": "adds one",
        "input_schema": NUMBER_JSON,
    }


def test_tool_to_openai_function_and_tool_to_anthropic_tool_take_what_the_tool_has() -> None:
    tool = number_tool("inc", inc)
    assert tool_to_openai_function(tool) == {
        "type": "function",
        "function": {"name": "inc", "description": "inc", "parameters": NUMBER_JSON},
    }
    assert tool_to_anthropic_tool(tool) == {"name": "inc", "description": "inc", "input_schema": NUMBER_JSON}


@pytest.mark.parametrize(
    ("options", "name", "description"),
    [({}, "main", ""), ({"name": "other"}, "other", ""), ({"name": "", "description": "does"}, "", "does")],
)
def test_xp_1_name_and_description_default_to_those_of_the_flow_or_tool(
    options: dict[str, Any], name: str, description: str
) -> None:
    executor = executor_of(dw.FlowExecutor)
    flow = linear(step("inc"))
    tool = Tool(name="main", description="", input_schema=Number, output_schema=Number, fn=inc)
    for openai in (flow_to_openai_function(flow, executor, **options), tool_to_openai_function(tool, **options)):
        assert (openai["function"]["name"], openai["function"]["description"]) == (name, description)
    for anthropic in (flow_to_anthropic_tool(flow, executor, **options), tool_to_anthropic_tool(tool, **options)):
        assert (anthropic["name"], anthropic["description"]) == (name, description)


# --- XP-1: the input schema -----------------------------------------------------------------------------------------


def test_xp_1_the_json_schema_has_no_title_at_the_top_and_keeps_its_definitions() -> None:
    executor = executor_of(dw.FlowExecutor)
    assert flow_to_anthropic_tool(linear(step("outer")), executor)["input_schema"] == OUTER_JSON
    assert tool_to_anthropic_tool(executor.get_tool("outer"))["input_schema"] == OUTER_JSON


def test_xp_1_a_json_schema_document_is_given_out_as_a_copy() -> None:
    executor = executor_of(dw.FlowExecutor)
    for _ in range(2):
        parameters = flow_to_openai_function(linear(step("document")), executor)["function"]["parameters"]
        assert parameters == DOCUMENT_JSON
        parameters["properties"]["n"]["type"] = "string"
    assert executor.get_tool("document").input_schema.document == DOCUMENT


@kinds
@pytest.mark.parametrize("given", [Outer, DOCUMENT, dw.JsonSchema(DOCUMENT)])
@pytest.mark.parametrize("flow", [linear(step("inc")), linear(), linear(SUB), linear(input_schema_ref="nowhere:X")])
def test_xp_1_a_given_input_schema_wins(kind: Any, given: Any, flow: dw.AnyFlow) -> None:
    executor = executor_of(kind)
    expected = OUTER_JSON if given is Outer else DOCUMENT_JSON
    described = flow_to_openai_function(flow, executor, input_schema=given)
    assert described["function"]["parameters"] == expected
    assert flow_to_anthropic_tool(flow, executor, input_schema=given)["input_schema"] == expected


@kinds
def test_derive_flow_input_schema_xp_1_is_the_flow_s_own_else_that_of_its_first_tool(kind: Any) -> None:
    executor = executor_of(kind)
    assert derive_flow_input_schema(linear(step("inc"), step("outer")), executor) is Number
    assert derive_flow_input_schema(linear(SUB, input_schema_ref=OUTER), executor) is Outer
    assert derive_flow_input_schema(dag(node("b", "outer", after="a"), node("a", "inc")), executor) is Outer
    assert derive_flow_input_schema(linear(step("document")), executor) == dw.JsonSchema(DOCUMENT)


UNKNOWN = [
    (linear(), "no steps"),
    (linear(input_schema_ref=OUTER), "no steps"),
    (linear(step("inc"), input_schema_ref="nowhere:X"), "Cannot import module"),
    (linear(SUB, step("inc")), "sub-flow 'other'"),
    (linear(step("gone"), step("inc")), "tool 'gone'"),
]


@kinds
@pytest.mark.parametrize(("flow", "fragment"), UNKNOWN)
@pytest.mark.parametrize(
    "export", [derive_flow_input_schema, flow_to_openai_function, flow_to_anthropic_tool, flow_to_callable]
)
def test_xp_1_what_cannot_be_derived_is_refused(kind: Any, flow: dw.AnyFlow, fragment: str, export: Any) -> None:
    with pytest.raises(dw.ToolDefinitionError) as caught:
        export(flow, executor_of(kind))
    assert caught.value.function_name == flow.name
    assert fragment in caught.value.detail


# --- XP-2: the output schema ----------------------------------------------------------------------------------------


@kinds
@pytest.mark.parametrize(
    ("flow", "expected"),
    [
        (linear(step("inc"), step("outer")), Outer),
        (linear(step("outer"), SUB, output_schema_ref=OUTER), Outer),
        (linear(output_schema_ref=OUTER), Outer),
        (dag(node("b", "outer", after="a"), node("a")), Outer),
        (dag(node("a"), node("b"), output_schema_ref=OUTER), Outer),
        (linear(step("document")), dw.JsonSchema(DOCUMENT)),
        (linear(), None),
        (dag(), None),
        (linear(step("inc"), output_schema_ref="nowhere:X"), None),
        (linear(step("inc"), SUB), None),
        (linear(step("inc"), step("gone")), None),
        (dag(node("a"), node("b")), None),
        (dag(node("a", after="b"), node("b", after="a")), None),
        (dag(node("a"), DAGFlowStep(step_id="b", flow_name="other", depends_on=["a"])), None),
    ],
)
def test_derive_flow_output_schema_xp_2_is_none_when_there_is_no_telling(
    kind: Any, flow: dw.AnyFlow, expected: Any
) -> None:
    assert derive_flow_output_schema(flow, executor_of(kind)) == expected


@pytest.mark.parametrize(
    ("derive", "field"),
    [(derive_flow_input_schema, "input_schema_ref"), (derive_flow_output_schema, "output_schema_ref")],
)
def test_xp_2_a_ref_that_the_policy_refuses_passes_through(derive: Any, field: str) -> None:
    flow = linear(step("inc"), **{field: OUTER})
    with dw.schema_ref_policy(dw.SchemaRefAllowlist([])), pytest.raises(dw.SchemaRefPolicyError):
        derive(flow, executor_of(dw.FlowExecutor))


# --- XP-3: functions ------------------------------------------------------------------------------------------------


@kinds
def test_flow_to_callable_xp_3_runs_the_flow_and_returns_the_whole_final_output(kind: Any) -> None:
    flow = linear(step("inc"), step("double", output_mapping={"twice": "n"}))
    recorder = Recorder()
    call = flow_to_callable(flow, executor_of(kind, flow, middleware=[recorder]))
    assert inspect.iscoroutinefunction(call) is (kind is dw.AsyncFlowExecutor)
    assert called(call, {"n": "3", "dropped": True}) == {"n": 4, "twice": 8}
    assert recorder.calls[0] == ("flow_start", "main", {"n": 3}, 2)


@kinds
def test_xp_3_both_executors_give_the_same_output_for_the_same_input(kind: Any) -> None:
    flow = dag(node("a"), node("b", "double", after="a", source="a"))
    assert called(flow_to_callable(flow, executor_of(kind, flow)), {"n": 1}) == {"n": 1, "a": 2, "b": 4}


@kinds
def test_xp_3_a_json_schema_input_is_handed_on_as_it_is(kind: Any) -> None:
    flow = linear(step("document"))
    call = flow_to_callable(flow, executor_of(kind, flow))
    assert called(call, {"n": 1, "more": 2}) == {"n": 1, "more": 2}
    with pytest.raises(dw.JsonSchemaMismatchError, match="input of flow 'main'"):
        called(call, {"n": "1"})


@kinds
def test_xp_3_an_input_that_does_not_match_is_raised_and_nothing_runs(kind: Any) -> None:
    flow, recorder = linear(step("inc")), Recorder()
    call = flow_to_callable(flow, executor_of(kind, flow, middleware=[recorder]), input_schema=Outer)
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        called(call, {"n": -1})
    assert recorder.calls == []
    assert called(call, {"n": 1}) == {"n": 2, "parts": []}


@kinds
def test_xp_3_the_schema_is_captured_when_the_callable_is_made(kind: Any) -> None:
    flow = linear(step("inc"))
    executor = executor_of(kind, flow)
    call = flow_to_callable(flow, executor)
    executor.register_tool(Tool(name="inc", description="", input_schema=Inner, output_schema=Inner, fn=dict))
    with pytest.raises(ValidationError, match="Number"):
        called(call, {"text": "x"})


@kinds
def test_xp_3_the_flow_is_looked_up_by_name_when_it_is_called(kind: Any) -> None:
    flow = linear(step("inc"))
    executor = executor_of(kind)
    call = flow_to_callable(flow, executor)
    with pytest.raises(dw.FlowNotFoundError):
        called(call, {"n": 1})
    executor.registry.register_flow(linear(step("double"), version="2"))
    assert called(call, {"n": 5}) == {"n": 10}


@kinds
@pytest.mark.parametrize(
    ("flow", "tool", "index", "detail"),
    [
        (linear(step("inc"), step("boom")), "boom", 1, "Execution error in tool 'boom' at step 1: boom"),
        (linear(step("inc"), step("gone")), "gone", 1, GONE.format(1)),
        (linear(step("boom", on_error="fallback:gone")), "boom", 0, GONE.format(0)),
        (dag(node("a"), node("b", "boom", after="a")), "boom", 1, "Execution error in tool 'boom' at step 1: boom"),
    ],
)
def test_xp_3_a_failed_run_raises_with_its_first_failed_record(
    kind: Any, flow: dw.AnyFlow, tool: str, index: int, detail: str
) -> None:
    call = flow_to_callable(flow, executor_of(kind, flow), name="named")
    with pytest.raises(dw.FlowExecutionError) as caught:
        called(call, {"n": 1})
    assert (caught.value.tool_name, caught.value.step_index, caught.value.detail) == (tool, index, detail)


class Silent(dw.FlowExecutor):
    """An executor of somebody's own, whose results lack what those of the library always have."""

    success: bool

    def execute_flow(self, *args: Any, **kwargs: Any) -> dw.ExecutionResult:
        result = super().execute_flow(*args, **kwargs)
        return result.model_copy(update={"success": self.success, "final_output": None})


class SilentAsync(dw.AsyncFlowExecutor):
    success: bool

    async def execute_flow(self, *args: Any, **kwargs: Any) -> dw.ExecutionResult:
        result = await super().execute_flow(*args, **kwargs)
        return result.model_copy(update={"success": self.success, "final_output": None})


@pytest.mark.parametrize("kind", [Silent, SilentAsync])
@pytest.mark.parametrize(("success", "index"), [(False, -1), (True, 2)])
def test_xp_3_without_a_failed_record_the_flow_is_named(kind: Any, success: bool, index: int) -> None:
    flow = linear(step("inc"), step("inc"))
    executor = executor_of(kind, flow)
    executor.success = success
    with pytest.raises(dw.FlowExecutionError) as caught:
        called(flow_to_callable(flow, executor, name="named"), {"n": 1})
    assert (caught.value.tool_name, caught.value.step_index) == ("main", index)


@kinds
@pytest.mark.parametrize(("name", "expected"), [(None, "main"), ("do_it", "do_it")])
def test_xp_3_the_function_has_a_name_and_the_description(kind: Any, name: str | None, expected: str) -> None:
    flow = linear(step("inc")).model_copy(update={"description": "adds one"})
    call = flow_to_callable(flow, executor_of(kind, flow), name=name)
    assert (call.__name__, call.__qualname__, call.__doc__) == (expected, expected, "adds one")


def test_tool_to_callable_is_the_run_of_the_tool() -> None:
    tool = Tool(name="add", description="adds one", input_schema=Number, output_schema=Number, fn=inc)
    call = tool_to_callable(tool)
    assert (call.__name__, call.__qualname__, call.__doc__) == ("add", "add", "adds one")
    assert call({"n": "1"}) == {"n": 2}
    with pytest.raises(ValidationError):
        call({"n": "many"})
    with pytest.raises(ValueError, match=r"^boom$"):
        tool_to_callable(number_tool("boom", boom))({"n": 1})
    assert tool_to_callable(number_tool("double", double))({"n": 4}) == {"n": 8}


@kinds
def test_a_callable_serves_as_the_function_of_another_tool_on_both_lanes(kind: Any) -> None:
    flow = linear(step("document"))
    call = flow_to_callable(flow, executor_of(kind, flow))
    made = Tool(name="made", description="", input_schema=DOCUMENT, output_schema=DOCUMENT, fn=call)
    assert (made.run({"n": 1}), asyncio.run(made.run_async({"n": 1}))) == ({"n": 1}, {"n": 1})


def test_export_is_reached_from_the_package_but_not_in_its_root() -> None:
    code = (
        "import sys, doubleweave\n"
        "assert 'doubleweave.export' not in sys.modules\n"
        "print(doubleweave.export.flow_to_callable.__name__, hasattr(doubleweave, 'flow_to_callable'))\n"
        "print(sorted({'openai', 'anthropic'} & sys.modules.keys()))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "flow_to_callable False\n[]\n"
