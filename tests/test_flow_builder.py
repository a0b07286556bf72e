"""Flows built by chained calls."""

from typing import Any

import pytest
from pydantic import BaseModel

from doubleweave import (
    DAGFlowStep,
    DoubleweaveError,
    Flow,
    FlowBuilder,
    FlowBuilderError,
    FlowExecutor,
    FlowRegistry,
    FlowStep,
    RetryPolicy,
)
from executors_under_test import execute, lanes, make_executor
from parity_scenarios import tools


class Start(BaseModel):
    n: int


def test_a_flow_is_what_was_set() -> None:
    flow = (
        FlowBuilder("a", "b")
        .step("inc", n="n", extra=7)
        .step("double", output_mapping={"m": "n"}, n="/n")
        .with_version("1.2")
        .with_trigger({"on": ["day"]})
        .build()
    )
    assert flow == Flow(
        name="a",
        description="b",
        version="1.2",
        trigger_conditions={"on": ["day"]},
        steps=[
            FlowStep(tool_name="inc", input_mapping={"n": "n", "extra": 7}),
            FlowStep(tool_name="double", input_mapping={"n": "/n"}, output_mapping={"m": "n"}),
        ],
    )


@lanes
def test_what_was_built_runs(lane: str) -> None:
    flow = FlowBuilder("main", "twice").step("inc", n="n").step("double", n="n").build()
    flow.on_context_collision = "overwrite"
    assert execute(make_executor([flow], tools()), lane, {"n": 4}).final_output == {"n": 10}


@pytest.mark.parametrize(
    ("method", "value", "field", "expected"),
    [
        ("name", "other", "name", "other"),
        ("description", "other", "description", "other"),
        ("version", "2.0", "version", "2.0"),
        ("with_version", "2.0", "version", "2.0"),
        ("with_input_schema", Start, "input_schema_ref", f"{__name__}:Start"),
        ("with_output_schema", Start, "output_schema_ref", f"{__name__}:Start"),
        ("with_trigger", {"a": 1}, "trigger_conditions", {"a": 1}),
    ],
)
def test_each_setter_sets_its_field_and_returns_the_builder(method: str, value: Any, field: str, expected: Any) -> None:
    builder = FlowBuilder("name", "description")
    assert getattr(builder, method)(value) is builder
    built = builder.build()
    assert getattr(built, field) == expected
    untouched = FlowBuilder("name", "description").build()
    assert built.model_copy(update={field: getattr(untouched, field)}) == untouched


def test_schemas_resolve_to_the_classes_that_were_given() -> None:
    flow = FlowBuilder("a", "b").with_input_schema(Start).with_output_schema(Start).build()
    assert (flow.input_schema, flow.output_schema) == (Start, Start)


def test_step_from_adds_a_copy() -> None:
    given = FlowStep(flow_name="inner", retry=RetryPolicy(max_retries=1))
    builder = FlowBuilder("a", "b")
    assert builder.step_from(given) is builder
    given.on_error = "skip"
    given.input_mapping["n"] = "changed"
    (step,) = builder.build().steps
    assert step == FlowStep(flow_name="inner", retry=RetryPolicy(max_retries=1))


def test_constants_of_a_step_are_passed_on_themselves() -> None:
    constant = object()
    (step,) = FlowBuilder("a", "b").step("inc", n=constant).build().steps
    assert step.input_mapping["n"] is constant


def test_build_gives_a_new_flow_each_time_and_later_changes_do_not_reach_it() -> None:
    trigger = {"a": 1}
    builder = FlowBuilder("a", "b").step("inc").with_trigger(trigger)
    first, second = builder.build(), builder.build()
    assert first == second
    assert first is not second
    trigger["a"] = 2
    builder.step("double").name("c")
    second.steps[0].on_error = "skip"
    second.steps[0].input_mapping["n"] = "changed"
    assert first.trigger_conditions is not None
    first.trigger_conditions["a"] = 3
    third = builder.build()
    assert [step.tool_name for step in first.steps] == ["inc"]
    assert (first.name, third.name, third.trigger_conditions) == ("a", "c", {"a": 1})
    assert [step.on_error for step in third.steps] == ["fail", "fail"]
    assert [step.input_mapping for step in (*first.steps, *third.steps)] == [{}, {}, {}]


@pytest.mark.parametrize(
    ("builder", "word"),
    [
        (FlowBuilder(), "'name'"),
        (FlowBuilder(description="b"), "'name'"),
        (FlowBuilder("", "b"), "'name'"),
        (FlowBuilder("a"), "'description'"),
        (FlowBuilder("a", ""), "'description'"),
    ],
)
def test_b_1_a_flow_needs_a_name_and_a_description(builder: FlowBuilder, word: str) -> None:
    with pytest.raises(FlowBuilderError, match=word) as caught:
        builder.build()
    field = word.strip("'")
    assert str(caught.value) == (
        f"FlowBuilder error: the flow has no {word}: give it to FlowBuilder(...) or call .{field}(...)."
    )
    assert isinstance(caught.value, DoubleweaveError)
    assert caught.value.code == "CW-E037"


@pytest.mark.parametrize(
    ("method", "value", "message"),
    [
        ("with_input_schema", "x", "with_input_schema('x'): give a subclass of pydantic.BaseModel"),
        ("with_input_schema", int, "with_input_schema(<class 'int'>): give a subclass of pydantic.BaseModel"),
        ("with_input_schema", None, "with_input_schema(None): give a subclass of pydantic.BaseModel"),
        ("with_output_schema", 5, "with_output_schema(5): give a subclass of pydantic.BaseModel"),
        ("with_output_schema", dict, "with_output_schema(<class 'dict'>): give a subclass of pydantic.BaseModel"),
        ("with_output_schema", Start(n=1), "with_output_schema(Start(n=1)): give a subclass of pydantic.BaseModel"),
        (
            "with_output_schema",
            list[Start],
            f"with_output_schema({list[Start]!r}): give a subclass of pydantic.BaseModel",
        ),
        ("with_trigger", None, "with_trigger(None): give a dict"),
        ("with_trigger", "x", "with_trigger('x'): give a dict"),
        ("step_from", "x", "step_from('x'): give a FlowStep"),
        ("step_from", None, "step_from(None): give a FlowStep"),
    ],
)
def test_a_value_of_another_kind_is_refused_where_it_is_given(method: str, value: Any, message: str) -> None:
    builder = FlowBuilder("a", "b").step("inc")
    before = builder.build()
    with pytest.raises(FlowBuilderError) as caught:
        getattr(builder, method)(value)
    assert str(caught.value) == f"FlowBuilder error: {message}."
    assert builder.build() == before


def test_b_1_no_steps_are_allowed() -> None:
    assert FlowBuilder("a", "b").build().steps == []


def test_b_2_a_field_named_output_mapping_needs_step_from() -> None:
    builder = FlowBuilder("a", "b").step("inc", output_mapping={"m": "n"})
    builder.step_from(FlowStep(tool_name="inc", input_mapping={"output_mapping": "m"}))
    first, second = builder.build().steps
    assert (first.output_mapping, first.input_mapping) == ({"m": "n"}, {})
    assert (second.output_mapping, second.input_mapping) == (None, {"output_mapping": "m"})


def test_a_field_may_be_called_self() -> None:
    (step,) = FlowBuilder("a", "b").step("inc", self="n").build().steps
    assert step.input_mapping == {"self": "n"}


def test_b_3_only_linear_flows_are_built() -> None:
    builder = FlowBuilder("a", "b").step("inc")
    with pytest.raises(FlowBuilderError) as caught:
        builder.step_from(DAGFlowStep(step_id="s", tool_name="double", depends_on=["r"]))
    assert str(caught.value) == (
        "FlowBuilder error: step 's' is of a DAG, and only linear flows are built: give a FlowStep, or make a DAGFlow."
    )
    assert type(builder.build()) is Flow
    assert [step.tool_name for step in builder.build().steps] == ["inc"]


def test_the_default_version_can_be_registered() -> None:
    flow = FlowBuilder("a", "b").build()
    assert flow.version == "0.1.0"
    registry = FlowRegistry()
    registry.register_flow(flow)
    assert FlowExecutor(registry).execute_flow("a", {}).success
