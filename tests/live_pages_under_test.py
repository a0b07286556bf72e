"""Runs that a test holds at a step, shown on a live page, and what a browser would ask the page for."""

import asyncio
import http.client
import json
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import doubleweave as dw
from doubleweave import ExecutionResult, LivePage
from pages_under_test import Number, add_one, executor_for, number_tool

LANES = ["sync", "async"]


class Gate:
    """A step that waits until it is let through."""

    def __init__(self) -> None:
        self.is_reached = threading.Event()
        self.is_open = threading.Event()

    def __call__(self, inputs: Number) -> dict[str, Any]:
        self.is_reached.set()
        assert self.is_open.wait(60)
        return add_one(inputs)


def held_flow() -> dw.Flow:
    """Return a flow whose second step can be held."""
    steps = [dw.FlowStep(tool_name=name) for name in ("before", "held", "after")]
    return dw.Flow(name="held", version="3.0.0", description="Waits in its middle", steps=steps)


@contextmanager
def following(
    page: LivePage, lane: str, executor: dw.FlowExecutor, name: str, inputs: dict[str, Any], **terms: Any
) -> Iterator["Future[ExecutionResult]"]:
    """Run a flow on a thread of its own and show it on a page meanwhile; yield its result to come."""

    def run() -> ExecutionResult:
        if lane == "sync":
            return page.follow(executor.stream_flow(name, inputs, **terms))
        return asyncio.run(page.follow_async(executor.stream_flow_async(name, inputs, **terms)))

    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(run)


@contextmanager
def held_run(
    lane: str,
    inputs: dict[str, Any] | None = None,
    *,
    flow: dw.Flow | None = None,
    tools: Sequence[dw.Tool] = (),
    terms: dict[str, Any] | None = None,
    **given: Any,
) -> Iterator[tuple[LivePage, Gate, Any]]:
    """Yield a page, the gate that its run is held at, and the result to come."""
    gate = Gate()
    flow = flow or held_flow()
    executor = executor_for(flow, number_tool("held", gate), *tools)
    run = (lane, executor, flow.name, inputs or {"value": 1})
    with LivePage(flow, **given) as page, following(page, *run, **(terms or {})) as result:
        assert gate.is_reached.wait(60)
        try:
            yield page, gate, result
        finally:
            gate.is_open.set()


class Answer(NamedTuple):
    """What the server answered."""

    status: int
    headers: dict[str, str]
    body: bytes


def ask(url: str, *, method: str = "GET", **headers: str) -> Answer:
    """Ask a server for something, `_` in the name of a header being `-`."""
    with connected(url, method, **headers) as response:
        return Answer(response.status, {key.lower(): value for key, value in response.getheaders()}, response.read())


@contextmanager
def connected(url: str, method: str = "GET", **headers: str) -> Iterator[http.client.HTTPResponse]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.request(method, parts.path, headers=named)
        with connection.getresponse() as response:
            yield response
    finally:
        connection.close()


class Event(NamedTuple):
    """A server-sent event."""

    id: str
    kind: str
    data: Any


class Watcher:
    """Reads the events of a live page, as a browser does."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self._response = response

    def next(self) -> Event | None:
        """Return the next event that has a number, or None at the end."""
        fields: dict[str, str] = {}
        while line := self._response.readline().decode():
            name, _, value = line.rstrip("\n").partition(": ")
            if value:
                fields[name] = value
            elif "id" in fields:
                return Event(fields["id"], fields["event"], json.loads(fields["data"]))
            else:
                fields.clear()
        return None

    def until(self, kind: str, **wanted: Any) -> list[Event]:
        """Return the events up to the first of a kind whose data have the wanted values."""
        found: list[Event] = []
        while (event := self.next()) is not None:
            found.append(event)
            if event.kind == kind and all(event.data.get(key) == value for key, value in wanted.items()):
                return found
        raise AssertionError(f"the events ended without {kind} {wanted}: {found}")

    def rest(self) -> list[Event]:
        return list(iter(self.next, None))


@contextmanager
def watching(page: LivePage, **headers: str) -> Iterator[Watcher]:
    with connected(f"{page.url}events", **headers) as response:
        assert (response.status, response.getheader("Content-Type")) == (200, "text/event-stream")
        yield Watcher(response)
