"""DAG runs whose steps overlap: each step starts as soon as nothing that still runs can affect it."""

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

from doubleweave.core.draft import Outcome
from doubleweave.core.effects import JOIN, Fork, Life
from doubleweave.core.fibers import Fiber
from doubleweave.core.forecast import Forecast, make_forecast
from doubleweave.core.plan import PlannedStep
from doubleweave.core.run import Run
from doubleweave.core.schedule import (
    Waiting,
    as_collision,
    as_failure,
    deactivate_others,
    is_skipped,
    level_by_level,
    merge,
    project,
    reanchored,
    select_target,
    skipped_step,
)
from doubleweave.core.snapshots import save_snapshot, take_snapshot
from doubleweave.core.step import SubFlowCancelled, life_of_step
from doubleweave.errors import ContextKeyCollisionError, OutputMappingError, PredicateSyntaxError
from doubleweave.models.snapshots import ExecutionSnapshot


def side_by_side(run: Run) -> Life[bool]:
    """Run the steps of a DAG up to `max_step_concurrency` at once; return whether all of them succeeded.

    Records, context and result are those of one step at a time in flat order. After a failed record no later step is
    started and those that run are waited for; after a raised error those that run are abandoned, except the ones before
    it in flat order, whose own error would come first.
    """
    run.call_tool = run.lane.call_beside
    # While no step has to wait, there is nothing to run beside it.
    start = yield from level_by_level(run, run.plan.levels[run.first_level :], hands_over=True)
    if not isinstance(start, Waiting):
        return start
    board, limit = _Board(run, start.outputs), run.policies.max_step_concurrency
    running: dict[int, Fiber] = {}
    ended: list[Any]
    try:
        yield Fork(start.life, board.committed, start.effect, running)
        while True:
            while board.snapshots:
                yield from save_snapshot(run, board.snapshots.popleft())
            if board.collision is not None:
                raise board.collision
            step = board.next_step() if len(running) < limit else None
            if step is not None:
                index = step.index
                life = life_of_step(run, step, board.view_for(step))
                try:
                    effect = next(life)
                except StopIteration as stop:
                    ended = [(index, stop.value, None)]
                except BaseException as raised:
                    ended = [(index, None, raised)]
                else:
                    yield Fork(life, index, effect, running)
                    continue
            elif running:
                ended = yield JOIN
            else:
                return board.verdict()
            for index, outcome, error in ended:
                # Not there is one that ended at once, or that was given up on and had ended by then.
                running.pop(index, None)
                if error is not None:
                    board.raised(index, error)
                elif index < board.first_error:
                    board.finished(index, outcome)
                    if run.hooks.step_end:
                        run.step_ended(outcome)
            if board.first_error < len(run.plan.steps):
                for later in [other for other in running if other > board.first_error]:
                    running.pop(later).close()
    finally:
        for fiber in running.values():
            fiber.close()


class _Board:
    """Which steps are ready, which are done, and how far the log has come.

    A step is *finished* when its record is there, *settled* when its branch is chosen as well, and *committed* when it and
    every step before it in flat order are in the log.
    """

    def __init__(self, run: Run, outputs: dict[str, Any]) -> None:
        """Begin with the step after those in the log, which runs already; `outputs` are those that its level has so far."""
        self._run = run
        self._plan = run.plan
        self._steps = run.plan.steps
        self._forecast = _forecast_of(run)
        # One more than steps, so that it ends with one that is not there.
        self._outcomes: list[Any] = [None] * (len(self._steps) + 1)
        self._projected: list[dict[str, Any]] = [{}] * len(self._steps)
        self._errors: dict[int, BaseException] = {}
        self.first_error = len(self._steps)
        self._branch_errors: dict[int, PredicateSyntaxError] = {}
        self._undecided: set[int] = set()
        # How many dependencies each group of steps still waits for.
        self._missing = self._plan.needs.copy()
        self._unread = self._forecast.unread.copy()
        self._ready: list[int] = []
        self._arrived: list[dict[str, Any]] = [{} for _ in self._plan.levels]
        self._level_outputs = outputs
        self._merged_levels = 0
        self._checked_levels = 0
        self.committed = 0
        self._failed = False
        # What ends the run once the snapshots of the levels before it are saved.
        self.collision: ContextKeyCollisionError | None = None
        self._cancelled: tuple[int, bool, bool] | None = None
        # Steps from this flat index on are not started any more.
        self._stop = len(self._steps)
        self.snapshots: deque[Callable[[], ExecutionSnapshot]] = deque()
        for number, group in enumerate(self._plan.groups):
            if not self._missing[number]:
                self._ready += [step.index for step in group if not self._unread[step.index]]
        self._take_over()

    def _take_over(self) -> None:
        """Take the steps that are in the log as done, and the one after them as started."""
        self.committed = done = len(self._run.log)
        level = self._steps[done].level
        self._merged_levels, self._checked_levels = level, level + 1
        self._outcomes[:done] = self._run.log
        self._ready = [index for index in self._ready if index >= done]
        # No two of them have a key in common, so it does not matter which of them it was.
        self._projected[self._plan.levels[level].first] = self._level_outputs.copy()
        self._arrived[level] = self._level_outputs.copy()
        for number in range(1, level + 1):
            self._release(self._forecast.waiting_for_level.get(number, ()))
        for index in range(done):
            self._release(self._forecast.readers.get(index, ()))
            self._settle(index)
        heappop(self._ready)

    def next_step(self) -> PlannedStep | None:
        """Return the first step in flat order that can start now."""
        while self._ready:
            step = self._steps[heappop(self._ready)]
            if step.index < self._stop and self._may_enter(step.level):
                return step
        return None

    def view_for(self, step: PlannedStep) -> dict[str, Any]:
        """Return the context that a step sees: all of it, or the keys it can read when levels before it are still open."""
        if self._merged_levels >= step.level:
            return self._run.context
        reads = self._forecast.outlooks[step.index].reads
        return self._run.context if reads is None else self._values(reads, step.level)

    def finished(self, index: int, outcome: Outcome) -> None:
        """Take note of what a step has come to."""
        self._outcomes[index] = outcome
        step = self._steps[index]
        if not outcome.success:
            self._stop = min(self._stop, index)
        else:
            try:
                self._projected[index] = project(step, outcome)
            except OutputMappingError as error:
                self.raised(index, error)
                return
            self._arrived[step.level].update(self._projected[index])
            if step.branches:
                self._undecided.add(index)
            elif step.awaited_by:
                self._settle(index)
            if index in self._forecast.readers:
                self._release(self._forecast.readers[index])
        self._advance()

    def raised(self, index: int, error: BaseException) -> None:
        """Take note of an error that leaves the run, unless one before it in flat order does."""
        self._errors[index] = error
        self.first_error = min(self.first_error, index)
        self._stop = min(self._stop, index)
        self._advance()

    def verdict(self) -> bool:
        """Say how a run ended in which nothing runs and nothing can start; raise what it ended with."""
        if self._failed:
            return False
        index = self.committed
        error = self._errors.get(index)
        if error is not None:
            outcome = self._outcomes[index]
            if outcome is not None:
                self._run.log.append(outcome)
            if isinstance(error, SubFlowCancelled):
                raise reanchored(self._run, self._steps[index], error) from error.error
            raise error
        if self._cancelled is not None:
            raise self._run.cancelled(*self._cancelled)
        if index < len(self._steps):
            raise RuntimeError(f"flow '{self._run.flow.name}': step {index} was never reached")
        return True

    def _may_enter(self, level: int) -> bool:
        """Check for cancellation before the first step of a level; every level before it has been entered."""
        if level < self._checked_levels or not self._run.cancellable:
            return True
        first = self._plan.levels[level].first
        expired, requested = self._run.cancellation()
        if expired or requested:
            self._cancelled = (first, expired, requested)
            self._stop = min(self._stop, first)
            return False
        self._checked_levels = level + 1
        return True

    def _settle(self, index: int) -> None:
        """Let the dependents of a step know that it is done; whole chains of skipped steps are done at once."""
        settled = [index]
        while settled:
            current = settled.pop()
            for group in self._steps[current].awaited_by:
                self._missing[group] -= 1
                if not self._missing[group]:
                    settled += self._enter_group(self._plan.groups[group])

    def _enter_group(self, group: list[PlannedStep]) -> list[int]:
        """Let the steps start whose dependencies are all done; return those that are skipped instead."""
        skipped: list[int] = []
        for step in group:
            if self._outcomes[step.index] is not None:
                continue
            if is_skipped(self._run, step):
                self._outcomes[step.index] = skipped_step(self._run, step)
                skipped.append(step.index)
                self._release(self._forecast.readers.get(step.index, ()))
            elif not self._unread[step.index]:
                heappush(self._ready, step.index)
        return skipped

    def _release(self, readers: Any) -> None:
        for index in readers:
            self._unread[index] -= 1
            if self._unread[index] or self._missing[self._steps[index].group]:
                continue
            if self._outcomes[index] is None:
                heappush(self._ready, index)

    def _advance(self) -> None:
        """Choose the branches that can be chosen and commit what is complete, in flat order, until neither moves on."""
        while not self._failed:
            before = (self.committed, len(self._undecided))
            for index in sorted(self._undecided) if self._undecided else ():
                self._try_branch(index)
            while self._outcomes[self.committed] is not None and self._commit_next():
                pass
            if not self._undecided or before == (self.committed, len(self._undecided)):
                return

    def _try_branch(self, index: int) -> None:
        step, own = self._steps[index], self._projected[index]
        names = self._forecast.outlooks[index].names
        foreign = [name for name in names if name not in own]
        if not all(self._is_final(*names[name]) for name in foreign):
            return
        self._undecided.discard(index)
        view = {**self._values(foreign, step.level), **self._sibling_values(foreign, index), **own}
        try:
            deactivate_others(self._run, step, select_target(step, view))
        except PredicateSyntaxError as error:
            self._branch_errors[index] = error
            self._stop = min(self._stop, index)
            return
        self._settle(index)

    def _is_final(self, writers: frozenset[int], levels: int) -> bool:
        return self._merged_levels >= levels and all(self._outcomes[index] is not None for index in writers)

    def _values(self, keys: Any, level: int) -> dict[str, Any]:
        """Return what the levels before `level` have for some keys, merged or not."""
        values: dict[str, Any] = {}
        for key in keys:
            for number in range(level - 1, self._merged_levels - 1, -1):
                if key in self._arrived[number]:
                    values[key] = self._arrived[number][key]
                    break
            else:
                if key in self._run.context:
                    values[key] = self._run.context[key]
        return values

    def _sibling_values(self, keys: list[str], index: int) -> dict[str, Any]:
        first = self._plan.levels[self._steps[index].level].first
        siblings = self._projected[first:index]
        return {key: outputs[key] for outputs in siblings for key in keys if key in outputs}

    def _commit_next(self) -> bool:
        """Take the next step in flat order, which is done, into the log, if it can be; return whether the run goes on."""
        index = self.committed
        outcome = self._outcomes[index]
        cancelled = self._cancelled is not None and index >= self._cancelled[0]
        if self._failed or cancelled or index in self._errors or index in self._undecided:
            return False
        step = self._steps[index]
        # Nothing of a level was started when all of it is skipped, so it may still have to be entered here.
        if self._run.cancellable and not self._may_enter(step.level):
            return False
        if outcome.success:
            projected = self._projected[index]
            if self._level_outputs.keys().isdisjoint(projected):
                self._level_outputs.update(projected)
            else:
                outcome = as_collision(step, outcome, projected, self._level_outputs)
            if outcome.success and index in self._branch_errors:
                outcome = as_failure(step, outcome, self._branch_errors[index])
        self._run.log.append(outcome)
        self.committed += 1
        if not outcome.success:
            self._failed = True
            self._stop = min(self._stop, index)
            return False
        if self.committed == self._plan.levels[step.level].end:
            self._merge_level(step.level)
        return True

    def _merge_level(self, number: int) -> None:
        try:
            merge(self._run, self._plan.levels[number], self._level_outputs)
        except ContextKeyCollisionError as error:
            self.collision = error
            self._failed = True
            return
        self._level_outputs = {}
        self._arrived[number] = {}
        self._merged_levels = number + 1
        if self._run.checkpointer is not None:
            self.snapshots.append(take_snapshot(self._run, self._plan.levels[number]))
        self._release(self._forecast.waiting_for_level.get(self._merged_levels, ()))


def _forecast_of(run: Run) -> Forecast:
    plan = run.plan
    if plan.schedule is None or not plan.schedule.fits(run.setup.tools):
        plan.schedule = make_forecast(plan, run.setup.tools)
    forecast: Forecast = plan.schedule
    return forecast
