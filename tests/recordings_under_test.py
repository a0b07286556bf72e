"""Backends whose answers are recorded, and what their recordings look like."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import doubleweave as dw
from doubleweave import StreamingTool, Tool, ToolChunk
from doubleweave.testing.replay import RECORD_ENV_VAR
from lanes_under_test import Number, number_tool


def recording(monkeypatch: pytest.MonkeyPatch, value: str = "1") -> None:
    monkeypatch.setenv(RECORD_ENV_VAR, value)


def replaying(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RECORD_ENV_VAR, raising=False)


class Backend:
    """A tool function of each kind, whose real calls are counted."""

    def __init__(self) -> None:
        self.calls = 0

    def plain(self, value: Any) -> dict[str, int]:
        self.calls += 1
        return {"n": value.n + 1}

    async def awaited(self, value: Any) -> dict[str, int]:
        await asyncio.sleep(0)
        return self.plain(value)

    async def chunks(self, value: Any) -> AsyncIterator[ToolChunk]:
        yield ToolChunk(data="half")
        yield ToolChunk(data=self.plain(value), is_final=True)

    def tools(self) -> dict[str, Tool]:
        schemas: dict[str, Any] = {"description": "", "input_schema": Number, "output_schema": Number}

        async def coroutine_function(value: Any) -> dict[str, int]:
            return await self.awaited(value)

        return {
            "plain": number_tool("t", self.plain),
            "async": number_tool("t", coroutine_function),
            "async method": number_tool("t", self.awaited),
            "timed": number_tool("t", self.plain, timeout_seconds=60.0),
            "timed async": number_tool("t", self.awaited, timeout_seconds=60.0),
            "inline": number_tool("t", self.plain, inline=True),
            "streaming": StreamingTool(name="t", stream_fn=self.chunks, **schemas),
            "decorated": dw.tool(name="t")(self.decorated),
        }

    def decorated(self, n: int) -> Number:
        self.calls += 1
        return Number(n=n + 1)


kinds = pytest.mark.parametrize("kind", Backend().tools())


def document(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def entry(n: int, out: int, tool: str = "t") -> dict[str, Any]:
    return {"tool_name": tool, "input": {"n": n}, "output": {"n": out}}


def write(path: Path, *interactions: Any, version: Any = 1) -> None:
    path.write_text(json.dumps({"version": version, "interactions": list(interactions)}), encoding="utf-8")
