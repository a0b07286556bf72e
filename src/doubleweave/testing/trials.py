"""Procedures that run a flow many times: written once as generators that ask for runs, conducted on either lane."""

from collections.abc import Generator, Iterable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from doubleweave.executor import AsyncFlowExecutor, FlowExecutor
from doubleweave.models.flows import AnyFlow
from doubleweave.models.hooks import BaseMiddleware, FlowEndContext
from doubleweave.models.records import ExecutionResult
from doubleweave.models.tools import _is_async_callable
from doubleweave.tools import Tool

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run: its result, which is the partial one when the run raised `error`."""

    result: ExecutionResult
    error: Exception | None = None


class Trials(BaseMiddleware):
    """Runs a flow on an executor like the user's, which stays as it is.

    Args:
        executor: The user's.
        flow: The flow, in the version that is registered there.
        tools: What takes the place of the executor's tools, when given.
    """

    def __init__(
        self, executor: FlowExecutor | AsyncFlowExecutor, flow: AnyFlow, tools: Iterable[Tool] | None = None
    ) -> None:
        self._executor: Any = executor.with_replaced_tools(executor.registered_tools if tools is None else tools)
        self._executor.add_middleware(self)
        self._flow = flow
        self._ended: ExecutionResult | None = None

    def on_flow_end(self, ctx: FlowEndContext) -> None:
        """Keep the result; of the results of a run with sub-flows, its own comes last."""
        self._ended = ctx.result

    def run(self, inputs: dict[str, Any]) -> Outcome:
        """Run the flow, blocking, with a copy of `inputs`; an error from before its start is raised."""
        self._ended = None
        try:
            return Outcome(self._executor.execute_flow(self._flow.name, deepcopy(inputs), version=self._flow.version))
        except Exception as error:
            return self._outcome_of(error)

    async def run_async(self, inputs: dict[str, Any]) -> Outcome:
        """As `run`, without blocking the event loop."""
        self._ended = None
        run = getattr(self._executor, "execute_flow_async", self._executor.execute_flow)
        try:
            return Outcome(await run(self._flow.name, deepcopy(inputs), version=self._flow.version))
        except Exception as error:
            return self._outcome_of(error)

    def _outcome_of(self, error: Exception) -> Outcome:
        if self._ended is None:
            raise error
        return Outcome(self._ended, error)


Procedure: TypeAlias = Generator[tuple[Trials, dict[str, Any]], Outcome, T]
"""Yields the trials to run next and their input, is sent the outcome, and returns a `T`."""


def conduct(procedure: Procedure[T]) -> T:
    """Take a procedure to its end, blocking, and return its result."""
    try:
        trials, inputs = next(procedure)
        while True:
            trials, inputs = procedure.send(trials.run(inputs))
    except StopIteration as end:
        result: T = end.value
        return result


async def conduct_async(procedure: Procedure[T]) -> T:
    """As `conduct`, without blocking the event loop."""
    try:
        trials, inputs = next(procedure)
        while True:
            trials, inputs = procedure.send(await trials.run_async(inputs))
    except StopIteration as end:
        result: T = end.value
        return result


def require_blocking(executor: FlowExecutor | AsyncFlowExecutor, instead: str) -> None:
    """Raise `TypeError` when the runs of an executor have to be awaited; `instead` is the call that awaits them."""
    if _is_async_callable(executor.execute_flow):
        kind = type(executor).__name__
        raise TypeError(f"the runs of {kind} have to be awaited: use `await {instead}`, or a FlowExecutor")
