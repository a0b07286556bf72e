"""Tools from annotated functions."""

import functools
from collections.abc import Callable
from typing import Any, overload

from pydantic import BaseModel

from doubleweave.errors import ToolDefinitionError
from doubleweave.models.contracts import ToolSafetyContract
from doubleweave.models.signatures import input_model_of, output_model_of
from doubleweave.models.tools import _is_async_callable
from doubleweave.tools import Tool


class FunctionTool(Tool):
    """A tool made from a function, which it still can be called as."""

    function: Callable[..., Any]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function itself, without validation."""
        return self.function(*args, **kwargs)


@overload
def tool(fn: Callable[..., Any]) -> FunctionTool: ...


@overload
def tool(
    fn: None = None,
    *,
    name: str | None = None,
    description: str | None = None,
    output_schema: type[BaseModel] | None = None,
    timeout_seconds: float | None = None,
    max_output_size: int | None = None,
    schema_version: str = "0.0.0",
    cacheable: bool = True,
    safety: ToolSafetyContract | None = None,
) -> Callable[[Callable[..., Any]], FunctionTool]: ...


def tool(
    fn: Callable[..., Any] | None = None,
    *,
    name: str | None = None,
    description: str | None = None,
    output_schema: type[BaseModel] | None = None,
    timeout_seconds: float | None = None,
    max_output_size: int | None = None,
    schema_version: str = "0.0.0",
    cacheable: bool = True,
    safety: ToolSafetyContract | None = None,
) -> FunctionTool | Callable[[Callable[..., Any]], FunctionTool]:
    """Make a tool of an annotated function, plain or async; usable bare or with arguments.

    The input model has one field a parameter; the output model is `output_schema`, else the return annotation, a pydantic
    model class. Name and description default to the function's name and docstring. The rest is as for
    `Tool`; with `safety`, its word on `cacheable` counts unless `cacheable` is False.

    Raises:
        ToolDefinitionError: The signature does not describe a tool; says what to change.
    """

    def decorate(function: Callable[..., Any]) -> FunctionTool:
        label = name or getattr(function, "__name__", None)
        if label is None:
            raise ToolDefinitionError(repr(function), "it has no name of its own; pass name=")
        made = FunctionTool(
            name=label,
            description=(function.__doc__ or "").strip() if description is None else description,
            input_schema=input_model_of(function, label),
            output_schema=output_model_of(function, output_schema),
            fn=_adapter(function),
            timeout_seconds=timeout_seconds,
            max_output_size=max_output_size,
            schema_version=schema_version,
            # With a contract, the default says nothing.
            cacheable=None if cacheable and safety is not None else cacheable,
            safety=safety,
        )
        made.function = function
        return made

    return decorate if fn is None else decorate(fn)


def _adapter(function: Callable[..., Any]) -> Callable[[Any], Any]:
    if _is_async_callable(function):

        @functools.wraps(function)
        async def call_async(validated: BaseModel) -> Any:
            return _plain(await function(**validated.model_dump()))

        return call_async

    @functools.wraps(function)
    def call(validated: BaseModel) -> Any:
        return _plain(function(**validated.model_dump()))

    return call


def _plain(value: Any) -> Any:
    return value.model_dump() if isinstance(value, BaseModel) else value
