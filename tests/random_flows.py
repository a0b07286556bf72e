"""Strategies for flows of any shape, and the tools that they need."""

import asyncio
import time
from typing import Any

from hypothesis import strategies as st

from doubleweave import AnyFlow, ConditionalEdge, DAGFlow, DAGFlowStep, Flow, FlowStep, RetryPolicy, Tool
from lanes_under_test import number_tool

NAMES = ["inc", "double", "boom", "odd", "inner", "slow", "slow_async"]
FLAKY = [f"flaky{i}" for i in range(7)]
QUICK = RetryPolicy(max_retries=1, backoff_seconds=0)
ON_ERROR = ["fail", "fail", "skip", "fallback:inc", "fallback:boom"]


def flaky(name: str) -> Tool:
    """Return a tool whose first call fails. Each step has its own: shared, the first of two calls at once would fail."""
    failures = iter([OSError("first time")])

    def fn(v: Any) -> dict[str, int]:
        for failure in failures:
            raise failure
        return {"n": v.n}

    return number_tool(name, fn)


def tools() -> list[Tool]:
    async def double(v: Any) -> dict[str, int]:
        return {"n": v.n * 2 % 1000}

    def slow(v: Any) -> dict[str, int]:
        time.sleep(0.0005)
        return {"n": v.n + 3}

    async def slow_async(v: Any) -> dict[str, int]:
        await asyncio.sleep(0.0005)
        return {"n": v.n + 5}

    def boom(v: Any) -> dict[str, int]:
        raise ValueError(f"boom {v.n}")

    def odd(v: Any) -> dict[str, int]:
        if v.n % 2:
            raise LookupError("odd")
        return {"n": v.n // 2}

    return [
        number_tool("inc", lambda v: {"n": v.n + 1}),
        number_tool("double", double),
        number_tool("boom", boom),
        number_tool("odd", odd),
        number_tool("slow", slow),
        number_tool("slow_async", slow_async),
        *map(flaky, FLAKY),
    ]


@st.composite
def step_fields(draw: st.DrawFn, index: int, sources: list[str]) -> dict[str, Any]:
    name = draw(st.sampled_from([*NAMES, FLAKY[index]]))
    fields: dict[str, Any] = {"input_mapping": {"n": draw(st.sampled_from([*sources, "/n", 7]))}}
    if name == "inner":
        return {**fields, "flow_name": name}
    return {
        **fields,
        "tool_name": name,
        "on_error": draw(st.sampled_from(ON_ERROR)),
        "retry": draw(st.sampled_from([None, QUICK])),
    }


@st.composite
def linear_flows(draw: st.DrawFn) -> AnyFlow:
    steps = [FlowStep(**draw(step_fields(i, ["n"]))) for i in range(draw(st.integers(0, 5)))]
    policy = draw(st.sampled_from(["overwrite", "warn", "error"]))
    return Flow(name="main", description="", steps=steps, on_context_collision=policy)


@st.composite
def dag_flows(draw: st.DrawFn) -> AnyFlow:
    count = draw(st.integers(1, 7))
    depends = [sorted(draw(st.sets(st.integers(0, i - 1), max_size=3))) if i else [] for i in range(count)]
    steps = []
    for i in range(count):
        sources = ["n", *(f"k{j}" for j in range(i))]
        fields = draw(step_fields(i, sources))
        fields["output_mapping"] = {draw(st.sampled_from([f"k{i}", f"k{i}", f"k{i}", "k0"])): "n"}
        dependents = [f"s{j}" for j in range(count) if i in depends[j]]
        if dependents and "tool_name" in fields and draw(st.booleans()):
            name = draw(st.sampled_from([f"k{i}", "n", "k0", "gone"]))
            edge = ConditionalEdge(target_step_id=draw(st.sampled_from(dependents)), predicate=f"{name} > 4")
            fields["branches"] = [edge]
            fields["default_next"] = draw(st.sampled_from([None, *dependents]))
        steps.append(DAGFlowStep(step_id=f"s{i}", depends_on=[f"s{j}" for j in depends[i]], **fields))
    return DAGFlow(name="main", version="1", description="", steps=steps)


INNER = Flow(name="inner", description="", steps=[FlowStep(tool_name="double")], on_context_collision="overwrite")
