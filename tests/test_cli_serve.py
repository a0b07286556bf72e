"""The command that offers flows over MCP, called as a client or an administrator does."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import mcp
import pytest
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

from cli_under_test import Shell
from mcp_under_test import text_of

pytest_plugins = ["cli_under_test"]
TOOLS = """
from doubleweave import SideEffectLevel, Tool, ToolSafetyContract
from pydantic import BaseModel

print("the module of tools prints")


class Number(BaseModel):
    value: int


def contract(level):
    return ToolSafetyContract(side_effects=SideEffectLevel(level))


def made(name, function, level):
    return Tool(
        name=name, description="", input_schema=Number, output_schema=Number, fn=function, safety=contract(level)
    )


double = made("double", lambda given: {"value": given.value * 2}, "read")
store = made("store", lambda given: {"value": given.value}, "write")


def turn(given):
    later.safety = contract("write")
    return {"value": given.value}


turning = made("turn", turn, "read")
later = made("later", lambda given: {"value": given.value + 1}, "read")
"""
FLOW = """
type: Flow
name: {name}
description: {name}
steps:
  - tool_name: {tool}
"""
PROGRAM = [sys.executable, "-W", "error", "-m", "doubleweave", "serve"]


@pytest.fixture
def folder(shell: Shell) -> Path:
    shell.write("served_tools.py", TOOLS)
    for name, tool in (("doubling", "double"), ("storing", "store"), ("nothing", "absent")):
        shell.write(f"flows/{name}.flow.yaml", FLOW.format(name=name, tool=tool))
    return shell.folder


async def test_a_client_starts_it_and_calls_flows_over_stdio(folder: Path) -> None:
    words = [*PROGRAM[1:], "--discover-dir", "flows", "--tools", "served_tools"]
    program = StdioServerParameters(command=PROGRAM[0], args=words, cwd=folder)
    with tempfile.TemporaryFile("w+", encoding="utf-8") as log:
        async with mcp.Client(stdio_client(program, errlog=log)) as client:
            names = [tool.name for tool in (await client.list_tools()).tools]
            result = await client.call_tool("doubling", {"value": 21})
            failed = await client.call_tool("doubling", {"value": "one"})
        log.seek(0)
        told = log.read()
    assert names == ["doubling"]
    assert result.structured_content == {"value": 42}
    assert re.match(r"(?s)CW-E004 \(trace [0-9a-f]+\): .*value", text_of(failed))
    assert told.startswith(
        "the module of tools prints\n"
        "doubleweave: not offered: nothing: tool 'absent' is not registered, above 'read'\n"
        "doubleweave: not offered: storing: tool 'store' has side effects 'write', above 'read'\n"
        "doubleweave: offered: doubling\n"
    )
    assert "Flow 'doubling' failed | trace=" in told


async def test_a_tool_that_comes_to_write_in_the_middle_of_a_run_is_not_called(folder: Path) -> None:
    flow = FLOW.format(name="turning", tool="turn") + "  - tool_name: later\non_context_collision: overwrite\n"
    (folder / "flows/turning.flow.yaml").write_text(flow)
    words = [*PROGRAM[1:], "flows/turning.flow.yaml", "--tools", "served_tools"]
    program = StdioServerParameters(command=PROGRAM[0], args=words, cwd=folder)
    with tempfile.TemporaryFile("w+", encoding="utf-8") as log:
        async with mcp.Client(stdio_client(program, errlog=log)) as client:
            result = await client.call_tool("turning", {"value": 1})
    assert result.is_error
    assert "'write'" in text_of(result)


@contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[str]:
    """Serve over HTTP, with a token in the environment, until the block is left; the value is the URL."""
    words = [*PROGRAM, *arguments, "--http", "--port", "0", "--token-env", "TOKEN"]
    environment = {**os.environ, "TOKEN": "s3cret"}
    with subprocess.Popen(
        words, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        try:
            lines = [process.stderr.readline() for _ in range(2)]
            assert lines == ["the module of tools prints\n", "doubleweave: offered: storing\n"]
            yield process.stderr.readline().removeprefix("doubleweave: serving at ").strip()
        finally:
            process.terminate()


async def test_it_serves_http_to_who_has_the_token(folder: Path) -> None:
    options = ["flows/storing.flow.yaml", "--tools", "served_tools", "--allow-side-effects", "write"]
    with serving(folder, *options) as url:
        async with (
            httpx2.AsyncClient(headers={"Authorization": "Bearer s3cret"}) as http,
            mcp.Client(streamable_http_client(url, http_client=http)) as client,
        ):
            result = await client.call_tool("storing", {"value": 1})
            failed = await client.call_tool("storing", {"value": "one"})
        async with httpx2.AsyncClient() as http:
            refused = await http.post(url, json={})
    assert result.structured_content == {"value": 1}
    assert re.fullmatch(r"CW-E004 \(trace [0-9a-f]+\)", text_of(failed))
    assert refused.status_code == 401


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ([], 2, "say which flows: FLOW_FILE... or --discover-dir DIR"),
        (["none.flow.yaml"], 2, "file not found: none.flow.yaml"),
        (["--discover-dir", "none"], 2, "directory not found: none"),
        (["flows/doubling.flow.yaml", "--tools", "no_module"], 2, "tools module not importable: no_module"),
        (["flows/doubling.flow.yaml"], 1, "there is no flow to offer; --allow-side-effects LEVEL"),
        (["flows/doubling.flow.yaml", "--call-seconds", "0"], 2, "call_seconds must be above zero, not 0.0"),
        (["flows/doubling.flow.yaml", "--flow", "doublin"], 1, "Flow 'doublin' is not registered"),
        (
            ["flows/doubling.flow.yaml", "--tools", "served_tools", "--http", "--token-env", "NO_SUCH"],
            2,
            "the variable NO_SUCH has no token",
        ),
        (
            ["flows/doubling.flow.yaml", "--tools", "served_tools", "--http", "--host", "0.0.0.0"],
            1,
            "host '0.0.0.0' can be reached from other machines; give a token",
        ),
    ],
)
def test_what_cannot_be_served_is_told_of(
    shell: Shell, folder: Path, arguments: list[str], code: int, told: str
) -> None:
    called = shell("serve", *arguments)
    assert called.code == code
    assert told in called.err


def test_a_level_that_was_given_is_not_advised(shell: Shell) -> None:
    flow = {"type": "Flow", "name": "a/b", "version": "1.0", "description": "d", "steps": [{"tool_name": "double"}]}
    shell.write("slash.flow.json", json.dumps(flow))
    called = shell("serve", "slash.flow.json", "-t", "number_tools", "--allow-side-effects", "destructive")
    assert (called.code, called.out) == (1, "")
    assert called.err.startswith("doubleweave: not offered: a/b: its name cannot be a tool's: ")
    assert called.err.endswith("\ndoubleweave: there is no flow to offer\n")


def test_without_the_extra_it_names_it(shell: Shell, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing: dict[str, Any] = {
        name: None for name in ("mcp", "doubleweave.mcp") if name in sys.modules or name == "mcp"
    }
    for name in missing:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "mcp", None)
    called = shell("serve", "flows/doubling.flow.yaml", "--tools", "served_tools")
    assert (called.code, called.out) == (2, "")
    assert called.err.endswith('doubleweave.mcp needs the MCP SDK: pip install "doubleweave[mcp]"\n')
