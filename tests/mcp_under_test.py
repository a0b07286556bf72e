"""Servers as processes of their own, and the SDK's client to talk to those that offer flows."""

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import mcp
import pytest
from mcp import types
from mcp.client.stdio import StdioServerParameters, stdio_client

HERE = Path(__file__).parent
# The handshake of the older protocols, and the newest one without; and which executor the server has.
PAIRS = pytest.mark.parametrize(("mode", "lane"), [("legacy", "sync"), ("auto", "async")])


def command(program: str = "mcp_flows.py", **settings: Any) -> list[str]:
    return [sys.executable, "-W", "error", str(HERE / program), json.dumps(settings)]


@dataclass
class Spoken:
    """A client of a server on stdio, and what the server writes to stderr."""

    client: mcp.Client
    log: IO[str]

    def logged(self) -> str:
        self.log.seek(0)
        return self.log.read()


@asynccontextmanager
async def on_stdio(mode: str = "auto", message_handler: Any = None, **settings: Any) -> AsyncIterator[Spoken]:
    words = command(**settings)
    with tempfile.TemporaryFile("w+", encoding="utf-8") as log:
        program = StdioServerParameters(command=words[0], args=words[1:])
        async with mcp.Client(stdio_client(program, errlog=log), mode=mode, message_handler=message_handler) as client:
            yield Spoken(client, log)


@dataclass
class Served:
    """A server on HTTP."""

    url: str
    process: "subprocess.Popen[str]"
    log: IO[str]

    def logged(self) -> str:
        self.log.seek(0)
        return self.log.read()


@contextmanager
def on_http(program: str = "mcp_flows.py", **settings: Any) -> Iterator[Served]:
    words = command(program, **{"http": {}, **settings})
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as log,
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        assert process.stdout is not None
        try:
            served = Served(process.stdout.readline().strip(), process, log)
            assert served.url.startswith("http://"), served.logged()
            yield served
        finally:
            process.kill()


class Progress:
    """What a client is told of the progress of its call."""

    def __init__(self) -> None:
        self.steps: list[tuple[float, float | None, str | None]] = []
        self.begun = asyncio.Event()

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None:
        self.steps.append((progress, total, message))
        self.begun.set()


def text_of(result: types.CallToolResult) -> str:
    return "\n".join(block.text for block in result.content if isinstance(block, types.TextContent))
