"""Reading the event stream of a flow through each of the three methods that give one."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from doubleweave import AsyncFlowExecutor, FlowEvent, FlowExecutor, FlowRegistry
from lanes_under_test import Case, normalised

# Executor class, method, and whether it gives an async generator.
ENTRIES: dict[str, tuple[type[Any], str, bool]] = {
    "stream_flow": (FlowExecutor, "stream_flow", False),
    "stream_flow_async": (FlowExecutor, "stream_flow_async", True),
    "AsyncFlowExecutor.stream_flow": (AsyncFlowExecutor, "stream_flow", True),
}


@dataclass
class Read:
    """The events that a stream gave, and what it raised after them."""

    events: list[FlowEvent]
    error: BaseException | None

    @property
    def sequence(self) -> list[tuple[Any, ...]]:
        """The events as kind, flow, step index and tool, without what is not there."""
        fields = [(e.kind, e.flow_name, e.step_index, e.tool_name) for e in self.events]
        return [tuple(value for value in row if value is not None) for row in fields]


def executor_for(case: Case, kind: type[Any] = FlowExecutor, **settings: Any) -> Any:
    """Return an executor with the flows and tools of a case."""
    registry = FlowRegistry()
    for flow in case.flows:
        registry.register_flow(flow.model_copy(deep=True))
    executor = kind(registry, **{**case.executor(), **settings})
    for tool in case.make_tools():
        executor.register_tool(tool)
    return executor


def read(case: Case, entry: str, each: Callable[[FlowEvent], None] = lambda event: None, **settings: Any) -> Read:
    """Stream the first flow of a case to its end, calling `each` with every event as it comes."""
    kind, method, is_async = ENTRIES[entry]
    executor = executor_for(case, kind, **settings)
    found = Read([], None)

    def take(event: FlowEvent) -> None:
        found.events.append(event)
        each(event)

    async def read_async() -> None:
        async for event in getattr(executor, method)(name, dict(case.inputs), **case.run()):
            take(event)

    name = next(iter(case.flows)).name
    try:
        if is_async:
            asyncio.run(read_async())
        else:
            for event in getattr(executor, method)(name, dict(case.inputs), **case.run()):
                take(event)
    except BaseException as error:
        found.error = error
    return found


def as_hook_calls(events: list[FlowEvent]) -> list[tuple[Any, ...]]:
    """Return the events in the form in which `lanes_under_test.Recorder` writes hook calls down."""
    forms: dict[str, Callable[[Any], tuple[Any, ...]]] = {
        "flow_start": lambda e: (e.initial_input, e.total_steps),
        "step_start": lambda e: (e.step_index, e.tool_name, e.inputs),
        "step_chunk": lambda e: (e.step_index, e.chunk.data, e.chunk.is_final),
        "step_end": lambda e: (normalised(e.step_record),),
        "flow_end": lambda e: (normalised(e.result),),
    }
    return [(event.kind, event.flow_name, *forms[event.kind](event)) for event in events]
