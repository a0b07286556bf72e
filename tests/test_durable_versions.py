"""The versions in what is kept on disk: what is missing is filled with the present one."""

import asyncio
import json
from typing import Any

import pytest

import doubleweave as dw
from executors_under_test import execute, lanes, make_executor
from lanes_under_test import number_tool

FLOW = dw.Flow(name="main", description="", steps=[dw.FlowStep(tool_name="t"), dw.FlowStep(tool_name="u")])


def tools(fails: list[Exception]) -> list[dw.Tool]:
    def second(v: Any) -> dict[str, int]:
        if fails:
            raise fails.pop()
        return {"n": v.n + 1}

    return [number_tool("t", lambda v: {"n": v.n + 1}), number_tool("u", second)]


@lanes
def test_execution_result_json_without_a_version_is_read_as_the_present_one(lane: str) -> None:
    result = execute(make_executor([FLOW], tools([])), lane)
    data = json.loads(result.model_dump_json())
    assert data.pop("trace_schema_version") == dw.TRACE_SCHEMA_VERSION == "1.1"
    assert dw.ExecutionResult.model_validate_json(json.dumps(data)) == result


@lanes
def test_execution_snapshot_json_without_a_version_is_resumed_and_another_major_refused(lane: str) -> None:
    store = dw.InMemoryCheckpointer()
    executor = make_executor([FLOW], tools([OSError("down")]), checkpointer=store)
    trace_id = execute(executor, lane).trace_id
    kept = store.load(trace_id)
    assert kept is not None
    data = json.loads(kept.model_dump_json())
    assert data.pop("snapshot_version") == dw.SNAPSHOT_VERSION == "1"
    store.save(dw.ExecutionSnapshot.model_validate({**data, "snapshot_version": "2.0"}))
    with pytest.raises(dw.CheckpointVersionError):
        resume(executor, lane, trace_id)
    store.save(dw.ExecutionSnapshot.model_validate(data))
    assert resume(executor, lane, trace_id).final_output == {"n": 3}


def resume(executor: dw.FlowExecutor, lane: str, trace_id: str) -> dw.ExecutionResult:
    if lane == "sync":
        return executor.resume_flow(trace_id)
    return asyncio.run(executor.resume_flow_async(trace_id))
