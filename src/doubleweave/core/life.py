"""The life of one run, from the lookup of its flow to its result."""

from typing import Any

from pydantic import BaseModel

from doubleweave.core.draft import Settled
from doubleweave.core.effects import Lane, Life
from doubleweave.core.overlap import side_by_side
from doubleweave.core.run import Request, Run
from doubleweave.core.schedule import one_at_a_time
from doubleweave.core.setup import Setup, logger
from doubleweave.core.snapshots import forget_snapshot
from doubleweave.errors import FlowStatusError, SchemaValidationError
from doubleweave.models.composition import validate_composition
from doubleweave.models.flows import FlowStatus
from doubleweave.models.log_lines import log_step_error, text_of
from doubleweave.models.records import ExecutionResult, failed_step_record
from doubleweave.models.step_index import FLOW_INPUT_STEP_INDEX, flow_output_step_index


def life_of_run(setup: Setup, request: Request, lane: Lane) -> Life[ExecutionResult]:
    """Run a flow and return its result; a failed step makes a failed result.

    Raises before any hook: `FlowNotFoundError`, `FlowStatusError`, `FlowCompositionError`, `DAGDefinitionError`.
    Whatever is raised later leaves the run after `on_flow_end` has been told the partial result.
    """
    return life_of(_enter(setup, request, lane))


def life_of(run: Run) -> Life[ExecutionResult]:
    """Take a run from its start to its result."""
    try:
        run.begin()
        success, tool_steps = yield from _course(run)
    except BaseException:
        if not run.ended:
            _end_with_error(run)
        raise
    result = run.conclude(success, tool_steps)
    if success and run.checkpointer is not None and run.policies.delete_on_success:
        try:
            yield from forget_snapshot(run)
        except BaseException:
            run.announce(result.model_copy(update={"success": False, "final_output": None}))
            raise
    run.announce(result)
    return result


def _end_with_error(run: Run) -> None:
    """End a run that an error leaves; a trace recorder that fails too does not take the error's place."""
    try:
        run.fail()
    except Exception:
        logger.exception("Flow '%s': the trace recorder failed too", run.flow.name)


def _enter(setup: Setup, request: Request, lane: Lane) -> Run:
    flow = setup.registry.get_flow(request.flow_name, version=request.version)
    if flow.status != FlowStatus.ACTIVE and not request.force:
        raise FlowStatusError(flow.name, FlowStatus(flow.status).value)
    if not request.composition_checked and any(step.flow_name is not None for step in flow.steps):
        validate_composition(setup.registry, flow, setup.policies.max_composition_depth)
    return Run(setup, request, flow, setup.plan_for(flow), life_of_run, lane)


def _course(run: Run) -> Life[tuple[bool, int | None]]:
    """Check the input, run the steps, check the context; return the verdict and the number of tool steps."""
    flow = run.flow
    if not run.resumed and not _holds(run, flow.input_schema, run.initial_input, "flow_input", FLOW_INPUT_STEP_INDEX):
        return False, 0
    overlaps = run.plan.is_dag and run.policies.max_step_concurrency > 1
    success = yield from (side_by_side(run) if overlaps else one_at_a_time(run))
    if not success:
        return False, None
    tool_steps = len(run.log)
    last = flow_output_step_index(flow)
    success = _holds(run, flow.output_schema, run.context, "flow_output", last) and _holds(
        run, flow.context_schema, run.context, "flow_context", last
    )
    return success, tool_steps


def _holds(run: Run, schema: type[BaseModel] | None, payload: dict[str, Any], word: str, index: int) -> bool:
    if schema is None:
        return True
    try:
        schema.model_validate(payload)
    except Exception as error:
        name = run.flow.name
        mismatch = SchemaValidationError(name, index, text_of(error), context=word)
        log_step_error(logger, index, name, mismatch)
        run.log.append(Settled(failed_step_record(index, name, dict(payload), mismatch, run.setup.clock.now())))
        return False
    return True
