"""Watching the steps of runs as they end."""

from collections.abc import Iterator
from contextlib import contextmanager

from doubleweave.executor import AsyncFlowExecutor, FlowExecutor
from doubleweave.models.hooks import BaseMiddleware, StepEndContext
from doubleweave.models.records import StepRecord


class _Steps(BaseMiddleware):
    def __init__(self) -> None:
        self.records: list[StepRecord] = []

    def on_step_end(self, ctx: StepEndContext) -> None:
        self.records.append(ctx.step_record)


@contextmanager
def capture_steps(executor: FlowExecutor | AsyncFlowExecutor) -> Iterator[list[StepRecord]]:
    """Yield a list that receives the record of every step, on either lane, as it ends; sub-flows are included.

    Runs that begin inside the block are seen. Leaving it, also by an exception, takes back exactly what it added.
    """
    steps = _Steps()
    executor.add_middleware(steps)
    try:
        yield steps.records
    finally:
        executor.remove_middleware(steps)
