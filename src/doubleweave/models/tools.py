"""What a tool is: its schemas, limits, safety contract and fingerprints. How it is called lives with the lanes."""

import hashlib
import inspect
import json
import math
from collections.abc import Callable, Mapping
from copy import copy
from functools import cached_property
from types import FunctionType
from typing import Any, ClassVar, Self

from pydantic import BaseModel

from doubleweave.errors import DoubleweaveError, ToolDefinitionError, ToolOutputSizeError
from doubleweave.models.contracts import ToolSafetyContract
from doubleweave.models.json_schema import JsonSchema
from doubleweave.models.schemas import SchemaSource, bind_schema


def _is_async_callable(fn: Any) -> bool:
    """Say whether calling `fn` gives an awaitable, without calling it."""
    if inspect.iscoroutinefunction(fn):
        return True
    call = getattr(fn, "__dict__", {}).get("__call__")
    if call is None:
        call = inspect.getattr_static(type(fn), "__call__", None)
    if isinstance(call, staticmethod | classmethod):
        call = call.__func__
    return inspect.iscoroutinefunction(call)


class Habit:
    """How many seconds a function took when it was last called on a worker thread, the way there and back included."""

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds = math.inf


class ToolBase:
    """A tool's definition: everything about it that can be known without calling it.

    Args:
        name: The name under which flows refer to the tool.
        description: One sentence for people and agents.
        input_schema: A pydantic model class, or a JSON Schema (a `JsonSchema` or its document as a dict).
        output_schema: The same for what the tool returns.
        fn: Takes the validated input (a model instance, or a dict under a JSON Schema) and returns a dict or an
            awaitable of one.
        timeout_seconds: Wall-clock limit of one call in seconds; None for none.
        max_output_size: Limit of the output's JSON text in bytes; None for none.
        schema_version: Part of `schema_hash`; raise it when the meaning of the output changes but its schema does not.
        cacheable: Whether outputs may be reused; None takes it from `safety`.
        safety: What the tool does to the world.
        metadata: Free data; never read by the executor.
        dry_run_fn: Takes the validated input and returns what the tool would return, without its effects.
        inline: The function is cheap and never blocks, so that it may be called on a running event loop. With a time
            limit it is not, because nothing could interrupt it there.

    Raises:
        ToolDefinitionError: A schema is not usable, or `supports_dry_run` is declared without `dry_run_fn`.
        ValueError: `cacheable` contradicts `safety.cacheable`.
    """

    is_streaming: ClassVar[bool] = False
    # What `_call_fn` and `_call_fn_async` are when nobody has overridden or replaced them: then a lane may call `fn` itself.
    _plain_call: ClassVar[Any] = None
    _plain_call_async: ClassVar[Any] = None

    def __init__(
        self,
        *,
        name: str,
        description: str,
        input_schema: type[BaseModel] | JsonSchema | Mapping[str, Any],
        output_schema: type[BaseModel] | JsonSchema | Mapping[str, Any],
        fn: Callable[[Any], Any],
        timeout_seconds: float | None = None,
        max_output_size: int | None = None,
        schema_version: str = "0.0.0",
        cacheable: bool | None = None,
        safety: ToolSafetyContract | None = None,
        metadata: Mapping[str, Any] | None = None,
        dry_run_fn: Callable[[Any], Any] | None = None,
        inline: bool = False,
    ) -> None:
        self.name = name
        self.description = description
        self.input_schema = input_schema
        self.output_schema = output_schema
        self._take_fn(fn)
        self.timeout_seconds = timeout_seconds
        self.max_output_size = max_output_size
        self.schema_version = schema_version
        self.safety = _reconciled_safety(name, cacheable, safety)
        self.cacheable = self.safety.cacheable
        self.metadata: dict[str, Any] = dict(metadata or {})
        self.dry_run_fn = dry_run_fn
        self.inline = inline
        self._safety_declared = safety is not None
        if self.safety.supports_dry_run and dry_run_fn is None:
            raise ToolDefinitionError(name, "safety.supports_dry_run is True but no dry_run_fn was given")

    def __repr__(self) -> str:
        return f"Tool(name={self.name!r})"

    def with_fn(self, fn: Callable[[Any], Any]) -> Self:
        """Return a copy that calls another function, plain or async; everything else stays as it is."""
        twin = copy(self)
        twin.metadata = dict(self.metadata)
        twin._take_fn(fn)
        return twin

    def _take_fn(self, fn: Callable[[Any], Any]) -> None:
        self.fn = fn
        self.is_async = _is_async_callable(fn)
        # Calling it runs nothing yet.
        self._is_coroutine_function = isinstance(fn, FunctionType) and bool(fn.__code__.co_flags & inspect.CO_COROUTINE)
        self._habit = Habit()

    @property
    def input_schema(self) -> Any:
        """The pydantic model class or `JsonSchema` of the input; may be assigned what the constructor takes."""
        return self._input.source

    @input_schema.setter
    def input_schema(self, schema: type[BaseModel] | JsonSchema | Mapping[str, Any]) -> None:
        self._input = bind_schema(_usable_schema(self.name, "input_schema", schema), f"input of tool '{self.name}'")
        # What `validate_input` does, without a call in between.
        self.accept_input: Callable[[Any], Any] = self._input.accept

    @property
    def output_schema(self) -> Any:
        """The pydantic model class or `JsonSchema` of the output; may be assigned what the constructor takes."""
        return self._output.source

    @output_schema.setter
    def output_schema(self, schema: type[BaseModel] | JsonSchema | Mapping[str, Any]) -> None:
        self._output = bind_schema(_usable_schema(self.name, "output_schema", schema), f"output of tool '{self.name}'")
        self._accept_output: Callable[[Any], Any] = self._output.accept
        self._serialize_output: Callable[[Any], Any] = self._output.serialize

    @property
    def safety_declared(self) -> bool:
        """Whether the safety contract was given, not assumed."""
        return self._safety_declared

    @property
    def supports_dry_run(self) -> bool:
        """Whether the safety contract promises a dry run."""
        return self.safety.supports_dry_run

    @cached_property
    def input_schema_hash(self) -> str:
        """Fingerprint of the input schema: 16 hex digits."""
        return self._input.fingerprint()

    @cached_property
    def output_schema_hash(self) -> str:
        """Fingerprint of the output schema: 16 hex digits."""
        return self._output.fingerprint()

    @cached_property
    def schema_hash(self) -> str:
        """Fingerprint of both schemas and the schema version: 16 hex digits of SHA-256 over their JSON array."""
        parts = [self.input_schema_hash, self.output_schema_hash, self.schema_version]
        return hashlib.sha256(json.dumps(parts, separators=(",", ":")).encode()).hexdigest()[:16]

    def validate_input(self, raw: Any) -> Any:
        """Return what the tool function receives for `raw`.

        Raises:
            pydantic.ValidationError, JsonSchemaMismatchError: `raw` does not match the input schema.
        """
        return self._input.accept(raw)

    def _validate_output(self, raw_output: Any) -> dict[str, Any]:
        """Return the function's result as validated plain data; the size limit is checked first."""
        if self.max_output_size is not None:
            size = len(json.dumps(raw_output, default=str).encode())
            if size > self.max_output_size:
                raise ToolOutputSizeError(self.name, size, self.max_output_size)
        accept, serialize = self._accept_output, self._serialize_output
        outputs: Any = serialize(accept(raw_output))
        if isinstance(outputs, dict):
            return outputs
        detail = f"its output schema describes a {type(outputs).__name__}, but a tool's output is an object with named fields"
        raise ToolDefinitionError(self.name, detail)

    def restore_output(self, plain: Any) -> dict[str, Any]:
        """Return an output that has been JSON in between with the types that it had, as far as the schema declares them.

        Raises:
            pydantic.ValidationError, JsonSchemaMismatchError: It does not match the output schema.
        """
        outputs = self._output.restore(plain)
        if not isinstance(outputs, dict):
            raise ToolDefinitionError(self.name, f"its output schema describes a {type(outputs).__name__}")
        return outputs

    def input_fields(self) -> dict[str, str]:
        """Return the name of each input field's type."""
        return self._input.field_types()

    def output_fields(self) -> dict[str, str]:
        """Return the name of each output field's type."""
        return self._output.field_types()

    def declared_outputs(self) -> frozenset[str] | None:
        """Return every key that the output can have, or None when that cannot be known."""
        return self._output.declared_keys()


def _usable_schema(tool_name: str, parameter: str, schema: Any) -> SchemaSource:
    if isinstance(schema, JsonSchema) or (isinstance(schema, type) and issubclass(schema, BaseModel)):
        return schema
    if not isinstance(schema, Mapping):
        detail = f"{parameter} must be a pydantic model class or a JSON Schema document, not {schema!r}"
        raise ToolDefinitionError(tool_name, detail)
    try:
        return JsonSchema(schema)
    except DoubleweaveError as error:
        raise ToolDefinitionError(tool_name, f"{parameter}: {error}") from error


def _reconciled_safety(tool_name: str, cacheable: bool | None, safety: ToolSafetyContract | None) -> ToolSafetyContract:
    if safety is None:
        return ToolSafetyContract(cacheable=True if cacheable is None else cacheable)
    if cacheable is not None and cacheable != safety.cacheable:
        raise ValueError(
            f"Tool '{tool_name}' has conflicting cacheable settings: cacheable={cacheable}, "
            f"safety.cacheable={safety.cacheable}. Give only one of them, or make them equal."
        )
    return safety
