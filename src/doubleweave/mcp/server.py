"""Flows offered as MCP tools, over stdio and over streamable HTTP."""

import asyncio
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from typing import Any

from mcp import MCPError, stdio_server, types
from mcp.server import Server, ServerRequestContext

from doubleweave.mcp.calls import FlowCalls, logger
from doubleweave.mcp.http import MCP_PATH, FlowHttpApp, http_app, serve
from doubleweave.mcp.limits import Limits
from doubleweave.mcp.offers import Offers
from doubleweave.mcp.safety import Executor
from doubleweave.models.contracts import SideEffectLevel
from doubleweave.models.product import PRODUCT, __version__


class FlowServer:
    """Offers the flows of an executor as the tools of an MCP server.

    A flow is offered when it is active in its latest version and nothing that it may call, its fallbacks, decision candidates
    and sub-flows included, has side effects above `max_side_effect_level`; a tool without a safety contract counts as
    destructive. This is looked at anew for every listing and every call. Runs go on the event loop, whichever executor it is.

    Args:
        executor: Runs the flows of its registry with its tools and policies.
        flows: The names of the flows that may be offered; None for all.
        max_side_effect_level: The highest side-effect level of a flow that is offered.
        limits: What one call may take, and all of them together.
        name: What the server calls itself.

    Raises:
        ValueError: There is no such side-effect level.
    """

    def __init__(
        self,
        executor: Executor,
        *,
        flows: Collection[str] | None = None,
        max_side_effect_level: SideEffectLevel = SideEffectLevel.READ,
        limits: Limits | None = None,
        name: str = PRODUCT,
    ) -> None:
        self.limits = Limits() if limits is None else limits
        self._name = name
        names = None if flows is None else frozenset(flows)
        self._offers = Offers(executor, names, SideEffectLevel(max_side_effect_level))
        self._calls = FlowCalls(executor, self.limits)

    def offered(self) -> list[str]:
        """Return the names of the flows that are offered now."""
        return [offer.flow.name for offer in self._offers.all()]

    def refused(self) -> dict[str, str]:
        """Return, by name, why each other flow is not."""
        return self._offers.refused()

    async def serve_stdio(self, *, withhold_errors: bool = False) -> None:
        """Serve the program at the other end of stdin and stdout until it closes them.

        What the process prints meanwhile goes to stderr.

        Args:
            withhold_errors: Tell of what went wrong in a run only the error code and the trace id.
        """
        server = self._sdk_server(withhold_errors)
        async with stdio_server() as (incoming, outgoing):
            # Meanwhile the descriptor of stdout leads to stderr; what a buffer holds must be written before that ends.
            sys.stdout.flush()
            try:
                with redirect_stdout(sys.stderr):
                    await server.run(incoming, outgoing, server.create_initialization_options())
            finally:
                sys.stdout.flush()

    def run_stdio(self, *, withhold_errors: bool = False) -> None:
        """As `serve_stdio`, blocking."""
        asyncio.run(self.serve_stdio(withhold_errors=withhold_errors))

    def http_app(
        self,
        *,
        token: str | None = None,
        allowed_hosts: Collection[str] = (),
        allowed_origins: Collection[str] = (),
        withhold_errors: bool = True,
        path: str = MCP_PATH,
    ) -> FlowHttpApp:
        """Return an ASGI application that serves streamable HTTP at `path`, to be run or mounted.

        Args:
            token: What callers have to send as `Authorization: Bearer ...`; None serves callers on this machine only.
            allowed_hosts: `Host` headers that are accepted, beside those of this machine; `name:*` is any port.
            allowed_origins: `Origin` headers that are accepted, as `https://name`. None are by default: no page in a browser
                may call.
            withhold_errors: Tell of what went wrong in a run only the error code and the trace id.
            path: Where it is served.

        Raises:
            ValueError: The token is empty or has characters that cannot be in a header.
        """
        return http_app(
            self._sdk_server(withhold_errors),
            token=token,
            allowed_hosts=allowed_hosts,
            allowed_origins=allowed_origins,
            max_body_bytes=self.limits.input_bytes,
            path=path,
        )

    async def serve_http(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        token: str | None = None,
        allowed_hosts: Collection[str] = (),
        allowed_origins: Collection[str] = (),
        withhold_errors: bool = True,
        on_ready: Callable[[str], None] | None = None,
    ) -> None:
        """Serve streamable HTTP until the task is cancelled or the process is told to stop.

        Args:
            host: The address to listen at. Others than this machine's own need a `token`.
            port: The port; 0 for a free one.
            on_ready: Called with the URL once it is served.
            token, allowed_hosts, allowed_origins, withhold_errors: As for `http_app`; the `host` is among the allowed ones.

        Raises:
            ValueError: Other machines could call without a token, or the token is not usable.
            OSError: The address is in use, or is none of this machine's.
        """
        app = self.http_app(
            token=token,
            allowed_hosts=[*allowed_hosts, host, f"{host}:*"],
            allowed_origins=allowed_origins,
            withhold_errors=withhold_errors,
        )
        await serve(app, host, port, on_ready)

    def run_http(self, **settings: Any) -> None:
        """As `serve_http`, with its arguments, blocking."""
        asyncio.run(self.serve_http(**settings))

    def _sdk_server(self, withhold_errors: bool) -> Server[Any]:
        async def list_tools(
            context: ServerRequestContext[Any], params: types.PaginatedRequestParams | None
        ) -> types.ListToolsResult:
            with _kept_inside():
                return types.ListToolsResult(tools=[offer.as_tool() for offer in self._offers.all()])

        async def call_tool(
            context: ServerRequestContext[Any], params: types.CallToolRequestParams
        ) -> types.CallToolResult:
            async def report(ended: float, total: float | None, tool_name: str | None) -> None:
                await context.session.report_progress(ended, total, None if withhold_errors else tool_name)

            with _kept_inside():
                offer = self._offers.get(params.name)
                if offer is None:
                    # Whether there is such a flow is nobody's business.
                    raise MCPError(types.INVALID_PARAMS, f"Unknown tool: {params.name[:128]}")
                return await self._calls.call(offer, params.arguments or {}, report, withhold_errors=withhold_errors)

        return Server(
            self._name,
            version=__version__,
            on_list_tools=list_tools,
            on_call_tool=call_tool,
            get_tool_input_schema=self._input_schema_of,
        )

    def _input_schema_of(self, name: str) -> Mapping[str, Any] | None:
        offer = self._offers.get(name)
        return None if offer is None else offer.takes


@contextmanager
def _kept_inside() -> Iterator[None]:
    """Log an error that nobody foresaw; the SDK would tell the client what it says."""
    try:
        yield
    except MCPError:
        raise
    except Exception as error:
        logger.exception("A request to the MCP server failed")
        raise MCPError(types.INTERNAL_ERROR, "Internal error") from error
