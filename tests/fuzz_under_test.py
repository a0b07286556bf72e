"""Executors of both kinds for flows to be fuzzed."""

from typing import Any

import pytest
from hypothesis import strategies as st

from doubleweave import BUILTIN_PROPERTIES, AsyncFlowExecutor, Tool
from executors_under_test import make_executor
from lanes_under_test import Anything

LANES = ["run", "run_async", "AsyncFlowExecutor"]
each_lane = pytest.mark.parametrize("lane", LANES)
SUCCEEDS, PRESENT = BUILTIN_PROPERTIES["flow_succeeds"], BUILTIN_PROPERTIES["final_output_present"]


def tool_of(fn: Any, name: str = "t") -> Tool:
    return Tool(name=name, description="", input_schema=Anything, output_schema=Anything, fn=fn)


def executor_on(lane: str, flow: Any, tools: list[Tool], **settings: Any) -> Any:
    executor = make_executor([flow], tools, **settings)
    if lane != "AsyncFlowExecutor":
        return executor
    awaited = AsyncFlowExecutor(executor.registry, **settings)
    for each in tools:
        awaited.register_tool(each)
    return awaited


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(max_size=2), JSON, max_size=4)


def echo(value: Any) -> dict[str, Any]:
    return {}
