"""One flow on both lanes, and on a lane that is not the caller's."""

from collections.abc import Awaitable, Callable, Iterable
from contextvars import copy_context
from copy import deepcopy
from typing import Any

from pydantic import BaseModel

from doubleweave._sync.executor import drive
from doubleweave.core.effects import Invoke, Lane, Life
from doubleweave.models.callbacks import DecisionRecord
from doubleweave.models.cost import CostReport
from doubleweave.models.flows import AnyFlow
from doubleweave.models.hooks import (
    AttemptEndContext,
    FlowEndContext,
    FlowStartContext,
    StepChunkContext,
    StepEndContext,
    StepStartContext,
)
from doubleweave.models.product import PRODUCT
from doubleweave.models.records import ExecutionResult, StepRecord
from doubleweave.testing.assertions import DEFAULT_IGNORE_FIELDS, identical, require_equal
from doubleweave.testing.runner import FlowTestRunner
from doubleweave.tools import Tool

# A cost report has a measured time of its own.
_TIMES = (*DEFAULT_IGNORE_FIELDS, "actual_execution_ms")
_CONTEXTS = FlowStartContext, StepStartContext, StepChunkContext, AttemptEndContext, StepEndContext, FlowEndContext
# What has times and trace ids of the engine; anywhere else these names are a user's.
_TIMED = ExecutionResult, StepRecord, DecisionRecord, CostReport, *_CONTEXTS


def assert_lanes_agree(flow: AnyFlow, tools: Iterable[Tool], inputs: dict[str, Any], **executor_kwargs: Any) -> None:
    """Run a flow blocking and awaited, and assert that both show the same: result, records, hook calls, raised error.

    Works anywhere, also while an event loop runs. Both lanes get the same tools, plain or async, and copies of `inputs`;
    tools and settings that remember the first run may make the second one differ. Ignored are times and trace ids of runs and
    steps, not data of the same names, and with `max_step_concurrency` above 1 the order of hook calls. Values are compared with
    their types: 1 is neither True nor 1.0. NaN is equal to NaN.

    Args:
        flow: The flow to run.
        tools: The tools that it needs.
        inputs: The initial input.
        executor_kwargs: What `FlowTestRunner` takes; a `registry` with the sub-flows of the flow, for example.

    Raises:
        AssertionError: The lanes differ; lists the first five differences by their paths.
    """
    tools = list(tools)

    def blocking(runner: FlowTestRunner) -> Any:
        return runner.execute(flow.name, deepcopy(inputs), version=flow.version)

    def awaited(runner: FlowTestRunner) -> Any:
        return wait_for(lambda: runner.execute_async(flow.name, deepcopy(inputs), version=flow.version))

    seen = [_seen(FlowTestRunner(flow, **executor_kwargs), tools, run) for run in (blocking, awaited)]
    if executor_kwargs.get("max_step_concurrency", 1) > 1:
        for each in seen:
            each["hooks"].sort(key=repr)
    title = f"the lanes differ on flow '{flow.name}' (ignored: {', '.join(_TIMES)})"
    require_equal(title, ("blocking", seen[0]), ("awaited", seen[1]), identical)


class _Hooks:
    """Writes down the call of every hook that there is, with what it is shown at that moment."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("on_"):
            raise AttributeError(name)
        return self._note

    def _note(self, ctx: Any) -> None:
        self.calls.append({type(ctx).__name__: _shown(ctx)})


def _seen(runner: FlowTestRunner, tools: list[Tool], run: Callable[[FlowTestRunner], Any]) -> dict[str, Any]:
    hooks, result, error = _Hooks(), None, None
    runner.add_middleware(hooks)
    for tool in tools:
        runner.executor.register_tool(tool)
    try:
        result = _shown(run(runner))
    except Exception as raised:
        error = {"type": type(raised).__qualname__, "message": str(raised)}
    return {"result": result, "error": error, "hooks": hooks.calls}


def _shown(model: BaseModel) -> Any:
    """Return a result or context as plain data, without its times and trace ids."""
    return _timeless(model, model.model_dump())


def _timeless(value: Any, dumped: Any) -> Any:
    if isinstance(value, _TIMED):
        return {name: _timeless(getattr(value, name), item) for name, item in dumped.items() if name not in _TIMES}
    if isinstance(value, list):
        return [_timeless(*pair) for pair in zip(value, dumped, strict=True)]
    return dumped


def wait_for(make: Callable[[], Awaitable[Any]]) -> Any:
    """Wait, blocking, for the awaitable that `make()` gives, on an event loop in the background, and return its result."""
    return drive(lambda lane: _asking(lane, make))


def _asking(lane: Lane, make: Callable[[], Awaitable[Any]]) -> Life[Any]:
    return (yield Invoke(make, (), copy_context(), f"{PRODUCT}-testing"))
