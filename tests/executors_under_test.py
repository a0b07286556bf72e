"""An executor that is kept, to be used again or looked at after its run."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from doubleweave import AnyFlow, ExecutionResult, FlowExecutor, FlowRegistry, Tool

lanes = pytest.mark.parametrize("lane", ["sync", "async"])
concurrencies = pytest.mark.parametrize("concurrency", [1, 2, 8])


def make_executor(
    flows: Iterable[AnyFlow], tools: Iterable[Tool], kind: type[FlowExecutor] = FlowExecutor, **settings: Any
) -> FlowExecutor:
    registry = FlowRegistry()
    for flow in flows:
        registry.register_flow(flow.model_copy(deep=True))
    executor = kind(registry, **settings)
    for tool in tools:
        executor.register_tool(tool)
    return executor


def execute(
    executor: FlowExecutor, lane: str, inputs: dict[str, Any] | None = None, name: str = "main", **options: Any
) -> ExecutionResult:
    """Run a flow on one lane (`"sync"` or `"async"`)."""
    values = {"n": 1} if inputs is None else inputs
    if lane == "sync":
        return executor.execute_flow(name, values, **options)
    return asyncio.run(executor.execute_flow_async(name, values, **options))
