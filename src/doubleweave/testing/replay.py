"""Recording what tools answer, once, and serving it from a file ever after."""

import functools
import json
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from copy import deepcopy
from enum import Enum
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar, Protocol, TypeVar
from unittest.mock import patch

from pydantic import BaseModel

from doubleweave.errors import DoubleweaveError
from doubleweave.models.chunks import ToolChunk
from doubleweave.models.product import PRODUCT
from doubleweave.models.redaction import RedactionPolicy
from doubleweave.models.tools import _is_async_callable
from doubleweave.tools import PLAIN_CALL, PLAIN_CALL_ASYNC, StreamingTool, Tool

RECORD_ENV_VAR = f"{PRODUCT.upper()}_RECORD"
"""Recordings are made while this environment variable is `1`."""

_VERSION = 1
_PLAIN_STREAM = StreamingTool.run_streaming

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
Interaction = dict[str, Any]


class FixtureStaleError(DoubleweaveError):
    """A recording has no answer left for a tool call; `attempted_input` is the call's input as JSON data."""

    code: ClassVar[str] = "CW-E040"

    def __init__(
        self, *, tool_name: str, fixture_path: str | Path, attempted_input: dict[str, Any], detail: str
    ) -> None:
        self.tool_name = tool_name
        self.fixture_path = fixture_path
        self.attempted_input = attempted_input
        self.detail = detail
        hint = f"run again with {RECORD_ENV_VAR}=1 to record {fixture_path} anew"
        super().__init__(f"Fixture is stale for tool '{tool_name}': {detail}; {hint}.")


class RecordReplayMode(str, Enum):
    """Whether tools are really called and their answers recorded, or the answers come from a recording."""

    RECORD = "record"
    REPLAY = "replay"


def record_then_replay(
    fixture_path: str | Path, *, redaction: RedactionPolicy | None = None
) -> Callable[[Decorated], Decorated]:
    """Return a decorator that replaces every tool call inside a function, plain or async, by a recorded answer.

    While the environment variable `DOUBLEWEAVE_RECORD` is `1` tools are really called, on either lane, and the file is
    written when the function has ended without an error. Otherwise each call is served the next unused answer recorded for
    the same tool and the same input. Schemas are validated in both cases. What a tool streams before its final chunk, and
    calls that failed, are not recorded. Values that JSON does not have are recorded as `str()` writes them.

    `Tool` itself is changed meanwhile, so that one such function can run at a time in a process.

    Args:
        fixture_path: The file.
        redaction: Applied to what is written; a plain `RedactionPolicy` by default. An input with a redacted key cannot be
            found again, so exempt such keys or keep them out of inputs.

    The decorated function raises, besides what it raises itself:
        FixtureStaleError: A tool was called directly and no answer is left. Inside a flow, the step fails with that text.
        FileNotFoundError: There is no recording.
        ValueError: The recording is malformed.
        RuntimeError: Another such function runs.
    """
    path = Path(fixture_path)

    def decorate(function: Decorated) -> Decorated:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with _session(path, redaction):
                return function(*args, **kwargs)

        @functools.wraps(function)
        async def call_async(*args: Any, **kwargs: Any) -> Any:
            with _session(path, redaction):
                return await function(*args, **kwargs)

        decorated: Any = call_async if _is_async_callable(function) else call
        return decorated  # type: ignore[no-any-return]  # it has the signature of what it wraps

    return decorate


def _mode() -> RecordReplayMode:
    return RecordReplayMode.RECORD if os.environ.get(RECORD_ENV_VAR) == "1" else RecordReplayMode.REPLAY


@contextmanager
def _session(path: Path, redaction: RedactionPolicy | None) -> Iterator[None]:
    if _mode() is RecordReplayMode.REPLAY:
        with _hooked(_Replaying(path, _load_fixture(path))):
            yield
        return
    recording = _Recording()
    with _hooked(recording):
        yield
    _save_fixture(path, recording.answered(), redaction)


class _Hook(Protocol):
    """What stands in the place of a tool's call."""

    def call(self, tool: Tool, validated: Any) -> Any: ...

    def call_async(self, tool: Tool, validated: Any) -> Awaitable[Any]: ...

    def stream(self, tool: StreamingTool, raw_inputs: dict[str, Any]) -> AsyncGenerator[ToolChunk, None]: ...


@contextmanager
def _hooked(hook: _Hook) -> Iterator[None]:
    if Tool._call_fn is not PLAIN_CALL:
        raise RuntimeError("a function that records or replays runs already; one at a time can run in a process")

    def call(tool: Tool, validated: Any) -> Any:
        # Of an async tool the coroutine that it is driven by comes to the other hook.
        return PLAIN_CALL(tool, validated) if tool.is_async else hook.call(tool, validated)

    async def call_async(tool: Tool, validated: Any) -> Any:
        return await hook.call_async(tool, validated)

    def stream(tool: StreamingTool, raw_inputs: dict[str, Any]) -> AsyncGenerator[ToolChunk, None]:
        return hook.stream(tool, raw_inputs)

    streams = patch.object(StreamingTool, "run_streaming", stream)
    with patch.multiple(Tool, _call_fn=call, _call_fn_async=call_async), streams:
        yield


class _Recording:
    """Calls tools and writes down what they answer."""

    def __init__(self) -> None:
        self._interactions: list[Interaction] = []

    def answered(self) -> list[Interaction]:
        """Return the calls that were answered, in the order in which they were made."""
        return [each for each in self._interactions if "output" in each]

    def call(self, tool: Tool, validated: Any) -> Any:
        interaction = self._begin(tool, validated)
        return self._end(interaction, tool, PLAIN_CALL(tool, validated))

    async def call_async(self, tool: Tool, validated: Any) -> Any:
        interaction = self._begin(tool, validated)
        return self._end(interaction, tool, await PLAIN_CALL_ASYNC(tool, validated))

    async def stream(self, tool: StreamingTool, raw_inputs: dict[str, Any]) -> AsyncGenerator[ToolChunk, None]:
        interaction = self._begin(tool, tool.validate_input(raw_inputs))
        async with aclosing(_PLAIN_STREAM(tool, raw_inputs)) as chunks:
            async for chunk in chunks:
                if chunk.is_final:
                    self._end(interaction, tool, chunk.data)
                yield chunk

    def _begin(self, tool: Tool, validated: Any) -> Interaction:
        interaction = {"tool_name": tool.name, "input": _json_safe(validated)}
        self._interactions.append(interaction)
        return interaction

    def _end(self, interaction: Interaction, tool: Tool, output: Any) -> Any:
        # What is no dict may become one in validation.
        interaction["output"] = _json_safe(output if isinstance(output, dict) else tool._validate_output(output))
        return output


class _Replaying:
    """Answers from a recording; calls nothing."""

    def __init__(self, path: Path, interactions: list[Interaction]) -> None:
        self._path = path
        self._interactions = interactions
        self._cursors: dict[tuple[str, str], int] = {}
        self._lock = Lock()

    def call(self, tool: Tool, validated: Any) -> Any:
        with self._lock:
            return _consume_recording(
                interactions=self._interactions,
                cursor_by_key=self._cursors,
                tool_name=tool.name,
                attempted_input=_json_safe(validated),
                fixture_path=self._path,
            )

    async def call_async(self, tool: Tool, validated: Any) -> Any:
        return self.call(tool, validated)

    async def stream(self, tool: StreamingTool, raw_inputs: dict[str, Any]) -> AsyncGenerator[ToolChunk, None]:
        output = self.call(tool, tool.validate_input(raw_inputs))
        yield ToolChunk(data=tool._validate_output(output), is_final=True)


def _consume_recording(
    *,
    interactions: list[Interaction],
    cursor_by_key: dict[tuple[str, str], int],
    tool_name: str,
    attempted_input: dict[str, Any],
    fixture_path: str | Path,
) -> dict[str, Any]:
    """Return a copy of the next unused output recorded for a tool and an input; `cursor_by_key` counts those used."""
    key = _canonical_key(tool_name, attempted_input)
    recorded = [
        each["output"]
        for each in interactions
        if each["tool_name"] == tool_name
        and each["input"] == attempted_input
        and _canonical_key(tool_name, each["input"]) == key
    ]
    used = cursor_by_key.get(key, 0)
    if used < len(recorded):
        cursor_by_key[key] = used + 1
        output: dict[str, Any] = deepcopy(recorded[used])
        return output
    detail = f"no more recordings for this input, {used} used" if recorded else "this input is not in the recording"
    raise FixtureStaleError(
        tool_name=tool_name, fixture_path=fixture_path, attempted_input=attempted_input, detail=detail
    )


def _canonical_key(tool_name: str, input_dict: dict[str, Any]) -> tuple[str, str]:
    """Return what a call is found by, whatever the order of the keys of its input."""
    return tool_name, json.dumps(input_dict, sort_keys=True, separators=(",", ":"))


def _json_safe(data: Any) -> dict[str, Any]:
    """Return a model or dict as JSON data; what JSON does not have becomes text, but for models."""
    plain = data.model_dump() if isinstance(data, BaseModel) else data
    safe: dict[str, Any] = json.loads(json.dumps(plain, default=_plain))
    return safe


def _plain(value: Any) -> Any:
    return value.model_dump() if isinstance(value, BaseModel) else str(value)


def _save_fixture(path: Path, interactions: list[Interaction], redaction: RedactionPolicy | None) -> None:
    policy = RedactionPolicy() if redaction is None else redaction
    redacted = [
        {**each, "input": policy.redact(each["input"]), "output": policy.redact(each["output"])}
        for each in interactions
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"version": _VERSION, "interactions": redacted}, indent=2, sort_keys=True)
    path.write_text(f"{text}\n", encoding="utf-8")


def _load_fixture(path: Path) -> list[Interaction]:
    """Return the interactions of a file.

    Raises:
        FileNotFoundError: There is none; says how to make it.
        ValueError: It is malformed; says where.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no recording {path}; run with {RECORD_ENV_VAR}=1 to make it") from None
    try:
        document = _parsed(content)
        if not isinstance(document, dict):
            raise ValueError(f"expected an object, found {type(document).__name__}")
        version = document.get("version")
        # Neither `true` nor `1.0`, which are equal to it.
        if type(version) is not int or version != _VERSION:
            raise ValueError(f"unsupported version {version!r}, expected {_VERSION}")
        interactions = document.get("interactions")
        if not isinstance(interactions, list):
            raise ValueError("'interactions' must be a list")
        for index, entry in enumerate(interactions):
            _check_entry(f"interactions[{index}]", entry)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; record it anew with {RECORD_ENV_VAR}=1") from error
    return interactions


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _check_entry(where: str, entry: Any) -> None:
    if not isinstance(entry, dict):
        raise ValueError(f"{where} must be an object")
    for key in ("tool_name", "input", "output"):
        if key not in entry:
            raise ValueError(f"{where}: missing key '{key}'")
    if not isinstance(entry["tool_name"], str):
        raise ValueError(f"{where}: 'tool_name' must be a string")
    if not (isinstance(entry["input"], dict) and isinstance(entry["output"], dict)):
        raise ValueError(f"{where}: 'input' and 'output' must be objects")
