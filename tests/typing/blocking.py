"""The blocking lane as users write it; read by type checkers, never run."""

import time
from typing import Any, assert_type

from flows_and_tools import graph, registry, tools

from doubleweave import (
    ApprovalContext,
    ApprovalDecision,
    BaseMiddleware,
    CancellationToken,
    DecisionContext,
    ExecutionPlan,
    ExecutionResult,
    FileCheckpointer,
    FlowCancelledError,
    FlowEvent,
    FlowExecutor,
    InMemoryStepCache,
    RedactionPolicy,
    ReplayResult,
    SchemaValidationError,
    StepEndContext,
    StepRecord,
    ToolNotFoundError,
)


class Watcher(BaseMiddleware):
    def on_step_end(self, ctx: StepEndContext) -> None:
        assert_type(ctx.step_record, StepRecord)


def approve(context: ApprovalContext) -> ApprovalDecision:
    return ApprovalDecision.APPROVE if context.tool_name == "add_up" else ApprovalDecision.DENY


def decide(context: DecisionContext) -> str:
    return context.candidates[0]


executor = FlowExecutor(
    registry,
    middleware=[Watcher()],
    step_cache=InMemoryStepCache(),
    checkpointer=FileCheckpointer("runs"),
    redaction_policy=RedactionPolicy.recommended(),
    approval_callback=approve,
    decision_callback=decide,
    max_step_concurrency=4,
)
for each in tools:
    executor.register_tool(each)

result = executor.execute_flow("order", {"item": "lamp"}, deadline=time.time() + 5, cancel_token=CancellationToken())
assert_type(result, ExecutionResult)
assert_type(result.success, bool)
assert_type(result.final_output, dict[str, Any] | None)
assert_type(result.execution_log, list[StepRecord])
assert_type(result.execution_log[0].error_code, str | None)
assert_type(result.execution_log[0].sub_result, ExecutionResult | None)

for event in executor.stream_flow("order", {"item": "lamp"}):
    assert_type(event, FlowEvent)
    assert_type(event.tool_name, str | None)

assert_type(executor.resume_flow(result.trace_id), ExecutionResult)
replayed = executor.replay_flow(result)
assert_type(replayed, ReplayResult)
assert_type(replayed.all_steps_match, bool)
assert_type(executor.explain_flow("order", {"item": "lamp"}), ExecutionPlan)
assert_type(executor.get_tool("add_up").name, str)
executor.registry.register_flow(graph, overwrite=True)

try:
    executor.execute_flow("order", {})
except FlowCancelledError as error:
    assert_type(error.flow_name, str)
    assert_type(error.step_index, int)
    assert_type(error.deadline_exceeded, bool)
except SchemaValidationError as error:
    assert_type(error.context, str)
except ToolNotFoundError as error:
    assert_type(error.code, str)
    assert_type(error.hint, str)


async def both_lanes_of_one_executor() -> None:
    assert_type(await executor.execute_flow_async("order", {"item": "lamp"}), ExecutionResult)
    async for event in executor.stream_flow_async("order", {"item": "lamp"}):
        assert_type(event, FlowEvent)
    assert_type(await executor.resume_flow_async(result.trace_id), ExecutionResult)
    assert_type(await executor.replay_flow_async(result), ReplayResult)
