"""A program that is an MCP server made with the SDK, friendly or not: `python mcp_strangers.py SETTINGS`, a JSON object."""

import asyncio
import json
import os
import signal
import sys
from typing import Any

import mcp
import uvicorn
from mcp import types
from mcp.server import Server, ServerRequestContext

NUMBERS = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"$ref": "#/$defs/b"}},
    "required": ["a", "b"],
    "$defs": {"b": {"type": "integer"}},
}
SUM = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}
OBJECT = {"type": "object"}
TOOLS = {
    "add": types.Tool(
        name="add",
        description="Adds two numbers",
        input_schema=NUMBERS,
        output_schema=SUM,
        annotations=types.ToolAnnotations(read_only_hint=True),
    ),
    "lie": types.Tool(name="lie", input_schema=OBJECT, output_schema=SUM),
    "say": types.Tool(name="say", input_schema=OBJECT),
    "count": types.Tool(name="count", input_schema=OBJECT),
    "draw": types.Tool(name="draw", input_schema=OBJECT),
    "refuse": types.Tool(name="refuse", input_schema=OBJECT),
    "reject": types.Tool(name="reject", input_schema=OBJECT),
    "flood": types.Tool(name="flood", input_schema=OBJECT),
    "hang": types.Tool(name="hang", input_schema=OBJECT),
    "hanging": types.Tool(name="hanging", input_schema=OBJECT),
    "interrupted": types.Tool(name="interrupted", input_schema=OBJECT),
    "die": types.Tool(name="die", input_schema=OBJECT),
}
EVIL = {
    "type": "object",
    "properties": {"word": {"type": "string", "pattern": "^(a+)+$"}},
    "required": ["word"],
}
HOSTILE = {
    "nonsense": types.Tool(name="nonsense", input_schema={"type": "object", "properties": {"a": {"type": "strin"}}}),
    "pattern": types.Tool(name="pattern", input_schema=OBJECT, output_schema=EVIL),
    "fetch": types.Tool(
        name="fetch", input_schema={"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1:9/s.json"}}}
    ),
}
hanging = asyncio.Semaphore(0)
interruptions: asyncio.Queue[str] = asyncio.Queue()


async def answer(name: str, given: dict[str, Any]) -> types.CallToolResult:
    match name:
        case "add":
            return structured({"sum": given["a"] + given["b"]})
        case "lie":
            return structured({"sum": "seven"})
        case "say":
            return types.CallToolResult(content=[types.TextContent(text="one"), types.TextContent(text="two")])
        case "count":
            return structured([1, 2, 3])
        case "draw":
            picture = types.ImageContent(data="aGk=", mime_type="image/png")
            return types.CallToolResult(content=[types.TextContent(text="a picture"), picture])
        case "refuse":
            return types.CallToolResult(content=[types.TextContent(text="not today")], is_error=True)
        case "reject":
            raise mcp.MCPError(types.INVALID_PARAMS, "never heard of it")
        case "flood":
            return structured({"text": "x" * 5_000})
        case "hang":
            hanging.release()
            try:
                await asyncio.Event().wait()
            finally:
                interruptions.put_nowait("a waiting tool was interrupted")
        case "hanging":
            await hanging.acquire()
            return structured({})
        case "interrupted":
            return structured({"seen": await interruptions.get()})
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "pattern":
            return structured({"word": "a" * 60 + "!"})
    raise AssertionError(name)


def structured(content: Any) -> types.CallToolResult:
    return types.CallToolResult(content=[], structured_content=content)


def server(offered: list[types.Tool]) -> Server[Any]:
    async def list_tools(
        context: ServerRequestContext[Any], params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        """One tool a page."""
        page = 0 if params is None or params.cursor is None else int(params.cursor)
        following = str(page + 1) if page + 1 < len(offered) else None
        return types.ListToolsResult(tools=offered[page : page + 1], next_cursor=following)

    async def call_tool(
        context: ServerRequestContext[Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        return await answer(params.name, params.arguments or {})

    return Server("strangers", on_list_tools=list_tools, on_call_tool=call_tool)


class Announced(uvicorn.Server):
    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        print(f"http://127.0.0.1:{self.servers[0].sockets[0].getsockname()[1]}/mcp", flush=True)


async def main(
    http: Any = None, hostile: bool = False, twice: bool = False, name: str | None = None, many: int = 0
) -> None:
    offered = [*(HOSTILE if hostile else TOOLS).values()]
    if name is not None:
        offered = [types.Tool(name=name, input_schema=OBJECT)]
    offered += [types.Tool(name=f"t{n}", input_schema=OBJECT) for n in range(many)]
    served = server(offered * 2 if twice else offered)
    if http is not None:
        await Announced(uvicorn.Config(served.streamable_http_app(), port=0, log_config=None)).serve()
        return
    async with mcp.stdio_server() as (incoming, outgoing):
        await served.run(incoming, outgoing, served.create_initialization_options())


if __name__ == "__main__":
    asyncio.run(main(**json.loads(sys.argv[1])))
