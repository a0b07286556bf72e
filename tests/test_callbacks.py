"""Callback models, protocols, base classes and coercion."""

import inspect
from collections.abc import Callable
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticUndefined

from doubleweave.models.callbacks import (
    ApprovalCallback,
    ApprovalContext,
    ApprovalDecision,
    ApprovalRecord,
    BaseApprovalCallback,
    BaseDecisionCallback,
    BaseGuardrailCallback,
    DecisionCallback,
    DecisionContext,
    DecisionPolicy,
    DecisionRecord,
    GuardrailCallback,
    GuardrailContext,
    GuardrailStage,
    coerce_approval_callback,
    coerce_decision_callback,
    coerce_guardrail_callback,
)
from doubleweave.models.contracts import ToolSafetyContract

REQUIRED = PydanticUndefined

DECISION_CONTEXT = DecisionContext(
    trace_id="t",
    flow_name="f",
    step_index=1,
    step_id="s",
    default_tool_name="a",
    candidates=["a", "b"],
    context={"k": [1]},
)
APPROVAL_CONTEXT = ApprovalContext(
    trace_id="t",
    flow_name="f",
    step_index=1,
    step_id=None,
    tool_name="a",
    inputs={"k": 1},
    safety=ToolSafetyContract(),
)
GUARDRAIL_CONTEXT = GuardrailContext(
    trace_id="t", flow_name="f", step_index=1, step_id=None, tool_name="a", stage="input", inputs={"k": 1}
)

FIELDS: list[tuple[type[BaseModel], dict[str, tuple[Any, Any]]]] = [
    (
        DecisionContext,
        {
            "trace_id": (str, REQUIRED),
            "flow_name": (str, REQUIRED),
            "step_index": (int, REQUIRED),
            "step_id": (str | None, REQUIRED),
            "default_tool_name": (str, REQUIRED),
            "candidates": (list[str], REQUIRED),
            "context": (dict[str, Any], REQUIRED),
        },
    ),
    (
        DecisionRecord,
        {
            "candidates": (list[str], REQUIRED),
            "chosen": (str, REQUIRED),
            "default_tool_name": (str, REQUIRED),
            "duration_ms": (float, REQUIRED),
            "timed_out": (bool, False),
        },
    ),
    (
        DecisionPolicy,
        {
            "timeout_s": (float | None, None),
            "max_decisions_per_flow": (int | None, None),
            "on_timeout": (DecisionPolicy.__annotations__["on_timeout"], "error"),
        },
    ),
    (
        ApprovalContext,
        {
            "trace_id": (str, REQUIRED),
            "flow_name": (str, REQUIRED),
            "step_index": (int, REQUIRED),
            "step_id": (str | None, REQUIRED),
            "tool_name": (str, REQUIRED),
            "inputs": (dict[str, Any], REQUIRED),
            "safety": (ToolSafetyContract, REQUIRED),
        },
    ),
    (ApprovalRecord, {"decision": (ApprovalDecision, REQUIRED), "reason": (str | None, None)}),
    (
        GuardrailContext,
        {
            "trace_id": (str, REQUIRED),
            "flow_name": (str, REQUIRED),
            "step_index": (int, REQUIRED),
            "step_id": (str | None, REQUIRED),
            "tool_name": (str, REQUIRED),
            "stage": (GuardrailStage, REQUIRED),
            "inputs": (dict[str, Any], REQUIRED),
            "outputs": (dict[str, Any] | None, None),
        },
    ),
]


@pytest.mark.parametrize(("model", "fields"), FIELDS)
def test_the_fields_types_and_defaults_are_exactly_these(
    model: type[BaseModel], fields: dict[str, tuple[Any, Any]]
) -> None:
    found = {name: (field.annotation, field.default) for name, field in model.model_fields.items()}
    assert found == fields
    assert list(found) == list(fields)


@pytest.mark.parametrize(
    ("instance", "field"),
    [
        (DECISION_CONTEXT, "flow_name"),
        (
            DecisionRecord(candidates=["a"], chosen="a", default_tool_name="a", duration_ms=1.5, timed_out=True),
            "chosen",
        ),
        (DecisionPolicy(timeout_s=0.5, max_decisions_per_flow=3, on_timeout="default"), "timeout_s"),
        (APPROVAL_CONTEXT, "flow_name"),
        (ApprovalRecord(decision=ApprovalDecision.DENY, reason="why"), "reason"),
        (GUARDRAIL_CONTEXT.model_copy(update={"outputs": {"o": 1}}), "flow_name"),
    ],
)
def test_the_models_are_frozen_and_round_trip_through_json(instance: BaseModel, field: str) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(instance, field, "x")
    assert type(instance).model_validate_json(instance.model_dump_json()) == instance


def test_an_approval_decision_is_a_string() -> None:
    assert [(member.name, member.value) for member in ApprovalDecision] == [("APPROVE", "approve"), ("DENY", "deny")]
    assert ApprovalDecision("approve") is ApprovalDecision.APPROVE
    assert isinstance(ApprovalDecision.DENY, str)


def test_the_guardrail_stages_are_input_and_output() -> None:
    assert get_args(GuardrailStage) == ("input", "output")
    with pytest.raises(ValidationError, match="stage"):
        GuardrailContext(**GUARDRAIL_CONTEXT.model_dump() | {"stage": "middle"})


@pytest.mark.parametrize("timeout", [0, -1.0, float("nan")])
def test_a_decision_timeout_must_be_positive(timeout: float) -> None:
    with pytest.raises(ValidationError, match="timeout_s must be positive"):
        DecisionPolicy(timeout_s=timeout)


@pytest.mark.parametrize("budget", [0, -1])
def test_a_decision_budget_must_be_at_least_one(budget: int) -> None:
    with pytest.raises(ValidationError, match="max_decisions_per_flow must be >= 1"):
        DecisionPolicy(max_decisions_per_flow=budget)


def test_the_smallest_decision_limits_are_accepted() -> None:
    policy = DecisionPolicy(timeout_s=0.001, max_decisions_per_flow=1)
    assert (policy.timeout_s, policy.max_decisions_per_flow) == (0.001, 1)
    assert DecisionPolicy(timeout_s=None, max_decisions_per_flow=None) == DecisionPolicy()


def test_a_late_decision_is_an_error_or_the_default_and_nothing_else() -> None:
    with pytest.raises(ValidationError, match="on_timeout"):
        DecisionPolicy(on_timeout="skip")


def test_the_dicts_and_lists_in_a_context_are_shallow_copies() -> None:
    nested: list[int] = []
    context: dict[str, Any] = {"k": nested}
    candidates = ["a"]
    given = DecisionContext(**DECISION_CONTEXT.model_dump() | {"context": context, "candidates": candidates})
    given.context["k2"] = 1
    given.candidates.append("b")
    assert (context, candidates) == ({"k": []}, ["a"])
    assert given.context["k"] is nested


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: BaseDecisionCallback().decide(DECISION_CONTEXT), "decide"),
        (lambda: BaseApprovalCallback().approve(APPROVAL_CONTEXT), "approve"),
        (lambda: BaseGuardrailCallback().check(GUARDRAIL_CONTEXT), "check"),
    ],
)
def test_a_base_callback_that_is_not_overridden_says_so(call: Callable[[], Any], text: str) -> None:
    with pytest.raises(NotImplementedError, match=text):
        call()


class Coercion:
    """One row: the function under test, its parameter, the method, the protocol and the base class."""

    def __init__(self, coerce: Any, parameter: str, method: str, protocol: Any, base: Any) -> None:
        self.coerce, self.parameter, self.method, self.protocol, self.base = coerce, parameter, method, protocol, base


COERCIONS = pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, id=row.method)
        for row in (
            Coercion(coerce_decision_callback, "decision_callback", "decide", DecisionCallback, BaseDecisionCallback),
            Coercion(coerce_approval_callback, "approval_callback", "approve", ApprovalCallback, BaseApprovalCallback),
            Coercion(
                coerce_guardrail_callback, "guardrail_callback", "check", GuardrailCallback, BaseGuardrailCallback
            ),
        )
    ],
)


@COERCIONS
def test_none_stays_none(row: Coercion) -> None:
    assert row.coerce(None) is None


@COERCIONS
def test_an_object_with_the_method_is_used_as_it_is(row: Coercion) -> None:
    unrelated = type("Unrelated", (), {row.method: lambda self, ctx: ctx})()
    assert isinstance(unrelated, row.protocol)
    assert row.coerce(unrelated) is unrelated
    derived = row.base()
    assert isinstance(derived, row.protocol)
    assert row.coerce(derived) is derived


@COERCIONS
def test_an_object_with_the_method_that_is_also_callable_is_not_wrapped(row: Coercion) -> None:
    both = type("Both", (), {row.method: lambda self, ctx: "method", "__call__": lambda self, ctx: "call"})()
    assert row.coerce(both) is both


@COERCIONS
def test_a_plain_function_becomes_the_method(row: Coercion) -> None:
    def function(ctx: Any) -> Any:
        return ctx

    wrapped = row.coerce(function)
    assert isinstance(wrapped, row.protocol)
    assert getattr(wrapped, row.method) is function
    assert not inspect.iscoroutinefunction(getattr(wrapped, row.method))
    marker = object()
    assert getattr(wrapped, row.method)(marker) is marker


@COERCIONS
def test_a_wrapped_coroutine_function_is_still_seen_as_one(row: Coercion) -> None:
    async def function(ctx: Any) -> Any:
        return ctx

    wrapped = row.coerce(function)
    assert inspect.iscoroutinefunction(getattr(wrapped, row.method))


@COERCIONS
async def test_a_wrapped_coroutine_function_can_be_awaited(row: Coercion) -> None:
    async def function(ctx: Any) -> Any:
        return ctx

    assert await getattr(row.coerce(function), row.method)("given") == "given"


@COERCIONS
def test_a_callable_object_is_wrapped(row: Coercion) -> None:
    class Calls:
        def __call__(self, ctx: Any) -> Any:
            return ("called", ctx)

    assert getattr(row.coerce(Calls()), row.method)(1) == ("called", 1)


@COERCIONS
def test_coercing_again_changes_nothing(row: Coercion) -> None:
    wrapped = row.coerce(lambda ctx: ctx)
    assert row.coerce(wrapped) is wrapped


@COERCIONS
@pytest.mark.parametrize("given", [1, "text", object(), []])
def test_anything_else_is_a_type_error_that_says_what_is_expected(row: Coercion, given: Any) -> None:
    with pytest.raises(TypeError) as caught:
        row.coerce(given)
    assert str(caught.value) == (
        f"{row.parameter} must be an object with a {row.method}(ctx) method, a callable taking ctx, or None, "
        f"not {type(given).__name__}"
    )
