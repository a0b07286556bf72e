"""Running one flow on both lanes and comparing everything a user can see of it."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict

from doubleweave import AnyFlow, ExecutionResult, FlowCancelledError, FlowExecutor, FlowRegistry, Tool


class Number(BaseModel):
    n: int


class Anything(BaseModel):
    model_config = ConfigDict(extra="allow")


def number_tool(name: str, fn: Callable[[Any], Any], **options: Any) -> Tool:
    return Tool(name=name, description=name, input_schema=Number, output_schema=Number, fn=fn, **options)


@dataclass
class Case:
    """A flow (or several), the tools it needs and how it is run; `make_tools` is called anew for each run."""

    flows: Iterable[AnyFlow]
    make_tools: Callable[[], list[Tool]]
    inputs: dict[str, Any] = field(default_factory=lambda: {"n": 1})
    executor: Callable[[], dict[str, Any]] = dict
    run: Callable[[], dict[str, Any]] = dict


class Recorder:
    """Writes down every hook call."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def on_flow_start(self, ctx: Any) -> None:
        self.calls.append(("flow_start", ctx.flow_name, ctx.initial_input, ctx.total_steps))

    def on_step_start(self, ctx: Any) -> None:
        self.calls.append(("step_start", ctx.flow_name, ctx.step_index, ctx.tool_name, ctx.inputs))

    def on_step_chunk(self, ctx: Any) -> None:
        self.calls.append(("step_chunk", ctx.flow_name, ctx.step_index, ctx.chunk.data, ctx.chunk.is_final))

    def on_step_end(self, ctx: Any) -> None:
        self.calls.append(("step_end", ctx.flow_name, normalised(ctx.step_record)))

    def on_flow_end(self, ctx: Any) -> None:
        self.calls.append(("flow_end", ctx.flow_name, normalised(ctx.result)))


TIMES = {"trace_id", "started_at", "ended_at", "duration_ms", "total_duration_ms"}


def normalised(value: Any) -> Any:
    """Return a model as plain data without ids and times."""
    if isinstance(value, BaseModel):
        value = value.model_dump()
    if isinstance(value, dict):
        return {key: normalised(item) for key, item in value.items() if key not in TIMES}
    if isinstance(value, list | tuple):
        return [normalised(item) for item in value]
    return value


@dataclass
class Seen:
    """What a run showed: its result or error, its hook calls and its log lines."""

    result: ExecutionResult | None
    error: BaseException | None
    hooks: list[tuple[Any, ...]]
    lines: list[tuple[str, str]]

    def comparable(self, ordered: bool) -> dict[str, Any]:
        def sort(items: list[Any]) -> list[Any]:
            return items if ordered else sorted(items, key=repr)

        error = self.error
        return {
            "result": None if self.result is None else normalised(self.result),
            "error": None if error is None else (type(error).__name__, str(error)),
            "partial": normalised(error.result) if isinstance(error, FlowCancelledError) else None,
            "hooks": sort(self.hooks),
            "lines": sort(self.lines),
        }


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((record.levelname, record.getMessage().split(" | trace_id=")[0]))


def observe(case: Case, lane: str, concurrency: int = 1) -> Seen:
    """Run a case on one lane (`"sync"` or `"async"`)."""
    registry = FlowRegistry()
    for flow in case.flows:
        registry.register_flow(flow.model_copy(deep=True))
    recorder, handler = Recorder(), Lines()
    settings = {"max_step_concurrency": concurrency, **case.executor()}
    executor = FlowExecutor(registry, middleware=[recorder], **settings)
    for tool in case.make_tools():
        executor.register_tool(tool)
    name = next(iter(case.flows)).name
    logger = logging.getLogger("doubleweave.executor")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    result, error = None, None
    try:
        if lane == "sync":
            result = executor.execute_flow(name, dict(case.inputs), **case.run())
        else:
            result = asyncio.run(executor.execute_flow_async(name, dict(case.inputs), **case.run()))
    except Exception as raised:
        error = raised
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    return Seen(result, error, recorder.calls, handler.lines)


def assert_same_on_both_lanes(case: Case, concurrency: int = 1) -> Seen:
    """Run a case on both lanes, assert that they show the same, and return what the blocking one showed."""
    first, second = observe(case, "sync", concurrency), observe(case, "async", concurrency)
    ordered = concurrency == 1
    assert first.comparable(ordered) == second.comparable(ordered)
    return first
