"""The page of a run that goes on, seen in a real browser on both lanes."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

import doubleweave as dw
from browser_under_test import CONTRASTS, Tab, open_browser, open_tab
from doubleweave import LivePage
from live_pages_under_test import LANES, following, held_flow, held_run
from pages_under_test import HOSTILE, Number, executor_for, number_tool

lanes = pytest.mark.parametrize("lane", LANES)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as found:
        yield found


@contextmanager
def watched(browser: Browser, page: LivePage, **settings: Any) -> Iterator[Tab]:
    """Yield a tab that shows a live page and may ask it for its events."""
    with open_tab(browser, page.url, may_ask=page.url, **settings) as tab:
        yield tab


def wait_for(tab: Tab, selector: str, text: str) -> None:
    expect(tab.page.locator(selector).first).to_have_text(text)


@lanes
def test_the_page_shows_a_step_while_it_runs_and_its_end_when_it_ends(browser: Browser, lane: str) -> None:
    with held_run(lane) as (page, gate, result), watched(browser, page) as tab:
        wait_for(tab, "#outcome", "●running")
        wait_for(tab, "#body .row >> nth=1 >> .chip", "●running")
        assert [row[1:3] for row in tab.rows()] == [["before", "✓ ok"], ["held", "● running"]]
        assert tab.text("#totals > div:nth-child(2)") == "Steps 1 of 3"
        tab.open("held")
        assert tab.section("Inputs") == '{\n  "value": 2\n}'
        assert tab.section("Outputs") == "none"
        assert tab.page.locator("g.node").evaluate_all("nodes => nodes.map(node => node.classList[1] || '')") == [
            *("node-ok", "node-running", "")
        ]
        gate.is_open.set()
        wait_for(tab, "#outcome", "✓succeeded")
        assert tab.text("#detail-title") == "1 held"
        assert tab.section("Outputs") == '{\n  "value": 3\n}'
        assert [row[1:3] for row in tab.rows()] == [["before", "✓ ok"], ["held", "✓ ok"], ["after", "✓ ok"]]
        assert tab.text("#totals > div:nth-child(2)") == "Steps 3"
        ended = result.result()
        assert f"Trace {ended.trace_id}" in tab.texts("#facts .line > div")
        with open_tab(browser, page.url) as late:
            late.open("held")
            assert late.text("body") == tab.text("body")


@lanes
def test_time_goes_on_while_a_step_runs(browser: Browser, lane: str) -> None:
    with held_run(lane) as (page, _, _), watched(browser, page) as tab:
        wait_for(tab, "#body .row >> nth=1 >> .chip", "●running")
        before = tab.text("#totals dd")
        expect(tab.page.locator("#totals dd").first).not_to_have_text(before)


@lanes
def test_a_browser_that_loses_the_connection_comes_back(browser: Browser, lane: str) -> None:
    with held_run(lane) as (page, gate, _), watched(browser, page) as tab:
        wait_for(tab, "#body .row >> nth=1 >> .chip", "●running")
        cut_off(page)
        wait_for(tab, "#trouble", "No connection to the run; trying again.")
        expect(tab.page.locator("#trouble")).to_be_hidden()
        gate.is_open.set()
        wait_for(tab, "#outcome", "✓succeeded")
        assert [row[1:3] for row in tab.rows()] == [["before", "✓ ok"], ["held", "✓ ok"], ["after", "✓ ok"]]
        forgive(tab)


def cut_off(page: LivePage) -> None:
    """End the connections of a page, as a network may."""
    with page._server._lock:
        for request in page._server._open.values():
            request.shutdown(socket.SHUT_RDWR)


def forgive(tab: Tab) -> None:
    """Take no offence at what the browser says of connections that the test has cut."""
    tab.troubles[:] = [text for text in tab.troubles if "net::ERR_" not in text]


@lanes
def test_what_the_run_raises_stands_in_the_head(browser: Browser, lane: str) -> None:
    token = dw.CancellationToken()
    with held_run(lane, terms={"cancel_token": token}) as (page, gate, result), watched(browser, page) as tab:
        wait_for(tab, "#body .row >> nth=1 >> .chip", "●running")
        token.cancel()
        gate.is_open.set()
        wait_for(tab, "#outcome", "✕failed")
        assert isinstance(result.exception(), dw.FlowCancelledError)
        assert tab.text("#trouble").startswith("[CW-E012] ")
        assert [row[1:3] for row in tab.rows()] == [["before", "✓ ok"], ["held", "✓ ok"]]


def test_what_never_ended_is_not_shown_as_running_for_ever(browser: Browser) -> None:
    def broken_off(events: Generator[dw.FlowEvent]) -> Generator[dw.FlowEvent]:
        with closing(events):
            for event in events:
                yield event
                if event.kind == "step_start":
                    raise KeyError("the reader is gone")

    flow = held_flow()
    executor = executor_for(flow)
    with LivePage(flow) as page, watched(browser, page) as tab:
        with pytest.raises(KeyError):
            page.follow(broken_off(executor.stream_flow("held", {"value": 1})))
        wait_for(tab, "#outcome", "✕failed")
        assert [row[1:3] for row in tab.rows()] == [["before", "✕ failed"]]
        assert tab.text("#trouble") == "KeyError: 'the reader is gone'"


class Speech:
    """A stream that waits between its chunks until it is let through."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_open: asyncio.Event | None = None

    async def __call__(self, inputs: Number) -> AsyncGenerator[dw.ToolChunk]:
        self._loop, self._is_open = asyncio.get_running_loop(), asyncio.Event()
        yield dw.ToolChunk(data=f"half a {HOSTILE}")
        await self._is_open.wait()
        yield dw.ToolChunk(data={"value": 5}, is_final=True)

    def go_on(self) -> None:
        assert self._loop is not None
        assert self._is_open is not None
        self._loop.call_soon_threadsafe(self._is_open.set)


@lanes
def test_chunks_are_seen_as_they_come(browser: Browser, lane: str) -> None:
    speech = Speech()
    tool = dw.StreamingTool(name="speak", description="d", input_schema=Number, output_schema=Number, stream_fn=speech)
    flow = dw.Flow(name="spoken", description="d", steps=[dw.FlowStep(tool_name="speak")])
    run = (lane, executor_for(flow, tool), "spoken", {"value": 1})
    with LivePage(flow) as page, watched(browser, page) as tab, following(page, *run) as result:
        wait_for(tab, "#body .row >> nth=0 >> .output", f"half a {HOSTILE}")
        tab.open("speak")
        assert tab.section("Outputs so far") == f"half a {HOSTILE}"
        speech.go_on()
        wait_for(tab, "#outcome", "✓succeeded")
        assert tab.section("Outputs") == '{\n  "value": 5\n}'
        assert result.result().success is True


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_running_page_is_readable_and_still_where_motion_is_not_wanted(browser: Browser, scheme: Any) -> None:
    with (
        held_run("sync") as (page, _, _),
        watched(browser, page, color_scheme=scheme, reduced_motion="reduce") as tab,
    ):
        wait_for(tab, "#body .row >> nth=1 >> .chip", "●running")
        tab.open("held")
        assert [each for each in tab.page.evaluate(CONTRASTS) if each[0] < 4.5] == []
        name = "getComputedStyle(document.querySelector('#outcome .sign-running')).animationName"
        assert tab.page.evaluate(name) == "none"
    with held_run("sync") as (page, _, _), watched(browser, page, reduced_motion="no-preference") as tab:
        wait_for(tab, "#outcome", "●running")
        assert tab.page.evaluate(name) == "breathe"


@lanes
def test_a_wrong_token_shows_nothing(browser: Browser, lane: str) -> None:
    with held_run(lane) as (page, _, _):
        context = browser.new_context()
        try:
            answer = context.new_page().goto(page.url[:-2] + "/")
            assert answer is not None
            assert (answer.status, "held" in answer.text()) == (404, False)
        finally:
            context.close()


@lanes
def test_the_page_is_used_while_the_run_goes_on(browser: Browser, lane: str) -> None:
    with held_run(lane) as (page, gate, _), watched(browser, page) as tab:
        wait_for(tab, "#body .row >> nth=1 >> .chip", "●running")
        tab.press("ArrowDown", "ArrowDown", "Enter")
        assert (tab.focused(), tab.text("#detail-title")) == ("detail", "1 held")
        gate.is_open.set()
        wait_for(tab, "#outcome", "✓succeeded")
        assert (tab.focused(), tab.text("#detail-title"), tab.selected()) == ("detail", "1 held", "1 held")


def test_three_thousand_steps_that_come_at_once_do_not_stop_it(browser: Browser) -> None:
    steps = [dw.FlowStep(tool_name="a") for _ in range(3_000)]
    flow = dw.Flow(name="long", description="d", steps=[*steps, dw.FlowStep(tool_name="held")])
    with held_run("sync", flow=flow, tools=[number_tool("a")]) as (page, gate, _), watched(browser, page) as tab:
        wait_for(tab, "#totals > div:nth-child(2) dd", "3,000 of 3,001")
        assert tab.page.locator("#body .row").count() < 60
        gate.is_open.set()
        wait_for(tab, "#outcome", "✓succeeded")
