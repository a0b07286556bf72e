"""How far a run is, on stderr: a display that changes on a terminal, a line for each event elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import doubleweave as dw
from doubleweave.cli.history import Forecast, History
from doubleweave.cli.text import say

Completed = Callable[[], Sequence[int]]


@contextmanager
def progress_display(on_terminal: bool, completed: Completed = tuple) -> Iterator[dw.BaseMiddleware]:
    """Yield a middleware that shows the progress of the first run that it is told of.

    When that run starts, `completed` says which of its steps were completed before.
    """
    if not on_terminal:
        yield ProgressLines(completed)
        return
    from doubleweave.cli.progress_bar import ProgressBar

    display = ProgressBar(completed)
    with display.shown():
        yield display


class OneRun(dw.BaseMiddleware):
    """Passes on what concerns the first run, and not the sub-flows that it runs."""

    _history: History
    _forecast: Forecast

    def __init__(self, completed: Completed) -> None:
        self._completed = completed
        self._trace_id: str | None = None

    def on_flow_start(self, ctx: dw.FlowStartContext) -> None:
        if self._trace_id is None:
            self._trace_id = ctx.trace_id
            self._history = History(ctx.flow_name, ctx.flow_version)
            self._forecast = Forecast(self._history)
            completed = self._completed()
            for step_index in completed:
                self._forecast.finished(step_index)
            self.started(ctx, len(completed))

    def on_step_start(self, ctx: dw.StepStartContext) -> None:
        if ctx.trace_id == self._trace_id:
            self.step_started(ctx)

    def on_attempt_end(self, ctx: dw.AttemptEndContext) -> None:
        if ctx.trace_id == self._trace_id and ctx.error_type is not None:
            self.attempt_failed(ctx)

    def on_step_end(self, ctx: dw.StepEndContext) -> None:
        if ctx.trace_id == self._trace_id:
            self._forecast.finished(ctx.step_record.step_index)
            self.step_ended(ctx.step_record)

    def on_flow_end(self, ctx: dw.FlowEndContext) -> None:
        if ctx.trace_id == self._trace_id:
            self._history.add(ctx.result)
            self.ended(ctx.result)

    def started(self, ctx: dw.FlowStartContext, done: int) -> None:
        """The run starts, or goes on after some steps."""

    def step_started(self, ctx: dw.StepStartContext) -> None:
        """A tool is about to be called."""

    def attempt_failed(self, ctx: dw.AttemptEndContext) -> None:
        """A call of a tool that has a retry policy failed."""

    def step_ended(self, record: dw.StepRecord) -> None:
        """A step has its outcome."""

    def ended(self, result: dw.ExecutionResult) -> None:
        """The run is over."""


class ProgressLines(OneRun):
    """A line on stderr for each thing that happens."""

    def started(self, ctx: dw.FlowStartContext, done: int) -> None:
        self._total, self._done = ctx.total_steps, done
        before = f", {done} of them done before" if done else ""
        _line(f"{ctx.flow_name}: {_steps(ctx.total_steps)}{before}{_about(self._forecast)}")

    def attempt_failed(self, ctx: dw.AttemptEndContext) -> None:
        _line(
            f"step {ctx.step_index} {ctx.tool_name}: attempt {ctx.attempt} failed: {ctx.error_type}: {ctx.error_message}"
        )

    def step_ended(self, record: dw.StepRecord) -> None:
        # The records of the flow's own input and output belong to no step.
        self._done += 0 <= record.step_index < self._total
        outcome = "skipped" if record.skipped else "ok" if record.success else f"failed: {record.error_message}"
        counted = f"[{self._done}/{self._total}]"
        left = _about(self._forecast) if record.success else ""
        _line(f"{counted} {record.tool_name}: {outcome} ({record.duration_ms:.1f} ms){left}")


def _line(text: str) -> None:
    say(text.replace("\n", " "), err=True)


def _steps(number: int) -> str:
    return f"{number} {'step' if number == 1 else 'steps'}"


def _about(forecast: Forecast) -> str:
    left = forecast.left_text()
    return f", {left}" if left else ""
