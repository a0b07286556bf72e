"""The static check: each kind of finding, where it stands and what it says, and that nothing is called or imported."""

import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from doubleweave import (
    AnyFlow,
    ConditionalEdge,
    DAGFlow,
    Flow,
    FlowExecutor,
    FlowRegistry,
    FlowStatus,
    FlowStep,
    RetryPolicy,
    Tool,
    check_flow,
)
from flow_check_under_test import (
    HERE,
    TOOLS,
    Amount,
    Price,
    Text,
    check,
    dag,
    found,
    linear,
    node,
    step,
    texts,
    tool,
)


def test_a_flow_whose_values_fit_is_clean() -> None:
    report = check(
        linear(
            step("price"),
            step("say", input_mapping={"text": "note"}),
            step("count", input_mapping={"amount": 7}),
            output_schema_ref=f"{HERE}:Price",
        )
    )
    assert (report.is_clean, report.errors, list(report), report.required_inputs) == (True, [], [], [])


def test_a_finding_names_flow_step_field_and_fix() -> None:
    assert texts(linear(step("price"), step("say", input_mapping={"text": "price"}))) == [
        "error type_mismatch: flow 'f', step 1 'say', field 'text': tool 'say': number is given, string is needed. "
        "Change the declared type on one side, or put a step between."
    ]


@pytest.mark.parametrize(
    ("name", "flow", "expected"),
    [
        ("missing tool", linear(step("gone")), [("error", "missing_tool", 0, "gone")]),
        ("missing key", linear(step("price", input_mapping={"amount": "gone"})), [
            ("error", "missing_key", 0, "amount"), ("error", "missing_input", 0, "amount"),
        ]),
        ("a key that is optional in the input", linear(step("say", input_mapping={"text": "urgent"})), [
            ("warning", "missing_key", 0, "text"), ("error", "type_mismatch", 0, "text"),
        ]),
        ("missing input", linear(step("price", input_mapping={"other": "note"})), [
            ("error", "missing_input", 0, "amount"), ("warning", "unknown_input", 0, "other"),
        ]),
        ("missing input of the whole context", linear(step("say")), [("error", "missing_input", 0, "text")]),
        ("an input that is refused", linear(step("exact")), [
            ("error", "unknown_input", 0, "note"), ("warning", "unknown_input", 0, "urgent"),
        ]),
        ("a type that never fits", linear(step("price", input_mapping={"amount": [1]})), [
            ("error", "type_mismatch", 0, "amount"),
        ]),
        ("a type that may fit", linear(step("price"), step("count", input_mapping={"amount": "price"})), [
            ("warning", "type_mismatch", 1, "amount"),
        ]),
        ("a limit that may be passed", linear(step("share", input_mapping={"share": "amount"})), [
            ("warning", "type_mismatch", 0, "share"),
        ]),
        ("a constant beyond a limit", linear(step("share", input_mapping={"share": 101})), [
            ("error", "type_mismatch", 0, "share"),
        ]),
        ("a constant that no file holds", linear(step("share", input_mapping={"share": {1}})), [
            ("warning", "not_serialisable", 0, "share"), ("unproven", "type_mismatch", 0, "share"),
        ]),
        ("a constant within the limits", linear(step("share", input_mapping={"share": 100})), []),
        ("a type that JSON has not", linear(step("when"), step("say", input_mapping={"text": "moment"})), [
            ("warning", "type_mismatch", 1, "text"),
        ]),
        ("unknown output", linear(step("price", output_mapping={"x": "gone"})), [("error", "unknown_output", 0, "x")]),
        ("undeclared outputs", linear(step("loose")), [("unproven", "undeclared_outputs", 0, None)]),
        ("an output of many", linear(step("loose", output_mapping={"x": "y"})), [("unproven", "unknown_output", 0, "x")]),
        ("an output that may be missing", linear(step("tight", input_mapping={"amount": 3})), []),
        ("a schema that says more", linear(step("odd")), [("unproven", "not_checked", 0, None)]),
        ("an output that no file holds", linear(step("open")), [("warning", "not_serialisable", 0, "handle")]),
        ("a fallback that is missing", linear(step("price", on_error="fallback:gone")), [
            ("error", "missing_tool", 0, "gone"),
        ]),
        ("a fallback that takes something else", linear(step("price", on_error="fallback:say")), [
            ("error", "missing_input", 0, "text"),
        ]),
        (
            "a fallback that gives something else",
            linear(step("price", on_error="fallback:grade"), step("share", input_mapping={"share": "price"})),
            [("warning", "missing_key", 1, "share"), ("warning", "type_mismatch", 1, "share")],
        ),
        (
            "a candidate that gives something else",
            linear(step("price", decision_candidates=["price", "count"]), output_schema_ref=f"{HERE}:Price"),
            [("warning", "missing_input", 1, "price")],
        ),
        (
            "a step that may be skipped",
            linear(step("price", on_error="skip"), output_schema_ref=f"{HERE}:Price"),
            [("warning", "missing_input", 1, "price")],
        ),
        ("an input contract", linear(step("price", input_contract=f"{HERE}:Percent")), [
            ("error", "missing_input", 0, "share"),
        ]),
        ("an output contract", linear(step("price", output_contract=f"{HERE}:Text")), [
            ("error", "missing_input", 0, "text"),
        ]),
        ("the flow's output", linear(step("price"), output_schema_ref=f"{HERE}:Text"), [
            ("error", "missing_input", 1, "text"),
        ]),
        ("the flow's context", linear(step("price"), context_schema_ref=f"{HERE}:Exact"), [
            ("error", "unknown_input", 1, "note"),
            ("warning", "unknown_input", 1, "urgent"),
            ("error", "unknown_input", 1, "price"),
        ]),
        (
            "a key that must not be overwritten",
            linear(step("count"), on_context_collision="error"),
            [("error", "context_collision", 0, "amount")],
        ),
        ("a flow that may not run", linear(step("price"), status=FlowStatus.DISABLED), [("error", "flow_status", -1, None)]),
        ("a ref to no class", linear(step("price"), start="gone"), [
            ("error", "class_ref", -1, "input_schema_ref"), ("unproven", "undeclared_input", 0, "amount"),
        ]),
        (
            "a ref to a class of another kind",
            linear(step("price", retry=RetryPolicy(retryable_errors=(f"{HERE}:Order",)))),
            [("error", "class_ref", 0, "retryable_errors")],
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_is_found(name: str, flow: AnyFlow, expected: list[tuple[str, str, int, str | None]]) -> None:
    assert found(flow) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("/person/city", []),
        ("/person/zip", [("warning", "type_mismatch", 1, "text")]),
        ("/person/street", [("error", "missing_key", 1, "text"), ("error", "missing_input", 1, "text")]),
        ("/person/city/0", [("error", "missing_key", 1, "text"), ("error", "missing_input", 1, "text")]),
        ("/people", [("error", "missing_key", 1, "text"), ("error", "missing_input", 1, "text")]),
    ],
)
def test_a_pointer_is_followed_into_what_is_declared(source: str, expected: list[Any]) -> None:
    assert found(linear(step("find"), step("say", input_mapping={"text": source}))) == expected


def test_a_pointer_into_a_list_may_lead_nowhere() -> None:
    flow = linear(step("meet"), step("say", input_mapping={"text": "/people/0/city"}))
    assert texts(flow) == [
        "warning missing_key: flow 'f', step 1 'say', field 'text': '/people/0/city' may not be there: it is optional, or the "
        "step that writes it may be skipped. Write it on every way to this step."
    ]


def test_a_difference_deep_inside_has_its_path() -> None:
    class Street(BaseModel):
        city: int

    class Streets(BaseModel):
        people: list[Street]

    tools = {**TOOLS, "walk": tool("walk", Streets, Price)}
    report = check_flow(linear(step("meet"), step("walk")), tools, allowed_modules=[HERE])
    assert [str(each) for each in report] == [
        "warning type_mismatch: flow 'f', step 1 'walk', field 'people': tool 'walk': at [].city string is given, integer is "
        "needed. Change the declared type on one side, or put a step between."
    ]


def test_without_an_input_schema_it_says_what_the_input_needs() -> None:
    flow = linear(step("price"), step("say", input_mapping={"text": "/who/name"}), start=None)
    report = check(flow)
    assert report.required_inputs == ["amount", "who"]
    assert [(each.severity, each.kind, each.field) for each in report][:1] == [
        ("unproven", "undeclared_input", "amount")
    ]
    assert not report.errors


def test_what_is_checked_but_not_converted_may_be_of_another_type() -> None:
    class Loose(BaseModel):
        amount: int

    sys.modules[HERE].__dict__["Loose"] = Loose
    Loose.__qualname__ = "Loose"
    flow = linear(step("count"), step("tight", input_mapping={"amount": "amount"}), start="Loose")
    assert found(flow)[0] == ("warning", "type_mismatch", 1, "amount")
    # The very same through the run: the text is taken for a number by the flow's input schema and stays a text.
    first = linear(step("tight", input_mapping={"amount": "amount"}), start="Loose")
    assert found(first)[0][:2] in [("unproven", "type_mismatch"), ("warning", "type_mismatch")]


def test_keys_of_siblings_must_not_collide() -> None:
    flow = dag(node("one", "price"), node("two", "price"))
    assert found(flow) == [("error", "sibling_collision", 1, "price")]
    renamed = dag(node("one", "price"), node("two", "price", output_mapping={"price2": "price"}))
    assert found(renamed) == []


def test_a_cycle_ends_the_check() -> None:
    assert texts(dag(node("one", "price", "two"), node("two", "price", "one"))) == [
        "error cycle: flow 'f', step -1 'definition': Steps depend on each other: one -> two -> one. "
        "Take one of these out of another's depends_on. Correct the dependencies."
    ]


def branching(predicate: str, default: str | None = "no", tool_name: str = "grade") -> DAGFlow:
    return dag(
        node(
            "ask",
            tool_name,
            branches=[ConditionalEdge(target_step_id="yes", predicate=predicate)],
            default_next=default,
        ),
        node("yes", "price", "ask", output_mapping={"yes": "price"}),
        node("no", "price", "ask", output_mapping={"no": "price"}),
    )


@pytest.mark.parametrize(
    ("predicate", "expected"),
    [
        ("level == 'low'", []),
        ("level in ['low', 'medium']", []),
        ("amount > 3 and note != ''", []),
        ("not amount < -1", []),
        (
            "level == 'medium'",
            [("warning", "predicate_never_holds", 0, "yes"), ("warning", "unreachable_step", 1, None)],
        ),
        ("level == 3", [("warning", "predicate_never_holds", 0, "yes"), ("warning", "unreachable_step", 1, None)]),
        ("amount == 'low'", [("warning", "predicate_never_holds", 0, "yes"), ("warning", "unreachable_step", 1, None)]),
        (
            "level in ['a', 'b']",
            [("warning", "predicate_never_holds", 0, "yes"), ("warning", "unreachable_step", 1, None)],
        ),
        ("False", [("warning", "predicate_never_holds", 0, "yes"), ("warning", "unreachable_step", 1, None)]),
        ("level != 3", [("warning", "unreachable_step", 2, None)]),
        ("level > 3", [("error", "predicate_fails", 0, None)]),
        ("gone == 1", [("error", "predicate_fails", 0, None)]),
        ("amount > 3 or gone", [("warning", "predicate_fails", 0, None)]),
        ("urgent", [("warning", "predicate_fails", 0, None)]),
        ("len(note) > 3", [("error", "predicate_fails", 0, None)]),
        ("note + 'x' == 'x'", [("error", "predicate_fails", 0, None)]),
        ("level ==", [("error", "predicate_fails", 0, None)]),
        ("note[0] == 'a'", [("unproven", "predicate_fails", 0, None)]),
        ("amount[0] == 1", [("error", "predicate_fails", 0, None)]),
        ("3 in amount", [("error", "predicate_fails", 0, None)]),
        ("1 < amount < 5", []),
        ("-level == 1", [("error", "predicate_fails", 0, None)]),
        ("level in {'low', 'high'}", [("warning", "unreachable_step", 2, None)]),
        ("level is None", [("error", "predicate_fails", 0, None)]),
    ],
)
def test_what_a_predicate_can_come_to(predicate: str, expected: list[Any]) -> None:
    assert found(branching(predicate)) == expected


def test_steps_behind_an_unreachable_one_are_unreachable_too() -> None:
    steps = [*branching("level == 'none'").steps, node("behind", "price", "yes", output_mapping={"b": "price"})]
    assert found(dag(*steps)) == [
        ("warning", "predicate_never_holds", 0, "yes"),
        ("warning", "unreachable_step", 1, None),
        ("warning", "unreachable_step", 3, None),
    ]


def test_a_key_of_a_branch_is_certain_behind_it_and_nowhere_else() -> None:
    steps = branching("level == 'low'").steps
    behind = node("behind", "say", "yes", input_mapping={"text": "note"}, output_mapping={"t": "text"})
    reads = node("reads", "price", "yes", input_mapping={"amount": 1}, output_mapping={"r": "price"})
    joined = node("joined", "count", "yes", "no", input_mapping={"amount": "yes"}, output_mapping={"j": "amount"})
    assert found(dag(*steps, behind, reads)) == []
    assert found(dag(*steps, joined)) == [
        ("warning", "missing_key", 3, "amount"),
        ("warning", "type_mismatch", 3, "amount"),
    ]


def test_a_sub_flow_is_followed() -> None:
    registry = FlowRegistry()
    inner = Flow(name="inner", description="", steps=[step("price"), step("say", input_mapping={"text": "price"})])
    registry.register_flow(inner)
    outer = linear(FlowStep(flow_name="inner"), step("say", input_mapping={"text": "price"}))
    assert [(each.flow_name, each.kind, each.step_index) for each in check(outer, registry=registry)] == [
        ("inner", "type_mismatch", 1),
        ("f", "type_mismatch", 1),
    ]
    assert found(outer)[0] == ("unproven", "not_checked", 0, "inner")


def test_flows_that_contain_each_other_are_an_error() -> None:
    registry = FlowRegistry()
    registry.register_flow(Flow(name="inner", description="", steps=[FlowStep(flow_name="f")]))
    outer = linear(FlowStep(flow_name="inner"))
    registry.register_flow(outer)
    kinds = [(each.flow_name, each.severity, each.kind) for each in check(outer, registry=registry)]
    assert ("inner", "error", "sub_flow_cycle") in kinds
    assert found(linear(FlowStep(flow_name="absent")), registry=registry)[0] == ("error", "missing_flow", 0, "absent")


def test_nothing_is_imported_that_is_not_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_module_that_tells.py").write_text("raise RuntimeError('imported')", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    ref = "a_module_that_tells:Model"
    flow = Flow(
        name="f",
        description="",
        input_schema_ref=ref,
        output_schema_ref="os:system",
        steps=[step("price", input_contract=ref, retry=RetryPolicy(retryable_errors=(ref,)))],
    )
    before = set(sys.modules)
    assert {(each.severity, each.kind) for each in check(flow)} == {
        ("unproven", "class_ref"),
        ("unproven", "undeclared_input"),
    }
    assert set(sys.modules) - before == set()
    allowed = check(flow, allowed_modules=["a_module_that_tells"])
    assert ("error", "class_ref", "input_schema_ref") in [(each.severity, each.kind, each.field) for each in allowed]


async def test_what_the_check_says_is_what_happens_on_both_lanes() -> None:
    def work(_: Any) -> dict[str, Any]:
        return {"price": 1.5}

    executor = FlowExecutor(FlowRegistry())
    executor.register_tool(Tool(name="price", description="", input_schema=Amount, output_schema=Price, fn=work))
    executor.register_tool(tool("say", Text, Text))
    flow = linear(step("price"), step("say", input_mapping={"text": "price"}))
    executor.registry.register_flow(flow)
    finding = check_flow(flow, executor.registered_tools, allowed_modules=[HERE]).errors[0]
    inputs = {"amount": 1, "note": ""}
    for result in (executor.execute_flow("f", inputs), await executor.execute_flow_async("f", inputs)):
        last = result.execution_log[-1]
        assert (last.step_index, last.tool_name, last.error_type) == (
            finding.step_index,
            finding.step,
            "SchemaValidationError",
        )
