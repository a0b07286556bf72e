"""Tools that run a flow for every item of a list."""

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from doubleweave.errors import ContribError
from doubleweave.executor import AsyncFlowExecutor, FlowExecutor
from doubleweave.models.records import ExecutionResult
from doubleweave.models.tools import _is_async_callable
from doubleweave.tools import Tool

# Takes the index, the item and the output that its run gave; returns the items that this adds.
_Keep = Callable[[int, Any, dict[str, Any]], list[Any]]


class Items(BaseModel):
    """The input and the output of the tools for lists."""

    items: list[Any]


def map_list(
    *,
    subflow_name: str,
    executor: FlowExecutor | AsyncFlowExecutor,
    item_key: str = "item",
    name: str | None = None,
    description: str | None = None,
) -> Tool:
    """Return a tool that runs a registered flow for each of `items`, in order, and returns what the runs gave.

    Each run gets `{item_key: item}`, and its whole final output takes the place of the item. The first run that fails stops
    the tool with `ContribError`; what `execute_flow` raises is raised unchanged. The tool is called `map_list[<flow>]` unless
    named, is never cached, and is async when the executor is an `AsyncFlowExecutor`.
    """
    label = f"map_list[{subflow_name}]" if name is None else name
    about = f"Runs the flow '{subflow_name}' for each item." if description is None else description
    return _list_tool(label, about, subflow_name, executor, item_key, lambda _index, _item, output: [output])


def filter_list(
    *,
    subflow_name: str,
    executor: FlowExecutor | AsyncFlowExecutor,
    item_key: str = "item",
    predicate_key: str = "keep",
    name: str | None = None,
    description: str | None = None,
) -> Tool:
    """Return a tool that runs a registered flow for each of `items`, in order, and returns the items to keep.

    Those are the ones whose run gave a true `predicate_key`. A run that gives no such key stops the tool with `ContribError`;
    otherwise as `map_list`, and called `filter_list[<flow>]` unless named.
    """
    label = f"filter_list[{subflow_name}]" if name is None else name
    about = f"Keeps the items for which the flow '{subflow_name}' says so." if description is None else description

    def keep(index: int, item: Any, output: dict[str, Any]) -> list[Any]:
        if predicate_key not in output:
            detail = f"flow '{subflow_name}' did not produce key '{predicate_key}' for item index {index}"
            raise ContribError(label, detail)
        return [item] if output[predicate_key] else []

    return _list_tool(label, about, subflow_name, executor, item_key, keep)


def _list_tool(
    label: str,
    description: str,
    subflow_name: str,
    executor: FlowExecutor | AsyncFlowExecutor,
    item_key: str,
    keep: _Keep,
) -> Tool:
    execute: Any = executor.execute_flow

    def added(index: int, item: Any, result: ExecutionResult) -> list[Any]:
        return keep(index, item, _output(result, index, label, subflow_name))

    def run(validated: Items) -> dict[str, Any]:
        found: list[Any] = []
        for index, item in enumerate(validated.items):
            found += added(index, item, execute(subflow_name, {item_key: item}))
        return {"items": found}

    async def run_async(validated: Items) -> dict[str, Any]:
        found: list[Any] = []
        for index, item in enumerate(validated.items):
            found += added(index, item, await execute(subflow_name, {item_key: item}))
        return {"items": found}

    return Tool(
        name=label,
        description=description,
        input_schema=Items,
        output_schema=Items,
        fn=run_async if _is_async_callable(execute) else run,
        cacheable=False,
    )


def _output(result: ExecutionResult, index: int, label: str, subflow_name: str) -> dict[str, Any]:
    if result.success and result.final_output is not None:
        return result.final_output
    failed = next((record for record in result.execution_log if not record.success), None)
    why = (failed and (failed.error_message or failed.error_type)) or "its result does not say why"
    raise ContribError(label, f"flow '{subflow_name}' failed on item index {index}: {why.rstrip('.')}")
