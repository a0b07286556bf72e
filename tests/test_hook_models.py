"""Hook contexts, the middleware protocol, stream events and chunks."""

from datetime import UTC, datetime
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticUndefined

from doubleweave.models.chunks import ToolChunk
from doubleweave.models.events import FlowEvent, FlowEventKind
from doubleweave.models.hooks import (
    BaseMiddleware,
    FlowEndContext,
    FlowExecutorMiddleware,
    FlowStartContext,
    StepChunkContext,
    StepEndContext,
    StepStartContext,
)
from doubleweave.models.records import ExecutionResult, StepRecord

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
REQUIRED = PydanticUndefined
RECORD = StepRecord(
    step_index=0, tool_name="t", inputs={"a": 1}, outputs={"b": 2}, started_at=NOW, ended_at=NOW, duration_ms=1.0
)
RESULT = ExecutionResult(
    flow_name="f",
    flow_version="1",
    success=True,
    final_output={"b": 2},
    execution_log=[RECORD],
    trace_id="x",
    started_at=NOW,
    ended_at=NOW,
    total_duration_ms=1.0,
)
CHUNK = ToolChunk(data={"piece": 1}, is_final=True)

FLOW_START = FlowStartContext(
    trace_id="x", flow_name="f", flow_version="1", initial_input={"a": 1}, started_at=NOW, total_steps=2
)
STEP_START = StepStartContext(trace_id="x", flow_name="f", step_index=0, tool_name="t", inputs={"a": 1}, started_at=NOW)
STEP_CHUNK = StepChunkContext(trace_id="x", flow_name="f", step_index=0, tool_name="t", chunk=CHUNK)
STEP_END = StepEndContext(trace_id="x", flow_name="f", step_record=RECORD)
FLOW_END = FlowEndContext(trace_id="x", flow_name="f", result=RESULT)

KINDS = ("flow_start", "step_start", "step_chunk", "step_end", "flow_end")
EVENT_FIELDS: list[tuple[str, Any, Any]] = [
    ("kind", FlowEventKind, REQUIRED),
    ("flow_name", str, REQUIRED),
    ("trace_id", str, REQUIRED),
    ("timestamp", datetime, REQUIRED),
    ("flow_version", str | None, None),
    ("initial_input", dict[str, Any] | None, None),
    ("total_steps", int | None, None),
    ("step_index", int | None, None),
    ("tool_name", str | None, None),
    ("inputs", dict[str, Any] | None, None),
    ("step_record", StepRecord | None, None),
    ("chunk", ToolChunk | None, None),
    ("result", ExecutionResult | None, None),
]


def fields_of(model: type[BaseModel]) -> list[tuple[str, Any, Any]]:
    return [(name, field.annotation, field.default) for name, field in model.model_fields.items()]


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        (
            FlowStartContext,
            [
                ("trace_id", str),
                ("flow_name", str),
                ("flow_version", str),
                ("initial_input", dict[str, Any]),
                ("started_at", datetime),
                ("total_steps", int),
            ],
        ),
        (
            StepStartContext,
            [
                ("trace_id", str),
                ("flow_name", str),
                ("step_index", int),
                ("tool_name", str),
                ("inputs", dict[str, Any]),
                ("started_at", datetime),
            ],
        ),
        (
            StepChunkContext,
            [("trace_id", str), ("flow_name", str), ("step_index", int), ("tool_name", str), ("chunk", ToolChunk)],
        ),
        (StepEndContext, [("trace_id", str), ("flow_name", str), ("step_record", StepRecord)]),
        (FlowEndContext, [("trace_id", str), ("flow_name", str), ("result", ExecutionResult)]),
    ],
)
def test_the_fields_of_a_context_are_exactly_these_and_all_required(
    model: type[BaseModel], fields: list[tuple[str, Any]]
) -> None:
    assert fields_of(model) == [(name, annotation, REQUIRED) for name, annotation in fields]


def test_an_event_has_exactly_these_fields() -> None:
    assert fields_of(FlowEvent) == EVENT_FIELDS


def test_the_kinds_of_events_are_these_five() -> None:
    assert get_args(FlowEventKind) == KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_of_each_kind_needs_only_names_and_time(kind: FlowEventKind) -> None:
    event = FlowEvent(kind=kind, flow_name="f", trace_id="x", timestamp=NOW)
    assert event.model_dump(exclude_none=True) == {
        "kind": kind,
        "flow_name": "f",
        "trace_id": "x",
        "timestamp": NOW,
    }


def test_an_event_of_another_kind_is_rejected() -> None:
    with pytest.raises(ValidationError, match="kind"):
        FlowEvent(kind="flow_pause", flow_name="f", trace_id="x", timestamp=NOW)


def test_a_chunk_needs_data_and_is_not_final_by_default() -> None:
    assert fields_of(ToolChunk) == [("data", Any, REQUIRED), ("is_final", bool, False)]
    assert ToolChunk(data=None).model_dump() == {"data": None, "is_final": False}
    with pytest.raises(ValidationError, match="data"):
        ToolChunk()  # type: ignore[call-arg]


def test_a_chunk_carries_its_data_unchanged() -> None:
    data = object()
    assert ToolChunk(data=data).data is data


@pytest.mark.parametrize(
    ("instance", "field"),
    [
        (FLOW_START, "flow_name"),
        (STEP_START, "flow_name"),
        (STEP_CHUNK, "flow_name"),
        (STEP_END, "flow_name"),
        (FLOW_END, "flow_name"),
        (CHUNK, "data"),
        (
            FlowEvent(
                kind="flow_end",
                flow_name="f",
                trace_id="x",
                timestamp=NOW,
                flow_version="1",
                initial_input={"a": 1},
                total_steps=2,
                step_index=0,
                tool_name="t",
                inputs={"a": 1},
                step_record=RECORD,
                chunk=CHUNK,
                result=RESULT,
            ),
            "kind",
        ),
    ],
)
def test_the_models_are_frozen_and_round_trip_through_json(instance: BaseModel, field: str) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(instance, field, "x")
    assert type(instance).model_validate_json(instance.model_dump_json()) == instance


def test_the_dicts_in_a_context_are_shallow_copies() -> None:
    given: dict[str, Any] = {"a": [1]}
    flow_start = FlowStartContext(
        trace_id="x", flow_name="f", flow_version="1", initial_input=given, started_at=NOW, total_steps=2
    )
    step_start = StepStartContext(
        trace_id="x", flow_name="f", step_index=0, tool_name="t", inputs=given, started_at=NOW
    )
    flow_start.initial_input["b"] = 1
    step_start.inputs["c"] = 1
    assert given == {"a": [1]}
    assert flow_start.initial_input["a"] is given["a"]


def test_records_and_results_are_handed_over_as_they_are() -> None:
    assert STEP_END.step_record is RECORD
    assert FLOW_END.result is RESULT
    assert STEP_CHUNK.chunk is CHUNK


@pytest.mark.parametrize(
    ("hook", "context"),
    [
        ("on_flow_start", FLOW_START),
        ("on_step_start", STEP_START),
        ("on_step_chunk", STEP_CHUNK),
        ("on_step_end", STEP_END),
        ("on_flow_end", FLOW_END),
    ],
)
def test_each_hook_of_the_base_middleware_does_nothing(hook: str, context: BaseModel) -> None:
    before = context.model_copy(deep=True)
    assert getattr(BaseMiddleware(), hook)(context) is None
    assert context == before


def test_the_base_middleware_satisfies_the_protocol() -> None:
    assert isinstance(BaseMiddleware(), FlowExecutorMiddleware)


HOOKS = ["on_flow_start", "on_step_start", "on_step_end", "on_flow_end"]


def middleware_with(hooks: list[str]) -> Any:
    return type("Middleware", (), {hook: lambda self, ctx: None for hook in hooks})()


def test_the_protocol_does_not_ask_for_the_chunk_hook() -> None:
    assert isinstance(middleware_with(HOOKS), FlowExecutorMiddleware)


@pytest.mark.parametrize("missing", HOOKS)
def test_the_protocol_asks_for_each_other_hook(missing: str) -> None:
    hooks = [hook for hook in HOOKS if hook != missing]
    assert not isinstance(middleware_with(hooks), FlowExecutorMiddleware)
