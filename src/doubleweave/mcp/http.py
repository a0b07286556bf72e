"""The server over streamable HTTP: who may call, and the ASGI application."""

import asyncio
import hmac
import ipaddress
from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager
from typing import Any

import uvicorn
from mcp.server import Server
from mcp.server.auth.middleware.bearer_auth import BearerAuthBackend
from mcp.server.auth.provider import AccessToken
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from doubleweave.mcp.limits import KIB
from doubleweave.models.product import PRODUCT

MCP_PATH = "/mcp"
_THIS_MACHINE = ("127.0.0.1", "localhost", "[::1]")
# What a request has around the arguments of its call.
_ENVELOPE_BYTES = 64 * KIB
_SESSIONS = 100
_CONNECTIONS = 200
_GOODBYE_SECONDS = 2


class FlowHttpApp:
    """An ASGI application that serves flows as MCP tools.

    Mounted in another application, that one's lifespan has to enter `lifespan()`; run by itself, it does so.
    """

    def __init__(self, inner: Starlette, *, is_open: bool) -> None:
        self._inner = inner
        self._is_open = is_open

    def lifespan(self, app: Any = None) -> AbstractAsyncContextManager[Any]:
        """Return a context in which the application serves; it can be entered once. Takes what a lifespan is given."""
        return self._inner.router.lifespan_context(self._inner)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request; without a token, only one from this machine."""
        if scope["type"] == "http" and self._is_open and not _is_from_here(scope):
            await PlainTextResponse("Without a token only this machine is served", 403)(scope, receive, send)
            return
        await self._inner(scope, receive, send)


class _OneToken:
    """Accepts one token."""

    def __init__(self, token: str) -> None:
        self._token = token.encode("ascii")

    async def verify_token(self, token: str) -> AccessToken | None:
        if not hmac.compare_digest(token.encode("utf-8", "replace"), self._token):
            return None
        return AccessToken(token=token, client_id=PRODUCT, scopes=[])


def http_app(
    server: Server[Any],
    *,
    token: str | None,
    allowed_hosts: Collection[str],
    allowed_origins: Collection[str],
    max_body_bytes: int,
    path: str,
) -> FlowHttpApp:
    """Return the application of an SDK server. As `FlowServer.http_app`."""
    verifier = None if token is None else _OneToken(_usable(token))
    hosts = [*_THIS_MACHINE, *(f"{name}:*" for name in _THIS_MACHINE), *allowed_hosts]
    inner = server.streamable_http_app(
        streamable_http_path=path,
        max_request_body_size=max_body_bytes + _ENVELOPE_BYTES,
        max_sessions=_SESSIONS,
        transport_security=TransportSecuritySettings(allowed_hosts=hosts, allowed_origins=[*allowed_origins]),
        token_verifier=verifier,
    )
    if verifier is not None:
        inner.add_middleware(AuthenticationMiddleware, backend=BearerAuthBackend(verifier))
    return FlowHttpApp(inner, is_open=token is None)


async def serve(app: FlowHttpApp, host: str, port: int, on_ready: Callable[[str], None] | None) -> None:
    """Serve an application. As `FlowServer.serve_http`."""
    if app._is_open and not _is_this_machine(host):
        raise ValueError(f"host {host!r} can be reached from other machines; give a token, or take 127.0.0.1")
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=_GOODBYE_SECONDS,
    )
    server = _Announced(config, on_ready)
    serving = asyncio.create_task(server.serve())
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        # Left alone, it would keep its sockets and its tasks.
        server.should_exit = True
        await serving
        raise


class _Announced(uvicorn.Server):
    """A server that tells its URL once it listens."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[str], None] | None) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: Any = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit as error:
            # It is not for a library to end the process; what has gone wrong is why uvicorn wanted to.
            raise (
                error.__context__ if isinstance(error.__context__, OSError) else OSError("uvicorn cannot serve")
            ) from None
        if self.started and self._on_ready is not None:
            address, port = self.servers[0].sockets[0].getsockname()[:2]
            name = f"[{address}]" if ":" in address else address
            self._on_ready(f"http://{name}:{port}{MCP_PATH}")


def _usable(token: str) -> str:
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError("the token must be of printable ASCII characters without blanks, and not empty")
    return token


def _is_from_here(scope: Scope) -> bool:
    client = scope.get("client")
    return client is not None and _is_this_machine(client[0])


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
