"""The tools of an MCP server as tools of flows."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from mcp import types

from doubleweave.errors import DoubleweaveError, MCPError, MCPSchemaConversionError, MCPToolInvocationError
from doubleweave.mcp.connection import Address, Command, Connection, Url
from doubleweave.mcp.limits import MIB
from doubleweave.mcp.safety import UNKNOWN
from doubleweave.mcp.taming import tamed
from doubleweave.models.contracts import DeterminismLevel, SideEffectLevel, StabilityLevel, ToolSafetyContract
from doubleweave.models.json_schema import JsonSchema
from doubleweave.models.json_values import shortened
from doubleweave.tools import Tool

_READS = ToolSafetyContract(
    side_effects=SideEffectLevel.READ,
    stability=StabilityLevel.BEST_EFFORT,
    determinism_level=DeterminismLevel.NONE,
    cacheable=False,
)
_NAME_LETTERS = 128
_DRAFTS = ("https://json-schema.org/draft/2020-12/schema", "https://json-schema.org/draft/2020-12/schema#")


@dataclass(frozen=True)
class _Terms:
    """How tools are taken over. As `import_mcp_tools`."""

    only: Collection[str] | None
    prefix: str
    trusted: bool
    call_seconds: float | None
    max_output_bytes: int


class MCPTools:
    """The tools of one MCP server while it is connected: `with` and `async with` give them as a list of `Tool`.

    The connection lives on a thread of its own, so its tools can be used on either lane, from any thread and any event loop,
    and by many runs at once. Leaving the block, or `close`, ends the session, the server's process and the thread. It can be
    opened once.
    """

    def __init__(self, address: Address, connect_seconds: float, terms: _Terms) -> None:
        self._address = address
        self._connect_seconds = connect_seconds
        self._terms = terms
        self._connection: Connection | None = None

    def open(self) -> list[Tool]:
        """Connect and return the tools, blocking.

        Raises:
            MCPError: The server cannot be reached, is too slow, does not speak MCP, or lacks a tool that was asked for.
            MCPSchemaConversionError: A tool cannot be taken over.
        """
        connection = self._connected()
        try:
            return self._tools(connection, connection.listed.result())
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        """Disconnect, blocking. Closing again, or what was never opened, does nothing."""
        if self._connection is not None:
            self._connection.close()

    def __enter__(self) -> list[Tool]:
        """As `open`."""
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """As `close`."""
        self.close()

    async def __aenter__(self) -> list[Tool]:
        """As `open`, without blocking the running loop."""
        connection = self._connected()
        try:
            return self._tools(connection, await asyncio.wrap_future(connection.listed))
        except BaseException:
            await connection.aclose()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """As `close`, without blocking the running loop."""
        if self._connection is not None:
            await self._connection.aclose()

    def _connected(self) -> Connection:
        if self._connection is not None:
            raise MCPError(str(self._address), "it was connected before; call import_mcp_tools again")
        self._connection = Connection(self._address, self._connect_seconds)
        return self._connection

    def _tools(self, connection: Connection, listed: list[types.Tool]) -> list[Tool]:
        only, names = self._terms.only, [each.name for each in listed]
        missing = sorted(set(only or ()) - set(names))
        if missing:
            raise MCPError(str(self._address), f"it has no tool {missing[0]!r}; it has {shortened(', '.join(names))}")
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise MCPSchemaConversionError(str(self._address), twice, "the server lists this name twice")
        return [_tool(each, connection, self._terms) for each in listed if only is None or each.name in only]


def import_mcp_tools(
    server: str | Sequence[str],
    *,
    headers: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    only: Collection[str] | None = None,
    prefix: str = "",
    trusted: bool = False,
    call_seconds: float | None = 60.0,
    connect_seconds: float = 30.0,
    max_output_bytes: int = MIB,
) -> MCPTools:
    """Return the tools of an MCP server, to be used in a `with` or `async with` block.

    A tool gives the server's structured content; else `{"text": ...}` with its texts, a line each, and under `"content"` what
    else there is. An error of the tool raises `MCPToolInvocationError`, a lost connection `MCPError`, too long a call
    `ToolTimeoutError`. Cancelling a call cancels it on the server.

    Args:
        server: A URL for streamable HTTP, or the words of a command that serves at stdin and stdout.
        headers: Sent with each request to a URL, such as `{"Authorization": "Bearer ..."}`.
        env: Variables for the command, beside `PATH`, `HOME` and the like; it gets no others.
        cwd: Where the command runs.
        only: The tools to take, by the server's names; None for all.
        prefix: Put before each name, so that the tools of several servers do not clash.
        trusted: Believe the server: take its schemas as they are, and read-only for granted where it says so. By default
            only what is quick to check is taken of its schemas, and every tool counts as destructive and not repeatable.
        call_seconds: How long one call may take; None for any time.
        connect_seconds: How long connecting and listing may take.
        max_output_bytes: How long the answer to one call may be, as JSON.

    Raises:
        ValueError: `server` is neither a URL nor words.
    """
    terms = _Terms(only, prefix, trusted, call_seconds, max_output_bytes)
    return MCPTools(_address(server, headers, env, cwd), connect_seconds, terms)


def _address(
    server: str | Sequence[str],
    headers: Mapping[str, str] | None,
    env: Mapping[str, str] | None,
    cwd: str | Path | None,
) -> Address:
    if isinstance(server, str):
        if not server.startswith(("http://", "https://")):
            raise ValueError(f"{server!r} is no URL; give a command as a list of words, as ['python', 'server.py']")
        if env is not None or cwd is not None:
            raise ValueError("env and cwd are for commands, not for a URL")
        return Url(server, dict(headers or {}))
    if not server:
        raise ValueError("the command has no words")
    if headers is not None:
        raise ValueError("headers are for a URL, not for a command")
    return Command(tuple(server), dict(env or {}), None if cwd is None else Path(cwd))


def _tool(listed: types.Tool, connection: Connection, terms: _Terms) -> Tool:
    label = str(connection.address)

    async def call(arguments: dict[str, Any]) -> dict[str, Any]:
        result = await connection.call(listed.name, arguments)
        if result.is_error:
            raise MCPToolInvocationError(label, listed.name, shortened(_text_of(result)) or "no reason was given")
        return _outputs(result)

    if not _is_name(listed.name):
        detail = f"its name is not up to {_NAME_LETTERS} printable characters"
        raise MCPSchemaConversionError(label, shortened(ascii(listed.name)), detail)
    try:
        takes = _schema(listed.input_schema, terms.trusted)
        gives = _schema(_object_schema(listed.output_schema), terms.trusted)
    except DoubleweaveError as error:
        raise MCPSchemaConversionError(label, listed.name, str(error)) from error
    hints = listed.annotations
    reads = terms.trusted and hints is not None and hints.read_only_hint is True
    return Tool(
        name=f"{terms.prefix}{listed.name}",
        description=listed.description or "",
        input_schema=takes,
        output_schema=gives,
        fn=call,
        timeout_seconds=terms.call_seconds,
        max_output_size=terms.max_output_bytes,
        safety=_READS if reads else UNKNOWN,
        metadata={"mcp_server": label, "mcp_tool": listed.name},
    )


def _is_name(name: str) -> bool:
    # It stands in log lines and on terminals, where others would pass for the end of a line or a command.
    return name.isprintable() and 0 < len(name) <= _NAME_LETTERS


def _schema(document: dict[str, Any], trusted: bool) -> JsonSchema:
    is_known = document.get("$schema", _DRAFTS[0]) in _DRAFTS
    return JsonSchema(document if trusted and is_known else tamed(document))


def _object_schema(document: dict[str, Any] | None) -> dict[str, Any]:
    """Return the output schema of a tool, or that of any object where it describes something else or nothing."""
    return {"type": "object"} if document is None or document.get("type", "object") != "object" else document


def _outputs(result: types.CallToolResult) -> dict[str, Any]:
    structured = result.structured_content
    if isinstance(structured, dict):
        return structured
    if structured is not None:
        return {"result": structured}
    others = [
        block.model_dump(mode="json", by_alias=True, exclude_none=True)
        for block in result.content
        if not isinstance(block, types.TextContent)
    ]
    return {"text": _text_of(result), **({"content": others} if others else {})}


def _text_of(result: types.CallToolResult) -> str:
    return "\n".join(block.text for block in result.content if isinstance(block, types.TextContent))
