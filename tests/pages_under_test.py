"""Runs whose times and values are known, and runs of real flows, to be shown as pages."""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import BaseModel

import doubleweave as dw
from doubleweave import ApprovalRecord, ConditionalEdge, DAGFlowStep, DecisionRecord, ExecutionResult, StepRecord, Tool

START = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
HOSTILE = "</script><img src=x onerror=\"document.title='owned'\"><b>&amp;{{data}}"


def at(ms: float) -> datetime:
    return START + timedelta(milliseconds=ms)


def record(index: int, name: str, begin: float, end: float, **given: Any) -> StepRecord:
    """Return the record of a step that ran from `begin` to `end`, in milliseconds after the run began."""
    values = {"inputs": {"value": index}, "outputs": {"value": index * 2}, **given}
    return StepRecord(
        step_index=index, tool_name=name, started_at=at(begin), ended_at=at(end), duration_ms=end - begin, **values
    )


def failed(index: int, name: str, begin: float, end: float, message: str, **given: Any) -> StepRecord:
    error = {"success": False, "error_type": "FlowExecutionError", "error_message": message, "outputs": None}
    return record(index, name, begin, end, **error, **given)


def run_of(*log: StepRecord, **given: Any) -> ExecutionResult:
    values: dict[str, Any] = {
        "flow_name": "orders",
        "flow_version": "1.4.0",
        "success": all(each.success for each in log),
        "final_output": {"value": 8},
        "execution_log": list(log),
        "trace_id": "0123456789abcdef" * 2,
        "started_at": START,
        "ended_at": at(1250),
        "total_duration_ms": 1250.0,
        "initial_input": {"value": 3, "password": "correct horse"},
    }
    return ExecutionResult(**{**values, **given})


DECIDED = DecisionRecord(candidates=["price", "quote"], chosen="price", default_tool_name="quote", duration_ms=1.5)
SUB_RUN = run_of(record(0, "charge", 410, 600), failed(1, "receipt", 600, 700, "printer on fire"), flow_name="pay")
COST = dw.compute_cost_report(steps_executed=6, actual_execution_ms=1250.0)


def everything() -> ExecutionResult:
    """Return a run in which there is one of each thing that a page shows. Steps 1 and 2 overlap."""
    return run_of(
        record(0, "fetch", 0, 100, inputs={"url": "/orders/4711", "token": "t0ps3cret"}, cached=True),
        record(
            1, "price", 100, 350.5, retry_count=2, retry_errors=["503", "timed out after t0ps3cret"], decision=DECIDED
        ),
        record(2, "stock", 120, 400, fallback_used=True, fallback_tool_name="stock_cache"),
        record(3, "gift", 400, 400, skipped=True, inputs={}, outputs={}),
        record(4, "pay", 405, 710, flow_name="pay", sub_result=SUB_RUN, approval=ApprovalRecord(decision="approve")),
        failed(5, "ship", 720, 1240, "no route to correct horse"),
        success=False,
        final_output=None,
        cost_report=COST,
    )


def many(count: int) -> ExecutionResult:
    """Return a run of so many steps, about eight of which overlap at any time; each hundredth failed."""
    draw = random.Random(1)
    log, begin = [], 0.0
    for index in range(count):
        begin += draw.expovariate(1 / 5)
        end = begin + draw.expovariate(1 / 40)
        name = ("parse", "embed", "store")[index % 3]
        given = {"inputs": {"document": index, "text": "lorem ipsum " * 10}, "outputs": {"vector": [draw.random()] * 6}}
        kind = (
            failed(index, name, begin, end, "overload")
            if index % 100 == 7
            else record(index, name, begin, end, **given)
        )
        log.append(kind)
    return run_of(*log, total_duration_ms=begin, ended_at=at(begin))


class Number(BaseModel):
    value: int


def add_one(inputs: Number) -> dict[str, Any]:
    return {"value": inputs.value + 1}


def refuse(inputs: Number) -> dict[str, Any]:
    raise RuntimeError(f"{inputs.value} is refused")


def number_tool(name: str, fn: Any = add_one, **given: Any) -> Tool:
    return Tool(name=name, description=name, input_schema=Number, output_schema=Number, fn=fn, **given)


def node(id: str, *needs: str, tool: str = "", **given: Any) -> DAGFlowStep:
    return DAGFlowStep(
        step_id=id,
        tool_name=tool or id,
        depends_on=list(needs),
        input_mapping={"value": "value"},
        output_mapping={f"{id}_value": "value"},
        **given,
    )


def branching() -> dw.DAGFlow:
    """Return a flow that takes one of two branches. Its steps stand in another order than their levels."""
    edge = ConditionalEdge(target_step_id="big", predicate="first_value > 10")
    steps = [
        node("last", "big", "small"),
        node("first", branches=[edge], default_next="small"),
        node("big", "first"),
        node("small", "first"),
    ]
    return dw.DAGFlow(name="branching", version="2.0.0", description="Branches", steps=steps)


def executor_for(flow: dw.AnyFlow, *tools: Tool, **settings: Any) -> dw.FlowExecutor:
    """Return an executor that has a flow, the given tools, and one that adds one for each other name."""
    registry = dw.FlowRegistry()
    registry.register_flow(flow)
    executor = dw.FlowExecutor(registry, **settings)
    named = {tool.name: tool for tool in tools}
    for step in flow.steps:
        executor.register_tool(named.get(step.display_name) or number_tool(step.display_name))
    return executor


def run_on(lane: str, executor: dw.FlowExecutor, name: str, inputs: dict[str, Any]) -> ExecutionResult:
    if lane == "sync":
        return executor.execute_flow(name, inputs)
    return asyncio.run(executor.execute_flow_async(name, inputs))


def second_of_two() -> dw.ExecutionResult:
    return run_of(
        record(0, "fetch", 0, 150, inputs={"url": "/orders/4711"}),
        record(1, "price", 150, 350.5, outputs={"value": 2, "list": [1, 2]}),
        record(2, "audit", 350.5, 400),
        failed(3, "stock", 400, 500, "gone"),
        trace_id="f" * 32,
        flow_version="1.5.0",
    )


def first_of_two() -> dw.ExecutionResult:
    return run_of(
        record(0, "fetch", 0, 100),
        record(1, "price", 100, 350.5, outputs={"value": 3, "list": [1]}),
        record(2, "stock", 351, 400),
        record(3, "gift", 400, 401),
    )
