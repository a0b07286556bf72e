"""A line on the terminal that changes while a flow runs, by rich."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

import doubleweave as dw
from doubleweave.cli.progress import OneRun
from doubleweave.cli.text import printable

_SHOWN = 3
"""How many of the steps that run are named."""


class ProgressBar(OneRun):
    """What is done, what is running or retried, how long it has taken and may still take."""

    def __init__(self) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            _Left(self),
            TextColumn("{task.fields[running]}", markup=False),
            console=Console(stderr=True),
            transient=True,
        )
        self._task: TaskID | None = None
        self._running: dict[int, str] = {}
        self._failed: dict[int, int] = {}

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the line until the end of the block, and leave no trace of it."""
        with self._progress:
            yield

    def left_text(self) -> str:
        """Return what may still be to come."""
        return "" if self._task is None else self._forecast.left_text()

    def started(self, ctx: dw.FlowStartContext) -> None:
        self._task = self._progress.add_task(printable(ctx.flow_name), total=ctx.total_steps, running="")

    def step_started(self, ctx: dw.StepStartContext) -> None:
        self._running[ctx.step_index] = printable(ctx.tool_name)
        self._show(0)

    def attempt_failed(self, ctx: dw.AttemptEndContext) -> None:
        self._failed[ctx.step_index] = ctx.attempt
        self._show(0)

    def step_ended(self, record: dw.StepRecord) -> None:
        self._running.pop(record.step_index, None)
        self._failed.pop(record.step_index, None)
        self._show(record.step_index >= 0)

    def _show(self, done: int) -> None:
        names = [
            f"{name} (retry {self._failed[index]})" if index in self._failed else name
            for index, name in self._running.items()
        ]
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        if self._task is not None:
            self._progress.update(self._task, advance=done, running=", ".join(names[:_SHOWN]) + more)


class _Left(ProgressColumn):
    """What may still be to come, told anew each time that the line is drawn."""

    def __init__(self, bar: ProgressBar) -> None:
        super().__init__()
        self._bar = bar

    def render(self, task: Task) -> Text:
        return Text(self._bar.left_text())
