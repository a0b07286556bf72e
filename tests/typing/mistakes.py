"""What type checkers must refuse, each with the rules of mypy and of pyright that do; never run.

Where a mistake is none any more, the comment is an error itself.
"""

from flows_and_tools import Order, Total, linear, made
from pydantic import BaseModel

from doubleweave import (
    AsyncFlowExecutor,
    CancellationToken,
    ExecutionResult,
    Flow,
    FlowBuilder,
    FlowExecutor,
    FlowRegistry,
    FlowStep,
    RetryPolicy,
    Tool,
    tool,
)


class NoModel: ...


executor = FlowExecutor(FlowRegistry())
awaited_executor = AsyncFlowExecutor(FlowRegistry())

# Wrong types and names of what flows and tools are made of.
FlowStep(tool_name=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
FlowStep(tool_nam="add_up")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Flow(name="f", description="", steps=["add_up"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
Flow(name="f", steps=[])  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
RetryPolicy(max_retries="often")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
FlowBuilder("f", "").with_input_schema(NoModel)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
FlowBuilder("f", "").stpe("add_up")  # type: ignore[attr-defined]  # pyright: ignore[reportUnknownMemberType, reportAttributeAccessIssue]
Tool(name="t", description="", input_schema=Order, output_schema=Total)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Tool(name="t", description="", input_schema=3, output_schema=Total, fn=len)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@tool(timeout="soon")  # type: ignore[call-overload, untyped-decorator]  # pyright: ignore[reportUntypedFunctionDecorator, reportCallIssue]
def slow(n: int) -> Total:
    return Total(total=n)


# Wrong arguments of an executor and of its methods.
FlowExecutor()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
FlowExecutor(FlowRegistry(), max_step_concurrency="many")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
FlowExecutor(FlowRegistry(), approval_callback=lambda context: "yes")  # type: ignore[arg-type, return-value]  # pyright: ignore[reportArgumentType]
executor.register_tool(len)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
executor.execute_flow(linear, {})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
executor.execute_flow("order", Order(item="lamp", count=1))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
executor.execute_flow("order")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
executor.execute_flow("order", {}, deadline="tomorrow")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
executor.execute_flow("order", {}, cancel_token=CancellationToken)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
made.run("lamp")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

# A result that is taken for another one, and a lane for the other one.
result = executor.execute_flow("order", {})
result.final_output["total"]  # type: ignore[index]  # pyright: ignore[reportOptionalSubscript]
result.finaloutput  # type: ignore[attr-defined]  # pyright: ignore[reportUnknownMemberType, reportAttributeAccessIssue]
wrong: ExecutionResult = awaited_executor.execute_flow("order", {})  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
awaited_executor.execute_flow("order", {}).final_output  # type: ignore[attr-defined]  # pyright: ignore[reportUnknownMemberType, reportAttributeAccessIssue]


async def main() -> None:
    await executor.execute_flow("order", {})  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
    awaited_executor.execute_flow("order", {})  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]
    async for event in executor.stream_flow("order", {}):  # type: ignore[attr-defined]  # pyright: ignore[reportUnknownVariableType, reportGeneralTypeIssues]
        assert event


class Model(BaseModel):
    total: Total


Model(total=result)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
