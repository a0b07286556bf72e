"""Going on with a run where its snapshot says that it was."""

from contextvars import copy_context
from typing import Any

from doubleweave.core.draft import Settled
from doubleweave.core.effects import Lane, Life
from doubleweave.core.life import life_of, life_of_run
from doubleweave.core.plan import Plan
from doubleweave.core.run import Request, Run, Start
from doubleweave.core.schedule import deactivate_others, is_skipped, project, select_target
from doubleweave.core.scope import Scope
from doubleweave.core.setup import Setup
from doubleweave.core.snapshots import call_store
from doubleweave.errors import (
    CheckpointCorruptError,
    CheckpointDriftError,
    CheckpointerNotConfiguredError,
    CheckpointNotFoundError,
    CheckpointVersionError,
    OutputMappingError,
    PredicateSyntaxError,
)
from doubleweave.models.composition import validate_composition
from doubleweave.models.records import ExecutionResult, own_copy
from doubleweave.models.snapshots import ExecutionSnapshot
from doubleweave.models.versions import SNAPSHOT_VERSION, same_major


def life_of_resumed_run(setup: Setup, trace_id: str, scope: Scope, lane: Lane) -> Life[ExecutionResult]:
    """Load a snapshot, check that it still fits, and run what is left of its flow under the same trace id.

    Raises before any hook, in this order: `CheckpointerNotConfiguredError`, `CheckpointNotFoundError` or
    `CheckpointCorruptError`, `CheckpointVersionError`, `FlowNotFoundError`, `CheckpointDriftError`, `FlowCompositionError`,
    `DAGDefinitionError`. Later, what a run raises.
    """
    snapshot = yield from _load(setup, trace_id)
    flow = setup.registry.get_flow(snapshot.flow_name)
    _refuse_drift(setup, snapshot, flow.version)
    validate_composition(setup.registry, flow, setup.policies.max_composition_depth)
    plan = setup.plan_for(flow)
    if not getattr(setup.policies.checkpointer, "keeps_objects", False):
        snapshot = _with_types(setup, plan, snapshot)
    start = Start(
        level=snapshot.completed_dag_levels if plan.is_dag else snapshot.completed_steps,
        context=dict(snapshot.context),
        log=[Settled(own_copy(record)) for record in snapshot.execution_log],
        trace_id=snapshot.trace_id,
        started_at=snapshot.started_at,
    )
    _refuse_misfit(snapshot, plan, start)
    request = Request(flow.name, dict(snapshot.initial_input), scope=scope, start=start)
    run = Run(setup, request, flow, plan, life_of_run, lane)
    if plan.is_dag:
        try:
            _restore_branches(run, snapshot)
        except (OutputMappingError, PredicateSyntaxError) as error:
            detail = f"the branches of its completed steps cannot be chosen again ({str(error).rstrip('.')})"
            raise CheckpointDriftError(snapshot.trace_id, snapshot.flow_name, detail) from error
    return (yield from life_of(run))


def _load(setup: Setup, trace_id: str) -> Life[ExecutionSnapshot]:
    store = setup.policies.checkpointer
    if store is None:
        raise CheckpointerNotConfiguredError
    context = copy_context()
    snapshot = yield from call_store(context, store, "load", trace_id)
    if snapshot is None:
        if hasattr(store, "has") and (yield from call_store(context, store, "has", trace_id)):
            place = store.path_of(trace_id) if hasattr(store, "path_of") else repr(store)
            raise CheckpointCorruptError(trace_id, str(place))
        raise CheckpointNotFoundError(trace_id)
    if not same_major(snapshot.snapshot_version, SNAPSHOT_VERSION):
        raise CheckpointVersionError(trace_id, snapshot.flow_name, snapshot.snapshot_version, SNAPSHOT_VERSION)
    result: ExecutionSnapshot = snapshot
    return result


def _refuse_drift(setup: Setup, snapshot: ExecutionSnapshot, version: str) -> None:
    detail = None
    if version != snapshot.flow_version:
        detail = f"the flow version changed from {snapshot.flow_version} to {version}"
    for name, expected in snapshot.tool_schema_hashes.items() if detail is None else ():
        tool = setup.tools.get(name)
        if tool is None:
            detail = f"tool '{name}' is no longer registered"
            break
        if tool.schema_hash != expected:
            detail = f"the schema_hash changed of tool '{name}', from {expected} to {tool.schema_hash}"
            break
    if detail is not None:
        raise CheckpointDriftError(snapshot.trace_id, snapshot.flow_name, detail)


def _with_types(setup: Setup, plan: Plan, snapshot: ExecutionSnapshot) -> ExecutionSnapshot:
    """Give the outputs of tools the types back that JSON took from them, in the log and where the context has them."""
    context, log = dict(snapshot.context), list(snapshot.execution_log)
    by_index = {step.index: step for step in plan.steps}
    for number, record in enumerate(log):
        step = by_index.get(record.step_index)
        tool = setup.tools.get(record.fallback_tool_name or record.tool_name)
        if step is None or tool is None or not record.outputs or record.flow_name is not None:
            continue
        try:
            outputs = tool.restore_output(record.outputs)
        except Exception:
            # Of another tool than the name says, as a capability's; it stays what JSON made of it.
            continue
        log[number] = restored = record.model_copy(update={"outputs": outputs})
        before, after = project(step, record), project(step, restored)
        context.update(
            {key: value for key, value in after.items() if key in context and context[key] == before.get(key)}
        )
    return snapshot.model_copy(update={"context": context, "execution_log": log})


def _refuse_misfit(snapshot: ExecutionSnapshot, plan: Plan, start: Start) -> None:
    """Refuse a snapshot whose log is not that of the steps it calls completed, as of a flow edited in place."""
    done = [step for level in plan.levels[: start.level] for step in level.steps]
    found = [step.record.step_index for step in start.log]
    if not 0 <= start.level <= len(plan.levels) or found != [step.index for step in done]:
        detail = f"its log holds the steps {found}, which are not the first {start.level} steps or levels of the flow"
        raise CheckpointDriftError(snapshot.trace_id, snapshot.flow_name, detail)


def _restore_branches(run: Run, snapshot: ExecutionSnapshot) -> None:
    """Work out again which steps were deactivated, by choosing the branches of the completed steps as they were chosen.

    The context is rebuilt from what no completed step has produced, and the steps' outputs in order.
    """
    projected: dict[int, dict[str, Any]] = {}
    for step, record in zip(run.plan.steps, snapshot.execution_log, strict=False):
        projected[step.index] = project(step, record)
    produced = {key for outputs in projected.values() for key in outputs}
    context = {key: value for key, value in snapshot.context.items() if key not in produced}
    context = {**snapshot.initial_input, **context}
    for level in run.plan.levels[: run.first_level]:
        outputs: dict[str, Any] = {}
        for step in level.steps:
            if step.depends_on and is_skipped(run, step):
                continue
            outputs.update(projected[step.index])
            if step.branches:
                deactivate_others(run, step, select_target(step, {**context, **outputs}))
        context.update(outputs)
