"""Observed traces and their recorder."""

import threading
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from doubleweave.models.observation import ObservedStep, ObservedTrace, TraceRecorder

NOW = datetime(2026, 1, 2, tzinfo=UTC)
REQUIRED = PydanticUndefined


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        (
            ObservedStep,
            [
                ("tool_name", REQUIRED),
                ("inputs", REQUIRED),
                ("outputs", None),
                ("recorded_at", REQUIRED),
                ("duration_ms", 0.0),
            ],
        ),
        (
            ObservedTrace,
            [("trace_id", REQUIRED), ("source", REQUIRED), ("started_at", REQUIRED), ("ended_at", None), ("steps", [])],
        ),
    ],
)
def test_the_fields_and_defaults_are_exactly_these(model: type[BaseModel], fields: list[tuple[str, Any]]) -> None:
    found = [(name, field.get_default(call_default_factory=True)) for name, field in model.model_fields.items()]
    assert found == fields


def test_a_trace_round_trips_through_json() -> None:
    step = ObservedStep(tool_name="t", inputs={"a": [1]}, outputs={"b": None}, recorded_at=NOW, duration_ms=1.5)
    trace = ObservedTrace(trace_id="x", source="s", started_at=NOW, ended_at=NOW, steps=[step])
    assert ObservedTrace.model_validate_json(trace.model_dump_json()) == trace


def test_a_recorded_trace_holds_its_source_steps_and_times() -> None:
    recorder = TraceRecorder()
    before = datetime.now(UTC)
    trace_id = recorder.start_trace("executor:flow")
    recorder.record_step(trace_id, "first", inputs={"a": 1}, outputs={"b": 2}, duration_ms=3.5)
    recorder.record_step(trace_id, "second", inputs={}, duration_ms=0.0)
    trace = recorder.end_trace(trace_id)
    after = datetime.now(UTC)

    assert (trace.trace_id, trace.source) == (trace_id, "executor:flow")
    assert [step.tool_name for step in trace.steps] == ["first", "second"]
    assert [step.inputs for step in trace.steps] == [{"a": 1}, {}]
    assert [step.outputs for step in trace.steps] == [{"b": 2}, None]
    assert [step.duration_ms for step in trace.steps] == [3.5, 0.0]
    assert trace.ended_at is not None
    times = [before, trace.started_at, *(step.recorded_at for step in trace.steps), trace.ended_at, after]
    assert times == sorted(times)
    assert {time.tzinfo for time in times} == {UTC}


def test_each_trace_has_an_id_of_its_own() -> None:
    recorder = TraceRecorder()
    first, second = recorder.start_trace("s"), recorder.start_trace("s")
    assert first != second
    assert len(first) == 32
    int(first, 16)


def test_an_omitted_duration_is_the_time_since_the_previous_step() -> None:
    recorder = TraceRecorder()
    trace_id = recorder.start_trace("s")
    for _ in range(3):
        recorder.record_step(trace_id, "t", inputs={})
    durations = [step.duration_ms for step in recorder.end_trace(trace_id).steps]
    assert all(duration > 0 for duration in durations)


def test_omitted_durations_do_not_add_up_to_more_than_the_time_that_passed() -> None:
    recorder = TraceRecorder()
    before = perf_counter()
    trace_id = recorder.start_trace("s")
    for _ in range(50):
        recorder.record_step(trace_id, "t", inputs={})
    elapsed_ms = (perf_counter() - before) * 1000.0
    total = sum(step.duration_ms for step in recorder.end_trace(trace_id).steps)
    assert 0 < total <= elapsed_ms


def test_the_recorded_inputs_are_a_copy() -> None:
    recorder = TraceRecorder()
    trace_id = recorder.start_trace("s")
    inputs = {"a": 1}
    recorder.record_step(trace_id, "t", inputs=inputs)
    inputs["a"] = 2
    assert recorder.end_trace(trace_id).steps[0].inputs == {"a": 1}


def test_an_unknown_trace_cannot_be_recorded_or_ended() -> None:
    recorder = TraceRecorder()
    with pytest.raises(KeyError, match="nope"):
        recorder.record_step("nope", "t", inputs={})
    with pytest.raises(KeyError, match="nope"):
        recorder.end_trace("nope")


def test_a_closed_trace_cannot_be_recorded_or_ended() -> None:
    recorder = TraceRecorder()
    trace_id = recorder.start_trace("s")
    trace = recorder.end_trace(trace_id)
    with pytest.raises(KeyError, match=trace_id):
        recorder.record_step(trace_id, "t", inputs={})
    with pytest.raises(KeyError, match=trace_id):
        recorder.end_trace(trace_id)
    assert trace.steps == []


def test_open_traces_are_listed_only_when_asked_for_and_after_the_closed_ones() -> None:
    recorder = TraceRecorder()
    still_open = recorder.start_trace("open")
    closed = [recorder.start_trace(f"closed {i}") for i in range(2)]
    for trace_id in closed:
        recorder.end_trace(trace_id)
    assert [trace.trace_id for trace in recorder.list_traces()] == closed
    assert [trace.trace_id for trace in recorder.list_traces(include_open=True)] == [*closed, still_open]


def test_the_length_counts_open_and_closed_traces() -> None:
    recorder = TraceRecorder()
    assert len(recorder) == 0
    trace_id = recorder.start_trace("a")
    recorder.start_trace("b")
    assert len(recorder) == 2
    recorder.end_trace(trace_id)
    assert len(recorder) == 2


def test_the_listed_copy_of_an_open_trace_does_not_grow() -> None:
    recorder = TraceRecorder()
    trace_id = recorder.start_trace("s")
    [listed] = recorder.list_traces(include_open=True)
    recorder.record_step(trace_id, "t", inputs={})
    assert listed.steps == []
    assert listed.ended_at is None


def run_together(count: int, work: Any) -> None:
    """Call ``work(index)`` in ``count`` threads that start at the same time; raise the first error."""
    barrier = threading.Barrier(count)
    errors: list[BaseException] = []

    def body(index: int) -> None:
        barrier.wait()
        try:
            work(index)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=body, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_threads_record_their_own_traces_without_mixing_them() -> None:
    recorder = TraceRecorder()

    def work(index: int) -> None:
        for _ in range(25):
            trace_id = recorder.start_trace(f"thread {index}")
            for step in range(4):
                recorder.record_step(trace_id, f"tool {index}", inputs={"step": step})
            recorder.list_traces(include_open=True)
            recorder.end_trace(trace_id)

    run_together(8, work)
    traces = recorder.list_traces()
    assert len(recorder) == len(traces) == 8 * 25
    for index in range(8):
        own = [trace for trace in traces if trace.source == f"thread {index}"]
        assert len(own) == 25
        for trace in own:
            assert [(s.tool_name, s.inputs["step"]) for s in trace.steps] == [(f"tool {index}", n) for n in range(4)]


def test_threads_that_record_one_trace_lose_no_step() -> None:
    recorder = TraceRecorder()
    trace_id = recorder.start_trace("shared")

    def work(index: int) -> None:
        for step in range(100):
            recorder.record_step(trace_id, "t", inputs={"key": (index, step)})

    run_together(8, work)
    keys = [step.inputs["key"] for step in recorder.end_trace(trace_id).steps]
    assert sorted(keys) == [(index, step) for index in range(8) for step in range(100)]


def test_of_several_threads_that_end_one_trace_exactly_one_succeeds() -> None:
    recorder = TraceRecorder()
    for _ in range(50):
        trace_id = recorder.start_trace("s")
        ended: list[ObservedTrace] = []
        refused: list[KeyError] = []

        def work(_: int, trace_id: str = trace_id, ended: Any = ended, refused: Any = refused) -> None:
            try:
                ended.append(recorder.end_trace(trace_id))
            except KeyError as error:
                refused.append(error)

        run_together(4, work)
        assert (len(ended), len(refused)) == (1, 3)
    assert len(recorder.list_traces()) == 50
