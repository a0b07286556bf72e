"""One flow on both lanes, and on a lane that is not the caller's."""

from collections.abc import Awaitable, Callable, Iterable
from contextvars import copy_context
from copy import deepcopy
from typing import Any

from doubleweave._sync.executor import drive
from doubleweave.core.effects import Invoke, Lane, Life
from doubleweave.models.flows import AnyFlow
from doubleweave.models.product import PRODUCT
from doubleweave.testing.assertions import DEFAULT_IGNORE_FIELDS, require_equal, without
from doubleweave.testing.runner import FlowTestRunner
from doubleweave.tools import Tool

# A cost report has a measured time of its own.
_TIMES = (*DEFAULT_IGNORE_FIELDS, "actual_execution_ms")


def assert_lanes_agree(flow: AnyFlow, tools: Iterable[Tool], inputs: dict[str, Any], **executor_kwargs: Any) -> None:
    """Run a flow blocking and awaited, and assert that both show the same: result, records, hook calls, raised error.

    Works anywhere, also while an event loop runs. Both lanes get the same tools, plain or async, and copies of `inputs`;
    tools and settings that remember the first run may make the second one differ. Times and trace ids are ignored, and with
    `max_step_concurrency` above 1 the order of hook calls.

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
    title = f"the lanes differ on flow '{flow.name}'"
    require_equal(title, ("blocking", seen[0]), ("awaited", seen[1]), _TIMES)


class _Hooks:
    """Writes down the call of every hook that there is, with what it is shown at that moment."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("on_"):
            raise AttributeError(name)
        return self._note

    def _note(self, ctx: Any) -> None:
        self.calls.append({type(ctx).__name__: without(ctx, _TIMES)})


def _seen(runner: FlowTestRunner, tools: list[Tool], run: Callable[[FlowTestRunner], Any]) -> dict[str, Any]:
    hooks, result, error = _Hooks(), None, None
    runner.add_middleware(hooks)
    for tool in tools:
        runner.executor.register_tool(tool)
    try:
        result = without(run(runner), _TIMES)
    except Exception as raised:
        error = {"type": type(raised).__qualname__, "message": str(raised)}
    return {"result": result, "error": error, "hooks": hooks.calls}


def wait_for(make: Callable[[], Awaitable[Any]]) -> Any:
    """Wait, blocking, for the awaitable that `make()` gives, on an event loop in the background, and return its result."""
    return drive(lambda lane: _asking(lane, make))


def _asking(lane: Lane, make: Callable[[], Awaitable[Any]]) -> Life[Any]:
    return (yield Invoke(make, (), copy_context(), f"{PRODUCT}-testing"))
