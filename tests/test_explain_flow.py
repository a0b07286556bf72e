"""What `explain_flow` says of a flow that it does not run."""

from typing import Any

import pytest
from pydantic import BaseModel

import doubleweave as dw
from doubleweave import DAGFlowStep, ExecutionPlan, FlowStep, StepPlan, Tool
from lanes_under_test import Case, Recorder, number_tool
from parity_scenarios import dag, linear, node, step
from streams_under_test import executor_for

both_executors = pytest.mark.parametrize("kind", [dw.FlowExecutor, dw.AsyncFlowExecutor])


class Order(BaseModel):
    item: str
    amount: float
    tags: list[str] = []


class Sum(BaseModel):
    total: float
    note: str | None = None


DOCUMENT = {
    "type": "object",
    "properties": {"text": {"type": "string"}, "size": {"type": "integer"}},
    "required": ["text"],
    "additionalProperties": False,
}


def never(v: Any) -> dict[str, Any]:
    raise AssertionError("explaining called a tool")


def tools() -> list[Tool]:
    return [
        number_tool("inc", never),
        Tool(name="price", description="", input_schema=Order, output_schema=Sum, fn=never),
        Tool(name="write", description="", input_schema=DOCUMENT, output_schema=DOCUMENT, fn=never),
    ]


def explain(flows: list[Any], kind: type[Any] = dw.FlowExecutor, **inputs: Any) -> ExecutionPlan:
    plan = executor_for(Case(flows, tools), kind).explain_flow(next(iter(flows)).name, inputs)
    assert isinstance(plan, ExecutionPlan)
    return plan


@both_executors
def test_a_plan_says_where_inputs_come_from_and_what_the_context_becomes(kind: type[Any]) -> None:
    flow = linear(
        step("price", input_mapping={"item": "thing", "amount": "/deep/0", "tags": ["a"]}),
        step("inc", input_mapping={"n": "total"}, output_mapping={"count": "n", "other": "gone"}),
        step("write"),
    )
    assert explain([flow], kind, thing="x", deep=[1.5]) == ExecutionPlan(
        flow_name="main",
        step_count=3,
        steps=[
            StepPlan(
                step_index=0,
                tool_name="price",
                input_sources={"item": "context['thing']", "amount": "context['/deep/0']", "tags": "literal(['a'])"},
                input_schema={"item": "str", "amount": "float", "tags": "list"},
                output_schema={"total": "float", "note": note_type()},
            ),
            StepPlan(
                step_index=1,
                tool_name="inc",
                input_sources={"n": "context['total']"},
                input_schema={"n": "int"},
                output_schema={"n": "int"},
            ),
            StepPlan(
                step_index=2,
                tool_name="write",
                input_sources={"<all>": "context (full)"},
                input_schema={"text": "string", "size": "integer"},
                output_schema={"text": "string", "size": "integer"},
            ),
        ],
        final_context_shape={
            "thing": "str",
            "deep": "list",
            "total": "float",
            "note": note_type(),
            "count": "int",
            "other": "Any",
            "text": "string",
            "size": "integer",
        },
        all_resolvable=True,
    )


def note_type() -> str:
    """Return what Python calls the type of `Sum.note`: newer versions give it a name."""
    annotation: Any = str | None
    return getattr(annotation, "__name__", None) or str(annotation)


# A key of the context, the sources of an input, which of them cannot be resolved.
SOURCES: list[tuple[str, Any, str, list[str]]] = [
    ("n", "n", "context['n']", []),
    ("n", "m", "context['m'] (UNRESOLVED)", ["m"]),
    ("n", "/n", "context['/n']", []),
    ("n", "/n/deeper/than/it/goes", "context['/n/deeper/than/it/goes']", []),
    ("n", "/m/n", "context['/m/n'] (UNRESOLVED)", ["/m/n"]),
    ("a/b", "/a~1b", "context['/a~1b']", []),
    ("a~b", "/a~0b/x", "context['/a~0b/x']", []),
    ("a", "/a~1b", "context['/a~1b'] (UNRESOLVED)", ["/a~1b"]),
    ("", "/", "context['/']", []),
    ("n", 7, "literal(7)", []),
    ("n", None, "literal(None)", []),
    ("n", {"k": "v"}, "literal({'k': 'v'})", []),
]


@both_executors
@pytest.mark.parametrize(("key", "source", "shown", "unresolved"), SOURCES)
def test_where_an_input_comes_from(key: str, source: Any, shown: str, unresolved: list[str], kind: type[Any]) -> None:
    plan = explain([linear(step("inc", input_mapping={"n": source}))], kind, **{key: 1})
    assert plan.steps[0].input_sources == {"n": shown}
    assert plan.steps[0].unresolved_keys == unresolved
    assert plan.all_resolvable is not bool(unresolved)


@pytest.mark.parametrize(
    ("value", "name"),
    [(1, "int"), ("x", "str"), (None, "NoneType"), ([], "list"), ({}, "dict"), (Order, "ModelMetaclass")],
)
def test_the_context_begins_with_the_types_of_the_input(value: Any, name: str) -> None:
    assert explain([linear()], n=value) == ExecutionPlan(
        flow_name="main", step_count=0, final_context_shape={"n": name}
    )


@both_executors
def test_a_missing_tool_is_a_warning(kind: type[Any]) -> None:
    flow = linear(step("gone", input_mapping={"n": "n"}), step("inc", input_mapping={"n": "made_by_gone"}))
    plan = explain([flow], kind, n=1)
    assert plan.steps[0] == StepPlan(
        step_index=0,
        tool_name="gone",
        input_sources={"n": "context['n']"},
        warnings=["tool 'gone' is not registered"],
    )
    assert plan.steps[1].unresolved_keys == ["made_by_gone"]
    assert (plan.all_resolvable, plan.final_context_shape) == (False, {"n": "int"})


def test_a_warning_alone_makes_a_plan_not_resolvable() -> None:
    assert explain([linear(step("gone"))], n=1).all_resolvable is False


@both_executors
def test_a_dag_is_explained_in_the_order_of_its_levels(kind: type[Any]) -> None:
    flow = dag(node("last", after="b a", source="a"), node("a", source="n"), node("b", "gone"), node("c", after="last"))
    plan = explain([flow], kind, n=1)
    assert [(s.step_index, s.tool_name) for s in plan.steps] == [(0, "inc"), (1, "gone"), (2, "inc"), (3, "inc")]
    assert plan.steps[2].input_sources == {"n": "context['a']"}
    assert plan.final_context_shape == {"n": "int", "a": "int", "last": "int", "c": "int"}


@both_executors
def test_the_plan_numbers_the_steps_as_the_records_of_a_run_are(kind: type[Any]) -> None:
    flow = dag(node("z", after="y"), node("y", after="x"), node("x"), node("w"))
    executor = executor_for(Case([flow], lambda: [number_tool("inc", lambda v: {"n": v.n})]))
    planned = [(s.step_index, s.tool_name) for s in executor.explain_flow("main", {"n": 1}).steps]
    assert planned == [(r.step_index, r.tool_name) for r in executor.execute_flow("main", {"n": 1}).execution_log]


SUB_FLOW = linear(step("gone"), name="sub", output_schema_ref=f"{__name__}:Sum")


@pytest.mark.parametrize("wrap", [linear, dag])
@both_executors
def test_dev_31_the_output_mapping_of_a_sub_flow_is_heeded(wrap: Any, kind: type[Any]) -> None:
    def composed(**options: Any) -> Any:
        if wrap is linear:
            return linear(FlowStep(flow_name="sub", **options))
        return dag(DAGFlowStep(step_id="s", flow_name="sub", **options))

    plain = explain([composed(), SUB_FLOW], kind, n=1)
    assert plain.steps == [
        StepPlan(
            step_index=0,
            tool_name="sub",
            input_sources={"<all>": "context (full)"},
            output_schema={"total": "float", "note": note_type()},
        )
    ]
    assert plain.final_context_shape == {"n": "int", "total": "float", "note": note_type()}
    mapped = explain([composed(output_mapping={"sum": "total", "what": "unknown"}), SUB_FLOW], kind, n=1)
    assert mapped.steps == plain.steps
    assert mapped.final_context_shape == {"n": "int", "sum": "float", "what": "Any"}
    assert (plain.all_resolvable, mapped.all_resolvable) == (True, True)


@both_executors
def test_a_sub_flow_without_an_output_schema_adds_nothing_known(kind: type[Any]) -> None:
    plan = explain([linear(FlowStep(flow_name="sub")), linear(name="sub")], kind, n=1)
    assert (plan.steps[0].output_schema, plan.final_context_shape) == ({}, {"n": "int"})
    assert plan.all_resolvable


@both_executors
def test_a_missing_sub_flow_is_a_warning(kind: type[Any]) -> None:
    plan = explain([linear(FlowStep(flow_name="sub", output_mapping={"a": "b"}))], kind, n=1)
    assert plan.steps[0].warnings == ["flow 'sub' is not registered"]
    assert (plan.all_resolvable, plan.final_context_shape) == (False, {"n": "int"})


@both_executors
def test_an_unknown_flow_is_an_error(kind: type[Any]) -> None:
    with pytest.raises(dw.FlowNotFoundError) as caught:
        executor_for(Case([], tools), kind).explain_flow("gone", {})
    assert caught.value.flow_name == "gone"


@both_executors
def test_the_latest_version_is_explained_whatever_its_status(kind: type[Any]) -> None:
    flows = [
        linear(step("inc"), version="2.0.0", status=dw.FlowStatus.DISABLED),
        linear(step("inc"), step("inc"), version="1.0.0"),
    ]
    assert explain(flows, kind, n=1).step_count == 1


@both_executors
def test_explaining_tells_nobody_and_changes_nothing(kind: type[Any], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="doubleweave")
    recorder, inputs = Recorder(), {"n": 1, "thing": ["x"]}
    executor = executor_for(
        Case([linear(step("inc"), step("price"))], tools),
        kind,
        middleware=[recorder],
        checkpointer=dw.InMemoryCheckpointer(),
    )
    assert executor.explain_flow("main", inputs) == executor.explain_flow("main", inputs)
    assert (recorder.calls, caplog.records, inputs) == ([], [], {"n": 1, "thing": ["x"]})


def test_a_plan_round_trips_through_json() -> None:
    plan = explain([linear(step("price"), step("gone"))], thing="x")
    assert ExecutionPlan.model_validate_json(plan.model_dump_json()) == plan


def test_the_text_of_a_plan_can_be_read() -> None:
    flow = linear(
        step("write", input_mapping={"text": "title", "size": 3}),
        FlowStep(flow_name="sub"),
        step("inc", input_mapping={"n": "gone"}),
        name="report",
    )
    assert str(explain([flow], title="x")) == (
        "Plan of flow 'report': 3 steps, NOT all inputs resolvable\n"
        "  0. write\n"
        "       text <- context['title']\n"
        "       size <- literal(3)\n"
        "       -> text: string\n"
        "       -> size: integer\n"
        "  1. sub\n"
        "       <all> <- context (full)\n"
        "       ! flow 'sub' is not registered\n"
        "  2. inc\n"
        "       n <- context['gone'] (UNRESOLVED)\n"
        "       -> n: int\n"
        "Context at the end: title: str, text: string, size: integer, n: int"
    )
    assert str(explain([linear(step("inc"))], n=1)).startswith("Plan of flow 'main': 1 step, all inputs resolvable\n")
    assert str(explain([linear()])) == (
        "Plan of flow 'main': 0 steps, all inputs resolvable\nContext at the end: empty"
    )
