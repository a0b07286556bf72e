"""Input and output models read off a function's signature."""

import inspect
import warnings
from collections.abc import Callable
from typing import Any, cast, get_type_hints

from pydantic import BaseModel, create_model

from doubleweave.errors import ToolDefinitionError


def input_model_of(function: Callable[..., Any], tool_name: str) -> type[BaseModel]:
    """Return a model named `<tool_name>_input` with one field a parameter: its annotation and its default.

    Raises:
        ToolDefinitionError: A parameter cannot be a field.
    """
    hints = _hints_of(function)
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        _check_parameter(function, parameter, hints)
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[parameter.name] = (hints[parameter.name], default)
    try:
        with warnings.catch_warnings():
            # Fields called `json` or `copy` hide methods that nothing calls on this model.
            warnings.filterwarnings("ignore", "Field name .* shadows an attribute", UserWarning)
            model: type[BaseModel] = create_model(f"{tool_name}_input", **fields)
    except Exception as error:  # pydantic has several for a type without a schema and for a name that it needs itself
        raise _refused(function, f"no input model can be made of its parameters: {error}") from error
    return model


def output_model_of(function: Callable[..., Any], output_schema: Any) -> type[BaseModel]:
    """Return `output_schema` when given, else the function's return annotation.

    Raises:
        ToolDefinitionError: Neither is a pydantic model class.
    """
    if output_schema is not None:
        if not _is_model(output_schema):
            raise _refused(function, f"output_schema must be a BaseModel subclass, not {output_schema!r}")
        return cast("type[BaseModel]", output_schema)
    hints = _hints_of(function)
    if "return" not in hints:
        raise _refused(function, "Missing a return type annotation; add one, or pass output_schema")
    if not _is_model(hints["return"]):
        detail = f"its return annotation {hints['return']!r} must be a BaseModel subclass; or pass output_schema"
        raise _refused(function, detail)
    return cast("type[BaseModel]", hints["return"])


def _check_parameter(function: Callable[..., Any], parameter: inspect.Parameter, hints: dict[str, Any]) -> None:
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise _refused(function, f"positional-only parameters such as '{parameter.name}' are not supported")
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        raise _refused(function, f"*args or **kwargs ('{parameter.name}') are not supported; name each parameter")
    if parameter.name.startswith("_"):
        raise _refused(
            function, f"parameter '{parameter.name}' starts with an underscore; rename it, as models cannot have it"
        )
    if parameter.name not in hints:
        raise _refused(function, f"parameter '{parameter.name}' is missing a type annotation")


def _hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as error:
        raise _refused(function, f"Failed to resolve type hints: {error}") from error


def _is_model(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseModel)


def _refused(function: Callable[..., Any], detail: str) -> ToolDefinitionError:
    return ToolDefinitionError(getattr(function, "__name__", repr(function)), detail)
