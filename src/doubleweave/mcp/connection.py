"""A connection to an MCP server that any thread and any event loop may use: it lives on a loop of its own."""

import asyncio
import contextvars
import logging
import sys
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future, InvalidStateError
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import mcp
from mcp import types
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from pydantic import ValidationError

from doubleweave._lanes.loops import BackgroundLoop, Done, Ticket
from doubleweave.errors import MCPError, MCPToolInvocationError
from doubleweave.models.json_values import shortened
from doubleweave.models.product import PRODUCT

logger = logging.getLogger(f"{PRODUCT}.mcp")

_PAGES, _TOOLS = 100, 1_000
_CLOSE_SECONDS = 15.0
"""More than the SDK takes to end a server that does not want to."""


@dataclass(frozen=True)
class Command:
    """A program that serves at its stdin and stdout."""

    words: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None

    def __str__(self) -> str:
        return self.words[0]


@dataclass(frozen=True)
class Url:
    """A server of streamable HTTP."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        return str(httpx2.URL(self.url).copy_with(userinfo=b"", query=None, fragment=None))  # no secrets in messages


Address = Command | Url


class Connection:
    """One session with a server, on the event loop of one thread, from construction until `close`."""

    def __init__(self, address: Address, connect_seconds: float) -> None:
        self.address = address
        self._connect_seconds = connect_seconds
        self._listed: Future[list[types.Tool]] = Future()
        self._ended: Future[None] = Future()
        # Who waits for one of them and is cancelled does not cancel it.
        self._listed.set_running_or_notify_cancel()
        self._ended.set_running_or_notify_cancel()
        self._is_closed = False
        self._client: mcp.Client | None = None
        self._refusal = ""
        self._session: asyncio.Task[Any] | None = None
        self._awaited: dict[Future[types.CallToolResult], MCPError] = {}
        self._closing = asyncio.Event()
        self._loop = BackgroundLoop()
        self._submit(self._keep, lambda value, error: self._ended.set_result(None))

    @property
    def listed(self) -> "Future[list[types.Tool]]":
        """What the server offers, once it is known; fails with `MCPError` when it cannot be."""
        return self._listed

    async def call(self, tool_name: str, arguments: dict[str, Any]) -> types.CallToolResult:
        """Call a tool, from any loop. When the caller is cancelled, the server is told so.

        Raises:
            MCPError: The connection is closed or was lost, or the answer is no result of a tool.
            MCPToolInvocationError: The server refused the call.
        """
        answer: Future[types.CallToolResult] = Future()
        # First noted, then asked whether it is too late: whoever closes first says so, then looks for what was noted.
        self._awaited[answer] = self._lost(tool_name)
        try:
            ticket = self._begin(tool_name, arguments, answer)
            try:
                return await asyncio.wrap_future(answer)
            except asyncio.CancelledError:
                ticket.cancel()
                raise
        finally:
            del self._awaited[answer]

    def _begin(self, tool_name: str, arguments: dict[str, Any], answer: "Future[types.CallToolResult]") -> Ticket:
        too_late = self._error(f"tool '{tool_name}' was called after the connection was closed")
        if self._is_closed:
            raise too_late
        try:
            return self._submit(
                partial(self._ask, tool_name, arguments), partial(_settle, answer, self._awaited[answer])
            )
        except RuntimeError as error:  # the loop was closed in between
            raise too_late from error

    def close(self) -> None:
        """End the session, its process and its thread; calls under way fail. Closing again does nothing."""
        if self._begin_to_close():
            try:
                self._ended.result(_CLOSE_SECONDS)
            finally:
                self._end_loop()

    async def aclose(self) -> None:
        """As `close`, without blocking the running loop."""
        if self._begin_to_close():
            try:
                await asyncio.wait_for(asyncio.wrap_future(self._ended), _CLOSE_SECONDS)
            finally:
                self._end_loop()

    def _begin_to_close(self) -> bool:
        if self._is_closed:
            return False
        self._is_closed = True

        async def tell() -> None:
            self._closing.set()
            if self._session is not None and not self._listed.done():
                self._session.cancel()

        self._submit(tell, lambda value, error: None)
        return True

    def _end_loop(self) -> None:
        self._loop.close()
        # Calls that the loop had no time to begin.
        for answer, lost in list(self._awaited.items()):
            _settle(answer, lost, None, lost)

    def _submit(self, make: Callable[[], Coroutine[Any, Any, Any]], done: Done) -> Ticket:
        return self._loop.submit(make, contextvars.copy_context(), done)

    async def _keep(self) -> None:
        """Hold the session open on one task, as the SDK wants it, until it is to be closed."""
        self._session = asyncio.current_task()
        try:
            async with AsyncExitStack() as stack:
                async with asyncio.timeout(self._connect_seconds):
                    self._client = await stack.enter_async_context(await self._connect(stack))
                    listed = await self._list(self._client)
                self._listed.set_result(listed)
                await self._closing.wait()
        except asyncio.CancelledError:
            if not self._listed.done():
                self._listed.set_exception(self._error("the connection was closed before the tools were listed"))
            raise
        except Exception as error:
            if not self._listed.done():
                self._listed.set_exception(self._unreachable(error))
            else:
                # The tools have been told, call by call, that the connection is lost.
                logger.debug("The session with '%s' ended with an error", self.address, exc_info=error)

    async def _connect(self, stack: AsyncExitStack) -> mcp.Client:
        if isinstance(self.address, Command):
            words, env = self.address.words, dict(self.address.env)
            program = StdioServerParameters(command=words[0], args=[*words[1:]], env=env, cwd=self.address.cwd)
            # What the server prints to its stderr goes where this process's would, not to whatever stands in for it now.
            return mcp.Client(stdio_client(program, errlog=sys.__stderr__ or sys.stderr))
        http = httpx2.AsyncClient(
            headers=dict(self.address.headers),
            timeout=httpx2.Timeout(30.0, read=None),
            event_hooks={"response": [self._note]},
        )
        await stack.enter_async_context(http)
        return mcp.Client(streamable_http_client(self.address.url, http_client=http))

    async def _note(self, response: httpx2.Response) -> None:
        """Keep the status of a refusal, which the SDK's errors do not tell."""
        if response.is_error:
            self._refusal = f" (HTTP {response.status_code})"

    async def _list(self, client: mcp.Client) -> list[types.Tool]:
        listed: list[types.Tool] = []
        cursor: str | None = None
        for _ in range(_PAGES):
            page = await client.list_tools(cursor=cursor, cache_mode="bypass")
            listed += page.tools
            cursor = page.next_cursor
            if len(listed) > _TOOLS:
                break
            if cursor is None:
                return listed
        raise self._error(f"it lists more than {_TOOLS} tools or {_PAGES} pages of them")

    async def _ask(self, tool_name: str, arguments: dict[str, Any]) -> types.CallToolResult:
        assert self._client is not None
        request = types.CallToolRequest(params=types.CallToolRequestParams(name=tool_name, arguments=arguments))
        try:
            # Not `call_tool`, which checks the result by the server's schema as it is; the tool has one that is tamed.
            return await self._client.session.send_request(request, types.CallToolResult)
        except mcp.MCPError as error:
            if error.code == types.CONNECTION_CLOSED:
                raise self._lost(tool_name) from error
            raise MCPToolInvocationError(str(self.address), tool_name, f"{error} (code {error.code})") from error
        except ValidationError as error:
            detail = f"the answer to a call of tool '{tool_name}' is no result of a tool: {shortened(str(error))}"
            raise self._error(detail) from error
        except Exception as error:
            raise self._error(f"tool '{tool_name}' could not be called: {_text_of(error)}") from error

    def _lost(self, tool_name: str) -> MCPError:
        return self._error(f"the connection was lost or closed while tool '{tool_name}' was called")

    def _unreachable(self, error: BaseException) -> MCPError:
        error = _innermost(error)
        if isinstance(error, MCPError):
            return error
        if isinstance(error, TimeoutError):
            return self._error(f"it did not list its tools within {self._connect_seconds:g} s")
        return self._error(f"it cannot be reached, or does not speak MCP: {_text_of(error)}{self._refusal}")

    def _error(self, detail: str) -> MCPError:
        return MCPError(str(self.address), detail)


def _settle(answer: "Future[Any]", lost: MCPError, value: Any, error: BaseException | None) -> None:
    with suppress(InvalidStateError):  # nobody waits any more
        if error is None:
            answer.set_result(value)
        else:
            # The task was cancelled by the end of the connection, not by the caller.
            answer.set_exception(error if isinstance(error, Exception) else lost)


def _text_of(error: BaseException) -> str:
    error = _innermost(error)
    return shortened(f"{type(error).__name__}: {error}")


def _innermost(error: BaseException) -> BaseException:
    """Return an error, of a group of them the first one."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
