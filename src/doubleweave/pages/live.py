"""A page that shows a run while it goes on, served to browsers by the standard library's server.

A web framework would bring routes, sessions and an event loop of its own, for two addresses and one page; the runs of both
lanes are followed from outside their loop.
"""

import hmac
import ipaddress
import logging
import re
import secrets
import socket
import sys
import threading
import warnings
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, Self

from doubleweave.models.events import FlowEvent
from doubleweave.models.flows import AnyFlow
from doubleweave.models.product import PRODUCT
from doubleweave.models.records import ExecutionResult
from doubleweave.models.redaction import RedactionPolicy
from doubleweave.pages.data import Curtain
from doubleweave.pages.feed import Feed
from doubleweave.pages.render import DEFAULT_REDACTION

_logger = logging.getLogger(f"{PRODUCT}.pages")
_HOST = re.compile(r"(?:\[(?P<six>[^]]+)\]|(?P<name>[^:]+))(?::\d+)?")
_MOST_CONNECTIONS = 200
# How long a browser may take nothing, how often one that is told nothing is told so, and how long one is waited for that has
# fetched the page and not yet asked for the messages; in seconds.
_PATIENCE, _HEARTBEAT, _GRACE = 30.0, 15.0, 3.0


class LivePage:
    """Serves the page of one run, from when it is made until it is closed.

    Its address has a token that nobody can guess; whoever asks without it, or by a name that is not the host's, gets nothing.
    Browsers that come late, stay away or read slowly do not change the run, and all see the same at its end. Use it in a
    `with` statement, and give the events of the run to `follow` or, on the async lane, `follow_async`.

    Args:
        flow: The flow that runs.
        redaction: What is masked in inputs, outputs and messages; None for nothing.
        host: Where to listen. Anything but the machine itself is warned of: the page is not encrypted.
        port: Where to listen; 0 for any that is free.

    Raises:
        OSError: Nothing can listen there.
        DAGDefinitionError: `flow` is no valid DAG.
    """

    def __init__(
        self,
        flow: AnyFlow,
        *,
        redaction: RedactionPolicy | None = DEFAULT_REDACTION,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self._feed = Feed(flow, Curtain(redaction))
        self._server = _Server(host, port, self._feed)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name=f"{PRODUCT}-page", daemon=True
        )
        if not _is_loopback(host):
            warnings.warn(
                f"the page is served on {host}, to other machines too, and not encrypted: whoever sees its address "
                "on the way sees the run",
                RuntimeWarning,
                stacklevel=2,
            )
        self._thread.start()

    @property
    def url(self) -> str:
        """The address of the page, with its token."""
        return self._server.url

    def follow(self, events: Generator[FlowEvent, Any, Any]) -> ExecutionResult:
        """Show the run that `stream_flow` gives the events of, and return its result.

        Raises:
            ValueError: There is no end of a run among the events.
            BaseException: What the run raises.
        """
        try:
            with closing(events):
                for event in events:
                    self._feed.put(event)
        except BaseException as error:
            self._feed.end(error)
            raise
        return self._ended()

    async def follow_async(self, events: AsyncGenerator[FlowEvent, Any]) -> ExecutionResult:
        """Show the run that `stream_flow_async` gives the events of, and return its result. As `follow`."""
        try:
            async with aclosing(events):
                async for event in events:
                    self._feed.put(event)
        except BaseException as error:
            self._feed.end(error)
            raise
        return self._ended()

    def wait_for_watchers(self) -> None:
        """Wait, after the run, until every browser that watches has got the whole of it or has gone away."""
        self._server.audience.wait()

    def close(self) -> None:
        """Stop serving and cut off whoever still watches. A closed page may be closed again."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._feed.close()
        self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _ended(self) -> ExecutionResult:
        result = self._feed.end(None)
        if result is None:
            raise ValueError("the events end before the run does: give the whole stream of a run")
        return result


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class _Audience:
    """Who watches: browsers that have the page and are about to ask for the messages, and those that are told them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._coming = 0
        self._watching = 0

    def expect(self) -> None:
        with self._changed:
            self._coming += 1

    def __enter__(self) -> None:
        with self._changed:
            self._coming = max(0, self._coming - 1)
            self._watching += 1
            self._changed.notify_all()

    def __exit__(self, *error: object) -> None:
        with self._changed:
            self._watching -= 1
            self._changed.notify_all()

    def wait(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._coming == 0, _GRACE)
            self._changed.wait_for(lambda: self._watching == 0)


class _Server(ThreadingHTTPServer):
    # For a restart on the same port, which else is refused for a while.
    allow_reuse_address = True
    # Browsers that come at once; those beyond the usual five would try again after a second.
    request_queue_size = 128

    def __init__(self, host: str, port: int, feed: Feed) -> None:
        self.feed = feed
        self.host = host
        self.audience = _Audience()
        self.token = secrets.token_urlsafe(32)
        self._lock = threading.Lock()
        self._open: dict[threading.Thread, Any] = {}
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        # The one of HTTPServer asks the network for the machine's name.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.host, self.server_address[1]

    @property
    def url(self) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.server_port}/{self.token}/"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own, of which is known while it runs."""
        thread = threading.Thread(
            target=self._answer, args=(request, client_address), name=f"{PRODUCT}-page-request", daemon=True
        )
        with self._lock:
            is_full = len(self._open) >= _MOST_CONNECTIONS
            if not is_full:
                self._open[thread] = request
        if is_full:
            self.shutdown_request(request)
        else:
            thread.start()

    def _answer(self, request: Any, client_address: Any) -> None:
        try:
            self.process_request_thread(request, client_address)
        finally:
            with self._lock:
                del self._open[threading.current_thread()]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say what went wrong, unless a browser has gone away."""
        if not isinstance(sys.exception(), OSError):
            _logger.exception("A request for the page of a run failed")

    def close(self) -> None:
        self.server_close()
        with self._lock:
            left = dict(self._open)
        for request in left.values():
            # It may just have ended.
            with suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)
        for thread in left:
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    """Answers one request: for the page, or for the messages."""

    server: _Server
    server_version = PRODUCT
    sys_version = ""
    timeout = _PATIENCE

    def do_GET(self) -> None:
        place = self._place()
        if not self._is_asked_by_name():
            self._refuse(403, "This page is not served under that name.\n")
        elif place == "":
            self._send_page()
        elif place == "events":
            self._send_messages()
        else:
            self._refuse(404, "There is nothing here. The address of the page has a token in it.\n")

    def _is_asked_by_name(self) -> bool:
        """Tell whether the browser was led here by an address or by the host's own name, not by one that somebody else has."""
        match = _HOST.fullmatch(self.headers.get("Host", ""))
        if match is None:
            return False
        name = (match["six"] or match["name"]).lower()
        return name in ("localhost", self.server.host.lower()) or _is_address(name)

    def _place(self) -> str | None:
        """Return what is asked for below the token; None without the token."""
        _, _, rest = self.path.partition("?")[0].partition("/")
        token, slash, place = rest.partition("/")
        is_right = hmac.compare_digest(token.encode(), self.server.token.encode())
        return place if is_right and slash else None

    def _send_page(self) -> None:
        page = self.server.feed.page().encode()
        self.server.audience.expect()
        self._start(200, "text/html; charset=utf-8")
        self.wfile.write(page)

    def _send_messages(self) -> None:
        seen = self._seen()
        with self.server.audience:
            news = self.server.feed.after(seen, 0)
            if news.is_over and not news.messages:
                # To this a browser does not come back.
                self._start(204, None)
                return
            self._start(200, "text/event-stream")
            self.wfile.write(b"retry: 1000\n\n" + self.server.feed.clock())
            while True:
                self.wfile.write(b"".join(b"id: %d\n%s" % message for message in news.messages) or b":\n\n")
                seen = news.messages[-1][0] if news.messages else seen
                if news.is_over:
                    return
                news = self.server.feed.after(seen, _HEARTBEAT)

    def _seen(self) -> int:
        """Return the number of the last message that the browser has got."""
        said = self.headers.get("Last-Event-ID", "")
        number = int(said) if re.fullmatch(r"[0-9]{1,9}", said) else 0
        return number if number <= self.server.feed.count else 0

    def _refuse(self, status: int, text: str) -> None:
        self._start(status, "text/plain; charset=utf-8")
        self.wfile.write(text.encode())

    def _start(self, status: int, kind: str | None) -> None:
        self.send_response(status)
        if kind is not None:
            self.send_header("Content-Type", kind)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", "frame-ancestors 'none'")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of requests: their addresses have the token in them."""
