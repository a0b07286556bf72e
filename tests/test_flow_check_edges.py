"""The static check where it is easily wrong: what is open, optional, nested, odd or hostile."""

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from doubleweave import (
    ConditionalEdge,
    DAGFlow,
    Flow,
    FlowExecutor,
    FlowRegistry,
    FlowStep,
    Tool,
    check_flow,
)
from flow_check_under_test import HERE, TOOLS, Amount, Price, check, dag, found, linear, node, step, tool


def test_a_predicate_over_an_input_that_nobody_declares_is_unproven() -> None:
    edge = ConditionalEdge(target_step_id="yes", predicate="mode == 'fast'")
    steps = [
        node("ask", "grade", input_mapping={"amount": 1}, branches=[edge]),
        node("yes", "price", "ask", input_mapping={"amount": 1}),
    ]
    report = check(DAGFlow(name="f", version="1", description="", steps=steps))
    assert [(each.severity, each.kind, each.field) for each in report] == [("unproven", "undeclared_input", "mode")]
    assert report.required_inputs == ["mode"]


def test_a_contract_over_outputs_that_are_open_is_unproven() -> None:
    flow = linear(step("loose", output_mapping={"x": "amount"}, output_contract=f"{HERE}:Exact"))
    assert ("unproven", "undeclared_input", 0, None) in found(flow)
    assert not check(flow).errors


def test_what_is_open_before_makes_a_missing_key_unproven() -> None:
    flow = linear(step("loose"), step("say", input_mapping={"text": "who knows"}))
    assert not check(flow).errors
    assert ("unproven", "undeclared_input", 1, "who knows") in found(flow)


def test_both_ways_to_a_join_may_write_one_key() -> None:
    edge = ConditionalEdge(target_step_id="yes", predicate="level == 'low'")
    steps = [
        node("ask", "grade", branches=[edge], default_next="no"),
        node("yes", "count", "ask", output_mapping={"result": "amount"}),
        node("no", "count", "ask", output_mapping={"result": "amount"}),
        node("join", "count", "yes", "no", input_mapping={"amount": "result"}, output_mapping={"end": "amount"}),
    ]
    assert found(dag(*steps)) == []
    # Without the default both run when the predicate does not hold.
    steps[0] = node("ask", "grade", branches=[edge])
    assert ("error", "sibling_collision", 2, "result") in found(dag(*steps)) or (
        "warning",
        "sibling_collision",
        2,
        "result",
    ) in found(dag(*steps))


def test_a_step_that_is_skipped_itself_makes_nobody_unreachable() -> None:
    first = ConditionalEdge(target_step_id="a", predicate="amount > 3")
    second = ConditionalEdge(target_step_id="x", predicate="level != 3")
    steps = [
        node("ask", "grade", branches=[first], default_next="b"),
        node("a", "grade", "ask", output_mapping={"a": "level"}, branches=[second]),
        node("b", "price", "ask", output_mapping={"b": "price"}),
        node("x", "price", "a", output_mapping={"x": "price"}),
        node("y", "price", "a", "b", output_mapping={"y": "price"}),
    ]
    assert [each for each in found(dag(*steps)) if each[1] == "unreachable_step"] == []


@pytest.mark.parametrize(
    "source", ["/people/²", "/people/++1", "/people/" + "9" * 5000, "/people/-1", "/people/ 0", "/people/1_0"]
)
def test_odd_positions_are_no_trouble(source: str) -> None:
    assert check(linear(step("meet"), step("say", input_mapping={"text": source}))).findings


def test_constants_of_any_depth_and_class_are_no_trouble() -> None:
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]

    class Odd:
        def __eq__(self, other: object) -> bool:
            raise RuntimeError("not to be compared")

        __hash__ = None  # type: ignore[assignment]  # nor hashed

    for value in (deep, Odd(), {"a": {1, 2}}, float("inf"), b"\xff"):
        assert check(linear(step("grade", input_mapping={"amount": value}))).findings


def test_sub_flows_that_go_on_and_on_are_no_trouble() -> None:
    registry = FlowRegistry()
    for number in range(300):
        steps = [FlowStep(flow_name=f"s{number + 1}")]
        registry.register_flow(Flow(name=f"s{number}", description="", steps=steps))
    kinds = {each.kind for each in check(linear(FlowStep(flow_name="s0")), registry=registry)}
    assert "not_checked" in kinds


class Num(BaseModel):
    kind: Literal["num"]
    value: float


class Neg(BaseModel):
    kind: Literal["neg"]
    of: "Expr"


class Add(BaseModel):
    kind: Literal["add"]
    left: "Expr"
    right: "Expr"


class Mul(BaseModel):
    kind: Literal["mul"]
    left: "Expr"
    right: "Expr"


Expr = Annotated[Num | Neg | Add | Mul, Field(discriminator="kind")]
for each in (Neg, Add, Mul):
    each.model_rebuild()


class Tree(BaseModel):
    tree: Expr


def test_trees_of_many_kinds_are_compared_in_no_time() -> None:
    tools = {**TOOLS, "parse": tool("parse", Amount, Tree), "evaluate": tool("evaluate", Tree, Price)}
    assert check_flow(linear(step("parse"), step("evaluate")), tools, allowed_modules=[HERE]).is_clean


def test_a_module_that_ends_the_program_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_module_that_leaves.py").write_text("raise SystemExit(3)", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    flow = Flow(name="f", description="", steps=[], input_schema_ref="a_module_that_leaves:X")
    assert ("error", "class_ref", -1, "input_schema_ref") in found(flow, allowed_modules=["a_module_that_leaves"])
    assert ("error", "class_ref", -1, "input_schema_ref") in found(
        flow.model_copy(update={"input_schema_ref": "nocolon"})
    )


async def test_a_step_that_is_skipped_itself_chooses_nobody() -> None:
    def fn(name: str) -> Any:
        return lambda _: {"level": "high"} if name == "grade" else {"amount": 1}

    first = ConditionalEdge(target_step_id="a", predicate="level == 'low'")
    second = ConditionalEdge(target_step_id="x", predicate="a == 'low'")
    flow = dag(
        node("ask", "grade", branches=[first], default_next="b"),
        node("a", "grade", "ask", output_mapping={"a": "level"}, branches=[second], default_next="y"),
        node("b", "count", "ask", output_mapping={"b": "amount"}),
        node("x", "count", "a", "b", output_mapping={"r": "amount"}),
        node("y", "count", "a", "b", output_mapping={"r": "amount"}),
    )
    assert found(flow) == [("warning", "sibling_collision", 4, "r")]
    # It happens: a is skipped, so that both x and y run.
    executor = FlowExecutor(FlowRegistry())
    for name in ("grade", "count"):
        schemas = {"input_schema": TOOLS[name].input_schema, "output_schema": TOOLS[name].output_schema}
        executor.register_tool(Tool(name=name, description="", fn=fn(name), **schemas))
    executor.registry.register_flow(flow)
    inputs = {"amount": 1, "note": ""}
    for result in (executor.execute_flow("f", inputs), await executor.execute_flow_async("f", inputs)):
        assert "writes the key 'r'" in (result.execution_log[-1].error_message or "")
