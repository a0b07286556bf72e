"""The awaited lane as users write it; read by type checkers, never run."""

import time
from typing import Any, assert_type

from flows_and_tools import graph, registry, tools

from doubleweave import (
    ApprovalContext,
    ApprovalDecision,
    AsyncFlowExecutor,
    BaseMiddleware,
    CancellationToken,
    ExecutionPlan,
    ExecutionResult,
    FlowCancelledError,
    FlowEvent,
    GuardrailContext,
    InMemoryCheckpointer,
    ReplayResult,
    StepRecord,
)


async def approve(context: ApprovalContext) -> ApprovalDecision:
    return ApprovalDecision.DENY


async def guard(context: GuardrailContext) -> None:
    if context.inputs:
        raise ValueError("none of that")


executor = AsyncFlowExecutor(
    registry,
    middleware=[BaseMiddleware()],
    checkpointer=InMemoryCheckpointer(),
    approval_callback=approve,
    guardrail_callback=guard,
    max_step_concurrency=100,
)
for each in tools:
    executor.register_tool(each)


async def main() -> None:
    result = await executor.execute_flow(
        "order", {"item": "lamp"}, deadline=time.time() + 5, cancel_token=CancellationToken()
    )
    assert_type(result, ExecutionResult)
    assert_type(result.final_output, dict[str, Any] | None)
    assert_type(result.execution_log, list[StepRecord])
    async for event in executor.stream_flow("order", {"item": "lamp"}):
        assert_type(event, FlowEvent)
    assert_type(await executor.resume_flow(result.trace_id), ExecutionResult)
    assert_type(await executor.replay_flow(result), ReplayResult)
    assert_type(executor.explain_flow("order", {}), ExecutionPlan)
    executor.registry.register_flow(graph, overwrite=True)
    try:
        await executor.execute_flow("order", {})
    except FlowCancelledError as error:
        assert_type(error.token_cancelled, bool)
