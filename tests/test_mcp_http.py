"""Flows offered over streamable HTTP: to the SDK's client, to a browser, to strangers."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import mcp
import pytest
from mcp.client.streamable_http import streamable_http_client
from starlette.applications import Starlette
from starlette.routing import Mount

from doubleweave.mcp import FlowServer
from mcp_flows import SECRET, executor
from mcp_under_test import PAIRS, Progress, Served, on_http, text_of
from test_mcp_stdio import BILLED, ORDER

TRACE = r"[0-9a-f-]{32,36}"
HEADERS = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}},
}


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with on_http() as served:
        yield served


async def posted(url: str, headers: dict[str, str], body: Any = INITIALIZE) -> httpx2.Response:
    async with httpx2.AsyncClient() as http:
        return await http.post(url, json=body, headers=HEADERS | headers)


@PAIRS
async def test_a_flow_is_called_and_tells_how_far_it_is_but_not_by_which_tools(mode: str, lane: str) -> None:
    progress = Progress()
    with on_http(lane=lane) as served:
        async with mcp.Client(served.url, mode=mode) as client:
            names = [tool.name for tool in (await client.list_tools()).tools]
            result = await client.call_tool("order", ORDER, progress_callback=progress)
    assert "order" in names
    assert "write" not in names
    assert result.structured_content == BILLED
    assert progress.steps == [(1.0, 3.0, None), (2.0, 3.0, None), (3.0, 3.0, None)]


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_of_an_error_only_code_and_trace_leave_the_server_which_logs_the_rest(served: Served, mode: str) -> None:
    async with mcp.Client(served.url, mode=mode) as client:
        failed = await client.call_tool("fail", {})
        misfit = await client.call_tool("order", {"item": 7, "country": "DK"})
    assert failed.is_error
    assert re.fullmatch(rf"CW-E006 \(trace {TRACE}\)", text_of(failed))
    assert re.fullmatch(rf"CW-E004 \(trace {TRACE}\)", text_of(misfit))
    assert SECRET not in failed.model_dump_json()
    trace_id = text_of(failed).split("(trace ")[1].rstrip(")")
    assert re.search(rf"Flow 'fail' failed \| trace={trace_id} \| code=CW-E006 \| .*{SECRET}", served.logged())


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_of_an_error_that_nobody_foresaw_nothing_leaves_the_server(mode: str) -> None:
    with on_http(is_gone=True) as served:
        async with mcp.Client(served.url, mode=mode) as client:
            with pytest.raises(mcp.MCPError, match=r"^Internal error$"):
                await client.list_tools()
        assert SECRET in served.logged()


async def test_errors_are_told_where_that_is_asked_for() -> None:
    with on_http(http={"withhold_errors": False}) as served:
        async with mcp.Client(served.url) as client:
            assert SECRET in text_of(await client.call_tool("fail", {}))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost"}, 200),
        ({"Host": "localhost:1"}, 200),
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1.evil.example:80"}, 421),
        ({"Origin": "https://evil.example"}, 403),
        # A page from this machine is a page all the same.
        ({"Origin": "http://localhost:3000"}, 403),
        ({"Content-Type": "text/plain"}, 400),
    ],
)
async def test_a_page_in_a_browser_cannot_call(served: Served, headers: dict[str, str], status: int) -> None:
    assert (await posted(served.url, headers)).status_code == status
    modern = headers | {"MCP-Protocol-Version": "2026-07-28"}
    refused = await posted(served.url, modern)
    assert refused.status_code == (status if status != 200 else 400)


async def test_hosts_and_origins_that_are_allowed_are_served() -> None:
    allowed = {"allowed_hosts": ["shop.example:*"], "allowed_origins": ["https://shop.example"]}
    with on_http(http=allowed) as served:
        accepted = await posted(served.url, {"Host": "shop.example:443", "Origin": "https://shop.example"})
        refused = await posted(served.url, {"Origin": "https://shop.example.evil"})
    assert (accepted.status_code, refused.status_code) == (200, 403)


async def test_a_body_that_is_too_long_is_not_read_and_arguments_are_measured() -> None:
    with on_http(limits={"input_bytes": 1000}) as served:
        too_long = await posted(served.url, {}, {"pad": "x" * 70_000})
        async with mcp.Client(served.url) as client:
            too_much = await client.call_tool("pid", {"pad": "x" * 1000})
            at_once = await client.call_tool("pid", {})
    assert (too_long.status_code, too_long.text) == (413, "Request body too large")
    assert text_of(too_much) == "The arguments take 1010 bytes as JSON; at most 1000 are accepted."
    assert not at_once.is_error


@asynccontextmanager
async def bearing(url: str, token: str, mode: str) -> AsyncIterator[mcp.Client]:
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}) as http,
        mcp.Client(streamable_http_client(url, http_client=http), mode=mode) as client,
    ):
        yield client


async def test_who_has_the_token_is_served_and_nobody_else() -> None:
    with on_http(http={"token": "s3cret", "host": "0.0.0.0"}) as served:
        url = served.url.replace("0.0.0.0", "127.0.0.1")
        for mode in ("legacy", "auto"):
            async with bearing(url, "s3cret", mode) as client:
                assert (await client.call_tool("order", ORDER)).structured_content == BILLED
        for headers in ({}, {"Authorization": "Bearer s3crets"}, {"Authorization": "Basic s3cret"}):
            refused = await posted(url, headers)
            assert refused.status_code == 401
            assert refused.json() == {"error": "invalid_token", "error_description": "Authentication required"}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "example.com"])
async def test_without_a_token_nobody_else_can_be_served(host: str) -> None:
    with pytest.raises(ValueError, match=f"^host '{host}' can be reached from other machines; give a token"):
        await FlowServer(executor("async")).serve_http(host=host)


@pytest.mark.parametrize("token", ["", "two words", "ümlaut", "line\n"])
def test_a_token_that_cannot_be_sent_is_refused(token: str) -> None:
    with pytest.raises(
        ValueError, match=r"^the token must be of printable ASCII characters without blanks, and not empty$"
    ):
        FlowServer(executor("async")).http_app(token=token)


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_cancelled_request_cancels_the_run(served: Served, mode: str) -> None:
    progress = Progress()
    async with mcp.Client(served.url, mode=mode) as client:
        call = asyncio.create_task(client.call_tool("hang", {}, progress_callback=progress))
        await progress.begun.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        seen = await client.call_tool("after_interruption", {})
    assert seen.structured_content == {"seen": "a waiting tool was interrupted"}


async def test_calls_beyond_the_limit_are_refused_whoever_makes_them() -> None:
    with on_http(limits={"calls_at_once": 2}) as served:
        async with mcp.Client(served.url) as one, mcp.Client(served.url) as other:
            calls = []
            for client in (one, other):
                progress = Progress()
                calls.append(asyncio.create_task(client.call_tool("hang", {}, progress_callback=progress)))
                await progress.begun.wait()
            refused = await one.call_tool("pid", {})
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
    assert refused.is_error
    assert text_of(refused) == "2 calls are running, which is the most at a time. Try again later."


@pytest.mark.parametrize("lane", ["sync", "async"])
async def test_the_application_is_mounted_in_another_one(lane: str) -> None:
    app = FlowServer(executor(lane)).http_app()
    outer = Starlette(routes=[Mount("/flows", app)], lifespan=app.lifespan)
    url, transport = "http://localhost/flows/mcp", httpx2.ASGITransport(app=outer)
    async with (
        outer.router.lifespan_context(outer),
        httpx2.AsyncClient(transport=transport) as http,
        mcp.Client(streamable_http_client(url, http_client=http)) as client,
    ):
        result = await client.call_tool("order", ORDER)
    assert result.structured_content == BILLED


@pytest.mark.parametrize(
    ("peer", "status"),
    [("127.0.0.1", 400), ("::1", 400), ("192.0.2.7", 403), ("localhost.evil.example", 403), ("", 403)],
)
async def test_without_a_token_the_application_serves_this_machine_alone(peer: str, status: int) -> None:
    """What is let in is refused by the protocol, for it is of another version than its header says."""
    app = FlowServer(executor("async")).http_app()
    transport = httpx2.ASGITransport(app=app, client=(peer, 1))
    async with app.lifespan(), httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
        answer = await http.post("/mcp", json=INITIALIZE, headers=HEADERS | {"MCP-Protocol-Version": "2026-07-28"})
    assert answer.status_code == status
    assert (answer.text == "Without a token only this machine is served") == (status == 403)


async def test_cancelling_the_task_ends_the_server_and_frees_its_port() -> None:
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(FlowServer(executor("async")).serve_http(port=0, on_ready=ready.set_result))
    url = await ready
    with pytest.raises(OSError, match="address already in use"):
        await FlowServer(executor("async")).serve_http(port=httpx2.URL(url).port or 0)
    async with mcp.Client(url) as client:
        assert (await client.call_tool("order", ORDER)).structured_content == BILLED
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    async with httpx2.AsyncClient() as http:
        with pytest.raises(httpx2.ConnectError):
            await http.post(url, json=INITIALIZE)
