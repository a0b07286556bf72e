"""The tables of the models: each field with its type and default, in order, and each constructor's parameters."""

import inspect
import re
from collections.abc import Callable
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticUndefined

import doubleweave as dw
from doubleweave import (
    ConditionalEdge,
    DAGFlow,
    DAGFlowStep,
    Flow,
    FlowGovernance,
    FlowStatus,
    FlowStep,
    RedactionPolicy,
    RetryPolicy,
    StreamingTool,
    Tool,
    ToolChunk,
    ToolSafetyContract,
)

REQUIRED: Any = PydanticUndefined
Fields = dict[str, tuple[Any, Any]]

STEP: Fields = {
    "tool_name": (str | None, None),
    "flow_name": (str | None, None),
    "input_mapping": (dict[str, Any], {}),
    "output_mapping": (dict[str, str] | None, None),
    "retry": (RetryPolicy | None, None),
    "on_error": (str, "fail"),
    "decision_candidates": (list[str] | None, None),
    "input_contract": (str | None, None),
    "output_contract": (str | None, None),
}
FLOW: Fields = {
    "name": (str, REQUIRED),
    "version": (str, "0.1.0"),
    "description": (str, REQUIRED),
    "steps": (list[FlowStep], REQUIRED),
    "deterministic": (bool, True),
    "status": (FlowStatus, FlowStatus.ACTIVE),
    "trigger_conditions": (dict[str, Any] | None, None),
    "input_schema_ref": (str | None, None),
    "output_schema_ref": (str | None, None),
    "context_schema_ref": (str | None, None),
    "tool_schema_hashes": (dict[str, str] | None, None),
    "capability_id": (str | None, None),
    "governance": (FlowGovernance, FlowGovernance()),
    "safety": (ToolSafetyContract | None, None),
    "on_context_collision": (Literal["overwrite", "warn", "error"], "warn"),
    "dynamic_params": (tuple[str, ...], ()),
}
TABLES: dict[type[BaseModel], Fields] = {
    ToolSafetyContract: {
        "side_effects": (dw.SideEffectLevel, dw.SideEffectLevel.NONE),
        "read_only": (bool, True),
        "stability": (dw.StabilityLevel, dw.StabilityLevel.STABLE),
        "determinism_level": (dw.DeterminismLevel, dw.DeterminismLevel.FULL),
        "idempotent": (bool, True),
        "cacheable": (bool, True),
        "safe_to_retry": (bool, True),
        "supports_dry_run": (bool, False),
        "requires_approval": (bool, False),
        "approval_reason": (str | None, None),
    },
    RetryPolicy: {
        "max_retries": (int, 3),
        "backoff_seconds": (float, 1.0),
        "backoff_multiplier": (float, 2.0),
        "jitter": (bool, False),
        "retryable_errors": (tuple[str, ...], ("builtins:Exception",)),
    },
    FlowStep: STEP,
    DAGFlowStep: {
        **STEP,
        "step_id": (str, REQUIRED),
        "depends_on": (list[str], []),
        "step_type": (Literal["tool", "capability"], "tool"),
        "capability_id": (str | None, None),
        "branches": (list[ConditionalEdge], []),
        "default_next": (str | None, None),
    },
    ConditionalEdge: {"target_step_id": (str, REQUIRED), "predicate": (str, REQUIRED)},
    Flow: FLOW,
    DAGFlow: {**FLOW, "version": (str, REQUIRED), "steps": (list[DAGFlowStep], REQUIRED)},
    ToolChunk: {"data": (Any, REQUIRED), "is_final": (bool, False)},
    RedactionPolicy: {
        "redact_keys": (frozenset[str], dw.DEFAULT_REDACT_KEYS),
        "redact_pattern": (re.Pattern[str] | None, None),
        "max_value_length": (int | None, None),
        "redact_replacement": (str, "***REDACTED***"),
    },
}
ROWS = [(model, name, *row) for model, fields in TABLES.items() for name, row in fields.items()]
LEAST: dict[type[BaseModel], dict[str, Any]] = {
    FlowStep: {"tool_name": "t"},
    DAGFlowStep: {"tool_name": "t", "step_id": "s"},
    ConditionalEdge: {"target_step_id": "s", "predicate": "x"},
    Flow: {"name": "f", "description": "d", "steps": []},
    DAGFlow: {"name": "f", "version": "1", "description": "d", "steps": []},
    ToolChunk: {"data": 1},
}
FROZEN = [ToolSafetyContract, RetryPolicy, ConditionalEdge, ToolChunk, RedactionPolicy]


@pytest.mark.parametrize(
    ("model", "field", "annotation", "default"), ROWS, ids=[f"{row[0].__name__} {row[1]}" for row in ROWS]
)
def test_a_field_has_the_type_and_the_default_of_the_table(
    model: type[BaseModel], field: str, annotation: Any, default: Any
) -> None:
    assert model.model_fields[field].annotation == annotation
    least = LEAST.get(model, {})
    if default is REQUIRED:
        assert field in least
        with pytest.raises(ValidationError) as caught:
            model(**{name: value for name, value in least.items() if name != field})
        assert [(error["type"], error["loc"]) for error in caught.value.errors()] == [("missing", (field,))]
    elif field not in least:
        first, second = getattr(model(**least), field), getattr(model(**least), field)
        assert first == default
        assert type(first) is type(default)
        if isinstance(default, dict | list):
            assert first is not second


@pytest.mark.parametrize("model", TABLES, ids=lambda model: model.__name__)
def test_the_fields_stand_in_the_order_of_the_table(model: type[BaseModel]) -> None:
    assert list(model.model_fields) == list(TABLES[model])


@pytest.mark.parametrize("model", TABLES, ids=lambda model: model.__name__)
def test_a_model_is_frozen_or_may_be_changed_and_ignores_fields_that_it_does_not_know(model: type[BaseModel]) -> None:
    made = model(**LEAST.get(model, {}), colour="blue")
    assert "colour" not in made.model_dump()
    field = next(iter(TABLES[model]))
    if model in FROZEN:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(made, field, getattr(made, field))
    else:
        setattr(made, field, "changed")
        assert getattr(made, field) == "changed"


# --- constructors -----------------------------------------------------------------------------------------------------

EMPTY = inspect.Parameter.empty
TOOL: dict[str, Any] = {
    "name": EMPTY,
    "description": EMPTY,
    "input_schema": EMPTY,
    "output_schema": EMPTY,
    "fn": EMPTY,
    "timeout_seconds": None,
    "max_output_size": None,
    "schema_version": "0.0.0",
    "cacheable": None,
    "safety": None,
    "metadata": None,
    "dry_run_fn": None,
}
STREAMING = {"stream_fn" if name == "fn" else name: value for name, value in TOOL.items() if name != "dry_run_fn"}
# What is called, its positional parameters, and those that are by keyword only.
SIGNATURES: dict[str, tuple[Callable[..., Any], dict[str, Any], dict[str, Any]]] = {
    "Tool": (Tool, {}, {**TOOL, "inline": False}),
    "StreamingTool": (StreamingTool, {}, STREAMING),
    "Tool.from_flow": (
        Tool.from_flow,
        {"flow": EMPTY, "executor": EMPTY},
        dict.fromkeys(["name", "description", "input_schema", "output_schema", "safety"]),
    ),
    "tool": (
        dw.tool,
        {"fn": None},
        {
            **dict.fromkeys(["name", "description", "output_schema", "timeout_seconds", "max_output_size"]),
            "schema_version": "0.0.0",
            "cacheable": True,
            "safety": None,  # beyond the table
        },
    ),
    "merge_safety": (dw.merge_safety, {"contracts": EMPTY}, {"default": None}),
    "side_effect_exceeds": (dw.side_effect_exceeds, {"level": EMPTY, "ceiling": EMPTY}, {}),
    "resolve_class_ref": (dw.resolve_class_ref, {"ref": EMPTY}, {"expected_base": None}),
    "SchemaRefAllowlist": (dw.SchemaRefAllowlist, {"prefixes": EMPTY}, {}),
    "check_flow_compatibility": (dw.check_flow_compatibility, {"flow": EMPTY, "tools": EMPTY}, {}),
    "FlowRegistry": (dw.FlowRegistry, {"store": None}, {"discover_plugins": False}),
    "register_flow": (dw.FlowRegistry.register_flow, {"flow": EMPTY}, {"overwrite": False}),
    "get_flow": (dw.FlowRegistry.get_flow, {"name": EMPTY}, {"version": None}),
    "list_flows": (dw.FlowRegistry.list_flows, {}, {"status": None, "exclude_status": None}),
    "get_active_flows": (dw.FlowRegistry.get_active_flows, {}, {}),
    "list_flow_versions": (dw.FlowRegistry.list_flow_versions, {"name": EMPTY}, {}),
    "set_flow_status": (dw.FlowRegistry.set_flow_status, {"flow_name": EMPTY, "status": EMPTY}, {"version": None}),
    "match_flow_by_intent": (dw.FlowRegistry.match_flow_by_intent, {"intent": EMPTY}, {}),
    "log_step_start": (
        dw.log_step_start,
        dict.fromkeys(["logger", "step_index", "tool_name", "inputs"], EMPTY),
        {"redaction": None},
    ),
    "log_step_end": (
        dw.log_step_end,
        dict.fromkeys(["logger", "step_index", "tool_name", "outputs"], EMPTY),
        {"redaction": None},
    ),
    "log_step_error": (dw.log_step_error, dict.fromkeys(["logger", "step_index", "tool_name", "error"], EMPTY), {}),
    "InMemoryTraceStore": (dw.InMemoryTraceStore, {}, {"redaction_policy": None}),
    "FileTraceStore": (dw.FileTraceStore, {"root": EMPTY}, {"redaction_policy": None, "max_traces": None}),
    "redact_execution_result": (dw.redact_execution_result, {"result": EMPTY, "policy": EMPTY}, {}),
    "discover_tools": (dw.discover_tools, {}, {"group": "doubleweave.tools", "strict": False}),
    "discover_flows": (dw.discover_flows, {}, {"group": "doubleweave.flows", "strict": False}),
}


@pytest.mark.parametrize(("called", "positional", "by_keyword"), SIGNATURES.values(), ids=SIGNATURES)
def test_what_users_call_has_the_parameters_and_defaults_of_the_table(
    called: Callable[..., Any], positional: dict[str, Any], by_keyword: dict[str, Any]
) -> None:
    found = [each for each in inspect.signature(called).parameters.values() if each.name != "self"]
    kinds = {kind: {each.name: each.default for each in found if each.kind is kind} for kind in inspect._ParameterKind}
    assert kinds.pop(inspect.Parameter.POSITIONAL_OR_KEYWORD) == positional
    assert kinds.pop(inspect.Parameter.KEYWORD_ONLY) == by_keyword
    assert [names for names in kinds.values() if names] == []


# --- where they are ---------------------------------------------------------------------------------------------------

PUBLIC = """
    Tool ToolChunk StreamingTool tool
    SideEffectLevel StabilityLevel DeterminismLevel ToolSafetyContract side_effect_exceeds merge_safety
    RetryPolicy FlowStep DAGFlowStep ConditionalEdge
    FlowStatus ContextCollisionPolicy Flow DAGFlow AnyFlow FlowLifecycle FlowGovernance validate_dag_topology
    resolve_class_ref SchemaRefPolicy set_schema_ref_policy get_schema_ref_policy schema_ref_policy SchemaRefAllowlist
    schema_fingerprint schema_dict_fingerprint check_flow_compatibility CompatibilityIssue DriftInfo
    FlowBuilder FlowRegistry ReloadReport WatchHandle RegistryStore InMemoryStore FileStore
    compile_flow CompilationResult CompilationError CompilationWarning
    flow_to_ascii flow_to_mermaid flow_to_dot result_to_mermaid
    RedactionPolicy DEFAULT_REDACT_KEYS get_logger log_step_start log_step_end log_step_error
    TraceStore InMemoryTraceStore FileTraceStore redact_execution_result
    discover_tools discover_flows FLOW_INPUT_STEP_INDEX flow_output_step_index evaluate_predicate
"""


@pytest.mark.parametrize("name", PUBLIC.split())
def test_each_public_name_is_listed_by_the_package_root(name: str) -> None:
    assert name in dw.__all__
    assert getattr(dw, name) is not None
