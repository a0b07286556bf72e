"""Tools that can be called, on either lane."""

import asyncio
import contextvars
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any, ClassVar

from pydantic import BaseModel

from doubleweave._lanes.calls import await_in_thread, await_within, call_in_thread
from doubleweave.core.effects import Carried, InvokeExpired
from doubleweave.errors import ToolDefinitionError, ToolTimeoutError
from doubleweave.models.chunks import ToolChunk
from doubleweave.models.contracts import ToolSafetyContract
from doubleweave.models.flow_interface import derive_input_schema, derive_output_schema, derive_safety, output_of
from doubleweave.models.json_schema import JsonSchema
from doubleweave.models.product import PRODUCT
from doubleweave.models.tools import ToolBase, _is_async_callable


class Tool(ToolBase):
    """A typed function: its input is validated before each call and its output after it."""

    def run(self, raw_inputs: dict[str, Any]) -> dict[str, Any]:
        """Validate, call, validate; return the output as plain data.

        Raises:
            pydantic.ValidationError, JsonSchemaMismatchError: Input or output does not match its schema.
            ToolTimeoutError: The call took longer than `timeout_seconds`.
            ToolOutputSizeError: The output is larger than `max_output_size`.
            ToolDefinitionError: The function is async and a loop already runs in this thread.
            BaseException: Whatever the function raises, unchanged.
        """
        return self._validate_output(self._call_fn(self.validate_input(raw_inputs)))

    async def run_async(self, raw_inputs: dict[str, Any]) -> dict[str, Any]:
        """Validate, call, validate, without blocking the event loop; raises what `run` raises."""
        return self._validate_output(await self._call_fn_async(self.validate_input(raw_inputs)))

    def run_dry(self, raw_inputs: dict[str, Any]) -> dict[str, Any]:
        """Validate, call `dry_run_fn`, validate; return what the tool would return, without its effects.

        Raises:
            ToolDefinitionError: The tool has no `dry_run_fn`.
            pydantic.ValidationError, JsonSchemaMismatchError: Input or output does not match its schema.
        """
        if self.dry_run_fn is None:
            raise ToolDefinitionError(self.name, "it has no dry_run_fn, so it cannot be run dry")
        return self._validate_output(self.dry_run_fn(self.validate_input(raw_inputs)))

    @property
    def thread_name(self) -> str:
        """The name of a worker thread while it runs the function."""
        return f"{PRODUCT}-tool-{self.name}"

    def _call_fn(self, validated_input: Any) -> Any:
        """Call the function and return what it returned, blocking the caller."""
        if self.is_async:
            return self._drive(validated_input)
        if self.timeout_seconds is None:
            return self.fn(validated_input)
        context = contextvars.copy_context()
        try:
            # A limit below zero is over at once, as it is on the event loop; a queue would refuse it.
            limit = max(self.timeout_seconds, 0.0)
            return call_in_thread(lambda: context.run(self.fn, validated_input), self.thread_name, limit)
        except InvokeExpired as error:
            raise ToolTimeoutError(self.name, self.timeout_seconds) from error

    async def _call_fn_async(self, validated_input: Any) -> Any:
        """Call the function and return what it returned, leaving the event loop free."""
        limit, fn = self.timeout_seconds, self.fn
        if limit is None and self.is_async:
            return await fn(validated_input)
        try:
            if limit is None and self.inline:
                return self.fn(validated_input)
            if self.is_async:
                return await await_within(self.fn(validated_input), limit)
            context = contextvars.copy_context()
            call = partial(context.run, self.fn, validated_input)
            return await await_in_thread(call, self.thread_name, limit, self._habit)
        except StopIteration as error:
            raise Carried(error) from error
        except InvokeExpired as error:
            raise ToolTimeoutError(self.name, 0.0 if limit is None else limit) from (error.__cause__ or error)

    def _drive(self, validated_input: Any) -> Any:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(self._call_fn_async(validated_input))
        detail = (
            "its function is async and an event loop already runs in this thread. "
            "Await run_async, or run the flow with execute_flow_async."
        )
        raise ToolDefinitionError(self.name, detail)

    @classmethod
    def from_flow(
        cls,
        flow: Any,
        executor: Any,
        *,
        name: str | None = None,
        description: str | None = None,
        input_schema: type[BaseModel] | JsonSchema | Mapping[str, Any] | None = None,
        output_schema: type[BaseModel] | JsonSchema | Mapping[str, Any] | None = None,
        safety: ToolSafetyContract | None = None,
    ) -> "Tool":
        """Return a tool that runs `flow` on `executor`.

        Name, description, schemas and safety default to those of the flow, else of its first and last tools. The flow has to
        be registered when the tool is called, not before. A failed run raises `FlowExecutionError`.

        Raises:
            ToolDefinitionError: The flow has no steps, or a schema cannot be derived.
            SchemaRefPolicyError: A schema ref of the flow is refused.
        """
        label = flow.name if name is None else name
        if not flow.steps:
            raise ToolDefinitionError(label, f"flow '{flow.name}' has no steps")
        tools = executor.registered_tools
        inputs = derive_input_schema(flow, tools, label) if input_schema is None else input_schema
        outputs = derive_output_schema(flow, tools, label) if output_schema is None else output_schema
        contract, declared = derive_safety(flow, tools) if safety is None else (safety, True)

        def run_flow(validated: Any) -> dict[str, Any]:
            return output_of(executor.execute_flow(flow.name, _raw(validated)), flow, label)

        async def await_flow(validated: Any) -> dict[str, Any]:
            return output_of(await executor.execute_flow(flow.name, _raw(validated)), flow, label)

        tool = Tool(
            name=label,
            description=flow.description if description is None else description,
            input_schema=inputs,
            output_schema=outputs,
            fn=await_flow if _is_async_callable(executor.execute_flow) else run_flow,
            safety=contract,
        )
        tool._safety_declared = declared
        return tool


Tool._plain_call = PLAIN_CALL = Tool._call_fn
Tool._plain_call_async = PLAIN_CALL_ASYNC = Tool._call_fn_async


def _raw(validated: Any) -> dict[str, Any]:
    raw: dict[str, Any] = validated.model_dump() if isinstance(validated, BaseModel) else validated
    return raw


class StreamingTool(Tool):
    """A tool whose function yields chunks; the last one carries the output.

    Args:
        stream_fn: Takes the validated input and asynchronously yields `ToolChunk`s, the last with `is_final=True`.
            Everything else is as for `Tool`.
    """

    is_streaming: ClassVar[bool] = True

    def __init__(
        self,
        *,
        name: str,
        description: str,
        input_schema: type[BaseModel] | JsonSchema | Mapping[str, Any],
        output_schema: type[BaseModel] | JsonSchema | Mapping[str, Any],
        stream_fn: Callable[[Any], AsyncIterator[ToolChunk]],
        timeout_seconds: float | None = None,
        max_output_size: int | None = None,
        schema_version: str = "0.0.0",
        cacheable: bool | None = None,
        safety: ToolSafetyContract | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            name=name,
            description=description,
            input_schema=input_schema,
            output_schema=output_schema,
            fn=self._drain,
            timeout_seconds=timeout_seconds,
            max_output_size=max_output_size,
            schema_version=schema_version,
            cacheable=cacheable,
            safety=safety,
            metadata=metadata,
        )
        self.stream_fn = stream_fn

    async def run_streaming(self, raw_inputs: dict[str, Any]) -> AsyncGenerator[ToolChunk, None]:
        """Validate the input, yield the chunks as they are produced, the final one with its validated data.

        Raises:
            ToolDefinitionError: A chunk comes after the final one, or no chunk is final.
            DoubleweaveError: Otherwise what `run` raises, but for the time limit.
        """
        async with aclosing(self._chunks(self.validate_input(raw_inputs))) as chunks:
            async for chunk in chunks:
                yield ToolChunk(data=self._validate_output(chunk.data), is_final=True) if chunk.is_final else chunk

    async def _drain(self, validated_input: Any) -> Any:
        data: Any = None
        async with aclosing(self._chunks(validated_input)) as chunks:
            async for chunk in chunks:
                data = chunk.data
        return data

    async def _chunks(self, validated_input: Any) -> AsyncGenerator[ToolChunk, None]:
        ended = False
        stream: Any = self.stream_fn(validated_input)
        try:
            async for chunk in stream:
                if ended:
                    raise ToolDefinitionError(self.name, "its stream yielded a chunk after its terminal chunk")
                ended = chunk.is_final
                yield chunk
        finally:
            if hasattr(stream, "aclose"):
                await stream.aclose()
        if not ended:
            raise ToolDefinitionError(self.name, "its stream ended with no terminal chunk (is_final=True)")
