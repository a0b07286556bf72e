"""Executors with a checkpointer, run on either lane, and flows that stop where a test wants them to."""

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import doubleweave as dw
from doubleweave import AnyFlow, ExecutionResult, ExecutionSnapshot, FlowExecutor, FlowRegistry, StepRecord, Tool
from lanes_under_test import Recorder, number_tool

LANES = ["sync", "async"]
NOW = datetime(2024, 5, 17, 12, 30, 15, 123456, tzinfo=UTC)


def make_executor(flows: Iterable[AnyFlow], tools: Iterable[Tool], **settings: Any) -> FlowExecutor:
    registry = FlowRegistry()
    for flow in flows:
        registry.register_flow(flow.model_copy(deep=True))
    executor = FlowExecutor(registry, **settings)
    for tool in tools:
        executor.register_tool(tool)
    return executor


def execute(lane: str, executor: FlowExecutor, inputs: dict[str, Any] | None = None, **options: Any) -> ExecutionResult:
    """Run the flow `main` on a lane."""
    inputs = {"n": 1} if inputs is None else inputs
    if lane == "sync":
        return executor.execute_flow("main", inputs, **options)
    return asyncio.run(executor.execute_flow_async("main", inputs, **options))


def resume(lane: str, executor: FlowExecutor, trace_id: str) -> ExecutionResult:
    if lane == "sync":
        return executor.resume_flow(trace_id)
    return asyncio.run(executor.resume_flow_async(trace_id))


class Calls:
    """Number tools that write down their calls, and one name among them that raises for as long as it is in `broken`."""

    def __init__(self, broken: Iterable[str] = ()) -> None:
        self.broken = set(broken)
        self.names: list[str] = []

    def tool(self, name: str, change: Callable[[int], int] = lambda n: n + 1, **options: Any) -> Tool:
        def fn(v: Any) -> dict[str, int]:
            self.names.append(name)
            if name in self.broken:
                raise ValueError(f"{name} is broken")
            return {"n": change(v.n)}

        return number_tool(name, fn, **options)

    def tools(self, names: str) -> list[Tool]:
        return [self.tool(name) for name in names.split()]


def record(index: int = 0, tool_name: str = "a", **values: Any) -> StepRecord:
    given = {"inputs": {"n": 1}, "outputs": {"n": 2}, "started_at": NOW, "ended_at": NOW, "duration_ms": 1.5, **values}
    return StepRecord(step_index=index, tool_name=tool_name, **given)


def snapshot(trace_id: str = "t", **values: Any) -> ExecutionSnapshot:
    """Return a snapshot of the flow `main` before its first step, unless `values` say otherwise."""
    given = {
        "flow_name": "main",
        "flow_version": "0.1.0",
        "initial_input": {"n": 1},
        "started_at": NOW,
        "context": {"n": 1},
    }
    return ExecutionSnapshot(trace_id=trace_id, **{**given, **values})


def only_trace(store: dw.InMemoryCheckpointer | dw.FileCheckpointer) -> str:
    (trace_id,) = store.list_trace_ids()
    return trace_id


def kinds(recorder: Recorder) -> list[tuple[str, str]]:
    """Return the kind and the flow's name of every hook call."""
    return [call[:2] for call in recorder.calls]
