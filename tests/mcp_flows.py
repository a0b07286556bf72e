"""A program that offers flows over MCP, for tests that talk to it: `python mcp_flows.py SETTINGS`, a JSON object."""

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from doubleweave import (
    AnyFlow,
    AsyncFlowExecutor,
    DAGFlow,
    DAGFlowStep,
    Flow,
    FlowExecutor,
    FlowRegistry,
    FlowStatus,
    FlowStep,
    InMemoryStore,
    SideEffectLevel,
    Tool,
    ToolSafetyContract,
)
from doubleweave.mcp import FlowServer, Limits

READS = ToolSafetyContract(side_effects=SideEffectLevel.READ)
WRITES = ToolSafetyContract(side_effects=SideEffectLevel.WRITE, idempotent=False)
SECRET = "the password is tiger"


class Item(BaseModel):
    item: str


class Country(BaseModel):
    country: str


class Price(BaseModel):
    net: float


class Rate(BaseModel):
    percent: int


class Amounts(BaseModel):
    net: float
    percent: int


class Total(BaseModel):
    total: float


class Nothing(BaseModel):
    pass


class Size(BaseModel):
    size: int


class Text(BaseModel):
    text: str


class Process(BaseModel):
    pid: int


class Seen(BaseModel):
    seen: str


def price(given: Item) -> dict[str, Any]:
    print("printed by a tool")
    return {"net": {"lamp": 40.0, "desk": 250.0}[given.item]}


async def rate(given: Country) -> dict[str, Any]:
    return {"percent": {"DE": 19, "DK": 25}[given.country]}


def bill(given: Amounts) -> dict[str, Any]:
    return {"total": given.net * (100 + given.percent) / 100}


def fail(given: Nothing) -> dict[str, Any]:
    raise RuntimeError(SECRET)


def swell(given: Size) -> dict[str, Any]:
    return {"text": "ü" * given.size}


def pid(given: Nothing) -> dict[str, Any]:
    return {"pid": os.getpid()}


def die(given: Nothing) -> dict[str, Any]:
    os.kill(os.getpid(), signal.SIGKILL)
    return {"pid": 0}


def nan(given: Nothing) -> dict[str, Any]:
    return {"net": float("nan")}


interrupted = asyncio.Event()


async def wait(given: Nothing) -> dict[str, Any]:
    try:
        await asyncio.Event().wait()
    finally:
        interrupted.set()
    return {"pid": 0}


async def after_interruption(given: Nothing) -> dict[str, Any]:
    await interrupted.wait()
    interrupted.clear()
    return {"seen": "a waiting tool was interrupted"}


def made(function: Callable[..., Any], takes: type[BaseModel], gives: type[BaseModel], safety: Any = READS) -> Tool:
    return Tool(
        name=function.__name__, description="", input_schema=takes, output_schema=gives, fn=function, safety=safety
    )


TOOLS = [
    made(price, Item, Price),
    made(rate, Country, Rate),
    made(bill, Amounts, Total),
    made(fail, Nothing, Nothing),
    made(swell, Size, Text),
    made(pid, Nothing, Process),
    made(die, Nothing, Process),
    made(nan, Nothing, Price),
    made(wait, Nothing, Process),
    made(after_interruption, Nothing, Seen),
    Tool(name="write", description="", input_schema=Nothing, output_schema=Nothing, fn=lambda _: {}, safety=WRITES),
]
FLOWS: list[AnyFlow] = [
    DAGFlow(
        name="order",
        version="1.0",
        description="What an order costs",
        steps=[
            DAGFlowStep(step_id="price", tool_name="price", input_mapping={"item": "item"}),
            DAGFlowStep(step_id="rate", tool_name="rate", input_mapping={"country": "country"}),
            DAGFlowStep(step_id="bill", tool_name="bill", depends_on=["price", "rate"]),
        ],
    ),
    # The first step tells that the call has begun.
    Flow(name="hang", description="", steps=[FlowStep(tool_name="pid"), FlowStep(tool_name="wait")]),
    *(
        Flow(name=name, description=f"Only {name}", steps=[FlowStep(tool_name=name)])
        for name in ("fail", "swell", "pid", "die", "nan", "after_interruption", "write")
    ),
    Flow(name="disabled", description="", steps=[FlowStep(tool_name="pid")], status=FlowStatus.DISABLED),
]


class FailingStore(InMemoryStore):
    """A store that cannot be read any more."""

    is_gone = False

    def list_keys(self) -> list[tuple[str, str]]:
        if self.is_gone:
            raise OSError(SECRET)
        return super().list_keys()


def executor(lane: str) -> FlowExecutor | AsyncFlowExecutor:
    registry = FlowRegistry(FailingStore())
    for flow in FLOWS:
        registry.register_flow(flow)
    made = FlowExecutor(registry) if lane == "sync" else AsyncFlowExecutor(registry)
    for tool in TOOLS:
        made.register_tool(tool)
    return made


def main(
    lane: str = "async",
    limits: dict[str, Any] | None = None,
    http: Any = None,
    is_gone: bool = False,
    **settings: Any,
) -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    server = FlowServer(executor(lane), limits=Limits(**limits or {}), **settings)
    FailingStore.is_gone = is_gone
    if http is None:
        server.run_stdio()
    else:
        server.run_http(port=0, on_ready=lambda url: print(url, flush=True), **http)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
