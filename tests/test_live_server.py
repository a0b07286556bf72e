"""What a live page tells browsers, whom it tells nothing, and that none of them changes the run."""

import socket
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest
from pydantic import BaseModel, ConfigDict

import doubleweave as dw
from doubleweave import LivePage
from live_pages_under_test import LANES, ask, following, held_flow, held_run, watching
from pages_under_test import Number, branching, executor_for, number_tool, refuse


class Loose(BaseModel):
    """An output that may have more than what is declared."""

    model_config = ConfigDict(extra="allow")
    value: int


lanes = pytest.mark.parametrize("lane", LANES)


def shape(event: Any) -> tuple[Any, ...]:
    """Return the kind of an event and the parts of its data that are the same in each run."""
    return (event.kind, *(event.data[key] for key in ("id", "name", "state") if key in event.data))


# --- what is told -----------------------------------------------------------------------------------------------------


@lanes
def test_a_run_is_told_step_by_step_while_it_goes_on(lane: str) -> None:
    with held_run(lane) as (page, gate, result), watching(page) as watcher:
        told = watcher.until("row", name="held")
        assert [shape(event) for event in told] == [
            ("run", "running"),
            ("row", "0", "before", "running"),
            ("row", "0", "before", "ok"),
            ("row", "1", "held", "running"),
        ]
        assert [event.id for event in told] == ["1", "2", "3", "4"]
        assert told[0].data["inputs"] == '{\n  "value": 1\n}'
        assert told[2].data["outputs"] == '{\n  "value": 2\n}'
        gate.is_open.set()
        rest = watcher.rest()
        assert rest[-1].kind == "end"
        assert [row["state"] for row in rest[-1].data["rows"]] == ["ok", "ok", "ok"]
        assert result.result().final_output == {"value": 4}


@lanes
def test_who_comes_late_is_told_all_of_it(lane: str) -> None:
    with held_run(lane) as (page, gate, result):
        with watching(page) as watcher:
            early = watcher.until("row", name="held")
        with watching(page) as watcher:
            assert watcher.until("row", name="held") == early
        gate.is_open.set()
        result.result()
        with watching(page) as watcher:
            assert [event.kind for event in watcher.rest()] == ["end"]


@lanes
def test_who_comes_back_is_told_what_was_missed(lane: str) -> None:
    with held_run(lane) as (page, gate, result):
        with watching(page) as watcher:
            told = watcher.until("row", name="held")
        with watching(page, Last_Event_ID=told[1].id) as watcher:
            assert watcher.until("row", name="held") == told[2:]
        with watching(page, Last_Event_ID="4711") as watcher:
            assert watcher.until("row", name="held") == told
        with watching(page, Last_Event_ID=told[-1].id) as watcher:
            gate.is_open.set()
            rest = watcher.rest()
        result.result()
        answer = ask(f"{page.url}events", Last_Event_ID=rest[-1].id)
        assert (answer.status, answer.body) == (204, b"")


@lanes
def test_after_the_end_the_page_is_the_report(lane: str) -> None:
    flow = branching()
    with LivePage(flow) as page:
        assert '"live":true' in ask(page.url).body.decode()
        with following(page, lane, executor_for(flow), flow.name, {"value": 3}) as future:
            result = future.result()
        assert ask(page.url).body.decode() == dw.run_page(result, flow=flow)
        with watching(page) as watcher:
            (end,) = watcher.rest()
        assert {row["id"]: row["state"] for row in end.data["rows"]} == {
            "0": "ok",
            "1": "skipped",
            "2": "ok",
            "3": "ok",
        }


@lanes
def test_steps_of_sub_flows_stand_below_theirs(lane: str) -> None:
    registry = dw.FlowRegistry()
    inner = dw.Flow(name="inner", description="d", steps=[dw.FlowStep(tool_name="a"), dw.FlowStep(tool_name="b")])
    outer = dw.Flow(name="outer", description="d", steps=[dw.FlowStep(tool_name="a"), dw.FlowStep(flow_name="inner")])
    registry.register_flow(inner)
    registry.register_flow(outer)
    executor = dw.FlowExecutor(registry)
    for name in ("a", "b"):
        executor.register_tool(number_tool(name))
    with LivePage(outer) as page, watching(page) as watcher:
        with following(page, lane, executor, "outer", {"value": 3}) as future:
            future.result()
        told = watcher.rest()
    ended = [event.data for event in told if event.kind == "row" and event.data["state"] == "ok"]
    final = [(row["id"], row["depth"], row["name"]) for row in told[-1].data["rows"]]
    assert final == [("0", 0, "a"), ("1", 0, "inner"), ("1/0", 1, "a"), ("1/1", 1, "b")]
    # The messages may have been put together with the end, which says all of it.
    assert {(row["id"], row["depth"], row["name"]) for row in ended} <= set(final)


@lanes
def test_chunks_are_told_as_they_come(lane: str) -> None:
    async def stream(inputs: Any) -> Any:
        yield dw.ToolChunk(data="one ")
        yield dw.ToolChunk(data={"token": "t0ps3cret"})
        yield dw.ToolChunk(data={"value": 5}, is_final=True)

    tool = dw.StreamingTool(name="speak", description="d", input_schema=Number, output_schema=Number, stream_fn=stream)
    flow = dw.Flow(
        name="spoken", description="d", steps=[dw.FlowStep(tool_name="speak"), dw.FlowStep(tool_name="held")]
    )
    with held_run(lane, flow=flow, tools=[tool]) as (page, _, _), watching(page) as watcher:
        told = watcher.until("row", name="held")
    assert [event.data for event in told if event.kind == "chunk"] == [
        {"id": "0", "text": "one "},
        {"id": "0", "text": '{\n  "chunk": {\n    "token": "***REDACTED***"\n  }\n}\n'},
    ]


@lanes
def test_secrets_are_masked_in_what_is_told(lane: str) -> None:
    inputs = {"value": 1, "password": "correct horse"}
    with held_run(lane, inputs) as (page, _, _), watching(page) as watcher:
        assert watcher.until("run")[0].data["inputs"] == '{\n  "value": 1,\n  "password": "***REDACTED***"\n}'
    with held_run(lane, inputs, redaction=None) as (page, _, _), watching(page) as watcher:
        assert watcher.until("run")[0].data["inputs"] == '{\n  "value": 1,\n  "password": "correct horse"\n}'


@lanes
def test_a_step_that_fails_is_told_with_its_error(lane: str) -> None:
    flow = dw.Flow(name="failing", description="d", steps=[dw.FlowStep(tool_name="no")])
    with LivePage(flow) as page:
        with following(page, lane, executor_for(flow, number_tool("no", refuse)), "failing", {"value": 3}) as future:
            assert future.result().success is False
        with watching(page) as watcher:
            (end,) = watcher.rest()
    assert end.data["rows"][0]["error"] == {
        "type": "FlowExecutionError",
        "code": "CW-E006",
        "message": "Execution error in tool 'no' at step 0: 3 is refused",
    }


@lanes
def test_what_the_run_raises_is_told_and_raised(lane: str) -> None:
    flow = held_flow()
    executor = executor_for(flow)
    with LivePage(flow) as page:
        with following(page, lane, executor, "gone", {}) as future, pytest.raises(dw.FlowNotFoundError):
            future.result()
        with watching(page) as watcher:
            (end,) = watcher.rest()
        assert end.data["runs"] == [{"flow": "held", "state": "failed", "ms": 0.0}]
        assert end.data["trouble"].startswith("[CW-E002] Flow 'gone'")
        assert '"live":false' in ask(page.url).body.decode()


@lanes
def test_a_run_that_is_cancelled_shows_what_it_did(lane: str) -> None:
    token = dw.CancellationToken()
    flow = held_flow()

    def cancel(inputs: Any) -> dict[str, Any]:
        token.cancel()
        return {"value": 1}

    executor = executor_for(flow, number_tool("before", cancel))
    with LivePage(flow) as page:
        with following(page, lane, executor, "held", {"value": 1}, cancel_token=token) as future:
            assert isinstance(future.exception(), dw.FlowCancelledError)
        with watching(page) as watcher:
            (end,) = watcher.rest()
    assert [row["name"] for row in end.data["rows"]] == ["before"]
    assert end.data["trouble"].startswith("[CW-E012] ")


def test_events_without_an_end_are_refused() -> None:
    def nothing() -> Generator[dw.FlowEvent]:
        yield from ()

    flow = held_flow()
    with LivePage(flow) as page, pytest.raises(ValueError, match=r"^the events end before the run does: "):
        page.follow(nothing())


# --- who is told nothing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "place", ["", "/", "/events", "/x/", "/x/events", "/{short}/", "/{token}x/", "/{token}/other", "//"]
)
def test_without_the_token_there_is_nothing(place: str) -> None:
    with LivePage(held_flow()) as page:
        parts = urlsplit(page.url)
        token = parts.path.strip("/")
        answer = ask(f"http://{parts.netloc}{place.format(token=token, short=token[:-1])}")
        assert answer.status == 404
        assert token.encode() not in answer.body
        assert b"held" not in answer.body


def test_the_token_is_new_each_time_and_long() -> None:
    with LivePage(held_flow()) as one, LivePage(held_flow()) as two:
        tokens = [urlsplit(page.url).path.strip("/") for page in (one, two)]
    assert tokens[0] != tokens[1]
    assert [len(token) for token in tokens] == [43, 43]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:1234", 200),
        ("localhost:8080", 200),
        ("LOCALHOST", 200),
        ("[::1]:8080", 200),
        ("attacker.example", 403),
        ("attacker.example:80", 403),
        ("127.0.0.1.attacker.example", 403),
        ("localhost.attacker.example", 403),
        ("127.0.0.1@attacker.example", 403),
        ("", 403),
    ],
)
def test_a_name_that_somebody_else_may_have_is_refused(host: str, status: int) -> None:
    with LivePage(held_flow()) as page:
        answer = ask(page.url, Host=host)
        assert answer.status == status
        assert (b"<html" in answer.body) is (status == 200)


def test_other_methods_are_refused() -> None:
    with LivePage(held_flow()) as page:
        assert [ask(page.url, method=method).status for method in ("POST", "PUT", "DELETE", "OPTIONS", "HEAD")] == [
            501
        ] * 5


def test_other_pages_may_not_read_it_and_nothing_keeps_it() -> None:
    with LivePage(held_flow()) as page:
        for url in (page.url, f"{page.url}other"):
            headers = ask(url, Origin="http://attacker.example").headers
            assert {
                name: headers.get(name) for name in ("cache-control", "referrer-policy", "x-content-type-options")
            } == {
                "cache-control": "no-store",
                "referrer-policy": "no-referrer",
                "x-content-type-options": "nosniff",
            }
            assert headers["content-security-policy"] == "frame-ancestors 'none'"
            assert headers["cross-origin-resource-policy"] == "same-origin"
            assert not [name for name in headers if name.startswith("access-control")]
            assert headers["server"] == "doubleweave "


def test_it_listens_on_this_machine_only() -> None:
    with LivePage(held_flow()) as page:
        assert urlsplit(page.url).hostname == "127.0.0.1"
        assert page._server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize("host", ["0.0.0.0"])
def test_to_listen_elsewhere_is_warned_of(host: str) -> None:
    with pytest.warns(
        RuntimeWarning, match=r"^the page is served on 0\.0\.0\.0, to other machines too, and not encrypted"
    ):
        page = LivePage(held_flow(), host=host)
    with page:
        assert ask(page.url).status == 200


def test_it_listens_on_the_port_that_it_is_given_or_says_why_not() -> None:
    with LivePage(held_flow()) as page:
        port = urlsplit(page.url).port
        assert port is not None
        with pytest.raises(OSError, match="in use"):
            LivePage(held_flow(), port=port)


# --- what browsers do not change --------------------------------------------------------------------------------------


@lanes
def test_a_browser_that_goes_away_does_not_disturb_the_run(lane: str) -> None:
    with held_run(lane) as (page, gate, result):
        with watching(page) as watcher:
            watcher.until("row", name="held")
        gate.is_open.set()
        assert result.result().success is True


@lanes
def test_a_browser_that_takes_nothing_does_not_hold_the_run_back(lane: str) -> None:
    flow = dw.Flow(name="long", description="d", steps=[dw.FlowStep(tool_name="a") for _ in range(40)])

    def long_text(inputs: Number) -> dict[str, Any]:
        return {"value": 1, "text": "x" * 200_000}

    big = dw.Tool(name="a", description="a", input_schema=Number, output_schema=Loose, fn=long_text)
    with LivePage(flow) as page:
        parts = urlsplit(page.url)
        with socket.create_connection((parts.hostname or "", parts.port or 0)) as lazy:
            lazy.sendall(f"GET {parts.path}events HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            with following(page, lane, executor_for(flow, big), "long", {"value": 1}) as future:
                assert future.result().success is True
            with watching(page) as watcher:
                assert [event.kind for event in watcher.rest()] == ["end"]


@lanes
def test_many_watch_at_once_and_see_the_same(lane: str) -> None:
    def read(page: LivePage) -> list[Any]:
        with watching(page) as watcher:
            told = watcher.until("row", name="held")
            counted.append(True)
            if len(counted) == count:
                gate.is_open.set()
            return [*told, watcher.rest()[-1]]

    count = 20
    counted: list[bool] = []
    with held_run(lane) as (page, gate, _), ThreadPoolExecutor(count) as pool:
        found = list(pool.map(read, [page] * count))
    assert all(each == found[0] for each in found)


def test_closing_cuts_off_who_watches() -> None:
    with LivePage(held_flow()) as page, watching(page) as watcher:
        page.close()
        assert watcher.rest() == []
        page.close()


def test_only_so_many_are_answered_at_once() -> None:
    with LivePage(held_flow()) as page:
        parts = urlsplit(page.url)
        address = (parts.hostname or "", parts.port or 0)
        crowd = [socket.create_connection(address) for _ in range(200)]
        try:
            with socket.create_connection(address, timeout=60) as late:
                assert late.recv(1) == b""
        finally:
            for each in crowd:
                each.close()


@lanes
def test_waiting_for_watchers_ends_when_they_have_all_of_it(lane: str) -> None:
    with held_run(lane) as (page, gate, result):
        assert ask(page.url).status == 200
        with watching(page) as watcher, ThreadPoolExecutor(1) as pool:
            watcher.until("row", name="held")
            waiting = pool.submit(page.wait_for_watchers)
            gate.is_open.set()
            assert watcher.rest()[-1].kind == "end"
            waiting.result()
        assert result.result().success is True


def test_waiting_for_watchers_ends_at_once_when_there_are_none() -> None:
    with LivePage(held_flow()) as page:
        page.wait_for_watchers()
