"""The error catalogue: codes, bases, attributes, messages, and the registry of codes."""

import copy
import inspect
import pickle
import re
from typing import Any, NamedTuple

import pytest

from doubleweave import errors
from doubleweave.errors import (
    CheckpointNotFoundError,
    DoubleweaveError,
    FlowCancelledError,
    FlowSerializationError,
    OutputMappingError,
    SchemaRefPolicyError,
    error_code_for,
    error_code_registry,
)


class Row(NamedTuple):
    code: str
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    attributes: dict[str, Any]
    message: str
    base: str = "DoubleweaveError"

    def build(self) -> DoubleweaveError:
        error: DoubleweaveError = getattr(errors, self.name)(*self.args, **self.kwargs)
        return error


STEP = {"tool_name": "t", "step_index": 3}
DETAIL = {**STEP, "detail": "bad."}

ROWS = [
    Row("CW-E000", "DoubleweaveError", ("free form",), {}, {}, "free form", "Exception"),
    Row("CW-E001", "ToolNotFoundError", ("t",), {}, {"tool_name": "t", "hint": ""}, "Tool 't' is not registered."),
    Row("CW-E002", "FlowNotFoundError", ("f",), {}, {"flow_name": "f", "version": None}, "Flow 'f' is not registered."),
    Row(
        "CW-E002",
        "FlowNotFoundError",
        ("f",),
        {"version": "1.0"},
        {"flow_name": "f", "version": "1.0"},
        "Flow 'f' version '1.0' is not registered.",
    ),
    Row("CW-E003", "FlowAlreadyExistsError", ("f",), {}, {"flow_name": "f"}, "Flow 'f' is already registered."),
    Row(
        "CW-E004",
        "SchemaValidationError",
        ("t", 3, "bad."),
        {},
        {**DETAIL, "context": "tool", "hint": ""},
        "Schema validation failed for tool 't' at step 3: bad.",
    ),
    Row(
        "CW-E004",
        "SchemaValidationError",
        ("f", 0, "bad"),
        {"context": "flow_input"},
        {"tool_name": "f", "step_index": 0, "detail": "bad", "context": "flow_input", "hint": ""},
        "Schema validation failed for flow_input 'f' at step 0: bad",
    ),
    Row(
        "CW-E005",
        "InputMappingError",
        ("t", 3, "/a/b"),
        {},
        {**STEP, "key": "/a/b", "hint": ""},
        "Input mapping key '/a/b' not found for tool 't' at step 3.",
    ),
    Row("CW-E006", "FlowExecutionError", ("t", 3, "bad."), {}, DETAIL, "Execution error in tool 't' at step 3: bad."),
    Row(
        "CW-E007",
        "ToolDefinitionError",
        ("fn", "bad"),
        {},
        {"function_name": "fn", "detail": "bad"},
        "Cannot define tool from function 'fn': bad",
    ),
    Row(
        "CW-E008",
        "ToolTimeoutError",
        ("t", 0.5),
        {},
        {"tool_name": "t", "timeout_seconds": 0.5},
        "Tool 't' exceeded timeout of 0.5s.",
    ),
    Row(
        "CW-E009",
        "ToolOutputSizeError",
        ("t", 11, 10),
        {},
        {"tool_name": "t", "size": 11, "max_size": 10},
        "Tool 't' output size 11 exceeds max 10.",
    ),
    Row(
        "CW-E010",
        "DAGDefinitionError",
        ("f", "cycle", "a -> b -> a"),
        {},
        {"flow_name": "f", "reason": "cycle", "detail": "a -> b -> a"},
        "Invalid DAG flow 'f' (cycle): a -> b -> a",
    ),
    Row(
        "CW-E011",
        "FlowStatusError",
        ("f", "disabled"),
        {},
        {"flow_name": "f", "status": "disabled"},
        "Flow 'f' has status 'disabled'. Pass force=True to run it anyway.",
    ),
    Row(
        "CW-E012",
        "FlowCancelledError",
        ("f", 3),
        {"result": {"partial": 1}},
        {
            "flow_name": "f",
            "step_index": 3,
            "result": {"partial": 1},
            "deadline_exceeded": False,
            "token_cancelled": False,
        },
        "Flow 'f' cancelled before step 3 (cancellation requested).",
    ),
    Row(
        "CW-E012",
        "FlowCancelledError",
        ("f", 3),
        {"result": None, "token_cancelled": True},
        {"flow_name": "f", "step_index": 3, "result": None, "deadline_exceeded": False, "token_cancelled": True},
        "Flow 'f' cancelled before step 3 (cancellation requested).",
    ),
    Row(
        "CW-E012",
        "FlowCancelledError",
        ("f", 3),
        {"result": None, "deadline_exceeded": True},
        {"flow_name": "f", "step_index": 3, "result": None, "deadline_exceeded": True, "token_cancelled": False},
        "Flow 'f' cancelled before step 3 (wall-clock deadline exceeded).",
    ),
    Row(
        "CW-E012",
        "FlowCancelledError",
        ("f", 3),
        {"result": None, "deadline_exceeded": True, "token_cancelled": True},
        {"flow_name": "f", "step_index": 3, "result": None, "deadline_exceeded": True, "token_cancelled": True},
        "Flow 'f' cancelled before step 3 (wall-clock deadline exceeded and cancellation requested).",
    ),
    Row(
        "CW-E013",
        "ContextKeyCollisionError",
        ("f", 3, "s", ("a", "b")),
        {},
        {"flow_name": "f", "step_index": 3, "step_name": "s", "keys": ["a", "b"]},
        "Flow 'f' step 3 ('s') would overwrite context keys 'a', 'b' under on_context_collision='error'.",
    ),
    Row(
        "CW-E014",
        "AsyncLaneUnsupportedError",
        ("f", ("branches", "decisions")),
        {},
        {"flow_name": "f", "unsupported": ["branches", "decisions"]},
        "Flow 'f' cannot run with execute_flow_async: branches; decisions.",
    ),
    Row(
        "CW-E015",
        "FlowCompositionError",
        ("f", "cycle", "f -> g -> f"),
        {},
        {"flow_name": "f", "reason": "cycle", "detail": "f -> g -> f"},
        "Invalid flow composition for 'f' (cycle): f -> g -> f",
    ),
    Row(
        "CW-E016",
        "InvalidFlowVersionError",
        ("f", "x", "not PEP 440"),
        {},
        {"flow_name": "f", "version": "x", "detail": "not PEP 440"},
        "Flow 'f' has invalid version 'x': not PEP 440.",
    ),
    Row(
        "CW-E017",
        "FlowSerializationError",
        ("bad",),
        {},
        {"detail": "bad", "source": None},
        "Flow serialization failed: bad.",
    ),
    Row(
        "CW-E017",
        "FlowSerializationError",
        ("bad",),
        {"source": "f.yaml"},
        {"detail": "bad", "source": "f.yaml"},
        "Flow serialization failed for 'f.yaml': bad.",
    ),
    Row(
        "CW-E018",
        "CheckpointDriftError",
        ("id", "f", "flow version changed"),
        {},
        {"trace_id": "id", "flow_name": "f", "detail": "flow version changed"},
        "Cannot resume trace 'id' for flow 'f': flow version changed.",
    ),
    Row(
        "CW-E019",
        "CheckpointerNotConfiguredError",
        (),
        {},
        {},
        "No checkpointer is configured; pass checkpointer= to the executor to use resume_flow.",
    ),
    Row(
        "CW-E020",
        "CheckpointNotFoundError",
        ("id",),
        {},
        {"trace_id": "id"},
        "No snapshot found for trace_id 'id'.",
    ),
    Row(
        "CW-E055",
        "CheckpointCorruptError",
        ("id", "/snapshots/id.json"),
        {},
        {"trace_id": "id", "path": "/snapshots/id.json"},
        "The snapshot for trace_id 'id' at '/snapshots/id.json' cannot be read; the file was kept.",
        "CheckpointNotFoundError",
    ),
    Row(
        "CW-E021",
        "CheckpointVersionError",
        ("id", "f", "2.0.0", "1.0.0"),
        {},
        {"trace_id": "id", "flow_name": "f", "snapshot_version": "2.0.0", "expected_version": "1.0.0"},
        "Cannot resume trace 'id' for flow 'f': snapshot version '2.0.0' is not compatible with '1.0.0'.",
    ),
    Row(
        "CW-E022",
        "PluginDiscoveryError",
        ("dist:name", "bad"),
        {},
        {"entry_point": "dist:name", "detail": "bad"},
        "Plugin discovery failed for entry point 'dist:name': bad.",
    ),
    Row(
        "CW-E023",
        "ContribError",
        ("t", "bad"),
        {},
        {"tool_name": "t", "detail": "bad"},
        "Contrib tool 't' failed: bad.",
    ),
    Row(
        "CW-E024",
        "MCPError",
        ("node", "it is gone"),
        {},
        {"server": "node", "detail": "it is gone"},
        "MCP server 'node': it is gone.",
    ),
    Row(
        "CW-E025",
        "MCPSchemaConversionError",
        ("node", "t", "bad."),
        {},
        {"server": "node", "tool_name": "t", "detail": "bad."},
        "MCP server 'node': tool 't' cannot be taken over: bad; take others with only=.",
        "MCPError",
    ),
    Row(
        "CW-E026",
        "MCPToolInvocationError",
        ("node", "t", "no such file."),
        {},
        {"server": "node", "tool_name": "t", "detail": "no such file."},
        "MCP server 'node': tool 't' failed: no such file.",
        "MCPError",
    ),
    Row(
        "CW-E029",
        "ApprovalDeniedError",
        ("t", 3, "no..."),
        {},
        {**STEP, "detail": "no..."},
        "Approval denied for tool 't' at step 3: no.",
    ),
    Row(
        "CW-E030",
        "SafetyCeilingError",
        ("t", 3, "write", "read"),
        {},
        {**STEP, "level": "write", "ceiling": "read"},
        "Tool 't' at step 3 has side-effect level 'write', above the ceiling 'read'.",
    ),
    Row(
        "CW-E031",
        "DecisionCallbackError",
        ("t", 3, "bad."),
        {},
        DETAIL,
        "Decision failed at step 3 (default tool 't'): bad.",
    ),
    Row(
        "CW-E032",
        "KernelInvocationError",
        ("cap", 3, "bad"),
        {},
        {"capability_id": "cap", "step_index": 3, "detail": "bad"},
        "Invocation of capability 'cap' failed at step 3: bad.",
    ),
    Row(
        "CW-E033",
        "CostProfileError",
        ("p", "m", "unknown"),
        {},
        {"provider": "p", "model": "m", "detail": "unknown"},
        "No maintained price for provider 'p' model 'm': unknown.",
    ),
    Row(
        "CW-E036",
        "PredicateSyntaxError",
        ("a = 1", "syntax error: bad"),
        {},
        {"predicate": "a = 1", "detail": "syntax error: bad"},
        "Invalid predicate 'a = 1': syntax error: bad",
    ),
    Row(
        "CW-E041",
        "OutputMappingError",
        ("t", 3, "x", ("b", "a")),
        {},
        {**STEP, "output_key": "x", "available": ["b", "a"]},
        "Output mapping key 'x' not produced by tool 't' at step 3; available keys: ['a', 'b'].",
    ),
    Row(
        "CW-E049",
        "DecisionTimeoutError",
        ("t", 3, 1.5),
        {},
        {**STEP, "timeout_s": 1.5},
        "Decision at step 3 (default tool 't') exceeded timeout of 1.5s.",
    ),
    Row(
        "CW-E050",
        "DecisionBudgetExceededError",
        ("f", 2),
        {},
        {"flow_name": "f", "budget": 2},
        "Flow 'f' exceeded its budget of 2 decisions.",
    ),
    Row(
        "CW-E051",
        "SchemaRefPolicyError",
        ("m", "m:C"),
        {},
        {"module_path": "m", "ref": "m:C", "detail": "module 'm' is not permitted by the active schema-ref policy"},
        "Class ref 'm:C' rejected: module 'm' is not permitted by the active schema-ref policy.",
    ),
    Row(
        "CW-E051",
        "SchemaRefPolicyError",
        ("m", "m:C", "no"),
        {},
        {"module_path": "m", "ref": "m:C", "detail": "no"},
        "Class ref 'm:C' rejected: no.",
    ),
    Row(
        "CW-E052",
        "GuardrailViolationError",
        ("t", 3, "input", "no."),
        {},
        {**STEP, "stage": "input", "detail": "no."},
        "Guardrail (input) blocked tool 't' at step 3: no.",
    ),
    Row(
        "CW-E056",
        "JsonSchemaMismatchError",
        ("input of tool 'x'", [("$.a", "no"), ("$.b", "bad")]),
        {},
        {"schema_name": "input of tool 'x'", "errors": (("$.a", "no"), ("$.b", "bad"))},
        "Value does not match the JSON Schema of input of tool 'x': $.a: no; $.b: bad",
    ),
    Row(
        "CW-E056",
        "JsonSchemaMismatchError",
        ("s", [(f"$[{n}]", "no") for n in range(7)]),
        {},
        {"schema_name": "s", "errors": tuple((f"$[{n}]", "no") for n in range(7))},
        "Value does not match the JSON Schema of s: $[0]: no; $[1]: no; $[2]: no; $[3]: no; $[4]: no; and 2 more",
    ),
    Row(
        "CW-E057",
        "JsonSchemaDefinitionError",
        ("$.properties.a.$ref", "leads nowhere"),
        {},
        {"path": "$.properties.a.$ref", "detail": "leads nowhere"},
        "Invalid JSON Schema at $.properties.a.$ref: leads nowhere.",
    ),
    Row(
        "CW-E058",
        "CheckpointSaveError",
        ("t1", "context.x is a set, which has no JSON form"),
        {},
        {"trace_id": "t1", "detail": "context.x is a set, which has no JSON form"},
        "Cannot save a snapshot of trace 't1': context.x is a set, which has no JSON form.",
    ),
]

RESERVED_CODES = {f"CW-E{n:03}" for n in (24, 25, 26, 27, 28, 34, 35, 42, 43, 44, 45, 46, 47, 48, 53, 54)}

each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.code}-{row.name}")


def library_classes() -> list[type[BaseException]]:
    return [
        cls
        for _, cls in inspect.getmembers(errors, inspect.isclass)
        if issubclass(cls, BaseException) and cls.__module__ == errors.__name__
    ]


@each_row
def test_e_4_an_error_has_the_code_of_the_catalogue(row: Row) -> None:
    error = row.build()
    assert error.code == row.code
    assert type(error).code == row.code


@each_row
def test_an_error_has_the_base_of_the_catalogue(row: Row) -> None:
    assert [base.__name__ for base in type(row.build()).__bases__] == [row.base]


@each_row
def test_an_error_stores_its_constructor_arguments(row: Row) -> None:
    assert vars(row.build()) == row.attributes


@each_row
def test_an_error_has_the_message_of_the_catalogue(row: Row) -> None:
    assert str(row.build()) == row.message


@each_row
def test_e_4_the_code_is_not_part_of_the_message(row: Row) -> None:
    assert "CW-E" not in str(row.build())


@each_row
def test_e_10_a_message_never_ends_with_two_periods(row: Row) -> None:
    assert not str(row.build()).endswith("..")


@each_row
@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, *(lambda e, p=p: pickle.loads(pickle.dumps(e, p)) for p in range(6))],
    ids=["copy", "deepcopy", *(f"pickle{p}" for p in range(6))],
)
def test_an_error_survives_copying_and_pickling(row: Row, duplicate: Any) -> None:
    error = row.build()
    error.add_note("seen twice")
    twin = duplicate(error)
    assert twin is not error
    assert type(twin) is type(error)
    assert str(twin) == row.message
    assert twin.args == error.args
    assert vars(twin) == {**row.attributes, "__notes__": ["seen twice"]}


def test_every_error_class_of_the_module_is_in_the_catalogue() -> None:
    assert {cls.__name__ for cls in library_classes()} == {row.name for row in ROWS}


def test_e_1_every_error_derives_from_the_root_and_the_root_from_exception_alone() -> None:
    assert all(issubclass(cls, DoubleweaveError) for cls in library_classes())
    assert DoubleweaveError.__bases__ == (Exception,)


def test_e_2_e_14_codes_are_well_formed_unique_and_never_reserved() -> None:
    codes = [cls.__dict__["code"] for cls in library_classes()]
    assert all(re.fullmatch(r"CW-E\d{3}", code) for code in codes)
    assert len(codes) == len(set(codes))
    with_its_meaning = {
        "CW-E024": "MCPError",
        "CW-E025": "MCPSchemaConversionError",
        "CW-E026": "MCPToolInvocationError",
    }
    reserved = {vars(cls)["code"]: cls.__name__ for cls in library_classes() if vars(cls)["code"] in RESERVED_CODES}
    assert reserved == with_its_meaning


def test_the_word_version_is_absent_without_a_version() -> None:
    assert "version" not in str(errors.FlowNotFoundError("f"))


def test_e_10_a_detail_with_its_own_period_is_kept_verbatim_where_nothing_is_trimmed() -> None:
    assert str(errors.ContribError("t", "bad.")) == "Contrib tool 't' failed: bad.."


def test_lists_of_names_are_stored_as_new_lists() -> None:
    names = ["a"]
    collision = errors.ContextKeyCollisionError("f", 0, "s", names)
    unsupported = errors.AsyncLaneUnsupportedError("f", names)
    mapping = OutputMappingError("t", 0, "x", names)
    names.append("b")
    assert (collision.keys, unsupported.unsupported, mapping.available) == (["a"], ["a"], ["a"])


def test_the_keys_of_a_dict_can_be_given_and_still_pickle() -> None:
    error = OutputMappingError("t", 0, "x", {"b": 1, "a": 2}.keys())
    assert pickle.loads(pickle.dumps(error)).available == ["b", "a"]


def test_e_11_a_refused_reference_is_not_a_serialization_error() -> None:
    assert not issubclass(SchemaRefPolicyError, FlowSerializationError)


def test_a_corrupt_snapshot_is_caught_as_a_missing_one() -> None:
    with pytest.raises(CheckpointNotFoundError, match="the file was kept"):
        raise errors.CheckpointCorruptError("id", "p")


def test_the_result_of_a_cancelled_flow_must_be_given() -> None:
    with pytest.raises(TypeError, match="result"):
        FlowCancelledError("f", 0)  # type: ignore[call-arg]


def test_e_5_the_registry_maps_every_class_to_its_code() -> None:
    expected = {row.name: row.code for row in ROWS}
    registry = error_code_registry()
    assert {name: registry[name] for name in expected} == expected


def test_e_5_changing_a_returned_registry_changes_nothing() -> None:
    error_code_registry()["ToolNotFoundError"] = "changed"
    assert error_code_registry()["ToolNotFoundError"] == "CW-E001"
    assert error_code_for("ToolNotFoundError") == "CW-E001"


def test_e_5_classes_that_users_define_later_appear_in_the_registry() -> None:
    assert "FirstUserError" not in error_code_registry()
    assert error_code_for("FirstUserError") is None

    class FirstUserError(DoubleweaveError):
        code = "CW-E901"

    class SecondUserError(FirstUserError):
        code = "CW-E902"

    registry = error_code_registry()
    assert (registry["FirstUserError"], registry["SecondUserError"]) == ("CW-E901", "CW-E902")
    assert error_code_for("SecondUserError") == "CW-E902"


def test_e_7_a_class_without_a_code_of_its_own_inherits_one() -> None:
    class SlowToolError(errors.ToolTimeoutError):
        pass

    assert SlowToolError("t", 1).code == "CW-E008"
    assert error_code_for("SlowToolError") == "CW-E008"


class UserErrorWithKeywords(DoubleweaveError):
    code = "CW-E903"

    def __init__(self, *, reason: str) -> None:
        super().__init__(f"Because {reason}.")
        self.reason = reason


def test_errors_that_users_define_survive_pickling() -> None:
    twin = pickle.loads(pickle.dumps(UserErrorWithKeywords(reason="so")))
    assert (str(twin), twin.reason) == ("Because so.", "so")


@pytest.mark.parametrize(
    ("name", "code"),
    [
        (None, None),
        ("ValueError", None),
        ("", None),
        ("NoSuchError", None),
        ("DoubleweaveError", "CW-E000"),
        ("CheckpointCorruptError", "CW-E055"),
    ],
)
def test_e_6_a_code_is_found_by_class_name(name: str | None, code: str | None) -> None:
    assert error_code_for(name) == code
