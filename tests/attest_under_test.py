"""Attesting on every lane."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from doubleweave import AsyncFlowExecutor, AttestationReport, FlowExecutor, Tool, attest_flow, attest_flow_async
from executors_under_test import make_executor
from lanes_under_test import Anything

LANES = ["attest_flow", "attest_flow_async", "AsyncFlowExecutor"]
each_lane = pytest.mark.parametrize("lane", LANES)


def tool_of(fn: Callable[[Any], Any], name: str = "t") -> Tool:
    return Tool(name=name, description="", input_schema=Anything, output_schema=Anything, fn=fn)


def attested(
    lane: str, flow: Any, tools: list[Tool], middleware: list[Any] | None = None, **options: Any
) -> AttestationReport:
    values: dict[str, Any] = {"n": 3, "repeats": 2, "seed": 0, **options}
    executor: FlowExecutor | AsyncFlowExecutor = make_executor([flow], tools, middleware=middleware)
    if isinstance(executor, FlowExecutor) and lane == "attest_flow":
        return attest_flow(flow=flow, executor=executor, **values)
    if lane == "AsyncFlowExecutor":
        executor = AsyncFlowExecutor(executor.registry, middleware=middleware)
        for each in tools:
            executor.register_tool(each)
    return asyncio.run(attest_flow_async(flow=flow, executor=executor, **values))
