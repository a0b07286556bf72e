"""Flows and tools in the shapes that function-calling APIs take, and as plain functions. No vendor's package is imported."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any, TypeAlias

from pydantic import BaseModel

from doubleweave.errors import ToolDefinitionError
from doubleweave.executor import AsyncFlowExecutor, FlowExecutor
from doubleweave.models.flow_interface import derive_input_schema, derive_output_schema, output_of
from doubleweave.models.flows import AnyFlow
from doubleweave.models.json_schema import JsonSchema
from doubleweave.models.records import ExecutionResult
from doubleweave.models.schemas import bind_schema
from doubleweave.models.tools import _is_async_callable
from doubleweave.tools import Tool

__all__ = [
    "derive_flow_input_schema",
    "derive_flow_output_schema",
    "flow_to_anthropic_tool",
    "flow_to_callable",
    "flow_to_openai_function",
    "tool_to_anthropic_tool",
    "tool_to_callable",
    "tool_to_openai_function",
]

Executor: TypeAlias = FlowExecutor | AsyncFlowExecutor
Schema: TypeAlias = type[BaseModel] | JsonSchema
GivenSchema: TypeAlias = Schema | Mapping[str, Any]


def flow_to_openai_function(
    flow: AnyFlow,
    executor: Executor,
    *,
    name: str | None = None,
    description: str | None = None,
    input_schema: GivenSchema | None = None,
) -> dict[str, Any]:
    """Return a flow as `{"type": "function", "function": {"name", "description", "parameters"}}`.

    Name and description default to the flow's, the input schema to `derive_flow_input_schema`, whose errors it raises. The
    dict is the caller's own.
    """
    return _openai(*_described(flow, name, description), _input_schema(flow, executor, input_schema))


def flow_to_anthropic_tool(
    flow: AnyFlow,
    executor: Executor,
    *,
    name: str | None = None,
    description: str | None = None,
    input_schema: GivenSchema | None = None,
) -> dict[str, Any]:
    """Return a flow as `{"name", "description", "input_schema"}`; otherwise as `flow_to_openai_function`."""
    return _anthropic(*_described(flow, name, description), _input_schema(flow, executor, input_schema))


def tool_to_openai_function(tool: Tool, *, name: str | None = None, description: str | None = None) -> dict[str, Any]:
    """Return a tool as `{"type": "function", "function": {"name", "description", "parameters"}}`.

    Name and description default to the tool's. The dict is the caller's own.
    """
    return _openai(*_described(tool, name, description), tool.input_schema)


def tool_to_anthropic_tool(tool: Tool, *, name: str | None = None, description: str | None = None) -> dict[str, Any]:
    """Return a tool as `{"name", "description", "input_schema"}`; otherwise as `tool_to_openai_function`."""
    return _anthropic(*_described(tool, name, description), tool.input_schema)


def flow_to_callable(
    flow: AnyFlow, executor: Executor, *, input_schema: GivenSchema | None = None, name: str | None = None
) -> Callable[[dict[str, Any]], Any]:
    """Return a function that validates a dict, runs the flow by its name and returns the whole final output.

    With an `AsyncFlowExecutor` it is a coroutine function. The schema is the one given, else derived now. The function has
    the flow's name, or `name`, and its description as docstring. It raises `pydantic.ValidationError` or
    `JsonSchemaMismatchError` for an input that does not match, what `execute_flow` raises, and `FlowExecutionError` with the
    tool, index and message of the first failed record when the run fails.

    Raises:
        ToolDefinitionError: The input schema cannot be derived.
        SchemaRefPolicyError: The flow's schema ref is refused.
    """
    schema = bind_schema(_input_schema(flow, executor, input_schema), f"input of flow '{flow.name}'")
    execute: Any = executor.execute_flow

    def call(data: dict[str, Any]) -> Any:
        return _output(execute(flow.name, schema.serialize(schema.accept(data))), flow)

    async def call_async(data: dict[str, Any]) -> Any:
        return _output(await execute(flow.name, schema.serialize(schema.accept(data))), flow)

    return _named(call_async if _is_async_callable(execute) else call, *_described(flow, name, None))


def tool_to_callable(tool: Tool) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return `tool.run` as a function with the tool's name, and its description as docstring."""

    def call(data: dict[str, Any]) -> dict[str, Any]:
        return tool.run(data)

    return _named(call, tool.name, tool.description)


def derive_flow_input_schema(flow: AnyFlow, executor: Executor) -> Schema:
    """Return the input schema of a flow: its own, else that of its first step's tool.

    Raises:
        ToolDefinitionError: The flow has no steps, its schema ref does not resolve, or its first step is a sub-flow or a tool
            that the executor does not have.
        SchemaRefPolicyError: The flow's schema ref is refused.
    """
    schema: Schema = derive_input_schema(flow, executor.registered_tools, flow.name)
    return schema


def derive_flow_output_schema(flow: AnyFlow, executor: Executor) -> Schema | None:
    """Return the output schema of a flow: its own, else that of its terminal step's tool; None when there is no telling.

    The terminal step is the last one of a linear flow, the only sink of a DAG.

    Raises:
        SchemaRefPolicyError: The flow's schema ref is refused.
    """
    if not flow.steps and flow.output_schema_ref is None:
        return None
    try:
        schema: Schema = derive_output_schema(flow, executor.registered_tools, flow.name)
    except ToolDefinitionError:
        return None
    return schema


def _described(source: AnyFlow | Tool, name: str | None, description: str | None) -> tuple[str, str]:
    return source.name if name is None else name, source.description if description is None else description


def _input_schema(flow: AnyFlow, executor: Executor, given: GivenSchema | None) -> Schema:
    if given is None:
        return derive_flow_input_schema(flow, executor)
    return JsonSchema(given) if isinstance(given, Mapping) else given


def _openai(name: str, description: str, schema: Schema) -> dict[str, Any]:
    function = {"name": name, "description": description, "parameters": _document(schema)}
    return {"type": "function", "function": function}


def _anthropic(name: str, description: str, schema: Schema) -> dict[str, Any]:
    return {"name": name, "description": description, "input_schema": _document(schema)}


def _document(schema: Schema) -> dict[str, Any]:
    """Return a schema as a JSON Schema of the caller's own, without the title, which is a name beside the name."""
    document = deepcopy(schema.document) if isinstance(schema, JsonSchema) else schema.model_json_schema()
    document.pop("title", None)
    return document


def _output(result: ExecutionResult, flow: AnyFlow) -> dict[str, Any]:
    failed = None if result.success else next((each for each in result.execution_log if not each.success), None)
    return output_of(result, flow, flow.name if failed is None else failed.tool_name)


def _named(function: Callable[..., Any], name: str, description: str) -> Callable[..., Any]:
    function.__name__ = function.__qualname__ = name
    function.__doc__ = description
    return function
