"""A server that offers two flows of a shop as MCP tools: `python -m doubleweave.examples.shop`, over HTTP with `--http`."""

import sys

from pydantic import BaseModel

from doubleweave import (
    AsyncFlowExecutor,
    Flow,
    FlowRegistry,
    FlowStep,
    SideEffectLevel,
    Tool,
    ToolSafetyContract,
)
from doubleweave.mcp import FlowServer

NET = {"lamp": 40.0, "desk": 250.0}


class Item(BaseModel):
    item: str


class Price(BaseModel):
    net: float


class Stock(BaseModel):
    left: int


def make_server() -> FlowServer:
    """Return the server; its third flow changes the stock, so it is not offered."""
    stock = dict.fromkeys(NET, 3)
    reads = ToolSafetyContract(side_effects=SideEffectLevel.READ)
    writes = ToolSafetyContract(side_effects=SideEffectLevel.WRITE, idempotent=False)

    def price(wanted: Item) -> dict[str, float]:
        return {"net": NET[wanted.item]}

    def left(wanted: Item) -> dict[str, int]:
        return {"left": stock[wanted.item]}

    def take(wanted: Item) -> dict[str, int]:
        stock[wanted.item] -= 1
        return left(wanted)

    tools = [
        Tool(name="price", description="", input_schema=Item, output_schema=Price, fn=price, safety=reads),
        Tool(name="left", description="", input_schema=Item, output_schema=Stock, fn=left, safety=reads),
        Tool(name="take", description="", input_schema=Item, output_schema=Stock, fn=take, safety=writes),
    ]
    steps = {"net_price": "price", "in_stock": "left", "sell": "take"}
    registry = FlowRegistry()
    executor = AsyncFlowExecutor(registry)
    for name, tool_name in steps.items():
        registry.register_flow(Flow(name=name, description=name, steps=[FlowStep(tool_name=tool_name)]))
    for tool in tools:
        executor.register_tool(tool)
    return FlowServer(executor, name="shop")


if __name__ == "__main__":
    if "--http" in sys.argv:
        make_server().run_http(port=0, on_ready=lambda url: print(url, flush=True))
    else:
        make_server().run_stdio()
