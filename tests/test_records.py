"""Step records and results: fields, derived codes, JSON, and the trusted constructor."""

import copy
import pickle
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticUndefined

from doubleweave.models.callbacks import ApprovalDecision, ApprovalRecord, DecisionRecord
from doubleweave.models.cost import compute_cost_report
from doubleweave.models.records import ExecutionResult, StepRecord, trusted_step_record

START = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
END = START + timedelta(milliseconds=12)
REQUIRED = PydanticUndefined

STEP_RECORD_FIELDS: list[tuple[str, str, Any]] = [
    ("step_index", "int", REQUIRED),
    ("tool_name", "str", REQUIRED),
    ("inputs", "dict[str, Any]", REQUIRED),
    ("outputs", "dict[str, Any] | None", None),
    ("error_type", "str | None", None),
    ("error_code", "str | None", None),
    ("error_message", "str | None", None),
    ("success", "bool", True),
    ("started_at", "datetime", REQUIRED),
    ("ended_at", "datetime", REQUIRED),
    ("duration_ms", "float", REQUIRED),
    ("retry_count", "int", 0),
    ("retry_errors", "list[str]", []),
    ("skipped", "bool", False),
    ("cached", "bool", False),
    ("fallback_used", "bool", False),
    ("fallback_tool_name", "str | None", None),
    ("flow_name", "str | None", None),
    ("sub_result", "ExecutionResult | None", None),
    ("approval", "ApprovalRecord | None", None),
    ("decision", "DecisionRecord | None", None),
]

EXECUTION_RESULT_FIELDS: list[tuple[str, str, Any]] = [
    ("trace_schema_version", "str", "1.1"),
    ("flow_name", "str", REQUIRED),
    ("flow_version", "str", REQUIRED),
    ("success", "bool", REQUIRED),
    ("final_output", "dict[str, Any] | None", REQUIRED),
    ("execution_log", "list[StepRecord]", []),
    ("trace_id", "str", REQUIRED),
    ("started_at", "datetime", REQUIRED),
    ("ended_at", "datetime", REQUIRED),
    ("total_duration_ms", "float", REQUIRED),
    ("cost_report", "CostReport | None", None),
    ("initial_input", "dict[str, Any]", {}),
    ("dry_run", "bool", False),
]


def required_values() -> dict[str, Any]:
    return {
        "step_index": 3,
        "tool_name": "fetch",
        "inputs": {"url": "u"},
        "outputs": {"body": [1, 2]},
        "started_at": START,
        "ended_at": END,
        "duration_ms": 12.5,
    }


def optional_values() -> dict[str, Any]:
    return {
        "error_type": "ToolTimeoutError",
        "error_message": "Tool 'fetch' exceeded timeout of 1s.",
        "success": False,
        "retry_count": 2,
        "retry_errors": ["first", "second"],
        "skipped": True,
        "cached": True,
        "fallback_used": True,
        "fallback_tool_name": "other",
        "flow_name": "sub",
        "sub_result": result(),
        "approval": ApprovalRecord(decision=ApprovalDecision.DENY, reason="no"),
        "decision": DecisionRecord(candidates=["fetch"], chosen="fetch", default_tool_name="fetch", duration_ms=1.0),
    }


def result(*, log: list[StepRecord] | None = None, **changes: Any) -> ExecutionResult:
    values: dict[str, Any] = {
        "flow_name": "flow",
        "flow_version": "1.0.0",
        "success": True,
        "final_output": {"x": 1},
        "execution_log": log or [],
        "trace_id": "0" * 32,
        "started_at": START,
        "ended_at": END,
        "total_duration_ms": 12.5,
    }
    return ExecutionResult(**values | changes)


def nested(depth: int) -> ExecutionResult:
    """A result whose only record contains a result, ``depth`` times."""
    sub = nested(depth - 1) if depth else None
    record = StepRecord(**required_values(), flow_name="sub", sub_result=sub)
    return result(log=[record], trace_id=f"{depth:032x}")


@pytest.mark.parametrize(
    ("model", "table"), [(StepRecord, STEP_RECORD_FIELDS), (ExecutionResult, EXECUTION_RESULT_FIELDS)]
)
def test_the_fields_are_exactly_these_in_this_order(model: type[BaseModel], table: list[tuple[str, str, Any]]) -> None:
    assert list(model.model_fields) == [name for name, _, _ in table]


@pytest.mark.parametrize(
    ("model", "name", "annotation", "default"),
    [(StepRecord, *row) for row in STEP_RECORD_FIELDS] + [(ExecutionResult, *row) for row in EXECUTION_RESULT_FIELDS],
)
def test_each_field_has_its_type_and_default(model: type[BaseModel], name: str, annotation: str, default: Any) -> None:
    assert model.__annotations__[name] == annotation
    assert model.model_fields[name].get_default(call_default_factory=True) == default
    assert model.model_fields[name].is_required() is (default is REQUIRED)


@pytest.mark.parametrize("name", [name for name, _, default in STEP_RECORD_FIELDS if default is REQUIRED])
def test_a_record_without_a_required_field_is_rejected(name: str) -> None:
    values = required_values()
    del values[name]
    with pytest.raises(ValidationError, match=name):
        StepRecord(**values)


def test_the_final_output_must_be_given_and_may_be_none() -> None:
    assert result(final_output=None).final_output is None
    values = result().model_dump()
    del values["final_output"]
    with pytest.raises(ValidationError, match="final_output"):
        ExecutionResult(**values)


@pytest.mark.parametrize(
    ("error_type", "code"),
    [
        (None, None),
        ("ToolNotFoundError", "CW-E001"),
        ("SchemaValidationError", "CW-E004"),
        ("FlowExecutionError", "CW-E006"),
        ("FlowCancelledError", "CW-E012"),
        ("GuardrailViolationError", "CW-E052"),
        ("ValueError", None),
    ],
)
def test_the_error_code_follows_from_the_error_type(error_type: str | None, code: str | None) -> None:
    assert StepRecord(**required_values(), error_type=error_type).error_code == code
    assert trusted_step_record(**required_values(), error_type=error_type).error_code == code


def test_a_given_error_code_is_kept() -> None:
    record = StepRecord(**required_values(), error_type="ToolNotFoundError", error_code="X-1")
    assert record.error_code == "X-1"


def test_an_error_code_missing_from_json_is_filled() -> None:
    values = StepRecord(**required_values(), error_type="ToolNotFoundError").model_dump_json(exclude={"error_code"})
    assert StepRecord.model_validate_json(values).error_code == "CW-E001"


def test_list_and_dict_defaults_are_not_shared() -> None:
    StepRecord(**required_values()).retry_errors.append("x")
    assert StepRecord(**required_values()).retry_errors == []
    first = result()
    first.execution_log.append(StepRecord(**required_values()))
    first.initial_input["x"] = 1
    assert (result().execution_log, result().initial_input) == ([], {})


def test_a_record_with_every_field_set_round_trips_through_json() -> None:
    record = StepRecord(**required_values(), **optional_values())
    assert StepRecord.model_validate_json(record.model_dump_json()) == record


def test_a_result_with_every_field_set_round_trips_through_json() -> None:
    full = result(
        log=[StepRecord(**required_values(), **optional_values())],
        cost_report=compute_cost_report(steps_executed=3, actual_execution_ms=12.5, provider="openai", model="gpt-4o"),
        initial_input={"a": {"b": [None, 1.5, "ü"]}},
        dry_run=True,
    )
    assert ExecutionResult.model_validate_json(full.model_dump_json()) == full


def test_results_nested_three_deep_round_trip_through_json() -> None:
    original = nested(3)
    loaded = ExecutionResult.model_validate_json(original.model_dump_json())
    assert loaded == original
    level, seen = loaded, [loaded.trace_id]
    while (sub := level.execution_log[0].sub_result) is not None:
        assert isinstance(sub, ExecutionResult)
        level = sub
        seen.append(level.trace_id)
    assert seen == [f"{depth:032x}" for depth in (3, 2, 1, 0)]


def test_times_read_from_json_are_utc() -> None:
    loaded = StepRecord.model_validate_json(StepRecord(**required_values()).model_dump_json())
    assert loaded.started_at == START
    assert loaded.started_at.tzinfo == UTC


def test_a_result_keeps_the_given_records_themselves() -> None:
    record = StepRecord(**required_values())
    assert result(log=[record]).execution_log[0] is record


# --- the trusted constructor -----------------------------------------------------------------------------------------


def minimal_pair() -> tuple[StepRecord, StepRecord]:
    return trusted_step_record(**required_values()), StepRecord(**required_values())


def full_pair() -> tuple[StepRecord, StepRecord]:
    values = required_values() | optional_values()
    return trusted_step_record(**values), StepRecord(**values)


PAIRS = pytest.mark.parametrize("pair", [minimal_pair, full_pair])


def test_the_optional_values_of_these_tests_differ_from_every_default() -> None:
    trusted, _ = full_pair()
    for name, _, default in STEP_RECORD_FIELDS:
        assert getattr(trusted, name) != default


def test_a_model_instance_has_only_the_slots_that_the_trusted_constructor_fills() -> None:
    assert BaseModel.__slots__ == (
        "__dict__",
        "__pydantic_fields_set__",
        "__pydantic_extra__",
        "__pydantic_private__",
    )
    assert StepRecord.__private_attributes__ == {}


@PAIRS
def test_a_trusted_record_cannot_be_told_from_a_validated_one(pair: Any) -> None:
    trusted, validated = pair()
    assert type(trusted) is StepRecord
    assert trusted == validated
    assert validated == trusted
    assert list(trusted.__dict__.items()) == list(validated.__dict__.items())
    assert repr(trusted) == repr(validated)
    assert str(trusted) == str(validated)
    assert trusted.model_dump() == validated.model_dump()
    assert trusted.model_dump(exclude_defaults=True) == validated.model_dump(exclude_defaults=True)
    assert trusted.model_dump_json() == validated.model_dump_json()
    assert trusted.model_extra == validated.model_extra
    assert trusted.__pydantic_private__ == validated.__pydantic_private__
    assert [name for name, _ in trusted] == [name for name, _ in validated]


@PAIRS
def test_copies_of_a_trusted_record_equal_it(pair: Any) -> None:
    trusted, validated = pair()
    assert copy.copy(trusted) == validated
    assert copy.deepcopy(trusted) == validated
    assert trusted.model_copy() == validated
    assert trusted.model_copy(deep=True) == validated
    assert pickle.loads(pickle.dumps(trusted)) == validated
    assert StepRecord.model_validate_json(trusted.model_dump_json()) == validated
    assert StepRecord.model_validate(trusted.model_dump()) == validated


@PAIRS
def test_a_changed_copy_of_a_trusted_record_equals_the_same_change_of_a_validated_one(pair: Any) -> None:
    trusted, validated = pair()
    changed = trusted.model_copy(update={"outputs": None, "success": False})
    assert changed == validated.model_copy(update={"outputs": None, "success": False})
    assert changed != trusted


@PAIRS
def test_fields_of_a_trusted_record_can_be_assigned(pair: Any) -> None:
    trusted, validated = pair()
    trusted.duration_ms = validated.duration_ms = 99.0
    assert trusted == validated
    assert trusted.duration_ms == 99.0
    with pytest.raises(ValueError, match="no field"):
        trusted.unknown = 1


def test_every_field_of_a_trusted_record_counts_as_set() -> None:
    trusted, _ = minimal_pair()
    assert trusted.model_fields_set == set(StepRecord.model_fields)
    assert trusted.model_dump(exclude_unset=True) == trusted.model_dump()


def test_changing_a_trusted_record_or_its_copy_leaves_the_others_alone() -> None:
    first, second = trusted_step_record(**required_values()), trusted_step_record(**required_values())
    first.retry_errors.append("x")
    first.success = False
    for duplicate in (first.model_copy(), copy.copy(first), copy.deepcopy(first)):
        duplicate.model_fields_set.clear()
    assert second == StepRecord(**required_values())
    assert second.model_fields_set == first.model_fields_set == set(StepRecord.model_fields)


def test_a_trusted_record_keeps_the_given_containers() -> None:
    values = required_values()
    errors = ["x"]
    record = trusted_step_record(**values, retry_errors=errors)
    assert record.inputs is values["inputs"]
    assert record.outputs is values["outputs"]
    assert record.retry_errors is errors


def test_a_trusted_record_is_accepted_in_a_result() -> None:
    record = trusted_step_record(**required_values(), sub_result=nested(1))
    original = result(log=[record])
    assert original.execution_log[0] is record
    assert ExecutionResult.model_validate_json(original.model_dump_json()) == original


def test_the_repr_of_a_result_does_not_grow_with_its_records() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    result = ExecutionResult(
        flow_name="f",
        flow_version="1",
        success=True,
        final_output={},
        trace_id="abc",
        started_at=now,
        ended_at=now,
        total_duration_ms=1.0,
    )
    assert repr(result) == "<ExecutionResult of 'f': success, 0 records, trace abc>"
