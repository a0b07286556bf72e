"""Tools that stand in for real ones, and tools with something added around each call."""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from copy import deepcopy
from typing import Any

from pydantic import BaseModel, ConfigDict

from doubleweave.models.chunks import ToolChunk
from doubleweave.models.tools import _is_async_callable
from doubleweave.tools import StreamingTool, Tool


class _Anything(BaseModel):
    """Any dict. One class for all fakes, so that they have the same schema hash."""

    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)


def fake_tool(
    name: str,
    output: Mapping[str, Any] | Callable[[dict[str, Any]], Any],
    *,
    description: str | None = None,
    cacheable: bool = False,
) -> Tool:
    """Return a tool that takes any dict and needs no backend.

    Args:
        name: The name of the tool that it stands in for.
        output: What it returns each time, copied now; or a function, plain or async, that is called with the input as a
            dict and returns a dict. An async one makes an async tool.
        description: Contains the name by default.
        cacheable: Whether a step cache may keep what it returns.
    """
    return Tool(
        name=name,
        description=f"Fake of '{name}'" if description is None else description,
        input_schema=_Anything,
        output_schema=_Anything,
        fn=_answering(output),
        cacheable=cacheable,
    )


def _answering(output: Mapping[str, Any] | Callable[[dict[str, Any]], Any]) -> Callable[[Any], Any]:
    if not callable(output):
        kept = deepcopy(dict(output))
        return lambda validated: dict(kept)
    if _is_async_callable(output):

        async def answer_async(validated: BaseModel) -> dict[str, Any]:
            return dict(await output(validated.model_dump()))

        return answer_async

    def answer(validated: BaseModel) -> dict[str, Any]:
        return dict(output(validated.model_dump()))

    return answer


def plain_input(validated: Any) -> dict[str, Any]:
    """Return a tool's validated input as a dict of its own."""
    return validated.model_dump() if isinstance(validated, BaseModel) else deepcopy(validated)


def _nothing(validated: Any) -> None:
    """What is done before a call when nothing was asked for."""


def _unchanged(validated: Any, raw_output: Any) -> Any:
    return raw_output


def wrapped_tool(
    tool: Tool,
    *,
    before: Callable[[Any], None] = _nothing,
    after: Callable[[Any, Any], Any] = _unchanged,
) -> Tool:
    """Return a copy of a tool that calls `before(validated_input)` before each call of its function.

    What the function returned goes through `after(validated_input, raw_output)`, before it is validated. An async tool stays
    async; of a streaming tool the data of the final chunk is what it returns.
    """
    if isinstance(tool, StreamingTool):
        return _wrapped_stream(tool, before, after)
    fn = tool.fn
    if not tool.is_async:

        def call(validated: Any) -> Any:
            before(validated)
            return after(validated, fn(validated))

        return tool.with_fn(call)

    async def call_async(validated: Any) -> Any:
        before(validated)
        return after(validated, await fn(validated))

    return tool.with_fn(call_async)


def _wrapped_stream(tool: StreamingTool, before: Callable[[Any], None], after: Callable[[Any, Any], Any]) -> Tool:
    async def stream(validated: Any) -> AsyncGenerator[ToolChunk, None]:
        before(validated)
        async with aclosing(tool._chunks(validated)) as chunks:
            async for chunk in chunks:
                yield chunk.model_copy(update={"data": after(validated, chunk.data)}) if chunk.is_final else chunk

    twin = tool.with_fn(tool.fn)
    twin.stream_fn = stream
    return twin.with_fn(twin._drain)
