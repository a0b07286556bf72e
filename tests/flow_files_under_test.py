"""Flows with every field, the three forms that they are written in, and what the loader says of a text that it refuses."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from doubleweave import (
    AnyFlow,
    ConditionalEdge,
    DAGFlow,
    DAGFlowStep,
    DeterminismLevel,
    Flow,
    FlowGovernance,
    FlowLifecycle,
    FlowSerializationError,
    FlowStatus,
    FlowStep,
    RetryPolicy,
    SideEffectLevel,
    StabilityLevel,
    ToolSafetyContract,
    flow_from_dict,
    flow_from_json,
    flow_from_yaml,
    flow_to_dict,
    flow_to_json,
    flow_to_yaml,
    load_flow_file,
)

CORPUS = Path(__file__).resolve().parent / "malformed_flow_files"

Write = Callable[[AnyFlow], Any]
Read = Callable[..., AnyFlow]

FORMS: dict[str, tuple[Write, Read]] = {
    "dict": (flow_to_dict, flow_from_dict),
    "json": (flow_to_json, flow_from_json),
    "yaml": (flow_to_yaml, flow_from_yaml),
}
# The same data in each form.
TEXTS: dict[str, tuple[Callable[[Any], Any], Read]] = {
    "dict": (lambda data: data, flow_from_dict),
    "json": (json.dumps, flow_from_json),
    "yaml": (json.dumps, flow_from_yaml),  # JSON is YAML.
}
forms = pytest.mark.parametrize("form", FORMS)
text_forms = pytest.mark.parametrize("form", ["json", "yaml"])

LINEAR: dict[str, Any] = {"type": "Flow", "name": "f", "description": "", "steps": [{"tool_name": "t"}]}
DAG: dict[str, Any] = {
    "type": "DAGFlow",
    "name": "f",
    "version": "1",
    "description": "",
    "steps": [{"step_id": "a", "tool_name": "t"}],
}


def read(form: str, data: Any, **options: Any) -> AnyFlow:
    """Read plain data in one form."""
    write, reader = TEXTS[form]
    return reader(write(data), **options)


def refusal(reader: Read, text: Any, **options: Any) -> FlowSerializationError:
    """Return the error that reading raises, which is of this class and code and tells the detail and the source."""
    with pytest.raises(FlowSerializationError) as caught:
        reader(text, **options)
    error, source = caught.value, str(text) if reader is load_flow_file else options.get("source")
    assert (error.code, error.source) == ("CW-E017", source)
    of_source = "" if source is None else f" for '{source}'"
    assert str(error) == f"Flow serialization failed{of_source}: {error.detail}."
    assert not error.detail.endswith(".")
    assert "\n" not in error.detail
    return error


def refused(form: str, data: Any, **options: Any) -> FlowSerializationError:
    """Return the error that reading plain data in one form raises."""
    write, reader = TEXTS[form]
    return refusal(reader, write(data), **options)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    [
        "yes",
        "null",
        "1:30",
        "0x1",
        "=",
        "<<",
        "~",
        "2020-01-01",
        "\x85",
        "\u2028",
        "\ufeff",
        "\x00",
        " x ",
        "- a",
        "a: b",
        "...",
    ]
)
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
constants = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(texts, children, max_size=3),
    max_leaves=6,
)
names = st.lists(texts, max_size=3)
maybe = st.none() | texts

retries = st.builds(
    RetryPolicy,
    max_retries=st.integers(0, 9),
    backoff_seconds=st.floats(0, 9),
    backoff_multiplier=st.floats(1, 9),
    jitter=st.booleans(),
    retryable_errors=st.lists(texts.map(lambda text: f"{text}:E"), min_size=1, max_size=2).map(tuple),
)
governances = st.builds(
    FlowGovernance,
    lifecycle=st.sampled_from(FlowLifecycle),
    owner=maybe,
    replaces_tools=names.map(tuple),
    estimated_model_calls_removed=st.integers(0, 9),
    estimated_token_savings=st.none() | st.integers(0, 9),
    reviewed_by=maybe,
    review_notes=maybe,
)
contracts = st.builds(
    ToolSafetyContract,
    side_effects=st.sampled_from(SideEffectLevel),
    stability=st.sampled_from(StabilityLevel),
    determinism_level=st.sampled_from(DeterminismLevel),
    idempotent=st.booleans(),
    requires_approval=st.booleans(),
    approval_reason=maybe,
)


def step_fields(tool_names: Any) -> dict[str, Any]:
    return {
        "tool_name": tool_names,
        "input_mapping": st.dictionaries(texts, constants, max_size=2),
        "output_mapping": st.none() | st.dictionaries(texts, texts, max_size=2),
        "retry": st.none() | retries,
        "on_error": st.sampled_from(["fail", "skip", "fallback:\u202etool"]),
        "decision_candidates": st.none() | st.just(["a", "b"]),
        "input_contract": maybe,
        "output_contract": maybe,
    }


def flow_fields() -> dict[str, Any]:
    return {
        "name": texts,
        "version": texts,
        "description": texts,
        "deterministic": st.booleans(),
        "status": st.sampled_from(FlowStatus),
        "trigger_conditions": st.none() | st.dictionaries(texts, constants, max_size=2),
        "input_schema_ref": maybe,
        "output_schema_ref": maybe,
        "context_schema_ref": maybe,
        "tool_schema_hashes": st.none() | st.dictionaries(texts, texts, max_size=2),
        "capability_id": maybe,
        "governance": governances,
        "safety": st.none() | contracts,
        "on_context_collision": st.sampled_from(["overwrite", "warn", "error"]),
        "dynamic_params": names.map(tuple),
    }


sub_flow_steps = st.builds(FlowStep, flow_name=texts)
steps = st.builds(FlowStep, **step_fields(st.just("a"))) | sub_flow_steps
branches = st.lists(st.builds(ConditionalEdge, target_step_id=texts, predicate=texts), min_size=1, max_size=2)
dag_steps = (
    st.builds(DAGFlowStep, step_id=texts, depends_on=names, **step_fields(st.just("a")))
    | st.builds(DAGFlowStep, step_id=texts, tool_name=texts, branches=branches, default_next=maybe)
    | st.builds(DAGFlowStep, step_id=texts, tool_name=texts, step_type=st.just("capability"), capability_id=maybe)
)
any_flows = st.builds(Flow, steps=st.lists(steps, max_size=3), **flow_fields()) | st.builds(
    DAGFlow, steps=st.lists(dag_steps, max_size=3), **flow_fields()
)

FULL = DAGFlow(
    name="full",
    version="1.2",
    description="Everything",
    status=FlowStatus.NEEDS_REVIEW,
    deterministic=False,
    trigger_conditions={"on": ["order", {"above": 2.5}]},
    input_schema_ref="no.such.module:In",
    output_schema_ref="no.such.module:Out",
    context_schema_ref="no.such.module:Context",
    tool_schema_hashes={"t": "0123456789abcdef"},
    capability_id="cap",
    governance=FlowGovernance(lifecycle=FlowLifecycle.REVIEWED, owner="me", replaces_tools=("x",)),
    safety=ToolSafetyContract(side_effects=SideEffectLevel.WRITE, requires_approval=True, approval_reason="money"),
    on_context_collision="error",
    dynamic_params=("tenant",),
    steps=[
        DAGFlowStep(
            step_id="a",
            tool_name="t",
            input_mapping={"x": "/deep/key", "n": 3, "none": None},
            output_mapping={"y": "x"},
            retry=RetryPolicy(max_retries=1, jitter=True, retryable_errors=("no.such.module:Error",)),
            on_error="fallback:u",
            decision_candidates=["t", "u"],
            input_contract="no.such.module:In",
            output_contract="no.such.module:Out",
            branches=[ConditionalEdge(target_step_id="b", predicate="n > 2")],
            default_next="c",
        ),
        DAGFlowStep(step_id="b", flow_name="inner", depends_on=["a"]),
        DAGFlowStep(step_id="c", tool_name="t", depends_on=["a"], step_type="capability", capability_id="cap"),
    ],
)
