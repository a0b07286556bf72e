"""The JSON of a result that nobody has looked at is the JSON of one whose records are built, on both lanes."""

import asyncio
import datetime
import decimal
import math
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError

import random_flows
from doubleweave import AnyFlow, DoubleweaveError, ExecutionResult, Flow, FlowExecutor, FlowRegistry, FlowStep, Tool
from doubleweave.models.trusted import values_of
from lanes_under_test import Anything

Run = Callable[[FlowExecutor, str, dict[str, Any]], ExecutionResult]


def blocking(executor: FlowExecutor, name: str, given: dict[str, Any]) -> ExecutionResult:
    return executor.execute_flow(name, given)


def awaited(executor: FlowExecutor, name: str, given: dict[str, Any]) -> ExecutionResult:
    return asyncio.run(executor.execute_flow_async(name, given))


LANES = pytest.mark.parametrize("run", [blocking, awaited])


def executor_of(flow: AnyFlow, tools: list[Tool], **settings: Any) -> FlowExecutor:
    registry = FlowRegistry()
    registry.register_flow(flow)
    executor = FlowExecutor(registry, **settings)
    for tool in tools:
        executor.register_tool(tool)
    return executor


def is_seen(result: ExecutionResult) -> bool:
    log = values_of(result)["execution_log"]
    return isinstance(log, list) or log.is_seen


def built(result: ExecutionResult) -> str:
    """Return the JSON that pydantic writes of a result and its records."""
    return BaseModel.model_dump_json(result)


@pytest.mark.parametrize("concurrency", [1, 3])
@LANES
@settings(max_examples=60, deadline=None)
@given(flow=st.one_of(random_flows.linear_flows(), random_flows.dag_flows()))
def test_any_run_is_written_in_the_same_way(run: Run, concurrency: int, flow: AnyFlow) -> None:
    executor = executor_of(flow, random_flows.tools(), max_step_concurrency=concurrency)
    executor.registry.register_flow(random_flows.INNER)
    try:
        result = run(executor, flow.name, {"n": 1})
    except DoubleweaveError:
        reject()
    text = result.model_dump_json()
    assert not is_seen(result)
    assert text == built(result)
    assert text == result.model_dump_json()


class Point(BaseModel):
    x: float


VALUES: dict[str, Any] = {
    "not a number": math.nan,
    "infinite": [math.inf, -math.inf],
    "small": [1e-7, 5e-324, 0.1 + 0.2, -0.0, 1e22],
    "large": 2**80,
    "text": 'quote " backslash \\ line \n \x00 ü \u2028 "execution_log":[] %b %d',
    "bytes": b"bytes",
    "moment": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
    "model": Point(x=math.nan),
    "set": {1},
    "tuple": (1, [2, {"a": None}]),
    "decimal": decimal.Decimal("1.50"),
    "id": uuid.UUID(int=1),
    "path": Path("a/b"),
    "none": None,
    "keys": {1: 2, None: 3, 2.5: 4},
}
IMPOSSIBLE: dict[str, Any] = {"surrogate": "\ud800", "object": object(), "bytes": b"\xff"}


def keeping(value: Any) -> tuple[FlowExecutor, dict[str, Any]]:
    """Return a flow whose steps have `value` in inputs and outputs."""

    def give(inputs: Anything) -> dict[str, Any]:
        return {"given": value, **inputs.model_dump()}

    tools = [
        Tool(name=name, description="", input_schema=Anything, output_schema=Anything, fn=give)
        for name in ("a%b", 'b"\\')
    ]
    flow = Flow(name="keep", description="", steps=[FlowStep(tool_name=tool.name) for tool in tools])
    return executor_of(flow, tools), {"first": value}


@LANES
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_any_value_is_written_in_the_same_way(run: Run, value: Any) -> None:
    executor, given = keeping(value)
    result = run(executor, "keep", given)
    text = result.model_dump_json()
    assert not is_seen(result)
    assert text == built(result)


@LANES
@pytest.mark.parametrize("value", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_a_value_without_a_form_is_the_same_error(run: Run, value: Any) -> None:
    executor, given = keeping(value)
    result = run(executor, "keep", given)
    with pytest.raises(PydanticSerializationError) as unseen:
        result.model_dump_json()
    with pytest.raises(PydanticSerializationError) as seen:
        built(result)
    assert str(unseen.value) == str(seen.value)


@LANES
@pytest.mark.parametrize(
    "how", [{"indent": 2}, {"exclude": {"execution_log"}}, {"include": {"execution_log"}}, {"exclude_none": True}]
)
def test_options_are_those_of_pydantic(run: Run, how: dict[str, Any]) -> None:
    result = run(*keeping(1)[:1], "keep", {})
    assert result.model_dump_json(**how) == BaseModel.model_dump_json(result, **how)


@LANES
def test_what_was_changed_after_a_look_is_written(run: Run) -> None:
    result = run(*keeping(1)[:1], "keep", {})
    first = result.model_dump_json()
    result.success = False
    result.execution_log[0].tool_name = "changed"
    second = ExecutionResult.model_validate_json(result.model_dump_json())
    assert (second.success, second.execution_log[0].tool_name) == (False, "changed")
    assert ExecutionResult.model_validate_json(first).success


@LANES
def test_a_run_without_steps_is_written(run: Run) -> None:
    result = run(executor_of(Flow(name="none", description="", steps=[]), []), "none", {})
    assert result.model_dump_json() == built(result)


@LANES
@pytest.mark.parametrize(
    "started",
    [
        0.0,
        0.25,
        1e-6,
        1.7e9,
        1.7e9 + 0.5,
        1.7e9 + 1 / 128,  # between two microseconds
        1.7e9 + 3 / 128,
        1.7e9 + 0.9999998,
        1.7e9 - 1e-7,
        1e11,
        -1.5,
    ],
)
@pytest.mark.parametrize("duration", [0.0, 1e-7, 0.25, 0.5, 3.0, 1e5, -1e-3])
def test_any_moment_is_written_in_the_same_way(run: Run, started: float, duration: float) -> None:
    result = run(*keeping(1)[:1], "keep", {})
    for entry in values_of(result)["execution_log"].entries:
        entry.started, entry.perf_start, entry.perf_end = started, 0.0, duration
    text = result.model_dump_json()
    assert text == built(result)
