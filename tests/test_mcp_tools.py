"""The tools of MCP servers, which are processes of their own, in flows on both lanes."""

import asyncio
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from doubleweave import (
    AsyncFlowExecutor,
    Flow,
    FlowExecutor,
    FlowRegistry,
    FlowStep,
    MCPError,
    MCPSchemaConversionError,
    MCPToolInvocationError,
    SideEffectLevel,
    StepRecord,
    Tool,
    ToolTimeoutError,
)
from doubleweave.mcp import import_mcp_tools
from mcp_under_test import command, on_http

STRANGERS = command("mcp_strangers.py")
THIS = sys.executable


@contextmanager
def imported(way: str, **terms: Any) -> Iterator[dict[str, Tool]]:
    """The tools of the program of strangers, over one of the transports."""
    if way == "stdio":
        with import_mcp_tools(STRANGERS, **terms) as tools:
            yield {tool.name: tool for tool in tools}
    else:
        with on_http("mcp_strangers.py") as served, import_mcp_tools(served.url, **terms) as tools:
            yield {tool.name: tool for tool in tools}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with on_http("mcp_strangers.py") as served:
        yield served.url


def executors(tools: dict[str, Tool], name: str) -> tuple[FlowExecutor, AsyncFlowExecutor]:
    registry = FlowRegistry()
    registry.register_flow(Flow(name="f", description="", steps=[FlowStep(tool_name=name)]))
    made = FlowExecutor(registry), AsyncFlowExecutor(registry)
    for executor in made:
        executor.register_tool(tools[name])
    return made


def on_both_lanes(tools: dict[str, Tool], name: str, given: dict[str, Any]) -> StepRecord:
    """Run a flow of one tool on both lanes and return its record, which is the same."""
    blocking, awaited = executors(tools, name)
    one = blocking.execute_flow("f", given).execution_log[0]
    other = asyncio.run(awaited.execute_flow("f", given)).execution_log[0]
    assert (one.outputs, one.error_type, one.error_message) == (other.outputs, other.error_type, other.error_message)
    return one


@pytest.mark.parametrize("way", ["stdio", "http"])
def test_tools_have_their_schemas_and_give_what_the_server_answers(way: str) -> None:
    with imported(way) as tools:
        assert tools["add"].description == "Adds two numbers"
        assert tools["add"].input_schema.document == {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
        }
        outputs = {
            "add": {"sum": 42},
            "say": {"text": "one\ntwo"},
            "count": {"result": [1, 2, 3]},
            "draw": {
                "text": "a picture",
                "content": [{"type": "image", "data": "aGk=", "mimeType": "image/png"}],
            },
        }
        for name, expected in outputs.items():
            assert on_both_lanes(tools, name, {"a": 40, "b": 2}).outputs == expected


def test_what_goes_wrong_fails_the_step_with_what_the_server_said() -> None:
    with imported("stdio", max_output_bytes=1_000) as tools:
        said = {
            name: on_both_lanes(tools, name, {"a": 1, "b": 2} if name != "add" else {"a": "one", "b": 2})
            for name in ("refuse", "reject", "lie", "flood", "add")
        }
        with pytest.raises(MCPToolInvocationError) as caught:
            tools["refuse"].run({})
    assert (caught.value.server, caught.value.tool_name, caught.value.detail) == (THIS, "refuse", "not today")
    assert {name: record.error_code for name, record in said.items()} == {
        "refuse": "CW-E006",
        "reject": "CW-E006",
        "lie": "CW-E004",
        "flood": "CW-E009",
        "add": "CW-E004",
    }
    assert f"MCP server '{THIS}': tool 'refuse' failed: not today." in str(said["refuse"].error_message)
    assert "tool 'reject' failed: never heard of it (code -32602)." in str(said["reject"].error_message)
    assert "$.sum: 'seven' is not of type 'integer'" in str(said["lie"].error_message)
    assert "$.a: 'one' is not of type 'integer'" in str(said["add"].error_message)


@pytest.mark.parametrize("way", ["stdio", "http"])
@pytest.mark.parametrize("lane", ["sync", "async"])
def test_a_server_that_dies_in_a_call_fails_the_step_and_those_after_it(way: str, lane: str) -> None:
    with imported(way) as tools:
        blocking, awaited = executors(tools, "die")
        if lane == "sync":
            record = blocking.execute_flow("f", {}).execution_log[0]
        else:
            record = asyncio.run(awaited.execute_flow("f", {})).execution_log[0]
        assert "the connection was lost or closed while tool 'die' was called" in str(record.error_message)
        with pytest.raises(MCPError, match="the connection was lost or closed while tool 'say' was called"):
            tools["say"].run({})


@pytest.mark.parametrize("way", ["stdio", "http"])
def test_a_call_that_takes_too_long_fails_and_is_cancelled_on_the_server(way: str) -> None:
    with imported(way, call_seconds=0.3) as tools:
        with pytest.raises(ToolTimeoutError, match=r"'hang' exceeded timeout of 0.3s"):
            tools["hang"].run({})
        assert tools["interrupted"].run({}) == {"seen": "a waiting tool was interrupted"}
        assert on_both_lanes(tools, "hang", {}).error_code == "CW-E008"


async def test_cancelling_the_task_cancels_the_call_on_the_server() -> None:
    async with import_mcp_tools(STRANGERS) as listed:
        tools = {tool.name: tool for tool in listed}
        run = asyncio.create_task(executors(tools, "hang")[1].execute_flow("f", {}))
        await tools["hanging"].run_async({})
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert await tools["interrupted"].run_async({}) == {"seen": "a waiting tool was interrupted"}


async def test_one_connection_serves_many_threads_and_loops_at_once() -> None:
    async with import_mcp_tools(STRANGERS) as listed:
        add = {tool.name: tool for tool in listed}["add"]

        def in_a_thread(number: int) -> int:
            return int(add.run({"a": number, "b": 1})["sum"])

        def in_a_loop(number: int) -> int:
            return int(asyncio.run(add.run_async({"a": number, "b": 2}))["sum"])

        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(4) as pool:
            elsewhere = [loop.run_in_executor(pool, run, 10) for run in (in_a_thread, in_a_loop) * 3]
            here = await asyncio.gather(*(add.run_async({"a": number, "b": 3}) for number in range(20)))
            assert await asyncio.gather(*elsewhere) == [11, 12] * 3
        assert [each["sum"] for each in here] == [number + 3 for number in range(20)]


def test_closing_ends_calls_process_and_thread_and_a_later_call_says_so() -> None:
    connection = import_mcp_tools(STRANGERS)
    tools = {tool.name: tool for tool in connection.open()}
    outcome: list[BaseException] = []
    under_way = threading.Event()

    async def hang() -> None:
        call = asyncio.create_task(tools["hang"].run_async({}))
        await tools["hanging"].run_async({})
        under_way.set()
        try:
            await call
        except MCPError as error:
            outcome.append(error)

    caller = threading.Thread(target=lambda: asyncio.run(hang()))
    caller.start()
    under_way.wait()
    connection.close()
    caller.join()
    assert "the connection was lost or closed while tool 'hang' was called" in str(outcome[0])
    with pytest.raises(MCPError, match="tool 'say' was called after the connection was closed"):
        tools["say"].run({})
    connection.close()
    with pytest.raises(MCPError, match="it was connected before; call import_mcp_tools again"):
        connection.open()


def test_hints_count_only_where_the_server_is_trusted(url: str) -> None:
    with import_mcp_tools(url) as listed, import_mcp_tools(url, trusted=True, only=["add", "say"]) as believed:
        strangers, friends = ({tool.name: tool for tool in tools} for tools in (listed, believed))
        assert {tool.safety.side_effects for tool in strangers.values()} == {SideEffectLevel.DESTRUCTIVE}
        assert {name: tool.safety.side_effects.value for name, tool in friends.items()} == {
            "add": "read",
            "say": "destructive",
        }
        assert not friends["add"].safety.cacheable
        assert friends["add"].safety_declared
        assert strangers["add"].safety_declared
        assert "$defs" in friends["add"].input_schema.document


def test_names_can_have_a_prefix_so_that_servers_do_not_clash(url: str) -> None:
    with import_mcp_tools(url, prefix="calc_", only=["add"]) as (add,):
        assert add.name == "calc_add"
        assert add.run({"a": 1, "b": 2}) == {"sum": 3}
        assert add.metadata == {"mcp_server": url, "mcp_tool": "add"}


def test_a_hostile_schema_is_refused_or_made_harmless() -> None:
    with on_http("mcp_strangers.py", hostile=True) as served:
        with pytest.raises(MCPSchemaConversionError) as caught:
            import_mcp_tools(served.url, only=["fetch"]).open()
        with pytest.raises(MCPSchemaConversionError, match=r"'nonsense' cannot be taken over: .*'strin'"):
            import_mcp_tools(served.url).open()
        with import_mcp_tools(served.url, only=["pattern"]) as (tool,):
            # With the pattern this would take longer than anyone lives.
            assert tool.run({})["word"].startswith("aaa")
    assert str(caught.value) == (
        f"MCP server '{served.url}': tool 'fetch' cannot be taken over: Invalid JSON Schema at $: the reference "
        "'http://127.0.0.1:9/s.json' leads out of the document; take others with only=."
    )


@pytest.mark.parametrize(
    ("server", "told"),
    [
        (["/no/such/program"], "FileNotFoundError"),
        ([THIS, "-c", "pass"], "it cannot be reached, or does not speak MCP"),
        ("http://user:pass@127.0.0.1:9/mcp?key=k", "MCP server 'http://127.0.0.1:9/mcp': it cannot be reached"),
    ],
)
async def test_a_server_that_cannot_be_reached_is_told_of_on_both_lanes(server: Any, told: str) -> None:
    with pytest.raises(MCPError) as blocking:
        await asyncio.to_thread(import_mcp_tools(server).open)
    with pytest.raises(MCPError) as awaited:
        async with import_mcp_tools(server):
            pass
    assert told in str(blocking.value)
    assert str(blocking.value) == str(awaited.value)


def test_a_server_that_says_nothing_is_given_up() -> None:
    with pytest.raises(MCPError, match=r"it did not list its tools within 0.5 s"):
        import_mcp_tools([THIS, "-c", "import sys; sys.stdin.read()"], connect_seconds=0.5).open()


async def test_who_is_cancelled_while_connecting_leaves_nothing_behind() -> None:
    begun = asyncio.Event()

    async def connect() -> None:
        begun.set()
        async with import_mcp_tools([THIS, "-c", "import sys; sys.stdin.read()"]):
            pass

    connecting = asyncio.create_task(connect())
    await begun.wait()
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting


def test_a_server_that_refuses_is_told_of_with_the_status_of_its_answer() -> None:
    with on_http(http={"token": "s3cret"}) as served:
        with pytest.raises(MCPError, match=r"\(HTTP 401\)"):
            import_mcp_tools(served.url, headers={"Authorization": "Bearer guess"}).open()
        with import_mcp_tools(served.url, headers={"Authorization": "Bearer s3cret"}, only=["pid"]) as (tool,):
            assert tool.run({})["pid"] == served.process.pid


@pytest.mark.parametrize("name", ["", "two\nlines", "\x1b[31mred", "x" * 129])
def test_a_name_that_would_pass_for_something_else_in_a_log_is_refused(name: str) -> None:
    with pytest.raises(MCPSchemaConversionError, match="its name is not up to 128 printable characters") as caught:
        import_mcp_tools(command("mcp_strangers.py", name=name)).open()
    assert str(caught.value).isprintable()
    with import_mcp_tools(command("mcp_strangers.py", name="x" * 128)) as (tool,):
        assert tool.name == "x" * 128


@pytest.mark.parametrize("way", ["stdio", "http"])
def test_a_server_that_lists_without_end_is_given_up_and_told_of_once(way: str) -> None:
    program = command("mcp_strangers.py", many=200)
    with on_http("mcp_strangers.py", many=200) as served, pytest.raises(MCPError) as caught:
        import_mcp_tools(program if way == "stdio" else served.url).open()
    label = THIS if way == "stdio" else served.url
    assert str(caught.value) == f"MCP server '{label}': it lists more than 1000 tools or 100 pages of them."


def test_a_tool_that_is_not_there_or_there_twice_is_told_of(url: str) -> None:
    with pytest.raises(MCPError, match="it has no tool 'adds'; it has add, lie, say, count"):
        import_mcp_tools(url, only=["adds"]).open()
    twice = r"tool 'add' .*the server lists this name twice"
    with on_http("mcp_strangers.py", twice=True) as served, pytest.raises(MCPSchemaConversionError, match=twice):
        import_mcp_tools(served.url).open()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"server": "python server.py"}, "no URL; give a command as a list of words"),
        ({"server": []}, "the command has no words"),
        ({"server": ["x"], "headers": {"A": "b"}}, "headers are for a URL"),
        ({"server": "http://x/", "env": {"A": "b"}}, "env and cwd are for commands"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        import_mcp_tools(**arguments)
