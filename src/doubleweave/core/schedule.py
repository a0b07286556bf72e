"""The order in which the steps of a run take their turns, and what becomes of each one's record."""

from typing import Any

from doubleweave.core.draft import Outcome, Settled
from doubleweave.core.effects import Life
from doubleweave.core.merge import apply_output_mapping, merge_step_outputs
from doubleweave.core.plan import Level, PlannedStep
from doubleweave.core.run import Run
from doubleweave.core.setup import logger
from doubleweave.core.snapshots import save_snapshot, take_snapshot
from doubleweave.core.step import SubFlowCancelled, life_of_step
from doubleweave.errors import FlowCancelledError, FlowExecutionError, PredicateSyntaxError
from doubleweave.models.log_lines import log_step_error
from doubleweave.models.predicates import evaluate_predicate
from doubleweave.models.records import trusted_step_record


def one_at_a_time(run: Run) -> Life[bool]:
    """Run the steps one after the other in flat order; return whether all of them succeeded.

    Raises what `life_of_step` raises, `FlowCancelledError`, `ContextKeyCollisionError` and `OutputMappingError`.
    """
    course = level_by_level if run.plan.is_dag else _step_by_step
    # Told not to, neither of them hands a step over.
    succeeded: Any = yield from course(run, run.plan.levels[run.first_level :])
    return bool(succeeded)


def _step_by_step(run: Run, levels: list[Level]) -> Life[bool]:
    for level in levels:
        step = level.step
        if run.cancellable:
            run.check_cancelled(step.index)
        try:
            outcome = yield from life_of_step(run, step, run.context)
        except SubFlowCancelled as error:
            raise reanchored(run, step, error) from error.error
        try:
            outputs = (outcome.outputs or {}) if step.output_mapping is None else project(step, outcome)
            if run.hooks.step_end:
                # A hook may change the record that it is shown; that does not change what the run goes on with.
                outputs = outputs.copy()
        finally:
            run.log.append(outcome)
            if run.hooks.step_end:
                run.step_ended(outcome)
        if not outcome.success:
            return False
        if outputs:
            merge(run, level, outputs)
        if run.checkpointer is not None:
            yield from save_snapshot(run, take_snapshot(run, level))
    return True


class Waiting:
    """A DAG step that has begun and waits; every step before it in flat order is done, and `outputs` are those of its level."""

    __slots__ = ("effect", "life", "outputs")

    def __init__(self, life: Life[Outcome], effect: Any, outputs: dict[str, Any]) -> None:
        self.life = life
        self.effect = effect
        self.outputs = outputs


def level_by_level(run: Run, levels: list[Level], hands_over: bool = False) -> Life[bool | Waiting]:
    """Run the steps of a DAG one after the other; return whether all of them succeeded.

    When it hands over, the first step that has to wait ends this: it is returned as `Waiting`.
    """
    for level in levels:
        if run.cancellable:
            run.check_cancelled(level.first)
        outputs: dict[str, Any] = {}
        for step in level.steps:
            if run.deactivated and step.depends_on and is_skipped(run, step):
                run.log.append(skipped_step(run, step))
                continue
            life = life_of_step(run, step, run.context)
            try:
                if hands_over:
                    return Waiting(life, next(life), outputs)
                outcome = yield from life
            except StopIteration as stop:
                outcome = stop.value
            except SubFlowCancelled as error:
                raise reanchored(run, step, error) from error.error
            if not settle(run, step, outcome, outputs).success:
                return False
        if outputs:
            merge(run, level, outputs)
        if run.checkpointer is not None:
            yield from save_snapshot(run, take_snapshot(run, level))
    return True


def settle(run: Run, step: PlannedStep, outcome: Outcome, outputs: dict[str, Any]) -> Outcome:
    """Take a finished DAG step into the log: project its outputs into `outputs`, choose its branch, tell the hooks.

    Returns the outcome as the log keeps it: a colliding key or a bad predicate turns a success into a failure.
    """
    try:
        if outcome.success:
            projected = project(step, outcome)
            if outputs.keys().isdisjoint(projected):
                outputs.update(projected)
            else:
                outcome = as_collision(step, outcome, projected, outputs)
            if step.branches and outcome.success:
                outcome = _branch(run, step, outcome, {**run.context, **outputs})
    finally:
        run.log.append(outcome)
        if run.hooks.step_end:
            run.step_ended(outcome)
    return outcome


def _branch(run: Run, step: PlannedStep, outcome: Outcome, view: dict[str, Any]) -> Outcome:
    try:
        deactivate_others(run, step, select_target(step, view))
    except PredicateSyntaxError as error:
        return as_failure(step, outcome, error)
    return outcome


def project(step: PlannedStep, outcome: Any) -> dict[str, Any]:
    """Return what a successful step, or the record of one, adds to the context; a skipped one adds nothing.

    Raises:
        OutputMappingError: The step's mapping names an output that is not there.
    """
    outputs: dict[str, Any] = outcome.outputs or {}
    mapping = step.output_mapping
    if mapping is None or outcome.skipped or not outcome.success:
        return outputs
    projected = {}
    try:
        # What `apply_output_mapping` does, without the call.
        for key, source in mapping.items():
            projected[key] = outputs[source]
    except KeyError:
        return apply_output_mapping(outputs, mapping, tool_name=outcome.tool_name, step_index=step.index)
    return projected


def as_collision(step: PlannedStep, outcome: Outcome, projected: dict[str, Any], outputs: dict[str, Any]) -> Settled:
    """Return the outcome of a step that writes a key which is among the outputs of its level: it has failed."""
    taken = next(key for key in projected if key in outputs)
    detail = (
        f"step '{step.step_id}' writes the key {taken!r}, which another step of the same level has written. "
        "Rename one of them with output_mapping."
    )
    return as_failure(step, outcome, FlowExecutionError(outcome.tool_name, step.index, detail))


def select_target(step: PlannedStep, view: dict[str, Any]) -> str | None:
    """Return the dependent that a step's branches choose in `view`, or None when none is chosen and all stay active.

    Raises:
        PredicateSyntaxError: A predicate cannot be evaluated.
    """
    for edge in step.branches:
        if evaluate_predicate(edge.predicate, view):
            return str(edge.target_step_id)
    return step.default_next


def deactivate_others(run: Run, step: PlannedStep, target: str | None) -> None:
    """Deactivate every direct dependent of a step but the chosen one."""
    if target is not None:
        run.deactivated.update(index for step_id, index in step.dependents.items() if step_id != target)


def as_failure(step: PlannedStep, outcome: Outcome, error: Exception) -> Settled:
    """Log the error and return the outcome as that of a failure; everything else its record says stays."""
    log_step_error(logger, step.index, outcome.tool_name, error)
    failure = outcome.record.model_copy()
    failure.success = False
    failure.outputs = None
    failure.error_type = type(error).__name__
    failure.error_code = getattr(error, "code", None)
    failure.error_message = str(error)
    return Settled(failure)


def merge(run: Run, level: Level, outputs: dict[str, Any]) -> None:
    """Merge the outputs of a finished level into the context by the flow's collision policy.

    Raises:
        ContextKeyCollisionError: A key exists and the flow forbids overwriting.
    """
    if run.merges_silently:
        run.context.update(outputs)
        return
    merge_step_outputs(
        run.context,
        outputs,
        policy=run.flow.on_context_collision,
        flow_name=run.flow.name,
        step_index=level.merge_index,
        step_name=level.merge_name,
        logger=logger,
    )
    if run.checkpointer is not None:
        run.merged.append(outputs.copy())


def is_skipped(run: Run, step: PlannedStep) -> bool:
    """Say whether a step is deactivated, itself or because everything that it depends on is; it then joins the set."""
    if not run.deactivated:
        return False
    if step.index in run.deactivated:
        return True
    if not run.deactivated.issuperset(step.depends_on):
        return False
    run.deactivated.add(step.index)
    return True


def skipped_step(run: Run, step: PlannedStep) -> Settled:
    """Return the outcome of a step on a branch that was not taken."""
    now = run.setup.clock.now()
    record = trusted_step_record(
        step_index=step.index,
        tool_name=step.name,
        inputs={},
        outputs={},
        started_at=now,
        ended_at=now,
        duration_ms=0.0,
        skipped=True,
        flow_name=step.flow_name,
    )
    return Settled(record)


def reanchored(run: Run, step: PlannedStep, error: SubFlowCancelled) -> FlowCancelledError:
    """End a run whose sub-flow was cancelled, and return the error that names this run and its composed step."""
    run.step_ended(error.step)
    run.log.append(error.step)
    inner = error.error
    return run.cancelled(step.index, inner.deadline_exceeded, inner.token_cancelled)
