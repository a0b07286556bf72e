"""A line on the terminal that changes while a flow runs, by rich."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
    TimeElapsedColumn,
)
from rich.table import Column
from rich.text import Text

import doubleweave as dw
from doubleweave.cli.progress import Completed, OneRun
from doubleweave.cli.text import printable

_SHOWN = 3
"""How many of the steps that run are named."""
_BAR = 20
_ROOM_FOR_BAR = 72
"""How wide a terminal is, at least, on which the bar is shown."""
_FIXED = 16
"""How wide a line is without its bar, names and numbers of steps."""


class ProgressBar(OneRun):
    """What is done, what is running or retried, how long it has taken and may still take.

    On a narrow terminal the bar is left out, and names are cut: what counts is how many steps are done.
    """

    def __init__(self, completed: Completed) -> None:
        super().__init__(completed)
        self._console = Console(stderr=True)
        bar = [BarColumn(bar_width=_BAR)] if self._console.width >= _ROOM_FOR_BAR else []
        self._fixed = _FIXED + (_BAR + 1 if bar else 0)
        self._progress = Progress(
            SpinnerColumn(),
            _Part(lambda: self._parts()[0]),
            *bar,
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TimeElapsedColumn(table_column=Column(no_wrap=True)),
            _Part(lambda: self._parts()[1]),
            _Part(lambda: self._parts()[2]),
            console=self._console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._name = ""
        self._total = 0
        self._running: dict[int, str] = {}
        self._failed: dict[int, int] = {}

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the line until the end of the block, and leave no trace of it."""
        with self._progress:
            yield

    def started(self, ctx: dw.FlowStartContext, done: int) -> None:
        self._name, self._total = printable(ctx.flow_name).replace("\n", " "), ctx.total_steps
        self._task = self._progress.add_task("", completed=done, total=ctx.total_steps)

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
        if self._task is not None:
            self._progress.update(self._task, advance=done)

    def _running_text(self) -> str:
        # A copy, for steps start and end on other threads while the line is drawn.
        running, failed = self._running.copy(), self._failed.copy()
        names = [f"{name} (retry {failed[index]})" if index in failed else name for index, name in running.items()]
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        return ", ".join(names[:_SHOWN]) + more

    def _parts(self) -> tuple[Text, Text, Text]:
        """Return the flow, what may still be to come and what is running, as far as there is room for them."""
        room = max(0, self._console.width - self._fixed - 2 * len(str(self._total)))
        left = Text("" if self._task is None else self._forecast.left_text())
        if left.cell_len > room // 2:
            left = Text()
        room -= left.cell_len
        name, running = Text(self._name), Text(self._running_text())
        name.truncate(max(room // 2, room - running.cell_len), overflow="ellipsis")
        running.truncate(room - name.cell_len, overflow="ellipsis")
        return name, left, running


class _Part(ProgressColumn):
    """A part of the line, told anew each time that the line is drawn."""

    def __init__(self, tell: Callable[[], Text]) -> None:
        super().__init__(Column(no_wrap=True))
        self._tell = tell

    def render(self, task: Task) -> Text:
        return self._tell()
