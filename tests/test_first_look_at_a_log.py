"""A run's records are built when somebody looks: every way of looking shows the same, on both lanes."""

import asyncio
import copy
import gc
import pickle
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter

from doubleweave import DAGFlow, DAGFlowStep, ExecutionResult, Flow, FlowExecutor, FlowRegistry, FlowStep
from lanes_under_test import Number, normalised, number_tool


class Envelope(BaseModel):
    results: list[ExecutionResult]


def add_one(value: Number) -> dict[str, int]:
    return {"n": value.n + 1}


async def add_one_awaited(value: Number) -> dict[str, int]:
    return {"n": value.n + 1}


def executor() -> FlowExecutor:
    registry = FlowRegistry()
    registry.register_flow(
        Flow(name="inner", description="", steps=[FlowStep(tool_name="add"), FlowStep(tool_name="await")])
    )
    steps = [DAGFlowStep(step_id="a", tool_name="add"), DAGFlowStep(step_id="b", flow_name="inner", depends_on=["a"])]
    registry.register_flow(DAGFlow(name="outer", version="1.0.0", description="", steps=steps))
    made = FlowExecutor(registry)
    made.register_tool(number_tool("add", add_one))
    made.register_tool(number_tool("await", add_one_awaited))
    return made


def run_sync() -> ExecutionResult:
    return executor().execute_flow("outer", {"n": 1})


def run_async() -> ExecutionResult:
    return asyncio.run(executor().execute_flow_async("outer", {"n": 1}))


LANES = pytest.mark.parametrize("run", [run_sync, run_async])

LOG = [("add", {"n": 1}, {"n": 2}), ("inner", {"n": 2}, {"n": 4})]
INNER_LOG = [("add", {"n": 2}, {"n": 3}), ("await", {"n": 3}, {"n": 4})]


def told(records: list[Any]) -> list[Any]:
    plain = [record if isinstance(record, dict) else record.model_dump() for record in records]
    return [(record["tool_name"], record["inputs"], record["outputs"]) for record in plain]


WAYS: dict[str, Callable[[ExecutionResult], Any]] = {
    "attribute": lambda result: result.execution_log,
    "model_dump": lambda result: result.model_dump()["execution_log"],
    "json": lambda result: ExecutionResult.model_validate_json(result.model_dump_json()).execution_log,
    "json of an envelope": lambda result: (
        Envelope.model_validate_json(Envelope(results=[result]).model_dump_json()).results[0].execution_log
    ),
    "dump of a list": lambda result: TypeAdapter(list[ExecutionResult]).dump_python([result])[0]["execution_log"],
    "pickle": lambda result: pickle.loads(pickle.dumps(result)).execution_log,
    "copy": lambda result: copy.copy(result).execution_log,
    "deepcopy": lambda result: copy.deepcopy(result).execution_log,
    "model_copy": lambda result: result.model_copy(update={"dry_run": True}).execution_log,
    "dict": lambda result: dict(result)["execution_log"],
    "vars": lambda result: vars(result)["execution_log"],
    "text": lambda result: str(result) and result.execution_log,
}


@LANES
@pytest.mark.parametrize("way", WAYS)
def test_every_first_look_shows_the_same(run: Callable[[], ExecutionResult], way: str) -> None:
    log = WAYS[way](run())
    assert told(log) == LOG
    inner = log[1]["sub_result"] if isinstance(log[1], dict) else log[1].sub_result.model_dump()
    assert told(inner["execution_log"]) == INNER_LOG


@LANES
def test_a_result_equals_its_copy_that_nobody_has_looked_at(run: Callable[[], ExecutionResult]) -> None:
    result = run()
    assert pickle.loads(pickle.dumps(result)) == result
    assert normalised(result) == normalised(run())


@LANES
def test_a_second_look_shows_the_same_objects(run: Callable[[], ExecutionResult]) -> None:
    result = run()
    assert result.execution_log is result.execution_log
    result.execution_log[0].tool_name = "changed"
    assert result.model_dump()["execution_log"][0]["tool_name"] == "changed"


@LANES
def test_a_log_may_be_replaced_before_anybody_has_looked(run: Callable[[], ExecutionResult]) -> None:
    result = run()
    result.execution_log = []
    assert result.model_dump()["execution_log"] == []


@LANES
def test_the_fields_keep_their_order(run: Callable[[], ExecutionResult]) -> None:
    assert list(run().model_dump()) == list(ExecutionResult.model_fields)


@LANES
def test_the_short_form_counts_records_that_nobody_has_looked_at(run: Callable[[], ExecutionResult]) -> None:
    assert "'outer': success, 2 records" in repr(run())


@LANES
def test_threads_that_look_at_once_see_one_list(run: Callable[[], ExecutionResult]) -> None:
    for _ in range(20):
        result, together = run(), threading.Barrier(4)
        seen: list[Any] = []

        def look(result: Any = result, seen: list[Any] = seen, together: Any = together) -> None:
            together.wait()
            seen.append(result.execution_log)

        threads = [threading.Thread(target=look) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(log is seen[0] for log in seen)


@LANES
def test_a_result_that_nobody_has_looked_at_does_not_keep_its_executor(run: Callable[[], ExecutionResult]) -> None:
    made = executor()
    result = (
        made.execute_flow("outer", {"n": 1})
        if run is run_sync
        else asyncio.run(made.execute_flow_async("outer", {"n": 1}))
    )
    gone = weakref.ref(made)
    del made
    gc.collect()
    assert gone() is None
    assert told(result.execution_log) == LOG


@LANES
def test_the_times_of_a_run_are_in_order(run: Callable[[], ExecutionResult]) -> None:
    result = run()
    log = result.execution_log
    times = [result.started_at]
    for record in log:
        times += [record.started_at, record.ended_at]
    times.append(result.ended_at)
    assert times == sorted(times)
    assert [round(record.duration_ms, 0) >= 0 for record in log] == [True, True]
