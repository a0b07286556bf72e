"""One call of an offered flow: its limits, its run, and what the caller is told of it."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import anyio
from mcp import types
from pydantic_core import to_json, to_jsonable_python

from doubleweave.errors import DoubleweaveError, FlowCancelledError, FlowExecutionError, ToolOutputSizeError
from doubleweave.executor import FlowExecutor
from doubleweave.mcp.limits import Limits
from doubleweave.mcp.offers import FlowOffer
from doubleweave.mcp.safety import Executor
from doubleweave.models.cancellation import CancellationToken
from doubleweave.models.events import FlowEvent
from doubleweave.models.product import PRODUCT
from doubleweave.models.records import ExecutionResult, StepRecord

logger = logging.getLogger(f"{PRODUCT}.mcp")

Report = Callable[[float, float | None, str | None], Awaitable[None]]
"""Takes how many steps have ended, of how many, and the name of the last one."""

HEED_SECONDS = 5.0
"""How long a cancelled run is waited for."""
_DEFAULT_CODE = FlowExecutionError.code


class Refused(Exception):
    """The call was not begun; the text is for the caller and tells nothing but the limit."""


@dataclass
class _Run:
    """A run that goes on, as far as is known of it."""

    offer: FlowOffer
    token: CancellationToken = field(default_factory=CancellationToken)
    trace_id: str = field(default_factory=lambda: uuid4().hex)
    result: ExecutionResult | None = None


class FlowCalls:
    """Runs offered flows for callers, within limits that all of them share."""

    def __init__(self, executor: Executor, limits: Limits) -> None:
        self._executor = executor
        self._limits = limits
        self._running = 0

    async def call(
        self, offer: FlowOffer, arguments: dict[str, Any], report: Report, *, withhold_errors: bool
    ) -> types.CallToolResult:
        """Run a flow and return its final output, or an error, as the result of a tool call.

        When the caller's task is cancelled, so is the run. What went wrong is logged; of that the caller gets the error code
        and the trace id, and the message, too, unless `withhold_errors`.
        """
        try:
            with self._place(arguments):
                return await self._call(_Run(offer), arguments, report, withhold_errors)
        except Refused as refusal:
            return _error(str(refusal))

    @contextmanager
    def _place(self, arguments: dict[str, Any]) -> Iterator[None]:
        limits = self._limits
        try:
            size = len(to_json(arguments))
        except ValueError as error:
            raise Refused("The arguments cannot be written as JSON in UTF-8.") from error
        if size > limits.input_bytes:
            raise Refused(f"The arguments take {size} bytes as JSON; at most {limits.input_bytes} are accepted.")
        if self._running >= limits.calls_at_once:
            raise Refused(f"{limits.calls_at_once} calls are running, which is the most at a time. Try again later.")
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1

    async def _call(
        self, run: _Run, arguments: dict[str, Any], report: Report, withhold_errors: bool
    ) -> types.CallToolResult:
        try:
            await self._within_limit(run, self._follow(run, arguments, report))
            output = self._output(run)
        except Exception as error:
            return _failure(run, error, withhold_errors)
        text = json.dumps(output, ensure_ascii=False)
        return types.CallToolResult(content=[types.TextContent(text=text)], structured_content=output)

    async def _within_limit(self, run: _Run, following: Any) -> None:
        """Follow a run on a task of its own, which is cancelled once, however often this one is."""
        task = asyncio.create_task(following)
        try:
            await asyncio.wait({task}, timeout=self._limits.call_seconds)
        finally:
            in_time = task.done()
            if not in_time:
                run.token.cancel()
                task.cancel()
                await _wound_down(task, run.offer.flow.name)
        if not in_time:
            raise _OutOfTime(f"Flow '{run.offer.flow.name}' did not end within {self._limits.call_seconds:g} s.")
        task.result()

    async def _follow(self, run: _Run, arguments: dict[str, Any], report: Report) -> None:
        ended = 0
        async with aclosing(self._events(run, arguments)) as events:
            is_first, total = True, None
            async for event in events:
                if is_first:
                    is_first, run.trace_id, total = False, event.trace_id, event.total_steps
                if event.trace_id != run.trace_id:
                    continue
                if event.kind == "step_end":
                    ended += 1
                    await report(ended, total, event.tool_name)
                elif event.kind == "flow_end":
                    run.result = event.result

    def _events(self, run: _Run, arguments: dict[str, Any]) -> AsyncGenerator[FlowEvent]:
        executor = self._executor
        stream = executor.stream_flow_async if isinstance(executor, FlowExecutor) else executor.stream_flow
        deadline = time.time() + self._limits.call_seconds
        # The very version whose effects were looked at.
        version = run.offer.flow.version
        return stream(run.offer.flow.name, arguments, version=version, deadline=deadline, cancel_token=run.token)

    def _output(self, run: _Run) -> dict[str, Any]:
        """Return the final output as plain JSON data that keeps what the offer promises."""
        flow, result, limit = run.offer.flow, run.result, self._limits.output_bytes
        if result is None or not result.success:
            raise _FailedRun(result)
        try:
            output: dict[str, Any] = to_jsonable_python(result.final_output or {})
            size = len(json.dumps(output, allow_nan=False, ensure_ascii=False).encode())
        except (ValueError, RecursionError) as error:
            raise FlowExecutionError(flow.name, len(flow.steps), f"its final output is not JSON: {error}") from error
        if size > limit:
            raise ToolOutputSizeError(flow.name, size, limit)
        return (
            output
            if run.offer.gives is None
            else run.offer.gives.validate(output, name=f"output of flow '{flow.name}'")
        )


async def _wound_down(task: "asyncio.Task[None]", flow_name: str) -> None:
    """Wait for a task that was told to stop; how it ends is of no interest any more."""
    with anyio.CancelScope(shield=True):
        await asyncio.wait({task}, timeout=HEED_SECONDS)
    if not task.done():
        logger.warning("A run of flow '%s' does not heed its cancellation; it was left behind", flow_name)
    elif not task.cancelled():
        task.exception()


class _OutOfTime(Exception):
    """A run that was stopped because it took too long."""


class _FailedRun(Exception):
    """A run that ended with a failed step."""

    def __init__(self, result: ExecutionResult | None) -> None:
        records = [] if result is None else result.execution_log
        self.record: StepRecord | None = next((each for each in records if not each.success), None)
        super().__init__("the run failed" if self.record is None else self.record.error_message)


def _failure(run: _Run, error: Exception, withhold: bool) -> types.CallToolResult:
    """Log what went wrong, and return what the caller is told of it."""
    code, message = _code_of(error), str(error)
    expected = isinstance(error, DoubleweaveError | _OutOfTime | _FailedRun)
    name = run.offer.flow.name
    details = None if expected else error
    logger.warning("Flow '%s' failed | trace=%s | code=%s | %s", name, run.trace_id, code, message, exc_info=details)
    told = f"{code} (trace {run.trace_id})"
    return _error(told if withhold else f"{told}: {message}")


def _code_of(error: Exception) -> str:
    if isinstance(error, _FailedRun):
        return (error.record.error_code if error.record is not None else None) or _DEFAULT_CODE
    if isinstance(error, _OutOfTime):
        return FlowCancelledError.code
    return error.code if isinstance(error, DoubleweaveError) else _DEFAULT_CODE


def _error(text: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=text)], is_error=True)
